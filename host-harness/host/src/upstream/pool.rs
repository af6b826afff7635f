//! Connection pool for HTTP endpoints.
//!
//! An HTTP/1 connection carries one request at a time; an HTTP/2 connection is shared by all requests to its endpoint.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;

use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use super::{Cluster, ConnectError};
use crate::bootstrap::{Endpoint, Protocol};
use crate::server::body::ChannelBody;
use crate::server::executor::LocalExecutor;

/// Maximum number of idle HTTP/1 connections for one endpoint.
const MAX_IDLE: usize = 64;

#[derive(Default)]
pub(super) struct Pool {
    hosts: RefCell<HashMap<String, Host>>,
}

#[derive(Default)]
struct Host {
    idle: Vec<(http1::SendRequest<ChannelBody>, SocketAddr)>,
    shared: Option<(http2::SendRequest<ChannelBody>, SocketAddr)>,
}

/// Connection that is ready for a request.
pub(super) enum Connection {
    Http1(http1::SendRequest<ChannelBody>),
    Http2(http2::SendRequest<ChannelBody>),
}

/// Error of a request without a response.
pub(super) struct Unanswered {
    pub(super) error: hyper::Error,
    /// The request, if no part of it was sent.
    pub(super) request: Option<Request<ChannelBody>>,
}

impl Cluster {
    /// Returns a connection to an endpoint; `fresh` always opens a new connection.
    pub(super) async fn connection(
        &self,
        endpoint: &Endpoint,
        fresh: bool,
    ) -> Result<(Connection, SocketAddr), ConnectError> {
        let name = format!("{}:{}", endpoint.host, endpoint.port);
        if !fresh && let Some(connection) = self.pool.reusable(&name) {
            return Ok(connection);
        }
        let (stream, address) = self.connect(endpoint).await?;
        let failed = |error| ConnectError { error, address: Some(address) };
        let connection = match self.config.protocol {
            Protocol::Http2 => {
                let sender = http2_connection(stream).await.map_err(failed)?;
                self.pool.hosts.borrow_mut().entry(name).or_default().shared = Some((sender.clone(), address));
                Connection::Http2(sender)
            }
            Protocol::Http1 | Protocol::Tcp => Connection::Http1(http1_connection(stream).await.map_err(failed)?),
        };
        Ok((connection, address))
    }

    /// Returns an HTTP/1 connection to the pool after its response is complete.
    pub(super) fn give_back(&self, endpoint: &Endpoint, connection: Connection, address: SocketAddr) {
        if let Connection::Http1(sender) = connection
            && !sender.is_closed()
        {
            let name = format!("{}:{}", endpoint.host, endpoint.port);
            let mut hosts = self.pool.hosts.borrow_mut();
            let idle = &mut hosts.entry(name).or_default().idle;
            if idle.len() < MAX_IDLE {
                idle.push((sender, address));
            }
        }
    }
}

impl Pool {
    fn reusable(&self, name: &str) -> Option<(Connection, SocketAddr)> {
        let mut hosts = self.hosts.borrow_mut();
        let host = hosts.get_mut(name)?;
        if let Some((sender, address)) = &host.shared
            && !sender.is_closed()
        {
            return Some((Connection::Http2(sender.clone()), *address));
        }
        host.idle.retain(|(sender, _)| !sender.is_closed());
        let ready = host.idle.iter().rposition(|(sender, _)| sender.is_ready())?;
        let (sender, address) = host.idle.swap_remove(ready);
        Some((Connection::Http1(sender), address))
    }
}

impl Connection {
    pub(super) async fn send(&mut self, request: Request<ChannelBody>) -> Result<Response<Incoming>, Unanswered> {
        let sent = match self {
            Self::Http1(sender) => sender.try_send_request(request).await,
            Self::Http2(sender) => sender.try_send_request(request).await,
        };
        sent.map_err(|mut error| Unanswered { request: error.take_message(), error: error.into_error() })
    }
}

async fn http1_connection(stream: crate::io::Connection) -> std::io::Result<http1::SendRequest<ChannelBody>> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.with_upgrades().await {
            log::debug!(target: "upstream", "an upstream connection ended with an error: {error}");
        }
    });
    Ok(sender)
}

async fn http2_connection(stream: crate::io::Connection) -> std::io::Result<http2::SendRequest<ChannelBody>> {
    let (sender, connection) =
        http2::handshake(LocalExecutor, TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            log::debug!(target: "upstream", "an upstream connection ended with an error: {error}");
        }
    });
    Ok(sender)
}
