//! OpenAI's older completions: text that follows a prompt.

use super::{Form, Usage};
use crate::app::Stamp;
use crate::ask::Ask;
use crate::error::Refusal;
use crate::model::Model;
use crate::stream::{DONE, data, failed};
use crate::submitted::{Answers, Finish, Told, Whole};
use serde_json::{Value, json};
use std::sync::Arc;

/// `logprobs` of a choice whose tokens begin at character `offset`.
fn logprobs(model: &Model, asked: bool, tokens: &[(u32, f32)], offset: usize) -> Value {
    if !asked {
        return Value::Null;
    }
    let (mut names, mut values, mut offsets, mut top) = (vec![], vec![], vec![], vec![]);
    let mut at = offset;
    for &(id, logprob) in tokens.iter().filter(|(id, _)| !model.tokenizer.is_end(*id)) {
        let name = String::from_utf8_lossy(model.tokenizer.bytes(id)).into_owned();
        let value = if logprob.is_finite() { logprob } else { -9999.0 };
        offsets.push(at);
        at += name.chars().count();
        top.push(json!({ name.as_str(): value }));
        names.push(name);
        values.push(value);
    }
    json!({"tokens": names, "token_logprobs": values, "top_logprobs": top, "text_offset": offsets})
}

/// All answers at once.
pub(crate) fn whole(model: &Model, stamp: &Stamp, usage: Usage, ask: &Ask, wholes: &[Whole]) -> Value {
    let choice = |(index, whole): (usize, &Whole)| {
        let echo = ask.echo.as_ref().map_or("", |echo| &echo[index / ask.n]);
        json!({
            "text": format!("{echo}{}", whole.text),
            "index": index,
            "logprobs": logprobs(model, ask.params.logprobs, &whole.tokens, 0),
            "finish_reason": whole.finish.name(),
        })
    };
    json!({
        "id": stamp.id("cmpl-"),
        "object": "text_completion",
        "created": stamp.created,
        "model": model.name,
        "choices": wholes.iter().enumerate().map(choice).collect::<Vec<_>>(),
        "usage": usage.json(),
        "system_fingerprint": null,
    })
}

/// Answers as they come.
pub(crate) struct Chunks {
    model: Arc<Model>,
    stamp: Stamp,
    usage: Usage,
    include_usage: bool,
    logprobs: bool,
    n: usize,
    echo: Option<Vec<String>>,
    /// Tokens whose text has not come, by answer.
    tokens: Vec<Vec<(u32, f32)>>,
    /// Characters so far, by answer.
    written: Vec<usize>,
}

impl Chunks {
    pub(crate) fn new(model: Arc<Model>, stamp: Stamp, answers: &Answers, ask: &Ask) -> Chunks {
        Chunks {
            model,
            stamp,
            usage: Usage::of(answers),
            include_usage: ask.include_usage,
            logprobs: ask.params.logprobs,
            n: answers.n,
            echo: ask.echo.clone(),
            tokens: vec![vec![]; answers.count],
            written: vec![0; answers.count],
        }
    }

    fn chunk(&self, choices: &Value) -> Value {
        let mut chunk = json!({
            "id": self.stamp.id("cmpl-"),
            "object": "text_completion",
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

    fn choice(&mut self, index: usize, text: &str, finish: Option<Finish>, out: &mut Vec<u8>) {
        let tokens = std::mem::take(&mut self.tokens[index]);
        let asked = self.logprobs && !tokens.is_empty();
        let choice = json!([{
            "text": text,
            "index": index,
            "logprobs": logprobs(&self.model, asked, &tokens, self.written[index]),
            "finish_reason": finish.map(Finish::name),
        }]);
        self.written[index] += text.chars().count();
        data(out, &self.chunk(&choice));
    }
}

impl Form for Chunks {
    fn begin(&mut self, _out: &mut Vec<u8>) {}

    fn told(&mut self, index: usize, told: Told, out: &mut Vec<u8>) {
        match told {
            Told::Started { cached } => {
                self.usage.started(index, self.n, cached);
                let echo = self.echo.as_ref().map(|echo| echo[index / self.n].clone());
                if let Some(echo) = echo {
                    self.choice(index, &echo, None, out);
                }
            }
            Told::Token { id, logprob } => self.tokens[index].push((id, logprob.unwrap_or(0.0))),
            Told::Text(text) => self.choice(index, &text, None, out),
            Told::Ended(..) => {}
        }
    }

    fn ended(&mut self, index: usize, finish: Finish, generated: usize, out: &mut Vec<u8>) {
        self.usage.generated += generated;
        self.choice(index, "", Some(finish), out);
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
