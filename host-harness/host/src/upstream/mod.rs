//! Clusters and requests to them: through the cluster's upstream filters, then by HTTP/1, HTTP/2 or raw TCP.

pub(crate) mod callout;
mod frames;
pub(crate) mod grpc;
mod http;
mod pool;
mod tcp;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use crate::abi::shared::Shared;
use crate::bootstrap::{self, Discovery, Endpoint, Protocol};
use crate::http::{Direction, Headers, LocalReply, Stream, StreamInfo};
use crate::stats::Counter;
use crate::vm::chain::{BUFFER_LIMIT, Chain, Handler, Output};

/// Cluster of one worker.
pub(crate) struct Cluster {
    config: bootstrap::Cluster,
    filters: Vec<Handler>,
    next_endpoint: Cell<usize>,
    pool: pool::Pool,
    stats: ClusterStats,
}

struct ClusterStats {
    connections: Arc<Counter>,
    connect_failures: Arc<Counter>,
    requests: Arc<Counter>,
}

/// Reason why a response is incomplete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The upstream closed or reset the connection.
    Connection,
    /// An upstream filter reset the stream.
    Filter,
}

/// Receiver of a response.
pub(crate) trait ResponseSink {
    fn headers(&self, headers: Headers, end: bool);
    fn data(&self, data: Bytes, end: bool);
    fn trailers(&self, trailers: Headers);
    fn broken(&self, why: Broken);
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
}

impl Cluster {
    pub(crate) fn new(config: bootstrap::Cluster, filters: Vec<Handler>, shared: &Shared) -> Rc<Self> {
        let counter = |name: &str| shared.stats.counter(&format!("cluster.{}.{name}", config.name));
        let stats = ClusterStats {
            connections: counter("upstream_cx_total"),
            connect_failures: counter("upstream_cx_connect_fail"),
            requests: counter("upstream_rq_total"),
        };
        Rc::new(Self { filters, next_endpoint: Cell::new(0), pool: Default::default(), stats, config })
    }

    pub(crate) fn name(&self) -> &str {
        &self.config.name
    }

    fn endpoint(&self) -> Option<&Endpoint> {
        let turn = self.next_endpoint.get();
        self.next_endpoint.set(turn.wrapping_add(1));
        self.config.endpoints.get(turn.checked_rem(self.config.endpoints.len())?)
    }

    /// Connects to an endpoint. The host name is resolved on each call; addresses are used in turn, except with
    /// logical DNS, which uses the first.
    async fn connect(&self, endpoint: &Endpoint) -> io::Result<(TcpStream, SocketAddr)> {
        self.stats.connections.add(1);
        let connecting = async {
            let addresses = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port)).await?;
            let addresses: Vec<SocketAddr> = addresses.collect();
            let turn = match self.config.discovery {
                Discovery::LogicalDns => 0,
                Discovery::Static | Discovery::StrictDns => self.next_endpoint.get(),
            };
            let index = turn.checked_rem(addresses.len()).unwrap_or(0);
            let address = addresses.get(index).copied().ok_or(io::ErrorKind::AddrNotAvailable)?;
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok((stream, address))
        };
        let connected = match tokio::time::timeout(self.config.connect_timeout, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        if let Err(error) = &connected {
            self.stats.connect_failures.add(1);
            log::debug!(
                target: "upstream",
                "cluster `{}`: cannot connect to {}:{}: {error}",
                self.name(),
                endpoint.host,
                endpoint.port
            );
        }
        connected
    }
}

/// Returns when the downstream has taken response output; never returns without a backlog.
async fn drained(backlog: Option<&Chain>) {
    match backlog {
        Some(chain) => chain.drained().await,
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
    ) -> Rc<Self> {
        cluster.stats.requests.add(1);
        let info = StreamInfo {
            cluster: Some(cluster.name().to_owned()),
            source: downstream.as_ref().and_then(|stream| stream.info.source),
            ..StreamInfo::default()
        };
        let stream = Stream { request_headers: RefCell::new(headers), info, ..Stream::default() };
        let chain = Chain::new(&cluster.filters, stream, BUFFER_LIMIT);
        let request = Rc::new(Self { chain, sink: RefCell::new(Some(sink)), task: RefCell::default() });
        request.chain.request_headers(end);
        let task = tokio::task::spawn_local({
            let (request, cluster) = (request.clone(), cluster.clone());
            async move {
                match cluster.config.protocol {
                    Protocol::Tcp => tcp::run(&request, &cluster, downstream).await,
                    Protocol::Http1 | Protocol::Http2 => http::run(&request, &cluster, downstream).await,
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
                Output::Headers(end) => sink.headers(stream.response_headers.borrow().clone().unwrap_or_default(), end),
                Output::Data(data, end) => sink.data(data, end),
                Output::Trailers => sink.trailers(stream.response_trailers.borrow().clone().unwrap_or_default()),
            }
        }
        if self.chain.is_reset() {
            self.broken(Broken::Filter);
        }
    }

    fn is_wanted(&self) -> bool {
        self.sink.borrow().is_some()
    }

    /// Returns the downstream's filter chain if its response output is full.
    fn backlog(&self) -> Option<Rc<Chain>> {
        self.sink.borrow().as_ref().and_then(|sink| sink.backlog())
    }

    fn broken(&self, why: Broken) {
        if let Some(sink) = self.sink.take() {
            sink.broken(why);
        }
    }

    /// Sends the router's 503 local reply after a failed connection to the upstream.
    fn unreachable(&self, error: &io::Error) {
        let reason = if error.kind() == io::ErrorKind::TimedOut { "connection timeout" } else { "connection failure" };
        let body = format!("upstream connect error or disconnect/reset before headers. reset reason: remote {reason}");
        let details = "upstream_reset_before_response_started".to_owned();
        let reply = LocalReply { status: 503, body: body.into(), details, ..LocalReply::default() };
        self.chain.reply(reply);
    }
}
