//! Parser of HTTP connection managers and their filters.

use std::net::IpAddr;
use std::time::Duration;

use super::access_log::access_logs;
use super::chain_match::cidr_range;
use super::document::{Fields, Node};
use super::native;
use super::plugin::{Plugin, wasm_filter};
use super::routes::{RouteTable, route_table};
use super::support::{self, Message};
use crate::access_log::AccessLog;
use crate::native::NativeFilter;

const ESCAPED_SLASHES: [(&str, EscapedSlashes); 5] = [
    ("IMPLEMENTATION_SPECIFIC_DEFAULT", EscapedSlashes::Keep),
    ("KEEP_UNCHANGED", EscapedSlashes::Keep),
    ("REJECT_REQUEST", EscapedSlashes::Reject),
    ("UNESCAPE_AND_REDIRECT", EscapedSlashes::Redirect),
    ("UNESCAPE_AND_FORWARD", EscapedSlashes::Forward),
];

/// HTTP connection manager with its filters and routes.
#[derive(Debug, Clone)]
pub struct HttpManager {
    /// Prefix of the counters: `http.<stat_prefix>.downstream_rq_total`.
    pub stat_prefix: String,
    /// Whether the downstream address is the connection's peer instead of an `x-forwarded-for` entry.
    pub use_remote_address: bool,
    /// Number of proxies in front that are trusted to append to `x-forwarded-for`.
    pub xff_num_trusted_hops: u32,
    /// Networks of internal clients (`internal_address_config`), whose `x-envoy-` headers steer the router: address and
    /// length of the prefix in bits.
    pub internal_addresses: Vec<(IpAddr, u8)>,
    /// Whether `x-forwarded-for` is left unchanged.
    pub skip_xff_append: bool,
    /// Whether a missing `x-request-id` is generated (Envoy's default).
    pub generate_request_id: bool,
    /// Path normalization before the first filter.
    pub path_normalization: PathNormalization,
    /// Upgrades of HTTP/1.1 connections that routes allow, in lower case, such as `websocket`.
    pub upgrades: Vec<String>,
    /// Longest time without any event in a stream; zero: no limit. Envoy's default is 5 minutes.
    pub stream_idle_timeout: Duration,
    /// Time within which a request has to be complete; zero: no limit.
    pub request_timeout: Duration,
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

/// HTTP filter other than the router.
#[derive(Debug, Clone)]
pub enum HttpFilter {
    /// Wasm plugin.
    Wasm(Box<Plugin>),
    /// Native filter.
    Native(NativeFilter),
}

/// Parses the message of an HTTP connection manager.
pub(super) fn http_manager(mut fields: Fields<'_>) -> Option<HttpManager> {
    let stat_prefix = fields.require("stat_prefix").and_then(|node| node.string());
    let codec = fields.take("codec_type").map(|node| node.one_of(&[("AUTO", ()), ("HTTP1", ()), ("HTTP2", ())]));
    let flag = |node: Option<Node<'_>>, default| node.map_or(Some(default), |node| node.boolean());
    let use_remote_address = flag(fields.take("use_remote_address"), false);
    let skip_xff_append = flag(fields.take("skip_xff_append"), false);
    let generate_request_id = flag(fields.take("generate_request_id"), true);
    let hops = fields.take("xff_num_trusted_hops").map_or(Some(0), |node| node.integer("a number of hops"));
    let internal = fields.take("internal_address_config").map_or(Some(Vec::new()), |node| internal_addresses(&node));
    let normalize = flag(fields.take("normalize_path"), false);
    let merge_slashes = flag(fields.take("merge_slashes"), false);
    let escaped_slashes = fields
        .take("path_with_escaped_slashes_action")
        .map_or(Some(EscapedSlashes::default()), |node| node.one_of(&ESCAPED_SLASHES));
    let [idle, request] = [("stream_idle_timeout", 300), ("request_timeout", 0)]
        .map(|(name, default)| fields.take(name).map_or(Some(Duration::from_secs(default)), |node| node.duration()));
    let routes = fields.require("route_config").and_then(|node| route_table(&node));
    let access_log = fields.take("access_log").map_or(Some(Vec::new()), |node| access_logs(&node));
    let filters = fields.require("http_filters").and_then(|node| http_filters(&node));
    let upgrades = fields.take("upgrade_configs").map(|node| node.each(upgrade)).unwrap_or_default();
    fields.finish();
    let upgrades: Vec<(String, bool)> = upgrades.into_iter().collect::<Option<_>>()?;
    (codec != Some(None)).then_some(())?;
    Some(HttpManager {
        stat_prefix: stat_prefix?,
        use_remote_address: use_remote_address?,
        xff_num_trusted_hops: hops?,
        internal_addresses: internal?,
        skip_xff_append: skip_xff_append?,
        generate_request_id: generate_request_id?,
        path_normalization: PathNormalization {
            normalize: normalize?,
            merge_slashes: merge_slashes?,
            escaped_slashes: escaped_slashes?,
        },
        upgrades: upgrades.into_iter().filter(|(_, enabled)| *enabled).map(|(name, _)| name).collect(),
        stream_idle_timeout: idle?,
        request_timeout: request?,
        routes: routes?,
        access_log: access_log?,
        filters: filters?,
    })
}

fn internal_addresses(node: &Node<'_>) -> Option<Vec<(IpAddr, u8)>> {
    let mut fields = node.message(&support::INTERNAL_ADDRESSES)?;
    let ranges = fields.take("cidr_ranges").map(|node| node.each(cidr_range)).unwrap_or_default();
    fields.finish();
    ranges.into_iter().collect()
}

/// Parses an upgrade: its type in lower case, and whether it is enabled.
pub(super) fn upgrade(node: &Node<'_>) -> Option<(String, bool)> {
    let mut fields = node.message(&support::UPGRADE)?;
    let name = fields.require("upgrade_type").map(|node| (node.string(), node));
    let is_enabled = fields.take("enabled").map_or(Some(true), |node| node.boolean());
    fields.finish();
    let (name, place) = name?;
    let name = name?.to_ascii_lowercase();
    if name == "connect" {
        place.unsupported("`CONNECT` is not honoured by the harness");
        return None;
    }
    Some((name, is_enabled?))
}

fn http_filters(node: &Node<'_>) -> Option<Vec<HttpFilter>> {
    chain_of(node, &support::ROUTER, "the router", native::KNOWN, |message, fields| match message.name {
        name if name == support::WASM.name => wasm_filter(fields).map(|plugin| HttpFilter::Wasm(Box::new(plugin))),
        _ => native::native_filter(message, fields).map(HttpFilter::Native),
    })
}

/// Parses upstream filters, of which only wasm filters are supported, and the codec at their end.
pub(super) fn upstream_filters(node: &Node<'_>) -> Option<Vec<Plugin>> {
    chain_of(node, &support::CODEC, "the codec", &[], |_, fields| wasm_filter(fields))
}

/// Parses a filter chain: wasm filters and filters of the message types in `others`, then one filter of type `last`
/// without options.
fn chain_of<'a, T>(
    node: &Node<'a>,
    last: &'static Message,
    what: &str,
    others: &'static [&'static Message],
    parse: impl Fn(&'static Message, Fields<'a>) -> Option<T>,
) -> Option<Vec<T>> {
    enum Filter<T> {
        Some(T),
        Last,
    }
    let parsed = node.each(|node| {
        let mut fields = node.message(&support::HTTP_FILTER)?;
        let _name = fields.require("name").and_then(|node| node.string());
        let typed = fields.require("typed_config");
        fields.finish();
        let typed = typed?;
        let mut config = typed.fields()?;
        let message = config.message_type()?;
        if let Some(known) = [&support::WASM].iter().chain(others).find(|known| known.name == message) {
            return parse(known, config.of(known)).map(Filter::Some);
        }
        if message == last.name {
            config.of(last).finish();
            return Some(Filter::Last);
        }
        let known: Vec<String> =
            [&support::WASM].iter().chain(others).map(|known| format!("`{}`, ", known.name)).collect();
        let known = known.concat();
        let known = known.trim_end_matches(", ");
        typed
            .child("@type")
            .unsupported(&format!("`{message}` is not honoured by the harness; expected {known} or `{}`", last.name));
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
    if ends { Some(filters) } else { node.expected(&format!("{what} (`{}`) as the last filter, once", last.name)) }
}
