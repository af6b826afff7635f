//! Outcomes of requests that no upstream answers: texts, response flags and details on both hosts.

use crate::hosts::{Observed, access_log, has_envoy, observed_on_both, on_both};
use crate::support::{self, LEAVES, with_line};

const FORMAT: &str = "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% \
                      %RESPONSE_FLAGS_LONG% %RESPONSE_CODE_DETAILS% %BYTES_RECEIVED% %BYTES_SENT% %ROUTE_NAME% \
                      %UPSTREAM_HOST%";

const ROUTES: &str = r#"
- {name: up, match: {prefix: "/up"}, route: {cluster: backend}}
- {name: hasty, match: {prefix: "/hasty"}, route: {cluster: backend, timeout: 0.3s}}
- {name: refused, match: {prefix: "/refused"}, route: {cluster: refused}}
- {name: empty, match: {prefix: "/empty"}, route: {cluster: empty}}
- {name: nameless, match: {prefix: "/nameless"}, route: {cluster: nameless}}
- {name: unknown, match: {prefix: "/unknown"}, route: {cluster: unknown}}
- {name: short, match: {prefix: "/short"}, route: {cluster: backend, max_stream_duration: {max_stream_duration: 0.3s}}}
- {name: idle, match: {prefix: "/idle"}, route: {cluster: backend, idle_timeout: 0.3s}}
- {name: direct, match: {prefix: "/direct"}, direct_response: {status: 200, body: {inline_string: "direct"}}}
"#;

fn observed(requests: &[&str]) -> Observed {
    let table = "validate_clusters: false\nresponse_headers_to_add: [{header: {key: x-table, \
                 value: \"%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %RESPONSE_CODE%\"}}]";
    let refused = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    let yaml = support::http_file(ROUTES, "", table)
        + &support::cluster("backend", support::mirror())
        + &support::cluster("refused", refused)
        + "  - {name: empty, type: STATIC, load_assignment: {cluster_name: empty}}\n"
        + "  - {name: nameless, type: STRICT_DNS, load_assignment: {cluster_name: nameless, endpoints: {lb_endpoints: \
           {endpoint: {address: {socket_address: {address: no-such.invalid, port_value: 80}}}}}}}\n";
    observed_on_both(&with_line(&yaml, &access_log(FORMAT)), "ingress", requests)
}

/// Flag in the line of a path.
fn flag(observed: &Observed, path: &str) -> String {
    let line = observed.log.iter().find(|line| line.split(' ').nth(1) == Some(path));
    line.and_then(|line| line.split(' ').nth(4)).unwrap_or("no line").to_owned()
}

#[test]
fn failures_have_the_texts_flags_and_details_of_envoy() {
    if !has_envoy() {
        return;
    }
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: a\r\n");
    let paths = [
        "/up",
        "/hasty/waits",
        "/refused",
        "/empty",
        "/nameless",
        "/unknown",
        "/none",
        "/up/closes",
        "/up/garbage",
        "/up/cut",
        "/direct",
        "/short/waits",
        "/idle/waits",
        "/short/stalls",
        "/hasty/stalls",
    ];
    // The last request is one whose client waits: its line is then the last of the log.
    let left = ["/up/left/waits", "/up/left/stalls"].map(|path| get(path) + "\r\n" + LEAVES);
    let mut requests: Vec<String> = left.into();
    requests.push(format!("POST /up/left/body/waits HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc{LEAVES}"));
    requests.extend(["/refused/grpc", "/direct/grpc"].map(|path| get(path) + "content-type: application/grpc\r\n"));
    requests.extend(paths.map(get));
    let requests: Vec<&str> = requests.iter().map(String::as_str).collect();
    let observed = observed(&requests);
    let expected = [
        ("/up", "-"),
        ("/hasty/waits", "UT"),
        ("/refused", "UF"),
        ("/empty", "UH"),
        ("/nameless", "UH"),
        ("/unknown", "NC"),
        ("/none", "NR"),
        ("/up/closes", "UC"),
        ("/up/garbage", "UPE"),
        ("/up/cut", "UPE"),
        ("/short/waits", "-"),
        ("/idle/waits", "SI"),
        ("/refused/grpc", "UF"),
        ("/up/left/waits", "DC"),
        ("/up/left/stalls", "DC"),
        ("/up/left/body/waits", "DC"),
    ];
    let found = expected.map(|(path, _)| (path, flag(&observed, path)));
    assert_eq!(found, expected.map(|(path, flag)| (path, flag.to_owned())), "{:#?}", observed.log);
}

