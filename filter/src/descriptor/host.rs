//! Normalized hosts: one spelling of `shop.example`, however a client writes it.

use alloc::borrow::Cow;
use core::net::Ipv6Addr;

/// Returns the host of an `:authority` (RFC 3986, §3.2): in lower case, without user information, port, and the dot at
/// the end of a fully qualified name. An IPv6 address is in its shortest form, in brackets.
pub(super) fn host(authority: &[u8]) -> Cow<'_, [u8]> {
    let start = authority.iter().rposition(|byte| *byte == b'@').map_or(0, |at| at.saturating_add(1));
    let host = without_port(authority.get(start..).unwrap_or_default());
    if let Some(address) = address(host) {
        return Cow::Owned(format!("[{address}]").into_bytes());
    }
    let dots = host.iter().rev().take_while(|byte| **byte == b'.').count();
    let host = host.get(..host.len().saturating_sub(dots)).unwrap_or_default();
    if host.iter().any(u8::is_ascii_uppercase) { Cow::Owned(host.to_ascii_lowercase()) } else { Cow::Borrowed(host) }
}

/// Whether `text` is a normalized host. No other text ever equals a request's host.
pub(crate) fn is_host(text: &str) -> bool {
    host(text.as_bytes()) == text.as_bytes()
}

fn without_port(host: &[u8]) -> &[u8] {
    let digits = host.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    match host.get(..host.len().saturating_sub(digits)).and_then(<[u8]>::split_last) {
        // The colon is not part of an IPv6 address without brackets.
        Some((b':', name)) if !name.contains(&b':') || name.ends_with(b"]") => name,
        _ => host,
    }
}

/// Parses an IPv6 address, with or without brackets.
fn address(host: &[u8]) -> Option<Ipv6Addr> {
    let bare = host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]")).unwrap_or(host);
    bare.contains(&b':').then(|| str::from_utf8(bare).ok()?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(authority: &str) -> String {
        String::from_utf8(host(authority.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn a_host_has_one_spelling() {
        for authority in [
            "shop.example",
            "Shop.Example:443",
            "shop.example:",
            "shop.example.",
            "SHOP.example.:443",
            "shop.example..:0080",
            "user:secret@shop.example.:443",
        ] {
            assert_eq!(of(authority), "shop.example", "{authority}");
        }
        assert_eq!(of("shop.example.com"), "shop.example.com");
        assert_eq!(of("127.0.0.1:80"), "127.0.0.1");
        assert_eq!([of(""), of("."), of(":80")], ["", "", ""]);
    }

    #[test]
    fn an_ipv6_address_has_one_spelling() {
        for authority in ["[2001:DB8::1]:80", "[2001:db8::1]", "[2001:db8:0:0:0:0:0:1]:", "2001:db8::1"] {
            assert_eq!(of(authority), "[2001:db8::1]", "{authority}");
        }
        assert_eq!(of("::1"), "[::1]");
        assert_eq!(of("[v7.x]:80"), "[v7.x]");
    }

    proptest! {
        #[test]
        fn a_normalized_host_is_unchanged(authority in "[a-zA-Z0-9.:@\\[\\]%-]{0,30}") {
            let once = of(&authority);
            // A host with the rest of a second port or user information is another name.
            prop_assume!(!once.contains([':', '@']));
            prop_assert_eq!(of(&once), once);
        }

        #[test]
        fn any_authority_is_read_without_panic(authority: Vec<u8>) {
            let _ = host(&authority);
        }
    }
}
