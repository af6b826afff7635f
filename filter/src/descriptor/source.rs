//! Sources: parts of a request that keys, predicates and costs read.

use alloc::borrow::{Cow, ToOwned};
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::attributes::Attributes;
use super::bad_request::BadRequest;
use super::body::RequestBody;
use super::cidr::Cidr;
use super::client_address::TrustedProxies;
use super::cookie::cookies;
use super::host::host;
use super::json_pointer::JsonPointer;
use super::memo::{self, Exhausted, Purpose};
use super::path::{self, PathPattern};
use super::property::PropertyPath;
use super::query::{decoded, parameters};
use super::repeated::Repeated;
use super::value::Value;
use crate::pairs;

/// Work of searching one byte for separators.
const SEARCHED_BYTE: usize = 12;
/// Work of comparing the name of one parameter, cookie or header.
const COMPARED: usize = 100;
/// Work of decoding one of several values, and of adding it to the others.
const JOINED: usize = 200;
/// Work of reading a property from the proxy: about 1 µs.
const PROPERTY: usize = 3_000;

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

    /// Returns the value for `request`, for a key or a cost. `None` if there is none.
    ///
    /// If the value is to be rejected, the rejection is recorded in the request's [memo](Attributes::memo).
    #[must_use]
    pub fn value<'a>(&'a self, request: &'a dyn Attributes) -> Option<Value<'a>> {
        self.read(request, Purpose::Key).unwrap_or_else(|Exhausted| {
            request.memo().reject(BadRequest::TooLarge);
            None
        })
    }

    /// Returns the value for `request`, or an error if the work left for this purpose does not suffice.
    pub(super) fn read<'a>(
        &'a self,
        request: &'a dyn Attributes,
        purpose: Purpose,
    ) -> Result<Option<Value<'a>>, Exhausted> {
        match self {
            // The most frequent sources are not cached.
            Self::RequestHeader { name, repeated: Repeated::Joined } if name != "cookie" => {
                if memo::is_long(request) {
                    let headers = pairs::count(request.headers());
                    request.memo().charge(purpose, headers.saturating_mul(COMPARED))?;
                }
                let mut values = pairs::values(request.headers(), name.as_bytes());
                let (first, second) = (values.next(), values.next());
                if second.is_none() {
                    return Ok(first.map(Value::Lent));
                }
            }
            Self::Method => return Ok(first_header(request, b":method")),
            Self::Scheme => return Ok(first_header(request, b":scheme")),
            Self::GenericKey { descriptor_value } => return Ok(Some(descriptor_value.as_str().into())),
            _ => {}
        }
        let is_costly = matches!(self, Self::Property(_) | Self::RequestBody(_));
        if !is_costly && !memo::is_long(request) {
            return self.find(request, purpose);
        }
        if let Some(known) = request.memo().lookup(self, request.headers(), purpose)? {
            return Ok(known);
        }
        let value = self.find(request, purpose)?;
        request.memo().insert(self, value.as_ref(), request.headers());
        Ok(value)
    }

    /// Finds the value, without the cache.
    fn find<'a>(&'a self, request: &'a dyn Attributes, purpose: Purpose) -> Result<Option<Value<'a>>, Exhausted> {
        let charge = |work: usize| request.memo().charge(purpose, work);
        Ok(match self {
            Self::RequestHeader { name, repeated } => {
                let separator: &[u8] = if name == "cookie" { b"; " } else { b"," };
                let values = pairs::values(request.headers(), name.as_bytes()).collect();
                selected(request, *repeated, values, separator, Cow::Borrowed, &charge)?
            }
            Self::QueryParameter { name, repeated } => {
                let Some(path) = path::parts(request) else { return Ok(None) };
                charge_pairs(path.query, b'&', &charge)?;
                selected(request, *repeated, parameters(path.query, name), b",", decoded, &charge)?
            }
            Self::Cookie { name, repeated } => {
                let mut values = Vec::new();
                for header in pairs::values(request.headers(), b"cookie") {
                    charge_pairs(header, b';', &charge)?;
                    cookies(header, name, &mut values);
                }
                selected(request, *repeated, values, b",", Cow::Borrowed, &charge)?
            }
            Self::Path(pattern) => {
                let Some(path) = path::parts(request) else { return Ok(None) };
                pattern.value(path.path, &charge)?.map(Value::from)
            }
            Self::Host => {
                let Some(authority) = pairs::values(request.headers(), b":authority").next() else { return Ok(None) };
                charge(authority.len().saturating_mul(SEARCHED_BYTE))?;
                Some(host(authority).into())
            }
            Self::RemoteAddress(trusted) => {
                trusted.read(request, purpose)?.map(|client| owned(client.to_string().into_bytes()))
            }
            Self::MaskedRemoteAddress { trusted, v4_prefix_mask_len, v6_prefix_mask_len } => {
                let range = trusted.read(request, purpose)?.and_then(|client| {
                    let len = if client.is_ipv4() { *v4_prefix_mask_len } else { *v6_prefix_mask_len };
                    Cidr::new(client, len)
                });
                range.map(|range| owned(range.to_string().into_bytes()))
            }
            Self::Property(path) => {
                charge(PROPERTY)?;
                path.value(request).map(owned)
            }
            Self::RequestBody(pointer) => request.body().value(pointer).map(|value| owned(value.to_vec())),
            Self::Method | Self::Scheme => None,
            Self::GenericKey { descriptor_value } => Some(descriptor_value.as_str().into()),
        })
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

/// Charges the work of comparing a name with those of a list: first its bytes, as counting the pairs reads them.
#[inline(never)]
fn charge_pairs(list: &[u8], separator: u8, charge: &dyn Fn(usize) -> Result<(), Exhausted>) -> Result<(), Exhausted> {
    charge(list.len().saturating_mul(SEARCHED_BYTE))?;
    let pairs = list.iter().filter(|byte| **byte == separator).count();
    charge(pairs.saturating_mul(COMPARED))
}

#[inline(never)]
fn first_header<'a>(request: &'a dyn Attributes, name: &'a [u8]) -> Option<Value<'a>> {
    pairs::values(request.headers(), name).next().map(Value::Lent)
}

/// Selects among the values of one name, and decodes the result.
#[inline(never)]
fn selected<'a>(
    request: &dyn Attributes,
    repeated: Repeated,
    values: Vec<&'a [u8]>,
    separator: &[u8],
    decode: fn(&'a [u8]) -> Cow<'a, [u8]>,
    charge: &dyn Fn(usize) -> Result<(), Exhausted>,
) -> Result<Option<Value<'a>>, Exhausted> {
    let Some((&first, others)) = values.split_first() else { return Ok(None) };
    let counts = match (repeated, others.last()) {
        (Repeated::Last, Some(&last)) => last,
        (Repeated::Joined, Some(_)) => {
            charge(values.len().saturating_mul(JOINED))?;
            let mut joined = decode(first).into_owned();
            for &value in others {
                joined.extend_from_slice(separator);
                joined.extend_from_slice(&decode(value));
            }
            return Ok(Some(owned(joined)));
        }
        (Repeated::Reject, Some(_)) => {
            request.memo().reject(BadRequest::Repeated);
            first
        }
        _ => first,
    };
    Ok(Some(decode(counts).into()))
}

