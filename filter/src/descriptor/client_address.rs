//! Client address: the address of the client behind trusted proxies.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::attributes::Attributes;
use super::budget::{Exhausted, Purpose};
use super::cidr::Cidr;
use super::trusted_proxies::TrustedProxies;

/// Maximum number of bytes read, from the end of `x-forwarded-for`. Trusted proxies append: no trusted hop is further
/// left.
const MAX_FORWARDED: usize = 2_048;
/// Maximum number of hops read.
const MAX_HOPS: usize = 64;
/// Work of reading one byte of `x-forwarded-for`.
const FORWARDED_BYTE: usize = 48;
/// Work of comparing an address with a range.
const RANGE: usize = 24;

impl TrustedProxies {
    /// Returns the address of the client behind the trusted proxies. `None` if it is unknown.
    pub(super) fn read(&self, request: &dyn Attributes, purpose: Purpose) -> Result<Option<IpAddr>, Exhausted> {
        let source = request.memo().source_address(|| request.property(&["source", "address"]));
        let forwarded_for = if *self == Self::Hops(0) { None } else { request.header("x-forwarded-for") };
        let forwarded_for = forwarded_for.as_deref();
        let work = forwarded_for.map_or(0, |header| header.len().min(MAX_FORWARDED).saturating_mul(FORWARDED_BYTE));
        request.memo().charge(purpose, work)?;
        match self {
            Self::Hops(hops) => Ok(client_address(source, forwarded_for, *hops)),
            Self::Cidrs(trusted) => {
                let hops = tail(forwarded_for).iter().filter(|byte| **byte == b',').count();
                let hops = hops.saturating_add(1).min(MAX_HOPS).saturating_add(1);
                request.memo().charge(purpose, hops.saturating_mul(trusted.len()).saturating_mul(RANGE))?;
                Ok(untrusted_address(source, forwarded_for, trusted))
            }
        }
    }
}

/// Returns the client's address: the rightmost hop that is not trusted.
///
/// `source` is Envoy's downstream address (`source.address`: `ip:port`, `[ip]:port`, or the name of a pipe).
/// `forwarded_for` is the header `x-forwarded-for`, to which each proxy appends the address of its downstream.
/// With 0 `trusted_hops`, the client is `source`. With N, the client is N hops left of the end of the chain, which is
/// `forwarded_for` followed by `source`, unless Envoy has already appended `source` (`use_remote_address`).
/// Hops further left are under the client's control and not read. If the chain is too short, or the hop is not an
/// address, the client is `source`.
///
/// The returned address has no port and no zone; an IPv4 address mapped into IPv6 is returned as IPv4. `None` if
/// `source` is not an address either.
#[must_use]
pub fn client_address(source: Option<&[u8]>, forwarded_for: Option<&[u8]>, trusted_hops: u8) -> Option<IpAddr> {
    let source = source.and_then(address);
    let Some(places_before_source) = trusted_hops.checked_sub(1) else { return source };
    let mut hops = hops(forwarded_for).peekable();
    if source.is_some() {
        hops.next_if(|last| address(last) == source);
    }
    hops.nth(usize::from(places_before_source)).and_then(address).or(source)
}

/// Returns the client's address: the rightmost hop whose address is not `trusted`, in the chain of [`client_address`].
///
/// If all hops are trusted, the client is the leftmost one. If a trusted proxy has appended no address, the client is
/// that proxy. A source without an address, a pipe, is trusted: only local processes connect that way. `None` if the
/// chain has no address.
#[must_use]
pub fn untrusted_address(source: Option<&[u8]>, forwarded_for: Option<&[u8]>, trusted: &[Cidr]) -> Option<IpAddr> {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|cidr| cidr.contains(*address));
    let mut client = source.and_then(address);
    let mut hops = hops(forwarded_for);
    while client.as_ref().is_none_or(is_trusted) {
        match hops.next().and_then(address) {
            Some(address) => client = Some(address),
            None => break,
        }
    }
    client
}

/// Iterates over the hops of a header from the right, up to the maximum numbers of bytes and hops. Empty elements of
/// the list do not count (RFC 9110, §5.6.1.2).
fn hops(forwarded_for: Option<&[u8]>) -> impl Iterator<Item = &[u8]> {
    tail(forwarded_for)
        .rsplit(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|hop| !hop.is_empty())
        .take(MAX_HOPS)
}

