//! What the server answers, whole and as streams, by interface.
#![allow(missing_docs)]

mod common;

use common::{Setup, settled, tokenizer};
use serde_json::{Value, json};

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("values are JSON")
}

fn hello() -> Value {
    json!({"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 6, "temperature": 0,
        "ignore_eos": true})
}

fn with(mut body: Value, more: Value) -> Value {
    let Value::Object(more) = more else { panic!("fields are objects") };
    body.as_object_mut().expect("bodies are objects").extend(more);
    body
}

#[test]
fn a_chat_completion_has_every_key_that_clients_require() {
    let server = Setup::default().serve();
    let reply = server.post("/v1/chat/completions", &hello());
    assert!(reply.header("x-request-id").is_some_and(|id| id.starts_with("req_")));
    let answer = settled(reply.ok());
    insta::assert_snapshot!(pretty(&answer));
}

#[test]
fn a_streamed_chat_completion_is_the_same_in_pieces() {
    let server = Setup::default().serve();
    let whole = server.post("/v1/chat/completions", &hello()).ok();
    let body = with(hello(), json!({"stream": true, "stream_options": {"include_usage": true}}));
    let reply = server.post("/v1/chat/completions", &body);
    assert_eq!(reply.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(reply.header("x-accel-buffering"), Some("no"));
    assert!(reply.text().ends_with("data: [DONE]\n\n"));
    let events = reply.events();
    let text: String =
        events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, whole["choices"][0]["message"]["content"]);
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let usage = &events[events.len() - 2];
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["completion_tokens"], 6);
    assert!(
        events[..events.len() - 2]
            .iter()
            .all(|event| event["usage"].is_null() && event["id"] == events[0]["id"])
    );
    let last = &events[events.len() - 3]["choices"][0];
    assert_eq!((&last["finish_reason"], &last["delta"]), (&json!("length"), &json!({})));
    insta::assert_snapshot!(pretty(&settled(events[1].clone())));
}

#[test]
fn seeds_repeat_and_several_answers_differ() {
    let server = Setup::default().serve();
    let body = with(hello(), json!({"temperature": 1.5, "seed": 7, "n": 3, "max_tokens": 12}));
    let texts = |answer: &Value| -> Vec<String> {
        let choices = answer["choices"].as_array().expect("choices");
        choices.iter().map(|choice| choice["message"]["content"].to_string()).collect()
    };
    let first = server.post("/v1/chat/completions", &body).ok();
    let second = server.post("/v1/chat/completions", &body).ok();
    assert_eq!(texts(&first), texts(&second));
    let texts = texts(&first);
    assert!(texts[0] != texts[1] && texts[1] != texts[2], "{texts:?}");
    assert_eq!(first["usage"]["completion_tokens"], 36);
    // The prompt counts once, and is found again.
    let prompt = first["usage"]["prompt_tokens"].as_u64().expect("a number");
    assert_eq!(second["usage"]["prompt_tokens_details"]["cached_tokens"], prompt - 1);
    // Each of several is what it would be alone.
    let alone = with(body, json!({"n": 1, "seed": 8}));
    let alone = server.post("/v1/chat/completions", &alone).ok();
    assert_eq!(alone["choices"][0]["message"]["content"].to_string(), texts[1]);
}

#[test]
fn stops_biases_and_logprobs_do_what_they_say() {
    let server = Setup::default().serve();
    let ask = |more: Value| {
        let body = with(json!({"prompt": "abc", "max_tokens": 8, "temperature": 0}), more);
        server.post("/v1/completions", &body).ok()
    };
    let plain = ask(json!({"logprobs": 0}));
    let choice = &plain["choices"][0];
    let tokens = choice["logprobs"]["tokens"].as_array().expect("tokens");
    assert_eq!(tokens.len(), 8);
    assert!(
        choice["logprobs"]["token_logprobs"]
            .as_array()
            .expect("numbers")
            .iter()
            .all(|l| l.as_f64() < Some(0.0))
    );
    // A stop string that comes, comes no more.
    let text = choice["text"].as_str().expect("text");
    let stop: String = text.chars().skip(2).take(2).collect();
    let stopped = ask(json!({"stop": [stop, "never there"]}));
    assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
    assert_eq!(stopped["choices"][0]["text"], text.split(stop.as_str()).next().expect("a beginning"));
    // A token that is forbidden does not come.
    let ids = server.post("/tokenize", &json!({"content": tokens[0], "parse_special": false})).ok();
    assert!(!ids["tokens"].as_array().expect("ids").is_empty());
    let bias: serde_json::Map<String, Value> = (0..250).map(|id| (id.to_string(), json!(-100))).collect();
    let biased = ask(json!({"logit_bias": bias, "logprobs": 0}));
    for token in biased["choices"][0]["logprobs"]["tokens"].as_array().expect("tokens") {
        let id = tokenizer().id(token.as_str().expect("a name"));
        assert!(id.is_none_or(|id| id >= 250), "{token}");
    }
    let echoed = ask(json!({"echo": true}));
    assert_eq!(echoed["choices"][0]["text"], format!("abc{text}"));
}

