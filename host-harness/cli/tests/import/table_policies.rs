//! Each feature of Limitador, Kuadrant and Envoy Gateway: translated, with a warning, or not.

use serde_json::{Value, json};

use crate::support::{Imported, import};

fn left_out(imported: &Imported, rule: &str) {
    assert_eq!(imported.code, 2, "{:?}", imported.findings);
    assert!(imported.rules("untranslated").contains(&rule), "{:?}", imported.findings);
}

/// Imports one limit of Limitador with a descriptor of a constant and a header.
fn limitador(conditions: &str, variables: &str) -> Imported {
    let limit =
        format!("- {{namespace: d, max_value: 5, seconds: 90, conditions: {conditions}, variables: {variables}}}");
    let rules = "rate_limits: [{actions: [{generic_key: {descriptor_key: g, descriptor_value: v}}, \
                 {request_headers: {header_name: x-k, descriptor_key: k}}]}]";
    import([("limits.yaml", &limit), ("envoy.yaml", rules)])
}

#[test]
fn limits_of_limitador_are_fixed_windows() {
    let imported = limitador("[]", "[\"descriptors[0]['k']\"]");
    assert_eq!((imported.code, imported.rules("warning")), (0, vec!["window-start"]));
    let limit = imported.limit();
    assert_eq!(limit["fixed_window"], json!({"max_requests": 5, "window": "90s"}));
    assert_eq!(limit["descriptor"], json!([{"request_header": {"name": "x-k", "repeated": "first"}}]));
    let imported = limitador("[\"descriptors[0].k == 'a'\", \"descriptors[0]['g'] == 'v'\"]", "['descriptors[0].g']");
    let header = |test: &str, value: Value| json!({"header": {"name": "x-k", "repeated": "first", test: value}});
    assert_eq!(imported.limit()["when"], json!([header("present", json!(true)), header("exact", json!("a"))]));
    assert_eq!(imported.limit()["descriptor"], json!([]));
    let imported = limitador("[\"descriptors[0]['g'] == 'w'\"]", "[]");
    assert_eq!((imported.code, imported.yaml.as_str()), (0, ""), "no request has the value: {:?}", imported.findings);
}

#[test]
fn other_conditions_of_limitador_are_left_out() {
    left_out(&limitador("[\"int(descriptors[0]['k']) > 3\"]", "[]"), "expression");
    left_out(&limitador("[\"descriptors[1]['k'] == 'a'\"]", "[]"), "expression");
    left_out(&limitador("[]", "[\"descriptors[0]['k'] + 'x'\"]"), "expression");
    let alone = "- {namespace: d, max_value: 5, seconds: 90, conditions: [], variables: []}";
    left_out(&import([("limits.yaml", alone)]), "no-source");
}

/// Imports a RateLimitPolicy with these fields of `spec`.
fn kuadrant(spec: &str) -> Imported {
    let head = "apiVersion: kuadrant.io/v1\nkind: RateLimitPolicy\nmetadata: {name: p, namespace: n}\n";
    import([("policy.yaml", &format!("{head}spec: {{targetRef: {{kind: HTTPRoute, name: r}}, {spec}}}\n"))])
}

fn limit_when(predicate: &str) -> Imported {
    kuadrant(&format!("limits: {{l: {{when: [{{predicate: \"{predicate}\"}}], rates: [{{limit: 1, window: 1m}}]}}}}"))
}

