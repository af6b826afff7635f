//! Requests as the upstream gets them: the headers that the connection manager removes, joins and adds, and the form of
//! the body. The harness and the Envoys send the same.

use std::net::SocketAddr;

use hyper::Request;

use super::support::{self, Exchange, Kind, Proxy, Scenario, cluster, envoys, mirror_server, send_http2};
use super::{answers_to, connect};

const ROUTES: &str = r#"- {match: {prefix: "/deep"}, route: {cluster: up, prefix_rewrite: /d, host_rewrite_literal: inner}}
- {match: {prefix: "/"}, route: {cluster: up}}"#;

fn start(kind: &Kind, manager: &str, upstream: SocketAddr) -> Proxy {
    let clusters = cluster("up", upstream, "http1");
    let scenario =
        Scenario { filters: String::new(), routes: ROUTES.to_owned(), clusters, manager, ..Scenario::default() };
    scenario.start_on(kind).unwrap_or_else(|error| panic!("{error:?}"))
}

/// Asserts that each request reaches the upstream in the same form from all hosts. `ask` returns the form.
fn assert_equal<T: std::fmt::Debug>(manager: &str, requests: &[T], ask: impl Fn(&Proxy, &T) -> String) {
    let forms = |kind: &Kind| -> Vec<String> {
        let proxy = start(kind, manager, mirror_server());
        requests.iter().map(|request| stable(&ask(&proxy, request))).collect()
    };
    let embedded = forms(&Kind::Embedded);
    for (version, kind) in envoys() {
        for ((request, ours), theirs) in requests.iter().zip(&embedded).zip(forms(&kind)) {
            assert_eq!(*ours, theirs, "the harness, then Envoy {version}; {manager}: {request:?}");
        }
    }
}

/// Sorts the lines of a request, and hides what differs from run to run, or is a known difference: the address of a
/// client on the same machine.
fn stable(request: &str) -> String {
    let (head, body) = request.split_once("\r\n\r\n").unwrap_or((request, ""));
    let line = |line: &str| match line.split_once(": ") {
        Some(("x-request-id", id)) if id.len() == 36 => "x-request-id: random".to_owned(),
        Some(("x-forwarded-for", hops)) => {
            let is_address = |hop: &str| hop.starts_with("127.") || hop.starts_with("192.") || hop.starts_with("172.");
            let hops: Vec<&str> = hops.split(',').map(|hop| if is_address(hop) { "here" } else { hop }).collect();
            format!("x-forwarded-for: {}", hops.join(","))
        }
        _ => line.to_owned(),
    };
    let mut lines: Vec<String> = head.split("\r\n").map(line).collect();
    lines.sort();
    format!("{}\n{body}", lines.join("\n"))
}

/// Sends a request with header lines, each with its line end, and returns what the upstream got.
fn over_http1(proxy: &Proxy, (line, headers, body): &(&str, String, &str)) -> String {
    let sent = format!("{line} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}\r\n{body}");
    mirrored(proxy, sent.as_bytes())
}

fn mirrored(proxy: &Proxy, sent: &[u8]) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = connect(proxy);
    stream.write_all(sent).expect("the request");
    let mut received = Vec::new();
    stream.read_to_end(&mut received).expect("the response");
    let text = String::from_utf8_lossy(&received).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    // The status, and the request.
    format!("{}\r\n{body}", head.lines().next().unwrap_or_default())
}

