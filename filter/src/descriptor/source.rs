//! Where values come from: the parts of a request that keys, predicates and costs are made of.

use alloc::borrow::{Cow, ToOwned};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::attributes::Attributes;
use super::body::RequestBody;
use super::cidr::Cidr;
use super::client_address::TrustedProxies;
use super::cookie::cookie;
use super::json_pointer::JsonPointer;
use super::path::{self, PathPattern};
use super::query;

/// A part of a request. Header names are in lower case; all values are bytes, compared with their case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A header's value; of a repeated one, all values joined by commas.
    RequestHeader {
        /// The header.
        name: String,
    },
    /// The first query parameter of a name, decoded as of a form.
    QueryParameter {
        /// Its decoded name.
        name: String,
    },
    /// The first cookie of a name, without quotes around it.
    Cookie {
        /// Its name.
        name: String,
    },
    /// The path, or a part of it.
    Path(PathPattern),
    /// The method.
    Method,
    /// The host that the client asked for, in lower case and without the port (RFC 9110, §4.2.3).
    Host,
    /// `http` or `https`.
    Scheme,
    /// The client's IP address.
    RemoteAddress(TrustedProxies),
    /// The range that the client's IP address is in, as `10.1.0.0/16`.
    MaskedRemoteAddress {
        /// Who is believed about the client's address.
        trusted: TrustedProxies,
        /// Bits that count of an IPv4 address, ≤ 32.
        v4_prefix_mask_len: u8,
        /// Bits that count of an IPv6 address, ≤ 128.
        v6_prefix_mask_len: u8,
    },
    /// Something that the proxy knows.
    Property(PropertyPath),
    /// A scalar of a JSON body.
    RequestBody(JsonPointer),
    /// The same value for every request.
    GenericKey {
        /// That value.
        descriptor_value: String,
    },
}

/// The path of a property of the proxy's, see "Attributes" in Envoy's documentation.
///
/// Strings are the contract. Envoy hands out a number as the eight bytes of a double, a boolean as one byte, and
/// lists and objects in a form that may differ from one request to the next. It does not tell an empty value from
/// none: both count as none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PropertyPath(Vec<String>);

impl PropertyPath {
    /// The name of the route that the proxy has chosen. Envoy's own `route_name` is not set before the router runs.
    #[must_use]
    pub fn route_name() -> Self {
        Self(vec!["xds".to_owned(), "route_name".to_owned()])
    }

    /// The name of the cluster that the route leads to. Envoy's own `cluster_name` is not set before the router
    /// runs, either.
    #[must_use]
    pub fn cluster_name() -> Self {
        Self(vec!["xds".to_owned(), "cluster_name".to_owned()])
    }

    /// What a filter has left for the request: the one named `key`, at `path` within it. The verified claims of a
    /// JSON Web Token are under `envoy.filters.http.jwt_authn`, `payload_in_metadata` and the claim's name.
    #[must_use]
    pub fn dynamic_metadata(key: &str, path: &[&str]) -> Self {
        Self(["metadata", "filter_metadata", key].iter().chain(path).map(|part| (*part).to_owned()).collect())
    }

    /// The filter state named `key`.
    #[must_use]
    pub fn filter_state(key: &str) -> Self {
        Self(vec!["filter_state".to_owned(), key.to_owned()])
    }
}

impl Source {
    /// Its value for `request`; `None` where it has none.
    #[must_use]
    pub fn value<'a>(&'a self, request: &dyn Attributes) -> Option<Cow<'a, [u8]>> {
        let value = match self {
            Self::RequestHeader { name } => request.header(name)?,
            Self::QueryParameter { name } => query::parameter(&request.header(":path")?, name)?,
            Self::Cookie { name } => cookie(&request.header("cookie")?, name)?.to_vec(),
            Self::Path(pattern) => return pattern.value(&path::path(request)?),
            Self::Method => request.header(":method")?,
            Self::Host => host(request.header(":authority")?),
            Self::Scheme => request.header(":scheme")?,
            Self::RemoteAddress(trusted) => trusted.client(request)?.to_string().into_bytes(),
            Self::MaskedRemoteAddress { trusted, v4_prefix_mask_len, v6_prefix_mask_len } => {
                let client = trusted.client(request)?;
                let prefix_len = if client.is_ipv4() { *v4_prefix_mask_len } else { *v6_prefix_mask_len };
                Cidr::new(client, prefix_len)?.to_string().into_bytes()
            }
            Self::Property(PropertyPath(path)) => {
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                request.property(&path).filter(|value| !value.is_empty())?
            }
            Self::RequestBody(pointer) => request.body().value(pointer)?.to_vec(),
            Self::GenericKey { descriptor_value } => return Some(Cow::Borrowed(descriptor_value.as_bytes())),
        };
        Some(Cow::Owned(value))
    }

    /// Where it stands in the request's body, if it does.
    #[must_use]
    pub fn json_pointer(&self) -> Option<&JsonPointer> {
        match self {
            Self::RequestBody(pointer) => Some(pointer),
            _ => None,
        }
    }

    /// Whether it stands in this body, which cannot be read so far.
    pub(crate) fn is_unreadable(&self, body: &RequestBody) -> bool {
        self.json_pointer().is_some_and(|pointer| body.is_unreadable_at(pointer))
    }
}

