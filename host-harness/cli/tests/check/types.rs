//! Types of messages and values of enums that Envoy refuses.

use crate::QUICKSTART;
use crate::support::{Finding, Folder, changed, check, check_changed, place_of};

const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
const PREFIX: &str = "- match: {prefix: \"/\"}";

/// The only error of the quickstart with a text replaced.
fn error(from: &str, to: &str) -> Finding {
    let checked = check_changed(QUICKSTART, [(from, to)]);
    let [error] = *checked.of("error").as_slice() else { panic!("{to}: {checked:?}") };
    assert_eq!(error.rule, "type", "{to}");
    error.clone()
}

#[test]
fn a_message_that_envoy_does_not_have_is_an_error_with_the_one_that_was_meant() {
    let name = |url: &str| url.trim_start_matches("type.googleapis.com/").to_owned();
    for (from, to) in [
        (WASM, WASM.replace("v3", "v2")),
        (WASM, WASM.replace("wasm.v3", "wsam.v3")),
        (ROUTER, ROUTER.replace("v3", "v4alpha")),
        (ROUTER, ROUTER.replace("v3.Router", "v3.Ruoter")),
        (ROUTER, "type.googleapis.com/envoy.config.filter.http.router.v2.Router".to_owned()),
    ] {
        let found = error(from, &to);
        assert_eq!((found.expected.clone(), found.found.clone()), (name(from), format!("{to:?}")));
        assert!(found.help.starts_with(&format!("did you mean {}?", name(from))), "{found:?}");
        let text = changed(QUICKSTART, [(from, &to)]);
        assert_eq!(found.place, place_of(&text, &to));
    }
    let old = error(ROUTER, "type.googleapis.com/envoy.config.none.v2alpha1.Nothing");
    assert_eq!(old.expected, "a message of the API v3");
    let wrapped = |url: &str| format!("type.googleapis.com/xds.type.v3.TypedStruct, type_url: {url}");
    let text = |url: &str| {
        changed(
            QUICKSTART,
            [(
                &*format!("typed_config:\n              \"@type\": {ROUTER}"),
                &*format!("typed_config: {{\"@type\": {}}}", wrapped(url)),
            )],
        )
    };
    assert_eq!(check(&text(ROUTER)).rules(), [""; 0]);
    assert_eq!(check(&text(&ROUTER.replace("v3", "v2"))).of("error").len(), 1);
}

#[test]
fn a_message_of_another_build_of_envoy_is_none_of_the_check() {
    let golang =
        "{name: g, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.http.golang.v3alpha.Config}}";
    let name = "          - name: weir\n";
    assert_eq!(check_changed(QUICKSTART, [(name, &format!("          - {golang}\n{name}"))]).rules(), [""; 0]);
}

#[test]
fn a_message_without_a_type_is_an_error() {
    let router = format!("\"@type\": {ROUTER}");
    let found = error(&router, "start_child_span: true");
    assert_eq!((found.expected.as_str(), found.found.as_str()), ("\"@type\" beside the fields", "none"));
    assert!(found.path.ends_with(".http_filters[1].typed_config"), "{found:?}");
    let bare = error(&format!("typed_config:\n              {router}"), "typed_config: {}");
    assert!(bare.help.contains("refuses a filter that has only a name"), "{bare:?}");
    let name = "          - name: weir\n";
    error(name, &format!("          - name: other\n{name}"));
    let optional = format!("          - {{name: other, is_optional: true}}\n{name}");
    assert_eq!(check_changed(QUICKSTART, [(name, &optional)]).rules(), [""; 0]);
    error(
        "    type: STRICT_DNS\n",
        "    type: STRICT_DNS\n    metadata: {}\n    typedExtensionProtocolOptions: {a: {b: c}}\n",
    );
    error(PREFIX, &format!("{PREFIX}\n                typed_per_filter_config: {{weir: {{disabled: true}}}}"));
    // A `Struct` has any fields.
    let free = "    type: STRICT_DNS\n    metadata: {filter_metadata: {a: {typed_config: {b: c}, type: STRICT_DNZ}}}\n";
    assert_eq!(check_changed(QUICKSTART, [("    type: STRICT_DNS\n", free)]).rules(), [""; 0]);
    let resources = Folder::new().with("lds.yaml", "resources: [{name: a}]\n").check(&["lds.yaml"]);
    assert_eq!(resources.about("type").path, "resources[0]");
}

#[test]
fn a_value_that_an_enum_does_not_have_is_an_error() {
    let cluster = "    type: STRICT_DNS\n";
    let manager = "stat_prefix: ingress";
    let tls = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
    for (from, to, value, meant) in [
        (cluster, "    type: STRICT_DNZ\n".to_owned(), "\"STRICT_DNZ\"", "STRICT_DNS"),
        (cluster, format!("{cluster}    lb_policy: RONUD_ROBIN\n"), "\"RONUD_ROBIN\"", "ROUND_ROBIN"),
        (cluster, format!("{cluster}    dnsLookupFamily: V4_ONYL\n"), "\"V4_ONYL\"", "V4_ONLY"),
        (cluster, format!("{cluster}    circuit_breakers: {{thresholds: {{priority: HGIH}}}}\n"), "\"HGIH\"", "HIGH"),
        (
            "  - name: ingress\n",
            "  - name: ingress\n    traffic_direction: INBUOND\n".to_owned(),
            "\"INBUOND\"",
            "INBOUND",
        ),
        (manager, format!("{manager}\n          codec_type: HTTTP2"), "\"HTTTP2\"", "HTTP2"),
        (
            cluster,
            format!(
                "{cluster}    transport_socket: {{name: t, typed_config: {{\"@type\": {tls}, sni: a, \
                 common_tls_context: {{tls_params: {{tls_minimum_protocol_version: TLSv1_22}}, \
                 validation_context: {{trusted_ca: {{filename: a}}, match_typed_subject_alt_names: [{{san_type: DNS, \
                 matcher: {{exact: a}}}}]}}}}}}}}\n"
            ),
            "\"TLSv1_22\"",
            "TLSv1_2",
        ),
    ] {
        let found = error(from, &to);
        assert_eq!(found.found, value, "{to}");
        assert!(found.expected.contains(meant), "{found:?}");
        assert!(found.help.starts_with(&format!("did you mean {meant}?")), "{found:?}");
        assert_eq!(found.place, place_of(&changed(QUICKSTART, [(from, &to)]), value.trim_matches('"')));
    }
    for (value, found) in
        [("9", "the number 9"), ("true", "a boolean"), ("[STATIC]", "a list of 1"), ("static-dns", "\"static-dns\"")]
    {
        assert_eq!(error(cluster, &format!("    type: {value}\n")).found, found);
    }
    let policy = error("failure_policy: FAIL_RELOAD", "failure_policy: FAIL_RELAOD");
    assert!(policy.help.starts_with("did you mean FAIL_RELOAD?"), "{policy:?}");
    for (from, to) in [
        (cluster, "    type: logical_dns\n"),
        (cluster, "    type: 1\n"),
        (cluster, "    type: STRICT_DNS\n    lb_policy: 5\n"),
        ("  - name: ingress\n", "  - name: ingress\n    traffic_direction: 9\n"),
    ] {
        assert_eq!(check_changed(QUICKSTART, [(from, to)]).rules(), [""; 0], "{to}");
    }
}