#[test]
fn headers_of_envoy_are_removed_from_the_requests_of_clients() {
    let names = "internal decorator-operation downstream-service-cluster downstream-service-node retriable-status-codes \
        retriable-header-names retry-on retry-grpc-on max-retries upstream-alt-stat-name upstream-rq-per-try-timeout-ms \
        upstream-rq-timeout-ms expected-rq-timeout-ms ip-tags original-url hedge-on-per-try-timeout external-address \
        original-path original-host upstream-stream-duration-ms attempt-count degraded other";
    let own: String = names.split_whitespace().map(|name| format!("x-envoy-{name}: 20000\r\n")).collect();
    let from = |lines: &str| lines.split(';').map(|line| format!("{}\r\n", line.trim())).collect::<String>();
    let requests = [
        ("GET /", own.clone(), ""),
        ("GET /deep/x", own, ""),
        (
            "GET /",
            from("x-forwarded-for: 1.1.1.1;x-forwarded-proto: https;x-request-id: mine;x-forwarded-client-cert: c"),
            "",
        ),
        (
            "GET /",
            from(
                "x-forwarded-for: 1.1.1.1;x-forwarded-for: 2.2.2.2;x-forwarded-proto: x;x-request-id: a;x-request-id: b",
            ),
            "",
        ),
        (
            "GET /",
            from("x-forwarded-for: 127.0.0.1;x-forwarded-host: h;x-forwarded-proto: http;x-envoy-retry-on: 5xx"),
            "",
        ),
        ("GET /", from("x-forwarded-for: 10.0.0.1;x-envoy-max-retries: 3"), ""),
        ("GET /", from("x-forwarded-for: no address;x-envoy-max-retries: 3"), ""),
        // An empty id is none.
        ("GET /", from("x-request-id: "), ""),
    ];
    let internal = "internal_address_config: {cidr_ranges: [{address_prefix: 127.0.0.0, prefix_len: 8}]}";
    for manager in [
        "",
        "use_remote_address: true",
        &format!("use_remote_address: true\n{internal}"),
        internal,
        "use_remote_address: true\nxff_num_trusted_hops: 1",
        "xff_num_trusted_hops: 1",
        "use_remote_address: true\nskip_xff_append: true",
    ] {
        assert_equal(manager, &requests, over_http1);
    }
}

#[test]
fn a_body_has_the_same_form() {
    let mut requests = Vec::new();
    for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "REPORT"] {
        let line: &'static str = format!("{method} /").leak();
        requests.push((line, String::new(), ""));
        requests.push((line, "content-length: 0\r\n".to_owned(), ""));
        requests.push((line, "content-length: 3\r\n".to_owned(), "abc"));
        requests.push((line, "transfer-encoding: chunked\r\n".to_owned(), "3\r\nabc\r\n0\r\n\r\n"));
        requests.push((line, "transfer-encoding: chunked\r\n".to_owned(), "0\r\n\r\n"));
    }
    let trailers = "3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n";
    requests.push(("POST /", "transfer-encoding: chunked\r\ntrailer: x-t\r\nte: trailers\r\n".to_owned(), trailers));
    assert_equal("", &requests, over_http1);
    let over_http2 = |proxy: &Proxy, (method, body, trailers): &(&str, &'static str, bool)| {
        let request = Request::builder().method(*method).uri(format!("http://a.test/{method}"));
        let trailers: &[(&str, &str)] = if *trailers { &[("x-t", "1")] } else { &[] };
        let answer = send_http2(proxy.address(), request.header("trailer", "x-t"), body.as_bytes(), trailers);
        let Exchange { status, body, .. } = answer.unwrap_or_else(|error| panic!("{method}: {error}"));
        format!("{status}\r\n{}", String::from_utf8_lossy(&body))
    };
    let methods = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"].into_iter();
    let requests: Vec<(&str, &str, bool)> =
        methods.flat_map(|method| [(method, "", false), (method, "abc", false), (method, "abc", true)]).collect();
    assert_equal("", &requests, over_http2);
}

