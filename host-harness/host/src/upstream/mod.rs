//! Clusters and requests to them: through the cluster's upstream filters, then by HTTP/1, HTTP/2 or raw TCP.

pub(crate) mod callout;
mod failure;
mod frames;
pub(crate) mod grpc;
mod health;
mod http;
mod pool;
mod tcp;
mod tunnel;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use crate::abi::in_flight::{Budget, Reservation};
use crate::abi::shared::Shared;
use crate::bootstrap::{self, Discovery, Endpoint, Protocol};
use crate::http::{Direction, Headers, Stream, StreamInfo};
use crate::io::Connection;
use crate::log_lines::{Throttle, printable};
use crate::stats::Counter;
use crate::trace::{Tracing, What};
use crate::vm::chain::{BUFFER_LIMIT, Chain, Handler, Output};
pub(crate) use failure::Failure;

/// Lines about hosts without an address.
static UNRESOLVED: Throttle = Throttle::new();

/// Cluster of one worker.
pub(crate) struct Cluster {
    config: bootstrap::Cluster,
    filters: Vec<Handler>,
    next_endpoint: Cell<usize>,
    /// Health of the endpoints, in their order.
    health: Vec<health::Endpoint>,
    pool: pool::Pool,
    stats: ClusterStats,
    tracing: Tracing,
}

struct ClusterStats {
    connections: Arc<Counter>,
    connect_failures: Arc<Counter>,
    requests: Arc<Counter>,
}

/// Error of a connection attempt, with the address if the endpoint has one.
struct ConnectError {
    error: io::Error,
    address: Option<SocketAddr>,
}

/// Receiver of a response.
pub(crate) trait ResponseSink {
    fn headers(&self, headers: Headers, end: bool);
    fn data(&self, data: Bytes, end: bool);
    fn trailers(&self, trailers: Headers);
    /// Ends the response; `has_begun`: its headers have arrived.
    fn failed(&self, why: &Failure, has_begun: bool);
    /// Returns the downstream's filter chain if its response output is full: the upstream should then not be read.
    fn backlog(&self) -> Option<Rc<Chain>> {
        None
    }
}

/// Request to a cluster, from its headers until its response is complete or the request is cancelled.
pub(crate) struct UpstreamRequest {
    chain: Rc<Chain>,
    sink: RefCell<Option<Rc<dyn ResponseSink>>>,
    task: RefCell<Option<AbortHandle>>,
    downstream: Option<Rc<Stream>>,
    /// Memory of a callout's or gRPC stream's request and response on their way.
    kept: Option<RefCell<Reservation>>,
    budget: Option<Budget>,
    /// Whether the sink has the headers of the response.
    has_begun: Cell<bool>,
}

impl Cluster {
    /// Creates the cluster and starts its health checks. Has to run within the worker's local set.
    pub(crate) fn new(config: bootstrap::Cluster, filters: Vec<Handler>, shared: &Shared) -> Rc<Self> {
        let counter = |name: &str| shared.stats.counter(&format!("cluster.{}.{name}", config.name));
        let stats = ClusterStats {
            connections: counter("upstream_cx_total"),
            connect_failures: counter("upstream_cx_connect_fail"),
            requests: counter("upstream_rq_total"),
        };
        let is_checked = config.health_check.is_some();
        let cluster = Rc::new(Self {
            filters,
            next_endpoint: Cell::new(0),
            health: config.endpoints.iter().map(|_| health::Endpoint::new(is_checked)).collect(),
            pool: Default::default(),
            stats,
            tracing: shared.tracing.clone(),
            config,
        });
        for index in (0..cluster.health.len()).filter(|_| is_checked) {
            tokio::task::spawn_local(health::run(Rc::downgrade(&cluster), index));
        }
        cluster
    }

    pub(crate) fn name(&self) -> &str {
        &self.config.name
    }

    /// Chooses an endpoint among the healthy ones; returns it with its index.
    fn endpoint(&self) -> Option<(usize, &Endpoint)> {
        let turn = self.next_endpoint.get();
        self.next_endpoint.set(turn.wrapping_add(1));
        let index = health::choose(&self.health, self.config.panic_threshold, turn)?;
        Some((index, self.config.endpoints.get(index)?))
    }

