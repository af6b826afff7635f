//! Enums: values that Envoy's messages do not have.
//!
//! Fields are known by their names, which no two messages use for different enums; the others are known by the field
//! around them as well. Only values in messages of Envoy are looked at. (Envoy 1.36 to 1.40.)

use serde_json::Number;

use crate::check::finding::Finding;
use crate::check::rules;
use crate::documents::{At, Document, Message, Value, quoted};
use crate::files::Cluster;
use crate::spelling::nearest;

/// Enum of a field.
struct Enum {
    /// Name of the field in snake case.
    field: &'static str,
    /// Field around the field, in snake case; any if it is empty.
    around: &'static str,
    /// Names of the values in the order of their numbers; an empty name is that of no value.
    names: &'static [&'static str],
    /// Whether numbers beyond those of the names are refused.
    is_closed: bool,
}

macro_rules! enums {
    ($($field:literal $((in $around:literal))? $open:ident [$($name:literal)*];)*) => {
        const ENUMS: &[Enum] = &[$(Enum {
            field: $field,
            around: concat!("", $($around)?),
            names: &[$($name),*],
            is_closed: enums!(@ $open),
        }),*];
    };
    (@ closed) => { true };
    (@ open) => { false };
}

enums! {
    "lb_policy" closed
        ["ROUND_ROBIN" "LEAST_REQUEST" "RING_HASH" "RANDOM" "" "MAGLEV" "CLUSTER_PROVIDED" "LOAD_BALANCING_POLICY_CONFIG"];
    "protocol_selection" open ["USE_CONFIGURED_PROTOCOL" "USE_DOWNSTREAM_PROTOCOL"];
    "priority" (in "thresholds") closed ["DEFAULT" "HIGH"];
    "priority" (in "per_host_thresholds") closed ["DEFAULT" "HIGH"];
    "priority" (in "route") closed ["DEFAULT" "HIGH"];
    "health_status" (in "lb_endpoints") open ["UNKNOWN" "HEALTHY" "UNHEALTHY" "DRAINING" "TIMEOUT" "DEGRADED"];
    "codec_client_type" closed ["HTTP1" "HTTP2" "HTTP3"];
    "protocol" (in "socket_address") closed ["TCP" "UDP"];
    "traffic_direction" open ["UNSPECIFIED" "INBOUND" "OUTBOUND"];
    "drain_type" open ["DEFAULT" "MODIFY_ONLY"];
    "source_type" (in "filter_chain_match") closed ["ANY" "SAME_IP_OR_LOOPBACK" "EXTERNAL"];
    "codec_type" closed ["AUTO" "HTTP1" "HTTP2" "HTTP3"];
    "server_header_transformation" closed ["OVERWRITE" "APPEND_IF_ABSENT" "PASS_THROUGH"];
    "forward_client_cert_details" open
        ["SANITIZE" "FORWARD_ONLY" "APPEND_FORWARD" "SANITIZE_SET" "ALWAYS_FORWARD_ONLY"];
    "path_with_escaped_slashes_action" open
        ["IMPLEMENTATION_SPECIFIC_DEFAULT" "KEEP_UNCHANGED" "REJECT_REQUEST" "UNESCAPE_AND_REDIRECT" "UNESCAPE_AND_FORWARD"];
    "headers_with_underscores_action" open ["ALLOW" "REJECT_REQUEST" "DROP_HEADER"];
    "require_tls" closed ["NONE" "EXTERNAL_ONLY" "ALL"];
    "response_code" (in "redirect") closed
        ["MOVED_PERMANENTLY" "FOUND" "SEE_OTHER" "TEMPORARY_REDIRECT" "PERMANENT_REDIRECT"];
    "cluster_not_found_response_code" closed ["SERVICE_UNAVAILABLE" "NOT_FOUND" "INTERNAL_SERVER_ERROR"];
    "internal_redirect_action" open ["PASS_THROUGH_INTERNAL_REDIRECT" "HANDLE_INTERNAL_REDIRECT"];
    "append_action" closed
        ["APPEND_IF_EXISTS_OR_ADD" "ADD_IF_ABSENT" "OVERWRITE_IF_EXISTS_OR_ADD" "OVERWRITE_IF_EXISTS"];
    "san_type" closed ["SAN_TYPE_UNSPECIFIED" "EMAIL" "DNS" "URI" "IP_ADDRESS" "OTHER_NAME"];
    "trust_chain_verification" closed ["VERIFY_TRUST_CHAIN" "ACCEPT_UNTRUSTED"];
    "tls_minimum_protocol_version" closed ["TLS_AUTO" "TLSv1_0" "TLSv1_1" "TLSv1_2" "TLSv1_3"];
    "tls_maximum_protocol_version" closed ["TLS_AUTO" "TLSv1_0" "TLSv1_1" "TLSv1_2" "TLSv1_3"];
    "ocsp_staple_policy" closed ["LENIENT_STAPLING" "STRICT_STAPLING" "MUST_STAPLE"];
    "resource_api_version" closed ["AUTO" "V2" "V3"];
    "transport_api_version" closed ["AUTO" "V2" "V3"];
    "api_type" (in "api_config_source") closed
        ["DEPRECATED_AND_UNAVAILABLE_DO_NOT_USE" "REST" "GRPC" "DELTA_GRPC" "" "AGGREGATED_GRPC" "AGGREGATED_DELTA_GRPC"];
}

