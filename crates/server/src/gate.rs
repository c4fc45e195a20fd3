//! What every request passes: names, keys, origins; and what every response gets.

use crate::app::App;
use crate::config::Config;
use crate::error::Refusal;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

const REQUEST_ID: &str = "x-request-id";

/// Everything around the routes.
pub(crate) async fn gate(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let id = request_id(&app, request.headers());
    let origin = request.headers().get(header::ORIGIN).cloned();
    let private = request.headers().contains_key("access-control-request-private-network");
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let checked = check(&app, &request);
    let mut response = match &checked {
        Err(refusal) if path.starts_with("/v1/messages") => refusal.with_body(&refusal.anthropic_body()),
        Err(refusal) => refusal.with_body(&refusal.body()),
        Ok(()) if method == Method::OPTIONS && origin.is_some() => preflight(request.headers()),
        Ok(()) => next.run(request).await,
    };
    app.count(response.status().as_u16());
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(origin) = origin.filter(|_| !matches!(&checked, Err(r) if r.status == StatusCode::FORBIDDEN))
    {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        let exposed = HeaderValue::from_static("x-request-id, retry-after, retry-after-ms");
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        if private {
            headers.insert("access-control-allow-private-network", HeaderValue::from_static("true"));
        }
    }
    if let Some(log) = &app.config.log {
        let shown: String = path.chars().take(200).collect();
        let (shown, status) = (shown.escape_debug(), response.status().as_u16());
        log(&format!("[serve] {id} {method} {shown} {status} {:.1} ms", begun.elapsed().as_secs_f64() * 1e3));
    }
    response
}

/// The client's own name for the request if it is a plain one, else a new one.
fn request_id(app: &App, headers: &HeaderMap) -> String {
    let plain = |id: &&str| {
        (1..=128).contains(&id.len()) && id.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:".contains(c))
    };
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(plain);
    given.map_or_else(|| format!("req_{:016x}", app.unique()), str::to_owned)
}

fn check(app: &App, request: &Request) -> Result<(), Refusal> {
    let headers = request.headers();
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next(), request.uri().authority()) {
        (_, Some(_), _) => {
            let message = "the request has several Host headers; send one";
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "bad_host", message));
        }
        (_, None, Some(authority)) => Some(authority.as_str().to_owned()),
        (Some(host), None, None) => Some(String::from_utf8_lossy(host.as_bytes()).into_owned()),
        (None, None, None) if request.version() >= axum::http::Version::HTTP_11 => {
            let message = "the request has no Host header; HTTP/1.1 requires one";
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "bad_host", message));
        }
        (None, None, None) => None,
    };
    if let Some(host) = &host
        && !host_allowed(app, host)
    {
        let shown: String = host.chars().take(100).collect();
        let message = format!(
            "this server is not known as {}; start it with --allow-host to serve that name",
            shown.escape_debug()
        );
        return Err(Refusal::new(StatusCode::FORBIDDEN, "host_not_allowed", message));
    }
    if let Some(origin) = headers.get(header::ORIGIN)
        && !origin_allowed(app, &String::from_utf8_lossy(origin.as_bytes()), host.as_deref())
    {
        let shown: String = String::from_utf8_lossy(origin.as_bytes()).chars().take(100).collect();
        let message = format!(
            "pages of {} may not use this server; start it with --allow-origin to let them",
            shown.escape_debug()
        );
        return Err(Refusal::new(StatusCode::FORBIDDEN, "origin_not_allowed", message));
    }
    let open = request.uri().path() == "/health" || request.method() == Method::OPTIONS;
    if !open && !app.config.keys.is_empty() && !has_key(&app.config.keys, headers) {
        let message = "a valid API key is required; send it as \"Authorization: Bearer KEY\"";
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message));
    }
    Ok(())
}

