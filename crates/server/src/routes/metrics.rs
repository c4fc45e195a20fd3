//! `/metrics`: the same for Prometheus.

use super::health;
use crate::app::{App, Phase};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use engine::service::{BOUNDS, Histogram};
use std::fmt::{Display, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Metrics in Prometheus's text format. Labels are of fixed lists: clients cannot make more of them.
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP jetson_llm_{name} {help}\n# TYPE jetson_llm_{name} {kind}");
    }

    fn value(&mut self, name: &str, value: impl Display) {
        let _ = writeln!(self.0, "jetson_llm_{name} {value}");
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "counter", help);
        self.value(name, value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "gauge", help);
        self.value(name, value);
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, "histogram", help);
        let counts = histogram.cumulative();
        for (bound, count) in BOUNDS.iter().zip(counts) {
            self.value(&format!("{name}_bucket{{le=\"{bound}\"}}"), count);
        }
        let all = counts[BOUNDS.len()];
        self.value(&format!("{name}_bucket{{le=\"+Inf\"}}"), all);
        self.value(&format!("{name}_sum"), histogram.sum());
        self.value(&format!("{name}_count"), all);
    }
}

pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let mut page = Page(String::with_capacity(8 << 10));
    page.gauge("up", "1 while requests are served.", u8::from(app.phase() == Phase::Ready));
    page.gauge("uptime_seconds", "Since the start.", app.started.elapsed().as_secs_f64());
    let connections = app.connections.load(Ordering::Relaxed);
    page.gauge("connections", "Open connections.", connections);
    if let Some(memory) = health::memory() {
        page.gauge("process_memory_bytes", "Memory of this process.", memory);
    }
    page.head("http_responses_total", "counter", "Responses by status.");
    for (status, count) in app.statuses() {
        page.value(&format!("http_responses_total{{status=\"{status}\"}}"), count);
    }
    if let Some(model) = app.loaded() {
        let m = model.service.metrics();
        page.counter("requests_total", "Requests queued.", m.requests.get());
        page.counter(
            "requests_refused_total",
            "Requests refused because the queue was full.",
            m.refused.get(),
        );
        page.head("answers_total", "counter", "Answers by how they ended.");
        let ends = [
            ("completed", &m.completed),
            ("cancelled", &m.cancelled),
            ("timeout", &m.timed_out),
            ("failed", &m.failed),
        ];
        for (end, count) in ends {
            page.value(&format!("answers_total{{end=\"{end}\"}}"), count.get());
        }
        page.counter("prompt_tokens_total", "Tokens of prompts computed.", m.prompt_tokens.get());
        let help = "Tokens of prompts found in the cache.";
        page.counter("prompt_tokens_cached_total", help, m.cached_tokens.get());
        page.counter("generated_tokens_total", "Tokens generated.", m.generated_tokens.get());
        page.counter("steps_total", "Passes over the weights.", m.steps.get());
        page.counter("cache_evictions_total", "Idle sequences given up.", m.evicted.get());
        page.gauge("requests_queued", "Requests waiting.", m.queued.get());
        page.gauge("answers_running", "Answers being generated.", m.running.get());
        page.gauge("sequences_idle", "Sequences kept for later.", m.idle.get());
        page.gauge("cache_tokens", "Tokens cached.", m.cache_tokens.get());
        page.gauge("cache_tokens_limit", "Tokens the cache holds.", model.cache);
        let help = "Tokens a second while any were generated.";
        page.gauge("generated_tokens_per_second", help, m.tokens_per_second());
        page.histogram("queue_seconds", "From submission to a place.", &m.queue_seconds);
        page.histogram("first_token_seconds", "From submission to the first token.", &m.first_token_seconds);
        let help = "From a token to the next of the same answer.";
        page.histogram("between_tokens_seconds", help, &m.between_tokens_seconds);
        page.histogram("answer_seconds", "From submission to the end.", &m.answer_seconds);
    }
    let mut response = Response::new(Body::from(page.0));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
