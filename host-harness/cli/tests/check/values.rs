//! Values that Envoy refuses wherever they stand, and the identity of a proxy.

use crate::support::{Folder, changed, check, check_changed, place_of};
use crate::{LIMITER, QUICKSTART};

#[test]
fn a_duration_that_envoy_refuses_is_an_error() {
    for (change, path, found) in [
        (
            ("connect_timeout: 1s", "connect_timeout: 1sec"),
            "static_resources.clusters[0].connect_timeout".to_owned(),
            "\"1sec\"",
        ),
        (
            ("connect_timeout: 1s", "connectTimeout: 1"),
            "static_resources.clusters[0].connectTimeout".to_owned(),
            "a number",
        ),
        (
            (
                "failure_policy: FAIL_RELOAD",
                "failure_policy: FAIL_RELOAD\n                reload_config: {backoff: {base_interval: 1 s}}",
            ),
            format!("{LIMITER}.reload_config.backoff.base_interval"),
            "\"1 s\"",
        ),
        (
            (
                "stat_prefix: ingress",
                "stat_prefix: ingress\n          common_http_protocol_options: {idle_timeout: 1h}",
            ),
            "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.common_http_protocol_options.\
             idle_timeout"
                .to_owned(),
            "\"1h\"",
        ),
        (("admin:", "stats_flush_interval: [5]\nadmin:"), "stats_flush_interval".to_owned(), "a list of 1"),
        (
            (
                "- match: {prefix: \"/\"}",
                "- match: {prefix: \"/x\"}\n                route: {cluster: redis, \
                 timeout: 0.0000000001s}\n              - match: {prefix: \"/\"}",
            ),
            "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.route_config.virtual_hosts[0].\
             routes[0].route.timeout"
                .to_owned(),
            "\"0.0000000001s\"",
        ),
    ] {
        let checked = check_changed(QUICKSTART, [change]);
        let finding = checked.about("type");
        assert_eq!((finding.path.as_str(), finding.found.as_str()), (path.as_str(), found), "{finding:?}");
        assert!(finding.expected.starts_with("a duration such as") && finding.severity == "error", "{finding:?}");
    }
}

#[test]
fn a_duration_in_a_file_of_resources_is_checked() {
    let cds = "resources:\n- \"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster\n  name: a\n  \
               connect_timeout: 250ms\n";
    let checked = Folder::new().with("cds.yaml", cds).check(&["cds.yaml"]);
    assert_eq!(checked.about("type").path, "resources[0].connect_timeout");
}

/// Keys of formats, of labels and of free structures are the file's own.
#[test]
fn other_fields_with_the_name_of_a_duration_are_free() {
    let log = "stat_prefix: ingress\n          access_log: [{name: a, typed_config: {\"@type\": \
               type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog, \
               log_format: {json_format: \
               {duration: '%DURATION%', timeout: '5', interval: {ttl: 1}}}}}]";
    let node = "node: {metadata: {timeout: 5, interval: soon}}\nadmin:";
    let runtime = "layered_runtime: {layers: [{name: a, static_layer: {timeout: 5}}]}\nadmin:";
    for change in [("stat_prefix: ingress", log), ("admin:", node), ("admin:", runtime)] {
        let checked = check_changed(QUICKSTART, [change]);
        assert_eq!(checked.rules(), [""; 0], "{change:?}: {checked:?}");
    }
}

#[test]
fn a_source_of_bytes_needs_a_name() {
    let text = changed(QUICKSTART, [("{inline_string: \"hello\\n\"}", "{filename: ''}")]);
    let checked = check(&text);
    let finding = checked.about("type");
    assert_eq!((finding.place.as_str(), finding.found.as_str()), (&*place_of(&text, "''}"), "an empty string"));
    let code = check_changed(QUICKSTART, [("target/wasm32-wasip1/release/weir_filter.wasm", "''")]);
    assert_eq!(code.about("missing-module").severity, "error");
}

#[test]
fn a_plugin_needs_code() {
    let code = "{local: {filename: target/wasm32-wasip1/release/weir_filter.wasm}}";
    for empty in ["{}", "{local: {}}"] {
        let checked = check_changed(QUICKSTART, [(code, empty)]);
        assert_eq!(checked.about("missing-module").found, "nothing", "{empty}");
    }
}

#[test]
fn a_limiter_needs_its_functions() {
    let with = |allowed: &str| {
        let limiter = format!("{{allowed_capabilities: {allowed}}}\n                root_id: limiter");
        check_changed(QUICKSTART, [("root_id: limiter", &*format!("capability_restriction_config: {limiter}"))])
    };
    let checked = with("{proxy_log: {}}");
    let finding = checked.only();
    assert_eq!((finding.rule.as_str(), finding.severity.as_str()), ("capabilities", "error"));
    assert_eq!(with("{}").rules(), [""; 0], "an empty list restricts nothing");
}

#[test]
fn a_duration_may_be_written_as_its_message() {
    for (message, rules) in [("{seconds: 1, nanos: 5}", &[][..]), ("{second: 1}", &["type"])] {
        let checked = check_changed(QUICKSTART, [("connect_timeout: 1s", &*format!("connect_timeout: {message}"))]);
        assert_eq!(checked.rules(), rules, "{message}");
    }
}

#[test]
fn a_proxy_that_reads_resources_needs_an_identity() {
    let routes = "          rds: {route_config_name: r, config_source: {path_config_source: {path: ./rds.yaml}}}\n";
    let rds = "resources:\n- {\"@type\": type.googleapis.com/envoy.config.route.v3.RouteConfiguration, name: r}\n";
    let head = &QUICKSTART[..QUICKSTART.find("          route_config:").expect("routes")];
    let tail = &QUICKSTART[QUICKSTART.find("          http_filters:").expect("filters")..];
    let with = |node: &str| {
        let text = format!("{node}{head}{routes}{tail}");
        Folder::new().with("envoy.yaml", text).with("rds.yaml", rds).check(&["envoy.yaml"])
    };
    let checked = with("");
    let finding = checked.only();
    assert_eq!((finding.rule.as_str(), finding.severity.as_str(), finding.path.as_str()), ("node", "warning", "node"));
    assert_eq!(finding.expected, "node.id and node.cluster");
    assert_eq!(with("node: {id: a}\n").only().expected, "node.cluster");
    assert_eq!(with("node: {id: a, cluster: b}\n").rules(), [""; 0]);
    // Without a source, Envoy needs none.
    assert_eq!(check(QUICKSTART).rules(), [""; 0]);
}

#[test]
fn control_characters_do_nothing_on_a_terminal() {
    let text = changed(
        QUICKSTART,
        [
            ("stat_prefix: ingress", "stat_prefix: ingress\n          codec_type: \"\\e[31mred\\a\\nnext\""),
            ("  - name: redis\n", "  - name: \"re\\edis\"\n"),
        ],
    );
    let folder = Folder::new().with("en\u{1b}voy.yaml", text);
    for format in ["text", "github"] {
        let (_, output) = folder.run(&["--format", format, "en\u{1b}voy.yaml"]);
        assert!(output.contains("red") && output.contains("\\u{1b}"), "{output}");
        assert!(!output.contains(|character: char| character.is_control() && character != '\n'), "{output:?}");
    }
}