/// The name in `host` or `host:port`.
fn name_of(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

/// Names that reach this machine without asking a stranger's name server. A page whose own name was made to lead
/// here is told apart by it: addresses and local names cannot be such names.
fn host_allowed(app: &App, host: &str) -> bool {
    let name = name_of(host).trim_end_matches('.').to_ascii_lowercase();
    if name.parse::<IpAddr>().is_ok() || name.parse::<Ipv6Addr>().is_ok() {
        return true;
    }
    let local = |name: &str| {
        name == "localhost" || [".localhost", ".local", ".internal"].iter().any(|end| name.ends_with(end))
    };
    let own = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    let Config { host: bound, hosts, .. } = &app.config;
    local(&name)
        || name == own
        || name == bound.to_ascii_lowercase()
        || hosts.iter().any(|host| host == "*" || host.to_ascii_lowercase() == name)
}

/// Pages of this machine, of this server itself, and those that were named.
fn origin_allowed(app: &App, origin: &str, host: Option<&str>) -> bool {
    if app.config.origins.iter().any(|allowed| allowed == "*" || allowed == origin) {
        return true;
    }
    let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    let Some(rest) = rest else { return false };
    if host == Some(rest) {
        return true;
    }
    let name = name_of(rest);
    let loopback = name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    name == "localhost" || name.ends_with(".localhost") || loopback
}

/// Whether a request has one of the keys, in either place where clients put it.
fn has_key(keys: &[String], headers: &HeaderMap) -> bool {
    let mut bearers = headers.get_all(header::AUTHORIZATION).iter();
    let bearer = match (bearers.next(), bearers.next()) {
        (Some(bearer), None) => bearer.as_bytes(),
        _ => b"",
    };
    let bearer = match bearer.split_at_checked(7) {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case(b"bearer ") => key,
        _ => b"",
    };
    let other = headers.get("x-api-key").map_or(&b""[..], HeaderValue::as_bytes);
    // Every key is compared with both, whatever the result.
    keys.iter().fold(false, |found, key| found | same(key.as_bytes(), bearer) | same(key.as_bytes(), other))
}

/// Whether two keys are equal, in a time that depends on the length of what was sent alone.
fn same(key: &[u8], sent: &[u8]) -> bool {
    if key.is_empty() {
        return false;
    }
    let mut differ = key.len() ^ sent.len();
    for (i, &byte) in sent.iter().enumerate() {
        differ |= usize::from(byte ^ key[i % key.len()]);
    }
    std::hint::black_box(differ) == 0
}

/// The answer to a browser that asks whether it may ask.
fn preflight(asked: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    *response.body_mut() = Body::empty();
    let headers = response.headers_mut();
    let methods = HeaderValue::from_static("GET, POST, OPTIONS");
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    // Whatever headers its client library sends: none of them lets a request do more.
    let usual = HeaderValue::from_static("authorization, content-type");
    let wanted = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned().unwrap_or(usual);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(change: impl FnOnce(&mut Config)) -> App {
        let mut config = Config::default();
        change(&mut config);
        App::new(config)
    }

    #[test]
    fn names_that_pages_could_own_are_strangers() {
        let app = app(|config| config.hosts = vec!["board.example".to_owned()]);
        for host in [
            "127.0.0.1:8080",
            "localhost",
            "[::1]:80",
            "192.168.1.7:1",
            "a.local",
            "LOCALHOST:9",
            "board.example:1",
        ] {
            assert!(host_allowed(&app, host), "{host}");
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example:8080",
            "",
            "board.example.evil",
        ] {
            assert!(!host_allowed(&app, host), "{host}");
        }
    }

    #[test]
    fn pages_of_strangers_are_strangers() {
        let app = app(|config| config.origins = vec!["https://chat.example".to_owned()]);
        let allowed = |origin| origin_allowed(&app, origin, Some("192.168.1.7:8080"));
        for origin in
            ["http://localhost:3000", "http://127.0.0.1", "https://chat.example", "http://192.168.1.7:8080"]
        {
            assert!(allowed(origin), "{origin}");
        }
        for origin in
            ["null", "https://evil.example", "http://localhost.evil.example", "file://", "http://192.168.1.8"]
        {
            assert!(!allowed(origin), "{origin}");
        }
    }

    #[test]
    fn keys_are_compared_whole() {
        assert!(same(b"secret", b"secret"));
        for sent in ["", "s", "secre", "secrets", "secretsecret", "Secret"] {
            assert!(!same(b"secret", sent.as_bytes()), "{sent}");
        }
        assert!(!same(b"", b""));
    }
}
