//! Parser of listeners and their filter chains.

use std::net::SocketAddr;
use std::sync::Arc;

use super::chain_match::{ChainMatch, chain_match};
use super::document::{Fields, Node, socket_address};
use super::http_manager::{HttpFilter, HttpManager, http_manager};
use super::plugin::Plugin;
use super::support;
use super::tls::downstream_tls;
use crate::vm::chain::BUFFER_LIMIT;

/// Listener with its filter chains.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Name; the address if the file gives no name.
    pub name: String,
    /// Address; port 0 requests a free port.
    pub address: SocketAddr,
    /// Limit of a body that a filter holds, in bytes (`per_connection_buffer_limit_bytes`).
    pub buffer_limit: usize,
    /// Whether the start of a connection is read for the choice of its chain (`tls_inspector`). Without it, no
    /// connection has a server name, as in Envoy.
    pub inspects_tls: bool,
    /// Direction of the connections (`traffic_direction`).
    pub direction: TrafficDirection,
    /// Filter chains; a connection without a matching chain is closed.
    pub chains: Vec<FilterChain>,
    /// Filter chain of the connections that match no other.
    pub default_chain: Option<FilterChain>,
}

/// Direction of a listener's connections, with Envoy's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TrafficDirection {
    /// The file does not say.
    #[default]
    Unspecified = 0,
    /// To the service beside the proxy.
    Inbound = 1,
    /// From the service beside the proxy.
    Outbound = 2,
}

/// Filter chain of a listener.
#[derive(Debug, Clone)]
pub struct FilterChain {
    /// Name; empty if the file gives none.
    pub name: String,
    /// Connections of the chain.
    pub matches: ChainMatch,
    /// TLS of the downstream.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Filter at the end of the chain.
    pub terminal: Terminal,
}

/// Last network filter of a chain.
#[derive(Debug, Clone)]
pub enum Terminal {
    /// HTTP connection manager.
    Http(Box<HttpManager>),
    /// Proxy of bytes.
    Tcp(TcpProxy),
}

/// Proxy that passes the bytes of a connection to a cluster and back.
#[derive(Debug, Clone)]
pub struct TcpProxy {
    /// Prefix of the counters.
    pub stat_prefix: String,
    /// Name of a cluster of the same file.
    pub cluster: String,
}

impl Listener {
    /// Returns all filter chains, the default one last.
    pub fn all_chains(&self) -> impl Iterator<Item = &FilterChain> {
        self.chains.iter().chain(&self.default_chain)
    }

    /// Scheme of the listener's URL, by its first chain: `http`, `https`, or `tcp` for a proxy of bytes.
    pub fn scheme(&self) -> &'static str {
        match self.all_chains().next() {
            Some(FilterChain { terminal: Terminal::Tcp(_), .. }) => "tcp",
            Some(FilterChain { tls: Some(_), .. }) => "https",
            _ => "http",
        }
    }

    /// Returns the listener's HTTP connection managers.
    pub fn managers(&self) -> impl Iterator<Item = &HttpManager> {
        self.all_chains().filter_map(|chain| match &chain.terminal {
            Terminal::Http(manager) => Some(manager.as_ref()),
            Terminal::Tcp(_) => None,
        })
    }

    /// Returns the managers of [`Listener::managers`], to change them.
    pub fn managers_mut(&mut self) -> impl Iterator<Item = &mut HttpManager> {
        self.chains.iter_mut().chain(&mut self.default_chain).filter_map(|chain| match &mut chain.terminal {
            Terminal::Http(manager) => Some(manager.as_mut()),
            Terminal::Tcp(_) => None,
        })
    }

    /// Returns the listener's wasm plugins, in request order.
    pub fn plugins(&self) -> impl Iterator<Item = &Plugin> {
        self.managers().flat_map(|manager| &manager.filters).filter_map(|filter| match filter {
            HttpFilter::Wasm(plugin) => Some(plugin.as_ref()),
            HttpFilter::Native(_) => None,
        })
    }

    /// Returns the names of the clusters that TCP proxies send connections to.
    pub(super) fn proxied(&self) -> impl Iterator<Item = &str> {
        self.all_chains().filter_map(|chain| match &chain.terminal {
            Terminal::Http(_) => None,
            Terminal::Tcp(proxy) => Some(proxy.cluster.as_str()),
        })
    }
}