#[test]
fn headers_of_which_a_request_has_one_are_joined() {
    let names = "accept accept-encoding accept-language authorization cache-control cookie content-type expect forwarded \
        grpc-timeout if-none-match origin pragma referer user-agent via x-client-trace-id x-forwarded-host x-user-id te \
        cdn-loop proxy-status traceparent range x-envoy-attempt-count date link";
    let mut requests: Vec<(&str, String, &str)> = names
        .split_whitespace()
        .map(|name| ("GET /", format!("{name}: 1\r\nx-other: 2\r\n{name}: 3\r\n"), ""))
        .collect();
    let referers =
        ["no url", "/y", "https://x:8/y?z#f", "https://x/y?z", "about:blank", "http://u@x/", "http://x:/", "*"];
    requests.extend(referers.map(|referer| ("GET /", format!("referer: {referer}\r\n"), "")));
    let te = ["trailers", "gzip, trailers", "trailers;q=1", "deflate", "", "Trailers"];
    requests.extend(te.map(|te| ("GET /", format!("te: {te}\r\n"), "")));
    for nominated in [
        "x-a, close",
        "X-A",
        "te",
        "x-forwarded-for",
        "X-Forwarded-Proto",
        "host",
        ":path",
        "a,b,c,d,e,f,g,h",
        "a,b,c,d,e,f,g,h,i,j",
        "keep-alive",
        "content-length",
    ] {
        let lines = format!("connection: {nominated}\r\nx-a: 1\r\nte: gzip, trailers\r\ncontent-length: 3\r\n");
        requests.push(("POST /", lines, "abc"));
    }
    requests.push((
        "GET /",
        "proxy-connection: keep-alive\r\nkeep-alive: 3\r\nupgrade: h2c\r\nhttp2-settings: A\r\n".to_owned(),
        "",
    ));
    assert_equal("", &requests, over_http1);
    let cookies = |proxy: &Proxy, (): &()| {
        let request = Request::get("http://a.test/").header("cookie", "a=1").header("x-b", "1").header("cookie", "c=2");
        let answer = send_http2(proxy.address(), request, b"", &[]).expect("a response");
        format!("{}\r\n{}", answer.status, String::from_utf8_lossy(&answer.body))
    };
    assert_equal("", &[()], cookies);
}

/// A client that does not ask for `connection: close` itself.
#[test]
fn a_connection_ends_where_any_of_its_headers_asks_for_it() {
    let sent = ["connection: close\r\nconnection: keep-alive", "proxy-connection: close", "connection: x, Close"]
        .map(|lines| format!("GET / HTTP/1.1\r\nhost: a\r\n{lines}\r\n\r\n"));
    for (host, kind) in [("the harness", Kind::Embedded)].into_iter().chain(envoys()) {
        let proxy = start(&kind, "", mirror_server());
        for sent in &sent {
            assert_eq!(answers_to(connect(&proxy), sent.as_bytes()), "200 close", "{host}: {sent}");
        }
    }
}

#[test]
fn headers_of_which_a_response_has_one_are_joined() {
    let names = "age cache-control content-type etag expires location set-cookie vary via x-custom x-request-id link \
        access-control-allow-origin access-control-allow-headers proxy-status grpc-status www-authenticate \
        x-envoy-degraded keep-alive proxy-connection upgrade";
    let lines: String = names.split_whitespace().map(|name| format!("{name}: 1\r\n{name}: 2\r\n")).collect();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n{lines}\r\n");
    let headers = |kind: &Kind| {
        let answer = answer.clone();
        let upstream = support::tcp_server(move |mut stream| {
            use std::io::{Read as _, Write as _};
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
        });
        let answered = start(kind, "", upstream).get("/");
        let own = ["date", "server", "x-envoy-upstream-service-time", "content-length"];
        let shown = answered.headers().iter().filter(|(name, _)| !own.contains(&name.as_str()));
        let mut shown: Vec<String> = shown.map(|(name, value)| format!("{name}: {value:?}")).collect();
        shown.sort();
        shown
    };
    let embedded = headers(&Kind::Embedded);
    for (version, kind) in envoys() {
        assert_eq!(embedded, headers(&kind), "the harness, then Envoy {version}");
    }
}
