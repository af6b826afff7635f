//! Warnings about files that work, and errors about places where Weir cannot work.

use crate::support::{changed, check, check_changed, place_of};
use crate::{BUCKET, BY_USER, LIMITER, QUICKSTART};

const POLICY: &str = "                failure_policy: FAIL_RELOAD\n";
const LOCAL: &str = "code: {local: {filename: target/wasm32-wasip1/release/weir_filter.wasm}}";
const NAME: &str = "          - name: weir\n";

#[test]
fn limits_by_path_need_path_normalization() {
    const ALL: &str = "stat_prefix: ingress\n          normalize_path: true\n          merge_slashes: true\n          \
        path_with_escaped_slashes_action: ACTION";
    let by_path = format!("when: [{{not: {{path: {{exact: /login}}}}}}]\n                      {BUCKET}");
    for (from, to) in [
        (BUCKET, by_path.as_str()),
        (BY_USER, "- path: {}"),
        (BY_USER, "- path: {template: \"/users/{id}\"}"),
        (BY_USER, "- request_header: {name: \":path\"}"),
    ] {
        let checked = check_changed(QUICKSTART, [(from, to)]);
        let paths = checked.only();
        assert_eq!((paths.rule.as_str(), paths.severity.as_str()), ("paths", "warning"));
        let all = "normalize_path: true, merge_slashes: true, path_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT";
        assert_eq!(paths.expected, all);
        assert!(paths.help.contains("the path is read by limits[0], "), "{paths:?}");
        for action in ["UNESCAPE_AND_REDIRECT", "unescape_and_forward", "REJECT_REQUEST", "3"] {
            let settings = ("stat_prefix: ingress", &*ALL.replace("ACTION", action));
            assert_eq!(check_changed(QUICKSTART, [(from, to), settings]).rules(), [""; 0], "{action}");
        }
        let kept = ("stat_prefix: ingress", &*ALL.replace("ACTION", "KEEP_UNCHANGED"));
        let checked = check_changed(QUICKSTART, [(from, to), kept]);
        assert_eq!(checked.only().expected, "path_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT");
    }
}

#[test]
fn trusted_hops_need_the_address_of_the_connection() {
    let with = |entry: &str, settings: &str| {
        let settings = format!("stat_prefix: ingress\n          {settings}");
        check_changed(QUICKSTART, [(BY_USER, entry), ("stat_prefix: ingress", settings.trim_end())])
    };
    let by_hops = "- remote_address: {trusted_hops: 1}";
    for (settings, found) in [
        ("", "the connection manager without"),
        ("use_remote_address: false", "the connection manager without"),
        ("use_remote_address: true\n          xff_num_trusted_hops: 2", "xff_num_trusted_hops: 2 beside it"),
    ] {
        for entry in [by_hops, "- masked_remote_address: {v4_prefix_mask_len: 24, trusted_hops: 2}"] {
            let checked = with(entry, settings);
            let finding = checked.only();
            assert_eq!((finding.rule.as_str(), finding.severity.as_str()), ("trusted-hops", "warning"));
            assert_eq!(finding.found, found);
            assert!(finding.help.contains("limits[0].descriptor[0]."), "{finding:?}");
        }
    }
    assert_eq!(with(by_hops, "use_remote_address: true").rules(), [""; 0]);
    for entry in ["- remote_address: {}", "- remote_address: {trusted_hops: 0}"] {
        assert_eq!(with(entry, "use_remote_address: false").rules(), [""; 0], "{entry}");
    }
}

#[test]
fn a_failure_policy_other_than_reload_is_a_warning() {
    for (policy, found) in [
        ("", "nothing, which means FAIL_CLOSED"),
        ("                failure_policy: FAIL_OPEN\n", "FAIL_OPEN"),
        ("                failurePolicy: fail_closed\n", "FAIL_CLOSED"),
        ("                fail_open: true\n", "fail_open: true"),
    ] {
        let checked = check_changed(QUICKSTART, [(POLICY, policy)]);
        assert_eq!((checked.only().rule.as_str(), checked.only().found.as_str()), ("failure-policy", found));
    }
    for policy in ["FAIL_RELOAD", "fail_reload", "1"] {
        let policy = format!("                failure_policy: {policy}\n");
        assert_eq!(check_changed(QUICKSTART, [(POLICY, &policy)]).rules(), [""; 0]);
    }
    let both = check_changed(QUICKSTART, [(POLICY, &format!("{POLICY}                fail_open: true\n"))]);
    assert_eq!(both.only().rule, "two-policies");
}