pub(super) fn listener(node: &Node<'_>) -> Option<Listener> {
    let mut fields = node.message(&support::LISTENER)?;
    let name = fields.take("name").map_or(Some(String::new()), |node| node.string());
    let address = fields.require("address").and_then(|node| socket_address(&node));
    let buffer_limit = fields.take("per_connection_buffer_limit_bytes");
    let buffer_limit = buffer_limit.map_or(Some(BUFFER_LIMIT), |node| node.integer("a number of bytes"));
    let direction = fields.take("traffic_direction").map_or(Some(TrafficDirection::default()), |node| direction(&node));
    let inspectors = fields.take("listener_filters").map(|node| node.each(listener_filter)).unwrap_or_default();
    let default_chain = fields.take("default_filter_chain").map(|node| filter_chain(&node));
    let chains = match (fields.take("filter_chains"), &default_chain) {
        (None, None) => fields.require("filter_chains").map(|_| Vec::new())?,
        (node, _) => node.map(|node| node.each(filter_chain)).unwrap_or_default(),
    };
    fields.finish();
    let default_chain = match default_chain {
        None => None,
        Some(chain) => Some(chain?),
    };
    let inspects_tls = !inspectors.into_iter().collect::<Option<Vec<()>>>()?.is_empty();
    let chains: Vec<FilterChain> = chains.into_iter().collect::<Option<_>>()?;
    if chains.is_empty() && default_chain.is_none() {
        return node.child("filter_chains").expected("at least one filter chain");
    }
    let (name, address) = (name?, address?);
    let name = if name.is_empty() { address.to_string() } else { name };
    Some(Listener {
        name,
        address,
        buffer_limit: buffer_limit?,
        inspects_tls,
        direction: direction?,
        chains,
        default_chain,
    })
}

fn direction(node: &Node<'_>) -> Option<TrafficDirection> {
    node.one_of(&[
        ("UNSPECIFIED", TrafficDirection::Unspecified),
        ("INBOUND", TrafficDirection::Inbound),
        ("OUTBOUND", TrafficDirection::Outbound),
    ])
}

/// Parses a listener filter, of which only the inspector of TLS is supported.
fn listener_filter(node: &Node<'_>) -> Option<()> {
    let mut fields = node.message(&support::LISTENER_FILTER)?;
    let _name = fields.require("name").and_then(|node| node.string());
    let typed = fields.require("typed_config");
    fields.finish();
    typed?.typed(&support::TLS_INSPECTOR)?.finish();
    Some(())
}

fn filter_chain(node: &Node<'_>) -> Option<FilterChain> {
    let mut fields = node.message(&support::FILTER_CHAIN)?;
    let name = fields.take("name").map_or(Some(String::new()), |node| node.string());
    let matches = fields.take("filter_chain_match").map_or(Some(ChainMatch::default()), |node| chain_match(&node));
    let tls = fields.take("transport_socket").map(|node| downstream_tls(&node));
    let filters = fields.require("filters").map(|node| (node.clone(), node.each(network_filter)));
    fields.finish();
    let (filters_node, filters) = filters?;
    let terminals: Vec<Terminal> = filters.into_iter().collect::<Option<Vec<_>>>()?.into_iter().flatten().collect();
    let Ok([terminal]) = <[Terminal; 1]>::try_from(terminals) else {
        return filters_node.expected("one HTTP connection manager or TCP proxy");
    };
    let tls = match tls {
        None => None,
        Some(tls) => tls?,
    };
    Some(FilterChain { name: name?, matches: matches?, tls, terminal })
}

/// Parses a network filter; filters that only observe a connection are left out.
fn network_filter(node: &Node<'_>) -> Option<Option<Terminal>> {
    let mut fields = node.message(&support::NETWORK_FILTER)?;
    let _name = fields.require("name").and_then(|node| node.string());
    let typed = fields.require("typed_config");
    fields.finish();
    let typed = typed?;
    let mut config = typed.fields()?;
    let message = config.message_type()?;
    match message.as_str() {
        name if name == support::HTTP_MANAGER.name => {
            let manager = http_manager(config.of(&support::HTTP_MANAGER))?;
            Some(Some(Terminal::Http(Box::new(manager))))
        }
        name if name == support::TCP_PROXY.name => {
            tcp_proxy(config.of(&support::TCP_PROXY)).map(|proxy| Some(Terminal::Tcp(proxy)))
        }
        name if support::OBSERVERS.contains(&name) => {
            typed.leave_out(name);
            Some(None)
        }
        other => {
            typed.child("@type").unsupported(&format!(
                "`{other}` is not honoured by the harness; expected `{}` or `{}`",
                support::HTTP_MANAGER.name,
                support::TCP_PROXY.name
            ));
            None
        }
    }
}

fn tcp_proxy(mut fields: Fields<'_>) -> Option<TcpProxy> {
    let stat_prefix = fields.require("stat_prefix").and_then(|node| node.string());
    let cluster = fields.require("cluster").and_then(|node| node.string());
    fields.finish();
    Some(TcpProxy { stat_prefix: stat_prefix?, cluster: cluster? })
}
