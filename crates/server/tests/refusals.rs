//! What cannot be is refused with a status, a code and the field's path, and the next request is served.
#![allow(missing_docs)]

mod common;

use common::{Serving, Setup, exchange, posting};
use serde_json::{Value, json};
use std::time::Duration;

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

fn hello() -> Value {
    json!({"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2})
}

#[track_caller]
fn still_serves(server: &Serving) {
    assert_eq!(server.post(CHAT, &hello()).ok()["object"], "chat.completion");
}

/// A refusal has all four keys of OpenAI's errors.
#[track_caller]
fn refused(server: &Serving, path: &str, body: &Value, param: &str) {
    let reply = server.post(path, body);
    let shown: String = body.to_string().chars().take(200).collect();
    assert_eq!(reply.status, 400, "{shown}: {}", reply.text());
    assert!(reply.took < Duration::from_secs(2), "{shown} took {:?}", reply.took);
    let error = &reply.json()["error"];
    assert_eq!(error["param"], param, "{shown}: {error}");
    for key in ["message", "type", "code"] {
        assert!(error[key].as_str().is_some_and(|text| !text.is_empty()), "{shown}: {error}");
    }
}

/// Bodies that are no request at all.
#[test]
fn bodies_that_are_no_json_objects_are_refused() {
    let server = Setup::default().serve();
    let deep = |open: &str, close: &str| [open.repeat(100_000), close.repeat(100_000)].concat().into_bytes();
    let keys: Vec<String> = (0..200_000).map(|i| format!("\"k{i}\":{i}")).collect();
    let utf16: Vec<u8> = "{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut invalid = br#"{"messages":[{"role":"user","content":""#.to_vec();
    invalid.extend([0xff, 0xc0, 0x80]);
    invalid.extend(br#""}]}"#);
    let bodies: Vec<(&str, Vec<u8>)> = vec![
        ("empty", vec![]),
        ("blank", b" \n\t ".to_vec()),
        ("braces", b"{{{".to_vec()),
        ("array", b"[]".to_vec()),
        ("null", b"null".to_vec()),
        ("number", b"7".to_vec()),
        ("truncated", br#"{"messages":[{"role":"#.to_vec()),
        ("two documents", b"{}{}".to_vec()),
        ("byte order mark", b"\xef\xbb\xbf{}".to_vec()),
        ("UTF-16", utf16),
        ("deep arrays", deep("[", "]")),
        ("deep objects", deep("{\"a\":", "}")),
        ("many keys", format!("{{{}}}", keys.join(",")).into_bytes()),
        ("NaN", br#"{"temperature":NaN}"#.to_vec()),
        ("Infinity", br#"{"temperature":Infinity}"#.to_vec()),
        ("1e400", br#"{"temperature":1e400}"#.to_vec()),
        ("lone surrogate", br#"{"messages":[{"role":"user","content":"\ud800"}]}"#.to_vec()),
        ("invalid UTF-8", invalid),
        ("NUL", b"{\"a\":\"\0\"}".to_vec()),
        ("a key of 1 MB", format!("{{\"{}\":1}}", "k".repeat(1 << 20)).into_bytes()),
        ("a long number", format!("{{\"seed\":{}}}", "9".repeat(400)).into_bytes()),
    ];
    for path in [CHAT, TEXT, "/v1/messages", "/tokenize", "/detokenize", "/apply-template"] {
        for (name, body) in &bodies {
            let reply = server.post_text(path, body, "");
            assert_eq!(reply.status, 400, "{path} {name}: {}", reply.text());
            assert!(reply.took < Duration::from_secs(2), "{path} {name} took {:?}", reply.took);
            assert!(reply.json()["error"]["message"].is_string(), "{path} {name}");
        }
    }
    still_serves(&server);
    let large = server.post_text(CHAT, &vec![b' '; (8 << 20) + 1], "");
    assert_eq!((large.status, &large.json()["error"]["code"]), (413, &json!("request_too_large")));
    let doubled = br#"{"max_tokens":"x","max_tokens":1,"messages":[{"role":"user","content":"a"}]}"#;
    assert_eq!(server.post_text(CHAT, doubled, "").status, 200, "of equal keys the last counts");
}

/// Numbers where they cannot be, and what cannot be a number.
#[test]
fn impossible_values_are_refused_by_path() {
    let server = Setup::default().serve();
    let never = [
        json!("3"),
        json!([1]),
        json!({"a": 1}),
        json!(true),
        json!(-9_223_372_036_854_775_808_i64),
        json!(1e300),
    ];
    let more = |list: &[Value]| [&never[..], list].concat();
    let fields: Vec<(&str, Vec<Value>)> = vec![
        ("max_tokens", [&never[..5], &[json!(-1), json!(0), json!(1.5)]].concat()),
        ("max_completion_tokens", [&never[..5], &[json!(-1), json!(0)]].concat()),
        ("n", more(&[json!(0), json!(-1), json!(129), json!(1_000_000_000), json!(5)])),
        ("top_k", more(&[json!(-2), json!(0.5)])),
        ("top_p", more(&[json!(-0.1), json!(1.1)])),
        ("min_p", more(&[json!(-0.1), json!(2)])),
        ("temperature", more(&[json!(-1), json!(2.1), json!(-1e308)])),
        ("presence_penalty", more(&[json!(-2.1), json!(3)])),
        ("frequency_penalty", more(&[json!(5)])),
        ("repeat_penalty", more(&[json!(0)])),
        ("repeat_last_n", more(&[json!(-2)])),
        ("seed", vec![json!("x"), json!(1.5), json!([]), json!({}), json!(true), json!(1e30)]),
        ("top_logprobs", more(&[json!(-1), json!(21), json!(3)])),
        ("logprobs", vec![json!(3), json!("yes"), json!([])]),
        ("stream", vec![json!("yes"), json!(1), json!([])]),
        ("stop", vec![json!(3), json!({}), json!(true), json!(vec!["a"; 17])]),
        (
            "logit_bias",
            vec![
                json!([1]),
                json!("x"),
                json!({"foo": 1}),
                json!({"-1": 1}),
                json!({"99999999": 1}),
                json!({"4294967296": 1}),
            ],
        ),
        ("stream_options", vec![json!(3), json!("x"), json!([])]),
        (
            "chat_template_kwargs",
            vec![json!("x"), json!([]), json!({"messages": []}), json!({"tokenize": true})],
        ),
        ("conversation_id", vec![json!(3), json!(""), json!("a b"), json!("x".repeat(129)), json!("../x")]),
        ("reasoning_effort", vec![json!("hard"), json!(1)]),
        ("model", vec![json!(3), json!([])]),
        ("tools", vec![json!([{"type": "function", "function": {"name": "f"}}])]),
        ("messages", vec![json!(3), json!("x"), json!({}), json!([])]),
    ];
    for (name, values) in fields {
        for value in values {
            let mut body = hello();
            body[name] = value;
            refused(&server, CHAT, &body, name);
        }
    }
    let deeper: Vec<(&str, Value, &str)> = vec![
        ("stop", json!(["a", ""]), "stop[1]"),
        ("stop", json!("x".repeat(1 << 20)), "stop"),
        ("logit_bias", json!({"5": 101}), "logit_bias.5"),
        ("logit_bias", json!({"5": null}), "logit_bias.5"),
        ("stream_options", json!({"include_usage": 3}), "stream_options.include_usage"),
        ("response_format", json!({"type": "xml"}), "response_format.type"),
        ("response_format", json!({}), "response_format.type"),
        ("response_format", json!({"type": "json_schema"}), "response_format.json_schema"),
        ("grammar", json!("root ::= ("), "grammar"),
        ("grammar", json!(format!("root ::= {}\"a\"{}", "(".repeat(20_000), ")".repeat(20_000))), "grammar"),
        ("regex", json!("[z-a]"), "regex"),
        ("regex", json!("(a)(?=b)"), "regex"),
        ("modalities", json!(["text", "audio"]), "modalities[1]"),
        ("messages", json!([3]), "messages[0]"),
        ("messages", json!([{}]), "messages[0].role"),
        ("messages", json!([{"role": 3}]), "messages[0].role"),
        ("messages", json!([{"role": "wizard", "content": "x"}]), "messages[0].role"),
        ("messages", json!([{"role": "user<|end|>", "content": "x"}]), "messages[0].role"),
        ("messages", json!([{"role": "tool", "content": "x"}]), "messages[0].role"),
        ("messages", json!([{"role": "user"}]), "messages[0].content"),
        ("messages", json!([{"role": "user", "content": null}]), "messages[0].content"),
        ("messages", json!([{"role": "user", "content": 3}]), "messages[0].content"),
        ("messages", json!([{"role": "user", "content": [3]}]), "messages[0].content[0]"),
        ("messages", json!([{"role": "user", "content": [{"text": "x"}]}]), "messages[0].content[0].type"),
        ("messages", json!([{"role": "user", "content": [{"type": "text"}]}]), "messages[0].content[0].text"),
        (
            "messages",
            json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}]),
            "messages[0].content[0].type",
        ),
        ("messages", json!([{"role": "user", "content": "A".repeat(5_000_000)}]), "messages"),
        ("messages", json!([{"role": "user", "content": "a b ".repeat(400)}]), "messages"),
        ("messages", json!(vec![json!({"role": "user", "content": "x"}); 100_000]), "messages"),
    ];
    for (name, value, param) in deeper {
        let mut body = hello();
        body[name] = value;
        refused(&server, CHAT, &body, param);
    }
    refused(&server, CHAT, &json!({}), "messages");
    still_serves(&server);
}

#[test]
fn prompts_that_cannot_be_are_refused_by_path() {
    let server = Setup::default().serve();
    let cases: Vec<(Value, &str)> = vec![
        (json!({}), "prompt"),
        (json!({"prompt": null}), "prompt"),
        (json!({"prompt": 3}), "prompt"),
        (json!({"prompt": {}}), "prompt"),
        (json!({"prompt": []}), "prompt"),
        (json!({"prompt": [-1]}), "prompt[0]"),
        (json!({"prompt": [5, 288]}), "prompt[1]"),
        (json!({"prompt": [4_294_967_296_u64]}), "prompt[0]"),
        (json!({"prompt": [1.5]}), "prompt[0]"),
        (json!({"prompt": ["a", []]}), "prompt[1]"),
        (json!({"prompt": ["a", null]}), "prompt[1]"),
        (json!({"prompt": vec!["a"; 65]}), "prompt"),
        (json!({"prompt": vec!["a"; 100_000]}), "prompt"),
        (json!({"prompt": vec![5; 512]}), "prompt"),
        (json!({"prompt": vec![5; 100_000]}), "prompt"),
        (json!({"prompt": "A".repeat(1_000_000)}), "prompt"),
        (json!({"prompt": "a", "best_of": 3}), "best_of"),
        (json!({"prompt": "a", "suffix": "b"}), "suffix"),
        (json!({"prompt": "a", "logprobs": 2}), "logprobs"),
        (json!({"prompt": "a", "logprobs": 6}), "logprobs"),
        (json!({"prompt": "a", "logprobs": 0, "echo": true}), "echo"),
        (json!({"prompt": "a", "max_tokens": -1}), "max_tokens"),
    ];
    for (body, param) in cases {
        refused(&server, TEXT, &body, param);
    }
    // The context exactly full leaves one token.
    let full = server.post(TEXT, &json!({"prompt": vec![5; 511], "max_tokens": 9})).ok();
    assert!(full["usage"]["completion_tokens"].as_u64() <= Some(2), "{full}");
    assert_eq!(full["choices"][0]["finish_reason"], "length");
    let none = server.post(TEXT, &json!({"prompt": "a", "max_tokens": 0})).ok();
    assert_eq!((&none["choices"][0]["text"], &none["usage"]["completion_tokens"]), (&json!(""), &json!(0)));
    let odd = json!({"prompt": "a", "max_tokens": u64::MAX, "seed": -5, "top_p": 0, "unknown": {"a": [1]}, "stop": [],
        "logit_bias": {}, "best_of": 0, "user": 3});
    assert_eq!(server.post(TEXT, &odd).status, 200, "odd, but possible");
    for (path, body, param) in [
        ("/tokenize", json!({}), "content"),
        ("/tokenize", json!({"content": 3}), "content"),
        ("/detokenize", json!({"tokens": [-1]}), "tokens[0]"),
        ("/detokenize", json!({"tokens": "x"}), "tokens"),
        ("/apply-template", json!({"messages": 1}), "messages"),
    ] {
        refused(&server, path, &body, param);
    }
    still_serves(&server);
}

#[test]
fn text_that_tokenizers_stumble_over_is_served() {
    let server = Setup { context: 4096, ..Setup::default() }.serve();
    for text in ["a".repeat(4000), "e\u{301}".repeat(900), "\n".repeat(3000), "<s></s><unk>".repeat(300)] {
        let body = json!({"messages": [{"role": "user", "content": text}], "max_tokens": 1});
        let reply = server.post(CHAT, &body);
        assert!(reply.took < Duration::from_secs(5), "{:?}", reply.took);
        assert!([200, 400].contains(&reply.status), "{}", reply.text());
    }
    still_serves(&server);
}

/// Messages that are no HTTP, or HTTP at its edges: answered or dropped, and the server goes on.
#[test]
fn framing_that_others_misread_is_refused() {
    let mut setup = Setup::default();
    setup.config.body_time = Duration::from_secs(1);
    let server = setup.serve();
    let body = hello().to_string();
    let len = body.len();
    let post = |headers: &str, body: &str| {
        format!("POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n{body}")
            .into_bytes()
    };
    let get =
        |line: &str, headers: &str| format!("{line}\r\n{headers}Connection: close\r\n\r\n").into_bytes();
    let host = "Host: localhost\r\n";
    let cases: Vec<(&str, Vec<u8>, &[u16])> = vec![
        ("no length", post("", &body), &[400]),
        ("negative length", post("Content-Length: -1\r\n", &body), &[0, 400]),
        ("two lengths", post(&format!("Content-Length: {len}\r\nContent-Length: 3\r\n"), &body), &[0, 400]),
        (
            "length and chunks",
            post(
                &format!("Content-Length: {len}\r\nTransfer-Encoding: chunked\r\n"),
                &format!("{len:x}\r\n{body}\r\n0\r\n\r\n"),
            ),
            &[0, 200, 400],
        ),
        (
            "chunks",
            post("Transfer-Encoding: chunked\r\n", &format!("{len:x}\r\n{body}\r\n0\r\n\r\n")),
            &[200],
        ),
        ("huge chunk", post("Transfer-Encoding: chunked\r\n", "ffffffffffffffff\r\n{}"), &[0, 400, 408]),
        ("unknown coding", post("Transfer-Encoding: gzip\r\n", &body), &[0, 400]),
        ("space before colon", post(&format!("Content-Length : {len}\r\n"), &body), &[0, 400]),
        ("folded header", post(&format!("X-A: b\r\n c\r\nContent-Length: {len}\r\n"), &body), &[0, 200, 400]),
        ("gzip", post(&format!("Content-Encoding: gzip\r\nContent-Length: {len}\r\n"), &body), &[415]),
        (
            "UTF-16",
            post(
                &format!("Content-Type: application/json; charset=utf-16\r\nContent-Length: {len}\r\n"),
                &body,
            ),
            &[415],
        ),
        (
            "plain text",
            post(&format!("Content-Type: text/plain\r\nContent-Length: {len}\r\n"), &body),
            &[200],
        ),
        (
            "large header",
            get("GET /health HTTP/1.1", &format!("{host}X-A: {}\r\n", "a".repeat(300 << 10))),
            &[0, 431],
        ),
        (
            "many headers",
            get("GET /health HTTP/1.1", &format!("{host}{}", "X-A: b\r\n".repeat(10_000))),
            &[0, 431],
        ),
        ("long path", get(&format!("GET /{} HTTP/1.1", "a".repeat(20 << 10)), host), &[404, 414]),
        ("NUL in path", get("GET /%00 HTTP/1.1", host), &[404]),
        ("dots", get("GET /v1/models/%2e%2e/%2e%2e/etc/passwd HTTP/1.1", host), &[404]),
        ("slashes", get("GET //health HTTP/1.1", host), &[404]),
        ("unknown method", get("BREW /health HTTP/1.1", host), &[405]),
        ("wrong method", get(&format!("GET {CHAT} HTTP/1.1"), host), &[405]),
        ("HTTP/0.9", b"GET /health\r\n\r\n".to_vec(), &[0, 400]),
        ("HTTP/1.0", get("GET /health HTTP/1.0", ""), &[200]),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), &[0, 400]),
        ("absolute form", get("GET http://localhost/health HTTP/1.1", host), &[200]),
        ("foreign absolute form", get("GET http://evil.example/health HTTP/1.1", host), &[403]),
        ("no host", get("GET /health HTTP/1.1", ""), &[400]),
        ("two hosts", get("GET /health HTTP/1.1", "Host: localhost\r\nHost: evil.example\r\n"), &[400]),
        ("foreign host", get("GET /health HTTP/1.1", "Host: evil.example\r\n"), &[403]),
        ("rebinding", get("GET /health HTTP/1.1", "Host: 127.0.0.1.evil.example:8080\r\n"), &[403]),
        (
            "upgrade",
            get("GET /health HTTP/1.1", "Host: localhost\r\nUpgrade: junk\r\nConnection: upgrade\r\n"),
            &[200, 400],
        ),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(20), &[0, 400]),
        ("noise", (0..5000u32).map(|i| ((i * 7919) >> 3) as u8).collect(), &[0, 400]),
    ];
    for (name, bytes, wanted) in cases {
        let reply = exchange(server.address, &bytes);
        assert!(
            wanted.contains(&reply.status),
            "{name}: {} {}",
            reply.head,
            String::from_utf8_lossy(&reply.body)
        );
        assert!(reply.took < Duration::from_secs(2), "{name} took {:?}", reply.took);
    }
    let allowed = exchange(server.address, &get(&format!("GET {CHAT} HTTP/1.1"), host));
    assert_eq!(allowed.header("allow"), Some("POST"));
    assert_eq!(allowed.json()["error"]["code"], "method_not_allowed");
    assert_eq!(server.get("/nothing").json()["error"]["code"], "not_found");
    // Many requests sent at once down one connection.
    let line = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut many = line.repeat(999).into_bytes();
    many.extend(get("GET /health HTTP/1.1", host));
    let reply = exchange(server.address, &many);
    let whole = String::from_utf8_lossy(&reply.body);
    assert_eq!(whole.matches("HTTP/1.1 200 OK").count(), 999, "the first is in the head");
    still_serves(&server);
}

#[test]
fn keys_open_everything_but_health() {
    let mut setup = Setup::default();
    setup.config.keys = vec!["first-key".to_owned(), "second-key".to_owned()];
    let server = setup.serve();
    let body = hello().to_string();
    let status = |headers: &str| server.post_text(CHAT, body.as_bytes(), headers).status;
    for headers in [
        "Authorization: Bearer first-key\r\n",
        "authorization: bearer second-key\r\n",
        "x-api-key: first-key\r\n",
    ] {
        assert_eq!(status(headers), 200, "{headers}");
    }
    let huge = format!("Authorization: Bearer {}\r\n", "k".repeat(60 << 10));
    let two = "Authorization: Bearer wrong\r\nAuthorization: Bearer first-key\r\n";
    for headers in [
        "",
        "Authorization: Bearer\r\n",
        "Authorization: Bearer \r\n",
        "Authorization: Bearer first-ke\r\n",
        "Authorization: Basic first-key\r\n",
        "x-api-key: \r\n",
        huge.as_str(),
        two,
    ] {
        let reply = server.post_text(CHAT, body.as_bytes(), headers);
        let start: String = headers.chars().take(60).collect();
        assert_eq!(reply.status, 401, "{start}");
        assert_eq!(reply.json()["error"]["code"], "invalid_api_key");
        assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
    }
    assert_eq!(server.get("/health").status, 200);
    for path in
        ["/metrics", "/v1/models", "/v1/models/fake", "/tokenize", "/nothing", "/v1/models?api_key=first-key"]
    {
        assert_eq!(server.get(path).status, 401, "{path}");
    }
    let anthropic = server.post("/v1/messages", &json!({})).json();
    assert_eq!(
        (&anthropic["type"], &anthropic["error"]["type"]),
        (&json!("error"), &json!("authentication_error"))
    );
}

#[test]
fn pages_of_this_machine_may_ask_and_others_may_not() {
    let mut setup = Setup::default();
    setup.config.origins = vec!["https://chat.example".to_owned()];
    setup.config.keys = vec!["key".to_owned()];
    let server = setup.serve();
    let preflight = |origin: &str| {
        let stainless = "authorization,content-type,x-stainless-arch,x-stainless-lang,x-stainless-os";
        exchange(
            server.address,
            format!(
                "OPTIONS {CHAT} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nOrigin: {origin}\r\n\
             Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: {stainless}\r\n\r\n"
            )
            .as_bytes(),
        )
    };
    for origin in ["http://localhost:3000", "https://chat.example"] {
        let reply = preflight(origin);
        assert_eq!(reply.status, 204, "{origin}");
        assert_eq!(reply.header("access-control-allow-origin"), Some(origin));
        assert!(
            reply.header("access-control-allow-headers").is_some_and(|list| list.contains("x-stainless-os"))
        );
    }
    for origin in ["null", "https://evil.example", "http://localhost.evil.example"] {
        let reply = preflight(origin);
        assert_eq!((reply.status, reply.header("access-control-allow-origin")), (403, None), "{origin}");
        let headers = format!("Authorization: Bearer key\r\nOrigin: {origin}\r\n");
        let reply = exchange(server.address, &posting(CHAT, hello().to_string().as_bytes(), &headers));
        assert_eq!(reply.status, 403, "{origin}");
    }
    // A page learns why it is refused, if it may ask at all.
    let reply = server.post_text(CHAT, b"{}", "Origin: http://localhost:3000\r\n");
    assert_eq!(
        (reply.status, reply.header("access-control-allow-origin")),
        (401, Some("http://localhost:3000"))
    );
}
