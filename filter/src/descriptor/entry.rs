//! A descriptor's entries, in the terms of Envoy's rate-limit actions.

use std::borrow::Cow;

use super::attributes::Attributes;
use super::client_address::client_address;

/// One part of a bucket's key. Header names are in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A header's value; of a repeated one, all values joined by commas.
    RequestHeader {
        /// The header.
        name: String,
        /// The value where the request does not have the header.
        default: Option<String>,
    },
    /// The client's IP address, see [`client_address`].
    RemoteAddress {
        /// How many proxies in front of this one are trusted to have said whom they got the request from.
        trusted_hops: u8,
    },
    /// The path without its query string.
    Path,
    /// The method.
    Method,
    /// The same value for every request.
    GenericKey {
        /// That value.
        descriptor_value: String,
    },
}

impl Entry {
    /// The entry's value for `request`; `None` where it has none.
    #[must_use]
    pub fn value<'a>(&'a self, request: &dyn Attributes) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::RequestHeader { name, default } => match (request.header(name), default) {
                (Some(value), _) => Some(Cow::Owned(value)),
                (None, default) => default.as_ref().map(|default| Cow::Borrowed(default.as_bytes())),
            },
            Self::RemoteAddress { trusted_hops } => {
                let source = request.property(&["source", "address"]);
                let forwarded_for = if *trusted_hops > 0 { request.header("x-forwarded-for") } else { None };
                client_address(source.as_deref(), forwarded_for.as_deref(), *trusted_hops)
                    .map(|address| Cow::Owned(address.to_string().into_bytes()))
            }
            Self::Path => path(request).map(Cow::Owned),
            Self::Method => request.header(":method").map(Cow::Owned),
            Self::GenericKey { descriptor_value } => Some(Cow::Borrowed(descriptor_value.as_bytes())),
        }
    }
}

/// The path, up to its query string or fragment. Otherwise as the client sent it, or as Envoy normalised it.
pub(super) fn path(request: &dyn Attributes) -> Option<Vec<u8>> {
    let mut path = request.header(":path")?;
    let end = path.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(path.len());
    path.truncate(end);
    Some(path)
}
