//! Comparison with a real Envoy: it refuses what `weir check` calls an error, and takes what `weir check` takes.

use std::path::Path;

use weir_provision::envoy::{self, EnvoyServer};
use weir_provision::{filter_wasm, or_skip};

use crate::QUICKSTART;
use crate::support::{Checked, Folder, changed, weir};

const ROUTER: &str = "          - name: envoy.filters.http.router
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
";
const NAME: &str = "          - name: weir\n";
const POLICY: &str = "failure_policy: FAIL_RELOAD";

/// The quickstart with the path of the real module.
fn quickstart(wasm: &Path) -> String {
    QUICKSTART.replace("target/wasm32-wasip1/release/weir_filter.wasm", wasm.to_str().expect("UTF-8"))
}

/// Whether both accept a file; the error of Envoy.
fn verdicts(text: &str) -> (Checked, Option<String>) {
    let folder = Folder::new().with("envoy.yaml", text);
    let file = folder.path("envoy.yaml");
    // Without WEIR_WASM: the files are those that Envoy reads.
    let output = weir().env_remove("WEIR_WASM").args(["check", "--format", "json"]).arg(&file).output();
    let output = output.expect("`weir` runs");
    let checked = Checked::parse(output.status.success(), &String::from_utf8(output.stdout).expect("UTF-8"));
    (checked, EnvoyServer::validate(&file).err().map(|error| error.to_string()))
}

#[test]
fn envoy_refuses_what_is_an_error() {
    let Some(_) = or_skip(envoy::binary()) else { return };
    let wasm = filter_wasm::find_or_build().expect("the filter's module");
    let quickstart = quickstart(&wasm);
    let route = "- match: {prefix: \"/\"}\n                typed_per_filter_config: {weir: {\"@type\": \
                 type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm, config: {}}}";
    let router =
        "{name: r, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}";
    let module = wasm.to_str().expect("UTF-8");
    let code = format!("                  code: {{local: {{filename: {module}}}}}\n");
    let variables = "environment_variables: {host_env_keys: [A], key_values: {A: b}}";
    let codec = &quickstart[quickstart.find("        - name: codec\n").expect("a codec")..];
    let not_wasm = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    for (change, rule, of_envoy) in [
        (("root_id: limiter", "root_id: limter"), "root-id", "limter"),
        ((module, "/nowhere/weir_filter.wasm"), "missing-module", "/nowhere/weir_filter.wasm"),
        ((module, not_wasm.to_str().expect("UTF-8")), "module", "wasm"),
        (("max_tokens: 20", "max_tokens: -1"), "configuration", "max_tokens"),
        (("max_tokens: 20", "max_tokens: 3000000000"), "configuration", "\"3000000000\""),
        (("google.protobuf.Struct", "xds.type.v3.TypedStruct"), "configuration", "configuration"),
        ((POLICY, "failure_policy: FAIL_RELAOD"), "type", "FAIL_RELAOD"),
        (
            (POLICY, "failure_policy: FAIL_RELOAD\n                fail_open: true"),
            "two-policies",
            "only one of fail_open",
        ),
        (("root_id: limiter", "root_id: 5"), "type", "root_id"),
        (("- match: {prefix: \"/\"}", route), "misplaced", "doesn't support virtual host or route specific"),
        ((NAME, &format!("          - {router}\n{NAME}")), "not-last", "must be the last filter"),
        (("    type: STRICT_DNS\n", "    type: STRICT_DNS\n    <<: {lb_policy: RANDOM}\n"), "merge-key", "'<<'"),
        (
            ("runtime: envoy.wasm.runtime.v8", "runtime: envoy.wasm.runtime.v9"),
            "runtime",
            "Unable to create Wasm plugin",
        ),
        ((&*code, ""), "missing-module", "Unable to create Wasm plugin"),
        (("vm_id: weir", variables), "duplicate-variable", "Key A is duplicated"),
        ((ROUTER, ""), "not-last", "is the last filter in a http filter chain"),
        ((codec, ""), "not-last", "codec filter is the only valid terminal"),
        (("admin:", "admin: ["), "syntax", ""),
        (("admin:", "---\n---\nadmin:"), "syntax", "Unable to convert YAML"),
        (("root_id: limiter", "rootid: limiter"), "unknown-field", "rootid"),
        (("vm_id: weir", "vm_ids: weir"), "unknown-field", "vm_ids"),
        (("static_resources:", "static_resorces:"), "unknown-field", "static_resorces"),
        (("  listeners:\n", "  listener:\n"), "unknown-field", "listener"),
        (("admin:", "amdin:"), "unknown-field", "amdin"),
        ((POLICY, "failure_policy: fail-reload"), "type", "fail-reload"),
        (("max_tokens: 20", "max_tokens: 20.0"), "configuration", "\"20.0\""),
        (("  clusters:\n", "  clusters:\n  - {name: redis}\n"), "duplicate-cluster", "duplicate cluster 'redis'"),
        ((NAME, "          -\n"), "filter-name", "HttpFilterValidationError.Name"),
        (
            ("runtime: envoy.wasm.runtime.v8", "runtime: envoy.wasm.runtime.wamr"),
            "runtime",
            "Unable to create Wasm plugin",
        ),
        ((&*format!("filename: {module}"), "inline_bytes: AGFzbQEAAAA="), "module", "Unable to create Wasm plugin"),
        (
            ("vm_id: weir", "environment_variables: {host_env_keys: [A, A]}"),
            "duplicate-variable",
            "Key A is duplicated",
        ),
        (
            ("type.googleapis.com/envoy.extensions.filters.http.wasm", "envoy.extensions.filters.http.wasm"),
            "type",
            "nonempty host",
        ),
    ] {
        let (checked, refusal) = verdicts(&changed(&quickstart, [change]));
        assert!(checked.findings.iter().any(|it| it.rule == rule && it.severity == "error"), "{rule}: {checked:?}");
        let refusal = refusal.unwrap_or_else(|| panic!("Envoy accepts {change:?}"));
        assert!(refusal.contains(of_envoy), "{rule}: {refusal}");
    }
}

