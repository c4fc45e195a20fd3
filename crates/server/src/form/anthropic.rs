//! Anthropic's messages.

use super::{Form, Usage};
use crate::app::Stamp;
use crate::error::Refusal;
use crate::model::Model;
use crate::stream::event;
use crate::submitted::{Answers, Finish, Told, Whole};
use serde_json::{Value, json};
use std::sync::Arc;

/// Which stop string it was is not known, so a stop is always the end of the turn.
fn reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "end_turn",
        Finish::Length => "max_tokens",
    }
}

/// What was found in the cache is counted apart.
fn usage_json(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.prompt.saturating_sub(usage.cached),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.generated,
    })
}

/// The answer at once.
pub(crate) fn whole(model: &Model, stamp: &Stamp, usage: Usage, whole: &Whole) -> Value {
    json!({
        "id": stamp.id("msg_"),
        "type": "message",
        "role": "assistant",
        "model": model.name,
        "content": [{"type": "text", "text": whole.text}],
        "stop_reason": reason(whole.finish),
        "stop_sequence": null,
        "usage": usage_json(usage),
    })
}

/// The answer as it comes.
pub(crate) struct Events {
    model: Arc<Model>,
    stamp: Stamp,
    usage: Usage,
}

impl Events {
    pub(crate) fn new(model: Arc<Model>, stamp: Stamp, answers: &Answers) -> Events {
        Events { model, stamp, usage: Usage::of(answers) }
    }
}

impl Form for Events {
    fn begin(&mut self, _out: &mut Vec<u8>) {}

    fn told(&mut self, index: usize, told: Told, out: &mut Vec<u8>) {
        match told {
            Told::Started { cached } => {
                self.usage.started(index, 1, cached);
                let message = json!({
                    "id": self.stamp.id("msg_"),
                    "type": "message",
                    "role": "assistant",
                    "model": self.model.name,
                    "content": [],
                    "stop_reason": null,
                    "stop_sequence": null,
                    "usage": usage_json(self.usage),
                });
                event(out, "message_start", &json!({"type": "message_start", "message": message}));
                let block = json!({"type": "text", "text": ""});
                let start = json!({"type": "content_block_start", "index": 0, "content_block": block});
                event(out, "content_block_start", &start);
                event(out, "ping", &json!({"type": "ping"}));
            }
            Told::Text(text) => {
                let delta = json!({"type": "text_delta", "text": text});
                let body = json!({"type": "content_block_delta", "index": 0, "delta": delta});
                event(out, "content_block_delta", &body);
            }
            Told::Token { .. } | Told::Ended(..) => {}
        }
    }

    fn ended(&mut self, _index: usize, finish: Finish, generated: usize, out: &mut Vec<u8>) {
        self.usage.generated = generated;
        event(out, "content_block_stop", &json!({"type": "content_block_stop", "index": 0}));
        let body = json!({
            "type": "message_delta",
            "delta": {"stop_reason": reason(finish), "stop_sequence": null},
            "usage": usage_json(self.usage),
        });
        event(out, "message_delta", &body);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        event(out, "message_stop", &json!({"type": "message_stop"}));
    }

    fn failed(&mut self, refusal: &Refusal, out: &mut Vec<u8>) {
        event(out, "error", &refusal.anthropic_body());
    }
}
