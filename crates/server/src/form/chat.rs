//! OpenAI's chat completions.

use super::{Form, Usage};
use crate::app::Stamp;
use crate::error::Refusal;
use crate::model::Model;
use crate::stream::{DONE, data, failed};
use crate::submitted::{Answers, Finish, Told, Whole};
use serde_json::{Value, json};
use std::sync::Arc;

/// A token with its log-probability.
fn logprob(model: &Model, (id, logprob): (u32, f32)) -> Value {
    let bytes = model.tokenizer.bytes(id);
    json!({
        "token": String::from_utf8_lossy(bytes),
        // JSON has no infinities.
        "logprob": if logprob.is_finite() { logprob } else { -9999.0 },
        "bytes": bytes,
        "top_logprobs": [],
    })
}

/// `logprobs` of a choice. End tokens are no part of the text.
fn logprobs(model: &Model, asked: bool, tokens: &[(u32, f32)]) -> Value {
    if !asked {
        return Value::Null;
    }
    let told = tokens.iter().filter(|(id, _)| !model.tokenizer.is_end(*id));
    json!({"content": told.map(|&token| logprob(model, token)).collect::<Vec<_>>(), "refusal": null})
}

/// All answers at once.
pub(crate) fn whole(model: &Model, stamp: &Stamp, usage: Usage, asked: bool, wholes: &[Whole]) -> Value {
    let choice = |(index, whole): (usize, &Whole)| {
        json!({
            "index": index,
            "message": {"role": "assistant", "content": whole.text, "refusal": null, "annotations": []},
            "logprobs": logprobs(model, asked, &whole.tokens),
            "finish_reason": whole.finish.name(),
        })
    };
    json!({
        "id": stamp.id("chatcmpl-"),
        "object": "chat.completion",
        "created": stamp.created,
        "model": model.name,
        "choices": wholes.iter().enumerate().map(choice).collect::<Vec<_>>(),
        "usage": usage.json(),
        "system_fingerprint": null,
        "service_tier": "default",
    })
}

/// Answers as they come.
pub(crate) struct Chunks {
    pub(crate) model: Arc<Model>,
    pub(crate) stamp: Stamp,
    pub(crate) usage: Usage,
    pub(crate) include_usage: bool,
    pub(crate) logprobs: bool,
    n: usize,
    /// Tokens whose text has not come, by answer.
    tokens: Vec<Vec<(u32, f32)>>,
}

impl Chunks {
    pub(crate) fn new(model: Arc<Model>, stamp: Stamp, answers: &Answers, ask: &crate::ask::Ask) -> Chunks {
        Chunks {
            model,
            stamp,
            usage: Usage::of(answers),
            include_usage: ask.include_usage,
            logprobs: ask.params.logprobs,
            n: answers.n,
            tokens: vec![vec![]; answers.count],
        }
    }

    fn chunk(&self, choices: &Value) -> Value {
        let mut chunk = json!({
            "id": self.stamp.id("chatcmpl-"),
            "object": "chat.completion.chunk",
            "created": self.stamp.created,
            "model": self.model.name,
            "system_fingerprint": null,
            "choices": choices,
        });
        if self.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    fn choice(&mut self, index: usize, delta: &Value, finish: Option<Finish>, out: &mut Vec<u8>) {
        let tokens = std::mem::take(&mut self.tokens[index]);
        let asked = self.logprobs && !tokens.is_empty();
        let choice = json!([{
            "index": index,
            "delta": delta,
            "logprobs": logprobs(&self.model, asked, &tokens),
            "finish_reason": finish.map(Finish::name),
        }]);
        data(out, &self.chunk(&choice));
    }
}

impl Form for Chunks {
    fn begin(&mut self, _out: &mut Vec<u8>) {}

    fn told(&mut self, index: usize, told: Told, out: &mut Vec<u8>) {
        match told {
            Told::Started { cached } => {
                self.usage.started(index, self.n, cached);
                self.choice(index, &json!({"role": "assistant", "content": "", "refusal": null}), None, out);
            }
            Told::Token { id, logprob } => self.tokens[index].push((id, logprob.unwrap_or(0.0))),
            Told::Text(text) => self.choice(index, &json!({"content": text}), None, out),
            Told::Ended(..) => {}
        }
    }

    fn ended(&mut self, index: usize, finish: Finish, generated: usize, out: &mut Vec<u8>) {
        self.usage.generated += generated;
        self.choice(index, &json!({}), Some(finish), out);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if self.include_usage {
            let mut chunk = self.chunk(&json!([]));
            chunk["usage"] = self.usage.json();
            data(out, &chunk);
        }
        out.extend_from_slice(DONE);
    }

    fn failed(&mut self, refusal: &Refusal, out: &mut Vec<u8>) {
        failed(out, refusal);
    }
}
