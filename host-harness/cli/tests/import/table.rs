//! Each feature of ratelimit and Envoy: translated, with a warning, or not.

use serde_json::{Value, json};

use crate::support::{Imported, import};

/// Imports one descriptor tree with one rule's actions.
fn joined(descriptors: &str, rules: &str) -> Imported {
    let ratelimit = format!("domain: d\ndescriptors: {descriptors}\n");
    let envoy = format!("rate_limits: {rules}\n");
    import([("ratelimit.yaml", &ratelimit), ("envoy.yaml", &envoy)])
}

/// Imports a limit of 7 a minute for the key `k`, with fields more.
fn keyed(fields: &str, action: &str) -> Imported {
    let limit = "rate_limit: {unit: minute, requests_per_unit: 7}";
    joined(&format!("[{{key: k, {limit}{fields}}}]"), &format!("[{{actions: [{action}]}}]"))
}

const HEADER: &str = "{request_headers: {header_name: x-k, descriptor_key: k}}";

fn whole(imported: &Imported) {
    assert_eq!((imported.code, imported.findings.len()), (0, 0), "{:?}\n{}", imported.findings, imported.yaml);
}

fn warned(imported: &Imported, rules: &[&str]) {
    assert_eq!((imported.code, imported.rules("warning").as_slice()), (0, rules), "{:?}", imported.findings);
}

fn left_out(imported: &Imported, rule: &str) {
    assert_eq!(imported.code, 2, "{:?}", imported.findings);
    assert!(imported.rules("untranslated").contains(&rule), "{:?}", imported.findings);
}

fn header(entry: &str, value: &Value) -> Value {
    json!({"header": {"name": entry, "repeated": "first", "exact": value}})
}

#[test]
fn units_are_fixed_windows() {
    let units = [("second", 1), ("minute", 60), ("hour", 3_600), ("day", 86_400), ("week", 604_800)];
    for (unit, seconds) in units {
        let limit = format!("[{{key: k, rate_limit: {{unit: {unit}, requests_per_unit: 7}}}}]");
        let imported = joined(&limit, &format!("[{{actions: [{HEADER}]}}]"));
        whole(&imported);
        let window = json!({"max_requests": 7, "window": format!("{seconds}s")});
        assert_eq!(imported.limit()["fixed_window"], window);
    }
    for (unit, window) in [("month", "2592000s"), ("year", "31536000s")] {
        let limit = format!("[{{key: k, rate_limit: {{unit: {unit}, requests_per_unit: 7}}}}]");
        let imported = joined(&limit, &format!("[{{actions: [{HEADER}]}}]"));
        warned(&imported, &["calendar"]);
        assert_eq!(imported.limit()["fixed_window"]["window"], window);
    }
}

#[test]
fn a_key_is_a_descriptor_and_a_value_a_predicate() {
    let imported = keyed("", HEADER);
    whole(&imported);
    let limit = imported.limit();
    assert_eq!(limit["descriptor"], json!([{"request_header": {"name": "x-k", "repeated": "first"}}]));
    assert_eq!(limit.get("when"), None);
    let imported = keyed(", value: gold", HEADER);
    whole(&imported);
    assert_eq!(imported.limit()["descriptor"], json!([]));
    assert_eq!(imported.limit()["when"], json!([header("x-k", &json!("gold"))]));
    let norway = keyed(", value: no", HEADER).limit()["when"].clone();
    assert_eq!(norway, json!([header("x-k", &json!("no"))]), "a text in ratelimit's files");
}

#[test]
fn patterns_are_prefixes_suffixes_and_regular_expressions() {
    let cases = [("foo*", "prefix", "foo"), ("'*foo'", "suffix", "foo"), ("a.b*c", "regex", "a\\.b.*c")];
    for (pattern, matcher, text) in cases {
        for (share, entries) in [("", 1), (", share_threshold: true", 0)] {
            let imported = keyed(&format!(", value: {pattern}{share}"), HEADER);
            whole(&imported);
            assert_eq!(imported.limit()["when"][0]["header"][matcher], text);
            assert_eq!(imported.limit()["descriptor"].as_array().unwrap().len(), entries);
        }
    }
}

