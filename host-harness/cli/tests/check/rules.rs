//! Rules of Envoy's messages: fields that exclude each other, required fields, bounds, and ends of chains. Each verdict
//! is compared with that of a real Envoy.

use std::path::Path;

use weir_provision::envoy::{self, EnvoyServer};
use weir_provision::{filter_wasm, or_skip};

use crate::QUICKSTART;
use crate::support::{Checked, Folder, changed, weir};

const MODULE: &str = "target/wasm32-wasip1/release/weir_filter.wasm";
/// A filter that does nothing.
const SMALL: &str = include_str!("small.wat");
const CODE: &str = "code: {local: {filename: target/wasm32-wasip1/release/weir_filter.wasm}}";
const POLICY: &str = "failure_policy: FAIL_RELOAD";
const ROUTE: &str = "- match: {prefix: \"/\"}";
const BODY: &str = "{inline_string: \"hello\\n\"}";
const ANSWER: &str = "direct_response: {status: 200, body: {inline_string: \"hello\\n\"}}";
const OPTIONS: &str = "explicit_http_config: {http2_protocol_options: {}}";
const CLUSTER: &str = "    connect_timeout: 1s\n";
const MANAGER: &str = "stat_prefix: ingress";
const ROUTER: &str = "          - name: envoy.filters.http.router\n";
const CODEC: &str = "        - name: codec\n";
const TYPES: &str = "type.googleapis.com/envoy.extensions";

/// A change of the quickstart, with the rule, the end of the path, and a part of Envoy's error.
pub(crate) struct Case {
    from: &'static str,
    to: String,
    rule: &'static str,
    path: &'static str,
    of_envoy: &'static str,
}

pub(crate) fn case(
    from: &'static str,
    to: impl Into<String>,
    rule: &'static str,
    path: &'static str,
    of_envoy: &'static str,
) -> Case {
    Case { from, to: to.into(), rule, path, of_envoy }
}

/// The check of a file without `WEIR_WASM`, and the error of Envoy if there is an Envoy.
///
/// Envoy's verdict does not depend on the module, which it compiles each time: it gets a small one.
fn verdicts(text: &str) -> (Checked, Option<Option<String>>) {
    let wasm = filter_wasm::find_or_build().expect("the filter's module");
    let with_module = |module: &Path| text.replace(MODULE, module.to_str().expect("UTF-8"));
    let folder = Folder::new().with("small.wasm", wat::parse_str(SMALL).expect("a module"));
    let of_envoy = with_module(&folder.path("small.wasm"));
    let folder = folder.with("envoy.yaml", with_module(&wasm)).with("small.yaml", of_envoy);
    let mut check = weir();
    check.env_remove("WEIR_WASM").args(["check", "--format", "json"]).arg(folder.path("envoy.yaml"));
    let output = check.output().expect("`weir` runs");
    let checked = Checked::parse(output.status.success(), &String::from_utf8(output.stdout).expect("UTF-8"));
    let refusal = |_| EnvoyServer::validate(&folder.path("small.yaml")).err().map(|error| error.to_string());
    (checked, or_skip(envoy::binary()).map(refusal))
}

