//! `/v1/chat/completions`.

use super::{Ask, check_bytes, check_prompt, common, content, rules, sampling};
use crate::error::Refusal;
use crate::fields::{Fields, wrong};
use crate::model::Model;
use engine::Params;
use serde_json::{Map, Value};
use text::chat::Message;

/// Reads a request for an answer to messages.
pub(crate) fn ask(value: &Value, model: &Model) -> Result<Ask, Refusal> {
    let fields = Fields::of(value, "")?;
    fields.string("model")?;
    refuse_what_is_not_there(&fields)?;
    let shared = common(&fields, model)?;
    let max_tokens = sampling::max_tokens(&fields, &["max_completion_tokens", "max_tokens"], 1)?;
    let logprobs = fields.bool("logprobs")?.unwrap_or(false);
    if fields.integer("top_logprobs", 0..=20)?.unwrap_or(0) > 0 {
        let why =
            "top_logprobs is not supported: only the chosen token's log-probability is known; leave it out";
        return Err(Refusal::unsupported("top_logprobs", why));
    }
    let mut params = sampling::params(&fields, model)?;
    let prompt = prompt(&fields, model)?;
    params = Params { max_tokens, logprobs, rules: rules::rules(&fields, model)?, ..params };
    Ok(Ask {
        prompts: vec![prompt],
        params,
        n: shared.n,
        stream: shared.stream,
        include_usage: shared.include_usage,
        conversation: shared.conversation,
        echo: None,
    })
}

/// What OpenAI's servers do and this one does not.
fn refuse_what_is_not_there(fields: &Fields) -> Result<(), Refusal> {
    if fields.get("tool_choice").and_then(Value::as_str) != Some("none") {
        let why = "this server does not call tools yet; leave it out, or set tool_choice to \"none\"";
        fields.refuse("tools", why)?;
        fields.refuse("functions", why)?;
    }
    fields.refuse("audio", "this server writes text only")?;
    fields.refuse("web_search_options", "this server does not search the web")?;
    if let Some(list) = fields.array("modalities")?
        && let Some(at) = list.iter().position(|value| value.as_str() != Some("text"))
    {
        let path = format!("modalities[{at}]");
        return Err(Refusal::unsupported(path.clone(), format!("{path} is not supported: only \"text\" is")));
    }
    Ok(())
}

/// The tokens that ask for an answer to the messages of a request.
pub(crate) fn prompt(fields: &Fields, model: &Model) -> Result<Vec<u32>, Refusal> {
    let messages = content::messages(fields.need("messages")?, "messages", model.service.context())?;
    let ids = model.encode(&rendered(fields, model, messages)?);
    check_prompt(&ids, model, "messages")?;
    Ok(ids)
}

/// The same as text.
pub(crate) fn rendered(
    fields: &Fields,
    model: &Model,
    mut messages: Vec<Message>,
) -> Result<text::chat::Prompt, Refusal> {
    let mut arguments = Map::new();
    match fields.get("chat_template_kwargs") {
        None => {}
        Some(Value::Object(map)) => arguments.clone_from(map),
        Some(other) => return Err(wrong("chat_template_kwargs", other, "an object")),
    }
    if let Some(effort) = fields.string("reasoning_effort")? {
        let known = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];
        if !known.contains(&effort) {
            let message = format!("reasoning_effort must be one of {}", known.join(", "));
            return Err(Refusal::field("reasoning_effort", message));
        }
        arguments.entry("reasoning_effort").or_insert_with(|| effort.into());
    }
    if let Some(system) = &model.system
        && messages.first().and_then(Message::role) != Some("system")
    {
        messages.insert(0, Message::system(system.clone()));
    }
    let bytes = messages.iter().filter_map(Message::content).map(str::len).sum();
    check_bytes(bytes, model, "messages")?;
    model.render(&messages, arguments).map_err(|error| {
        let at = if matches!(error, text::chat::Error::Reserved { .. }) {
            "chat_template_kwargs"
        } else {
            "messages"
        };
        Refusal::field(at, error.to_string())
    })
}
