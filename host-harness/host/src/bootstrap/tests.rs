use super::*;

mod fields;
mod json;
mod redis;

const QUICKSTART: &str = include_str!("../../../../envoy/quickstart.yaml");

fn problems(text: &str) -> Vec<String> {
    match Bootstrap::parse(text, "file.yaml") {
        Err(BootstrapError::Refused { problems, .. }) => problems.iter().map(ToString::to_string).collect(),
        other => panic!("expected a refusal, found {other:?}"),
    }
}

fn request(authority: &str, path: &str) -> crate::http::Headers {
    let headers = [(":authority", authority), (":path", path), ("x-forwarded-proto", "http")];
    headers.map(|(name, value)| (name, value.to_owned())).into_iter().collect()
}

fn managers(bootstrap: &Bootstrap) -> Vec<&HttpManager> {
    bootstrap.listeners.iter().flat_map(Listener::managers).collect()
}

/// Returns the problems of the quickstart with `from` replaced by `to`.
fn changed(from: &str, to: &str) -> Vec<String> {
    assert!(QUICKSTART.contains(from), "the quickstart has no {from:?}");
    problems(&QUICKSTART.replacen(from, to, 1))
}

#[test]
fn the_quickstart_is_parsed() {
    let bootstrap = Bootstrap::parse(QUICKSTART, "quickstart.yaml").unwrap();
    let [listener] = bootstrap.listeners.as_slice() else { panic!("{:?}", bootstrap.listeners) };
    assert_eq!((listener.name.as_str(), listener.address.port()), ("ingress", 10000));
    assert_eq!(bootstrap.admin.map(|address| address.port()), Some(9901));
    let [redis] = bootstrap.clusters.as_slice() else { panic!("{:?}", bootstrap.clusters) };
    assert_eq!((redis.protocol, redis.discovery), (Protocol::Tcp, Discovery::StrictDns));
    assert_eq!(redis.endpoints, [Endpoint { host: "127.0.0.1".to_owned(), port: 6379 }]);
    let roots: Vec<(&str, &str)> =
        bootstrap.plugins().map(|plugin| (plugin.root_id.as_str(), plugin.vm.vm_id.as_str())).collect();
    assert_eq!(roots, [("limiter", "weir"), ("bridge", "weir")]);
    assert!(bootstrap.plugins().all(|plugin| plugin.failure_policy == FailurePolicy::FailReload));
    assert!(bootstrap.plugins().all(|plugin| plugin.configuration.is_empty() == (plugin.root_id == "bridge")));
}

#[test]
fn an_unsupported_field_is_named_with_its_path() {
    let refused = changed("    connect_timeout: 1s\n", "    connect_timeout: 1s\n    outlier_detection: {}\n");
    assert_eq!(refused, ["static_resources.clusters[0].outlier_detection: not honoured by the harness"]);
}