#[test]
fn the_most_specific_sibling_has_the_request() {
    let limit = "rate_limit: {unit: minute, requests_per_unit: 7}";
    let unlimited = "rate_limit: {unlimited: true}";
    let tree = format!("[{{key: k, value: a, {unlimited}}}, {{key: k, {limit}}}, {{key: k, value: b, {limit}}}]");
    let imported = joined(&tree, &format!("[{{actions: [{HEADER}]}}]"));
    warned(&imported, &["denied-count", "most-specific"]);
    let limits = imported.limits();
    assert_eq!(limits[0]["when"], json!([header("x-k", &json!("b"))]));
    let of_siblings = json!({"any": [header("x-k", &json!("a")), header("x-k", &json!("b"))]});
    assert_eq!(limits[1]["when"], json!([{ "not": of_siblings }]));
}

/// Weir's lists of predicates have at most 32 items.
#[test]
fn a_key_may_have_many_values() {
    let limit = "rate_limit: {unit: minute, requests_per_unit: 7}";
    let values = |number: usize| {
        let values: Vec<String> = (0..number).map(|n| format!("{{key: k, value: v{n}}}")).collect();
        joined(&format!("[{}, {{key: k, {limit}}}]", values.join(", ")), &format!("[{{actions: [{HEADER}]}}]"))
    };
    let imported = values(100);
    warned(&imported, &["most-specific"]);
    let lists = imported.limit()["when"][0]["not"]["any"].as_array().unwrap().len();
    assert_eq!(lists, 4);
    left_out(&values(2_000), "bounds");
}

#[test]
fn modes_and_metrics() {
    let imported = keyed(", shadow_mode: true", HEADER);
    whole(&imported);
    assert_eq!(imported.limit()["shadow_mode"], true);
    warned(&keyed(", detailed_metric: true", HEADER), &["metrics"]);
    warned(&keyed(", value_to_metric: true", HEADER), &["metrics"]);
    left_out(&keyed(", quota_mode: true", HEADER), "field");
    left_out(&keyed(", metadata: {a: b}", HEADER), "field");
    assert_eq!(keyed(", metadata: {a: b}", HEADER).limits().len(), 1, "the limit itself is translated");
}

#[test]
fn a_replaced_limit_has_an_exemption() {
    let limit = |more: &str| format!("rate_limit: {{unit: minute, requests_per_unit: 7, {more}}}");
    let (one, other) = (limit("name: one"), limit("replaces: [{name: one}]"));
    let rules = format!("[{{actions: [{HEADER}]}}, {{actions: [{{remote_address: {{}}}}]}}]");
    let tree = format!("[{{key: remote_address, {one}}}, {{key: k, {other}}}]");
    let imported = joined(&tree, &rules);
    warned(&imported, &["denied-count", "replaces"]);
    let limits = imported.limits();
    let of_one = limits.iter().find(|limit| limit["name"] == "one").unwrap();
    let present = json!({"header": {"name": "x-k", "repeated": "first", "present": true}});
    assert_eq!(of_one["exempt"], json!([present]));
    let tree = format!("[{{key: k, {one}}}, {{key: remote_address, {other}}}]");
    let imported = joined(&tree, &rules);
    assert_eq!(imported.limits().len(), 1, "the other limit holds for every request: {}", imported.yaml);
}

#[test]
fn actions_are_sources() {
    let source = |action: &str| {
        let imported = keyed("", action);
        whole(&imported);
        imported.limit()["descriptor"].clone()
    };
    let of_query = source("{query_parameters: {query_parameter_name: q, descriptor_key: k}}");
    assert_eq!(of_query, json!([{"query_parameter": {"name": "q"}}]));
    let of_method = source("{request_headers: {header_name: ':method', descriptor_key: k}}");
    assert_eq!(of_method, json!([{"method": {}}]));
    let key = "metadata_key: {key: jwt, path: [{key: a}, {key: b}]}";
    for kind in ["metadata", "dynamic_metadata"] {
        let of_metadata = source(&format!("{{{kind}: {{descriptor_key: k, {key}}}}}"));
        let metadata_key = json!({"key": "jwt", "path": [{"key": "a"}, {"key": "b"}]});
        assert_eq!(of_metadata, json!([{"dynamic_metadata": { "metadata_key": metadata_key }}]));
    }
    assert_eq!(source("{generic_key: {descriptor_key: k, descriptor_value: v}}"), json!([]));
    for (key, action, entry) in [
        ("remote_address", "{remote_address: {}}", json!({"remote_address": {}})),
        ("destination_cluster", "{destination_cluster: {}}", json!({"cluster_name": {}})),
        (
            "masked_remote_address",
            "{masked_remote_address: {v4_prefix_mask_len: 16}}",
            json!({"masked_remote_address": {"v4_prefix_mask_len": 16, "v6_prefix_mask_len": 128}}),
        ),
    ] {
        let tree = format!("[{{key: {key}, rate_limit: {{unit: minute, requests_per_unit: 7}}}}]");
        let imported = joined(&tree, &format!("[{{actions: [{action}]}}]"));
        whole(&imported);
        assert_eq!(imported.limit()["descriptor"], json!([entry]));
    }
}

