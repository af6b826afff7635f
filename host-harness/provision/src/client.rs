//! HTTP/1.1 client with one keep-alive connection; the next request reopens a closed connection.

use std::{io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request,
    client::conn::http1::{SendRequest, handshake},
    header::{HOST, HeaderMap, HeaderValue},
};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::{net::TcpStream, time::timeout};

/// Reasons why a request has no response.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The server cannot be reached.
    #[error("connecting to {target}: {source}")]
    Connect {
        /// The server.
        target: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The connection ended, or the server's bytes are not HTTP.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// The path or a header is invalid and was not sent.
    #[error("{0}")]
    Request(#[from] hyper::http::Error),
    /// No complete response arrived in time.
    #[error("no response within {} ms", .0.as_millis())]
    Timeout(Duration),
}

/// A complete response.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// Sends a GET on a new connection and reads the complete response.
///
/// # Errors
/// If the server cannot be reached, does not speak HTTP/1.1 or takes longer than `limit`.
pub async fn get(target: SocketAddr, path: &str, limit: Duration) -> Result<Response, ClientError> {
    Client::new(target, limit).get(path, &HeaderMap::new()).await
}

/// A client with a keep-alive connection to one server.
#[derive(Debug)]
pub struct Client {
    target: SocketAddr,
    limit: Duration,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    /// Creates a client without opening the connection; `limit` is the time limit of each response.
    pub fn new(target: SocketAddr, limit: Duration) -> Self {
        Self { target, limit, connection: None }
    }

    /// Opens the connection before the first request.
    ///
    /// # Errors
    /// If the server cannot be reached in time.
    pub async fn connect(&mut self) -> Result<(), ClientError> {
        let failed = |source| ClientError::Connect { target: self.target, source };
        let stream = match timeout(self.limit, TcpStream::connect(self.target)).await {
            Ok(stream) => stream.map_err(failed)?,
            Err(_) => return Err(ClientError::Timeout(self.limit)),
        };
        stream.set_nodelay(true).map_err(failed)?;
        let (sender, driver) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        self.connection = Some(sender);
        Ok(())
    }

    /// Sends a GET and reads the complete response, as [`Client::send`] does.
    ///
    /// # Errors
    /// The errors of [`Client::send`].
    pub async fn get(&mut self, path: &str, headers: &HeaderMap) -> Result<Response, ClientError> {
        self.send(&Method::GET, path, headers, Bytes::new()).await
    }

    /// Sends a request and reads the complete response, on the open connection or a new one.
    ///
    /// # Errors
    /// If no complete response arrives in time, or the request fails; the connection is then closed.
    pub async fn send(
        &mut self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response, ClientError> {
        let limit = self.limit;
        let answered = match timeout(limit, self.exchange(method, path, headers, body)).await {
            Ok(answered) => answered,
            Err(_) => Err(ClientError::Timeout(limit)),
        };
        if answered.is_err() {
            self.connection = None;
        }
        answered
    }

    async fn exchange(
        &mut self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response, ClientError> {
        let mut request = Request::builder().method(method).uri(path).body(Full::new(body))?;
        *request.headers_mut() = headers.clone();
        if !headers.contains_key(HOST) {
            request.headers_mut().insert(HOST, HeaderValue::from_static("weir.test"));
        }
        // A server may close an idle connection at any time, which is not a failure of the request.
        let open = match &mut self.connection {
            Some(connection) => connection.ready().await.is_ok(),
            None => false,
        };
        if !open {
            self.connect().await?;
        }
        let Some(connection) = &mut self.connection else { return Err(ClientError::Timeout(self.limit)) };
        let (head, body) = connection.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Response { status: head.status.as_u16(), headers: head.headers, body })
    }
}