/// Returns the end of a header, as far as it is read.
fn tail(forwarded_for: Option<&[u8]>) -> &[u8] {
    let header = forwarded_for.unwrap_or_default();
    let Some(start) = header.len().checked_sub(MAX_FORWARDED) else { return header };
    // The first element of the tail may be incomplete.
    let tail = header.get(start..).unwrap_or_default();
    let comma = tail.iter().position(|byte| *byte == b',').unwrap_or(tail.len());
    tail.get(comma..).unwrap_or_default()
}

/// Parses an address with or without brackets, port and zone.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok()?;
    if let Some(bracketed) = text.strip_prefix('[') {
        let (host, port) = bracketed.split_once(']')?;
        if !port.is_empty() {
            is_port(port.strip_prefix(':')?).then_some(())?;
        }
        return v6(host);
    }
    match text.split_once(':') {
        None => v4(text),
        Some((host, port)) if is_port(port) && host.contains('.') => v4(host),
        Some(_) => v6(text),
    }
}

fn v4(text: &str) -> Option<IpAddr> {
    text.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
}

fn v6(text: &str) -> Option<IpAddr> {
    let host = text.split_once('%').map_or(text, |(host, _zone)| host);
    host.parse::<Ipv6Addr>().ok().map(|address| address.to_canonical())
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client(source: &str, forwarded_for: &str, trusted_hops: u8) -> Option<String> {
        client_address(Some(source.as_bytes()), Some(forwarded_for.as_bytes()), trusted_hops)
            .map(|address| address.to_string())
    }

    fn is(source: &str, forwarded_for: &str, trusted_hops: u8, expected: &str) {
        assert_eq!(
            client(source, forwarded_for, trusted_hops).as_deref(),
            Some(expected),
            "source {source}, x-forwarded-for {forwarded_for}, {trusted_hops} trusted hops"
        );
    }

    #[test]
    fn hops_far_to_the_left_are_not_read() {
        let junk = "6.6.6.6, ".repeat(5_000);
        is("10.0.0.1:80", &format!("{junk}203.0.113.9"), 1, "203.0.113.9");
        is("10.0.0.1:80", &format!("203.0.113.9{}", ",".repeat(5_000)), 1, "10.0.0.1");
        let trusted = [Cidr::parse("10.0.0.0/8").unwrap()];
        let all_trusted = "10.0.0.2, ".repeat(5_000);
        let client = untrusted_address(Some(b"10.0.0.1:80"), Some(all_trusted.as_bytes()), &trusted);
        assert_eq!(client.map(|client| client.to_string()).as_deref(), Some("10.0.0.2"));
    }

    #[test]
    fn without_trusted_hops_the_header_is_ignored() {
        is("198.51.100.7:4711", "6.6.6.6", 0, "198.51.100.7");
        is("[2001:db8::7]:4711", "6.6.6.6", 0, "2001:db8::7");
    }

    #[test]
    fn behind_one_load_balancer_the_client_is_the_hop_it_appended() {
        is("10.0.0.1:80", "203.0.113.9", 1, "203.0.113.9");
    }

    #[test]
    fn hops_sent_by_the_client_itself_are_not_reached() {
        is("10.0.0.1:80", "6.6.6.6, 203.0.113.9", 1, "203.0.113.9");
        is("10.0.0.1:80", "6.6.6.6,7.7.7.7, 203.0.113.9, 10.0.0.2", 2, "203.0.113.9");
    }

    #[test]
    fn a_source_that_envoy_has_appended_itself_does_not_add_a_hop() {
        is("10.0.0.1:80", "6.6.6.6, 203.0.113.9, 10.0.0.1", 1, "203.0.113.9");
        is("10.0.0.1:80", "203.0.113.9, 10.0.0.2, 10.0.0.1", 2, "203.0.113.9");
        // Only one hop is skipped: a client at 10.0.0.1 may be in front of a proxy at 10.0.0.1.
        is("10.0.0.1:80", "6.6.6.6, 10.0.0.1, 10.0.0.1", 1, "10.0.0.1");
    }

    #[test]
    fn with_a_chain_that_is_too_short_the_client_is_the_source() {
        is("10.0.0.1:80", "203.0.113.9", 2, "10.0.0.1");
        is("10.0.0.1:80", "", 1, "10.0.0.1");
        is("10.0.0.1:80", "10.0.0.1", 1, "10.0.0.1");
        assert_eq!(client_address(Some(b"10.0.0.1:80"), None, 1), "10.0.0.1".parse().ok());
    }

    #[test]
    fn with_a_hop_that_is_no_address_the_client_is_the_source() {
        for garbage in
            ["unknown", "_hidden", "1.2.3", "1.2.3.4.5", "1.2.3.4:99999", "[::1", "[::1]80", "01.2.3.4", "::g"]
        {
            is("10.0.0.1:80", &format!("6.6.6.6, {garbage}"), 1, "10.0.0.1");
        }
        let bytes = client_address(Some(b"10.0.0.1:80"), Some(b"\xff\xfe"), 1);
        assert_eq!(bytes, "10.0.0.1".parse().ok());
    }

    #[test]
    fn blanks_and_empty_elements_do_not_count() {
        is("10.0.0.1:80", " 203.0.113.9 ,\t, 10.0.0.2 ,, ", 2, "203.0.113.9");
    }

    #[test]
    fn one_client_has_one_spelling() {
        for spelling in
            ["2001:db8::9", "2001:DB8:0:0:0:0:0:9", "[2001:db8::9]", "[2001:db8::9]:443", "2001:db8::9%eth0"]
        {
            is("10.0.0.1:80", spelling, 1, "2001:db8::9");
        }
        for spelling in ["203.0.113.9", "203.0.113.9:443", "::ffff:203.0.113.9", "[::ffff:cb00:7109]:1"] {
            is("10.0.0.1:80", spelling, 1, "203.0.113.9");
        }
        is("[::ffff:198.51.100.7]:1", "", 0, "198.51.100.7");
    }

    #[test]
    fn a_source_on_a_pipe_has_no_address_but_may_forward() {
        for pipe in ["/run/envoy.sock", "@abstract", ""] {
            assert_eq!(client(pipe, "203.0.113.9", 0), None);
            is(pipe, "6.6.6.6, 203.0.113.9", 1, "203.0.113.9");
        }
        assert_eq!(client_address(None, None, 3), None);
    }

    fn untrusted(source: &str, forwarded_for: &str) -> Option<String> {
        let trusted = ["10.0.0.0/8", "2001:db8:ffff::/48"].map(|text| Cidr::parse(text).unwrap());
        untrusted_address(Some(source.as_bytes()), Some(forwarded_for.as_bytes()), &trusted)
            .map(|address| address.to_string())
    }

    #[test]
    fn behind_trusted_proxies_the_client_is_the_rightmost_untrusted_hop() {
        for (source, forwarded_for, expected) in [
            ("198.51.100.7:80", "6.6.6.6", "198.51.100.7"),
            ("10.0.0.1:80", "6.6.6.6, 203.0.113.9", "203.0.113.9"),
            ("10.0.0.1:80", "6.6.6.6, 203.0.113.9, 10.3.0.1, 10.0.0.1", "203.0.113.9"),
            ("[2001:db8:ffff::1]:80", "6.6.6.6, 203.0.113.9:4711, 10.3.0.1", "203.0.113.9"),
        ] {
            assert_eq!(untrusted(source, forwarded_for).as_deref(), Some(expected), "{source}, {forwarded_for}");
        }
    }

    #[test]
    fn with_only_trusted_proxies_the_client_is_the_leftmost() {
        assert_eq!(untrusted("10.0.0.1:80", "").as_deref(), Some("10.0.0.1"));
        assert_eq!(untrusted("10.0.0.1:80", "10.0.0.3, 10.0.0.2").as_deref(), Some("10.0.0.3"));
    }

    #[test]
    fn a_trusted_proxy_that_appends_no_address_is_the_client() {
        assert_eq!(untrusted("10.0.0.1:80", "203.0.113.9, unknown, 10.0.0.2").as_deref(), Some("10.0.0.2"));
    }

    #[test]
    fn a_pipe_is_trusted() {
        assert_eq!(untrusted("/run/envoy.sock", "6.6.6.6, 203.0.113.9").as_deref(), Some("203.0.113.9"));
        assert_eq!(untrusted("/run/envoy.sock", ""), None);
        assert_eq!(untrusted_address(None, None, &[]), None);
    }

    proptest! {
        #[test]
        fn hops_invented_by_a_client_change_nothing(
            invented in proptest::collection::vec(any::<u8>(), 0..40),
            client: core::net::Ipv4Addr,
            trusted in proptest::collection::vec(any::<core::net::Ipv6Addr>(), 0..4),
        ) {
            // The first trusted proxy appends the client's address to the header that the client sent.
            let mut header = invented;
            header.extend_from_slice(format!(", {client}").as_bytes());
            for proxy in &trusted {
                header.extend_from_slice(format!(", {proxy}").as_bytes());
            }
            let hops = u8::try_from(trusted.len().saturating_add(1)).unwrap();
            let peer = b"[2001:db8:ffff::1]:80";
            prop_assert_eq!(client_address(Some(peer), Some(&header), hops), Some(IpAddr::V4(client)));
        }
    }
}
