//! Many clients, slow clients, clients that go away: nobody is lost, and `/health` answers at once.
#![allow(missing_docs)]

mod common;

use common::{Serving, Setup, exchange, posting, receive};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

const CHAT: &str = "/v1/chat/completions";

fn ask(tokens: usize, stream: bool) -> Value {
    json!({"messages": [{"role": "user", "content": "Hello"}], "max_tokens": tokens, "stream": stream,
        "ignore_eos": true})
}

fn request(tokens: usize, stream: bool) -> Vec<u8> {
    posting(CHAT, ask(tokens, stream).to_string().as_bytes(), "")
}

/// `/health` is as quick as it is promised to be. The promise is for a machine that does nothing else; tests
/// share theirs with others, so the best of three counts.
#[track_caller]
fn health_is_quick(server: &Serving) -> Value {
    let replies: Vec<_> = (0..3).map(|_| server.get("/health")).collect();
    let best = replies.iter().map(|reply| reply.took).min().expect("three");
    assert!(best < Duration::from_millis(100), "{best:?}");
    replies[0].json()
}

#[test]
fn of_two_hundred_at_once_some_are_refused_and_none_is_lost() {
    let server = Setup { parallel: 4, queue: 40, step: Duration::from_millis(2), ..Setup::default() }.serve();
    let address = server.address;
    let clients: Vec<_> = (0..200)
        .map(|i| {
            thread::spawn(move || {
                let reply = exchange(address, &request(10, i % 2 == 0));
                match reply.status {
                    200 if i % 2 == 0 => assert!(reply.text().ends_with("data: [DONE]\n\n")),
                    200 => assert_eq!(reply.json()["usage"]["completion_tokens"], 10),
                    429 => {
                        let after: u64 =
                            reply.header("retry-after").expect("it says when").parse().expect("seconds");
                        assert!((1..=60).contains(&after));
                        assert_eq!(reply.json()["error"]["code"], "queue_full");
                    }
                    other => panic!("{other}: {}", reply.text()),
                }
                reply.status
            })
        })
        .collect();
    health_is_quick(&server);
    let statuses: Vec<u16> =
        clients.into_iter().map(|client| client.join().expect("no client fails")).collect();
    let (served, refused) =
        (statuses.iter().filter(|&&s| s == 200).count(), statuses.iter().filter(|&&s| s == 429).count());
    assert!(served >= 44 && refused > 0 && served + refused == 200, "{served} {refused}");
    let health = server.health();
    assert_eq!((&health["queued"], &health["running"]), (&json!(0), &json!(0)));
    assert_eq!(health["total_requests"], served);
}

#[test]
fn connections_that_say_nothing_or_little_cost_nobody_anything() {
    let mut setup = Setup::default();
    setup.config.header_time = Duration::from_secs(3);
    setup.config.body_time = Duration::from_secs(3);
    let server = setup.serve();
    let connect = || TcpStream::connect(server.address).expect("the server accepts");
    let begun = Instant::now();
    let mut idle: Vec<TcpStream> = (0..1000).map(|_| connect()).collect();
    health_is_quick(&server);
    let mut half: Vec<TcpStream> = (0..16)
        .map(|_| {
            let mut socket = connect();
            socket.write_all(b"POST /v1/chat/completions HTTP/1.1\r\nHost: loc").expect("it is accepted");
            socket
        })
        .collect();
    let mut bodies: Vec<TcpStream> = (0..16)
        .map(|_| {
            let mut socket = connect();
            let whole = request(1, false);
            socket.write_all(&whole[..whole.len() - 5]).expect("it is accepted");
            socket
        })
        .collect();
    health_is_quick(&server);
    let answer = server.post(CHAT, &ask(3, false)).ok();
    assert_eq!(answer["usage"]["completion_tokens"], 3);
    // Each is shown the door in time, those whose body is missing with a reason.
    let mut buffer = [0; 1024];
    for socket in idle.iter_mut().chain(&mut half).step_by(97) {
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out can be set");
        while socket.read(&mut buffer).expect("it is closed, not left alone") > 0 {}
    }
    for socket in &mut bodies {
        let reply = receive(socket, begun);
        assert_eq!((reply.status, &reply.json()["error"]["code"]), (408, &json!("body_timeout")));
    }
    assert!(begun.elapsed() < Duration::from_secs(15));
    server.await_health("connections", 1);
}