    /// Returns when connections to an endpoint are to be closed since it has become unhealthy.
    async fn failed(&self, index: usize) {
        match self.health.get(index).filter(|_| self.config.closes_on_failure) {
            Some(health) => health.failed().await,
            None => std::future::pending().await,
        }
    }

    /// Connects to an endpoint, for a proxy of bytes.
    pub(crate) async fn open(&self) -> io::Result<Connection> {
        let (_, endpoint) = self.endpoint().ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(self.connect(endpoint).await.map_err(|failed| failed.error)?.0)
    }

    /// Connects to an endpoint, and counts it.
    async fn connect(&self, endpoint: &Endpoint) -> Result<(Connection, SocketAddr), ConnectError> {
        self.stats.connections.add(1);
        let connected = self.reach(endpoint).await;
        if let Err(ConnectError { error, .. }) = &connected {
            self.stats.connect_failures.add(1);
            self.tracing.record(|| What::Unreachable { cluster: self.name().into(), error: error.to_string() });
            let (name, host) = (printable(self.name()), printable(&endpoint.host));
            let line = format_args!("cluster `{name}`: cannot connect to {host}:{}: {error}", endpoint.port);
            match error.kind() {
                // The name of a host is a mistake of the file, or of the resolver; Envoy, too, has a line about it.
                io::ErrorKind::AddrNotAvailable => UNRESOLVED.warn("upstream", line),
                _ => log::debug!(target: "upstream", "{line}"),
            }
        }
        connected
    }

    /// Connects to an endpoint. The host name is resolved on each call; addresses are used in turn, except with
    /// logical DNS, which uses the first.
    async fn reach(&self, endpoint: &Endpoint) -> Result<(Connection, SocketAddr), ConnectError> {
        let chosen = Cell::new(None);
        let connecting = async {
            let found = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port)).await;
            // A name without an address is no endpoint.
            let addresses = found.map_err(|why| io::Error::new(io::ErrorKind::AddrNotAvailable, why))?;
            let addresses: Vec<SocketAddr> = addresses.collect();
            let turn = match self.config.discovery {
                Discovery::LogicalDns => 0,
                Discovery::Static | Discovery::StrictDns => self.next_endpoint.get(),
            };
            let index = turn.checked_rem(addresses.len()).unwrap_or(0);
            let address = addresses.get(index).copied().ok_or(io::ErrorKind::AddrNotAvailable)?;
            chosen.set(Some(address));
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let connection: Connection = match &self.config.tls {
                None => Box::new(stream),
                Some(tls) => {
                    let connector = TlsConnector::from(tls.config.clone());
                    Box::new(connector.connect(tls.server_name.clone(), stream).await?)
                }
            };
            Ok((connection, address))
        };
        let connected: io::Result<_> = match tokio::time::timeout(self.config.connect_timeout, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        connected.map_err(|error| ConnectError { error, address: chosen.get() })
    }
}

/// Returns when the downstream has taken response output; never returns without a backlog.
async fn drained(backlog: Option<&Chain>) {
    match backlog {
        Some(chain) => chain.has_drained(Direction::Response).await,
        None => std::future::pending().await,
    }
}