#[test]
fn conditions_of_kuadrant_are_predicates() {
    let header = |test: &str, value: &str| json!({"header": {"name": "x", test: value}});
    for (text, expected) in [
        ("request.method == 'GET'", json!({"method": "GET"})),
        ("request.method in ['GET', 'HEAD']", json!({"method": ["GET", "HEAD"]})),
        ("request.url_path == '/a'", json!({"path": {"exact": "/a"}})),
        ("request.path.startsWith('/a')", json!({"path": {"prefix": "/a"}})),
        ("request.path == '/a'", json!({"header": {"name": ":path", "exact": "/a"}})),
        ("request.host == 'a.example'", json!({"host": {"exact": "a.example"}})),
        ("request.headers['x'] == 'v'", header("exact", "v")),
        ("request.headers['x'].endsWith('v')", header("suffix", "v")),
        ("request.headers.x.contains('v')", header("contains", "v")),
        ("request.headers['x'].matches('^v+$')", header("regex", "v+")),
        ("'x' in request.headers", json!({"header": {"name": "x", "present": true}})),
        ("request.method == 'GET' || request.method == 'PUT'", json!({"method": ["GET", "PUT"]})),
        ("!(request.url_path == '/a')", json!({"not": {"path": {"exact": "/a"}}})),
    ] {
        let imported = limit_when(text);
        assert_eq!(imported.code, 0, "{text}: {:?}", imported.findings);
        assert_eq!(imported.limit()["when"], json!([expected]), "{text}");
        let is_spelled = imported.rules("warning").contains(&"spelling");
        assert_eq!(is_spelled, text.contains("request.host"), "{text}");
    }
    let unequal = limit_when("request.headers['x'] != 'v'").limit()["when"].clone();
    assert_eq!(unequal, json!([{"header": {"name": "x", "present": true}}, { "not": header("exact", "v") }]));
    let both = limit_when("request.method == 'GET' && request.url_path == '/a'").limit()["when"].clone();
    assert_eq!(both, json!([{"method": "GET"}, {"path": {"exact": "/a"}}]));
}

#[test]
fn rates_and_counters_of_kuadrant() {
    let counters = "counters: [{expression: source.remote_address}, {expression: \"request.headers['x']\"}]";
    let imported = kuadrant(&format!(
        "defaults: {{limits: {{l: {{{counters}, rates: [{{limit: 2, window: 10s}}, {{limit: 9, window: 1h30m}}]}}}}}}"
    ));
    assert_eq!((imported.code, imported.rules("warning")), (0, vec!["target", "window-start"]));
    let limit = imported.limit();
    let window = |max: u64, text: &str| json!({"fixed_window": {"max_requests": max, "window": text}});
    assert_eq!(limit["windows"], json!([window(2, "10s"), window(9, "5400s")]));
    assert_eq!(limit["descriptor"], json!([{"remote_address": {}}, {"request_header": {"name": "x"}}]));
}

#[test]
fn identities_and_merged_policies_of_kuadrant_are_left_out() {
    let rates = "rates: [{limit: 1, window: 1m}]";
    left_out(
        &kuadrant(&format!("limits: {{l: {{counters: [{{expression: auth.identity.sub}}], {rates}}}}}")),
        "expression",
    );
    left_out(&limit_when("auth.identity.plan == 'gold'"), "expression");
    left_out(&limit_when("request.size > 5"), "expression");
    left_out(&kuadrant(&format!("overrides: {{strategy: merge, limits: {{l: {{{rates}}}}}}}")), "merged-policy");
    let tokens = "apiVersion: kuadrant.io/v1alpha1\nkind: TokenRateLimitPolicy\nmetadata: {name: p}\nspec: {}\n";
    left_out(&import([("policy.yaml", tokens)]), "kind");
}

/// Imports a BackendTrafficPolicy with one rule of 5 a minute and these fields.
fn gateway(fields: &str) -> Imported {
    rule(&format!("limit: {{requests: 5, unit: Minute}}, {fields}"))
}

fn rule(fields: &str) -> Imported {
    let head = "apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {name: p}\n";
    let target = "targetRefs: [{kind: HTTPRoute, name: r}]";
    let rules = format!("rateLimit: {{global: {{rules: [{{{fields}}}]}}}}");
    import([("policy.yaml", &format!("{head}spec: {{{target}, {rules}}}\n"))])
}