/// Types of a cluster.
const DISCOVERY: Enum = Enum {
    field: "type",
    around: "",
    names: &["STATIC", "STRICT_DNS", "LOGICAL_DNS", "EDS", "ORIGINAL_DST"],
    is_closed: true,
};
/// Lookups of a cluster. The extension `DnsCluster` has other numbers, and is not looked at.
const LOOKUP: Enum = Enum {
    field: "dns_lookup_family",
    around: "",
    names: &["AUTO", "V4_ONLY", "V6_ONLY", "V4_PREFERRED", "ALL"],
    is_closed: true,
};

/// Findings about fields of a cluster itself.
pub(super) fn of_cluster(cluster: &Cluster<'_>) -> Vec<Finding> {
    let fields = [DISCOVERY, LOOKUP];
    fields.iter().filter_map(|known| known.refused(&cluster.at.field(known.field)?)).collect()
}

/// Findings about all messages of a document.
pub(super) fn of_document(document: &Document) -> Vec<Finding> {
    let mut found = Vec::new();
    let root = At::root(document);
    for at in ["static_resources", "dynamic_resources"].into_iter().filter_map(|name| root.field(name)) {
        walk(&at, "", true, &mut found);
    }
    let others = root.entries().filter(|(key, _)| !key.ends_with("_resources") && !key.ends_with("Resources"));
    others.for_each(|(key, at)| walk(&at, key, false, &mut found));
    found
}

/// Findings about a message without `@type`, and about all messages in it.
pub(super) fn of_value(at: &At<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    walk(at, "", true, &mut found);
    found
}

/// Looks at the fields of a value, and of all values in it. `around` is the field of the value; `is_message` says
/// whether a message of Envoy is around it.
fn walk(at: &At<'_>, around: &str, is_message: bool, found: &mut Vec<Finding>) {
    let message = Message::of(at);
    // A `Struct` has any fields.
    if message.as_ref().is_some_and(|message| message.name == "google.protobuf.Struct") {
        return;
    }
    let is_message = is_message || message.is_some_and(|message| message.name.starts_with("envoy."));
    for (key, value) in at.entries() {
        if is_message {
            let known = ENUMS.iter().find(|known| known.is(key, around));
            found.extend(known.and_then(|known| known.refused(&value)));
        }
        if !matches!(key, "metadata" | "filter_metadata" | "filterMetadata") {
            walk(&value, key, is_message, found);
        }
    }
    if let Value::List(_) = at.node.value {
        at.items().iter().for_each(|at| walk(at, around, is_message, found));
    }
}

