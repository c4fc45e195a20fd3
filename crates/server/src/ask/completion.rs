//! `/v1/completions`: text as it stands, without a template.

use super::{Ask, check_bytes, check_prompt, common, rules, sampling};
use crate::error::Refusal;
use crate::fields::{Fields, wrong};
use crate::model::Model;
use engine::Params;
use serde_json::Value;
use text::EncodeOptions;

/// Most prompts of one request.
const PROMPTS: usize = 64;

/// Reads a request for text that follows a prompt.
pub(crate) fn ask(value: &Value, model: &Model) -> Result<Ask, Refusal> {
    let fields = Fields::of(value, "")?;
    fields.string("model")?;
    fields.refuse("suffix", "this server completes at the end only")?;
    let shared = common(&fields, model)?;
    if let Some(best_of) = fields.integer("best_of", 0..=20)?
        && best_of > shared.n as i128
    {
        let why = format!("best_of is {best_of}, which is not supported: it must be at most n, {}", shared.n);
        return Err(Refusal::unsupported("best_of", why));
    }
    let logprobs = fields.integer("logprobs", 0..=5)?;
    if logprobs.is_some_and(|most| most > 0) {
        let why = "logprobs above 0 are not supported: only the chosen token's log-probability is known";
        return Err(Refusal::unsupported("logprobs", why));
    }
    let echo = fields.bool("echo")?.unwrap_or(false);
    if echo && logprobs.is_some() {
        let why = "echo with logprobs is not supported: log-probabilities of the prompt are not computed";
        return Err(Refusal::unsupported("echo", why));
    }
    let params = sampling::params(&fields, model)?;
    let max_tokens = sampling::max_tokens(&fields, &["max_tokens"], 0)?.unwrap_or(16);
    let prompts = prompts(&fields, model)?;
    let echo = echo.then(|| prompts.iter().map(|prompt| model.tokenizer.decode(prompt)).collect());
    let params = Params {
        max_tokens: Some(max_tokens),
        logprobs: logprobs.is_some(),
        rules: rules::rules(&fields, model)?,
        ..params
    };
    Ok(Ask {
        prompts,
        params,
        n: shared.n,
        stream: shared.stream,
        include_usage: shared.include_usage,
        conversation: shared.conversation,
        echo,
    })
}

/// A string, strings, tokens, or lists of tokens.
fn prompts(fields: &Fields, model: &Model) -> Result<Vec<Vec<u32>>, Refusal> {
    let text = |text: &str, path: &str| {
        check_bytes(text.len(), model, path)?;
        // The client writes the whole prompt, as those of other servers do: control tokens too.
        let options = EncodeOptions { bos: model.tokenizer.add_bos(), special: true };
        let ids = model.tokenizer.encode_vec(text, options);
        check_prompt(&ids, model, path)?;
        Ok(ids)
    };
    let tokens = |list: &[Value], path: &str| {
        if list.len() >= model.service.context() {
            check_bytes(list.len().saturating_mul(model.longest_token), model, path)?;
        }
        let ids = sampling::ids(list, path, model)?;
        check_prompt(&ids, model, path)?;
        Ok(ids)
    };
    let want = "a string, an array of strings, an array of tokens or an array of those";
    match fields.need("prompt")? {
        Value::String(prompt) => Ok(vec![text(prompt, "prompt")?]),
        Value::Array(list) if list.is_empty() => {
            Err(Refusal::field("prompt", "prompt is empty; give at least one"))
        }
        Value::Array(list) if list.iter().all(Value::is_number) => Ok(vec![tokens(list, "prompt")?]),
        Value::Array(list) if list.len() > PROMPTS => {
            let message = format!("prompt has {} prompts, but may have {PROMPTS}", list.len());
            Err(Refusal::field("prompt", message))
        }
        Value::Array(list) => {
            let one = |(i, value): (usize, &Value)| {
                let path = format!("prompt[{i}]");
                match value {
                    Value::String(prompt) => text(prompt, &path),
                    Value::Array(list) => tokens(list, &path),
                    other => Err(wrong(&path, other, "a string or an array of tokens")),
                }
            };
            list.iter().enumerate().map(one).collect()
        }
        other => Err(wrong("prompt", other, want)),
    }
}
