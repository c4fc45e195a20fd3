//! Server-sent events: a response's body that grows as the engine speaks.

use crate::error::Refusal;
use crate::form::Form;
use crate::submitted::{Answers, Told, engine_gone, finish};
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use http_body::Frame;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};

/// Bytes of events put into one frame at most: what the engine said while the client was slow goes out together.
const FRAME: usize = 16 << 10;

/// A stream of events. Dropping it, as happens when the client goes away, ends its answers.
struct Events {
    answers: Answers,
    form: Box<dyn Form>,
    /// Answers that have not ended.
    left: usize,
    done: bool,
    begun: bool,
    ping: Pin<Box<Sleep>>,
    ping_time: Duration,
}

impl Events {
    /// Writes what was told; whether that was the end.
    fn write(&mut self, told: Option<(usize, Told)>, out: &mut Vec<u8>) -> bool {
        let refusal = match told {
            None => engine_gone(),
            Some((index, Told::Ended(why, summary))) => {
                let generated = summary.map_or(0, |summary| summary.generated);
                match finish(&why, generated) {
                    Ok(finish) => {
                        self.form.ended(index, finish, generated, out);
                        self.left -= 1;
                        if self.left == 0 {
                            self.form.end(out);
                        }
                        return self.left == 0;
                    }
                    Err(refusal) => refusal,
                }
            }
            Some((index, told)) => {
                self.form.told(index, told, out);
                return false;
            }
        };
        self.form.failed(&refusal, out);
        true
    }
}

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.done {
            return Poll::Ready(None);
        }
        let this = &mut *self;
        let mut out = Vec::new();
        if !this.begun {
            this.begun = true;
            this.form.begin(&mut out);
        }
        while out.len() < FRAME {
            let Poll::Ready(told) = this.answers.poll_next(context) else { break };
            if this.write(told, &mut out) {
                this.done = true;
                break;
            }
        }
        if out.is_empty() {
            if this.ping.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            out.extend_from_slice(b": still here\n\n");
        }
        let next = Instant::now() + this.ping_time;
        this.ping.as_mut().reset(next);
        Poll::Ready(Some(Ok(Frame::data(out.into()))))
    }
}

/// The response whose events are those of `answers` in `form`.
pub(crate) fn response(answers: Answers, form: Box<dyn Form>, ping_time: Duration) -> Response {
    let left = answers.count;
    let ping = Box::pin(sleep(ping_time));
    let events = Events { answers, form, left, done: false, begun: false, ping, ping_time };
    let mut response = Response::new(Body::new(events));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Proxies would hold events back.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// Appends an event without a name.
pub(crate) fn data(out: &mut Vec<u8>, data: &serde_json::Value) {
    out.extend_from_slice(b"data: ");
    // Writing to memory cannot fail, and JSON text holds no line feeds.
    let _ = serde_json::to_writer(&mut *out, data);
    out.extend_from_slice(b"\n\n");
}

/// Appends an event with a name.
pub(crate) fn event(out: &mut Vec<u8>, name: &str, body: &serde_json::Value) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.push(b'\n');
    data(out, body);
}

/// The end of OpenAI's streams after something went wrong.
pub(crate) fn failed(out: &mut Vec<u8>, refusal: &Refusal) {
    data(out, &refusal.body());
    out.extend_from_slice(DONE);
}

/// The end of OpenAI's streams.
pub(crate) const DONE: &[u8] = b"data: [DONE]\n\n";