#[test]
fn completions_take_prompts_in_every_form() {
    let server = Setup::default().serve();
    let ids =
        tokenizer().encode_vec("abc", text::EncodeOptions { bos: tokenizer().add_bos(), special: true });
    let text = |prompt: Value| -> Vec<Value> {
        let body = json!({"prompt": prompt, "max_tokens": 5, "temperature": 0});
        let answer = server.post("/v1/completions", &body).ok();
        answer["choices"].as_array().expect("choices").iter().map(|choice| choice["text"].clone()).collect()
    };
    let one = text(json!("abc"));
    assert_eq!(text(json!(ids)), one);
    assert_eq!(text(json!([ids, ids])), [one.clone(), one.clone()].concat());
    assert_eq!(text(json!(["abc", "xyz"]))[0], one[0]);
    let body = json!({"prompt": ["abc", "xyz"], "max_tokens": 5, "temperature": 0, "stream": true});
    let events = server.post("/v1/completions", &body).events();
    let streamed = |index: u64| -> String {
        let choices = events.iter().filter(|event| event["choices"][0]["index"] == index);
        choices.filter_map(|event| event["choices"][0]["text"].as_str()).collect()
    };
    assert_eq!(streamed(0), one[0]);
    assert_eq!(events.last(), Some(&json!("[DONE]")));
    insta::assert_snapshot!(pretty(&settled(
        server.post("/v1/completions", &json!({"prompt": "abc", "max_tokens": 3, "seed": 1})).ok()
    )));
}

