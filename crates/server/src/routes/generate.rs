//! Whatever makes the model write.

use crate::app::App;
use crate::ask::{self, Ask, anthropic, chat, completion};
use crate::body::parsed;
use crate::error::{Refusal, json_response};
use crate::form::{self, Form, Usage};
use crate::model::Model;
use crate::stream;
use crate::submitted::submit;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use std::sync::Arc;

/// The header that names a conversation where the body does not.
const CONVERSATION: &str = "x-conversation-id";

/// Which interface a request speaks.
#[derive(Clone, Copy)]
enum Interface {
    Chat,
    Completion,
    Messages,
}

pub(crate) async fn chat(state: State<Arc<App>>, request: Request) -> Response {
    generate(state, request, Interface::Chat).await.unwrap_or_else(IntoResponse::into_response)
}

pub(crate) async fn completion(state: State<Arc<App>>, request: Request) -> Response {
    generate(state, request, Interface::Completion).await.unwrap_or_else(IntoResponse::into_response)
}

pub(crate) async fn messages(state: State<Arc<App>>, request: Request) -> Response {
    let done = generate(state, request, Interface::Messages).await;
    done.unwrap_or_else(|refusal| refusal.with_body(&refusal.anthropic_body()))
}

async fn generate(
    State(app): State<Arc<App>>,
    request: Request,
    interface: Interface,
) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let named = conversation(&parts.headers)?;
    let make = move |value: &Value, model: &Model| match interface {
        Interface::Chat => chat::ask(value, model),
        Interface::Completion => completion::ask(value, model),
        Interface::Messages => anthropic::ask(value, model),
    };
    let (model, mut ask) = parsed(&app, &parts.headers, body, make).await?;
    ask.conversation = ask.conversation.or(named);
    let answers = submit(&model, &ask).await?;
    let stamp = app.stamp();
    if ask.stream {
        let form: Box<dyn Form> = match interface {
            Interface::Chat => Box::new(form::chat::Chunks::new(model, stamp, &answers, &ask)),
            Interface::Completion => Box::new(form::completion::Chunks::new(model, stamp, &answers, &ask)),
            Interface::Messages => Box::new(form::anthropic::Events::new(model, stamp, &answers)),
        };
        return Ok(stream::response(answers, form, app.config.ping_time));
    }
    let (usage, n) = (Usage::of(&answers), answers.n);
    let wholes = answers.all().await?;
    let usage = usage.whole(n, &wholes);
    let Ask { params, .. } = &ask;
    let body = match interface {
        Interface::Chat => form::chat::whole(&model, &stamp, usage, params.logprobs, &wholes),
        Interface::Completion => form::completion::whole(&model, &stamp, usage, &ask, &wholes),
        Interface::Messages => form::anthropic::whole(&model, &stamp, usage, &wholes[0]),
    };
    Ok(json_response(StatusCode::OK, &body))
}

fn conversation(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let Some(name) = headers.get(CONVERSATION) else { return Ok(None) };
    let name = String::from_utf8_lossy(name.as_bytes());
    ask::conversation(&name, CONVERSATION).map(Some)
}
