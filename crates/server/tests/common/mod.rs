//! A server on the fake runner, and a client that sends what it is told, byte by byte.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use engine::{Engine, Limits};
use gguf::Gguf;
use quant::Format;
use serde_json::Value;
use server::{Config, Handle, Loaded, Server};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use testkit::fake::{FakeRunner, fake_options, fake_plan};
use testkit::tiny::tiny;
use text::Tokenizer;
use text::chat::{Chat, Specials};

/// What a server is made of.
pub struct Setup {
    pub config: Config,
    pub parallel: usize,
    pub queue: usize,
    pub timeout: Option<Duration>,
    pub context: usize,
    /// How long each step takes at least.
    pub step: Duration,
    pub system: Option<String>,
}

impl Default for Setup {
    fn default() -> Setup {
        let config = Config { port: 0, drain_time: Duration::from_secs(5), ..Config::default() };
        Setup {
            config,
            parallel: 4,
            queue: 64,
            timeout: Some(Duration::from_secs(60)),
            context: 512,
            step: Duration::ZERO,
            system: None,
        }
    }
}

struct Slow(Duration);

impl Limits for Slow {
    fn room(&mut self) -> Option<u64> {
        None
    }

    fn admit(&mut self, _worked: Duration) -> bool {
        std::thread::sleep(self.0);
        true
    }
}

pub fn tokenizer() -> Arc<Tokenizer> {
    let file = Gguf::from_bytes("tiny", tiny("llama", 1, Format::F32)).expect("it was just written");
    Arc::new(Tokenizer::from_gguf(&file).expect("its vocabulary is complete"))
}

/// A server that answers, and whatever is needed to end it.
pub struct Serving {
    handle: Option<Handle>,
    pub address: SocketAddr,
}

impl Setup {
    /// Starts a server whose model is being loaded.
    pub fn loading(&self) -> Handle {
        let server = Server::bind(self.config.clone()).expect("some port is free");
        server.start().expect("threads can be started")
    }

    /// What is loaded.
    pub fn loaded(&self) -> Loaded {
        let tokenizer = tokenizer();
        let plan = fake_plan(tokenizer.len(), self.context, &[None]);
        let pages = self.parallel * self.context.div_ceil(32) + 8;
        let runner = FakeRunner::new(plan, fake_options(64, self.parallel, self.parallel + 8, pages));
        let start = Instant::now();
        let mut engine =
            Engine::new(Box::new(runner), Some(tokenizer.clone()), Box::new(move || start.elapsed()));
        if !self.step.is_zero() {
            engine.set_limits(Box::new(Slow(self.step)));
        }
        let control = vec!["<s>".to_owned(), "</s>".to_owned()];
        let specials =
            Specials { bos: Some("<s>".into()), eos: Some("</s>".into()), control, ..Specials::default() };
        Loaded {
            name: "fake".to_owned(),
            engine,
            tokenizer,
            chat: Chat::named("generic", specials).expect("it is built in"),
            system: self.system.clone(),
            parallel: self.parallel,
            queue: self.queue,
            timeout: self.timeout,
        }
    }

    pub fn serve(&self) -> Serving {
        let handle = self.loading();
        handle.ready(self.loaded()).expect("the fake is never lost");
        Serving { address: handle.address(), handle: Some(handle) }
    }
}

impl Serving {
    pub fn get(&self, path: &str) -> Reply {
        exchange(
            self.address,
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes(),
        )
    }

    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.post_text(path, body.to_string().as_bytes(), "")
    }

    /// With further headers, each ended by CR LF.
    pub fn post_text(&self, path: &str, body: &[u8], headers: &str) -> Reply {
        exchange(self.address, &posting(path, body, headers))
    }

    pub fn health(&self) -> Value {
        self.get("/health").json()
    }

    /// Waits until a number of `/health` is as wanted.
    pub fn await_health(&self, name: &str, wanted: u64) {
        let begun = Instant::now();
        while self.health()[name] != wanted {
            assert!(begun.elapsed() < Duration::from_secs(20), "{name} is not {wanted}: {}", self.health());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Tells the server to end, as a signal does.
    pub fn tell_to_end(&self) {
        self.handle.as_ref().expect("it was not ended yet").end();
    }

    pub fn wait(mut self) {
        self.handle.take().expect("it was not ended yet").wait().expect("nothing went wrong");
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            handle.end();
            // A second time: at once.
            std::thread::sleep(Duration::from_millis(20));
            handle.end();
            let _ = handle.wait();
        }
    }
}

/// The bytes of a request.
pub fn posting(path: &str, body: &[u8], headers: &str) -> Vec<u8> {
    let mut bytes = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         {headers}Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// What came back.
#[derive(Debug, Default)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    pub took: Duration,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("bodies are UTF-8")
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.text()))
    }

    #[track_caller]
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let line = |line: &'_ str| {
            let (found, _) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(())
        };
        let found = self.head.lines().find(|l| line(l).is_some())?;
        Some(found.split_once(':')?.1.trim())
    }

    /// The data of server-sent events, `[DONE]` as a string.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{}", self.text());
        let text = self.text();
        let data =
            text.split("\n\n").filter_map(|event| event.lines().find_map(|line| line.strip_prefix("data: ")));
        data.map(|data| serde_json::from_str(data).unwrap_or_else(|_| Value::from(data))).collect()
    }
}

/// Sends bytes and reads until the server closes.
pub fn exchange(address: SocketAddr, bytes: &[u8]) -> Reply {
    let begun = Instant::now();
    let mut socket = TcpStream::connect(address).expect("the server listens");
    socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out can be set");
    // It may answer and close before it has read all.
    let _ = socket.write_all(bytes);
    receive(&mut socket, begun)
}

/// Reads until the server closes.
pub fn receive(socket: &mut TcpStream, begun: Instant) -> Reply {
    let mut all = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => all.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("after {} bytes: {error}", all.len()),
        }
    }
    let took = begun.elapsed();
    let Some(end) = all.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return Reply { took, ..Reply::default() };
    };
    let head = String::from_utf8_lossy(&all[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let mut body = all[end + 4..].to_vec();
    if head.to_lowercase().contains("transfer-encoding: chunked") {
        body = unchunked(&body);
    }
    Reply { status, head, body, took }
}

fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(line) = bytes.windows(2).position(|bytes| bytes == b"\r\n") {
        let size = std::str::from_utf8(&bytes[..line]).expect("sizes are ASCII");
        let size = usize::from_str_radix(size, 16).expect("sizes are hexadecimal");
        if size == 0 || bytes.len() < line + 2 + size {
            break;
        }
        body.extend_from_slice(&bytes[line + 2..line + 2 + size]);
        bytes = bytes.get(line + 4 + size..).unwrap_or_default();
    }
    body
}

/// A value without what differs from run to run.
pub fn settled(mut value: Value) -> Value {
    if let Some(map) = value.as_object_mut() {
        for (name, new) in [("id", Value::from("ID")), ("created", Value::from(0))] {
            if let Some(old) = map.get_mut(name) {
                *old = new;
            }
        }
        if let Some(message) = map.get_mut("message") {
            *message = settled(message.take());
        }
    }
    value
}