/// Each change has one error, which Envoy has too.
pub(crate) fn are_refused(cases: &[Case]) {
    let mut wrong = Vec::new();
    for Case { from, to, rule, path, of_envoy } in cases {
        let (checked, refusal) = verdicts(&changed(QUICKSTART, [(from, to)]));
        let errors = checked.of("error");
        if !matches!(*errors.as_slice(), [error] if error.rule == *rule && error.path.ends_with(path)) {
            wrong.push(format!("{to}: expected {rule} at {path}, found {errors:#?}"));
        }
        if refusal.as_ref().is_some_and(|why| !why.as_ref().is_some_and(|why| why.contains(of_envoy))) {
            wrong.push(format!("{to}: expected {of_envoy} of Envoy, found {refusal:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// No change has an error, neither here nor of Envoy.
pub(crate) fn are_taken(changes: &[(&str, String)]) {
    let verdicts = changes.iter().map(|(from, to)| (to, verdicts(&changed(QUICKSTART, [(from, to)]))));
    let is_taken =
        |(checked, refusal): &(Checked, _)| checked.of("error").is_empty() && !matches!(refusal, Some(Some(_)));
    let wrong: Vec<_> = verdicts.filter(|(_, verdict)| !is_taken(verdict)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A policy with a backoff of reloads.
fn backoff(fields: &str) -> String {
    format!("{POLICY}\n                reload_config: {{backoff: {{{fields}}}}}")
}

/// Code from a URL.
fn remote(fields: &str) -> String {
    format!("code: {{remote: {{{fields}}}}}")
}

/// Code from the module's file, with other sources beside the file.
fn local(others: &str) -> String {
    format!("code: {{local: {{filename: {MODULE}{others}}}}}")
}

#[test]
fn a_backoff_has_an_interval_of_a_millisecond_or_more() {
    are_refused(&[
        case(POLICY, backoff("base_interval: 0s"), "bounds", ".backoff.base_interval", "BaseInterval"),
        case(POLICY, backoff("baseInterval: {nanos: 5}"), "bounds", ".backoff.baseInterval", "BaseInterval"),
        case(POLICY, backoff(""), "required", ".backoff.base_interval", "BaseInterval"),
        case(POLICY, backoff("max_interval: 1s"), "required", ".backoff.base_interval", "BaseInterval"),
        case(POLICY, backoff("base_interval: 1s, max_interval: 0s"), "bounds", ".max_interval", "MaxInterval"),
        case(
            CODE,
            remote(
                "sha256: a, http_uri: {uri: http://a, cluster: redis, timeout: 1s}, \
                 retry_policy: {retry_back_off: {base_interval: 0.0005s}}",
            ),
            "bounds",
            ".retry_back_off.base_interval",
            "BaseInterval",
        ),
        case(
            CODE,
            remote(
                "sha256: a, http_uri: {uri: http://a, cluster: redis, timeout: 1s}, \
                 retry_policy: {retry_back_off: {base_interval: 1s, max_interval: 0.5s}}",
            ),
            "bounds",
            ".retry_back_off.max_interval",
            "max_interval must be greater",
        ),
    ]);
    are_taken(&[
        (POLICY, backoff("base_interval: 0.001s")),
        (POLICY, backoff("base_interval: {seconds: 1}, max_interval: 2s")),
        (POLICY, backoff("base_interval: 1s, max_interval: 0.5s")),
        (POLICY, format!("{POLICY}\n                reload_config: {{}}")),
    ]);
}

#[test]
fn remote_code_has_a_url_a_cluster_a_timeout_and_a_checksum() {
    are_refused(&[
        case(CODE, remote("sha256: a"), "required", ".remote.http_uri", "HttpUri"),
        case(
            CODE,
            remote("http_uri: {uri: http://a, cluster: redis, timeout: 1s}"),
            "required",
            ".remote.sha256",
            "Sha256",
        ),
        case(
            CODE,
            remote("sha256: '', http_uri: {uri: http://a, cluster: redis, timeout: 1s}"),
            "required",
            ".remote.sha256",
            "Sha256",
        ),
        case(CODE, remote("sha256: a, http_uri: {cluster: redis, timeout: 1s}"), "required", ".http_uri.uri", "Uri"),
        case(
            CODE,
            remote("sha256: a, http_uri: {uri: http://a, timeout: 1s}"),
            "required",
            ".http_uri.cluster",
            "http_upstream_type",
        ),
        case(
            CODE,
            remote("sha256: a, http_uri: {uri: http://a, cluster: '', timeout: 1s}"),
            "required",
            ".http_uri.cluster",
            "Cluster",
        ),
        case(
            CODE,
            remote("sha256: a, http_uri: {uri: http://a, cluster: redis}"),
            "required",
            ".http_uri.timeout",
            "Timeout",
        ),
    ]);
    are_taken(&[(CODE, remote("sha256: a, http_uri: {uri: http://a, cluster: redis, timeout: 0s}"))]);
}

#[test]
fn fields_of_a_oneof_exclude_each_other() {
    let already = "already";
    are_refused(&[
        case(CODE, local(", inline_string: a"), "oneof", ".local.inline_string", already),
        case(CODE, local(", environmentVariable: PATH"), "oneof", ".local.environmentVariable", already),
        case(CODE, "code: {local: {inlineString: b, inline_string: c}}", "oneof", ".local.inline_string", already),
        case(
            CODE,
            local("}, remote: {http_uri: {uri: http://a, cluster: b, timeout: 1s}, sha256: a"),
            "oneof",
            ".code.remote",
            already,
        ),
        case(ROUTE, "- match: {prefix: \"/\", path: /x}", "oneof", ".match.path", already),
        case(ROUTE, "- match: {safe_regex: {regex: a}, prefix: \"/\"}", "oneof", ".match.prefix", already),
        case(
            ROUTE,
            "- match: {prefix: \"/\", headers: [{name: a, present_match: true, string_match: {exact: a}}]}",
            "oneof",
            ".headers[0].string_match",
            already,
        ),
        case(
            ROUTE,
            "- match: {prefix: \"/\", headers: [{name: a, string_match: {exact: a, prefix: b}}]}",
            "oneof",
            ".string_match.prefix",
            already,
        ),
        case(
            ANSWER,
            format!("route: {{cluster: redis}}\n                {ANSWER}"),
            "oneof",
            "direct_response",
            already,
        ),
        case(ANSWER, "route: {cluster: redis, cluster_header: a}", "oneof", ".route.cluster_header", already),
        case(ANSWER, "redirect: {https_redirect: true, scheme_redirect: a}", "oneof", ".scheme_redirect", already),
        case(BODY, "{inline_string: a, environment_variable: PATH}", "oneof", ".environment_variable", already),
        case(OPTIONS, format!("{OPTIONS}\n        auto_config: {{}}"), "oneof", ".auto_config", already),
        case(
            OPTIONS,
            "explicit_http_config: {http_protocol_options: {}, http2_protocol_options: {}}",
            "oneof",
            ".http2_protocol_options",
            already,
        ),
        case(
            "socket_address: {address: 127.0.0.1, port_value: 6379}",
            "socket_address: {address: 127.0.0.1, port_value: 6379, named_port: a}",
            "oneof",
            ".socket_address.named_port",
            already,
        ),
        case(
            CLUSTER,
            format!("{CLUSTER}    metadata: {{}}\n    cluster_type: {{name: a}}\n"),
            "oneof",
            ".cluster_type",
            already,
        ),
        case(
            MANAGER,
            format!("{MANAGER}\n          rds: {{route_config_name: a, config_source: {{ads: {{}}}}}}"),
            "oneof",
            ".route_config",
            already,
        ),
    ]);
    // Null is no value, and the last of two equal keys of YAML counts.
    are_taken(&[
        (ROUTE, "- match: {prefix: \"/\", path: null}".to_owned()),
        (ROUTE, "- match: {prefix: \"/x\", prefix: \"/\"}".to_owned()),
        (ANSWER, format!("route: ~\n                {ANSWER}")),
    ]);
}

#[test]
fn a_oneof_that_is_required_has_a_field() {
    are_refused(&[
        case(ROUTE, "- match: {}", "required", ".match", "path_specifier"),
        case(ROUTE, "- match: {prefix: null}", "required", ".match", "path_specifier"),
        case(ANSWER, "name: a", "required", ".routes[0]", "action"),
        case(ANSWER, "route: {}", "required", ".route", "cluster_specifier"),
        case(BODY, "{}", "required", ".body", "specifier"),
        case(
            OPTIONS,
            "common_http_protocol_options: {}",
            "required",
            "HttpProtocolOptions",
            "upstream_protocol_options",
        ),
        case(OPTIONS, "explicit_http_config: {}", "required", ".explicit_http_config", "protocol_config"),
        case("socket_address: {address: 127.0.0.1, port_value: 6379}", "", "required", ".address", "address"),
    ]);
    are_taken(&[(OPTIONS, "use_downstream_protocol_config: {}".to_owned())]);
}

#[test]
fn required_fields_and_bounds_are_those_of_envoys_validation() {
    let tap = |fields: &str| {
        format!("          - {{name: f, typed_config: {{\"@type\": {TYPES}.filters.http.{fields}}}}}\n{ROUTER}")
    };
    are_refused(&[
        case(MANAGER, "server_name: a", "required", ".typed_config.stat_prefix", "StatPrefix"),
        case("domains: [\"*\"]", "domains: []", "required", ".domains", "Domains"),
        case(ROUTER, tap("buffer.v3.Buffer"), "required", ".max_request_bytes", "MaxRequestBytes"),
        case(ROUTER, tap("buffer.v3.Buffer, max_request_bytes: 0"), "bounds", ".max_request_bytes", "MaxRequestBytes"),
        case(ROUTER, tap("cdn_loop.v3.CdnLoopConfig"), "required", ".cdn_id", "CdnId"),
        case("status: 200", "status: 20", "bounds", ".status", "Status"),
        case(CLUSTER, "    connect_timeout: 0s\n", "bounds", ".connect_timeout", "ConnectTimeout"),
        case(
            CLUSTER,
            format!("{CLUSTER}    common_lb_config: {{healthy_panic_threshold: {{value: 100.5}}}}\n"),
            "bounds",
            ".healthy_panic_threshold.value",
            "Value",
        ),
        case(
            CLUSTER,
            format!(
                "{CLUSTER}    health_checks: {{timeout: 1s, interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1}}\n"
            ),
            "required",
            ".health_checks",
            "health_checker",
        ),
    ]);
    are_taken(&[
        (ROUTER, tap("buffer.v3.Buffer, max_request_bytes: {value: '1'}")),
        (CLUSTER, format!("{CLUSTER}    common_lb_config: {{healthy_panic_threshold: {{}}}}\n")),
    ]);
}

#[test]
fn a_chain_ends_with_one_enabled_router_or_codec() {
    let filter = |name: &str| format!("{{name: f, typed_config: {{\"@type\": {TYPES}.{name}}}}}");
    let cors = filter("filters.http.cors.v3.Cors");
    let router = filter("filters.http.router.v3.Router");
    let typed = format!("            typed_config:\n              \"@type\": {TYPES}.filters.http.router.v3.Router\n");
    let end: &'static str = Box::leak(format!("{ROUTER}{typed}").into_boxed_str());
    let upgrade =
        |filter: &str| format!("{MANAGER}\n          upgrade_configs: [{{upgrade_type: a, filters: [{filter}]}}]");
    are_refused(&[
        case(ROUTER, format!("{ROUTER}            disabled: true\n"), "not-last", ".disabled", "cannot be disabled"),
        case(CODEC, format!("{CODEC}          disabled: true\n"), "not-last", ".disabled", "cannot be disabled"),
        case(end, format!("          - {cors}\n"), "not-last", ".http_filters[1]", "is the last filter"),
        case(end, format!("{end}          - {cors}\n"), "not-last", ".http_filters[2]", "must be the last filter"),
        case(
            ROUTER,
            format!("          - {router}\n{ROUTER}"),
            "not-last",
            ".http_filters[2]",
            "must be the last filter",
        ),
        case(
            CODEC,
            format!("        - {}\n{CODEC}", filter("filters.http.upstream_codec.v3.UpstreamCodec")),
            "not-last",
            ".http_filters[2]",
            "must be the last filter",
        ),
        case(MANAGER, upgrade(&cors), "not-last", ".upgrade_configs[0].filters[0]", "is the last filter"),
    ]);
    are_taken(&[
        (MANAGER, upgrade(&router)),
        (ROUTER, format!("          - {{name: none, is_optional: true}}\n{ROUTER}")),
        (ROUTER, format!("{ROUTER}            is_optional: true\n")),
    ]);
}

#[test]
fn a_chain_without_a_wasm_plugin_ends_too() {
    let (head, rest) = QUICKSTART.split_once("  listeners:\n").expect("listeners");
    let cors = format!("{{name: c, typed_config: {{\"@type\": {TYPES}.filters.http.cors.v3.Cors}}}}");
    let other = |filters: &str| {
        let manager = format!("{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager");
        let routes = "route_config: {}";
        format!(
            "  - name: other\n    address: {{socket_address: {{address: 127.0.0.1, port_value: 10001}}}}\n    \
             filter_chains: {{filters: {{name: m, typed_config: {{\"@type\": {manager}, stat_prefix: a, {routes}, \
             http_filters: [{filters}]}}}}}}\n"
        )
    };
    let with = |filters: &str| verdicts(&format!("{head}  listeners:\n{}{rest}", other(filters)));
    let (checked, refusal) = with(&cors);
    assert_eq!(checked.only().rule, "not-last");
    assert!(refusal.is_none_or(|why| why.is_some_and(|why| why.contains("is the last filter"))));
    let (checked, refusal) = with("");
    assert_eq!((checked.rules(), refusal.flatten()), (vec![], None), "a chain without filters");
}

/// A secret from the environment need not be there to check. Envoy needs it.
#[test]
fn a_source_of_bytes_from_an_unset_variable_is_noted() {
    let (checked, refusal) = verdicts(&changed(QUICKSTART, [(BODY, "{environment_variable: WEIR_IS_NOT_SET}")]));
    let note = checked.only();
    assert_eq!((note.rule.as_str(), note.severity.as_str()), ("unset-variable", "note"));
    assert!(note.path.ends_with(".body.environment_variable"), "{note:?}");
    assert!(refusal.is_none_or(|why| why.is_some_and(|why| why.contains("Environment variable doesn't exist"))));
    are_taken(&[
        (BODY, "{environment_variable: PATH}".to_owned()),
        (
            "vm_id: weir",
            "vm_id: a\n                  environment_variables: {host_env_keys: [WEIR_IS_NOT_SET]}".to_owned(),
        ),
    ]);
    let (checked, _) = verdicts(&changed(
        QUICKSTART,
        [("vm_id: weir", "vm_id: a\n                  environment_variables: {host_env_keys: [WEIR_IS_NOT_SET]}")],
    ));
    assert_eq!(checked.rules(), [""; 0], "Envoy passes over it");
}
