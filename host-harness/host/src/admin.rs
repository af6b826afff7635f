//! Admin listener: `/ready`, `/stats` and `/stats/prometheus`.

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::watch;

use crate::abi::shared::Shared;
use crate::io::LingeringStream;
use crate::stats_tags::StatsTags;

/// Serves the admin listener on the current thread until `stopped` is true.
pub(crate) fn serve(
    socket: TcpListener,
    shared: Arc<Shared>,
    tags: Arc<StatsTags>,
    mut stopped: watch::Receiver<bool>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return log::error!(target: "admin", "the admin listener cannot start: {error}"),
    };
    let serving = async {
        let socket = match tokio::net::TcpListener::from_std(socket) {
            Ok(socket) => socket,
            Err(error) => return log::error!(target: "admin", "the admin listener cannot listen: {error}"),
        };
        loop {
            let Ok((stream, _)) = socket.accept().await else { continue };
            let (shared, tags) = (shared.clone(), tags.clone());
            tokio::spawn(async move {
                let service = hyper::service::service_fn(move |request| {
                    let response = answer(&request, &shared, &tags);
                    async move { Ok::<_, Infallible>(response) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(LingeringStream::new(stream)), service);
                if let Err(error) = connection.await {
                    log::debug!(target: "admin", "an admin connection ended with an error: {error}");
                }
            });
        }
    };
    runtime.block_on(async {
        tokio::select! {
            () = serving => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
    });
}

fn answer(request: &Request<Incoming>, shared: &Shared, tags: &StatsTags) -> Response<Full<Bytes>> {
    let query = request.uri().query().unwrap_or("");
    let parameter = |name: &str| query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name);
    let (status, text) = match request.uri().path() {
        "/ready" => (StatusCode::OK, "LIVE\n".to_owned()),
        "/stats/prometheus" => (StatusCode::OK, shared.stats.prometheus(tags)),
        "/stats" if parameter("format").is_some_and(|(_, format)| format == "prometheus") => {
            (StatusCode::OK, shared.stats.prometheus(tags))
        }
        "/stats" => {
            match parameter("filter").map(|(_, pattern)| regex_lite::Regex::new(&unescaped(pattern))).transpose() {
                Ok(filter) => (StatusCode::OK, shared.stats.text(filter.as_ref())),
                Err(error) => (StatusCode::BAD_REQUEST, format!("Invalid re2 regex: {error}\n")),
            }
        }
        path => {
            (StatusCode::NOT_FOUND, format!("invalid path `{path}`; expected /ready, /stats or /stats/prometheus\n"))
        }
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("text/plain; charset=UTF-8"));
    response
}

/// Decodes percent-escapes; other bytes stay.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = after.get(..2).and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok());
        match escaped.filter(|_| byte == b'%') {
            Some(escaped) => {
                bytes.push(escaped);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_of_a_filter_are_decoded() {
        assert_eq!(unescaped("a%5B0%2d9%5D%2"), "a[0-9]%2");
    }
}