#[test]
fn matching_actions_are_predicates() {
    let headers = "headers: [{name: x-a, string_match: {prefix: p}}]";
    let matching = |more: &str| {
        let action = format!("{{header_value_match: {{descriptor_key: k, descriptor_value: v, {headers}{more}}}}}");
        let imported = keyed(", value: v", &action);
        whole(&imported);
        imported.limit()["when"].clone()
    };
    let predicate = json!({"header": {"name": "x-a", "prefix": "p"}});
    assert_eq!(matching(""), json!([predicate]));
    assert_eq!(matching(", expect_match: false"), json!([{ "not": predicate }]));
    let query = "query_parameters: [{name: q, string_match: {exact: '1'}}]";
    let action = format!("{{query_parameter_value_match: {{descriptor_key: k, descriptor_value: v, {query}}}}}");
    let imported = keyed("", &action);
    whole(&imported);
    assert_eq!(imported.limit()["when"], json!([{"query_parameter": {"name": "q", "exact": "1"}}]));
}

#[test]
fn missing_values_have_a_default_or_a_limit_of_their_own() {
    let with = |more: &str| format!("{{request_headers: {{header_name: x-k, descriptor_key: k, {more}}}}}");
    let imported = keyed("", &with("default_value: none"));
    warned(&imported, &["absent-value"]);
    assert_eq!(imported.limit()["descriptor"][0]["request_header"]["default"], "none");
    let tree = "[{key: k, descriptors: [{key: g, value: v, rate_limit: {unit: minute, requests_per_unit: 7}}]}, \
                {key: g, value: v, rate_limit: {unit: minute, requests_per_unit: 1}}]";
    let generic = "{generic_key: {descriptor_key: g, descriptor_value: v}}";
    let imported = joined(tree, &format!("[{{actions: [{}, {generic}]}}]", with("skip_if_absent: true")));
    warned(&imported, &["absent-value", "denied-count"]);
    let limits = imported.limits();
    let present = |present: bool| json!([{"header": {"name": "x-k", "repeated": "first", "present": present}}]);
    assert_eq!([&limits[0]["when"], &limits[1]["when"]], [&present(true), &present(false)]);
}

#[test]
fn stages_and_runtime_keys_are_warnings() {
    let tree = "[{key: k, rate_limit: {unit: minute, requests_per_unit: 7}}]";
    let of = |more: &str| joined(tree, &format!("[{{actions: [{HEADER}], {more}}}]"));
    warned(&of("disable_key: some.key"), &["runtime"]);
    let imported = of("stage: 1");
    assert!(imported.rules("warning").contains(&"runtime"), "{:?}", imported.findings);
}

#[test]
fn other_actions_are_left_out() {
    let of_key = "metadata_key: {key: n, path: [{key: a}]}";
    for action in [
        "{source_cluster: {}}".to_owned(),
        "{extension: {name: expr}}".to_owned(),
        format!("{{metadata: {{descriptor_key: k, source: ROUTE_ENTRY, {of_key}}}}}"),
        "{generic_key: {descriptor_key: k, descriptor_value: '%REQ(x)%'}}".to_owned(),
    ] {
        left_out(&keyed("", &action), "action");
    }
    let tree = "[{key: k, rate_limit: {unit: minute, requests_per_unit: 7}}]";
    let of = |more: &str| joined(tree, &format!("[{{actions: [{HEADER}], {more}}}]"));
    left_out(&of("limit: {dynamic_metadata: {metadata_key: {key: n}}}"), "limit-override");
    left_out(&of("hits_addend: {format: '%DYNAMIC_METADATA(a:b)%'}"), "cost");
    left_out(&of("apply_on_stream_done: true"), "cost");
    assert_eq!(of("hits_addend: {number: 3}").limit()["hits_addend"], 3);
    let cluster = "[{key: destination_cluster, value: a, rate_limit: {unit: minute, requests_per_unit: 7}}]";
    left_out(&joined(cluster, "[{actions: [{destination_cluster: {}}]}]"), "value");
}

