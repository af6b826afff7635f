//! Parser of clusters: endpoints, protocol and upstream filters.

use std::time::Duration;

use super::document::{Fields, Node, host_port};
use super::health_check::{HealthCheck, health_checks, panic_threshold};
use super::http_manager::upstream_filters;
use super::plugin::Plugin;
use super::support;
use super::tls::{UpstreamTls, upstream_tls};
use crate::documents::quoted;

/// Envoy's default of `healthy_panic_threshold`, in percent.
pub(super) const PANIC_THRESHOLD: u32 = 50;

/// Cluster: a named set of endpoints.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Name, unique in the file.
    pub name: String,
    /// Resolution of host names.
    pub discovery: Discovery,
    /// Timeout of one connection attempt; Envoy's default is 5 s.
    pub connect_timeout: Duration,
    /// Envoy's limits on concurrent connections and requests; the embedded host does not enforce them.
    pub circuit_breaker: CircuitBreaker,
    /// Endpoints, used in turn.
    pub endpoints: Vec<Endpoint>,
    /// Health check of the endpoints; without one, all are used.
    pub health_check: Option<HealthCheck>,
    /// Percentage of healthy endpoints below which all are used.
    pub panic_threshold: u32,
    /// Whether raw TCP connections to an endpoint that becomes unhealthy are closed.
    pub closes_on_failure: bool,
    /// Protocol of the endpoints.
    pub protocol: Protocol,
    /// TLS of the connections.
    pub tls: Option<UpstreamTls>,
    /// Upstream wasm filters before the codec, in request order.
    pub filters: Vec<Plugin>,
}

/// Supported cluster types of Envoy. Names are resolved for every connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discovery {
    /// IP addresses only.
    Static,
    /// All addresses of a name, used in turn.
    StrictDns,
    /// First address of a name.
    LogicalDns,
}

/// Envoy's circuit breaker thresholds for requests of the default priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitBreaker {
    /// Maximum number of concurrent connections.
    pub max_connections: u32,
    /// Maximum number of requests that wait for a connection.
    pub max_pending_requests: u32,
    /// Maximum number of concurrent requests.
    pub max_requests: u32,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self { max_connections: 1024, max_pending_requests: 1024, max_requests: 1024 }
    }
}

/// Endpoint of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// IP address or host name.
    pub host: String,
    /// Port, 1 to 65535.
    pub port: u16,
}

/// Protocol of a cluster's endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// Raw TCP: the request body is sent unchanged, and the received bytes are the body of a synthetic 200 response.
    Tcp,
}

pub(super) fn cluster(node: &Node<'_>) -> Option<Cluster> {
    let mut fields = node.message(&support::CLUSTER)?;
    let name = fields.require("name").and_then(|node| node.string());
    let discovery = fields.take("type").map_or(Some(Discovery::Static), |node| {
        node.one_of(&[
            ("STATIC", Discovery::Static),
            ("STRICT_DNS", Discovery::StrictDns),
            ("LOGICAL_DNS", Discovery::LogicalDns),
        ])
    });
    let connect_timeout = fields.take("connect_timeout").map_or(Some(Duration::from_secs(5)), |node| node.duration());
    let breaker =
        fields.take("circuit_breakers").map_or(Some(CircuitBreaker::default()), |node| circuit_breaker(&node));
    let policy = fields.take("lb_policy").map(|node| node.one_of(&[("ROUND_ROBIN", ())]));
    let endpoints = fields.require("load_assignment").and_then(|node| load_assignment(&node));
    let tcp = fields.take("upstream_config").map(|node| upstream_config(&node));
    let options = fields
        .take("typed_extension_protocol_options")
        .map_or(Some((Protocol::Http1, Vec::new())), |node| protocol_options(&node));
    let http1 = fields.take("http_protocol_options").map(|node| http1_options(&node));
    let http2 = fields.take("http2_protocol_options").map(|node| http2_options(&node));
    let transport = fields.take("transport_socket");
    let health_check = fields.take("health_checks").map_or(Some(None), |node| health_checks(&node));
    let panic_threshold = fields.take("common_lb_config").map_or(Some(PANIC_THRESHOLD), |node| panic_threshold(&node));
    let closes_on_failure =
        fields.take("close_connections_on_host_health_failure").map_or(Some(false), |node| node.boolean());
    fields.finish();

    (http1 != Some(None) && http2 != Some(None)).then_some(())?;
    (policy != Some(None) && tcp != Some(None)).then_some(())?;
    let (http, filters) = options?;
    // The older place of the protocol: fields of the cluster itself.
    let http = if http2.is_some() { Protocol::Http2 } else { http };
    let tls = match transport {
        None => None,
        Some(node) => upstream_tls(&node, http == Protocol::Http2)?,
    };
    let endpoints = endpoints?;
    if discovery? == Discovery::Static {
        for endpoint in endpoints.iter().filter(|endpoint| endpoint.host.parse::<std::net::IpAddr>().is_err()) {
            node.child("type").refuse(&format!("expected IP addresses for STATIC, found {}", quoted(&endpoint.host)));
        }
    }
    let protocol = if tcp.is_some() { Protocol::Tcp } else { http };
    Some(Cluster {
        name: name?,
        discovery: discovery?,
        connect_timeout: connect_timeout?,
        circuit_breaker: breaker?,
        endpoints,
        health_check: health_check?,
        panic_threshold: panic_threshold?,
        closes_on_failure: closes_on_failure?,
        protocol,
        tls,
        filters,
    })
}