#[test]
fn readers_that_stopped_reading_hold_up_nobody_and_are_closed() {
    let mut setup = Setup { context: 16384, parallel: 4, queue: 1000, ..Setup::default() };
    setup.config.stall_time = Duration::from_secs(1);
    let server = setup.serve();
    // Answers far larger than what the kernel keeps for its sockets: prompts that are echoed, in escapes.
    let prompt = "\u{1}".repeat(15_000);
    let body =
        json!({"prompt": vec![prompt.as_str(); 60], "max_tokens": 1, "echo": true, "n": 4, "stream": true});
    let stuck: Vec<TcpStream> = (0..3)
        .map(|_| {
            let mut socket = TcpStream::connect(server.address).expect("the server accepts");
            socket.write_all(&posting("/v1/completions", body.to_string().as_bytes(), "")).expect("it reads");
            socket
        })
        .collect();
    thread::sleep(Duration::from_millis(300));
    health_is_quick(&server);
    let answer = server.post(CHAT, &ask(3, false)).ok();
    assert_eq!(answer["usage"]["completion_tokens"], 3);
    server.await_health("connections", 1);
    for mut socket in stuck {
        let reply = receive(&mut socket, Instant::now());
        assert!(!String::from_utf8_lossy(&reply.body).contains("[DONE]"), "it was not sent whole");
    }
}

#[test]
fn clients_that_go_away_are_cancelled_queued_or_answered() {
    let setup = Setup { parallel: 1, step: Duration::from_millis(5), context: 4096, ..Setup::default() };
    let server = setup.serve();
    let mut first = TcpStream::connect(server.address).expect("the server accepts");
    first.write_all(&request(4000, true)).expect("it reads");
    let mut seen = [0; 200];
    first.read_exact(&mut seen).expect("it streams");
    let mut second = TcpStream::connect(server.address).expect("the server accepts");
    second.write_all(&request(4000, false)).expect("it reads");
    server.await_health("queued", 1);
    drop(second);
    server.await_health("queued", 0);
    drop(first);
    server.await_health("running", 0);
    let page = server.get("/metrics").text();
    assert!(page.contains("jetson_llm_answers_total{end=\"cancelled\"} 2\n"), "{page}");
    // While its prompt is computed, too.
    let long = json!({"prompt": "x".repeat(3900), "max_tokens": 1});
    let mut third = TcpStream::connect(server.address).expect("the server accepts");
    third.write_all(&posting("/v1/completions", long.to_string().as_bytes(), "")).expect("it reads");
    server.await_health("running", 1);
    drop(third);
    server.await_health("running", 0);
}

#[test]
fn time_that_is_up_cuts_answers_off_and_refuses_what_waited() {
    let timeout = Some(Duration::from_millis(700));
    let setup =
        Setup { parallel: 1, step: Duration::from_millis(400), timeout, context: 4096, ..Setup::default() };
    let server = setup.serve();
    let address = server.address;
    let running = thread::spawn(move || exchange(address, &request(4000, false)));
    server.await_health("running", 1);
    // Its time is up at the end of the same step.
    let waiting = exchange(address, &request(4, false));
    assert_eq!((waiting.status, &waiting.json()["error"]["code"]), (503, &json!("queue_timeout")));
    assert!(waiting.header("retry-after").is_some());
    let cut = running.join().expect("the client is answered").ok();
    assert_eq!(cut["choices"][0]["finish_reason"], "length");
    assert!(cut["usage"]["completion_tokens"].as_u64() > Some(0), "{cut}");
    let long = json!({"prompt": "x".repeat(4000), "max_tokens": 9});
    let late = server.post("/v1/completions", &long);
    assert_eq!((late.status, late.header("x-should-retry")), (504, Some("false")), "{}", late.text());
}

