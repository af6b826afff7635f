//! Counters of proxies, from their endpoints for Prometheus.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::board::{Board, local_time};
use super::exposition::{Counts, Names};
use super::rates::Rates;

/// Time between two readings while a page is open.
const PERIOD: Duration = Duration::from_secs(2);
/// Time limit of one endpoint.
const WITHIN: Duration = Duration::from_secs(3);
/// Largest answer of an endpoint, in bytes.
const MAX_BODY: usize = 32 * 1024 * 1024;
const PATH: &str = "/stats/prometheus";

/// Endpoint for Prometheus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Host and port.
    authority: String,
    /// Path and query; `None` for the admin interface of Envoy.
    path: Option<String>,
}

/// Reasons why an endpoint gave no counters.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no answer within {} s", WITHIN.as_secs())]
    Silent,
    #[error("{0}")]
    Unreachable(#[from] std::io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("{0}")]
    Url(#[from] hyper::http::Error),
    #[error("expected status 200, found {0}")]
    Status(u16),
    #[error("expected at most {} MiB, found more, or a broken connection", MAX_BODY / 1024 / 1024)]
    Body,
    #[error("no counter of Weir: no request has been checked yet, or the configuration has another stat_prefix")]
    NotWeir,
}

impl Endpoint {
    /// Parses `http://HOST[:PORT][/PATH]`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        // A password in it is not repeated.
        let rest = text.strip_prefix("http://").ok_or("expected a URL that begins with http://")?;
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.is_empty() || authority.contains(['@', ' ', '#']) {
            return Err("expected http://HOST:PORT, without a user".to_owned());
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse::<u16>().map_err(|_| "expected a port")?),
            _ => (authority, 80),
        };
        let path = Some(path).filter(|path| !matches!(*path, "" | "/")).map(str::to_owned);
        if path.as_ref().is_some_and(|path| path.parse::<hyper::Uri>().is_err() || !path.starts_with('/')) {
            return Err("expected a path after the host".to_owned());
        }
        Ok(Self { authority: format!("{host}:{port}"), path })
    }

    async fn read(&self, names: &Names) -> Result<Counts, Failure> {
        let text = timeout(WITHIN, self.fetch(names)).await.map_err(|_| Failure::Silent)??;
        Some(names.read(&text)).filter(|counts| counts.is_of_weir).ok_or(Failure::NotWeir)
    }

    async fn fetch(&self, names: &Names) -> Result<String, Failure> {
        let path = match (&self.path, names.only_prefix()) {
            (Some(path), _) => path.clone(),
            // Envoy leaves out all other metrics, of which there may be thousands.
            (None, Some(prefix)) => format!("{PATH}?filter={prefix}"),
            (None, None) => PATH.to_owned(),
        };
        let stream = TcpStream::connect(&self.authority).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let request = Request::get(path).header(HOST, &self.authority).body(Empty::<Bytes>::new())?;
        let answered = async {
            let response = sender.send_request(request).await?;
            if response.status() != hyper::StatusCode::OK {
                return Err(Failure::Status(response.status().as_u16()));
            }
            let body = Limited::new(response.into_body(), MAX_BODY).collect().await.map_err(|_| Failure::Body)?;
            Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
        };
        let text = answered.await;
        driver.abort();
        text
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path.as_deref().unwrap_or_default())
    }
}

/// Reads the endpoints while a page is open, until the task is dropped.
pub(super) async fn poll(endpoints: Vec<Endpoint>, board: Arc<Board>) {
    if endpoints.is_empty() {
        return;
    }
    let endpoints: Vec<Arc<Endpoint>> = endpoints.into_iter().map(Arc::new).collect();
    let mut rates = Rates::of(endpoints.len());
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if !board.is_open() {
            continue;
        }
        // All at once: one that does not answer holds up no other.
        let reading: Vec<_> = endpoints
            .iter()
            .map(|endpoint| {
                let (endpoint, board) = (Arc::clone(endpoint), Arc::clone(&board));
                tokio::spawn(async move { endpoint.read(board.names()).await })
            })
            .collect();
        let (mut counts, mut sources) = (Vec::new(), Vec::new());
        for (endpoint, reading) in endpoints.iter().zip(reading) {
            let read = reading.await.unwrap_or(Err(Failure::Silent));
            let error = read.as_ref().err().map(ToString::to_string);
            sources.push(json!({ "url": endpoint.to_string(), "error": error }));
            counts.push(read.ok());
        }
        rates.add(local_time(), counts);
        let limits = board.limits().map(|limit| (limit.clone(), rates.of_limit(limit)));
        board.set_metrics(
            limits.filter(|(_, figures)| *figures != Value::Null).collect(),
            rates.of_requests(),
            sources,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_admin_interface_or_any_path() {
        let parsed = |text| Endpoint::parse(text).map(|endpoint| (endpoint.authority, endpoint.path));
        let admin = |authority: &str| Ok((authority.to_owned(), None));
        assert_eq!(parsed("http://127.0.0.1:9901"), admin("127.0.0.1:9901"));
        assert_eq!(parsed("http://envoy/"), admin("envoy:80"));
        assert_eq!(parsed("http://[::1]:9901"), admin("[::1]:9901"));
        assert_eq!(parsed("http://[::1]"), admin("[::1]:80"));
        let path = Some("/stats?format=prometheus".to_owned());
        assert_eq!(parsed("http://a:1/stats?format=prometheus"), Ok(("a:1".to_owned(), path)));
        for wrong in ["https://a:1", "a:1", "http://", "http://u:p@a:1", "http://a:b", "http://a:1?x", "http://a:1/ b"]
        {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
