//! Matches of filter chains, and selection of the chain of a connection.
//!
//! Envoy's order: destination port, server name, transport protocol, application protocols, source address, source
//! port. At each step the chains with the most specific match stay, and there is no way back. (Envoy,
//! "FilterChainMatch".)

use std::net::{IpAddr, SocketAddr};

use super::document::Node;
use super::support;

/// Connections of a filter chain; an empty list matches every connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChainMatch {
    /// Port of the listener's address.
    pub destination_port: Option<u16>,
    /// Server names in lower case, or `*.suffix`.
    pub server_names: Vec<String>,
    /// `tls` or `raw_buffer`.
    pub transport_protocol: Option<String>,
    /// Protocols offered in the TLS handshake.
    pub application_protocols: Vec<String>,
    /// Networks of the peer: address and length of the prefix in bits.
    pub source_prefix_ranges: Vec<(IpAddr, u8)>,
    /// Ports of the peer.
    pub source_ports: Vec<u16>,
}

/// Attributes of a connection that matches can read.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) is_tls: bool,
    pub(crate) server_name: String,
    pub(crate) application_protocols: Vec<String>,
}

/// Rank of a chain at one step of the selection; `None`: the chain does not match.
type Step<'a> = &'a dyn Fn(&ChainMatch) -> Option<usize>;

/// Returns the index of the chain of a connection.
pub(crate) fn select<'a>(matches: impl Iterator<Item = &'a ChainMatch>, facts: &Facts) -> Option<usize> {
    let mut left: Vec<(usize, &ChainMatch)> = matches.enumerate().collect();
    let steps: [Step<'_>; 6] = [
        &|chain| specific(chain.destination_port.as_slice(), |port| *port == facts.local.port(), |_| 1),
        &|chain| {
            specific(
                &chain.server_names,
                |name| is_server(name, &facts.server_name),
                |name| {
                    // Any exact name is more specific than every suffix.
                    name.len() + if name.starts_with('*') { 0 } else { 1 << 16 }
                },
            )
        },
        &|chain| specific(chain.transport_protocol.as_slice(), |name| (name == "tls") == facts.is_tls, |_| 1),
        &|chain| specific(&chain.application_protocols, |name| facts.application_protocols.contains(name), |_| 1),
        &|chain| {
            let peer = facts.remote.ip();
            specific(&chain.source_prefix_ranges, |range| is_within(peer, *range), |range| 1 + usize::from(range.1))
        },
        &|chain| specific(&chain.source_ports, |port| *port == facts.remote.port(), |_| 1),
    ];
    for step in steps {
        let ranked: Vec<_> = left.into_iter().filter_map(|(index, chain)| Some((step(chain)?, index, chain))).collect();
        let best = ranked.iter().map(|(rank, ..)| *rank).max()?;
        left = ranked.into_iter().filter(|(rank, ..)| *rank == best).map(|(_, index, chain)| (index, chain)).collect();
    }
    left.first().map(|(index, _)| *index)
}

/// Rank of the most specific value that matches; 0 without values, `None` if there are values and none matches.
fn specific<T>(values: &[T], is: impl Fn(&T) -> bool, rank: impl Fn(&T) -> usize) -> Option<usize> {
    if values.is_empty() { Some(0) } else { values.iter().filter(|value| is(value)).map(rank).max() }
}

fn is_server(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) => name.len() > suffix.len() && name.ends_with(suffix),
        None => pattern == name,
    }
}

pub(crate) fn is_within(address: IpAddr, (network, bits): (IpAddr, u8)) -> bool {
    let (address, network, width) = match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            (u128::from(address.to_bits()), u128::from(network.to_bits()), 32)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => (address.to_bits(), network.to_bits(), 128),
        _ => return false,
    };
    let cut = u32::from(width - bits.min(width));
    // A shift by all 128 bits overflows: every address is within a network of length 0.
    address.checked_shr(cut).unwrap_or(0) == network.checked_shr(cut).unwrap_or(0)
}

