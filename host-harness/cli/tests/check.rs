//! Output of `weir check` for the files in `envoy/`, and for changed copies of them.

#![allow(clippy::expect_used, reason = "a fixture that cannot do its work fails the test")]

use std::process::Command;

const QUICKSTART: &str = include_str!("../../../envoy/quickstart.yaml");
const CALLOUT: &str = include_str!("../../../envoy/callout.yaml");
const LIMITER: &str =
    "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.http_filters[0].typed_config.config";

/// Start of the last line if there is no error.
const FILE_IS_SOUND: &str = "1 listener, 1 cluster, 1 limiter configuration: ";
const BY_USER: &str = "- request_header: {name: x-user-id}";
const BY_BODY: &str = "- request_body: {json_pointer: /user}";

/// Runs `weir check` for a file; returns whether it succeeds, and the lines of its output.
fn check(file: &str) -> (bool, Vec<String>) {
    check_with(file, None)
}

/// Runs `weir check` for a file, with this value of REDIS_PASSWORD.
fn check_with(file: &str, password: Option<&str>) -> (bool, Vec<String>) {
    let mut weir = Command::new(env!("CARGO_BIN_EXE_weir"));
    weir.args(["check", file]).env_remove("REDIS_PASSWORD").envs(password.map(|value| ("REDIS_PASSWORD", value)));
    let output = weir.output().expect("`weir` runs");
    let said = [output.stderr, output.stdout].concat();
    (output.status.success(), String::from_utf8(said).expect("UTF-8").lines().map(str::to_owned).collect())
}

/// Returns the output lines for a bootstrap with replaced texts, without the file's name.
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
    // Warnings do not fail the check.
    assert_eq!(is_well, problems.iter().any(|line| line.starts_with(FILE_IS_SOUND)), "{problems:?}");
    problems
}

#[test]
fn every_scenario_passes() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../envoy");
    let scenarios: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(scenarios.len() >= 10, "{scenarios:?}");
    for scenario in scenarios {
        let file = scenario.to_str().unwrap();
        let (is_well, said) = check_with(file, Some("hunter2"));
        assert!(is_well, "{said:?}");
        let [said] = said.as_slice() else { panic!("{said:?}") };
        assert!(said.starts_with(file) && said.ends_with(": all is well"), "{said}");
    }
}

#[test]
fn the_scenario_with_a_password_needs_its_variable() {
    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../envoy/redis-password.yaml");
    let (is_well, lines) = check(FILE);
    let needed = "expected the environment variable REDIS_PASSWORD to have a value, found none here (the proxy needs it \
                  to start)";
    assert_eq!(
        lines,
        [
            format!("{FILE}: warning: {LIMITER}.vm_config.environment_variables: {needed}"),
            format!("{FILE}: {FILE_IS_SOUND}no errors, 1 warning"),
        ]
    );
    assert!(is_well, "the proxy's environment may have the variable");
}

#[test]
fn problems_of_the_filter_configuration_are_reported_with_their_path() {
    let found = problems(QUICKSTART, [("max_tokens: 20", "max_tokens: -1"), ("redis: {cluster: redis}", "redis: {}")]);
    assert_eq!(
        found,
        [
            format!("{LIMITER}.configuration.value: redis.cluster: expected the name of a cluster, found nothing"),
            format!(
                "{LIMITER}.configuration.value: limits[0].token_bucket.max_tokens: expected an integer from 0 to \
                 4294967295, found -1"
            ),
        ]
    );
}

