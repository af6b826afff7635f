//! Ranges of IP addresses (RFC 4632).

use alloc::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Range of IP addresses with a common prefix. IPv4 addresses mapped into IPv6 count as IPv4 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    prefix_len: u8,
}

impl Cidr {
    /// Creates the range that contains `address` and has a prefix of `prefix_len` bits: ≤ 32 for IPv4, ≤ 128 for IPv6.
    /// `None` if `prefix_len` is greater.
    #[must_use]
    pub fn new(address: IpAddr, prefix_len: u8) -> Option<Self> {
        let prefix_len = match (address, address.to_canonical()) {
            (IpAddr::V6(_), IpAddr::V4(_)) => prefix_len.checked_sub(96)?,
            _ => prefix_len,
        };
        let network = match address.to_canonical() {
            IpAddr::V4(address) => {
                let host_bits = 32_u8.checked_sub(prefix_len)?;
                let mask = u32::MAX.checked_shl(host_bits.into()).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
            }
            IpAddr::V6(address) => {
                let host_bits = 128_u8.checked_sub(prefix_len)?;
                let mask = u128::MAX.checked_shl(host_bits.into()).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
            }
        };
        Some(Self { network, prefix_len })
    }

    /// Parses `10.0.0.0/8`, `2001:db8::/32`, or an address alone. Bits after the prefix are ignored.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let Some((address, prefix_len)) = text.split_once('/') else {
            let address: IpAddr = text.parse().ok()?;
            return Self::new(address, if address.is_ipv4() { 32 } else { 128 });
        };
        // `str::parse` alone would accept a sign.
        let is_number = prefix_len.bytes().all(|byte| byte.is_ascii_digit());
        Self::new(address.parse().ok()?, prefix_len.parse().ok().filter(|_| is_number)?)
    }

    /// Whether the range contains `address`.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        Self::new(address.to_canonical(), self.prefix_len) == Some(*self)
    }
}

/// Formats the range as `10.0.0.0/8`.
impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix_len)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn contains(cidr: &str, address: &str) -> bool {
        Cidr::parse(cidr).unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn a_range_contains_the_addresses_with_its_prefix() {
        assert!(contains("10.0.0.0/8", "10.255.3.4"));
        assert!(!contains("10.0.0.0/8", "11.0.0.0"));
        assert!(contains("192.168.1.77/25", "192.168.1.1"));
        assert!(!contains("192.168.1.77/25", "192.168.1.128"));
        assert!(contains("2001:db8::/33", "2001:db8:7fff::1"));
        assert!(!contains("2001:db8::/33", "2001:db8:8000::1"));
        assert!(contains("203.0.113.9", "203.0.113.9"));
        assert!(!contains("2001:db8::1", "2001:db8::2"));
    }

    #[test]
    fn a_prefix_of_zero_bits_contains_all_addresses_of_its_family() {
        assert!(contains("0.0.0.0/0", "255.255.255.255"));
        assert!(contains("::/0", "ffff::"));
        assert!(!contains("0.0.0.0/0", "::"));
        assert!(!contains("::/0", "10.0.0.1"));
    }

    #[test]
    fn an_address_mapped_into_ipv6_is_an_ipv4_address() {
        assert!(contains("::ffff:10.0.0.0/104", "10.1.1.1"));
        assert!(contains("10.0.0.0/8", "::ffff:10.1.1.1"));
        assert_eq!(Cidr::parse("::ffff:10.0.0.0/90"), None);
    }

    #[test]
    fn malformed_ranges_are_refused() {
        for text in
            ["", "/", "10.0.0.0/", "10.0.0.0/33", "::/129", "10.0.0.0/+8", "10.0.0/8", "10.0.0.0/8/8", "a/8", "::/256"]
        {
            assert_eq!(Cidr::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_range_is_parsed_as_it_is_formatted_and_has_its_own_address(address: IpAddr, prefix_len in 0_u8..=128) {
            let address = address.to_canonical();
            prop_assume!(address.is_ipv6() || prefix_len <= 32);
            let cidr = Cidr::new(address, prefix_len).unwrap();
            prop_assert!(cidr.contains(address));
            prop_assert!(Cidr::parse(&cidr.to_string()) == Some(cidr) || cidr.network.to_canonical() != cidr.network);
        }

        #[test]
        fn any_text_is_parsed_without_panic(text in "[0-9a-f:./]{0,24}") {
            let _ = Cidr::parse(&text);
        }
    }
}
