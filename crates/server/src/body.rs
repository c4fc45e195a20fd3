//! Reading bodies: bounded in bytes, in time, and all together.

use crate::app::{App, GRAIN};
use crate::error::Refusal;
use crate::model::Model;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use http_body::Body as _;
use serde_json::Value;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

/// A body, and its share of the room for bodies.
struct Read {
    bytes: Vec<u8>,
    room: Option<OwnedSemaphorePermit>,
}

fn too_large(app: &App) -> Refusal {
    let most = app.config.body_bytes;
    let message = format!("the request's body is larger than {most} bytes; send less");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message)
}

/// What is said of the body must be what JSON can be.
fn check_headers(headers: &HeaderMap) -> Result<(), Refusal> {
    let unsupported =
        |message: String| Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message);
    let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).to_lowercase());
    if let Some(encoding) = text(header::CONTENT_ENCODING).filter(|encoding| encoding != "identity") {
        let encoding = encoding.escape_debug().to_string();
        return Err(unsupported(format!("bodies of encoding {encoding} are not read; send plain JSON")));
    }
    if let Some(kind) = text(header::CONTENT_TYPE)
        && let Some((_, charset)) = kind.split_once("charset=")
    {
        let charset = charset.split(';').next().unwrap_or_default().trim().trim_matches('"');
        if !matches!(charset, "utf-8" | "utf8" | "us-ascii") {
            return Err(unsupported(format!("JSON is UTF-8, not {}; convert it", charset.escape_debug())));
        }
    }
    Ok(())
}

/// Reads a body to its end.
async fn read(app: &App, headers: &HeaderMap, mut body: Body) -> Result<Read, Refusal> {
    check_headers(headers)?;
    if body.size_hint().lower() > app.config.body_bytes as u64 {
        return Err(too_large(app));
    }
    let mut read = Read { bytes: Vec::new(), room: None };
    let mut room = 0;
    let all = async {
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let frame = frame.map_err(|error| {
                let message = format!("the request's body broke off: {error}");
                Refusal::new(StatusCode::BAD_REQUEST, "bad_body", message)
            })?;
            let Ok(data) = frame.into_data() else { continue };
            if read.bytes.len() + data.len() > app.config.body_bytes {
                return Err(too_large(app));
            }
            while room < read.bytes.len() + data.len() {
                // As much again as there is, so that few permits are asked for.
                let more = (read.bytes.len() + data.len() - room).div_ceil(GRAIN).max(room / GRAIN);
                let permit = app.bodies.clone().try_acquire_many_owned(more as u32).map_err(|_| {
                    let message = "too many requests are being read at once; try again";
                    Refusal::unavailable("busy", message, 1)
                })?;
                room += more * GRAIN;
                if let Some(room) = &mut read.room {
                    room.merge(permit);
                } else {
                    read.room = Some(permit);
                }
            }
            read.bytes.extend_from_slice(&data);
        }
        Ok(())
    };
    if let Ok(done) = timeout(app.config.body_time, all).await {
        return done.map(|()| read);
    }
    let seconds = app.config.body_time.as_secs();
    let message = format!("the request's body did not arrive within {seconds} s; send it faster");
    Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", message))
}

/// Reads a body as JSON and makes something of it, away from the threads that serve sockets.
pub(crate) async fn parsed<T: Send + 'static>(
    app: &Arc<App>,
    headers: &HeaderMap,
    body: Body,
    make: impl FnOnce(&Value, &Model) -> Result<T, Refusal> + Send + 'static,
) -> Result<(Arc<Model>, T), Refusal> {
    let model = app.model()?.clone();
    let read = read(app, headers, body).await?;
    let _worker = app.workers.acquire().await.map_err(|_| Refusal::internal("the server is ending"))?;
    let work = move || {
        let value: Value = serde_json::from_slice(&read.bytes).map_err(|error| {
            let message = format!("the request's body is not JSON: {error}");
            Refusal::new(StatusCode::BAD_REQUEST, "invalid_json", message)
        })?;
        let made = make(&value, &model)?;
        // What was read is paid for until here.
        drop(read.room);
        Ok((model, made))
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(Refusal::internal("the request met an error of this program, printed in its log")),
    }
}
