//! Header manipulation by the connection manager, before the first filter.
//!
//! Adds pseudo-headers, `x-forwarded-for`, `x-forwarded-proto` and a request id, removes hop-by-hop headers and what a
//! client must not send, and finds the downstream address. (Envoy, "HTTP header manipulation", "x-forwarded-for".)

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use hyper::Version;
use hyper::header::HeaderValue;
use hyper::http::request::Parts;

use super::downstream::Peers;
use super::early::EarlyAnswer;
use super::path::{Normalized, normalize};
use super::sanitize::{self, Origin};
use crate::bootstrap::HttpManager;
use crate::bootstrap::chain_match::is_within;
use crate::http::{Headers, joined};

const HOP_BY_HOP: [&str; 5] = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

/// Request as the first filter sees it.
pub(crate) struct Received {
    pub(crate) headers: Headers,
    /// Downstream address; port 0 if it is from `x-forwarded-for`.
    pub(crate) client: SocketAddr,
    pub(crate) protocol: &'static str,
    /// Answer before the first filter; `None`: the request continues.
    pub(crate) answered: Option<EarlyAnswer>,
}

impl Received {
    /// Request that Envoy's parser refuses: it has no headers.
    pub(crate) fn refused(answer: EarlyAnswer, peers: Peers) -> Self {
        Self { headers: Headers::new(), client: peers.remote, protocol: "HTTP/1.1", answered: Some(answer) }
    }
}

/// Returns the request for the first filter.
pub(crate) fn receive(parts: &Parts, manager: &HttpManager, peers: Peers, upgrade: Option<&str>) -> Received {
    let (peer, transport) = (peers.remote, if peers.is_tls { "https" } else { "http" });
    let hosts: Vec<&[u8]> = parts.headers.get_all(hyper::header::HOST).iter().map(HeaderValue::as_bytes).collect();
    let host = (!hosts.is_empty()).then(|| hosts.join(&b","[..]));
    let authority = parts.uri.authority().map(|authority| of_url(authority.as_str()).as_bytes().to_vec()).or(host);
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let normalized = normalize(path, manager.path_normalization);
    let answered = unacceptable(parts, authority.is_some());
    let (path, answered) = match normalized {
        Normalized::Forward(path) => (path, answered),
        Normalized::Redirect(path) => (path.clone(), answered.or(Some(EarlyAnswer::Redirect(path)))),
        Normalized::Reject => (path.to_owned(), answered.or(Some(EarlyAnswer::InvalidPath))),
    };
    let mut headers = Headers::new();
    if let Some(authority) = authority {
        headers.add(":authority", authority);
    }
    // Only a route with a `connect_matcher`, which the harness does not have, matches a request without a path.
    if parts.method != hyper::Method::CONNECT {
        headers.add(":path", path);
    }
    headers.add(":method", parts.method.as_str().to_owned());
    headers.add(":scheme", parts.uri.scheme_str().unwrap_or(transport).to_owned());
    headers.extend_from(&parts.headers);
    headers.remove(b"host");
    headers.join(joined::OF_REQUESTS);
    let is_http1 = parts.version < Version::HTTP_2;
    let is_nominated = !is_http1 || sanitize::nominated(&mut headers);
    if !is_http1 {
        join_cookies(&mut headers);
    }
    if headers.first(b"expect").is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue")) {
        headers.remove(b"expect");
    }
    for name in HOP_BY_HOP {
        headers.remove(name.as_bytes());
    }
    if let Some(name) = upgrade {
        headers.add("connection", "upgrade");
        headers.add("upgrade", name.to_owned());
    }
    sanitize::te(&mut headers);
    sanitize::referer(&mut headers);
    headers.remove(b"x-forwarded-client-cert");

    let (client, is_trusted) = client(manager, &headers, peer);
    let is_internal = is_trusted && manager.internal_addresses.iter().any(|range| is_within(client.ip(), *range));
    let origin = match (is_internal, manager.use_remote_address) {
        (true, _) => Origin::Internal,
        (false, true) => Origin::Edge,
        (false, false) => Origin::External,
    };
    if manager.use_remote_address && !manager.skip_xff_append {
        let known = headers.text("x-forwarded-for").map(|known| format!("{known},"));
        headers.replace("x-forwarded-for", format!("{}{}", known.unwrap_or_default(), peer.ip()));
    }
    // Of an edge proxy without a trusted proxy in front, the client's word does not count.
    let is_untrusted = manager.use_remote_address && manager.xff_num_trusted_hops == 0;
    if is_untrusted || headers.first(b"x-forwarded-proto").is_none() {
        headers.replace("x-forwarded-proto", transport);
    }
    sanitize::own_headers(&mut headers, origin, client.ip());
    if manager.generate_request_id
        && (origin == Origin::Edge || headers.first(b"x-request-id").is_none_or(|id| id.is_empty()))
        && let Some(id) = request_id()
    {
        headers.replace("x-request-id", id);
    }
    let protocol = match parts.version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    };
    let has_host = headers.first(b":authority").is_some();
    let answered = answered.or((!has_host).then_some(EarlyAnswer::NoHost));
    // A gRPC client follows no redirect: the request gets a 400.
    let answered = match answered {
        _ if !is_nominated => Some(EarlyAnswer::BadConnection),
        Some(EarlyAnswer::Redirect(_)) if headers.is_grpc() => Some(EarlyAnswer::InvalidPath),
        // Envoy's parser has no headers then.
        Some(EarlyAnswer::UnknownMethod | EarlyAnswer::LowVersion) => {
            return Received { headers: Headers::new(), client, protocol: "HTTP/1.1", answered };
        }
        answered => answered,
    };
    Received { headers, client, protocol, answered }
}

