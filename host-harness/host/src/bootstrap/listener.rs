//! Parser of listeners with one HTTP connection manager.

use std::net::SocketAddr;

use super::access_log::access_logs;
use super::document::{Fields, Node, socket_address};
use super::native;
use super::plugin::{Plugin, WASM, wasm_filter};
use super::routes::{RouteTable, route_table};
use crate::access_log::AccessLog;
use crate::native::NativeFilter;
use crate::vm::chain::BUFFER_LIMIT;

const CONNECTION_MANAGER: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "envoy.extensions.filters.http.router.v3.Router";

const ESCAPED_SLASHES: [(&str, EscapedSlashes); 5] = [
    ("IMPLEMENTATION_SPECIFIC_DEFAULT", EscapedSlashes::Keep),
    ("KEEP_UNCHANGED", EscapedSlashes::Keep),
    ("REJECT_REQUEST", EscapedSlashes::Reject),
    ("UNESCAPE_AND_REDIRECT", EscapedSlashes::Redirect),
    ("UNESCAPE_AND_FORWARD", EscapedSlashes::Forward),
];

/// HTTP listener with its filter chain and routes.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Name.
    pub name: String,
    /// Address; port 0 requests a free port.
    pub address: SocketAddr,
    /// Prefix of the listener's counters: `http.<stat_prefix>.downstream_rq_total`.
    pub stat_prefix: String,
    /// Limit of a body that a filter holds, in bytes (`per_connection_buffer_limit_bytes`).
    pub buffer_limit: usize,
    /// Whether the downstream address is the connection's peer instead of an `x-forwarded-for` entry.
    pub use_remote_address: bool,
    /// Number of proxies in front that are trusted to append to `x-forwarded-for`.
    pub xff_num_trusted_hops: u32,
    /// Whether `x-forwarded-for` is left unchanged.
    pub skip_xff_append: bool,
    /// Whether a missing `x-request-id` is generated (Envoy's default).
    pub generate_request_id: bool,
    /// Path normalization before the first filter.
    pub path_normalization: PathNormalization,
    /// Route table of the router.
    pub routes: RouteTable,
    /// Access logs.
    pub access_log: Vec<AccessLog>,
    /// HTTP filters before the router, in request order.
    pub filters: Vec<HttpFilter>,
}

/// Path settings of an HTTP connection manager, all off by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PathNormalization {
    /// `normalize_path`.
    pub normalize: bool,
    /// `merge_slashes`.
    pub merge_slashes: bool,
    /// `path_with_escaped_slashes_action`.
    pub escaped_slashes: EscapedSlashes,
}

/// Treatment of a request with `%2F` or `%5C` in its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EscapedSlashes {
    /// The request continues unchanged.
    #[default]
    Keep,
    /// The request gets a 400 response.
    Reject,
    /// The request gets a 307 response with the slashes unescaped; a gRPC request gets a 400 response.
    Redirect,
    /// The request continues with the slashes unescaped.
    Forward,
}

impl Listener {
    /// Returns the listener's wasm plugins, in request order.
    pub fn plugins(&self) -> impl Iterator<Item = &Plugin> {
        self.filters.iter().filter_map(|filter| match filter {
            HttpFilter::Wasm(plugin) => Some(plugin.as_ref()),
            HttpFilter::Native(_) => None,
        })
    }
}

/// HTTP filter other than the router.
#[derive(Debug, Clone)]
pub enum HttpFilter {
    /// Wasm plugin.
    Wasm(Box<Plugin>),
    /// Native filter.
    Native(NativeFilter),
}

pub(super) fn listener(node: &Node<'_>) -> Option<Listener> {
    let mut fields = node.fields()?;
    let name = fields.require("name").and_then(|node| node.string());
    let address = fields.require("address").and_then(|node| socket_address(&node));
    let buffer_limit = fields.take("per_connection_buffer_limit_bytes");
    let buffer_limit = buffer_limit.map_or(Some(BUFFER_LIMIT), |node| node.integer("a number of bytes"));
    let chains = fields.require("filter_chains").map(|node| (node.clone(), node.each(filter_chain)));
    fields.finish();
    let (chains_node, mut chains) = chains?;
    if chains.len() != 1 {
        return chains_node.expected("exactly one filter chain");
    }
    let manager = chains.pop().flatten()?;
    Some(Listener { name: name?, address: address?, buffer_limit: buffer_limit?, ..manager })
}

fn filter_chain(node: &Node<'_>) -> Option<Listener> {
    let mut fields = node.fields()?;
    let filters = fields.require("filters").map(|node| (node.clone(), node.each(network_filter)));
    fields.finish();
    let (filters_node, mut filters) = filters?;
    if filters.len() != 1 {
        return filters_node.expected("exactly one filter, an HTTP connection manager");
    }
    filters.pop().flatten()
}

