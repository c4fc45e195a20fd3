//! Refusals, in the form clients of OpenAI's interface read.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use engine::service::Refused;
use serde_json::{Value, json};
use std::time::Duration;

/// Why the server cannot be started, or why it ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is no address.
    #[error("{host} is no address of this machine ({source}); give --host 127.0.0.1 or 0.0.0.0")]
    Host {
        /// What was asked for.
        host: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The port is not free, or not allowed.
    #[error("cannot listen on {address}: {source}; give another --port, or 0 for any that is free")]
    Bind {
        /// What was asked for.
        address: std::net::SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// Threads, timers or signals.
    #[error("cannot start the server: {0}; free some memory or processes")]
    Start(std::io::Error),
    /// The device went away, or something is wrong in the program.
    #[error("the engine has stopped: {0}")]
    Engine(String),
}

/// A refusal of one request.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// OpenAI's word for the kind of error.
    kind: &'static str,
    /// What programs tell errors apart by.
    code: &'static str,
    /// For people: what is wrong, and what to do.
    message: String,
    /// Path of the field at fault.
    param: Option<String>,
    /// When to ask again.
    retry: Option<Duration>,
}

const INVALID: &str = "invalid_request_error";

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Refusal {
        let kind = match status.as_u16() {
            429 => "rate_limit_error",
            503 => "unavailable_error",
            500.. => "server_error",
            _ => INVALID,
        };
        Refusal { status, kind, code, message: message.into(), param: None, retry: None }
    }

    /// A field that cannot be what it is.
    pub(crate) fn field(path: impl Into<String>, message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, "invalid_value", message).at(path)
    }

    /// A field this server does not serve.
    pub(crate) fn unsupported(path: impl Into<String>, message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, "unsupported_parameter", message).at(path)
    }

    /// Nobody can be served now.
    pub(crate) fn unavailable(code: &'static str, message: impl Into<String>, retry: u64) -> Refusal {
        let retry = Some(Duration::from_secs(retry));
        Refusal { retry, ..Refusal::new(StatusCode::SERVICE_UNAVAILABLE, code, message) }
    }

    /// Something in the program is wrong.
    pub(crate) fn internal(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message)
    }

    /// With the path of the field at fault.
    pub(crate) fn at(mut self, path: impl Into<String>) -> Refusal {
        self.param = Some(path.into());
        self
    }

    /// The error as OpenAI's clients read it.
    pub(crate) fn body(&self) -> Value {
        json!({"error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }})
    }

    /// The error as Anthropic's clients read it.
    pub(crate) fn anthropic_body(&self) -> Value {
        let kind = match self.status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            503 => "overloaded_error",
            500.. => "api_error",
            _ => "invalid_request_error",
        };
        let message = match &self.param {
            Some(param) => format!("{param}: {}", self.message),
            None => self.message.clone(),
        };
        json!({"type": "error", "error": {"type": kind, "message": message}})
    }

    /// The refusal with a body of another form.
    pub(crate) fn with_body(&self, body: &Value) -> Response {
        let mut response = json_response(self.status, body);
        let headers = response.headers_mut();
        if let Some(retry) = self.retry {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(retry.as_secs()));
            let millis = HeaderName::from_static("retry-after-ms");
            headers.insert(millis, HeaderValue::from(retry.as_millis() as u64));
        }
        if self.code == "timeout" {
            // It would only take as long again.
            headers.insert(HeaderName::from_static("x-should-retry"), HeaderValue::from_static("false"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.with_body(&self.body())
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Refusal {
        let message = refused.to_string();
        match refused {
            Refused::Full { retry, .. } => Refusal {
                retry: Some(retry),
                ..Refusal::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", message)
            },
            Refused::TooMany { .. } => Refusal::field("n", message),
            Refused::Draining => Refusal::unavailable("shutting_down", message, 5),
            Refused::Closed(_) => Refusal::unavailable("engine_stopped", message, 10),
        }
    }
}

/// A JSON document as a response.
pub(crate) fn json_response(status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
