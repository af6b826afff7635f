//! The same files and requests on the embedded host and on Envoy.

use crate::hosts::{has_envoy, on_both};
use crate::support;

const ROUTES: &str = r#"
- {match: {safe_regex: {regex: "/item/[0-9]+"}}, direct_response: {status: 200, body: {inline_string: "item"}}}
- {match: {prefix: "/UPPER", case_sensitive: false}, direct_response: {status: 200, body: {inline_string: "any case"}}}
- {match: {path_separated_prefix: "/api"}, direct_response: {status: 200, body: {inline_string: "api"}}}
- match: {prefix: "/h", headers: [{name: x-kind, string_match: {exact: ROBOT, ignore_case: true}}]}
  direct_response: {status: 200, body: {inline_string: "robot"}}
- match: {prefix: "/h", headers: [{name: x-kind, string_match: {prefix: hu}, invert_match: true}]}
  direct_response: {status: 200, body: {inline_string: "neither robot nor human"}}
- match: {prefix: "/h", headers: [{name: x-size, range_match: {start: 5, end: 10}}]}
  direct_response: {status: 200, body: {inline_string: "size"}}
- match: {prefix: "/h", headers: [{name: x-kind, present_match: true, invert_match: true}]}
  direct_response: {status: 200, body: {inline_string: "no kind"}}
- match: {prefix: "/q", query_parameters: [{name: a, string_match: {safe_regex: {regex: "[a-c]+"}}}]}
  direct_response: {status: 200, body: {inline_string: "query"}}
- match: {prefix: "/q", query_parameters: [{name: b, present_match: true}]}
  direct_response: {status: 200, body: {inline_string: "b"}}
- {match: {prefix: "/g", grpc: {}}, direct_response: {status: 200, body: {inline_string: "grpc"}}}
- {match: {prefix: "/secure"}, redirect: {https_redirect: true}}
- {match: {prefix: "/moved"}, redirect: {prefix_rewrite: "/new", host_redirect: other.test, response_code: FOUND}}
- {match: {path: "/path"}, redirect: {path_redirect: "/there?fixed=1", strip_query: true}}
- {match: {path: "/port"}, redirect: {port_redirect: 8443, strip_query: true, response_code: permanent_redirect}}
"#;

#[test]
fn routes_match_and_redirect() {
    if !has_envoy() {
        return;
    }
    let yaml = support::http_file(ROUTES, "", "");
    let requests = [
        "GET /item/12 HTTP/1.1\r\nhost: a\r\n",
        "GET /item/12?x HTTP/1.1\r\nhost: a\r\n",
        "GET /item/12x HTTP/1.1\r\nhost: a\r\n",
        "GET /upper HTTP/1.1\r\nhost: a\r\n",
        "GET /api HTTP/1.1\r\nhost: a\r\n",
        "GET /api/x?y HTTP/1.1\r\nhost: a\r\n",
        "GET /apis HTTP/1.1\r\nhost: a\r\n",
        "GET /h HTTP/1.1\r\nhost: a\r\nx-kind: Robot\r\n",
        "GET /h HTTP/1.1\r\nhost: a\r\nx-kind: human\r\n",
        "GET /h HTTP/1.1\r\nhost: a\r\nx-kind: other\r\n",
        "GET /h HTTP/1.1\r\nhost: a\r\nx-kind: human\r\nx-size: 9\r\n",
        "GET /h HTTP/1.1\r\nhost: a\r\nx-kind: human\r\nx-size: 10\r\n",
        "GET /h HTTP/1.1\r\nhost: a\r\n",
        "GET /q?a=abc HTTP/1.1\r\nhost: a\r\n",
        "GET /q?a=xyz&b HTTP/1.1\r\nhost: a\r\n",
        "GET /q?a=xyz HTTP/1.1\r\nhost: a\r\n",
        "GET /g HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n",
        "GET /secure/x?y HTTP/1.1\r\nhost: a:80\r\n",
        "GET /secure/x?y HTTP/1.1\r\nhost: a:8080\r\n",
        "GET /moved/x?y HTTP/1.1\r\nhost: a\r\n",
        "GET /path?x HTTP/1.1\r\nhost: a\r\n",
        "GET /port?x HTTP/1.1\r\nhost: a:1\r\n",
    ];
    let answers = on_both(&yaml, "ingress", &requests);
    let status = |answer: &str| answer.split_whitespace().next().unwrap_or_default().to_owned();
    let statuses: Vec<String> = answers.iter().map(|answer| status(answer)).collect();
    assert_eq!(statuses.iter().filter(|status| *status == "404").count(), 6, "{answers:#?}");
    assert!(answers[17].contains("location: https://a/secure/x?y"), "{}", answers[17]);
}