#[test]
fn all_problems_of_a_file_are_reported_at_once() {
    let text = QUICKSTART
        .replacen("connect_timeout: 1s", "connect_timeout: 1 second", 1)
        .replacen("STRICT_DNS", "EDS", 1)
        .replacen("port_value: 9901", "port_value: 99010", 1)
        .replacen("status: 200", "status: 99", 1)
        .replacen("stat_prefix: ingress", "proxy_100_continue: true", 1);
    let manager = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config";
    let mut expected = [
        "admin.address.socket_address.port_value: expected a port, 0 to 65535, found 99010".to_owned(),
        "static_resources.clusters[0].connect_timeout: expected a duration such as \"0.25s\", found \"1 second\""
            .to_owned(),
        "static_resources.clusters[0].type: expected STATIC or STRICT_DNS or LOGICAL_DNS, found \"EDS\"".to_owned(),
        format!("{manager}.stat_prefix: missing"),
        format!("{manager}.proxy_100_continue: not honoured by the harness"),
        format!(
            "{manager}.route_config.virtual_hosts[0].routes[0].direct_response.status: expected a status, 200 to 599, \
             found 99"
        ),
    ];
    let mut found = problems(&text);
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn an_unknown_filter_is_refused_by_its_type() {
    let [problem] = changed("filters.http.router.v3.Router", "filters.http.fault.v3.HTTPFault").try_into().unwrap();
    let problem: String = problem;
    assert!(
        problem.starts_with(
            "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.http_filters[1].typed_config.@type: \
             `envoy.extensions.filters.http.fault.v3.HTTPFault` is not honoured"
        ),
        "{problem}"
    );
}

#[test]
fn a_route_to_an_unknown_cluster_is_refused() {
    let route = "route: {cluster: shop}";
    let refused = changed("direct_response: {status: 200, body: {inline_string: \"hello\\n\"}}", route);
    assert_eq!(refused, ["static_resources: listener `ingress` routes to `shop`, which is not a cluster of this file"]);
}

#[test]
fn errors_name_the_file() {
    let error = Bootstrap::parse("node:\n  id: 5\nlayers: {}\n", "envoy/bad.yaml").unwrap_err();
    assert_eq!(
        error.to_string(),
        "envoy/bad.yaml:2:7: node.id: expected a string, found 5\nenvoy/bad.yaml:3:1: layers: a field that Envoy does not have"
    );
    let error = Bootstrap::parse("a: [", "envoy/bad.yaml").unwrap_err();
    assert_eq!(error.to_string(), "envoy/bad.yaml:1:4: not YAML: found a syntax error");
    let error = Bootstrap::parse("", "envoy/empty.yaml").unwrap_err();
    assert_eq!(error.to_string(), "envoy/empty.yaml:1:1: not YAML: found no document");
    let error = Bootstrap::load(std::path::Path::new("/no/such.yaml")).unwrap_err();
    assert!(error.to_string().starts_with("/no/such.yaml: cannot be read: "), "{error}");
}

#[test]
fn a_virtual_host_is_found_by_the_most_specific_domain() {
    let host = |name: &str, domains: &[&str]| VirtualHost {
        name: name.to_owned(),
        domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
        routes: vec![Route {
            name: String::new(),
            path: PathMatch::Prefix("/".to_owned()),
            conditions: Conditions::default(),
            mutations: HeaderMutations::default(),
            action: Action::Direct(DirectResponse { status: 200, body: String::new() }),
        }],
        mutations: HeaderMutations::default(),
    };
    let table = RouteTable {
        virtual_hosts: vec![
            host("any", &["*"]),
            host("suffix", &["*.shop.com", "*.eu.shop.com"]),
            host("prefix", &["shop.*"]),
            host("exact", &["shop.com:8080", "a.shop.com"]),
        ],
        ..RouteTable::default()
    };
    let found = |authority: &str| table.find(&request(authority, "/")).map(|(host, _)| host.name.clone());
    assert_eq!(found("A.Shop.com").as_deref(), Some("exact"));
    assert_eq!(found("b.shop.com").as_deref(), Some("suffix"));
    assert_eq!(found("shop.org").as_deref(), Some("prefix"));
    assert_eq!(found(".shop.com").as_deref(), Some("any"));
    assert_eq!(found("other").as_deref(), Some("any"));
}

#[test]
fn the_first_matching_route_is_used() {
    let route = |path: PathMatch, status: u16| Route {
        name: String::new(),
        path,
        conditions: Conditions::default(),
        mutations: HeaderMutations::default(),
        action: Action::Direct(DirectResponse { status, body: String::new() }),
    };
    let table = RouteTable {
        virtual_hosts: vec![VirtualHost {
            name: "all".to_owned(),
            domains: vec!["*".to_owned()],
            routes: vec![route(PathMatch::Exact("/a".to_owned()), 201), route(PathMatch::Prefix("/a".to_owned()), 202)],
            mutations: HeaderMutations::default(),
        }],
        ..RouteTable::default()
    };
    let status = |path: &str| {
        table.find(&request("x", path)).map(|(_, route)| match &route.action {
            Action::Direct(direct) => direct.status,
            Action::Cluster { .. } | Action::Redirect(_) => 0,
        })
    };
    assert_eq!([status("/a"), status("/a?b"), status("/ab"), status("/b")], [Some(201), Some(201), Some(202), None]);
}

#[test]
fn a_route_table_is_refused_where_envoy_refuses_it() {
    let table = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.route_config.virtual_hosts";
    let twice = changed("domains: [\"*\"]", "domains: [A.test, a.test]");
    assert_eq!(twice, [format!("{table}: the domain \"a.test\" is listed twice")]);
    let none = changed("domains: [\"*\"]", "domains: []");
    assert_eq!(none, [format!("{table}[0].domains: expected at least one domain, found a list")]);
    let (short, long) = ("inline_string: \"hello\\n\"", format!("inline_string: {}", "x".repeat(4097)));
    let limit = "`max_direct_response_body_size_bytes`";
    let expected = format!("{table}: expected direct responses of at most 4096 bytes ({limit}), found 4097");
    assert_eq!(changed(short, &long), [expected]);
    let allowed = "route_config:\n            max_direct_response_body_size_bytes: 4097";
    let text = QUICKSTART.replacen(short, &long, 1).replacen("route_config:", allowed, 1);
    assert!(Bootstrap::parse(&text, "file.yaml").is_ok());
    let unknown = QUICKSTART
        .replacen("direct_response: {status: 200, body: {inline_string: \"hello\\n\"}}", "route: {cluster: shop}", 1)
        .replacen("route_config:", "route_config:\n            validate_clusters: false", 1);
    assert!(Bootstrap::parse(&unknown, "file.yaml").is_ok());
}

#[test]
fn a_circuit_breaker_below_the_default_is_named_as_left_out() {
    let with = |breakers: &str| {
        let more = format!("connect_timeout: 1s\n    circuit_breakers: {{thresholds: {breakers}}}");
        let bootstrap = Bootstrap::parse(&QUICKSTART.replacen("connect_timeout: 1s", &more, 1), "file.yaml").unwrap();
        bootstrap.left_out.iter().map(|problem| problem.reason.clone()).collect::<Vec<_>>()
    };
    assert_eq!(with("{max_requests: 5}"), ["circuit_breakers"]);
    assert_eq!(with("{max_requests: 4096, max_retries: 0}"), [""; 0]);
}

const ACCESS_LOG: &str = include_str!("../../../../envoy/access-log.yaml");
const JWT_PLANS: &str = include_str!("../../../../envoy/jwt-plans.yaml");

/// Returns the problems of `text` with `from` replaced by `to`, with paths relative to the connection manager.
fn refused(text: &str, from: &str, to: &str) -> Vec<String> {
    assert!(text.contains(from), "the text has no {from:?}");
    let manager = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.";
    let shorter = |problem: String| problem.strip_prefix(manager).map(str::to_owned).unwrap_or(problem);
    problems(&text.replacen(from, to, 1)).into_iter().map(shorter).collect()
}

#[test]
fn the_forms_of_protobufs_json_mapping_are_accepted() {
    let forms = QUICKSTART
        .replacen("  listeners:\n  - name: ingress\n    address", "  listeners:\n  - address", 1)
        .replacen("stat_prefix", "statPrefix", 1)
        .replacen("route_config", "routeConfig", 1)
        .replacen("status: 200", "status: '200'", 1)
        .replacen("STRICT_DNS", "strict_dns", 1)
        .replacen("domains: [\"*\"]", "domains: \"*\"", 1);
    let bootstrap = Bootstrap::parse(&forms, "forms.yaml").unwrap();
    let [listener] = bootstrap.listeners.as_slice() else { panic!("{:?}", bootstrap.listeners) };
    let manager = managers(&bootstrap)[0];
    assert_eq!((listener.name.as_str(), manager.stat_prefix.as_str()), ("127.0.0.1:10000", "ingress"));
    assert_eq!(manager.routes.virtual_hosts[0].domains, ["*"]);
    assert_eq!(bootstrap.clusters[0].discovery, Discovery::StrictDns);
}

#[test]
fn a_typed_struct_is_the_message_in_it() {
    let url = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    for package in ["udpa.type.v1", "xds.type.v3"] {
        let indent = " ".repeat(14);
        let wrapped = format!(
            "type.googleapis.com/{package}.TypedStruct\n{indent}type_url: {url}\n{indent}value: {{startChildSpan: true}}"
        );
        let text = QUICKSTART.replacen(url, &wrapped, 1);
        assert!(text.contains(package), "the quickstart has no router");
        let bootstrap = Bootstrap::parse(&text, "typed.yaml").unwrap();
        assert_eq!(
            bootstrap.left_out.iter().map(|left| left.reason.as_str()).collect::<Vec<_>>(),
            ["start_child_span"]
        );
    }
}

#[test]
fn what_does_not_change_the_answer_is_left_out_and_named() {
    let text = QUICKSTART.replacen("stat_prefix: ingress", "stat_prefix: ingress\n          tracing: {}", 1).replacen(
        "admin:",
        "stats_sinks: []\nlayeredRuntime: {}\nadmin:",
        1,
    );
    let bootstrap = Bootstrap::parse(&text, "traced.yaml").unwrap();
    let names: Vec<&str> = bootstrap.left_out.iter().map(|left| left.reason.as_str()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(["stats_sinks", "layered_runtime", "tracing"].iter().all(|name| names.contains(name)), "{names:?}");
    let log = ACCESS_LOG.replacen("stream.v3.StdoutAccessLog", "grpc.v3.HttpGrpcAccessLogConfig", 1);
    let bootstrap = Bootstrap::parse(&log, "grpc-log.yaml").unwrap();
    assert!(managers(&bootstrap)[0].access_log.is_empty());
    assert_eq!(bootstrap.left_out[0].reason, "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig");
}

#[test]
fn an_access_log_is_parsed() {
    let bootstrap = Bootstrap::parse(ACCESS_LOG, "access-log.yaml").unwrap();
    let [log] = managers(&bootstrap)[0].access_log.as_slice() else { panic!("one log") };
    assert_eq!(log.destination, Destination::Stdout);
    assert!(matches!(log.template, Template::Json(_)));
}

#[test]
fn a_problem_of_an_access_log_is_reported_with_its_path() {
    let logged = "access_log[0].typed_config";
    let [unknown] = refused(ACCESS_LOG, "%DURATION%", "%UPSTREAM_WIRE_BYTES_SENT%").try_into().unwrap();
    let unknown: String = unknown;
    let start = format!("{logged}.log_format.json_format.duration_ms: `%UPSTREAM_WIRE_BYTES_SENT%` is not honoured");
    assert!(unknown.starts_with(&start), "{unknown}");
    assert_eq!(
        refused(ACCESS_LOG, "%REQ(:PATH)%", "%REQ(:PATH)"),
        [format!(
            "{logged}.log_format.json_format.path: `%REQ(:PATH)`: expected `%` at the end of the operator, or `%%` for a percent sign"
        )]
    );
    let twice = "omit_empty_values: 1\n                json_format:\n                  x: \"%REQ%\"";
    assert_eq!(
        refused(ACCESS_LOG, "omit_empty_values: true\n                json_format:", twice),
        [
            format!("{logged}.log_format.omit_empty_values: expected true or false, found 1"),
            format!(
                "{logged}.log_format.json_format.x: `%REQ%`: expected a header in parentheses, and perhaps a second: `REQ(x?y)`"
            ),
        ]
    );
    assert_eq!(
        refused(ACCESS_LOG, "json_format:", "text_format:"),
        [format!("{logged}.log_format.text_format: expected a string, found an object")]
    );
}

#[test]
fn the_jwt_plans_are_parsed() {
    let bootstrap = Bootstrap::parse(JWT_PLANS, "jwt-plans.yaml").unwrap();
    let filters = managers(&bootstrap)[0].filters.as_slice();
    let [HttpFilter::Native(NativeFilter::JwtAuthn(jwt)), HttpFilter::Wasm(_)] = filters else { panic!("{filters:?}") };
    let requirement = jwt.rules[0].requirement.as_ref().unwrap();
    assert_eq!((jwt.rules.len(), requirement.providers.len(), requirement.bypass), (1, 1, Bypass::Never));
    assert_eq!(bootstrap.plugins().count(), 2, "the limiter and the bridge");
}

#[test]
fn a_problem_of_jwt_authn_is_reported_with_its_path() {
    let filter = "http_filters[0].typed_config";
    assert_eq!(
        refused(JWT_PLANS, "{provider_name: users}", "{provider_name: user}"),
        [format!(
            "{filter}.rules[0].requires.provider_name: `user` is not a provider of this filter; expected one of users"
        )]
    );
    assert_eq!(
        refused(JWT_PLANS, "payload_in_metadata: claims", "forward_payload_header: x-claims"),
        [format!("{filter}.providers.users.forward_payload_header: not honoured by the harness")]
    );
    assert_eq!(
        refused(JWT_PLANS, "\"crv\": \"P-256\"", "\"crv\": \"P-384\""),
        [format!(
            "{filter}.providers.users.local_jwks.inline_string: keys[0].x: expected a coordinate of 48 bytes, Base64url without padding"
        )]
    );
    assert_eq!(
        refused(JWT_PLANS, "{provider_name: users}", "{requires_any: {requirements: [{allow_missing: {}}]}}"),
        [format!("{filter}.rules[0].requires.requires_any.requirements: expected at least one `provider_name`")]
    );
    assert_eq!(
        refused(
            JWT_PLANS,
            "{prefix: \"/\"}\n                requires",
            "{connect_matcher: {}}\n                requires"
        ),
        [
            format!(
                "{filter}.rules[0].match: expected one of `prefix`, `path`, `path_separated_prefix` and `safe_regex`, found an object"
            ),
            format!("{filter}.rules[0].match.connect_matcher: not honoured by the harness"),
        ]
    );
}

#[test]
fn a_wasm_network_filter_is_refused_and_a_wasm_service_is_parsed() {
    let service = "bootstrap_extensions: {name: a, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.wasm.v3.WasmService, singleton: true, config: {name: s, vm_config: {code: {local: {filename: x.wasm}}}}}}";
    let bootstrap = Bootstrap::parse(service, "x.yaml").unwrap();
    assert!(matches!(bootstrap.services.as_slice(), [service] if service.is_singleton && service.plugin.name == "s"));
    assert_eq!(bootstrap.plugins().count(), 1);
    let network = "static_resources: {listeners: [{name: a, address: {socket_address: {address: 127.0.0.1, port_value: 0}}, filter_chains: [{filters: [{name: w, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm}}]}]}]}";
    let why = Bootstrap::parse(network, "x.yaml").unwrap_err().to_string();
    assert!(why.contains("envoy.extensions.filters.network.wasm.v3.Wasm` is not honoured by the harness"), "{why}");
}

#[test]
fn a_reload_has_an_interval_and_a_failure_one_policy() {
    let plugin = |more: &str| {
        let yaml = format!(
            r#"{{"static_resources": {{"listeners": [{{"name": "a",
                "address": {{"socket_address": {{"address": "127.0.0.1", "port_value": 0}}}},
                "filter_chains": [{{"filters": [{{"name": "m", "typed_config": {{
                  "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                  "stat_prefix": "a",
                  "route_config": {{"virtual_hosts": [{{"name": "a", "domains": ["*"], "routes": []}}]}},
                  "http_filters": [
                    {{"name": "w", "typed_config": {{
                      "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
                      "config": {{"vm_config": {{"code": {{"local": {{"filename": "x.wasm"}}}}}}{more}}}}}}},
                    {{"name": "r", "typed_config": {{"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}}}
                  ]}}}}]}}]}}]}}}}"#
        );
        let bootstrap = Bootstrap::parse(&yaml, "x.yaml").map_err(|error| error.to_string())?;
        Ok::<_, String>(bootstrap.plugins().next().map(|plugin| (plugin.failure_policy, plugin.reload_interval)))
    };
    let second = std::time::Duration::from_secs(1);
    let reload = FailurePolicy::FailReload;
    assert_eq!(plugin(r#", "failure_policy": "FAIL_RELOAD""#), Ok(Some((reload, second))));
    let every = r#", "failure_policy": "FAIL_RELOAD", "reload_config": {"backoff": {"base_interval": "3s"}}"#;
    assert_eq!(plugin(every), Ok(Some((reload, 3 * second))));
    let both = plugin(r#", "failure_policy": "FAIL_OPEN", "fail_open": true"#).unwrap_err();
    assert!(both.contains("expected one of `fail_open` and `failure_policy`"), "{both}");
}
