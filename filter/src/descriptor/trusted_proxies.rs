//! Proxies that are trusted with the client's address.

use alloc::vec::Vec;

use super::cidr::Cidr;

/// Trusted proxies in front of this one, whose entries in `x-forwarded-for` are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrustedProxies {
    /// Number of trusted proxies, see [`client_address`](super::client_address()).
    Hops(u8),
    /// Addresses of trusted proxies, see [`untrusted_address`](super::untrusted_address).
    Cidrs(Vec<Cidr>),
}
