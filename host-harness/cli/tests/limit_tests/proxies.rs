//! The proxy of the configuration under test: its own, or a plain one, which a note names.

use weir_provision::{envoy, or_skip, redis};

use crate::support::{Folder, Run};

const QUICKSTART: &str = include_str!("../../../../envoy/quickstart.yaml");
const ROUTE: &str = "              - match: {prefix: \"/\"}\n";
const DISABLED: &str = "                typed_per_filter_config: {weir: {\"@type\": \
                        type.googleapis.com/envoy.config.route.v3.FilterConfig, disabled: true}}\n";

/// The quickstart with a limit of 2, and a route `/free` without it, which the embedded host does not serve.
fn with_free_route() -> String {
    let free = format!(
        "              - match: {{prefix: /free}}\n{DISABLED}                direct_response: {{status: 200}}\n{ROUTE}"
    );
    limited(&QUICKSTART.replacen(ROUTE, &free, 1))
}

fn limited(text: &str) -> String {
    text.replace("max_tokens: 20, tokens_per_fill: 100", "max_tokens: 2, tokens_per_fill: 2")
}

/// Runs tests of a configuration.
fn run(configuration: &str, tests: &str, options: &[&str]) -> Run {
    let folder = Folder::with(&format!("configuration: envoy.yaml\ntests:\n{tests}"));
    std::fs::write(folder.0.path().join("envoy.yaml"), configuration).expect("written");
    folder.run(options)
}

fn request(path: &str, status: &str) -> String {
    format!(
        "- name: {path}\n  steps: [{{request: {{path: {path}, headers: {{x-user-id: a}}}}, count: 3, \
         expect: {{status: {status}}}}}]\n"
    )
}

/// Line and column of a text.
fn place_of(text: &str, part: &str) -> String {
    let before = &text[..text.find(part).expect("the part")];
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("{}:{column}", before.matches('\n').count() + 1)
}

#[test]
fn a_note_names_the_place_in_the_users_file() {
    let text = with_free_route();
    let place = place_of(&text, "typed_per_filter_config");
    let run = run(&text, &request("/x", "{200: 2, 429: 1}"), &[]);
    assert_eq!(run.code, 0, "{}{}", run.out, run.err);
    let why = format!("(envoy.yaml:{place}: static_resources.");
    assert!(run.err.starts_with("note: envoy.yaml: tests run behind a plain proxy, not its own "), "{}", run.err);
    assert!(run.err.contains(&why) && run.err.ends_with("not honoured by the harness)\n"), "{why}: {}", run.err);
}

#[test]
fn a_note_names_the_place_in_a_test_file_with_its_configuration() {
    let indented: String = with_free_route().lines().map(|line| format!("  {line}\n")).collect();
    let text = format!("configuration:\n{indented}tests:\n{}", request("/x", "{200: 2, 429: 1}"));
    let run = Folder::with(&text).run(&[]);
    let why = format!("(limits.test.yaml:{}: static_resources.", place_of(&text, "typed_per_filter_config"));
    assert!(run.code == 0 && run.err.contains(&why), "{}{}", run.out, run.err);
}

/// A limit holds on every route of the plain proxy, and only where the configuration wants it on its own.
#[test]
fn real_hosts_have_the_same_note_and_envoy_the_whole_proxy() {
    if or_skip(redis::binary()).is_none() {
        return;
    }
    let on_redis = run(&with_free_route(), &request("/free", "{200: 2, 429: 1}"), &["--on", "redis"]);
    assert_eq!(on_redis.code, 0, "{}{}", on_redis.out, on_redis.err);
    assert!(on_redis.err.contains("note: envoy.yaml: tests run behind a plain proxy"), "{}", on_redis.err);
    if or_skip(envoy::binary()).is_none() {
        return;
    }
    let both = request("/free", "{200: 3}") + &request("/x", "{200: 2, 429: 1}");
    let on_envoy = run(&with_free_route(), &both, &["--on", "envoy"]);
    assert_eq!(on_envoy.code, 0, "{}{}", on_envoy.out, on_envoy.err);
    assert!(!on_envoy.err.contains("note:"), "{}", on_envoy.err);
    // Without an address of its own, Redis is that of a plain proxy.
    let nowhere =
        with_free_route().replace("socket_address: {address: 127.0.0.1, port_value: 6379}", "pipe: {path: /x}");
    let on_envoy = run(&nowhere, &request("/free", "{200: 2, 429: 1}"), &["--on", "envoy"]);
    assert_eq!(on_envoy.code, 0, "{}{}", on_envoy.out, on_envoy.err);
    assert!(on_envoy.err.contains("note: envoy.yaml: tests run behind a plain proxy"), "{}", on_envoy.err);
}

#[test]
fn all_spellings_of_a_cluster_are_taken() {
    let camel = limited(QUICKSTART)
        .replace("load_assignment", "loadAssignment")
        .replace("lb_endpoints", "lbEndpoints")
        .replace("cluster_name", "clusterName")
        .replace("socket_address", "socketAddress")
        .replace("port_value", "portValue")
        .replace("root_id", "rootId")
        .replace("static_resources", "staticResources")
        .replace("      - lbEndpoints:\n        - endpoint", "        lbEndpoints:\n          endpoint");
    assert!(camel.contains("endpoints:\n        lbEndpoints:\n          endpoint: {"), "{camel}");
    let text = limited(QUICKSTART).replace(
        "google.protobuf.Struct\n                  value:\n",
        "google.protobuf.StringValue\n                  value: '{\"redis\": {\"cluster\": \"redis\"}, \
         \"limits\": [{\"name\": \"a\", \"descriptor\": [{\"request_header\": {\"name\": \"x-user-id\"}}], \
         \"token_bucket\": {\"max_tokens\": 2, \"tokens_per_fill\": 2, \
         \"fill_interval\": \"60s\"}}]}'\n                ignored:\n",
    );
    // The text has the whole configuration.
    let (head, rest) = text.split_once("                ignored:\n").expect("a text");
    let (_, tail) = rest.split_once("          - name: envoy.filters.http.router\n").expect("a router");
    let text = format!("{head}          - name: envoy.filters.http.router\n{tail}");
    let has_redis = or_skip(redis::binary()).is_some();
    let has_envoy = has_redis && or_skip(envoy::binary()).is_some();
    for configuration in [camel, text] {
        let hosts = [(true, &[][..]), (has_redis, &["--on", "redis"]), (has_envoy, &["--on", "envoy"])];
        for (_, options) in hosts.into_iter().filter(|(has_host, _)| *has_host) {
            let run = run(&configuration, &request("/x", "{200: 2, 429: 1}"), options);
            assert_eq!((run.code, run.err.contains("note:")), (0, false), "{options:?}: {}{}", run.out, run.err);
        }
    }
}