pub(super) fn chain_match(node: &Node<'_>) -> Option<ChainMatch> {
    let mut fields = node.message(&support::CHAIN_MATCH)?;
    let mut texts = |name: &str| -> Option<Vec<String>> {
        fields.take(name).map(|node| node.each(Node::string)).unwrap_or_default().into_iter().collect()
    };
    let (server_names, application_protocols) = (texts("server_names"), texts("application_protocols"));
    let port = |node: &Node<'_>| node.integer::<u16>("a port, 0 to 65535");
    let destination_port = fields.take("destination_port").map(|node| port(&node));
    let transport_protocol =
        fields.take("transport_protocol").map(|node| node.named(&[("tls", "tls"), ("raw_buffer", "raw_buffer")]));
    let ranges = fields.take("source_prefix_ranges").map(|node| node.each(cidr_range)).unwrap_or_default();
    let ports = fields.take("source_ports").map(|node| node.each(port)).unwrap_or_default();
    fields.finish();
    (destination_port != Some(None) && transport_protocol != Some(None)).then_some(())?;
    Some(ChainMatch {
        destination_port: destination_port.flatten(),
        server_names: server_names?.iter().map(|name| name.to_ascii_lowercase()).collect(),
        transport_protocol: transport_protocol.flatten().map(str::to_owned),
        application_protocols: application_protocols?,
        source_prefix_ranges: ranges.into_iter().collect::<Option<_>>()?,
        source_ports: ports.into_iter().collect::<Option<_>>()?,
    })
}

pub(super) fn cidr_range(node: &Node<'_>) -> Option<(IpAddr, u8)> {
    let mut fields = node.message(&support::CIDR_RANGE)?;
    let address = fields.require("address_prefix").and_then(|node| match node.string()?.parse() {
        Ok(address) => Some(address),
        Err(_) => node.expected("an IP address"),
    });
    let bits = fields.take("prefix_len").map_or(Some(0), |node| node.integer("a number of bits, 0 to 128"));
    fields.finish();
    Some((address?, bits?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(server_name: &str, remote: &str) -> Facts {
        Facts {
            local: SocketAddr::from(([127, 0, 0, 1], 443)),
            remote: remote.parse().unwrap(),
            is_tls: !server_name.is_empty(),
            server_name: server_name.to_owned(),
            application_protocols: vec!["h2".to_owned()],
        }
    }

    fn named(names: &[&str]) -> ChainMatch {
        ChainMatch { server_names: names.iter().map(|name| (*name).to_owned()).collect(), ..ChainMatch::default() }
    }

    #[test]
    fn the_most_specific_server_name_wins() {
        let chains =
            [ChainMatch::default(), named(&["*.shop.com"]), named(&["*.eu.shop.com"]), named(&["a.eu.shop.com"])];
        let chosen = |name: &str| select(chains.iter(), &facts(name, "10.0.0.1:5"));
        assert_eq!(
            ["a.eu.shop.com", "b.eu.shop.com", "b.shop.com", "other", ""].map(chosen),
            [3, 2, 1, 0, 0].map(Some)
        );
        assert_eq!(select(chains[1..].iter(), &facts("other", "10.0.0.1:5")), None);
    }

    #[test]
    fn the_longest_network_of_the_peer_wins() {
        let within = |network: &str, bits| ChainMatch {
            source_prefix_ranges: vec![(network.parse().unwrap(), bits)],
            ..ChainMatch::default()
        };
        let chains = [within("0.0.0.0", 0), within("10.0.0.0", 8), within("10.1.0.0", 16), within("::", 0)];
        let chosen = |remote: &str| select(chains.iter(), &facts("", remote));
        assert_eq!(["10.1.2.3:1", "10.2.2.3:1", "11.0.0.1:1", "[fe80::1]:1"].map(chosen), [2, 1, 0, 3].map(Some));
    }

    #[test]
    fn a_server_name_is_decided_before_the_peer() {
        let mut by_peer = named(&["*.com"]);
        by_peer.source_ports = vec![7];
        let chains = [by_peer, named(&["a.com"])];
        assert_eq!(select(chains.iter(), &facts("a.com", "10.0.0.1:7")), Some(1));
        assert_eq!(select(chains.iter(), &facts("b.com", "10.0.0.1:8")), None);
    }
}
