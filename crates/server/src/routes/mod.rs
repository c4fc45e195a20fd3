//! The routes, one file a kind.

mod generate;
mod health;
mod metrics;
mod models;
mod tokens;

use crate::app::App;
use crate::error::Refusal;
use crate::gate;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};
use std::sync::Arc;

/// Everything the server answers to.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/health", get(health::health))
        .route("/metrics", get(metrics::metrics))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::one))
        .route("/v1/chat/completions", post(generate::chat))
        .route("/v1/completions", post(generate::completion))
        .route("/v1/messages", post(generate::messages))
        .route("/v1/messages/count_tokens", post(tokens::count))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/apply-template", post(tokens::apply_template))
        .fallback(|| async {
            Refusal::new(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path; see docs/api.md")
        })
        .method_not_allowed_fallback(|| async {
            let message = "this path takes another method; the Allow header says which";
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
        })
        .layer(axum::middleware::from_fn_with_state(app.clone(), gate::gate))
        .with_state(app)
}