#[inline(never)]
fn owned<'a>(bytes: Vec<u8>) -> Value<'a> {
    Value::Kept(Rc::from(bytes))
}

#[cfg(test)]
mod tests {
    use super::super::attributes::Request;
    use super::*;

    fn value(source: &Source, request: &Request) -> Option<String> {
        source.value(request).map(|value| String::from_utf8(value.to_vec()).unwrap())
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
    fn properties_of_the_proxy_have_its_names() {
        let request = Request::default()
            .property(&["xds", "route_name"], "checkout")
            .property(&["xds", "cluster_name"], "shop")
            .property(&["filter_state", "tenant"], "acme");
        let known = [PropertyPath::route_name(), PropertyPath::cluster_name(), PropertyPath::filter_state("tenant")];
        let values = known.map(|path| value(&Source::Property(path), &request).unwrap());
        assert_eq!(values, ["checkout", "shop", "acme"]);
    }

    #[test]
    fn a_request_without_a_body_has_no_body_values() {
        let user = Source::RequestBody(JsonPointer::parse("/user").unwrap());
        assert_eq!(value(&user, &Request::default()), None);
        assert_eq!(value(&user, &Request::default().json("/user", r#"{"user": "alice"}"#)).as_deref(), Some("alice"));
        assert!(user.json_pointer().is_some() && Source::Method.json_pointer().is_none());
    }

    #[test]
    fn repeated_values_are_selected_as_configured() {
        let request = || {
            Request::default()
                .header("key", "a")
                .header("key", "b,c")
                .header(":path", "/?key=a&x=1&k%65y=b%2Cc")
                .header("cookie", "key=a; x=1")
                .header("cookie", "key=b,c")
        };
        let name = || "key".to_owned();
        for (repeated, expected) in
            [(Repeated::First, "a"), (Repeated::Last, "b,c"), (Repeated::Joined, "a,b,c"), (Repeated::Reject, "a")]
        {
            for source in [
                Source::RequestHeader { name: name(), repeated },
                Source::QueryParameter { name: name(), repeated },
                Source::Cookie { name: name(), repeated },
            ] {
                let request = request();
                for _ in 0..2 {
                    assert_eq!(value(&source, &request).as_deref(), Some(expected), "{source:?}");
                    let rejection = (repeated == Repeated::Reject).then_some(BadRequest::Repeated);
                    assert_eq!(request.memo().take_rejection(), rejection, "{source:?}");
                }
            }
        }
        assert_eq!(value(&Source::request_header("cookie"), &request()).as_deref(), Some("key=a; x=1; key=b,c"));
    }

    /// Cached values of a long request equal those found in it.
    #[test]
    fn a_long_request_is_read_like_a_short_one() {
        let padding = "x".repeat(5_000);
        let request = Request::default()
            .header("x-padding", &padding)
            .header(":path", format!("/users/7?key=a%20b&other=c&long={padding}"))
            .header(":authority", "Shop.Example.")
            .header("cookie", "session=s")
            .source("203.0.113.9:80");
        let template = PathPattern::Template(super::super::path::PathTemplate::parse("/users/{id}").unwrap());
        for (source, expected) in [
            (Source::query_parameter("key"), Some("a b")),
            (Source::query_parameter("other"), Some("c")),
            (Source::query_parameter("none"), None),
            (Source::query_parameter("long"), Some(padding.as_str())),
            (Source::cookie("session"), Some("s")),
            (Source::Path(template), Some("7")),
            (Source::Path(PathPattern::Any), Some("/users/7")),
            (Source::Host, Some("shop.example")),
            (Source::RemoteAddress(TrustedProxies::Hops(0)), Some("203.0.113.9")),
        ] {
            for _ in 0..3 {
                assert_eq!(value(&source, &request).as_deref(), expected, "{source:?}");
            }
        }
    }

    /// Values that exceed the work of a request are rejected.
    #[test]
    fn a_request_that_takes_too_much_work_is_rejected() {
        let request = Request::default().header(":path", format!("/?{}", "abcdefgh=1&".repeat(5_400)));
        let names: Vec<Source> = (0..9).map(|nth| Source::query_parameter(&format!("a{nth}"))).collect();
        assert!(names.iter().take(1).all(|name| name.value(&request).is_none()));
        assert_eq!(request.memo().take_rejection(), None);
        assert!(names.iter().all(|name| name.value(&request).is_none()));
        assert_eq!(request.memo().take_rejection(), Some(BadRequest::TooLarge));
    }

    #[test]
    fn metadata_is_text_whatever_its_type() {
        // Envoy's encoding of `{"jwt": {"sub": 42, "plan": "x", "admin": true, "none": null}}` of the filter
        // `jwt_authn`.
        let entry = |key: &str, value: &[u8]| field(1, &[field(1, key.as_bytes()), field(2, value)].concat());
        let number = [&[2 << 3 | 1][..], &42_f64.to_le_bytes()].concat();
        let claims = [
            entry("sub", &number),
            entry("plan", &field(3, b"x")),
            entry("admin", &[4 << 3, 1]),
            entry("none", &[1 << 3, 0]),
            entry("list", &field(6, &field(1, &number))),
            entry("object", &field(5, &entry("sub", &number))),
            entry("twice", &field(3, b"a")),
            entry("twice", &field(3, b"b")),
        ];
        let metadata = entry("jwt_authn", &entry("jwt", &field(5, &claims.concat())));
        let claim = |name: &str, raw: &[u8]| {
            let request = Request::default()
                .property(&["metadata", "filter_metadata", "jwt_authn", "jwt", name], raw)
                .property(&["metadata"], &metadata);
            value(&Source::Property(PropertyPath::dynamic_metadata("jwt_authn", &["jwt", name])), &request)
        };
        assert_eq!(claim("sub", &42_f64.to_le_bytes()).as_deref(), Some("42"));
        assert_eq!(claim("plan", b"x").as_deref(), Some("x"));
        assert_eq!(claim("admin", &[1]).as_deref(), Some("true"));
        assert_eq!(claim("none", &[0; 4]), None);
        assert_eq!(claim("list", &[0; 12]), None);
        assert_eq!(claim("object", &[0; 12]), None);
        assert_eq!(claim("twice", &[0]).as_deref(), Some("b"), "the last entry of a map counts");
        assert_eq!(claim("nobody", &[0; 8]), None);
        // The raw value can only be a string, so its type is not read.
        assert_eq!(claim("nobody", b"alice").as_deref(), Some("alice"));
    }

    /// Without types, a value that is no printable text is no string.
    #[test]
    fn metadata_of_a_host_that_tells_no_types_is_text_where_it_can_be_printed() {
        let plan = Source::Property(PropertyPath::dynamic_metadata("jwt_authn", &["plan"]));
        for (raw, expected) in [
            (&b"platinum"[..], Some("platinum")),
            (b"x", Some("x")),
            (&42_f64.to_le_bytes(), None),
            (&[1], None),
            (&[0; 12], None),
        ] {
            let request = Request::default().property(&["metadata", "filter_metadata", "jwt_authn", "plan"], raw);
            assert_eq!(value(&plan, &request).as_deref(), expected, "{raw:?}");
        }
    }

    fn field(number: u8, payload: &[u8]) -> Vec<u8> {
        let len = u16::try_from(payload.len()).unwrap();
        let low = (len & 0x7f) as u8;
        let len = if len < 0x80 { vec![low] } else { vec![low | 0x80, u8::try_from(len >> 7).unwrap()] };
        [&[number << 3 | 2][..], &len, payload].concat()
    }
}
