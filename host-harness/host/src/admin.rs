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

/// Serves the admin listener on the current thread until `stopped` is true.
pub(crate) fn serve(socket: TcpListener, shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
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
            let shared = shared.clone();
            tokio::spawn(async move {
                let service = hyper::service::service_fn(move |request| {
                    let response = answer(&request, &shared);
                    async move { Ok::<_, Infallible>(response) }
                });
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
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

fn answer(request: &Request<Incoming>, shared: &Shared) -> Response<Full<Bytes>> {
    let query = request.uri().query().unwrap_or("");
    let parameter = |name: &str| query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name);
    let (status, text) = match request.uri().path() {
        "/ready" => (StatusCode::OK, "LIVE\n".to_owned()),
        "/stats/prometheus" => (StatusCode::OK, shared.stats.prometheus()),
        "/stats" if parameter("format").is_some_and(|(_, format)| format == "prometheus") => {
            (StatusCode::OK, shared.stats.prometheus())
        }
        "/stats" => (StatusCode::OK, shared.stats.text(parameter("filter").map(|(_, part)| part))),
        path => {
            (StatusCode::NOT_FOUND, format!("invalid path `{path}`; expected /ready, /stats or /stats/prometheus\n"))
        }
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("text/plain; charset=UTF-8"));
    response
}
