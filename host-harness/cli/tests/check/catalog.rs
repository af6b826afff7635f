//! Fields that the messages of a bootstrap do not have, and values that are no numbers. Each verdict is compared with
//! that of a real Envoy.

use crate::rules::{are_refused, are_taken, case};
use crate::support::{changed, place_of};
use crate::{QUICKSTART, support};

const MANAGER: &str = "stat_prefix: ingress";
const CLUSTER: &str = "    connect_timeout: 1s\n";
const ROUTE: &str = "- match: {prefix: \"/\"}";
const PORT: &str = "port_value: 10000";
const NAME: &str = "          - name: weir\n";

/// A filter that buffers bodies up to a size.
fn buffer(fields: &str) -> String {
    format!(
        "          - {{name: b, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer, {fields}}}}}\n{NAME}"
    )
}

/// A line of the cluster with typed metadata: a source of bytes.
fn metadata(fields: &str) -> String {
    format!(
        "{CLUSTER}    metadata: {{typed_filter_metadata: {{a: {{\"@type\": \
         type.googleapis.com/envoy.config.core.v3.DataSource, {fields}}}}}}}\n"
    )
}

fn in_manager(line: &str) -> String {
    format!("{MANAGER}\n          {line}")
}

#[test]
fn fields_that_no_message_of_envoy_has_are_errors() {
    let of_filter = "max_request_bytes: 5, colour: red";
    are_refused(&[
        case("filter_chains:", "filter_chans:", "unknown-field", ".listeners[0]", "filter_chans"),
        case(MANAGER, in_manager("stat_prefx: a"), "unknown-field", "typed_config", "stat_prefx"),
        case(ROUTE, format!("{ROUTE}\n                colour: red"), "unknown-field", "routes[0]", "colour"),
        case(NAME, buffer(of_filter), "unknown-field", "http_filters[0].typed_config", "colour"),
        case(CLUSTER, metadata("colour: red"), "unknown-field", "typed_filter_metadata.a", "colour"),
    ]);
    are_taken(&[
        (MANAGER, in_manager("useRemoteAddress: true")),
        (CLUSTER, format!("{CLUSTER}    metadata: {{filter_metadata: {{a: {{colour: red}}}}}}\n")),
    ]);
}

#[test]
fn an_unknown_field_has_its_place_and_the_name_that_was_meant() {
    let text = changed(QUICKSTART, [("filter_chains:", "filter_chans:")]);
    let checked = support::check(&text);
    let unknown = checked.about("unknown-field");
    assert_eq!(unknown.place, place_of(&text, "filter_chans"));
    assert!(unknown.help.starts_with("did you mean filter_chains?"), "{unknown:?}");
    let text = changed(QUICKSTART, [(ROUTE, &*format!("{ROUTE}\n                colour: red"))]);
    assert!(support::check(&text).about("unknown-field").help.starts_with("remove it"));
}

#[test]
fn values_that_are_no_numbers_or_booleans_are_errors() {
    let port = |value: &str| case(PORT, format!("port_value: {value}"), "type", "port_value", "port_value");
    are_refused(&[
        port("abc"),
        port("1.5"),
        port("-1"),
        port("true"),
        port("4294967296"),
        port("{value: 7}"),
        port("[7]"),
        case(MANAGER, in_manager("use_remote_address: 1"), "type", "use_remote_address", "use_remote_address"),
        case(MANAGER, in_manager("skip_xff_append: maybe"), "type", "skip_xff_append", "skip_xff_append"),
    ]);
    are_taken(&[
        (PORT, "port_value: '7.0'".to_owned()),
        (PORT, "port_value: '0x10'".to_owned()),
        (MANAGER, in_manager("use_remote_address: {value: true}")),
        (MANAGER, in_manager("use_remote_address: 'yes'")),
        (NAME, buffer("max_request_bytes: {value: 5}")),
    ]);
}

#[test]
fn wrappers_lists_and_metadata_have_the_rules_of_their_messages() {
    are_refused(&[
        case(NAME, buffer("max_request_bytes: {}"), "bounds", "max_request_bytes", "MaxRequestBytes"),
        case("  clusters:\n", "  clusters:\n  - ~\n", "required", "clusters[0].name", "Name"),
        case(CLUSTER, metadata("inline_string: a, filename: b"), "oneof", ".a.filename", "filename"),
    ]);
    are_taken(&[(CLUSTER, metadata("inline_string: a"))]);
}

#[test]
fn a_list_stands_only_where_envoy_has_one_and_its_items_have_rules() {
    let ports = |ports: &str| format!("- filter_chain_match: {{source_ports: {ports}}}\n      filters:");
    let none = in_manager("access_log: [~]");
    are_refused(&[
        case(MANAGER, in_manager("codec_type: [AUTO]"), "type", "codec_type", "codec_type"),
        case(MANAGER, in_manager("http_protocol_options: [{}]"), "type", "options", "http_protocol_options"),
        case("- filters:", ports("[0]"), "bounds", "source_ports[0]", "SourcePorts"),
        case("- filters:", ports("[80, 65536]"), "bounds", "source_ports[1]", "SourcePorts"),
        case(MANAGER, none, "required", "access_log[0].typed_config", "registered implementation"),
    ]);
    are_taken(&[("- filters:", ports("[80]")), ("- filters:", ports("80"))]);
}

#[test]
fn durations_are_those_of_envoy() {
    are_refused(&[
        case("connect_timeout: 1s", "connect_timeout: 9223372036s", "bounds", "connect_timeout", "out-of-range"),
        case(MANAGER, in_manager("drain_timeout: {seconds: 9223372036}"), "bounds", "drain_timeout", "out-of-range"),
        case("connect_timeout: 1s", "connect_timeout: -0s", "bounds", "connect_timeout", "ConnectTimeout"),
        case(MANAGER, in_manager("drain_timeout: -1s"), "bounds", "drain_timeout", "positive duration"),
    ]);
    // Envoy uses the first policy that it has.
    let balancers = "envoy.extensions.load_balancing_policies";
    let policy = |name: &str, fields: &str| {
        format!(
            "{{typed_extension_config: {{name: a, typed_config: \
             {{\"@type\": type.googleapis.com/{balancers}.{name}{fields}}}}}}}"
        )
    };
    let first = policy("round_robin.v3.RoundRobin", "");
    let second = policy(
        "client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin",
        ", blackout_period: -1s, weight_update_period: 9223372036s",
    );
    are_taken(&[
        (MANAGER, in_manager("drain_timeout: -0s")),
        (MANAGER, in_manager("drain_timeout: 9223372035s")),
        (CLUSTER, format!("{CLUSTER}    load_balancing_policy: {{policies: [{first}, {second}]}}\n")),
    ]);
}
