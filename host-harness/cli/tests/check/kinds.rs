//! Values of other types than those of their fields, and fields that Envoy needs. Each verdict is compared with that of
//! a real Envoy.

use crate::rules::{are_refused, are_taken, case};
use crate::support::{Folder, changed, check, check_changed};
use crate::{QUICKSTART, support};

const MANAGER: &str = "stat_prefix: ingress";
const CLUSTER: &str = "    connect_timeout: 1s\n";
const ROUTE: &str = "- match: {prefix: \"/\"}";
const NAME: &str = "          - name: weir\n";
const CHAINS: &str = "    filter_chains:\n";
const LISTENER: &str = "  listeners:\n";
const ADDRESS: &str = "    address: {socket_address: {address: 127.0.0.1, port_value: 10000}}\n";
const ADMIN: &str = "admin:\n  address: {socket_address: {address: 127.0.0.1, port_value: 9901}}\n";
const STRUCT: &str = "type.googleapis.com/google.protobuf.Struct\n";

fn in_manager(line: &str) -> String {
    format!("{MANAGER}\n          {line}")
}

fn in_cluster(line: &str) -> String {
    format!("{CLUSTER}    {line}\n")
}

/// A line of the cluster with typed metadata.
fn metadata(name: &str, fields: &str) -> String {
    in_cluster(&format!(
        "metadata: {{typed_filter_metadata: {{a: {{\"@type\": type.googleapis.com/{name}{fields}}}}}}}"
    ))
}

/// A source of bytes.
fn bytes(value: &str) -> String {
    metadata("envoy.config.core.v3.DataSource", &format!(", inline_bytes: {value}"))
}

/// A filter before the limiter.
fn filter(config: &str) -> String {
    format!("          - {{name: b, typed_config: {config}}}\n{NAME}")
}

#[test]
fn a_bare_word_that_yaml_reads_as_a_number_or_a_boolean_is_no_text() {
    let mut cases = vec![
        case(MANAGER, "stat_prefix: 8080", "type", "stat_prefix", "stat_prefix"),
        case("domains: [\"*\"]", "domains: [\"*\", 1]", "type", "domains[1]", "domains[1]"),
        case("domains: [\"*\"]", "domains: [\"*\", true]", "type", "domains[1]", "domains[1]"),
        case("  - name: ingress\n", "  - name: {}\n", "type", "listeners[0].name", "name"),
        case(
            ROUTE,
            format!("{ROUTE}\n                request_headers_to_add: [{{header: {{key: a, value: 1}}}}]"),
            "type",
            "header.value",
            "header.value",
        ),
    ];
    for word in ["n", "y", "no", "yes", "on", "off", "5", "017", "0x1f", "true"] {
        let line = in_cluster(&format!("alt_stat_name: {word}"));
        cases.push(case(CLUSTER, line, "type", "alt_stat_name", "alt_stat_name"));
    }
    are_refused(&cases);
    let taken = ["'5'", "1.5", "2147483648", "nn", "~", "2026-01-01"];
    are_taken(&taken.map(|word| (CLUSTER, in_cluster(&format!("alt_stat_name: {word}")))));
    are_taken(&[("domains: [\"*\"]", "domains: [\"*\", ~]".to_owned())]);
    let checked = check_changed(QUICKSTART, [(CLUSTER, &*in_cluster("alt_stat_name: no"))]);
    assert!(checked.about("type").help.starts_with("write it in quotes"), "{checked:?}");
}

#[test]
fn a_message_a_map_and_free_fields_are_objects() {
    are_refused(&[
        case(ROUTE, "- match: \"x\"", "type", "routes[0].match", "envoy.config.route.v3.RouteMatch"),
        case(ADMIN, "admin: x\n", "type", "admin", "envoy.config.bootstrap.v3.Admin"),
        case("admin:", "node: {metadata: x}\nadmin:", "type", "node.metadata", "node.metadata"),
        case(CLUSTER, in_cluster("metadata: {filter_metadata: x}"), "type", "filter_metadata", "filter_metadata"),
        case(CLUSTER, in_cluster("respect_dns_ttl: {}"), "type", "respect_dns_ttl", "respect_dns_ttl"),
        case(MANAGER, in_manager("codec_type: {}"), "type", "codec_type", "codec_type"),
        case(NAME, filter("\"x\""), "type", "http_filters[0].typed_config", "google.protobuf.Any"),
        case(NAME, filter("{\"@type\": 5}"), "type", "[0].typed_config.@type", "google.protobuf.Any"),
    ]);
    are_taken(&[(CLUSTER, in_cluster("metadata: {filter_metadata: {a: ~}}"))]);
    let key = in_cluster(
        "transport_socket: {name: a, typed_config: {\"@type\": \
         type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, \
         common_tls_context: {tls_certificates: [{private_key: hunter2}]}}}",
    );
    let checked = check_changed(QUICKSTART, [(CLUSTER, &*key)]);
    assert_eq!(checked.about("type").found, "a string of 7 bytes", "it may be a secret");
}

