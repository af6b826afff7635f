//! What `weir check` says of files that hosts would start with, and of those in `envoy/`.

#![allow(clippy::expect_used, reason = "a fixture that cannot do its work fails the test")]

use std::process::Command;

const QUICKSTART: &str = include_str!("../../envoy/quickstart.yaml");
const CALLOUT: &str = include_str!("../../envoy/callout.yaml");
const LIMITER: &str =
    "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.http_filters[0].typed_config.config";

const BY_USER: &str = "- request_header: {name: x-user-id}";
const BY_BODY: &str = "- request_body: {json_pointer: /user}";

/// `weir check` of a file: whether it is well, and what is said of it, a line each.
fn check(file: &str) -> (bool, Vec<String>) {
    let output = Command::new(env!("CARGO_BIN_EXE_weir")).args(["check", file]).output().expect("`weir` runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).expect("UTF-8").lines().map(str::to_owned).collect())
}

/// The problems of a bootstrap with these texts in the place of others, without the file's name.
fn problems<const N: usize>(bootstrap: &str, changes: [(&str, &str); N]) -> Vec<String> {
    let text = changes.iter().fold(bootstrap.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "there is no {from:?}");
        text.replacen(from, to, 1)
    });
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("written");
    let path = file.path().to_str().expect("UTF-8");
    let (is_well, said) = check(path);
    let told_of_file = |line: &String| line.strip_prefix(&format!("{path}: ")).expect("named by its file").to_owned();
    let problems: Vec<String> = said.iter().map(told_of_file).collect();
    assert_eq!(is_well, problems.iter().all(|line| line.ends_with("all is well")), "{problems:?}");
    problems
}

#[test]
fn every_scenario_is_well() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../envoy");
    let scenarios: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(scenarios.len() >= 9, "{scenarios:?}");
    for scenario in scenarios {
        let file = scenario.to_str().unwrap();
        let (is_well, said) = check(file);
        assert!(is_well, "{said:?}");
        let [said] = said.as_slice() else { panic!("{said:?}") };
        assert!(said.starts_with(file) && said.ends_with(": all is well"), "{said}");
    }
}

#[test]
fn what_the_filter_would_refuse_is_told_with_its_place() {
    let found = problems(QUICKSTART, [("max_tokens: 20", "max_tokens: 0"), ("redis: {cluster: redis}", "redis: {}")]);
    assert_eq!(
        found,
        [
            format!("{LIMITER}.configuration.value: redis.cluster: expected the name of a cluster, found nothing"),
            format!(
                "{LIMITER}.configuration.value: limits[0].token_bucket.max_tokens: expected an integer from 1 to \
                 4294967295, found 0"
            ),
        ]
    );
}

#[test]
fn a_body_that_is_read_must_be_shown() {
    let unseen = |limits: &str| {
        format!(
            "{LIMITER}.allow_on_headers_stop_iteration: expected true, found it unset or false (the body is read by \
             {limits}, and a proxy shows no body to a filter that holds the headers: such requests would be held for \
             ever)"
        )
    };
    let shown = |flag: &'static str| ("root_id: limiter", flag);
    let (yes, no) = (
        shown("root_id: limiter\n                allow_on_headers_stop_iteration: true"),
        shown("root_id: limiter\n                allow_on_headers_stop_iteration: false"),
    );
    let by_body = (BY_USER, BY_BODY);
    assert_eq!(problems(QUICKSTART, [by_body]), [unseen("limits[0]")]);
    assert_eq!(problems(QUICKSTART, [by_body, no]), [unseen("limits[0]")]);
    assert_eq!(problems(QUICKSTART, [by_body, yes]), ["1 listener, 1 cluster, 1 limiter configuration: all is well"]);

    // A cost may be a body's as well, and of several limits those are named that read one.
    let bucket = "token_bucket: {max_tokens: 20, tokens_per_fill: 100, fill_interval: 60s}";
    let limits = format!(
        "{bucket}
                    - {{name: by_length, descriptor: [], hits_addend: {{content_length: {{}}}}, {bucket}}}
                    - {{name: by_cost, descriptor: [], hits_addend: {{request_body: {{json_pointer: /n}}}}, {bucket}}}"
    );
    let costly = (bucket, limits.as_str());
    assert_eq!(problems(QUICKSTART, [costly]), [unseen("limits[2]")]);
    assert_eq!(problems(QUICKSTART, [costly, by_body]), [unseen("limits[0], limits[2]")]);
}

#[test]
fn the_cluster_of_redis_must_be_one_of_the_file() {
    let found = problems(QUICKSTART, [("{cluster: redis}", "{cluster: redsi}")]);
    let expected = "redis.cluster: expected a cluster of this file (redis), found \"redsi\"";
    assert_eq!(found, [format!("{LIMITER}.configuration.value: {expected}")]);

    let (without, _) = QUICKSTART.split_once("  clusters:\n").unwrap();
    let expected = "redis.cluster: expected a cluster of this file (there is none), found \"redis\"";
    assert_eq!(problems(without, []), [format!("{LIMITER}.configuration.value: {expected}")]);
}

#[test]
fn redis_is_not_sent_http() {
    const TCP: &str = "    upstream_config:
      name: envoy.upstreams.http.tcp
      typed_config:
        \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.tcp.v3.TcpConnectionPoolProto
";
    let sent = |protocol: &str| {
        format!(
            "{LIMITER}.configuration.value: redis.cluster: expected a cluster of raw TCP (upstream_config: \
             envoy.upstreams.http.tcp), found static_resources.clusters[0], which is sent {protocol}"
        )
    };
    assert_eq!(problems(QUICKSTART, [(TCP, "")]), [sent("HTTP/2")]);
    assert_eq!(problems(CALLOUT, [(TCP, "")]), [sent("HTTP/1.1")]);
}

#[test]
fn a_stream_needs_a_bridge_and_a_callout_none() {
    let expected = |expected: &str, found: &str| {
        let expected =
            expected.replace("BRIDGE", "upstream filter with the root_id \"bridge\" in static_resources.clusters[0]");
        [format!("{LIMITER}.configuration.value: redis.transport: expected {expected}, found {found}")]
    };
    let to_stream = ("transport: callout, ", "");
    assert_eq!(problems(CALLOUT, [to_stream]), expected("\"callout\", or an BRIDGE", "\"stream\" without one"));
    let to_callout = ("{cluster: redis}", "{cluster: redis, transport: callout}");
    assert_eq!(problems(QUICKSTART, [to_callout]), expected("\"stream\", or no BRIDGE", "\"callout\" with one"));
}
