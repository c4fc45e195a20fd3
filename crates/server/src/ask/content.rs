//! What messages say. Roles are of a fixed list: templates make control tokens of their names.

use crate::error::Refusal;
use crate::fields::{Fields, wrong};
use serde_json::{Map, Value};
use text::chat::Message;

/// What a client may call the sender of a message, and what templates know it by.
const ROLES: [(&str, &str); 4] =
    [("system", "system"), ("developer", "system"), ("user", "user"), ("assistant", "assistant")];

/// Reads `messages`.
pub(crate) fn messages(list: &Value, path: &str, most: usize) -> Result<Vec<Message>, Refusal> {
    let Value::Array(list) = list else { return Err(wrong(path, list, "an array")) };
    if list.is_empty() {
        return Err(Refusal::field(path, format!("{path} is empty; give at least one message")));
    }
    if list.len() > most {
        let message = format!("{path} has {} messages, which {most} positions cannot hold", list.len());
        return Err(Refusal::field(path, message));
    }
    list.iter().enumerate().map(|(i, value)| message(value, format!("{path}[{i}]"))).collect()
}

fn message(value: &Value, path: String) -> Result<Message, Refusal> {
    let fields = Fields::of(value, path)?;
    fields.need("role")?;
    let role = fields.string("role")?.unwrap_or_default();
    let path = fields.path("role");
    if matches!(role, "tool" | "function") {
        return Err(Refusal::unsupported(
            path,
            format!("role \"{role}\" is not supported: this server has no tools yet"),
        ));
    }
    let Some(&(_, role)) = ROLES.iter().find(|(name, _)| *name == role) else {
        let shown: String = role.chars().take(40).collect();
        let names = ROLES.map(|(name, _)| name).join(", ");
        let message = format!("{path} is \"{}\", but must be one of {names}", shown.escape_debug());
        return Err(Refusal::field(path, message));
    };
    for name in ["tool_calls", "function_call", "audio"] {
        fields.refuse(name, "this server takes and gives text only")?;
    }
    let content = match fields.get("content") {
        Some(content) => text(content, &fields.path("content"))?,
        // An assistant that only reasoned, or refused.
        None if role == "assistant" => fields.string("refusal")?.unwrap_or_default().to_owned(),
        None => return Err(fields.need("content").err().unwrap_or_else(|| Refusal::internal("no content"))),
    };
    let mut kept = Map::new();
    kept.insert("role".into(), role.into());
    kept.insert("content".into(), content.into());
    if role == "assistant"
        && let Some(reasoning) = fields.string("reasoning_content")?
    {
        kept.insert("reasoning_content".into(), reasoning.into());
    }
    if let Some(name) = fields.string("name")? {
        kept.insert("name".into(), name.into());
    }
    Ok(kept.into())
}

/// Text, or parts of it, put together.
pub(crate) fn text(content: &Value, path: &str) -> Result<String, Refusal> {
    let parts = match content {
        Value::String(text) => return Ok(text.clone()),
        Value::Array(parts) => parts,
        other => return Err(wrong(path, other, "a string or an array of parts")),
    };
    let mut text = String::new();
    for (i, part) in parts.iter().enumerate() {
        let fields = Fields::of(part, format!("{path}[{i}]"))?;
        fields.need("type")?;
        let name = match fields.string("type")?.unwrap_or_default() {
            "text" | "input_text" | "output_text" => "text",
            "refusal" => "refusal",
            other => {
                let shown: String = other.chars().take(40).collect();
                let path = fields.path("type");
                let message = format!(
                    "{path} is \"{}\", which is not supported: this server takes text only",
                    shown.escape_debug()
                );
                return Err(Refusal::unsupported(path, message));
            }
        };
        fields.need(name)?;
        text.push_str(fields.string(name)?.unwrap_or_default());
    }
    Ok(text)
}