#[test]
fn routes_change_headers() {
    if !has_envoy() {
        return;
    }
    let routes = r#"
- match: {prefix: "/direct"}
  direct_response: {status: 200, body: {inline_string: "direct"}}
  response_headers_to_add:
  - {header: {key: x-route, value: "%REQ(x-in)%"}}
  - {header: {key: x-empty, value: "%REQ(x-none)%"}}
- match: {prefix: "/"}
  route: {cluster: backend, prefix_rewrite: "/deep/", host_rewrite_literal: inner.test}
  request_headers_to_add:
  - {header: {key: x-in, value: route}}
  - {header: {key: x-set, value: route}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}
  - {header: {key: x-absent, value: route}, append_action: ADD_IF_ABSENT}
  - {header: {key: x-only, value: route}, append_action: OVERWRITE_IF_EXISTS}
  - {header: {key: x-path, value: "%REQ(:PATH)% %PROTOCOL% 100%%"}}
  request_headers_to_remove: [x-secret]
  response_headers_to_remove: [x-mirror]
  response_headers_to_add: {header: {key: x-route, value: route}, append: false}
"#;
    let host = "request_headers_to_add: [{header: {key: x-in, value: host}}]\n\
                response_headers_to_add: [{header: {key: x-host, value: host}}]";
    let table = "request_headers_to_add: [{header: {key: x-in, value: table}}]\n\
                 response_headers_to_add: [{header: {key: x-table, value: \"%RESPONSE_FLAGS%\"}}]";
    let backend = support::mirror();
    let yaml = support::http_file(routes, host, table) + &support::cluster("backend", backend);
    let requests = [
        "GET /direct HTTP/1.1\r\nhost: a\r\nx-in: client\r\n",
        "GET /a?b HTTP/1.1\r\nhost: a\r\nx-in: client\r\nx-secret: s\r\nx-set: old\r\nx-absent: old\r\nx-only: old\r\n",
        "GET /a?b HTTP/1.1\r\nhost: a\r\n",
    ];
    let answers = on_both(&yaml, "ingress", &requests);
    assert!(answers[0].contains("x-route: client") && answers[0].contains("x-host: host"), "{}", answers[0]);
    assert!(answers[1].contains("GET /deep/a?b") && !answers[1].contains("x-secret"), "{}", answers[1]);
}

#[test]
fn websockets_are_upgraded_where_they_are_allowed() {
    if !has_envoy() {
        return;
    }
    let routes = r#"
- {match: {prefix: "/never"}, route: {cluster: backend, upgrade_configs: [{upgrade_type: websocket, enabled: false}]}}
- {match: {prefix: "/"}, route: {cluster: backend}}
"#;
    let yaml = support::http_file(routes, "", "") + &support::cluster("backend", support::mirror());
    let yaml = yaml.replacen(
        "stat_prefix: ingress",
        "stat_prefix: ingress\n          upgrade_configs: [{upgradeType: WebSocket}]",
        1,
    );
    let upgrade = "connection: keep-alive, Upgrade\r\nupgrade: websocket\r\n";
    let requests = [
        format!("GET /chat HTTP/1.1\r\nhost: a\r\n{upgrade}\u{0}ping"),
        format!("GET /never HTTP/1.1\r\nhost: a\r\n{upgrade}"),
        "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: other\r\n".to_owned(),
        "GET /chat HTTP/1.1\r\nhost: a\r\n".to_owned(),
    ];
    let requests: Vec<&str> = requests.iter().map(String::as_str).collect();
    let answers = on_both(&yaml, "ingress", &requests);
    assert!(answers[0].starts_with("101 ") && answers[0].ends_with("PING"), "{}", answers[0]);
    assert!(answers[1].starts_with("403 ") && answers[2].starts_with("403 "), "{answers:?}");
}

#[test]
fn tls_is_spoken_on_both_sides_and_chains_are_chosen_by_server_name() {
    if !has_envoy() {
        return;
    }
    let requests = [
        "GET /a HTTP/1.1\r\nhost: a\r\n",
        "GET /b HTTP/1.1\r\nhost: a\r\n",
        "GET /wrong-name HTTP/1.1\r\nhost: a\r\n",
        "GET /unverified HTTP/1.1\r\nhost: a\r\n",
        "GET /client HTTP/1.1\r\nhost: a\r\n",
        "GET /through HTTP/1.1\r\nhost: a\r\n",
    ];
    let yaml = support::tls_file();
    let answers = on_both(&yaml, "ingress", &requests);
    let bodies: Vec<&str> = answers.iter().map(|answer| answer.rsplit('\n').next().unwrap_or_default()).collect();
    assert_eq!([bodies[0], bodies[1]], ["a over https", "b over https"], "{answers:#?}");
    assert!(answers[2].starts_with("503 "), "{}", answers[2]);
    assert_eq!([bodies[3], bodies[4], bodies[5]], ["a over https", "a client", "a over https"], "{answers:#?}");
}

#[test]
fn without_an_inspector_no_connection_has_a_server_name() {
    if !has_envoy() {
        return;
    }
    let yaml = support::tls_file();
    let start = yaml.find("    listener_filters:").expect("the inspector");
    let end = start + yaml[start..].find("    filter_chains:").expect("the chains follow");
    let yaml = yaml.replacen(&yaml[start..end], "", 1);
    let answers = on_both(&yaml, "ingress", &["GET /a HTTP/1.1\r\nhost: a\r\n"]);
    assert!(answers[0].starts_with("503 "), "{answers:?}");
}
