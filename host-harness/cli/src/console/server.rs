//! Listener of the console, and its connections.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, SET_COOKIE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::access::{Access, CHANGE_HEADER, Refusal};
use super::page;
use super::routes::{Answer, Routes};

/// Largest number of connections at once; others wait.
const MAX_CONNECTIONS: usize = 64;
/// Largest body of a request, in bytes.
const MAX_BODY: usize = 16 * 1024;
/// Time limit of the head of a request, and of its body.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// Headers of every response, beside its content security policy.
const HEADERS: [(&str, &str); 6] = [
    ("cache-control", "no-store"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
];

/// Accepts connections until the task is dropped, which ends them.
pub(super) async fn serve(listener: TcpListener, routes: Arc<Routes>, access: Arc<Access>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // Such as too many open files: others may close.
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let (routes, access) = (Arc::clone(&routes), Arc::clone(&access));
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let (routes, access) = (Arc::clone(&routes), Arc::clone(&access));
                async move { Ok::<_, Infallible>(respond(request, &routes, &access).await) }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            let http = http.timer(TokioTimer::new()).header_read_timeout(READ_WITHIN);
            // A browser may leave at any time.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
            drop(place);
        });
    }
}

async fn respond(request: Request<Incoming>, routes: &Routes, access: &Access) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let (method, path) = (&head.method, head.uri.path());
    if let Err(refusal) = access.is_own_page(method, &head.headers) {
        return refused(refusal);
    }
    if path == "/" {
        return match *method == Method::GET {
            true => the_page(),
            false => json(&Answer::failed(StatusCode::METHOD_NOT_ALLOWED, "expected GET")),
        };
    }
    if *method == Method::POST && !is_of_script(&head.headers) {
        let expected = "expected a body of content-type application/json, and the header x-weir-console: 1";
        return json(&Answer::failed(StatusCode::FORBIDDEN, expected));
    }
    if path == "/api/login" && *method == Method::POST {
        return match access.has_token(&head.headers) {
            true => with_session(json(&Answer::ok(serde_json::json!({}))), access),
            false => refused(Refusal::Token),
        };
    }
    if let Err(refusal) = access.is_known(&head.headers) {
        return refused(refusal);
    }
    let body = tokio::time::timeout(READ_WITHIN, Limited::new(body, MAX_BODY).collect()).await;
    let Ok(Ok(body)) = body else {
        return json(&Answer::failed(StatusCode::PAYLOAD_TOO_LARGE, "expected a body of at most 16 KiB, within 10 s"));
    };
    json(&routes.answer(method, path, head.uri.query().unwrap_or_default(), &body.to_bytes()).await)
}

/// Whether a script of the page has sent a request: a form of another page has neither header.
fn is_of_script(headers: &HeaderMap) -> bool {
    let is_json = |value: &HeaderValue| value.as_bytes().starts_with(b"application/json");
    headers.contains_key(CHANGE_HEADER) && headers.get(CONTENT_TYPE).is_some_and(is_json)
}

fn refused(refusal: Refusal) -> Response<Full<Bytes>> {
    let status = if refusal == Refusal::Token { StatusCode::UNAUTHORIZED } else { StatusCode::FORBIDDEN };
    json(&Answer::failed(status, &refusal.to_string()))
}

fn with_session(mut response: Response<Full<Bytes>>, access: &Access) -> Response<Full<Bytes>> {
    if let Ok(cookie) = HeaderValue::try_from(access.set_cookie()) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

fn json(answer: &Answer) -> Response<Full<Bytes>> {
    let policy = "default-src 'none'; frame-ancestors 'none'";
    response(answer.status, "application/json", policy, answer.body.to_string())
}

fn the_page() -> Response<Full<Bytes>> {
    match super::access::secret() {
        Ok(nonce) => {
            response(StatusCode::OK, "text/html; charset=utf-8", &page::policy(&nonce), page::with_nonce(&nonce))
        }
        Err(_) => json(&Answer::failed(StatusCode::INTERNAL_SERVER_ERROR, "no random numbers")),
    }
}

fn response(status: StatusCode, kind: &'static str, policy: &str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(policy) = HeaderValue::try_from(policy) {
        headers.insert("content-security-policy", policy);
    }
    response
}