/// Returns an authority without the user of a URL.
fn of_url(authority: &str) -> &str {
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// Joins the pieces of the cookies: HTTP/2 can send each of them as a header of its own.
fn join_cookies(headers: &mut Headers) {
    let pieces = headers.iter().filter(|(name, _)| name.as_ref() == b"cookie").map(|(_, piece)| piece.clone());
    let pieces: Vec<Bytes> = pieces.collect();
    if pieces.len() > 1 {
        headers.replace("cookie", pieces.join(&b"; "[..]));
    }
}

/// Reason why no HTTP request can be served, whatever its path is.
fn unacceptable(parts: &Parts, has_host: bool) -> Option<EarlyAnswer> {
    if parts.version < Version::HTTP_2 && !EarlyAnswer::knows(parts.method.as_str().as_bytes()) {
        return Some(EarlyAnswer::UnknownMethod);
    }
    if parts.version < Version::HTTP_11 {
        return Some(EarlyAnswer::LowVersion);
    }
    (!has_host).then_some(EarlyAnswer::NoHost)
}

/// Returns the address that the outermost trusted proxy saw: an `x-forwarded-for` entry, or else the peer; and whether
/// it is the only address of the request, so that it can be an internal one.
fn client(manager: &HttpManager, headers: &Headers, peer: SocketAddr) -> (SocketAddr, bool) {
    let trusted = manager.xff_num_trusted_hops as usize;
    let forwarded = headers.first(b"x-forwarded-for").map(|value| String::from_utf8_lossy(value));
    let hop = |from_right: usize| {
        let hop = forwarded.as_ref()?.rsplit(',').nth(from_right)?.trim().parse::<IpAddr>().ok()?;
        Some(SocketAddr::new(hop, 0))
    };
    if manager.use_remote_address {
        let client = trusted.checked_sub(1).and_then(hop).unwrap_or(peer);
        return (client, forwarded.is_none());
    }
    let is_single = forwarded.as_ref().is_some_and(|forwarded| !forwarded.contains(','));
    hop(trusted).map_or((peer, false), |client| (client, is_single))
}

/// Returns a random UUID.
fn request_id() -> Option<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    let number = u128::from_be_bytes(bytes);
    // Version 4, variant 10.
    let number = number & !(0xf << 76) | 0x4 << 76;
    let number = number & !(0x3 << 62) | 0x2 << 62;
    let hex = format!("{number:032x}");
    Some(format!("{}-{}-{}-{}-{}", hex.get(..8)?, hex.get(8..12)?, hex.get(12..16)?, hex.get(16..20)?, hex.get(20..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::{PathNormalization, RouteTable};

    const PEERS: Peers = Peers {
        id: 1,
        remote: SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9)), 4711),
        local: SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 80),
        is_tls: false,
    };

    fn manager(use_remote_address: bool, hops: u32) -> HttpManager {
        HttpManager {
            stat_prefix: "ingress".to_owned(),
            use_remote_address,
            xff_num_trusted_hops: hops,
            internal_addresses: Vec::new(),
            skip_xff_append: false,
            generate_request_id: true,
            path_normalization: PathNormalization::default(),
            stream_idle_timeout: std::time::Duration::ZERO,
            request_timeout: std::time::Duration::ZERO,
            routes: RouteTable::default(),
            access_log: Vec::new(),
            upgrades: Vec::new(),
            filters: Vec::new(),
        }
    }

    fn received(manager: &HttpManager, forwarded: &str) -> Received {
        let request = hyper::Request::get("http://shop/cart?x=1").header("X-Forwarded-For", forwarded);
        let (parts, ()) = request.header("Connection", "close").body(()).unwrap().into_parts();
        receive(&parts, manager, PEERS, None)
    }

    #[test]
    fn the_downstream_address_is_the_rightmost_hop_before_the_trusted_proxies() {
        let client = |edge, hops| received(&manager(edge, hops), "1.1.1.1, 2.2.2.2,3.3.3.3").client.to_string();
        assert_eq!(client(true, 0), "10.0.0.9:4711");
        assert_eq!(client(true, 1), "3.3.3.3:0");
        assert_eq!(client(true, 2), "2.2.2.2:0");
        assert_eq!(client(false, 0), "3.3.3.3:0");
        assert_eq!(client(false, 2), "1.1.1.1:0");
        assert_eq!(client(true, 9), "10.0.0.9:4711");
        assert_eq!(received(&manager(false, 0), "no address").client.to_string(), "10.0.0.9:4711");
    }

    #[test]
    fn an_edge_proxy_appends_its_peer_to_x_forwarded_for() {
        assert_eq!(received(&manager(true, 0), "1.1.1.1").headers.text("x-forwarded-for"), Some("1.1.1.1,10.0.0.9"));
        assert_eq!(received(&manager(false, 0), "1.1.1.1").headers.text("x-forwarded-for"), Some("1.1.1.1"));
    }

    #[test]
    fn a_request_gets_pseudo_headers_and_an_id_and_loses_connection_headers() {
        let headers = received(&manager(false, 0), "").headers;
        let pseudo = [":authority", ":path", ":method", ":scheme"].map(|name| headers.text(name).unwrap_or("?"));
        assert_eq!(pseudo, ["shop", "/cart?x=1", "GET", "http"]);
        assert_eq!(headers.text("connection"), None);
        let request =
            hyper::Request::post("http://user:word@shop/").header("Connection", "Close, X-Own").header("x-own", "1");
        let request = request.header("expect", "100-Continue").header("connection", "te").header("te", "trailers");
        let hops = receive(&request.body(()).unwrap().into_parts().0, &manager(false, 0), PEERS, None).headers;
        let left = ["x-own", "expect", "te", ":authority"].map(|name| hops.text(name));
        assert_eq!(left, [None, None, Some("trailers"), Some("shop")]);
        let id = headers.text("x-request-id").unwrap();
        assert_eq!((id.len(), id.as_bytes()[14]), (36, b'4'), "{id}");
    }
}