impl Enum {
    /// Whether a field of the file has this enum.
    fn is(&self, key: &str, around: &str) -> bool {
        is_spelling(key, self.field) && (self.around.is_empty() || is_spelling(around, self.around))
    }

    /// The finding about a value that Envoy refuses.
    fn refused(&self, at: &At<'_>) -> Option<Finding> {
        if self.has(at) {
            return None;
        }
        let names: Vec<&str> = self.names.iter().copied().filter(|name| !name.is_empty()).collect();
        let (found, meant) = match &at.node.value {
            Value::Text(text) => (quoted(text), nearest(text, &names)),
            Value::Number(number) => (format!("the number {number}"), None),
            _ => (at.kind(), None),
        };
        let help = match meant {
            Some(meant) => format!("did you mean {meant}? Envoy refuses other values"),
            None => "write one of these names; Envoy refuses other values".to_owned(),
        };
        Some(Finding::at(rules::TYPE, at, names.join(", "), found, help))
    }

    /// Whether a value is one of the enum's: its name in any case, or its number, also as text.
    fn has(&self, at: &At<'_>) -> bool {
        let is_known = |index: usize| self.names.get(index).is_some_and(|name| !name.is_empty());
        let has_number = |number: i64| !self.is_closed || usize::try_from(number).is_ok_and(is_known);
        match &at.node.value {
            Value::Null => true,
            Value::Number(number) => whole(number).is_some_and(has_number),
            Value::Text(text) => {
                let is_name = |name: &&str| !name.is_empty() && name.eq_ignore_ascii_case(text);
                self.names.iter().any(is_name) || text.parse::<i32>().is_ok_and(|it| has_number(it.into()))
            }
            Value::Bool(_) | Value::List(_) | Value::Map(_) => false,
        }
    }
}

/// A whole number, which JSON may have as `1.0`.
#[expect(clippy::cast_possible_truncation, reason = "whole and within bounds")]
fn whole(number: &Number) -> Option<i64> {
    let double = || number.as_f64().filter(|double| double.fract() == 0.0 && double.abs() < f64::from(i32::MAX));
    number.as_i64().or_else(|| Some(double()? as i64))
}

/// Whether a key of a file is this field, in snake case or in camel case.
fn is_spelling(key: &str, field: &str) -> bool {
    key == field || key == crate::documents::camel_case(field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::Source;

    fn accepts(value: &str) -> bool {
        let source = Source::parse(&format!("type: {value}\n"), "test.yaml".to_owned());
        let at = At::root(&source.documents[0]).field("type");
        at.is_none_or(|at| DISCOVERY.has(&at))
    }

    #[test]
    fn a_number_of_json_may_have_zeros_behind_the_point() {
        let accepts = |value: &str| {
            let source = Source::parse(&format!("{{\"type\": {value}}}"), "test.json".to_owned());
            let at = At::root(&source.documents[0]).field("type").expect("a value");
            DISCOVERY.has(&at)
        };
        assert!(["1", "1.0", "1e0", "0.0", "-0.0"].into_iter().all(accepts));
        assert!(!["1.5", "5.0", "100.0", "-1", "\"1.0\"", "true"].into_iter().any(accepts));
    }

    /// Envoy 1.36 and 1.40 were observed to accept and refuse the same values.
    #[test]
    fn a_value_is_a_name_in_any_case_or_a_number() {
        for value in ["STATIC", "Static", "strict_dns", "1", "'1'", "null"] {
            assert!(accepts(value), "{value}");
        }
        for value in ["STRICT_DNZ", "strict-dns", "9", "'9'", "-1", "0.0", "true", "[STATIC]", "{}", "''"] {
            assert!(!accepts(value), "{value}");
        }
    }
}
