use super::*;

const QUICKSTART: &str = include_str!("../../../../envoy/quickstart.yaml");

fn problems(text: &str) -> Vec<String> {
    match Bootstrap::parse(text, "file.yaml") {
        Err(BootstrapError::Refused { problems, .. }) => problems.iter().map(ToString::to_string).collect(),
        other => panic!("expected a refusal, found {other:?}"),
    }
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
        .replacen("stat_prefix: ingress", "tracing: {}", 1);
    let manager = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config";
    let mut expected = [
        "admin.address.socket_address.port_value: expected a port, 0 to 65535, found 99010".to_owned(),
        "static_resources.clusters[0].connect_timeout: expected a duration such as \"0.25s\", found \"1 second\""
            .to_owned(),
        "static_resources.clusters[0].type: expected STATIC or STRICT_DNS or LOGICAL_DNS, found \"EDS\"".to_owned(),
        format!("{manager}.stat_prefix: missing"),
        format!("{manager}.tracing: not honoured by the harness"),
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
    let error = Bootstrap::parse("static_resources: {}", "envoy/empty.yaml").unwrap_err();
    assert_eq!(error.to_string(), "envoy/empty.yaml: static_resources: expected at least one listener");
    let error = Bootstrap::parse("a: [", "envoy/bad.yaml").unwrap_err();
    assert!(error.to_string().starts_with("envoy/bad.yaml: not YAML: "), "{error}");
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
            action: Action::Direct(DirectResponse { status: 200, body: String::new() }),
        }],
    };
    let table = RouteTable {
        name: String::new(),
        virtual_hosts: vec![
            host("any", &["*"]),
            host("suffix", &["*.shop.com", "*.eu.shop.com"]),
            host("prefix", &["shop.*"]),
            host("exact", &["shop.com:8080", "a.shop.com"]),
        ],
    };
    let found = |authority: &str| table.find(authority, "/").map(|(host, _)| host.name.as_str());
    assert_eq!(found("A.Shop.com"), Some("exact"));
    assert_eq!(found("b.shop.com"), Some("suffix"));
    assert_eq!(found("shop.org"), Some("prefix"));
    assert_eq!(found(".shop.com"), Some("any"));
    assert_eq!(found("other"), Some("any"));
}

#[test]
fn the_first_matching_route_is_used() {
    let route = |path: PathMatch, status: u16| Route {
        name: String::new(),
        path,
        action: Action::Direct(DirectResponse { status, body: String::new() }),
    };
    let table = RouteTable {
        name: String::new(),
        virtual_hosts: vec![VirtualHost {
            name: "all".to_owned(),
            domains: vec!["*".to_owned()],
            routes: vec![route(PathMatch::Exact("/a".to_owned()), 201), route(PathMatch::Prefix("/a".to_owned()), 202)],
        }],
    };
    let status = |path: &str| {
        table.find("x", path).map(|(_, route)| match &route.action {
            Action::Direct(direct) => direct.status,
            Action::Cluster { .. } => 0,
        })
    };
    assert_eq!([status("/a"), status("/a?b"), status("/ab"), status("/b")], [Some(201), Some(201), Some(202), None]);
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
fn an_access_log_is_parsed() {
    let bootstrap = Bootstrap::parse(ACCESS_LOG, "access-log.yaml").unwrap();
    let [log] = bootstrap.listeners[0].access_log.as_slice() else { panic!("one log") };
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
    assert_eq!(
        refused(ACCESS_LOG, "StdoutAccessLog", "StderrAccessLog"),
        [format!(
            "{logged}.@type: `envoy.extensions.access_loggers.stream.v3.StderrAccessLog` is not honoured by the harness; expected \
             `envoy.extensions.access_loggers.stream.v3.StdoutAccessLog` or `envoy.extensions.access_loggers.file.v3.FileAccessLog`"
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
        [
            format!("{logged}.log_format.text_format: not honoured by the harness"),
            format!("{logged}.log_format: expected one of `text_format_source` and `json_format`, found an object"),
        ]
    );
}

#[test]
fn the_jwt_plans_are_parsed() {
    let bootstrap = Bootstrap::parse(JWT_PLANS, "jwt-plans.yaml").unwrap();
    let filters = bootstrap.listeners[0].filters.as_slice();
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
            "{safe_regex: {regex: \".*\"}}\n                requires"
        ),
        [
            format!("{filter}.rules[0].match.safe_regex: not honoured by the harness"),
            format!("{filter}.rules[0].match: expected one of `prefix` and `path`, found an object"),
        ]
    );
}
