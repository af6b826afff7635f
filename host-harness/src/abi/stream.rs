//! One HTTP exchange as the filters of its chain see it, and what they can do to it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};

use super::headers::Headers;
use crate::bootstrap::{Route, RouteTable, VirtualHost};

/// From the client to the upstream, or back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Request = 0,
    Response = 1,
}

/// What is shared by all filters of one exchange.
#[derive(Default)]
pub(crate) struct Stream {
    pub(crate) request_headers: RefCell<Headers>,
    pub(crate) request_trailers: RefCell<Option<Headers>>,
    pub(crate) response_headers: RefCell<Option<Headers>>,
    pub(crate) response_trailers: RefCell<Option<Headers>>,
    /// One for each filter, in the order of the request.
    pub(crate) views: RefCell<Vec<FilterView>>,
    /// What filters left for each other, as its own bytes; what wasm filters set is named `wasm.…`.
    pub(crate) filter_state: RefCell<HashMap<Vec<u8>, Vec<u8>>>,
    /// Objects that filters left, by namespace.
    pub(crate) dynamic_metadata: RefCell<BTreeMap<String, serde_json::Value>>,
    pub(crate) info: StreamInfo,
}

impl Stream {
    /// The route that the request has with its headers as they are now: Envoy clears its choice when they change.
    pub(crate) fn with_route<T>(&self, show: impl FnOnce(&VirtualHost, &Route) -> T) -> Option<T> {
        let headers = self.request_headers.borrow();
        let routes = self.info.routes.as_ref()?;
        let (host, route) = routes.find(headers.text(":authority").unwrap_or(""), headers.text(":path")?)?;
        Some(show(host, route))
    }
}

/// What one filter may touch now, as in Envoy: a map is open from its callback until the filter lets it go.
#[derive(Default)]
pub(crate) struct FilterView {
    pub(crate) request_headers: bool,
    pub(crate) request_trailers: bool,
    pub(crate) response_headers: bool,
    pub(crate) response_trailers: bool,
    /// `proxy_on_log` may read every map, and change none.
    pub(crate) logging: bool,
    /// The body that the filter sees: a chunk, or all that it holds back. By [`Direction`].
    pub(crate) bodies: [BytesMut; 2],
}

/// What properties tell about an exchange.
pub(crate) struct StreamInfo {
    /// The client, as `x-forwarded-for` and the listener's trust in it have it; port 0 if from there.
    pub(crate) source: Option<SocketAddr>,
    pub(crate) destination: Option<SocketAddr>,
    pub(crate) connection_id: u64,
    pub(crate) started: SystemTime,
    pub(crate) protocol: &'static str,
    pub(crate) routes: Option<Arc<RouteTable>>,
    /// The cluster of an upstream chain.
    pub(crate) cluster: Option<String>,
    pub(crate) request_bytes: Cell<u64>,
    pub(crate) response_bytes: Cell<u64>,
    pub(crate) response_details: RefCell<String>,
    pub(crate) upstream: Cell<Option<SocketAddr>>,
    /// Nothing more comes of the exchange.
    pub(crate) ended: Cell<bool>,
}

impl Default for StreamInfo {
    fn default() -> Self {
        Self {
            source: None,
            destination: None,
            connection_id: 0,
            started: SystemTime::now(),
            protocol: "HTTP/1.1",
            routes: None,
            cluster: None,
            request_bytes: Cell::new(0),
            response_bytes: Cell::new(0),
            response_details: RefCell::new(String::new()),
            upstream: Cell::new(None),
            ended: Cell::new(false),
        }
    }
}

/// An answer that a filter gives by itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct LocalReply {
    pub(crate) status: u16,
    pub(crate) headers: Headers,
    pub(crate) body: Bytes,
    pub(crate) grpc_status: Option<u32>,
    pub(crate) details: String,
}

/// The chain of an exchange, as the effects of its filters reach it.
pub(crate) trait StreamControl {
    /// The filter lets go on what it paused.
    fn resume(&self, filter: usize, direction: Direction);
    /// The filter answers, for the first time.
    fn local_reply(&self, filter: usize, reply: LocalReply);
    /// The exchange ends without an answer.
    fn reset(&self);
    /// The filter's VM has failed.
    fn vm_failed(&self, filter: usize);
}
