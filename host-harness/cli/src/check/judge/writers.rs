//! Filters of Envoy that write dynamic metadata, filter state or request headers.

use super::order::Item;
use crate::documents::{At, Message};
use crate::files::Filter;

/// Whether a filter writes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Writes {
    Never,
    /// The filter runs code, asks another service, or is not in the files.
    Perhaps,
    Always,
}

/// Messages of filters that write metadata of a namespace of their own, with this namespace.
const OWN_NAMESPACES: [(&str, &str); 9] = [
    ("envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication", "envoy.filters.http.jwt_authn"),
    ("envoy.extensions.filters.http.ext_authz.v3.ExtAuthz", "envoy.filters.http.ext_authz"),
    ("envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor", "envoy.filters.http.ext_proc"),
    ("envoy.extensions.filters.http.rbac.v3.RBAC", "envoy.filters.http.rbac"),
    ("envoy.extensions.filters.http.ratelimit.v3.RateLimit", "envoy.filters.http.ratelimit"),
    ("envoy.extensions.filters.http.lua.v3.Lua", "envoy.filters.http.lua"),
    ("envoy.extensions.filters.http.fault.v3.HTTPFault", "envoy.filters.http.fault"),
    ("envoy.extensions.filters.http.header_to_metadata.v3.Config", "envoy.filters.http.header_to_metadata"),
    ("envoy.extensions.filters.http.json_to_metadata.v3.JsonToMetadata", "envoy.filters.http.json_to_metadata"),
];

/// Fields of a provider of `jwt_authn` that contain the first keys of its metadata.
const JWT_METADATA: [&str; 6] = [
    "payload_in_metadata",
    "payloadInMetadata",
    "header_in_metadata",
    "headerInMetadata",
    "failed_status_in_metadata",
    "failedStatusInMetadata",
];

/// Packages of filters that may write anything: they run code, or do what another service says.
const UNKNOWABLE: [&str; 7] = [
    ".http.lua.",
    ".http.ext_proc.",
    ".http.ext_authz.",
    ".http.golang.",
    ".http.wasm.",
    ".http.dynamic_modules.",
    ".http.composite.",
];

/// Whether a filter of Envoy is the only usual writer of a namespace.
pub(super) fn has_own_filter(namespace: &str) -> bool {
    OWN_NAMESPACES.iter().any(|(_, own)| *own == namespace)
}

/// Whether a filter, or a filter in a wrapper, writes an item.
pub(super) fn writes(filter: &Filter<'_>, item: &Item) -> Writes {
    if filter.is_unknown() {
        return Writes::Perhaps;
    }
    filter.messages.iter().map(|message| message_writes(message, item)).max().unwrap_or(Writes::Never)
}

fn message_writes(message: &Message<'_>, item: &Item) -> Writes {
    let is_written = match item {
        Item::Metadata { namespace, key } => metadata(message, namespace, key),
        Item::FilterState(key) => filter_state(message, key),
        Item::Header(name) => headers(message).iter().any(|at| at.eq_ignore_ascii_case(name)),
    };
    if is_written {
        Writes::Always
    } else if UNKNOWABLE.iter().any(|package| message.name.contains(package)) {
        Writes::Perhaps
    } else {
        Writes::Never
    }
}

fn metadata(message: &Message<'_>, namespace: &str, key: &str) -> bool {
    let own = OWN_NAMESPACES.iter().any(|(name, own)| *name == message.name && *own == namespace);
    if own && message.name.contains(".jwt_authn.") {
        return texts_below(&message.body, &JWT_METADATA).contains(&key);
    }
    let given = ["metadata_namespace", "metadataNamespace"];
    own || texts_below(&message.body, &given).contains(&namespace)
}

fn filter_state(message: &Message<'_>, key: &str) -> bool {
    // Without an `object_key`, the value's kind is its key.
    message.name.contains(".set_filter_state.")
        && message.body.each("on_request_headers").iter().any(|value| {
            let object_key = value.text_of("object_key");
            if object_key.is_empty() { value.text_of("factory_key") == key } else { object_key == key }
        })
}

/// Names of the request headers that a filter sets.
fn headers<'a>(message: &Message<'a>) -> Vec<&'a str> {
    let body = &message.body;
    if message.name.contains(".jwt_authn.") {
        return texts_below(body, &["header_name", "headerName", "forward_payload_header", "forwardPayloadHeader"]);
    }
    if message.name.contains(".geoip.") {
        let added = ["geo_headers_to_add", "geo_field_keys"];
        let fields = |name: &str| {
            fields_below(body, name).iter().flat_map(At::entries).filter_map(|(_, at)| at.text()).collect::<Vec<_>>()
        };
        return added.iter().flat_map(|name| fields(name)).collect();
    }
    if message.name.contains(".basic_auth.") {
        return texts_below(body, &["forward_username_header", "forwardUsernameHeader"]);
    }
    if message.name.contains(".header_mutation.") {
        let request = fields_below(body, "request_mutations");
        return request.iter().flat_map(|at| texts_below(at, &["key"])).collect();
    }
    Vec::new()
}

/// Texts of all fields with one of these keys, at any depth.
fn texts_below<'a>(at: &At<'a>, keys: &[&str]) -> Vec<&'a str> {
    let mut found: Vec<&str> =
        at.entries().filter(|(key, _)| keys.contains(key)).filter_map(|(_, at)| at.text()).collect();
    found.extend(at.children().iter().flat_map(|at| texts_below(at, keys)));
    found
}

/// All fields with a name, at any depth.
fn fields_below<'a>(at: &At<'a>, name: &str) -> Vec<At<'a>> {
    let own = at.field(name);
    own.into_iter().chain(at.children().iter().flat_map(|at| fields_below(at, name))).collect()
}
