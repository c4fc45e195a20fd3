//! Anthropic's `/v1/messages`.

use super::{Ask, chat, check_prompt, content, conversation, sampling};
use crate::error::Refusal;
use crate::fields::{Fields, wrong};
use crate::model::Model;
use engine::Params;
use serde_json::Value;
use text::chat::Message;

/// Reads a request for an answer.
pub(crate) fn ask(value: &Value, model: &Model) -> Result<Ask, Refusal> {
    let fields = Fields::of(value, "")?;
    fields.need("max_tokens")?;
    let max_tokens = sampling::max_tokens(&fields, &["max_tokens"], 1)?;
    fields.number("temperature", 0.0..=1.0)?;
    let named = fields.string("conversation_id")?;
    let conversation = named.map(|name| conversation(name, "conversation_id")).transpose()?;
    let params = Params {
        max_tokens,
        stop: sampling::stops(&fields, "stop_sequences")?,
        ..sampling::params(&fields, model)?
    };
    Ok(Ask {
        prompts: vec![prompt(value, model)?],
        params,
        n: 1,
        stream: fields.bool("stream")?.unwrap_or(false),
        include_usage: true,
        conversation,
        echo: None,
    })
}

/// The tokens that ask for an answer.
pub(crate) fn prompt(value: &Value, model: &Model) -> Result<Vec<u32>, Refusal> {
    let fields = Fields::of(value, "")?;
    fields.string("model")?;
    if fields.object("tool_choice")?.is_none_or(|choice| choice.get("type") != Some(&"none".into())) {
        fields.refuse("tools", "this server does not call tools yet")?;
    }
    let mut messages = vec![];
    if let Some(system) = fields.get("system") {
        messages.push(Message::system(content::text(system, "system")?));
    }
    let list = fields.need("messages")?;
    let Some(list_of) = list.as_array() else { return Err(wrong("messages", list, "an array")) };
    for (i, value) in list_of.iter().enumerate() {
        let role = value.get("role").and_then(Value::as_str);
        if !matches!(role, Some("user" | "assistant")) {
            let path = format!("messages[{i}].role");
            return Err(Refusal::field(path.clone(), format!("{path} must be user or assistant")));
        }
    }
    messages.extend(content::messages(list, "messages", model.service.context())?);
    let ids = model.encode(&chat::rendered(&fields, model, messages)?);
    check_prompt(&ids, model, "messages")?;
    Ok(ids)
}
