//! Sources of values in a request: the fields that descriptors, predicates and hits addends share.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use super::reader::{Node, Object};
use super::report::Read;
use crate::descriptor::{Cidr, JsonPointer, PathPattern, PathTemplate, PropertyPath, Repeated, Source, TrustedProxies};

const MAX_NAME: usize = 128;
/// Longest value of a descriptor's entry that a configuration contains, in bytes.
pub(super) const MAX_VALUE: usize = 256;
const MAX_PATH: usize = 1_024;
const MAX_KEY: usize = 256;
/// Description of a JSON pointer.
pub(super) const POINTER: &str = "a JSON pointer such as \"/user/id\"";
const MAX_CIDRS: usize = 256;
/// Most trusted proxies between a client and Envoy: more are a mistake.
const MAX_TRUSTED_HOPS: u64 = 32;

/// Reads the source of kind `kind` from its fields.
pub(super) fn read(kind: &str, fields: Object<'_>) -> Read<Source> {
    match kind {
        "request_header" | "header" => {
            let (name, repeated) = (header_name(fields), repeated(fields, Repeated::Joined));
            Ok(Source::RequestHeader { name: name?, repeated: repeated? })
        }
        "query_parameter" => {
            let name = fields.required("name", "a query parameter's name").and_then(|node| node.text(1..=MAX_NAME));
            let repeated = repeated(fields, Repeated::First);
            Ok(Source::QueryParameter { name: name?.to_owned(), repeated: repeated? })
        }
        "cookie" => {
            let name = fields.required("name", "a cookie's name");
            let name = name.and_then(|node| node.text_matching("a cookie's name", is_token));
            let repeated = repeated(fields, Repeated::First);
            Ok(Source::Cookie { name: name?.to_owned(), repeated: repeated? })
        }
        "path" => match fields.at_most_one(&["template", "exact", "prefix"])? {
            Some((kind, node)) => path_pattern(kind, node).map(Source::Path),
            None => Ok(Source::Path(PathPattern::Any)),
        },
        "method" => Ok(Source::Method),
        "host" => Ok(Source::Host),
        "scheme" => Ok(Source::Scheme),
        "remote_address" => trusted(fields).map(Source::RemoteAddress),
        "masked_remote_address" => {
            let trusted = trusted(fields);
            let v4 = mask_len(fields, "v4_prefix_mask_len", 32);
            let v6 = mask_len(fields, "v6_prefix_mask_len", 128);
            Ok(Source::MaskedRemoteAddress { trusted: trusted?, v4_prefix_mask_len: v4?, v6_prefix_mask_len: v6? })
        }
        "route_name" => Ok(Source::Property(PropertyPath::route_name())),
        "cluster_name" => Ok(Source::Property(PropertyPath::cluster_name())),
        "dynamic_metadata" => metadata_key(fields).map(Source::Property),
        "filter_state" => {
            let key = key(fields.required("key", "the key of a filter state")?)?;
            Ok(Source::Property(PropertyPath::filter_state(key)))
        }
        "request_body" => pointer(fields.required("json_pointer", POINTER)?).map(Source::RequestBody),
        _ => {
            let value = fields.required("descriptor_value", "a literal value")?.text(1..=MAX_VALUE)?;
            Ok(Source::GenericKey { descriptor_value: value.to_owned() })
        }
    }
}

/// Reads a JSON pointer.
#[inline(never)]
pub(super) fn pointer(node: &Node<'_>) -> Read<JsonPointer> {
    node.parsed(POINTER, MAX_KEY, JsonPointer::parse)
}

/// Reads a path pattern: `template`, `exact` or `prefix`.
pub(super) fn path_pattern(kind: &str, node: &Node<'_>) -> Read<PathPattern> {
    if kind == "template" {
        let expected = "a path template such as \"/users/{id}/posts\"";
        return node.parsed(expected, MAX_PATH, PathTemplate::parse).map(PathPattern::Template);
    }
    let text = path_text(node)?.to_owned();
    Ok(if kind == "exact" { PathPattern::Exact(text) } else { PathPattern::Prefix(text) })
}