#[test]
fn envoy_accepts_what_would_not_limit() {
    let Some(_) = or_skip(envoy::binary()) else { return };
    let quickstart = quickstart(&filter_wasm::find_or_build().expect("the filter's module"));
    for (change, rule) in [
        (("{cluster: redis}", "{cluster: redsi}"), "missing-cluster"),
        (
            (
                "    upstream_config:\n      name: envoy.upstreams.http.tcp\n      typed_config:\n        \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.tcp.v3.TcpConnectionPoolProto\n",
                "",
            ),
            "raw-tcp",
        ),
        (("redis: {cluster: redis}", "redis: {cluster: redis, transport: callout}"), "bridge"),
        (("        - name: bridge\n", "        - name: bridge\n          disabled: true\n"), "bridge"),
    ] {
        let (checked, refusal) = verdicts(&changed(&quickstart, [change]));
        assert_eq!(checked.about(rule).severity, "error");
        assert_eq!(refusal, None, "{rule}");
    }
}

#[test]
fn envoy_takes_every_form_of_a_file() {
    let Some(_) = or_skip(envoy::binary()) else { return };
    let quickstart = quickstart(&filter_wasm::find_or_build().expect("the filter's module"));
    for changes in [
        [("  - name: ingress\n    address", "    address"), (POLICY, "failurePolicy: fail_reload")],
        [("root_id: limiter", "rootId: limiter"), ("max_tokens: 20", "max_tokens: 0x14")],
        [
            ("root_id: limiter", "root_id: limiter\n                capability_restriction_config: {}"),
            ("vm_id: weir", "vm_id: weir\n                  nack_on_code_cache_miss: false"),
        ],
        [
            ("    type: STRICT_DNS\n", "    type: strict_dns\n    !ignore x: y\n"),
            ("max_tokens: 20", "max_tokens: !!str 20"),
        ],
        [("    type: STRICT_DNS\n", "    type: STATIC\n    type: STRICT_DNS\n"), ("admin:", "\"admin\":")],
    ] {
        let (checked, refusal) = verdicts(&changed(&quickstart, changes));
        assert_eq!(refusal, None, "{changes:?}");
        assert!(checked.is_well && checked.number("limiters") == 1, "{changes:?}: {checked:?}");
    }
    let (checked, refusal) = verdicts(&format!("{quickstart}---\n[\n"));
    assert_eq!((refusal, checked.about("syntax").severity.as_str()), (None, "error"), "Envoy does not look there");
}