#[test]
fn a_server_that_loads_says_so() {
    let setup = Setup::default();
    let handle = setup.loading();
    let get = |path: &str| {
        let line = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        exchange(handle.address(), line.as_bytes())
    };
    let health = get("/health");
    assert_eq!((health.status, &health.json()["status"]), (503, &json!("loading")));
    let early = exchange(handle.address(), &request(1, false));
    assert_eq!((early.status, &early.json()["error"]["code"]), (503, &json!("loading")));
    assert!(early.header("retry-after").is_some());
    assert_eq!(get("/metrics").status, 200);
    handle.ready(setup.loaded()).expect("the fake is never lost");
    assert_eq!(get("/health").status, 200);
    handle.end();
    handle.wait().expect("nothing went wrong");
}

#[test]
fn an_end_lets_streams_end_and_turns_others_away() {
    let setup = Setup { parallel: 1, step: Duration::from_millis(5), ..Setup::default() };
    let server = setup.serve();
    let address = server.address;
    let mut stream = TcpStream::connect(address).expect("the server accepts");
    stream.write_all(&request(100, true)).expect("it reads");
    server.await_health("running", 1);
    let queued = thread::spawn(move || exchange(address, &request(5, false)));
    server.await_health("queued", 1);
    let _idle = TcpStream::connect(address).expect("the server accepts");
    server.tell_to_end();
    let queued = queued.join().expect("the client is answered");
    assert_eq!((queued.status, &queued.json()["error"]["code"]), (503, &json!("shutting_down")));
    let health = server.get("/health");
    assert_eq!((health.status, &health.json()["status"]), (503, &json!("draining")));
    assert_eq!(exchange(address, &request(5, false)).status, 503);
    let reply = receive(&mut stream, Instant::now());
    assert!(reply.text().ends_with("data: [DONE]\n\n"));
    assert!(reply.text().contains("\"finish_reason\":\"length\""), "it was let to its end");
    server.wait();
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}

#[test]
fn a_stream_that_lasts_too_long_is_ended_with_a_reason() {
    let mut setup = Setup { parallel: 1, step: Duration::from_millis(5), context: 4096, ..Setup::default() };
    setup.config.drain_time = Duration::from_millis(200);
    let server = setup.serve();
    let mut stream = TcpStream::connect(server.address).expect("the server accepts");
    stream.write_all(&request(4000, true)).expect("it reads");
    server.await_health("running", 1);
    server.tell_to_end();
    let reply = receive(&mut stream, Instant::now());
    let text = reply.text();
    assert!(text.ends_with("data: [DONE]\n\n") && text.contains("\"code\":\"shutting_down\""), "{text}");
    server.wait();
}

#[test]
fn memory_stays_where_it_is_over_thousands_of_requests() {
    let server = Setup::default().serve();
    let (address, clients) = (server.address, 4);
    let round = |requests: usize| {
        let all: Vec<_> = (0..clients)
            .map(|client| {
                thread::spawn(move || {
                    for i in 0..requests {
                        let reply = exchange(address, &request(4, (client + i) % 3 == 0));
                        assert_eq!(reply.status, 200, "{}", reply.text());
                    }
                })
            })
            .collect();
        for client in all {
            client.join().expect("all are answered");
        }
    };
    let memory = || server.health()["memory_bytes"].as_u64().expect("the system says") as f64;
    round(150);
    let before = memory();
    round(500);
    let grown = (memory() - before) / 1024.0;
    assert!(grown < 4096.0, "{grown} KiB more after 2,000 requests");
}