#[test]
fn selectors_of_envoy_gateway_are_predicates_and_entries() {
    let select = |selector: &str| {
        let imported = gateway(&format!("clientSelectors: [{{{selector}}}]"));
        assert_eq!((imported.code, imported.rules("warning")), (0, vec!["target"]), "{selector}");
        let limit = imported.limit();
        (limit.get("when").cloned().unwrap_or_default(), limit["descriptor"].clone())
    };
    let route = json!({"route_name": {}});
    for (selector, predicate) in [
        ("headers: [{name: x, value: v}]", json!({"header": {"name": "x", "exact": "v"}})),
        ("headers: [{name: x, value: v, invert: true}]", json!({"not": {"header": {"name": "x", "exact": "v"}}})),
        ("headers: [{type: RegularExpression, name: x, value: v+}]", json!({"header": {"name": "x", "regex": "v+"}})),
        ("queryParams: [{name: q, value: v}]", json!({"query_parameter": {"name": "q", "exact": "v"}})),
        ("methods: [{value: GET}, {value: PUT}]", json!({"method": ["GET", "PUT"]})),
        ("methods: [{value: GET, invert: true}]", json!({"not": {"method": "GET"}})),
        ("path: {type: Exact, value: /a}", json!({"header": {"name": ":path", "exact": "/a"}})),
        ("path: {value: /a}", json!({"any": [{"path": {"exact": "/a"}}, {"path": {"prefix": "/a/"}}]})),
        ("sourceCIDR: {type: Exact, value: 10.0.0.0/8}", json!({"remote_address": {"cidrs": ["10.0.0.0/8"]}})),
    ] {
        assert_eq!(select(selector), (json!([predicate]), json!([route])), "{selector}");
    }
    let distinct = json!([route, {"request_header": {"name": "x", "repeated": "first"}}]);
    assert_eq!(select("headers: [{type: Distinct, name: x}]"), (Value::Null, distinct));
    let (when, descriptor) = select("sourceCIDR: {type: Distinct, value: 10.0.0.0/8}");
    assert_eq!(when, json!([{"remote_address": {"cidrs": ["10.0.0.0/8"]}}]));
    assert_eq!(descriptor, json!([route, {"remote_address": {}}]));
}

#[test]
fn rules_of_envoy_gateway() {
    assert_eq!(gateway("shared: true").limit()["descriptor"], json!([]));
    assert_eq!(gateway("shadowMode: true").limit()["shadow_mode"], true);
    assert_eq!(gateway("cost: {request: {from: Number, number: 3}}").limit()["hits_addend"], 3);
    let month = rule("limit: {requests: 5, unit: Month}");
    assert_eq!((month.code, month.rules("warning")), (0, vec!["target", "calendar"]));
    assert!(gateway("xRateLimit: Off").rules("warning").contains(&"headers"));
    let none = rule("limit: {requests: 0, unit: Minute}");
    assert_eq!((none.code, none.rules("warning")), (0, vec!["target", "zero"]));
    assert_eq!(none.limit()["fixed_window"]["max_requests"], 0);
}

#[test]
fn other_rules_of_envoy_gateway_are_left_out() {
    left_out(&rule("limit: {fromMetadata: {namespace: n, key: k}}"), "limit-override");
    left_out(&gateway("cost: {request: {from: Metadata, metadata: {namespace: n, key: k}}}"), "cost");
    left_out(&gateway("cost: {response: {from: Number, number: 1}}"), "cost");
    left_out(&gateway("cost: {request: {from: Number, number: 0}}"), "cost");
    let local = "apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {name: p}\n\
                 spec: {rateLimit: {local: {rules: [{limit: {requests: 5, unit: Minute}}]}}}\n";
    left_out(&import([("policy.yaml", local)]), "kind");
}

#[test]
fn what_is_beyond_the_bounds_of_weir_is_left_out() {
    let long = "x".repeat(1_100);
    left_out(&gateway(&format!("clientSelectors: [{{headers: [{{name: x, value: {long}}}]}}]")), "bounds");
    left_out(&gateway("clientSelectors: [{headers: [{type: RegularExpression, name: x, value: '(?=a)'}]}]"), "bounds");
    let rules = (0..40).map(|_| "{limit: {requests: 5, unit: Minute}}".to_owned()).collect::<Vec<_>>().join(", ");
    let head = "apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {name: p}\n";
    let many = import([("p.yaml", &format!("{head}spec: {{rateLimit: {{global: {{rules: [{rules}]}}}}}}\n"))]);
    left_out(&many, "bounds");
    assert_eq!(many.limits().len(), 32);
}