impl UpstreamRequest {
    /// Starts a request: upstream filters run now, the endpoint gets the request once it is connected.
    pub(crate) fn start(
        cluster: &Rc<Cluster>,
        headers: Headers,
        end: bool,
        sink: Rc<dyn ResponseSink>,
        downstream: Option<Rc<Stream>>,
        budget: Option<&Budget>,
    ) -> Rc<Self> {
        cluster.stats.requests.add(1);
        let info = StreamInfo {
            cluster: Some(cluster.name().to_owned()),
            source: downstream.as_ref().and_then(|stream| stream.info.source),
            ..StreamInfo::default()
        };
        let stream = Stream { request_headers: RefCell::new(headers), info, ..Stream::default() };
        let chain = Chain::new(&cluster.filters, stream, BUFFER_LIMIT);
        let request = Rc::new(Self {
            chain,
            sink: RefCell::new(Some(sink)),
            task: RefCell::default(),
            downstream,
            kept: budget.map(|budget| RefCell::new(budget.nothing())),
            budget: budget.cloned(),
            has_begun: Cell::new(false),
        });
        request.chain.request_headers(end);
        let task = tokio::task::spawn_local({
            let (request, cluster) = (request.clone(), cluster.clone());
            async move {
                match cluster.config.protocol {
                    Protocol::Tcp => tcp::run(&request, &cluster).await,
                    Protocol::Http1 | Protocol::Http2 => http::run(&request, &cluster).await,
                }
                request.flush();
                request.end();
            }
        });
        request.task.replace(Some(task.abort_handle()));
        request
    }

    pub(crate) fn data(&self, data: Bytes, end: bool) {
        self.chain.request_data(data, end);
        self.count(0);
    }

    /// Length in bytes of the body that waits to be sent.
    pub(crate) fn unsent(&self) -> usize {
        self.chain.unsent()
    }

    /// Returns when the body that waits to be sent is no longer than the buffer limit.
    pub(crate) async fn has_room(&self) {
        while self.chain.is_request_full() {
            self.chain.has_drained(Direction::Request).await;
        }
    }

    pub(crate) fn trailers(&self, trailers: Headers) {
        self.chain.request_trailers(trailers);
    }

    /// Cancels the request; its sink gets nothing more.
    pub(crate) fn cancel(&self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
        self.end();
    }

    fn end(&self) {
        self.sink.take();
        self.chain.finish();
    }

    /// Passes the response output of the upstream filters to the sink.
    fn flush(&self) {
        while let Some(output) = self.chain.take(Direction::Response) {
            let Some(sink) = self.sink.borrow().clone() else { return };
            let stream = &self.chain.stream;
            match output {
                Output::Headers(end) => {
                    self.has_begun.set(true);
                    sink.headers(stream.response_headers.borrow().clone().unwrap_or_default(), end);
                }
                Output::Data(data, end) => sink.data(data, end),
                Output::Trailers => sink.trailers(stream.response_trailers.borrow().clone().unwrap_or_default()),
            }
        }
        if self.chain.is_reset() {
            self.fail(&Failure::Filter);
        }
    }

    /// Counts what the filters hold and what waits to be written, for a callout or gRPC stream.
    ///
    /// Returns whether it is within the limit of its VM.
    fn count(&self, unwritten: usize) -> bool {
        self.kept.as_ref().is_none_or(|kept| kept.borrow_mut().set(self.chain.held_bytes() + unwritten))
    }

    /// Returns a part of the body that counts until it is written.
    fn counted(&self, data: Bytes) -> Bytes {
        match &self.budget {
            Some(budget) if !data.is_empty() => budget.counted(data),
            _ => data,
        }
    }

    fn is_wanted(&self) -> bool {
        self.sink.borrow().is_some()
    }

    /// Returns the filter chain that holds up the response: the upstream filters, or those of the downstream.
    fn backlog(&self) -> Option<Rc<Chain>> {
        if self.chain.is_full() {
            return Some(self.chain.clone());
        }
        self.sink.borrow().as_ref().and_then(|sink| sink.backlog())
    }

    /// Notes the endpoint of the request.
    fn note_endpoint(&self, address: Option<SocketAddr>) {
        let streams = [Some(&self.chain.stream), self.downstream.as_ref()];
        streams.into_iter().flatten().for_each(|stream| stream.info.upstream.set(address));
    }

    /// Ends the request after a failed connection attempt.
    fn unreachable(&self, failed: &ConnectError) {
        self.note_endpoint(failed.address);
        self.fail(&Failure::of_connecting(&failed.error));
    }

    fn fail(&self, why: &Failure) {
        if let Some(sink) = self.sink.take() {
            sink.failed(why, self.has_begun.get());
        }
    }
}
