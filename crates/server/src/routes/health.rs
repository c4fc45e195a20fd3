//! `/health`: whether the server serves, in numbers a person reads too.

use crate::app::{App, Phase};
use crate::error::json_response;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub(crate) async fn health(State(app): State<Arc<App>>) -> Response {
    let phase = app.phase();
    let status = if phase == Phase::Ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut body = json!({
        "status": phase.name(),
        "uptime_s": app.started.elapsed().as_secs(),
        "total_requests": 0,
        "avg_tok_s": 0.0,
        "kv_cache_tokens_used": 0,
        "queued": 0,
        "running": 0,
        "connections": app.connections.load(Ordering::Relaxed),
        "memory_bytes": memory(),
    });
    if let Some(model) = app.loaded() {
        let metrics = model.service.metrics();
        body["total_requests"] = metrics.requests.get().into();
        body["avg_tok_s"] = ((metrics.tokens_per_second() * 100.0).round() / 100.0).into();
        body["kv_cache_tokens_used"] = metrics.cache_tokens.get().into();
        body["queued"] = metrics.queued.get().into();
        body["running"] = metrics.running.get().into();
        body["kv_cache_tokens_total"] = model.cache.into();
        body["parallel"] = model.service.settings().parallel.into();
        body["queue"] = model.service.settings().queue.into();
        body["model"] = model.name.clone().into();
    }
    json_response(status, &body)
}

/// Memory this process takes, if the system says.
pub(super) fn memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = status.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
