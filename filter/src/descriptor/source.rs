//! Sources: parts of a request that keys, predicates and costs read.

use alloc::borrow::ToOwned;
use alloc::string::String;

use super::body::RequestBody;
use super::json_pointer::JsonPointer;
use super::path::PathPattern;
use super::property_path::PropertyPath;
use super::repeated::Repeated;
use super::trusted_proxies::TrustedProxies;

/// Part of a request. Header names are in lower case; all values are bytes, compared case-sensitively.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Request header.
    RequestHeader {
        /// Name in lower case.
        name: String,
        /// Selection among several values.
        repeated: Repeated,
    },
    /// Query parameter, decoded as `application/x-www-form-urlencoded`.
    QueryParameter {
        /// Decoded name.
        name: String,
        /// Selection among several values.
        repeated: Repeated,
    },
    /// Cookie, without surrounding quotes.
    Cookie {
        /// Name of the cookie.
        name: String,
        /// Selection among several values.
        repeated: Repeated,
    },
    /// Path, or a part of it.
    Path(PathPattern),
    /// Method.
    Method,
    /// Host of `:authority`, normalized: lower case, no port, no dot at the end.
    Host,
    /// Scheme: `http` or `https`.
    Scheme,
    /// IP address of the client.
    RemoteAddress(TrustedProxies),
    /// Range of the client's IP address, as `10.1.0.0/16`.
    MaskedRemoteAddress {
        /// Proxies that are trusted to forward the address.
        trusted: TrustedProxies,
        /// Prefix length of an IPv4 range in bits, ≤ 32.
        v4_prefix_mask_len: u8,
        /// Prefix length of an IPv6 range in bits, ≤ 128.
        v6_prefix_mask_len: u8,
    },
    /// Property of the proxy.
    Property(PropertyPath),
    /// Scalar in a JSON body.
    RequestBody(JsonPointer),
    /// Constant value for every request.
    GenericKey {
        /// The value.
        descriptor_value: String,
    },
}

impl Source {
    /// Creates a header source with all values joined.
    #[must_use]
    pub fn request_header(name: &str) -> Self {
        Self::RequestHeader { name: name.to_owned(), repeated: Repeated::Joined }
    }

    /// Creates a query parameter source with the first value.
    #[must_use]
    pub fn query_parameter(name: &str) -> Self {
        Self::QueryParameter { name: name.to_owned(), repeated: Repeated::First }
    }

    /// Creates a cookie source with the first value.
    #[must_use]
    pub fn cookie(name: &str) -> Self {
        Self::Cookie { name: name.to_owned(), repeated: Repeated::First }
    }

    /// JSON pointer of a source in the request's body.
    #[must_use]
    pub fn json_pointer(&self) -> Option<&JsonPointer> {
        match self {
            Self::RequestBody(pointer) => Some(pointer),
            _ => None,
        }
    }

    /// Whether the source is a value in the body that could not be read.
    pub(crate) fn is_unreadable(&self, body: &RequestBody) -> bool {
        self.json_pointer().is_some_and(|pointer| body.is_unreadable_at(pointer))
    }
}