fn network_filter(node: &Node<'_>) -> Option<Listener> {
    let mut fields = node.fields()?;
    let _name = fields.require("name").and_then(|node| node.string());
    let manager =
        fields.require("typed_config").and_then(|node| node.typed(CONNECTION_MANAGER)).and_then(connection_manager);
    fields.finish();
    manager
}

fn connection_manager(mut fields: Fields<'_>) -> Option<Listener> {
    let stat_prefix = fields.require("stat_prefix").and_then(|node| node.string());
    let codec = fields.take("codec_type").map(|node| node.one_of(&[("AUTO", ()), ("HTTP1", ()), ("HTTP2", ())]));
    let flag = |node: Option<Node<'_>>, default| node.map_or(Some(default), |node| node.boolean());
    let use_remote_address = flag(fields.take("use_remote_address"), false);
    let skip_xff_append = flag(fields.take("skip_xff_append"), false);
    let generate_request_id = flag(fields.take("generate_request_id"), true);
    let hops = fields.take("xff_num_trusted_hops").map_or(Some(0), |node| node.integer("a number of hops"));
    let normalize = flag(fields.take("normalize_path"), false);
    let merge_slashes = flag(fields.take("merge_slashes"), false);
    let escaped_slashes = fields
        .take("path_with_escaped_slashes_action")
        .map_or(Some(EscapedSlashes::default()), |node| node.one_of(&ESCAPED_SLASHES));
    let routes = fields.require("route_config").and_then(|node| route_table(&node));
    let access_log = fields.take("access_log").map_or(Some(Vec::new()), |node| access_logs(&node));
    let filters = fields.require("http_filters").and_then(|node| http_filters(&node));
    fields.finish();
    (codec != Some(None)).then_some(())?;
    Some(Listener {
        name: String::new(),
        address: SocketAddr::from(([0, 0, 0, 0], 0)),
        buffer_limit: BUFFER_LIMIT,
        stat_prefix: stat_prefix?,
        use_remote_address: use_remote_address?,
        xff_num_trusted_hops: hops?,
        skip_xff_append: skip_xff_append?,
        generate_request_id: generate_request_id?,
        path_normalization: PathNormalization {
            normalize: normalize?,
            merge_slashes: merge_slashes?,
            escaped_slashes: escaped_slashes?,
        },
        routes: routes?,
        access_log: access_log?,
        filters: filters?,
    })
}

fn http_filters(node: &Node<'_>) -> Option<Vec<HttpFilter>> {
    chain_of(node, ROUTER, "the router", &native::KNOWN, |message, fields| match message {
        WASM => wasm_filter(fields).map(|plugin| HttpFilter::Wasm(Box::new(plugin))),
        _ => native::native_filter(message, fields).map(HttpFilter::Native),
    })
}

/// Parses upstream filters, of which only wasm filters are supported, and the codec at their end.
pub(super) fn upstream_filters(node: &Node<'_>, codec: &str) -> Option<Vec<Plugin>> {
    chain_of(node, codec, "the codec", &[], |_, fields| wasm_filter(fields))
}

/// Parses a filter chain: wasm filters and filters of the message types in `others`, then one filter of type `last`
/// without options.
fn chain_of<'a, T>(
    node: &Node<'a>,
    last: &str,
    what: &str,
    others: &[&str],
    parse: impl Fn(&str, Fields<'a>) -> Option<T>,
) -> Option<Vec<T>> {
    enum Filter<T> {
        Some(T),
        Last,
    }
    let parsed = node.each(|node| {
        let mut fields = node.fields()?;
        let _name = fields.require("name").and_then(|node| node.string());
        let typed = fields.require("typed_config");
        fields.finish();
        let typed = typed?;
        let mut config = typed.fields()?;
        let message = config.message_type()?;
        if message == WASM || others.contains(&message.as_str()) {
            return parse(&message, config).map(Filter::Some);
        }
        if message == last {
            config.finish();
            return Some(Filter::Last);
        }
        let known: Vec<String> = [WASM].iter().chain(others).map(|known| format!("`{known}`, ")).collect();
        let known = known.concat();
        let known = known.trim_end_matches(", ");
        typed
            .child("@type")
            .refuse(&format!("`{message}` is not honoured by the harness; expected {known} or `{last}`"));
        None
    });
    let count = parsed.len();
    let mut filters = Vec::new();
    let mut ends = false;
    for (index, filter) in parsed.into_iter().enumerate() {
        match filter? {
            Filter::Some(filter) => filters.push(filter),
            Filter::Last => ends = index + 1 == count,
        }
    }
    if ends { Some(filters) } else { node.expected(&format!("{what} (`{last}`) as the last filter, once")) }
}
