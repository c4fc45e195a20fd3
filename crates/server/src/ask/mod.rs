//! From a request's JSON to what the engine is asked: messages, prompts, settings.
//!
//! Unknown fields are ignored, as clients of many servers expect. A field that is known and asks for what cannot
//! be is refused with its path; so is one that asks for what this server does not do, by name.

pub(crate) mod anthropic;
pub(crate) mod chat;
pub(crate) mod completion;
pub(crate) mod content;
pub(crate) mod rules;
pub(crate) mod sampling;

use crate::error::Refusal;
use crate::fields::Fields;
use crate::model::Model;
use axum::http::StatusCode;
use engine::Params;

/// Most characters of a conversation's name.
const CONVERSATION: usize = 128;

/// What every kind of request comes to.
pub(crate) struct Ask {
    /// Prompts in tokens; each gets `n` answers.
    pub(crate) prompts: Vec<Vec<u32>>,
    /// Settings of the first answer; the others have seeds of their own.
    pub(crate) params: Params,
    pub(crate) n: usize,
    pub(crate) stream: bool,
    /// Whether a stream ends with a count of tokens.
    pub(crate) include_usage: bool,
    pub(crate) conversation: Option<String>,
    /// Text to put before each answer, one a prompt.
    pub(crate) echo: Option<Vec<String>>,
}

impl Ask {
    /// Settings of an answer to any of the prompts.
    pub(crate) fn params(&self, answer: usize) -> Params {
        let mut params = self.params.clone();
        params.sampling.seed = params.sampling.seed.wrapping_add(answer as u64);
        params
    }
}

/// Whether a name of a conversation can be kept.
pub(crate) fn conversation(name: &str, path: &str) -> Result<String, Refusal> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    if (1..=CONVERSATION).contains(&name.len()) && name.chars().all(plain) {
        return Ok(name.to_owned());
    }
    let message =
        format!("{path} must be 1 to {CONVERSATION} letters, digits, hyphens, dots, colons or underscores");
    Err(Refusal::field(path, message))
}

/// The fields that every kind of generation has.
pub(crate) struct Common {
    pub(crate) n: usize,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    pub(crate) conversation: Option<String>,
}

/// Reads them.
pub(crate) fn common(fields: &Fields, model: &Model) -> Result<Common, Refusal> {
    let parallel = model.service.settings().parallel;
    let n = fields.integer("n", 1..=128)?.map_or(1, |n| n as usize);
    if n > parallel {
        let message = format!(
            "n is {n}, but this server generates {parallel} answers at a time; ask for fewer, or start it with a \
             larger --parallel"
        );
        return Err(Refusal::field("n", message));
    }
    let stream = fields.bool("stream")?.unwrap_or(false);
    let include_usage = match fields.object("stream_options")? {
        Some(options) if stream => options.bool("include_usage")?.unwrap_or(false),
        Some(options) => {
            options.bool("include_usage")?;
            false
        }
        None => false,
    };
    let named = fields.string("conversation_id")?;
    let conversation = named.map(|name| conversation(name, "conversation_id")).transpose()?;
    Ok(Common { n, stream, include_usage, conversation })
}

/// Refuses a text that cannot fit whatever its tokens are, before any work is put into it.
pub(crate) fn check_bytes(bytes: usize, model: &Model, path: &str) -> Result<(), Refusal> {
    let tokens = bytes / model.longest_token.max(1);
    if tokens >= model.service.context() { Err(too_long(tokens, true, model, path)) } else { Ok(()) }
}

/// Refuses a prompt that leaves no room for an answer.
pub(crate) fn check_prompt(ids: &[u32], model: &Model, path: &str) -> Result<(), Refusal> {
    if ids.is_empty() {
        return Err(Refusal::field(path, format!("{path} has no tokens; give at least one")));
    }
    if ids.len() >= model.service.context() {
        return Err(too_long(ids.len(), false, model, path));
    }
    Ok(())
}

fn too_long(tokens: usize, at_least: bool, model: &Model, path: &str) -> Refusal {
    let context = model.service.context();
    let more = if at_least { "at least " } else { "" };
    let message = format!(
        "the prompt has {more}{tokens} tokens, and the context {context} for prompt and answer together; shorten it, \
         or start the server with a larger --ctx-size"
    );
    Refusal::new(StatusCode::BAD_REQUEST, "context_length_exceeded", message).at(path)
}