fn circuit_breaker(node: &Node<'_>) -> Option<CircuitBreaker> {
    let mut fields = node.message(&support::CIRCUIT_BREAKERS)?;
    let thresholds = fields.take("thresholds").map(|node| node.each(threshold)).unwrap_or_default();
    fields.finish();
    let thresholds: Vec<(bool, CircuitBreaker)> = thresholds.into_iter().collect::<Option<_>>()?;
    let of_default = thresholds.into_iter().find_map(|(is_default, breaker)| is_default.then_some(breaker));
    Some(of_default.unwrap_or_default())
}

/// Parses the thresholds of a priority; returns them with whether the priority is the default. Thresholds that are lower
/// than Envoy's defaults are noted as left out.
fn threshold(node: &Node<'_>) -> Option<(bool, CircuitBreaker)> {
    let mut fields = node.message(&support::THRESHOLDS)?;
    let is_default =
        fields.take("priority").map_or(Some(true), |node| node.one_of(&[("DEFAULT", true), ("HIGH", false)]));
    let defaults = CircuitBreaker::default();
    let mut number =
        |name: &str, default: u32| fields.take(name).map_or(Some(default), |node| node.integer("a number of 32 bits"));
    let max_connections = number("max_connections", defaults.max_connections);
    let max_pending_requests = number("max_pending_requests", defaults.max_pending_requests);
    let max_requests = number("max_requests", defaults.max_requests);
    let max_retries = number("max_retries", 3);
    fields.finish();
    max_retries?;
    let (max_connections, max_pending_requests, max_requests) =
        (max_connections?, max_pending_requests?, max_requests?);
    if max_connections.min(max_pending_requests).min(max_requests) < defaults.max_requests {
        node.leave_out("circuit_breakers");
    }
    Some((is_default?, CircuitBreaker { max_connections, max_pending_requests, max_requests }))
}

fn load_assignment(node: &Node<'_>) -> Option<Vec<Endpoint>> {
    let mut fields = node.message(&support::LOAD_ASSIGNMENT)?;
    let _name = fields.require("cluster_name").and_then(|node| node.string());
    let localities = fields.take("endpoints").map(|node| node.each(locality)).unwrap_or_default();
    fields.finish();
    let localities: Vec<Vec<Endpoint>> = localities.into_iter().collect::<Option<_>>()?;
    Some(localities.into_iter().flatten().collect())
}

fn locality(node: &Node<'_>) -> Option<Vec<Endpoint>> {
    let mut fields = node.message(&support::LOCALITY)?;
    let hosts = fields.require("lb_endpoints").map(|node| {
        node.each(|node| {
            let mut fields = node.message(&support::LB_ENDPOINT)?;
            let endpoint = fields.require("endpoint");
            fields.finish();
            let mut fields = endpoint?.message(&support::ENDPOINT)?;
            let address = fields.require("address").and_then(|node| host_port(&node));
            fields.finish();
            address.map(|(host, port)| Endpoint { host, port })
        })
    });
    fields.finish();
    hosts?.into_iter().collect()
}

fn upstream_config(node: &Node<'_>) -> Option<()> {
    let mut fields = node.message(&support::UPSTREAM_CONFIG)?;
    let _name = fields.require("name").and_then(|node| node.string());
    let pool = fields.require("typed_config").and_then(|node| node.typed(&support::TCP_POOL));
    fields.finish();
    pool?.finish();
    Some(())
}

fn protocol_options(node: &Node<'_>) -> Option<(Protocol, Vec<Plugin>)> {
    let mut fields = node.fields()?;
    let options = fields.take(support::HTTP_OPTIONS.name);
    fields.finish();
    let mut fields = options?.typed(&support::HTTP_OPTIONS)?;
    let protocol = fields.require("explicit_http_config").and_then(|node| explicit_protocol(&node));
    let filters = fields.take("http_filters").map_or(Some(Vec::new()), |node| upstream_filters(&node));
    let names = fields.take("upstream_http_protocol_options").map(|node| server_names(&node));
    fields.finish();
    (names != Some(None)).then_some(())?;
    Some((protocol?, filters?))
}

/// Reads the options about the server names of TLS. The embedded host has the name of the cluster alone.
fn server_names(node: &Node<'_>) -> Option<()> {
    let mut fields = node.message(&support::UPSTREAM_HTTP)?;
    for name in ["auto_sni", "auto_san_validation"] {
        if let Some(node) = fields.take(name)
            && node.boolean() == Some(true)
        {
            node.unsupported("expected false, found true");
        }
    }
    fields.finish();
    Some(())
}

fn explicit_protocol(node: &Node<'_>) -> Option<Protocol> {
    let mut fields = node.message(&support::EXPLICIT_HTTP)?;
    let http1 = fields.take("http_protocol_options").map(|node| http1_options(&node));
    let http2 = fields.take("http2_protocol_options").map(|node| http2_options(&node));
    fields.finish();
    match (http1, http2) {
        (Some(Some(())), None) => Some(Protocol::Http1),
        (None, Some(Some(()))) => Some(Protocol::Http2),
        (Some(None), None) | (None, Some(None)) => None,
        _ => node.expected("one of `http_protocol_options` and `http2_protocol_options`"),
    }
}

fn http1_options(node: &Node<'_>) -> Option<()> {
    node.message(&support::HTTP1_OPTIONS).map(Fields::finish)
}

fn http2_options(node: &Node<'_>) -> Option<()> {
    node.message(&support::HTTP2_OPTIONS).map(Fields::finish)
}
