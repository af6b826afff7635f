//! Values of sources: finds the part of a request that a source names, within the budget of the request.

use alloc::borrow::Cow;
use alloc::rc::Rc;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::attributes::Attributes;
use super::bad_request::BadRequest;
use super::budget::{Charge, Exhausted, Purpose};
use super::cidr::Cidr;
use super::cookie::cookies;
use super::host::host;
use super::path_parts::parts;
use super::query::{decoded, parameters};
use super::repeated::Repeated;
use super::source::Source;
use super::value::Value;
use crate::pairs;

/// Size of headers in bytes above which values are cached. In shorter requests, finding a value again is cheaper until
/// that has taken much work.
const LONG: usize = 1_024;
/// Work of searching one byte for separators.
const SEARCHED_BYTE: usize = 12;
/// Work of comparing the name of one cookie or header.
const COMPARED: usize = 100;
/// Work of comparing one byte of a cookie's name.
const COMPARED_BYTE: usize = 16;
/// Work of adding one of several values to the others.
const JOINED: usize = 200;
/// Work of reading a property from the proxy: about 1 µs.
const PROPERTY: usize = 3_000;

impl Source {
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
                if is_long(request) {
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
        if !is_costly && !is_long(request) {
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
                selected(request, *repeated, values, separator, as_is, &charge)?
            }
            Self::QueryParameter { name, repeated } => {
                let Some(path) = parts(request) else { return Ok(None) };
                let values = parameters(path.query, name, &charge)?;
                selected(request, *repeated, values, b",", decoded, &charge)?
            }
            Self::Cookie { name, repeated } => {
                let mut values = Vec::new();
                for header in pairs::values(request.headers(), b"cookie") {
                    charge_cookies(header, name, &charge)?;
                    cookies(header, name, &mut values);
                }
                selected(request, *repeated, values, b",", as_is, &charge)?
            }
            Self::Path(pattern) => {
                let Some(path) = parts(request) else { return Ok(None) };
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
}

/// Whether the headers of `request` are long enough to cache values.
fn is_long(request: &dyn Attributes) -> bool {
    request.headers().len() > LONG || request.memo().is_busy()
}

/// Charges the work of comparing a name with those of cookies: first the bytes of the header, as counting the cookies
/// reads them.
#[inline(never)]
fn charge_cookies(header: &[u8], name: &str, charge: Charge<'_>) -> Result<(), Exhausted> {
    charge(header.len().saturating_mul(SEARCHED_BYTE))?;
    let others = header.iter().filter(|byte| **byte == b';').count();
    let compared = others.saturating_add(1).saturating_mul(name.len()).min(header.len());
    charge(others.saturating_mul(COMPARED).saturating_add(compared.saturating_mul(COMPARED_BYTE)))
}

/// Function that decodes a value, and charges the work before it is done.
type Decode<'a> = fn(&'a [u8], Charge<'_>) -> Result<Cow<'a, [u8]>, Exhausted>;

/// Returns a value that is not encoded.
fn as_is<'a>(value: &'a [u8], _: Charge<'_>) -> Result<Cow<'a, [u8]>, Exhausted> {
    Ok(Cow::Borrowed(value))
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
    decode: Decode<'a>,
    charge: Charge<'_>,
) -> Result<Option<Value<'a>>, Exhausted> {
    let Some((&first, others)) = values.split_first() else { return Ok(None) };
    let counts = match (repeated, others.last()) {
        (Repeated::Last, Some(&last)) => last,
        (Repeated::Joined, Some(_)) => {
            charge(values.len().saturating_mul(JOINED))?;
            let mut joined = decode(first, charge)?.into_owned();
            for &value in others {
                joined.extend_from_slice(separator);
                joined.extend_from_slice(&decode(value, charge)?);
            }
            return Ok(Some(owned(joined)));
        }
        (Repeated::Reject, Some(_)) => {
            request.memo().reject(BadRequest::Repeated);
            first
        }
        _ => first,
    };
    Ok(Some(decode(counts, charge)?.into()))
}

#[inline(never)]
fn owned<'a>(bytes: Vec<u8>) -> Value<'a> {
    Value::Kept(Rc::from(bytes))
}

#[cfg(test)]
mod tests {
    use super::super::attributes::Request;
    use super::super::json_pointer::JsonPointer;
    use super::super::path::PathPattern;
    use super::super::property_path::PropertyPath;
    use super::super::trusted_proxies::TrustedProxies;
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
    fn a_long_encoded_value_takes_more_work_than_a_plain_one() {
        let read = |value: String| {
            let request = Request::default().header(":path", format!("/?key={value}"));
            let length = Source::query_parameter("key").value(&request).map(|value| value.len());
            (length, request.memo().take_rejection())
        };
        assert_eq!(read("%41".repeat(7_000)), (Some(7_000), None));
        assert_eq!(read("%41".repeat(10_000)), (None, Some(BadRequest::TooLarge)));
        assert_eq!(read("A".repeat(55_000)), (Some(55_000), None));
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
