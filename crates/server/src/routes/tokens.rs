//! Text to tokens and back, without the model.

use crate::app::App;
use crate::ask::{anthropic, chat, check_bytes, content, sampling};
use crate::body::parsed;
use crate::error::{Refusal, json_response};
use crate::fields::Fields;
use crate::model::Model;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::sync::Arc;
use text::EncodeOptions;

/// More text than anybody tokenizes in one request, as a multiple of the context.
const CONTEXTS: usize = 16;

async fn answer(
    State(app): State<Arc<App>>,
    request: Request,
    make: fn(&Value, &Model) -> Result<Value, Refusal>,
) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let (_, value) = parsed(&app, &parts.headers, body, make).await?;
    Ok(json_response(StatusCode::OK, &value))
}

pub(crate) async fn tokenize(state: State<Arc<App>>, request: Request) -> Response {
    let make = |value: &Value, model: &Model| {
        let fields = Fields::of(value, "")?;
        fields.need("content")?;
        let text = fields.string("content")?.unwrap_or_default();
        check_bytes(text.len() / CONTEXTS, model, "content")?;
        let options = EncodeOptions {
            bos: fields.bool("add_special")?.unwrap_or(false),
            special: fields.bool("parse_special")?.unwrap_or(true),
        };
        let ids = model.tokenizer.encode_vec(text, options);
        if !fields.bool("with_pieces")?.unwrap_or(false) {
            return Ok(json!({"tokens": ids}));
        }
        let piece = |&id: &u32| {
            let bytes = model.tokenizer.bytes(id);
            // Half characters are no strings.
            let piece = std::str::from_utf8(bytes).map_or_else(|_| json!(bytes), |text| json!(text));
            json!({"id": id, "piece": piece})
        };
        Ok(json!({"tokens": ids.iter().map(piece).collect::<Vec<_>>()}))
    };
    answer(state, request, make).await.unwrap_or_else(IntoResponse::into_response)
}

pub(crate) async fn detokenize(state: State<Arc<App>>, request: Request) -> Response {
    let make = |value: &Value, model: &Model| {
        let fields = Fields::of(value, "")?;
        fields.need("tokens")?;
        let ids = sampling::ids(fields.array("tokens")?.map_or(&[], |list| list), "tokens", model)?;
        Ok(json!({"content": model.tokenizer.decode(&ids)}))
    };
    answer(state, request, make).await.unwrap_or_else(IntoResponse::into_response)
}

pub(crate) async fn apply_template(state: State<Arc<App>>, request: Request) -> Response {
    let make = |value: &Value, model: &Model| {
        let fields = Fields::of(value, "")?;
        let messages = content::messages(fields.need("messages")?, "messages", model.service.context())?;
        let prompt = chat::rendered(&fields, model, messages)?;
        Ok(json!({"prompt": prompt.text()}))
    };
    answer(state, request, make).await.unwrap_or_else(IntoResponse::into_response)
}

pub(crate) async fn count(state: State<Arc<App>>, request: Request) -> Response {
    let make =
        |value: &Value, model: &Model| Ok(json!({"input_tokens": anthropic::prompt(value, model)?.len()}));
    let done = answer(state, request, make).await;
    done.unwrap_or_else(|refusal| refusal.with_body(&refusal.anthropic_body()))
}
