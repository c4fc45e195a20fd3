//! `/v1/models`: the one model there is.

use crate::app::App;
use crate::error::{Refusal, json_response};
use crate::model::Model;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::sync::Arc;

fn described(model: &Model) -> Value {
    json!({
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "jetson-llm",
        "meta": {"n_vocab": model.service.vocab(), "n_ctx": model.service.context()},
    })
}

pub(crate) async fn list(State(app): State<Arc<App>>) -> Response {
    match app.model() {
        Ok(model) => json_response(StatusCode::OK, &json!({"object": "list", "data": [described(model)]})),
        Err(refusal) => refusal.into_response(),
    }
}

pub(crate) async fn one(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response {
    match app.model() {
        Ok(model) if model.name == id => json_response(StatusCode::OK, &described(model)),
        Ok(model) => {
            let shown: String = id.chars().take(100).collect();
            let message =
                format!("there is no model {}; this server has {}", shown.escape_debug(), model.name);
            Refusal::new(StatusCode::NOT_FOUND, "model_not_found", message).at("model").into_response()
        }
        Err(refusal) => refusal.into_response(),
    }
}
