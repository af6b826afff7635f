//! Request headers that the connection manager removes or corrects, before the first filter.
//!
//! Clients outside of the trusted network must not steer the router: most of their `x-envoy-` headers are removed.
//! (Envoy, `ConnectionManagerUtility`, `Utility::sanitizeConnectionHeader`.)

use std::net::IpAddr;

use crate::http::Headers;

/// Number of headers in `connection` at which a request is refused.
const MAX_NOMINATED: usize = 10;
/// Length in bytes of `te` at which a request that names it in `connection` is refused.
const MAX_TE: usize = 256;

/// Headers that steer the router; only an internal client can send them.
const INTERNAL: [&str; 15] = [
    "x-envoy-retriable-status-codes",
    "x-envoy-retriable-header-names",
    "x-envoy-retry-on",
    "x-envoy-retry-grpc-on",
    "x-envoy-max-retries",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-force-trace",
    "x-envoy-ip-tags",
    "x-envoy-original-url",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-upstream-stream-duration-ms",
];

/// Headers that an Envoy inside of the trusted network can send.
const OF_OTHER_ENVOYS: [&str; 5] = [
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-original-host",
    "x-envoy-original-path",
];

/// Origin of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// From an internal address.
    Internal,
    /// From outside, through the first proxy of the trusted network.
    Edge,
    /// From outside, or unknown.
    External,
}

/// Removes Envoy's own headers, and states the origin of the request.
pub(super) fn own_headers(headers: &mut Headers, origin: Origin, client: IpAddr) {
    headers.remove(b"x-envoy-internal");
    match origin {
        Origin::Internal => return headers.add("x-envoy-internal", "true"),
        Origin::Edge => {
            OF_OTHER_ENVOYS.iter().for_each(|name| headers.remove(name.as_bytes()));
            headers.replace("x-envoy-external-address", client.to_string());
        }
        Origin::External => {}
    }
    INTERNAL.iter().for_each(|name| headers.remove(name.as_bytes()));
}

/// Removes the headers that `connection` makes headers of the connection only.
///
/// Returns false if Envoy refuses the request: it names too many headers, or one that says where the request is from.
pub(super) fn nominated(headers: &mut Headers) -> bool {
    let Some(nominated) = headers.joined(b"connection") else { return true };
    let names: Vec<String> = nominated
        .split(|byte| *byte == b',')
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name.trim_ascii()).to_ascii_lowercase())
        .collect();
    if names.len() >= MAX_NOMINATED {
        return false;
    }
    // Envoy ignores the upgrade to HTTP/2.
    let is_h2c = headers.first(b"upgrade").is_some_and(|value| value.eq_ignore_ascii_case(b"h2c"));
    if is_h2c && names.iter().any(|name| name == "upgrade") {
        headers.remove(b"http2-settings");
    }
    for name in names {
        match name.as_str() {
            "close" | "http2-settings" | "keep-alive" | "upgrade" | "connection" => {}
            "x-forwarded-for" | "x-forwarded-host" | "x-forwarded-proto" => return false,
            name if name.starts_with(':') => return false,
            "te" => match headers.joined(b"te") {
                Some(value) if value.len() >= MAX_TE => return false,
                Some(value) if accepts_trailers(&value) => headers.replace("te", "trailers"),
                _ => headers.remove(b"te"),
            },
            // `host` is `:authority` in the map of headers.
            "host" => headers.remove(b":authority"),
            name => headers.remove(name.as_bytes()),
        }
    }
    true
}

/// Leaves of `te` what it says about trailers.
pub(super) fn te(headers: &mut Headers) {
    match headers.joined(b"te") {
        Some(value) if accepts_trailers(&value) => headers.replace("te", "trailers"),
        Some(value) if !value.is_empty() => headers.remove(b"te"),
        _ => {}
    }
}

fn accepts_trailers(te: &[u8]) -> bool {
    te.split(|byte| *byte == b',').any(|value| value.trim_ascii() == b"trailers")
}

/// Removes a `referer` that is no URL.
pub(super) fn referer(headers: &mut Headers) {
    if headers.first(b"referer").is_some_and(|value| !is_reference(value)) {
        headers.remove(b"referer");
    }
}

/// Whether a text is a URL without user and fragment, or a path.
fn is_reference(text: &[u8]) -> bool {
    let text = text.strip_suffix(b"#").unwrap_or(text);
    if text.contains(&b'#') || !text.iter().all(u8::is_ascii_graphic) {
        return false;
    }
    let start = text.iter().position(|byte| b":/?".contains(byte));
    let Some((scheme, rest)) = start.map(|end| text.split_at(end)).filter(|(_, rest)| rest.starts_with(b":")) else {
        return true;
    };
    let is_scheme = scheme.first().is_some_and(u8::is_ascii_alphabetic)
        && scheme.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte));
    let Some(rest) = rest.strip_prefix(b"://").filter(|_| is_scheme) else { return false };
    let end = rest.iter().position(|byte| b"/?".contains(byte)).unwrap_or(rest.len());
    is_host_with_port(rest.get(..end).unwrap_or_default())
}

/// Whether a text is a host of letters, digits, hyphens and dots, or an IPv6 address in brackets; with a port or none.
pub(super) fn is_host_with_port(authority: &[u8]) -> bool {
    let Ok(authority) = str::from_utf8(authority) else { return false };
    let (host, port) = match authority.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let is_name = |host: &str| host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && is_name(host),
    };
    is_host && port.is_none_or(|port| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_referer_is_a_url_without_user_and_fragment_or_a_path() {
        let urls = ["/y", "https://x:8/y?z", "http://x", "x/y", "//x/y", "http://[::1]/x", "*", "", "?q", "HTTPS://X/"];
        for url in urls.iter().chain(&["h+t-.p://x/", "http://x/\"<>`{}|\\^%zz", "http://x?q", "http://x/a?b#", "/a:b"])
        {
            assert!(is_reference(url.as_bytes()), "{url}");
        }
        let others =
            ["no url", "https://x/y#f", "/y#f", "http:/x", "http:x", "about:blank", "http://u:p@x/y", "http://[::1"];
        let ports = ["http://x:99999/", "http://x:/", "http://x:80:90/", "http://:80/", "http://x:+80/"];
        let hosts = ["http://", "http:///x", "1http://x/", "http://ex_ample/", "http://x/\u{e9}", "/a b", "/a#b#c"];
        for text in others.iter().chain(&ports).chain(&hosts) {
            assert!(!is_reference(text.as_bytes()), "{text}");
        }
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> Headers {
        pairs.iter().copied().collect()
    }

    #[test]
    fn headers_of_a_connection_do_not_hide_where_a_request_is_from() {
        for name in ["x-forwarded-for", "X-Forwarded-Host", "x-forwarded-proto", ":path", "a,b,c,d,e,f,g,h,i,j"] {
            assert!(!nominated(&mut headers(&[("connection", name)])), "{name}");
        }
        let mut some = headers(&[("connection", "close, X-A,, te"), ("x-a", "1"), ("x-b", "2"), ("te", "trailers, x")]);
        assert!(nominated(&mut some));
        let left = ["x-a", "x-b", "te"].map(|name| some.text(name));
        assert_eq!(left, [None, Some("2"), Some("trailers")]);
    }
}
