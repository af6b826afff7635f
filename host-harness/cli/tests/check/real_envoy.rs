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
const UNTYPED_ROUTER: &str = "          - name: envoy.filters.http.router
            typed_config: {start_child_span: true}
";
const NAME: &str = "          - name: weir\n";
const POLICY: &str = "failure_policy: FAIL_RELOAD";

/// The quickstart with the path of the real module.
fn quickstart(wasm: &Path) -> String {
    QUICKSTART.replace("target/wasm32-wasip1/release/weir_filter.wasm", wasm.to_str().expect("UTF-8"))
}

/// Whether both accept a file `envoy.yaml`; the error of Envoy.
fn verdicts(text: &str) -> (Checked, Option<String>) {
    verdicts_of("envoy.yaml", text.as_bytes())
}

/// Whether both accept a file; the error of Envoy.
fn verdicts_of(name: &str, bytes: &[u8]) -> (Checked, Option<String>) {
    let folder = Folder::new().with(name, bytes);
    let file = folder.path(name);
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
        (("max_tokens: 20", "max_tokens: 5000000000"), "configuration", "\"5000000000\""),
        (("google.protobuf.Struct", "xds.type.v3.TypedStruct"), "configuration", "configuration"),
        ((POLICY, "failure_policy: FAIL_RELAOD"), "type", "FAIL_RELAOD"),
        (("connect_timeout: 1s", "connect_timeout: 1sec"), "type", "connect_timeout"),
        ((POLICY, "reload_config: {backoff: {base_interval: 1 s}}"), "type", "base_interval"),
        (("{inline_string: \"hello\\n\"}", "{filename: \"\"}"), "type", "Filename"),
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
        (("filters.http.wasm.v3.Wasm", "filters.http.wasm.v2.Wasm"), "type", "filters.http.wasm.v2.Wasm'"),
        (("filters.http.router.v3.Router", "filters.http.router.v3.Ruoter"), "type", "could not find @type"),
        ((ROUTER, UNTYPED_ROUTER), "type", "typed_config"),
        ((ROUTER, "          - name: envoy.filters.http.router\n"), "type", "with type URL: ''"),
        (("    type: STRICT_DNS\n", "    type: STRICT_DNZ\n"), "type", "STRICT_DNZ"),
        (("    type: STRICT_DNS\n", "    type: 9\n"), "type", "Type"),
        (("stat_prefix: ingress", "stat_prefix: ingress\n          codec_type: HTTTP2"), "type", "HTTTP2"),
        (("  - name: ingress\n", "  - name: ingress\n    traffic_direction: INBUOND\n"), "type", "INBUOND"),
        (
            (
                "    type: STRICT_DNS\n",
                "    type: STRICT_DNS\n    circuit_breakers: {thresholds: {priority: HGIH}}\n    lb_policy: RANDOM\n",
            ),
            "type",
            "HGIH",
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
                "    upstream_config:\n      name: envoy.upstreams.http.tcp\n      typed_config:\n        \
                 \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.tcp.v3.TcpConnectionPoolProto\n",
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
    assert_eq!((refusal, checked.rules()), (None, vec!["extra-document"]), "Envoy does not look there");
}

/// Names of the messages that `weir check` knows, in each line a package and the messages in it.
const MESSAGES: &str = include_str!("../../src/check/judge/messages.txt");

#[test]
fn envoy_has_every_message_that_the_check_knows() {
    let Some(_) = or_skip(envoy::binary()) else { return };
    let names = MESSAGES.lines().flat_map(|line| {
        let (package, messages) = line.split_once(' ').expect("a package and its messages");
        messages.split(' ').map(move |message| format!("{package}.{message}"))
    });
    let metadata: Vec<String> =
        names.map(|name| format!("{name}: {{\"@type\": type.googleapis.com/{name}}}")).collect();
    assert!(metadata.len() > 700, "{}", metadata.len());
    let file = |metadata: &str| {
        format!(
            "static_resources: {{clusters: [{{name: a, metadata: {{typed_filter_metadata: {{{metadata}}}}}, \
             load_assignment: {{cluster_name: a}}}}]}}\n"
        )
    };
    let unknown = |checked: &Checked| checked.rules().into_iter().filter(|rule| *rule == "type").count();
    let (checked, refusal) = verdicts(&file(&metadata.join(", ")));
    assert_eq!((unknown(&checked), refusal), (0, None), "{checked:?}");
    let misspelt = file(&metadata.join(", ").replace("http.wasm.v3.Wasm}", "http.wasm.v2.Wasm}"));
    let (checked, refusal) = verdicts(&misspelt);
    assert_eq!(unknown(&checked), 1, "{checked:?}");
    assert!(refusal.is_some_and(|why| why.contains("could not find @type")));
}

#[test]
fn repeated_keys_of_json_are_judged_as_by_envoy() {
    let Some(_) = or_skip(envoy::binary()) else { return };
    let cluster = |more: &str| {
        format!(
            "{{\"static_resources\": {{\"clusters\": [{{\"name\": \"a\", {more}, \
             \"load_assignment\": {{\"cluster_name\": \"a\"}}}}]}}}}"
        )
    };
    let raw = "\"@type\": \"type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer\"";
    for (text, of_envoy) in [
        ("{\"node\": {\"id\": \"a\", \"id\": \"b\"}}".to_owned(), None),
        ("{\"static_resources\": {\"clusters\": [], \"clusters\": []}}".to_owned(), None),
        ("{\"static_resources\": {}, \"static_resources\": {}}".to_owned(), None),
        ("{\"node\": {\"metadata\": {\"a\": [1], \"a\": [2]}}}".to_owned(), Some("repeated")),
        ("{\"node\": {\"metadata\": {\"a\": {\"b\": 1, \"b\": 1}}}}".to_owned(), Some("repeated")),
        (cluster("\"metadata\": {\"filter_metadata\": {\"a\": {}, \"a\": {}}}"), Some("repeated")),
        (cluster("\"typed_extension_protocol_options\": {\"a\": {}, \"a\": {}}"), Some("repeated")),
        (
            cluster(&format!("\"transport_socket\": {{\"name\": \"a\", \"typed_config\": {{{raw}, {raw}}}}}")),
            Some("@type"),
        ),
        ("{\"admin\": {\"address\": {\"socket_address\": {}, \"socket_address\": {}}}}".to_owned(), Some("already")),
    ] {
        let (checked, refusal) = verdicts_of("envoy.json", text.as_bytes());
        let rule = if of_envoy.is_some() { "repeated-key" } else { "duplicate-key" };
        checked.about(rule);
        match of_envoy {
            None => assert_eq!(refusal, None, "{text}"),
            Some(part) => assert!(refusal.as_ref().is_some_and(|why| why.contains(part)), "{text}: {refusal:?}"),
        }
    }
}

#[test]
fn yaml_has_any_encoding_of_unicode_and_json_has_one() {
    let Some(_) = or_skip(envoy::binary()) else { return };
    let quickstart = quickstart(&filter_wasm::find_or_build().expect("the filter's module"));
    for text in [quickstart.clone(), format!("\u{feff}{quickstart}")] {
        let utf16: Vec<u16> = text.encode_utf16().collect();
        let encoded: [Vec<u8>; 4] = [
            utf16.iter().flat_map(|unit| unit.to_le_bytes()).collect(),
            utf16.iter().flat_map(|unit| unit.to_be_bytes()).collect(),
            text.chars().flat_map(|char| u32::from(char).to_le_bytes()).collect(),
            text.chars().flat_map(|char| u32::from(char).to_be_bytes()).collect(),
        ];
        for bytes in encoded {
            let (checked, refusal) = verdicts_of("envoy.yaml", &bytes);
            assert_eq!((checked.rules(), checked.number("limiters"), refusal), (vec![], 1, None));
        }
    }
    let json: Vec<u8> = "{\"admin\": {}}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let (checked, refusal) = verdicts_of("envoy.json", &json);
    assert!(refusal.is_some() && !checked.of("error").is_empty(), "{checked:?}");
}
