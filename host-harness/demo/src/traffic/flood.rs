//! Bounded flood: several HTTP/2 connections with many simultaneous requests on each.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request,
    client::conn::http2::{self, SendRequest},
    header::HeaderMap,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, task::JoinSet, time::timeout};
use weir_provision::client::ClientError;

/// Plan of a flood: `connections` times `streams` GETs of `/`, all at once.
#[derive(Debug, Clone, Copy)]
pub struct Flood {
    /// The server.
    pub target: SocketAddr,
    /// Number of connections.
    pub connections: usize,
    /// Number of simultaneous requests on each connection.
    pub streams: usize,
    /// Time limit of each response. A request without a response by then counts under status 0.
    pub limit: Duration,
}

impl Flood {
    /// Sends the flood and counts the responses by status; failed requests count under 0. `headers(n)` returns the
    /// headers of the nth request.
    ///
    /// # Errors
    /// If the server cannot be reached, or does not speak HTTP/2.
    pub async fn send(self, headers: impl Fn(usize) -> HeaderMap) -> Result<BTreeMap<u16, usize>, ClientError> {
        let mut connections = Vec::new();
        for _ in 0..self.connections {
            connections.push(self.connect().await?);
        }
        let mut requests = JoinSet::new();
        for nth in 0..self.connections * self.streams {
            let Some(connection) = connections.get(nth % self.connections) else { break };
            let mut request = Request::get(format!("http://{}/", self.target)).body(Empty::<Bytes>::new())?;
            *request.headers_mut() = headers(nth);
            let (mut connection, limit) = (connection.clone(), self.limit);
            requests.spawn(async move {
                let exchange = async {
                    connection.ready().await?;
                    let response = connection.send_request(request).await?;
                    let status = response.status().as_u16();
                    response.into_body().collect().await?;
                    Ok::<_, hyper::Error>(status)
                };
                timeout(limit, exchange).await.ok().and_then(Result::ok).unwrap_or(0)
            });
        }
        let mut statuses = BTreeMap::new();
        while let Some(status) = requests.join_next().await {
            *statuses.entry(status.unwrap_or(0)).or_default() += 1;
        }
        Ok(statuses)
    }

    async fn connect(self) -> Result<SendRequest<Empty<Bytes>>, ClientError> {
        let failed = |source| ClientError::Connect { target: self.target, source };
        let stream = TcpStream::connect(self.target).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let mut client = http2::Builder::new(TokioExecutor::new());
        client.initial_max_send_streams(self.streams).max_concurrent_reset_streams(self.streams);
        let (sender, driver) = client.handshake(TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        Ok(sender)
    }
}
