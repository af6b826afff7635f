//! Requests that expect `100 Continue`, and forms of request lines and header lines that Envoy accepts.

use super::{Case, assert_answers, case};

/// Returns a request with header lines, each with its line end, and a body.
fn post(path: &str, headers: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}\r\n{body}")
}

#[test]
fn a_client_that_waits_gets_100_continue_on_all_hosts() {
    let expect = "expect: 100-continue\r\n";
    let sized = "expect: 100-continue\r\ncontent-length: 3\r\n";
    let last = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let mut cases = vec![
        // A direct response does not wait for the body.
        case(post("/", expect, ""), "100, 200 hello close"),
        case(post("/", sized, ""), "100, 200 hello close"),
        case(post("/", sized, "abc"), "100, 200 hello close"),
        case(post("/", "expect: 100-Continue\r\ntransfer-encoding: chunked\r\n", ""), "100, 200 hello close"),
        case(post("/up", expect, ""), "100, 200 close"),
        case(post("/up", sized, "abc"), "100, 200 abc close"),
        // What the connection manager refuses comes after it, and what the parser refuses does not.
        case(post("/#b", expect, ""), "100, 400 close"),
        case("POST / HTTP/1.1\r\nexpect: 100-continue\r\n\r\n", "100, 400 close"),
        case(post("/x", "expect: 100-continue\r\nconnection: upgrade\r\nupgrade: x\r\n", ""), "100, 403 close"),
        case(post("/", "expect: 100-continue\r\nx y: z\r\n", ""), "400 Bad Request close"),
        case("POST / HTTP/1.0\r\nhost: a\r\nexpect: 100-continue\r\n\r\n", "426 Upgrade Required close"),
    ];
    for other in ["other", "", "100-continue, x", "100-continue\r\nexpect: 100-continue"] {
        cases.push(case(post("/up", &format!("expect: {other}\r\ncontent-length: 3\r\n"), "abc"), "200 abc close"));
    }
    // The responses to earlier requests come first.
    let get = "GET /up HTTP/1.1\r\nhost: a\r\n\r\n";
    let waiting = "POST /up HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n\r\n";
    let answers = "200, 200, 100, 200, 200, 100, 200, 200 hello close";
    cases.push(case([get, get, waiting, get, waiting, last].concat(), answers));
    let body = "POST /up HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\nabc";
    cases.push(case([body, body, last].concat(), "100, 200 abc, 100, 200 abc, 200 hello close"));
    assert_answers(&cases);
}

#[test]
fn tabs_and_spaces_in_a_request_line_are_accepted_on_all_hosts() {
    let bad = "400 Bad Request close";
    let old = "426 Upgrade Required close";
    let line = |line: &str| format!("{line}\r\nhost: a\r\nconnection: close\r\n\r\n");
    let mut cases: Vec<Case> = Vec::new();
    for accepted in [
        "GET\t/ HTTP/1.1",
        "GET /\tHTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / HTTP/1.1\t",
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET \t / \t HTTP/1.1 \t ",
        "GET\r/ HTTP/1.1",
        "GET / HTTP/1.1\r",
    ] {
        cases.push(case(line(accepted), "200 hello close"));
    }
    cases.push(case(line("GET   /up   HTTP/1.1   "), "200 close"));
    cases.push(case(line("CONNECT\ta:80  HTTP/1.1"), "404 close"));
    cases.push(case(line("OPTIONS *\tHTTP/1.1"), "404 close"));
    for refused in [
        " GET / HTTP/1.1",
        "\tGET / HTTP/1.1",
        "GET",
        "GET ",
        "GET /up\tx HTTP/1.1",
        "GET / HTTP/1.1 HTTP/1.1",
        "GET /\rup HTTP/1.1",
        "GET / HTTP/1.1\rx",
        "GET / http/1.1",
        "GET / HTTP/1.10",
        "GET\u{b}/ HTTP/1.1",
        "GET /\u{c}HTTP/1.1",
        "GET /\0HTTP/1.1",
    ] {
        cases.push(case(line(refused), bad));
    }
    for other in ["GET /", "GET / ", "GET / HTTP/1.0 ", "GET /  HTTP/1.2"] {
        cases.push(case(line(other), old));
    }
    assert_answers(&cases);
}

#[test]
fn lines_of_a_header_are_joined_on_all_hosts() {
    let bad = "400 Bad Request close";
    let cases = [
        case(post("/", "x-a: b\r\n folded\r\n\tagain\r\n \r\n", ""), "200 hello close"),
        case(post("/", "x-a: b\rc\r\n", ""), "200 hello close"),
        case(post("/up", "content-length:\r\n 3\r\n", "abc"), "200 abc close"),
        case(post("/up", "content-length: 3\r\n 3\r\n", "abc"), bad),
        case("GET / HTTP/1.1\r\n host: a\r\n\r\n", bad),
        case(post("/", "x-a: b\r\n c\u{1}\r\n", ""), bad),
    ];
    assert_answers(&cases);
}

#[test]
fn a_malformed_body_is_answered_on_all_hosts() {
    let bad = "400 Bad Request close";
    let chunked = |chunks: &str| post("/up", "transfer-encoding: chunked\r\n", chunks);
    let cases = ["zz\r\nabc\r\n0\r\n\r\n", "-3\r\nabc\r\n0\r\n\r\n", "0x3\r\nabc\r\n0\r\n\r\n", "3\nabc\n0\n\n"];
    assert_answers(&cases.map(|chunks| case(chunked(chunks), bad)));
}