#[test]
fn requests_that_are_answered_before_the_filters_are_logged_as_in_envoy() {
    if !has_envoy() {
        return;
    }
    let requests = [
        "GET /direct HTTP/1.1\r\n",
        "GET /direct HTTP/1.0\r\n",
        "BREW /direct HTTP/1.1\r\nhost: a\r\n",
        "PURGE /direct HTTP/1.1\r\nhost: a\r\n",
        "HEAD /direct HTTP/1.1\r\nhost: a\r\n",
        "GET http://b.test/direct HTTP/1.1\r\nhost: a\r\n",
    ];
    let observed = observed(&requests);
    let statuses = observed.answers.iter().map(|answer| answer.split(' ').next().unwrap_or_default());
    assert_eq!(statuses.collect::<Vec<_>>(), ["400", "426", "400", "200", "200", "200"], "{observed:#?}");
    assert_eq!(observed.log.len(), requests.len(), "{observed:#?}");
}

#[test]
fn a_connection_managers_timers_end_a_request() {
    if !has_envoy() {
        return;
    }
    let routes = r#"- {match: {prefix: "/on"}, route: {cluster: backend, idle_timeout: 0s}}
- {match: {prefix: "/"}, route: {cluster: backend}}"#;
    let yaml = support::http_file(routes, "", "") + &support::cluster("backend", support::mirror());
    let idle = with_line(&yaml, &support::manager_line("stream_idle_timeout: 0.4s"));
    let requests = [
        "GET /waits HTTP/1.1\r\nhost: a\r\n",
        "GET /on/waits HTTP/1.1\r\nhost: a\r\n",
        "POST /waits HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n",
    ];
    let answers = on_both(&idle, "ingress", &requests);
    let starts = ["504 \nstream timeout", "200 ", "408 \nstream timeout"];
    assert!(answers.iter().zip(starts).all(|(answer, start)| answer.starts_with(start)), "{answers:#?}");
    let whole = with_line(&yaml, &support::manager_line("request_timeout: 0.4s"));
    let answers = on_both(&whole, "ingress", &requests);
    let starts = ["200 ", "200 ", "408 \nrequest timeout"];
    assert!(answers.iter().zip(starts).all(|(answer, start)| answer.starts_with(start)), "{answers:#?}");
}

#[test]
fn a_filters_reply_has_the_header_changes_of_a_route_to_a_cluster() {
    if !has_envoy() {
        return;
    }
    let routes = r#"
- {match: {prefix: "/up"}, route: {cluster: backend}}
- {match: {prefix: "/direct"}, direct_response: {status: 200}}
- {match: {prefix: "/moved"}, redirect: {host_redirect: other.test}}
"#;
    let table = r#"response_headers_to_add:
- {header: {key: x-table, value: "%RESPONSE_CODE_DETAILS% %RESPONSE_CODE%"}}
- {header: {key: x-late, value: "%RESP(x-mirror)% %RESPONSE_CODE%"}}"#;
    let jwt = r#"          - name: jwt
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication
              providers:
                own:
                  issuer: i
                  local_jwks:
                    inline_string: '{"keys": [{"kty": "oct", "kid": "k", "alg": "HS256",
                      "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}]}'
              rules: {match: {prefix: /}, requires: {provider_name: own}}
          - name: router"#;
    let open = support::http_file(routes, "", table) + &support::cluster("backend", support::mirror());
    let closed = open.replacen("          - name: router", jwt, 1);
    let paths = ["/up", "/direct", "/moved", "/none"];
    let mut requests = paths.map(|path| format!("GET {path} HTTP/1.1\r\nhost: a\r\n")).to_vec();
    requests.push("GET /up HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: other\r\n".to_owned());
    let requests: Vec<&str> = requests.iter().map(String::as_str).collect();
    let answers = on_both(&closed, "ingress", &requests);
    let has_header = |answer: &String| answer.contains("x-table: ");
    let with_header: Vec<bool> = answers.iter().map(has_header).collect();
    assert_eq!(with_header, [true, false, false, false, true], "{answers:#?}");
    let answers = on_both(&open, "ingress", &requests);
    assert!(answers[0].contains("x-late: yes 200"), "{answers:#?}");
    assert_eq!(answers.iter().map(has_header).collect::<Vec<_>>(), [true, true, true, false, true], "{answers:#?}");
}