/// Reads a path or its start.
pub(super) fn path_text<'a>(node: &Node<'a>) -> Read<&'a str> {
    node.text_matching("a path such as \"/api\", without a query string", |text| {
        text.starts_with('/') && is_of_path(text)
    })
}

/// Whether `text` can be a part of a path. Paths are compared without query strings and fragments: a text with either
/// would never match.
pub(super) fn is_of_path(text: &str) -> bool {
    (1..=MAX_PATH).contains(&text.len()) && !text.contains(['?', '#'])
}

/// Reads the proxies that are trusted with the client's address: `trusted_hops` or `trusted_cidrs`.
pub(super) fn trusted(fields: Object<'_>) -> Read<TrustedProxies> {
    match fields.at_most_one(&["trusted_hops", "trusted_cidrs"])? {
        None => Ok(TrustedProxies::Hops(0)),
        Some(("trusted_hops", node)) => {
            node.integer_as(0..=MAX_TRUSTED_HOPS, |hops| u8::try_from(hops).ok()).map(TrustedProxies::Hops)
        }
        Some((_, node)) => cidrs(node).map(TrustedProxies::Cidrs),
    }
}

pub(super) fn cidrs(node: &Node<'_>) -> Read<Vec<Cidr>> {
    node.each(1..=MAX_CIDRS, |node| node.parsed("a range of addresses such as \"10.0.0.0/8\"", MAX_NAME, Cidr::parse))
}

/// Reads the field `repeated`: the value that counts where a request has several.
fn repeated(fields: Object<'_>, default: Repeated) -> Read<Repeated> {
    fields.or("repeated", default, |node| {
        let values = [
            ("first", Repeated::First),
            ("last", Repeated::Last),
            ("joined", Repeated::Joined),
            ("reject", Repeated::Reject),
        ];
        node.one_of(&values)
    })
}

/// Reads the required field `name`: a header's name, in lower case. `host` becomes `:authority`, as in Envoy.
fn header_name(fields: Object<'_>) -> Read<String> {
    fields
        .required("name", "a header's name")
        .and_then(|node| {
            // A colon before the token names a pseudo-header.
            node.text_matching("a header's name", |text| is_token(text.strip_prefix(':').unwrap_or(text)))
        })
        .map(str::to_ascii_lowercase)
        .map(|name| if name == "host" { ":authority".to_owned() } else { name })
}

/// Whether `text` is a token (RFC 9110, §5.6.2) of up to 128 bytes.
pub(super) fn is_token(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn mask_len(fields: Object<'_>, name: &str, max: u8) -> Read<u8> {
    fields.or(name, max, |node| node.integer_as(0..=max.into(), |len| u8::try_from(len).ok()))
}

/// Reads a metadata key, with the fields of Envoy's `envoy.type.metadata.v3.MetadataKey`.
fn metadata_key(fields: Object<'_>) -> Read<PropertyPath> {
    let expected = "an object such as {key: envoy.filters.http.jwt_authn, path: [{key: jwt}, {key: sub}]}";
    let node = fields.required("metadata_key", expected)?;
    let fields = node.object(&["key", "path"])?;
    let filter = fields.required("key", "the key of a filter's metadata").and_then(|node| key(node));
    let path = fields.required("path", "a list of keys such as [{key: sub}]").and_then(|node| {
        node.each(1..=16, |node| {
            let fields = node.object(&["key"])?;
            key(fields.required("key", "a key")?)
        })
    });
    Ok(PropertyPath::dynamic_metadata(filter?, &path?))
}

/// Reads a part of a property's path, without zero bytes: these separate the parts in calls to the proxy.
fn key<'a>(node: &Node<'a>) -> Read<&'a str> {
    node.text_matching("a key of 1 to 256 bytes", |text| (1..=MAX_KEY).contains(&text.len()) && !text.contains('\0'))
}