/// The filter of the fixture with other fields.
fn filter(fields: &str) -> Imported {
    let kind = "\"@type\": type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit";
    let rules = format!("rate_limits: [{{actions: [{HEADER}]}}]");
    let filter = format!("{{{kind}, domain: d, {rules}, {fields}}}");
    let tree = "[{key: k, rate_limit: {unit: minute, requests_per_unit: 7}}]";
    let ratelimit = format!("domain: d\ndescriptors: {tree}\n");
    import([("ratelimit.yaml", &ratelimit), ("envoy.yaml", &format!("filter: {filter}\n"))])
}

#[test]
fn fields_of_the_filter_are_settings() {
    let of = |fields: &str| {
        let imported = filter(fields);
        whole(&imported);
        imported.configurations().remove(0)
    };
    let usual = of("timeout: 0.3s");
    assert_eq!(usual["redis"], json!({"cluster": "redis", "timeout": "0.3s"}));
    assert_eq!(usual["response"], json!({"body": "", "headers": [], "grpc_status": "UNAVAILABLE"}));
    assert_eq!(of("stage: 0")["redis"]["timeout"], "0.02s", "Envoy's default");
    assert_eq!(of("failure_mode_deny: true")["failure_mode"], "deny");
    assert_eq!(of("rate_limited_status: {code: 503}")["response"]["status"], 503);
    assert_eq!(of("status_on_error: {code: 500}")["status_on_error"], 500);
    let headers = of("enable_x_ratelimit_headers: DRAFT_VERSION_03")["response"]["headers"].clone();
    assert_eq!(headers, json!(["x-ratelimit"]));
    assert_eq!(of("rate_limited_as_resource_exhausted: true")["response"].get("grpc_status"), None);
    let internal = json!([{"header": {"name": "x-envoy-internal", "exact": "true"}}]);
    assert_eq!(of("request_type: internal")["limits"][0]["when"], internal);
    of("filter_enabled: {default_value: {numerator: 100}}");
    let off = filter("filter_enforced: {default_value: {numerator: 0}}");
    warned(&off, &["runtime"]);
    assert_eq!(off.configurations()[0]["shadow_mode"], true);
    left_out(&filter("filter_enforced: {default_value: {numerator: 5}}"), "field");
    left_out(&filter("failure_mode_deny_percent: {default_value: {numerator: 5}}"), "field");
    left_out(&filter("response_headers_to_add: [{header: {key: a, value: b}}]"), "field");
}

#[test]
fn limits_of_a_whole_route_configuration_or_of_a_weighted_cluster_are_listed() {
    const RULES: &str = "rate_limits: [{actions: [{request_headers: {header_name: x-k, descriptor_key: k}}]}]";
    let message = |name: &str, fields: &str| format!("{{\"@type\": type.googleapis.com/{name}, {fields}}}");
    let per_route = message("envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute", RULES);
    let wrapped = message("envoy.config.route.v3.FilterConfig", &format!("config: {per_route}"));
    let limits = "domain: d\ndescriptors: [{key: k, rate_limit: {unit: minute, requests_per_unit: 7}}]\n";
    let routes = |of_all: &str, of_cluster: &str| {
        let cluster = format!("{{name: a, weight: 1{of_cluster}}}");
        let route = format!("{{match: {{prefix: /}}, route: {{weighted_clusters: {{clusters: [{cluster}]}}}}}}");
        let host = format!("{{name: all, domains: [\"*\"], {RULES}, routes: [{route}]}}");
        let envoy = format!("name: routes\nvirtual_hosts: [{host}]\n{of_all}");
        import([("ratelimit.yaml", limits), ("envoy.yaml", &envoy)])
    };
    whole(&routes("", ""));
    for message in [&per_route, &wrapped] {
        let own = format!("typed_per_filter_config: {{ratelimit: {message}}}");
        for imported in [routes(&format!("{own}\n"), ""), routes("", &format!(", {own}"))] {
            left_out(&imported, "route");
            assert_eq!(imported.limit()["fixed_window"]["max_requests"], 7, "that of the virtual host");
        }
    }
    let patch = format!("{{operation: MERGE, value: {{typed_per_filter_config: {{ratelimit: {per_route}}}}}}}");
    let filter =
        format!("kind: EnvoyFilter\nspec: {{configPatches: [{{applyTo: ROUTE_CONFIGURATION, patch: {patch}}}]}}\n");
    left_out(&import([("ratelimit.yaml", limits), ("filter.yaml", &filter)]), "route");
}
