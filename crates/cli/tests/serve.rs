//! The program as a server, with the built-in model, asked by the clients that people use.
#![allow(missing_docs)]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use common::{Folder, program, run};
use serde_json::Value;

/// The program, serving.
struct Serving {
    child: Child,
    url: String,
    /// Reads stderr to its end.
    rest: Option<thread::JoinHandle<String>>,
}

impl Serving {
    fn start(args: &[&str]) -> Serving {
        let mut command = program(&[&["serve", "--port", "0", "--device", "cpu"], args].concat());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr is a pipe"));
        let url = loop {
            let mut line = String::new();
            assert!(lines.read_line(&mut line).expect("lines are UTF-8") > 0, "it ended before it listened");
            if let Some(url) = line.trim().strip_prefix("listening on ") {
                break url.to_owned();
            }
        };
        let rest = thread::spawn(move || {
            let mut rest = String::new();
            let _ = lines.read_to_string(&mut rest);
            rest
        });
        Serving { child, url, rest: Some(rest) }
    }

    /// Ends it as systemd does; what it said since, and its exit code.
    fn terminate(mut self) -> (Option<i32>, String) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().expect("kill is there");
        assert!(sent.success());
        let code = self.child.wait().expect("it ends").code();
        let rest = self.rest.take().map(|rest| rest.join().expect("it reads"));
        (code, rest.unwrap_or_default())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a request and reads the whole answer.
fn ask(url: &str, method: &str, path: &str, body: &str) -> (u16, String) {
    let address = url.strip_prefix("http://").expect("a URL");
    let mut socket = TcpStream::connect(address).expect("it listens");
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    write!(socket, "{head}Content-Length: {length}\r\n\r\n{body}").expect("it reads");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("it answers in UTF-8");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    (status, body.to_owned())
}

#[test]
fn the_built_in_model_answers_as_it_does_on_the_command_line() {
    let folder = Folder::new();
    // Longer than a page of the cache, the least that is shared.
    let system = "You are a helpful assistant. ".repeat(12);
    let file = folder.write("system.txt", system.as_bytes());
    let serving = Serving::start(&["--system-file", &file, "--log-requests"]);
    let body = r#"{"messages":[{"role":"user","content":"Hello!"}],"max_tokens":12,"temperature":0}"#;
    let (status, text) = ask(&serving.url, "POST", "/v1/chat/completions", body);
    let answer: Value = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!(status, 200, "{text}");
    let said = answer["choices"][0]["message"]["content"].as_str().expect("text");
    let args = ["run", "-p", "Hello!", "-s", &system, "-n", "12", "--temp", "0", "--json"];
    let run = run(&[&args[..], &["--device", "cpu"]].concat()).json();
    assert_eq!(run["text"], said);
    assert_eq!(answer["model"], "chat-7m");
    assert_eq!(answer["usage"]["prompt_tokens"], run["prompt_ids"].as_array().expect("ids").len());
    assert!(
        answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64() > Some(0),
        "the system prompt's"
    );
    let (_, health) = ask(&serving.url, "GET", "/health", "");
    let health: Value = serde_json::from_str(&health).expect("it is JSON");
    assert_eq!(health["status"], "ready");
    assert!(health["avg_tok_s"].as_f64() > Some(0.0), "{health}");
    let (code, rest) = serving.terminate();
    assert_eq!(code, Some(0));
    assert!(rest.contains("POST /v1/chat/completions 200"), "{rest}");
    assert!(!rest.contains("panicked"), "{rest}");
    assert!(!rest.contains("Hello"), "logs hold no prompts: {rest}");
}

/// Ten turns under one name: of each only what is new is computed.
#[test]
fn a_conversation_computes_only_what_is_new() {
    let serving = Serving::start(&["-c", "1024"]);
    let mut messages = vec![];
    for turn in 0..10 {
        let question =
            serde_json::json!({"role": "user", "content": format!("Tell me about number {turn}.")});
        messages.push(question);
        let body = serde_json::json!({"messages": messages, "max_tokens": 24, "temperature": 0,
            "conversation_id": "ten"});
        let (status, text) = ask(&serving.url, "POST", "/v1/chat/completions", &body.to_string());
        assert_eq!(status, 200, "{text}");
        let answer: Value = serde_json::from_str(&text).expect("it is JSON");
        let usage = &answer["usage"];
        let number = |value: &Value| value.as_u64().expect("a number");
        let prompt = number(&usage["prompt_tokens"]);
        let cached = number(&usage["prompt_tokens_details"]["cached_tokens"]);
        // What is new: the question, what templates put around it, and an answer's end that was not computed.
        assert!(turn == 0 || prompt - cached < 60, "turn {turn}: {cached} of {prompt}");
        messages.push(answer["choices"][0]["message"].clone());
    }
}

#[test]
fn curl_shows_tokens_as_they_come() {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("skipped: there is no curl");
        return;
    }
    let serving = Serving::start(&["--api-key", "sesame"]);
    let url = format!("{}/v1/chat/completions", serving.url);
    let body = r#"{"messages":[{"role":"user","content":"Hi"}],"max_tokens":8,"stream":true}"#;
    let curl = |more: &[&str]| {
        let output = Command::new("curl").args(["-sN", &url, "-d", body]).args(more).output();
        String::from_utf8(output.expect("curl runs").stdout).expect("it is UTF-8")
    };
    let streamed = curl(&["-H", "Authorization: Bearer sesame"]);
    assert!(streamed.starts_with("data: {") && streamed.ends_with("data: [DONE]\n\n"), "{streamed}");
    assert!(curl(&[]).contains("invalid_api_key"));
}

/// Python clients, where they are installed for `$JETSON_LLM_PYTHON`, else for `python3`.
#[test]
fn pythons_clients_are_served() {
    let python = std::env::var("JETSON_LLM_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let found = Command::new(&python).args(["-c", "import openai, anthropic"]).output();
    if !found.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: {python} has no openai and anthropic; name one that has in JETSON_LLM_PYTHON");
        return;
    }
    let serving = Serving::start(&["--api-key", "sesame"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/serve/clients.py");
    let output = Command::new(python).arg(script).arg(&serving.url).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}{said}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn what_cannot_be_served_is_refused_before_anything_is_loaded() {
    let folder = Folder::new();
    let refused = |args: &[&str]| run(&[&["serve", "--port", "0"], args].concat()).refused();
    let empty = folder.write("empty.txt", b"\n");
    assert!(refused(&["--system-file", &empty]).contains("is empty"));
    assert!(refused(&["--api-key-file", &empty]).contains("has no keys"));
    assert!(refused(&["--api-key", "two words"]).contains("visible ASCII"));
    assert!(refused(&["--kv-dir", "x"]).contains("not supported yet"));
    assert!(refused(&["--host", "no.such.name.invalid"]).contains("is no address of this machine"));
    assert!(refused(&["--parallel", "0"]).contains("--parallel"));
    let serving = Serving::start(&[]);
    let port = serving.url.rsplit(':').next().expect("a port").to_owned();
    let taken = run(&["serve", "--port", &port]).refused();
    assert!(taken.contains("cannot listen on 127.0.0.1:"), "{taken}");
}
