//! HTTP stream: the state that its filters share, and the trait through which their effects reach the filter chain.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::BytesMut;

use super::{HeaderChange, Headers, LocalReply, ResponseFlag, ResponseFlags};
use crate::bootstrap::{Action, Route, RouteTable, VirtualHost};

/// Direction of an HTTP message: request (downstream to upstream) or response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Request = 0,
    Response = 1,
}

/// State of one HTTP stream, shared by all its filters.
#[derive(Default)]
pub(crate) struct Stream {
    pub(crate) request_headers: RefCell<Headers>,
    pub(crate) request_trailers: RefCell<Option<Headers>>,
    pub(crate) response_headers: RefCell<Option<Headers>>,
    pub(crate) response_trailers: RefCell<Option<Headers>>,
    /// Views of the filters, in request order.
    pub(crate) views: RefCell<Vec<FilterView>>,
    /// Filter state by key, as plain bytes; keys set by wasm filters begin with `wasm.`.
    pub(crate) filter_state: RefCell<HashMap<Vec<u8>, Vec<u8>>>,
    /// Dynamic metadata: one object for each namespace.
    pub(crate) dynamic_metadata: RefCell<BTreeMap<String, serde_json::Value>>,
    pub(crate) info: StreamInfo,
}

impl Stream {
    /// Passes the route that matches the current request headers to `show`; `None` if no route matches.
    ///
    /// The route is looked up on each call: Envoy clears its cached route when the headers change.
    pub(crate) fn with_route<T>(&self, show: impl FnOnce(&VirtualHost, &Route) -> T) -> Option<T> {
        let headers = self.request_headers.borrow();
        let routes = self.info.routes.as_ref()?;
        let (host, route) = routes.find(&headers)?;
        Some(show(host, route))
    }

    /// Header changes of a local reply: those of a response, if the route leads to a cluster, whoever replies.
    pub(crate) fn local_reply_changes(&self) -> Vec<HeaderChange> {
        let Some(table) = &self.info.routes else { return Vec::new() };
        let changes = self.with_route(|host, route| match &route.action {
            Action::Cluster { .. } => {
                table.mutations(host, route).into_iter().flat_map(|level| level.of_response(self)).collect()
            }
            Action::Direct(_) | Action::Redirect(_) => Vec::new(),
        });
        changes.unwrap_or_default()
    }
}

/// Maps and bodies open to one filter. A map is open from its callback until the filter releases it, as in Envoy.
#[derive(Default)]
pub(crate) struct FilterView {
    pub(crate) request_headers: bool,
    pub(crate) request_trailers: bool,
    pub(crate) response_headers: bool,
    pub(crate) response_trailers: bool,
    /// Whether `proxy_on_log` is running: the filter can then read every map, and change none.
    pub(crate) logging: bool,
    /// Whether the filter can change the body, by [`Direction`].
    pub(crate) body_open: [bool; 2],
    /// Whether the open body is the end of its direction, so that the filter can add trailers.
    pub(crate) body_ends: [bool; 2],
    /// Body that the filter can read, by [`Direction`]: the current chunk, or all bytes that the filter holds.
    pub(crate) bodies: [BytesMut; 2],
}

/// Attributes of a downstream connection and of its listener, readable as properties.
#[derive(Debug, Default)]
pub(crate) struct ConnectionInfo {
    /// Server name of the TLS handshake in lower case; empty without one, or without an inspector of TLS, as in Envoy.
    pub(crate) server_name: String,
    /// Version of TLS, such as `TLSv1.3`; `None` for a plain connection.
    pub(crate) tls_version: Option<&'static str>,
    /// Whether the client has presented a certificate, which is verified then.
    pub(crate) is_mutual_tls: bool,
    /// Number of the listener's `traffic_direction`.
    pub(crate) direction: u64,
    /// Name of the filter chain; may be empty.
    pub(crate) chain: String,
}

/// Attributes of an HTTP stream, readable as properties.
pub(crate) struct StreamInfo {
    /// Downstream address: of the connection, or with port 0 from `x-forwarded-for`, if the listener trusts it.
    pub(crate) source: Option<SocketAddr>,
    pub(crate) destination: Option<SocketAddr>,
    pub(crate) connection_id: u64,
    pub(crate) connection: Rc<ConnectionInfo>,
    pub(crate) started: SystemTime,
    pub(crate) protocol: &'static str,
    pub(crate) routes: Option<Arc<RouteTable>>,
    /// Cluster of an upstream filter chain; `None` in a listener's chain.
    pub(crate) cluster: Option<String>,
    pub(crate) request_bytes: Cell<u64>,
    pub(crate) response_bytes: Cell<u64>,
    pub(crate) response_details: RefCell<String>,
    pub(crate) response_flags: Cell<ResponseFlags>,
    pub(crate) upstream: Cell<Option<SocketAddr>>,
    /// Whether the stream has ended.
    pub(crate) ended: Cell<bool>,
}

impl StreamInfo {
    pub(crate) fn add_flag(&self, flag: ResponseFlag) {
        self.response_flags.set(self.response_flags.get().with(flag));
    }

    /// Notes that the downstream has closed its connection before it had the whole response.
    pub(crate) fn note_disconnect(&self) {
        self.add_flag(ResponseFlag::DownstreamConnectionTermination);
        self.response_details.replace("downstream_remote_disconnect".to_owned());
    }
}

impl Default for StreamInfo {
    fn default() -> Self {
        Self {
            source: None,
            destination: None,
            connection_id: 0,
            connection: Rc::default(),
            started: SystemTime::now(),
            protocol: "HTTP/1.1",
            routes: None,
            cluster: None,
            request_bytes: Cell::new(0),
            response_bytes: Cell::new(0),
            response_details: RefCell::new(String::new()),
            response_flags: Cell::default(),
            upstream: Cell::new(None),
            ended: Cell::new(false),
        }
    }
}

/// Filter chain of an HTTP stream, as seen by the effects of its filters.
pub(crate) trait StreamControl {
    /// Resumes a direction that the filter paused.
    fn resume(&self, filter: usize, direction: Direction);
    /// Sends a filter's local reply; later replies of the same filter are ignored.
    fn local_reply(&self, filter: usize, reply: LocalReply);
    /// Resets the stream without a response.
    fn reset(&self);
}