#[test]
fn remote_code_needs_a_version_in_vm_id() {
    let remote = |vm_id: &str| {
        let uri = "{uri: \"https://example.com/weir.wasm\", cluster: files, timeout: 5s}";
        let code = format!("code: {{remote: {{http_uri: {uri}, sha256: 0f1e2d3c4b}}}}");
        check(&QUICKSTART.replace(LOCAL, &code).replace("vm_id: weir", vm_id))
    };
    let unversioned = remote("vm_id: weir");
    assert_eq!(unversioned.rules(), ["vm-id", "vm-id"], "the limiter and the bridge");
    assert_eq!(unversioned.findings[0].path, format!("{LIMITER}.vm_config.vm_id"));
    assert_eq!(unversioned.findings[0].found, "\"weir\" without one");
    assert_eq!(remote("vm_id: weir-1.2.0").rules(), [""; 0]);
    assert_eq!(remote("vm_id: weir-0f1e2d").rules(), [""; 0]);
}

#[test]
fn a_disabled_limiter_needs_a_route_that_enables_it() {
    let disabled = (NAME, "          - name: weir\n            disabled: true\n");
    let never = check_changed(QUICKSTART, [disabled]);
    assert_eq!((never.only().rule.as_str(), never.only().severity.as_str()), ("disabled", "warning"));
    let route = |config: &str| {
        let config = format!("{{\"@type\": type.googleapis.com/envoy.config.route.v3.FilterConfig, {config}}}");
        let route = format!("- match: {{prefix: \"/\"}}\n                typed_per_filter_config: {{weir: {config}}}");
        check_changed(QUICKSTART, [disabled, ("- match: {prefix: \"/\"}", &route)])
    };
    assert_eq!(route("config: {}").rules(), [""; 0]);
    assert_eq!(route("disabled: true").rules(), ["disabled"]);
}

#[test]
fn a_role_that_cannot_work_where_it_stands_is_an_error() {
    let (head, tail) = QUICKSTART.split_once("root_id: limiter").unwrap();
    let bridge = check(&format!("{head}root_id: bridge{tail}"));
    assert_eq!(bridge.about("misplaced").found, "a filter of a listener");

    let last = changed(
        QUICKSTART,
        [(
            "          - name: envoy.filters.http.router\n            typed_config:\n              \
             \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router\n",
            "",
        )],
    );
    assert_eq!(check(&last).only().found, "a wasm plugin as the last filter");
    let router =
        "{name: router, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}";
    let behind = changed(QUICKSTART, [(NAME, &format!("          - {router}\n{NAME}"))]);
    let checked = check(&behind);
    assert_eq!((checked.only().rule.as_str(), &checked.only().place), ("not-last", &place_of(&behind, "name: weir\n")));
}

#[test]
fn a_listener_that_buffers_less_than_a_limit_reads_is_a_warning() {
    let body = (BY_USER, "- request_body: {json_pointer: /user}");
    let shown = ("root_id: limiter", "root_id: limiter\n                allow_on_headers_stop_iteration: true");
    let buffer = |bytes: &str| {
        let listener = format!("  - name: ingress\n    per_connection_buffer_limit_bytes: {bytes}\n");
        check_changed(QUICKSTART, [body, shown, ("  - name: ingress\n", &listener)])
    };
    assert_eq!(buffer("65536").rules(), [""; 0]);
    let small = ("  - name: ingress\n", "  - name: ingress\n    per_connection_buffer_limit_bytes: 1024\n");
    assert_eq!(check_changed(QUICKSTART, [small]).rules(), [""; 0], "no limit reads bodies");
    assert_eq!((buffer("1024").only().rule.as_str(), buffer("1024").only().found.as_str()), ("buffer", "1024 bytes"));
    let help = |bytes: &str| buffer(bytes).only().help.clone();
    assert!(help("1024").contains("values behind the first bytes that Envoy keeps are unreadable"), "{}", help("1024"));
    assert!(help("1023").contains("at least 1024 bytes: of a body that does not fit, no value is read"));
}

#[test]
fn a_limit_that_reads_its_own_mark_is_a_warning() {
    let marking = |name: &str| {
        let mark = format!("on_exceed: {{mark: {{name: {name}}}}}\n                      {BUCKET}");
        check_changed(QUICKSTART, [(BUCKET, mark.as_str())])
    };
    let checked = marking("X-User-Id");
    let only = checked.only();
    assert_eq!((only.rule.as_str(), only.severity.as_str()), ("mark", "warning"));
    assert!(only.found.contains("x-user-id") && only.path.ends_with("request_header.name"), "{only:?}");
    assert_eq!(marking("x-over-limit").rules(), [""; 0]);
}