fn host(mut authority: Vec<u8>) -> Vec<u8> {
    let digits = authority.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let name = authority.len().saturating_sub(digits);
    if let Some((b':', host)) = authority.get(..name).and_then(<[u8]>::split_last) {
        // Not the end of an IPv6 address without brackets.
        let has_port = !host.contains(&b':') || host.ends_with(b"]");
        authority.truncate(if has_port { host.len() } else { authority.len() });
    }
    authority.make_ascii_lowercase();
    authority
}

#[cfg(test)]
mod tests {
    use super::super::attributes::Request;
    use super::*;

    fn value(source: &Source, request: &Request) -> Option<String> {
        source.value(request).map(|value| String::from_utf8(value.into_owned()).unwrap())
    }

    #[test]
    fn a_host_has_one_spelling() {
        let host = |authority: &str| value(&Source::Host, &Request::default().header(":authority", authority));
        for authority in ["shop.example", "Shop.Example:443", "shop.example:"] {
            assert_eq!(host(authority).as_deref(), Some("shop.example"), "{authority}");
        }
        assert_eq!(host("[2001:DB8::1]:80").as_deref(), Some("[2001:db8::1]"));
        assert_eq!(host("[::1]").as_deref(), Some("[::1]"));
        assert_eq!(host("::1").as_deref(), Some("::1"));
        assert_eq!(host("").as_deref(), Some(""));
        assert_eq!(value(&Source::Host, &Request::default()), None);
    }

    #[test]
    fn neighbours_share_a_masked_address() {
        let masked = |trusted| Source::MaskedRemoteAddress { trusted, v4_prefix_mask_len: 24, v6_prefix_mask_len: 48 };
        let direct = masked(TrustedProxies::Hops(0));
        assert_eq!(value(&direct, &Request::default().source("203.0.113.9:80")).as_deref(), Some("203.0.113.0/24"));
        assert_eq!(
            value(&direct, &Request::default().source("[2001:db8:1:2::3]:80")).as_deref(),
            Some("2001:db8:1::/48")
        );
        let forwarded = Request::default().header("x-forwarded-for", "203.0.113.9").source("10.0.0.1:80");
        assert_eq!(value(&masked(TrustedProxies::Hops(1)), &forwarded).as_deref(), Some("203.0.113.0/24"));
        assert_eq!(value(&direct, &Request::default().source("/run/envoy.sock")), None);
    }

    #[test]
    fn a_verified_claim_is_found_by_its_path() {
        let claim = PropertyPath::dynamic_metadata("envoy.filters.http.jwt_authn", &["jwt", "sub"]);
        let path = ["metadata", "filter_metadata", "envoy.filters.http.jwt_authn", "jwt", "sub"];
        let claim = Source::Property(claim);
        assert_eq!(value(&claim, &Request::default().property(&path, "alice")).as_deref(), Some("alice"));
        assert_eq!(value(&claim, &Request::default().property(&path, "")), None);
        assert_eq!(value(&claim, &Request::default()), None);
    }

    #[test]
    fn what_the_proxy_knows_has_its_names() {
        let request = Request::default()
            .property(&["xds", "route_name"], "checkout")
            .property(&["xds", "cluster_name"], "shop")
            .property(&["filter_state", "tenant"], "acme");
        let known = [PropertyPath::route_name(), PropertyPath::cluster_name(), PropertyPath::filter_state("tenant")];
        let values = known.map(|path| value(&Source::Property(path), &request).unwrap());
        assert_eq!(values, ["checkout", "shop", "acme"]);
    }

    #[test]
    fn a_body_that_was_not_lent_has_no_values() {
        let user = Source::RequestBody(JsonPointer::parse("/user").unwrap());
        assert_eq!(value(&user, &Request::default()), None);
        assert_eq!(value(&user, &Request::default().json("/user", r#"{"user": "alice"}"#)).as_deref(), Some("alice"));
        assert!(user.json_pointer().is_some() && Source::Method.json_pointer().is_none());
    }
}