#[test]
fn limits_that_read_a_body_need_allow_on_headers_stop_iteration() {
    let unseen = |limits: &str| {
        format!(
            "{LIMITER}.allow_on_headers_stop_iteration: expected true, found it unset or false (the body is read by \
             {limits}, and a proxy shows no body to a filter that holds the headers: requests under these limits would be \
             held until request_body.timeout)"
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

    // A hits addend can read the body too. The error names the limits that read a body.
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
fn the_cluster_of_redis_must_be_in_the_file() {
    let found = problems(QUICKSTART, [("{cluster: redis}", "{cluster: redsi}")]);
    let expected = "redis.cluster: expected a cluster of this file (redis), found another name of 5 bytes";
    assert_eq!(found, [format!("{LIMITER}.configuration.value: {expected}")]);

    let (without, _) = QUICKSTART.split_once("  clusters:\n").unwrap();
    let expected = "redis.cluster: expected a cluster of this file (there is none), found another name of 5 bytes";
    assert_eq!(problems(without, []), [format!("{LIMITER}.configuration.value: {expected}")]);
}

#[test]
fn the_cluster_of_redis_must_be_raw_tcp() {
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
fn the_stream_transport_needs_a_bridge_and_the_callout_transport_refuses_a_bridge() {
    let expected = |expected: &str, found: &str| {
        let expected =
            expected.replace("BRIDGE", "upstream filter with the root_id \"bridge\" in static_resources.clusters[0]");
        [format!("{LIMITER}.configuration.value: redis.transport: expected {expected}, found {found}")]
    };
    let to_stream = ("transport: callout, ", "");
    assert_eq!(problems(CALLOUT, [to_stream]), expected("\"callout\", or an BRIDGE", "\"stream\" without one"));
    let to_callout = ("{cluster: redis}", "{cluster: redis, transport: callout, max_in_flight: 1024}");
    assert_eq!(problems(QUICKSTART, [to_callout]), expected("\"stream\", or no BRIDGE", "\"callout\" with one"));
}

/// Returns the quickstart with a password, and a list of environment variables at both plugins or at the limiter alone.
fn listed(at_both: bool, list: &str) -> String {
    let (limiter, bridge) = ("                  vm_id: weir\n", "                vm_id: weir\n");
    let with = |indent: &str| format!("{indent}environment_variables: {list}\n{indent}vm_id: weir\n");
    let text = QUICKSTART.replacen(limiter, &with("                  "), 1);
    let password = "redis: {cluster: redis, password: {env: REDIS_PASSWORD}}";
    let text = text.replacen("redis: {cluster: redis}", password, 1);
    let (head, tail) = text.split_at(text.find("clusters:").expect("clusters"));
    assert!(tail.contains(bridge), "{tail}");
    if at_both { format!("{head}{}", tail.replacen(bridge, &with("                "), 1)) } else { text }
}

const BRIDGE: &str = "static_resources.clusters[0].typed_extension_protocol_options.\
    envoy.extensions.upstreams.http.v3.HttpProtocolOptions.http_filters[0].typed_config.config";

#[test]
fn the_variable_of_a_password_is_listed_at_both_plugins_of_a_vm() {
    let given = "{key_values: {REDIS_PASSWORD: hunter2}}";
    assert_eq!(problems(&listed(true, given), []), [format!("{FILE_IS_SOUND}all is well")]);
    let alone = |list: &str| {
        let found = problems(&listed(false, list), []);
        let expected = format!(
            "{LIMITER}.vm_config.environment_variables: expected REDIS_PASSWORD in the lists of both this plugin and \
             {BRIDGE}, which has the same vm_id and code, found it in this one alone"
        );
        assert!(found.iter().any(|line| line.starts_with(&expected)), "{found:?}");
        assert!(!found.concat().contains("hunter2"), "{found:?}");
    };
    alone(given);
    alone("{host_env_keys: [REDIS_PASSWORD]}");
    let nowhere = problems(&listed(true, "{host_env_keys: [REDIS_PASS]}"), []);
    let [nowhere] = nowhere.as_slice() else { panic!("{nowhere:?}") };
    let expected = "configuration.value: redis.password.env: expected a value in the environment variable of this name";
    assert!(nowhere.starts_with(&format!("{LIMITER}.{expected}")), "{nowhere}");
    assert!(nowhere.contains("of both the limiter and the bridge"), "{nowhere}");
}

#[test]
fn doubtful_environment_variables_are_warnings() {
    let unset = problems(&listed(true, "{host_env_keys: [REDIS_PASSWORD]}"), []);
    let expected = "vm_config.environment_variables: expected the environment variable REDIS_PASSWORD to have a value";
    assert!(unset[0].starts_with(&format!("warning: {LIMITER}.{expected}")), "{unset:?}");
    assert_eq!(unset[1..], [format!("{FILE_IS_SOUND}no errors, 1 warning")]);

    let padded = problems(&listed(true, "{key_values: {REDIS_PASSWORD: \"hunter2\\n\"}}"), []);
    let expected = "redis.password.env: the value of REDIS_PASSWORD ends in a newline; it is read without";
    assert_eq!(padded[0], format!("warning: {LIMITER}.configuration.value: {expected}"));

    let other = (
        "                  vm_id: weir\n",
        "                  environment_variables: {key_values: {A: b}}\n                  vm_id: weir\n",
    );
    let different = problems(QUICKSTART, [other]);
    let expected = format!("vm_config.environment_variables: expected the same list as {BRIDGE}");
    assert!(different[0].starts_with(&format!("warning: {LIMITER}.{expected}")), "{different:?}");
    assert_eq!(different[1..], [format!("{FILE_IS_SOUND}no errors, 1 warning")]);
}

#[test]
fn limits_by_path_need_path_normalization() {
    const BUCKET: &str = "token_bucket: {max_tokens: 20, tokens_per_fill: 100, fill_interval: 60s}";
    const ALL: &str = "stat_prefix: ingress\n          normalize_path: true\n          merge_slashes: true\n          \
        path_with_escaped_slashes_action: ACTION";
    let by_path = format!("when: [{{not: {{path: {{exact: /login}}}}}}]\n                      {BUCKET}");
    for (from, to) in [
        (BUCKET, by_path.as_str()),
        (BY_USER, "- path: {}"),
        (BY_USER, "- path: {template: \"/users/{id}\"}"),
        (BY_USER, "- request_header: {name: \":path\"}"),
    ] {
        let found = problems(QUICKSTART, [(from, to)]);
        let expected = "expected the listener \"ingress\" to have normalize_path: true, merge_slashes: true, \
            path_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT, found it without (the path is read by limits[0], ";
        assert!(found[0].starts_with(&format!("warning: {LIMITER}.configuration.value: {expected}")), "{found:?}");
        for action in ["UNESCAPE_AND_REDIRECT", "UNESCAPE_AND_FORWARD", "REJECT_REQUEST"] {
            let all = ALL.replace("ACTION", action);
            let settings = ("stat_prefix: ingress", all.as_str());
            assert_eq!(problems(QUICKSTART, [(from, to), settings]), [format!("{FILE_IS_SOUND}all is well")]);
        }
        let kept = ALL.replace("ACTION", "KEEP_UNCHANGED");
        let found = problems(QUICKSTART, [(from, to), ("stat_prefix: ingress", kept.as_str())]);
        assert!(found[0].contains("to have path_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT, "), "{found:?}");
    }
}

#[test]
fn no_secret_of_a_malformed_file_is_repeated() {
    let redis = "redis: {cluster: redis}";
    for (from, to) in [
        (redis, "redis: \"redis://:hunter2@redis\""),
        (redis, "redis: {cluster: \"redis://:hunter2@redis\"}"),
        (redis, "redis: {cluster: hunter2}"),
        (redis, "redis: {cluster: redis, password: hunter2}"),
        (redis, "redis: {cluster: redis, pasword: hunter2}"),
        (redis, "redis: {cluster: redis, hunter2: 1}"),
        (redis, "redis: {cluster: redis, password: {env: hunter2}}"),
        (redis, "redis: {cluster: redis, key_prefix: \"hunter2\\n\"}"),
        (redis, "redis: [hunter2"),
        (redis, "redis: {hunter2: 1, hunter2: 2}"),
        (redis, "redis: *hunter2"),
        (redis, "redis: !hunter2 [1, {"),
        (redis, "redis: \"hunter2\\q\""),
        ("value:", "value: hunter2 hunter2:"),
        (
            "                  vm_id: weir\n",
            "                  environment_variables: {key_values: {P: [hunter2]}}\n                  vm_id: weir\n",
        ),
        (
            "                  vm_id: weir\n",
            "                  environment_variables: {host_env_keys: hunter2}\n                  vm_id: weir\n",
        ),
        ("address: 127.0.0.1, port_value: 6379", "address: \"redis://:hunter2@redis\", port_value: hunter2@redis"),
        ("address: 127.0.0.1, port_value: 10000", "address: \":hunter2@redis\", port_value: 10000"),
        ("type: STRICT_DNS", "\"redis://:hunter2@redis\": STRICT_DNS"),
        ("type: STRICT_DNS", "type: \"redis://:hunter2@redis\""),
        ("cluster_name: redis", "cluster_name: {\"redis://:hunter2@redis\": 1}"),
    ] {
        assert!(QUICKSTART.contains(from), "{from}");
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), QUICKSTART.replacen(from, to, 1)).expect("written");
        // The filter accepts any cluster name: `weir serve` would start.
        let is_served = to.contains("cluster: hunter2");
        for command in [&["check"][..], &["serve"], &["limits", "list", "--config"]] {
            if is_served && command[0] == "serve" {
                continue;
            }
            let mut weir = Command::new(env!("CARGO_BIN_EXE_weir"));
            let output =
                weir.args(command).arg(file.path()).env("REDIS_URL", "redis://:hunter2@127.0.0.1:bad/").output();
            let output = output.expect("`weir` runs");
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert!(!output.status.success(), "{to}: {said}");
            assert!(!said.contains("hunter2"), "{command:?} {to}: {said}");
        }
    }
}

#[test]
fn strict_fails_on_warnings() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), QUICKSTART.replacen(BY_USER, "- path: {}", 1)).expect("written");
    let status = |arguments: &[&str]| {
        let mut weir = Command::new(env!("CARGO_BIN_EXE_weir"));
        weir.args(arguments).arg(file.path()).output().expect("`weir` runs").status.success()
    };
    assert!(status(&["check"]) && !status(&["check", "--strict"]));
}

