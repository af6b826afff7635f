//! Requests that Envoy refuses: the harness refuses them with the same status, body and end of the connection.

use super::{Case, assert_answers, case};

const BAD: &str = "400 Bad Request close";
const UNKNOWN_ENCODING: &str = "501 Not Implemented close";
const TOO_LARGE: &str = "431 Request Header Fields Too Large close";

/// Returns a request to the upstream with header lines, and a body that is both three bytes in chunks and more.
fn post(headers: &str) -> String {
    format!("POST /up HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
}

fn get(target: &str, more: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{more}\r\n")
}

#[test]
fn a_request_with_two_lengths_of_its_body_is_refused_on_all_hosts() {
    let mut cases = vec![
        case(post("content-length: 3\r\ntransfer-encoding: chunked"), BAD),
        case(post("transfer-encoding: chunked\r\ncontent-length: 3"), BAD),
        case(post("transfer-encoding: chunked\r\ncontent-length: 0"), BAD),
        case(post("transfer-encoding: gzip\r\ncontent-length: 3"), BAD),
        case(post("content-length: 3\r\ncontent-length: 3"), BAD),
        case(post("content-length: 3\r\ncontent-length: 4"), BAD),
    ];
    for length in ["3, 3", "+3", "", "-3", "0x3", "three", "99999999999999999999999"] {
        cases.push(case(post(&format!("content-length: {length}")), BAD));
    }
    for encoding in ["gzip", "gzip, chunked", "chunked, gzip", "identity", "chunked, chunked", "", "xchunked"] {
        cases.push(case(post(&format!("transfer-encoding: {encoding}")), UNKNOWN_ENCODING));
    }
    for encodings in ["chunked\r\ntransfer-encoding: chunked", "gzip\r\ntransfer-encoding: chunked"] {
        cases.push(case(post(&format!("transfer-encoding: {encodings}")), UNKNOWN_ENCODING));
    }
    // The mirror sends the chunks back as they are.
    cases.push(case(post("transfer-encoding: Chunked"), "200 3\r\nabc\r\n0\r\n\r\n close"));
    cases.push(case(post("content-length: 03"), "200 3\r\n close"));
    assert_answers(&cases);
}

#[test]
fn a_target_that_is_no_path_is_refused_on_all_hosts() {
    let mut cases = vec![
        case(get("/up%23b", ""), "200 close"),
        case(get("http://b/up", ""), "200 close"),
        case("OPTIONS * HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", "404 close"),
    ];
    for fragment in ["/up#b", "/up?q#b", "http://a/up#b"] {
        cases.push(case(get(fragment, ""), "400 close"));
    }
    for target in ["#b", "*", "up", "ftp://b/up", "/up\u{e9}", "/up\u{1}", "/up\0", "/up x"] {
        cases.push(case(get(target, ""), BAD));
    }
    for url in ["http://b:8?x", "http://u:p@b/up", "HTTP://[::1]:80/up"] {
        cases.push(case(get(url, ""), if url.contains('?') { "404 close" } else { "200 close" }));
    }
    for url in ["http://b:99999/up", "http://b:/up", "http://a@@b/up", "http://[::1/up", "http:///up", "http://b_c/up"]
    {
        cases.push(case(get(url, ""), BAD));
    }
    for target in ["a:80", "[::1]:80"] {
        cases.push(case(format!("CONNECT {target} HTTP/1.1\r\nhost: a:80\r\n\r\n"), "404 close"));
        cases.push(case(format!("CONNECT {target} HTTP/1.1\r\nhost: a:80\r\n\r\nsome bytes"), "404 close"));
    }
    for target in ["/x", "a", "a:b", "a:99999", ":80", "http://a/", "u@a:80"] {
        cases.push(case(format!("CONNECT {target} HTTP/1.1\r\nhost: a:80\r\n\r\n"), BAD));
    }
    for (more, answer) in [("transfer-encoding: chunked", UNKNOWN_ENCODING), ("content-length: 3", BAD)] {
        cases.push(case(format!("CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n{more}\r\n\r\nabc"), answer));
    }
    assert_answers(&cases);
}

#[test]
fn a_head_of_more_than_60_kib_or_100_headers_is_refused_on_all_hosts() {
    let of_length = |length: usize| {
        let empty = get("/", "x-a: \r\n").len();
        get("/", &format!("x-a: {}\r\n", "v".repeat(length - empty)))
    };
    let of_headers = |count: usize| get("/", &"x-a: b\r\n".repeat(count - 2));
    let endless = format!("GET / HTTP/1.1\r\nhost: a\r\nx-a: {}", "v".repeat(61 * 1024));
    let cases: [Case; 7] = [
        case(of_length(60 * 1024), "200 hello close"),
        case(of_length(60 * 1024 + 1), TOO_LARGE),
        case(of_length(200 * 1024), TOO_LARGE),
        case(get(&format!("/{}", "p".repeat(61 * 1024)), ""), TOO_LARGE),
        case(endless, TOO_LARGE),
        case(of_headers(100), "200 hello close"),
        case(of_headers(101), TOO_LARGE),
    ];
    assert_answers(&cases);
}

#[test]
fn what_is_no_request_is_refused_on_all_hosts() {
    let old = "426 Upgrade Required close";
    let mut cases = vec![
        case("garbage\r\n\r\n", BAD),
        case("get / HTTP/1.1\r\nhost: a\r\n\r\n", BAD),
        case("BREW / HTTP/1.1\r\nhost: a\r\n\r\n", BAD),
        case("GET / HTTP/1.0\r\nhost: a\r\n\r\n", old),
        case("GET / HTTP/1.2\r\nhost: a\r\n\r\n", old),
        case("GET / HTTP/2.0\r\nhost: a\r\n\r\n", old),
        case("GET / FOO/1.1\r\nhost: a\r\n\r\n", BAD),
        case("GET / HTTP/1.1\r\n\r\n", "400 close"),
        case("\r\n\r\nGET / HTTP/1.1\nhost: a\nconnection: close\n\n", "200 hello close"),
        // What was answered before stays answered.
        case("GET / HTTP/1.1\r\nhost: a\r\n\r\ngarbage\r\n\r\n", "200 hello, 400 Bad Request close"),
        // Clients of other protocols: TLS, SSH, Redis. They wait for an answer.
        case("\x16\x03\x01\x02", BAD),
        case("SSH-2.0-x\r\n", BAD),
        case("*1\r\n$4\r\nPING\r\n", BAD),
        case(
            "POST /up HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabcdef\r\n\r\n",
            "200 abc, 400 Bad Request close",
        ),
    ];
    for line in
        ["x-a: b\0c", "x-a: b\u{1b}c", "x-a: b\u{7f}c", "x a: b", "x-a : b", ": b", "x\u{e9}: b", "x(: b", "x-a"]
    {
        cases.push(case(get("/", &format!("{line}\r\n")), BAD));
    }
    for host in ["a b", "a/b", "a\"b", "a{b}", "a#b", "\u{e9}"] {
        cases.push(case(format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"), BAD));
    }
    for host in ["", "u@a", "[::1]:80", "a%20", "a_b~!$&'()*+,;="] {
        let sent = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        cases.push(case(sent, "200 hello close"));
    }
    assert_answers(&cases);
}