#[test]
fn conversations_find_their_cache_by_body_or_header() {
    let server = Setup::default().serve();
    let long = "word ".repeat(20);
    let ask = |content: &str, headers: &str, id: Option<&str>| {
        let mut body = with(hello(), json!({"messages": [{"role": "user", "content": content}]}));
        if let Some(id) = id {
            body["conversation_id"] = id.into();
        }
        let reply = server.post_text("/v1/chat/completions", body.to_string().as_bytes(), headers);
        reply.ok()["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().expect("a number")
    };
    assert_eq!(ask(&long, "X-Conversation-Id: one\r\n", None), 0);
    let cached = ask(&long, "", Some("one"));
    assert!(cached > 90, "{cached}");
    for i in 0..20 {
        ask(&format!("{i} {}", "other ".repeat(20)), "", None);
    }
    assert_eq!(ask(&long, "", Some("one")), cached, "others passed by");
    let health = server.health();
    assert!(health["kv_cache_tokens_used"].as_u64() > Some(cached), "{health}");
    assert_eq!(health["total_requests"], 23);
}

#[test]
fn a_system_prompt_is_there_before_anybody_asks() {
    let system = "You are a fake. ".repeat(8);
    let server = Setup { system: Some(system.clone()), ..Setup::default() }.serve();
    let answer = server.post("/v1/chat/completions", &hello()).ok();
    assert!(answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64() > Some(100), "{answer}");
    let prompt = server.post("/apply-template", &hello()).ok();
    assert!(prompt["prompt"].as_str().is_some_and(|prompt| prompt.contains(&system)));
    let own =
        json!({"messages": [{"role": "system", "content": "Mine."}, {"role": "user", "content": "Hi"}]});
    let prompt = server.post("/apply-template", &own).ok();
    assert!(prompt["prompt"].as_str().is_some_and(|prompt| !prompt.contains("fake")));
}

#[test]
fn text_follows_the_schema_it_was_asked_for() {
    let server = Setup::default().serve();
    let schema = json!({"type": "object", "properties": {"ok": {"type": "boolean"}, "n": {"enum": [1, 2, 3]}},
        "required": ["ok", "n"], "additionalProperties": false});
    let format =
        json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": true}});
    let body = with(hello(), json!({"response_format": format, "max_tokens": 100, "temperature": 1}));
    let answer = server.post("/v1/chat/completions", &body).ok();
    assert_eq!(answer["choices"][0]["finish_reason"], "stop", "{answer}");
    let text = answer["choices"][0]["message"]["content"].as_str().expect("text");
    let value: Value = serde_json::from_str(text).expect("it is JSON");
    assert!(value["ok"].is_boolean() && [json!(1), json!(2), json!(3)].contains(&value["n"]), "{value}");
    let bad = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nothing"}}});
    let refused = server.post("/v1/chat/completions", &with(hello(), json!({"response_format": bad})));
    assert_eq!(refused.status, 400);
    let param = refused.json()["error"]["param"].to_string();
    assert!(param.contains("response_format.json_schema.schema"), "{param}");
}

#[test]
fn tokens_go_there_and_back() {
    let server = Setup::default().serve();
    // The tiny vocabulary spells spaces by their mark.
    let text = "▁Grüße,世界<s>";
    let ids = server.post("/tokenize", &json!({"content": &text["▁".len()..], "parse_special": false})).ok();
    let back = server.post("/detokenize", &ids).ok();
    assert_eq!(back["content"], text);
    let pieces = server.post("/tokenize", &json!({"content": "a世", "with_pieces": true})).ok();
    let pieces = pieces["tokens"].as_array().expect("tokens");
    assert!(pieces.iter().any(|piece| piece["piece"].is_array()), "half characters are bytes: {pieces:?}");
    let models = server.get("/v1/models").ok();
    assert_eq!(models["data"][0]["id"], "fake");
    assert_eq!(server.get("/v1/models/fake").ok()["object"], "model");
    assert_eq!(server.get("/v1/models/other").status, 404);
}

#[test]
fn anthropics_messages_are_answered_whole_and_as_events() {
    let server = Setup::default().serve();
    let body = json!({"model": "x", "max_tokens": 6, "temperature": 0, "system": "Be brief.",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]});
    let whole = server.post("/v1/messages", &body).ok();
    insta::assert_snapshot!(pretty(&settled(whole.clone())));
    let reply = server.post("/v1/messages", &with(body.clone(), json!({"stream": true})));
    let events = reply.events();
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(kinds[..3], ["message_start", "content_block_start", "ping"]);
    assert_eq!(kinds[kinds.len() - 3..], ["content_block_stop", "message_delta", "message_stop"]);
    let text: String = events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
    assert_eq!(text, whole["content"][0]["text"]);
    let counted = server.post("/v1/messages/count_tokens", &body).ok();
    let usage = &whole["usage"];
    let sum = usage["input_tokens"].as_u64().expect("a number")
        + usage["cache_read_input_tokens"].as_u64().expect("a number");
    assert_eq!(counted["input_tokens"], sum);
    let refused = server.post("/v1/messages", &json!({"messages": []}));
    assert_eq!((refused.status, &refused.json()["type"]), (400, &json!("error")));
}

#[test]
fn health_and_metrics_count_what_was_done() {
    let server = Setup::default().serve();
    server.post("/v1/chat/completions", &hello()).ok();
    server.post("/v1/chat/completions", &json!({}));
    let health = server.get("/health").ok();
    for name in
        ["status", "uptime_s", "total_requests", "avg_tok_s", "kv_cache_tokens_used", "queued", "running"]
    {
        assert!(!health[name].is_null(), "{name}: {health}");
    }
    assert_eq!((&health["status"], &health["total_requests"]), (&json!("ready"), &json!(1)));
    let page = server.get("/metrics");
    assert_eq!(page.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let page = page.text();
    for line in [
        "jetson_llm_requests_total 1",
        "jetson_llm_generated_tokens_total 6",
        "jetson_llm_first_token_seconds_count 1",
        "jetson_llm_between_tokens_seconds_bucket{le=\"+Inf\"} 5",
        "jetson_llm_answers_total{end=\"completed\"} 1",
        "jetson_llm_http_responses_total{status=\"400\"} 1",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
    }
}