#[test]
fn a_circuit_breaker_below_max_in_flight_is_a_warning_with_the_callout_transport() {
    const BREAKER: &str = "    circuit_breakers:
      thresholds:
      - {max_connections: 4096, max_pending_requests: 4096, max_requests: 4096}
";
    let low = |name: &str, threshold: u32, found: u32| {
        format!(
            "warning: {LIMITER}.configuration.value: redis.max_in_flight: expected at most {threshold}, which is {name} of \
             static_resources.clusters[0].circuit_breakers, found {found} (the proxy refuses callouts beyond it)"
        )
    };
    let warnings = |change: (&str, &str)| {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), CALLOUT.replacen(change.0, change.1, 1)).expect("written");
        let path = file.path().to_str().expect("UTF-8");
        let (is_well, said) = check(path);
        assert!(is_well, "it is no error: {said:?}");
        let warnings = said.iter().filter_map(|line| line.strip_prefix(&format!("{path}: ")));
        warnings.filter(|line| line.starts_with("warning: ")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(warnings((BREAKER, "")), [low("max_connections", 1024, 4096)], "Envoy's own threshold");
    assert_eq!(warnings(("max_requests: 4096", "max_requests: 7")), [low("max_requests", 7, 4096)]);
    let fewer = ("transport: callout", "transport: callout, max_in_flight: 1024");
    assert_eq!(warnings(fewer), [""; 0]);
    let high = ("- {max_connections", "- {priority: HIGH, max_connections");
    assert_eq!(warnings(high), [low("max_connections", 1024, 4096)], "callouts are of the default priority");
}