#[test]
fn bytes_are_base64() {
    let refused = ["\"!!!\"", "a", "\"aGk==\""];
    are_refused(&refused.map(|text| case(CLUSTER, bytes(text), "type", "inline_bytes", "inline_bytes")));
    are_taken(&["\"aGk=\"", "aGk", "a-_="].map(|text| (CLUSTER, bytes(text))));
}

#[test]
fn messages_of_protobuf_have_a_value_and_nothing_else() {
    let of = |name: &str, fields: &str| metadata(&format!("google.protobuf.{name}"), fields);
    let unknown = "unknown-field";
    are_refused(&[
        case(
            STRUCT,
            format!("{STRUCT}                  zzz: 1\n"),
            unknown,
            ".configuration",
            "google.protobuf.Struct,",
        ),
        case(CLUSTER, of("Struct", ", value: 5"), "type", ".a.value", "google.protobuf."),
        case(CLUSTER, of("StringValue", ", value: 5"), "type", ".a.value", "google.protobuf."),
        case(CLUSTER, of("Empty", ", value: {}"), unknown, ".a", "'value'"),
        case(
            CLUSTER,
            metadata("xds.type.v3.TypedStruct", ", type_url: a/b, value: {}, zzz: 1"),
            unknown,
            ".a",
            "'zzz'",
        ),
        case(
            "    typed_extension_protocol_options:\n",
            "    typed_extension_protocol_options:\n      zzz: 1\n",
            "type",
            "typed_extension_protocol_options.zzz",
            "TypedExtensionProtocolOptionsEntry",
        ),
    ]);
    are_taken(&[(CLUSTER, of("Struct", "")), (CLUSTER, of("StringValue", ", value: a"))]);
}

#[test]
fn an_extension_has_a_message_with_a_type_and_a_listener_an_address() {
    let inspector = |fields: &str| format!("    listener_filters: [{{name: a{fields}}}]\n{CHAINS}");
    let socket = |fields: &str| in_cluster(&format!("transport_socket: {{name: a{fields}}}"));
    let of_envoy = "with type URL: ''";
    are_refused(&[
        case(NAME, filter("~"), "type", "http_filters[0].typed_config", of_envoy),
        case(NAME, filter("{}"), "type", "http_filters[0].typed_config", of_envoy),
        case(CHAINS, inspector(""), "type", "listener_filters[0].typed_config", of_envoy),
        case(CHAINS, inspector(", typed_config: {}"), "type", "listener_filters[0].typed_config", of_envoy),
        case(CLUSTER, socket(""), "type", "transport_socket.typed_config", of_envoy),
        case(CLUSTER, socket(", typed_config: {}"), "type", "transport_socket.typed_config", of_envoy),
        case(MANAGER, in_manager("access_log: [{name: a, typed_config: {}}]"), "type", "[0].typed_config", of_envoy),
        case(
            ROUTE,
            format!("{ROUTE}\n                typed_per_filter_config: {{a: {{}}}}"),
            "type",
            "typed_per_filter_config.a",
            of_envoy,
        ),
        case(ADDRESS, "", "required", "listeners[0].address", "address is necessary"),
        case(LISTENER, format!("{LISTENER}  - ~\n"), "required", "listeners[0].address", "address is necessary"),
    ]);
    let internal = changed(QUICKSTART, [(ADDRESS, "    internal_listener: {}\n")]);
    assert_eq!(check(&internal).of("error"), Vec::<&support::Finding>::new());
}

#[test]
fn a_field_in_both_spellings_is_taken_by_chance_or_refused() {
    let code = "code: {local: {filename: target/wasm32-wasip1/release/weir_filter.wasm}}";
    let vm =
        format!("failure_policy: FAIL_RELOAD\n                vmConfig: {{runtime: envoy.wasm.runtime.v8, {code}}}");
    are_refused(&[case("failure_policy: FAIL_RELOAD", vm, "oneof", "config.vmConfig", "already")]);
    let again = "admin:";
    let clusters = "staticResources: {clusters: [{name: redis, type: STATIC, load_assignment: {cluster_name: redis}}]}";
    let checked = check_changed(QUICKSTART, [(again, &*format!("{clusters}\nadmin:"))]);
    assert_eq!(checked.rules().iter().filter(|rule| **rule == "duplicate-cluster").count(), 0, "{checked:?}");
    let both = checked.about("duplicate-key");
    assert_eq!((both.severity.as_str(), both.found.as_str()), ("warning", "staticResources as well"));
    let twice = "{\"static_resources\": {\"clusters\": [{\"name\": \"a\", \"load_assignment\": {\"cluster_name\": \
                 \"a\"}}]}";
    let json = format!("{twice}, {}}}", &twice[1..]);
    let checked = Folder::new().with("envoy.json", &json).check(&["envoy.json"]);
    assert!(checked.is_well, "Envoy takes the last one: {checked:?}");
}
