//! Bodies over HTTP/1, of clients and of upstreams: their parts and ends, and the framing that filters leave.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::hosts::{guest, log_of, turn};
use super::support::{Kind, Proxy, Scenario, becomes_true, cluster, envoys, filter, tcp_server};

/// Requests, each with its script: method, path, framing with body, script. The path names the framing of the response.
const REQUESTS: &[(&str, &str, &str, &str)] = &[
    ("GET", "/sized", "\r\n", ""),
    ("GET", "/chunked", "\r\n", ""),
    ("GET", "/parts", "\r\n", ""),
    ("GET", "/close", "\r\n", ""),
    ("GET", "/empty", "\r\n", ""),
    ("GET", "/none", "\r\n", ""),
    ("HEAD", "/sized", "\r\n", ""),
    ("POST", "/sized", SIZED, ""),
    ("POST", "/chunked", CHUNKED, ""),
    ("POST", "/sized", "content-length: 0\r\n\r\n", ""),
    ("POST", "/sized", "transfer-encoding: chunked\r\n\r\n0\r\n\r\n", ""),
    // Without their length, bodies are chunked.
    ("POST", "/sized", SIZED, "request_headers: remove 0 content-length"),
    ("GET", "/sized", "\r\n", "response_headers: remove 2 content-length"),
    ("GET", "/empty", "\r\n", "response_headers: remove 2 content-length"),
    ("GET", "/sized", "\r\n", "request_headers: reply 418 tea; return 1 | response_headers: remove 2 content-length"),
    // Bodies that a filter holds for good, changes or answers.
    ("POST", "/sized", SIZED, "request_body: return 1; buffer 0 0 100"),
    ("GET", "/sized", "\r\n", "response_body: return 2; buffer 1 0 100"),
    ("POST", "/sized", SIZED, "request_headers: remove 0 content-length | request_body: setbuffer 0 0 100 changed"),
    ("GET", "/sized", "\r\n", "response_headers: remove 2 content-length | response_body: setbuffer 1 0 100 changed"),
    ("POST", "/sized", SIZED, "request_body: reply 403 no"),
];

const SIZED: &str = "content-length: 4\r\n\r\nbody";
const CHUNKED: &str = "transfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n";

/// Starts a server that answers with the framing and the body of the request.
fn upstream() -> SocketAddr {
    tcp_server(|mut stream| {
        let (mut received, mut buffer) = (String::new(), [0; 4096]);
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            received.push_str(&String::from_utf8_lossy(&buffer[..count]));
            let Some((head, body)) = received.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            let is_chunked = head.contains("transfer-encoding: chunked");
            if is_chunked && !body.ends_with("0\r\n\r\n") || body.len() < length.unwrap_or(0) {
                continue;
            }
            let told = format!("length {length:?}, chunked {is_chunked}: {}", body.replace("\r\n", " "));
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let size = told.len();
            let sized = format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n");
            let chunked =
                format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{size:x}\r\n{told}\r\n0\r\n\r\n");
            let answer = match path.as_str() {
                "/sized" if head.starts_with("HEAD") => sized,
                "/sized" => sized + &told,
                "/parts" => {
                    stream.write_all(sized.as_bytes()).expect("sent");
                    // The proxy reads the body apart from the head.
                    std::thread::sleep(Duration::from_millis(200));
                    told
                }
                "/close" => format!("HTTP/1.1 200 OK\r\n\r\n{told}"),
                "/empty" => "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned(),
                "/none" => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
                _ => chunked,
            };
            let sent = stream.write_all(answer.as_bytes());
            if sent.is_err() || path == "/close" {
                return;
            }
            received.clear();
        }
    })
}

fn start(kind: &Kind) -> Proxy {
    let scenario = Scenario {
        module: Some(std::fs::read(guest()).expect("the guest")),
        filters: filter("script", ""),
        routes: r#"- {match: {prefix: "/"}, route: {cluster: up, timeout: 3s}}"#.to_owned(),
        clusters: cluster("up", upstream(), "http1"),
        ..Scenario::default()
    };
    scenario.start_on(kind).unwrap_or_else(|error| panic!("{error:?}"))
}

/// Sends the requests one after the other; returns the response and the guest's lines of each.
fn observe(kind: &Kind) -> Vec<Vec<String>> {
    let _turn = turn();
    let proxy = start(kind);
    let observed = REQUESTS.iter().map(|(method, path, rest, script)| {
        let seen = log_of(&proxy).len();
        let sent = format!("{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-script: {script}\r\n{rest}");
        let mut lines = answer(&proxy, &sent);
        let ended = becomes_true(|| log_of(&proxy).iter().skip(seen).any(|line| line.ends_with(": delete")));
        assert!(ended, "the stream ends: {sent}");
        lines.extend(log_of(&proxy).into_iter().skip(seen));
        lines
    });
    observed.collect()
}

/// Returns the lines of a response, without headers that change from one run to the next; headers are sorted.
fn answer(proxy: &Proxy, sent: &str) -> Vec<String> {
    let mut stream = TcpStream::connect(proxy.address()).expect("a connection");
    let is_held = sent.contains("_body: return");
    let within = Duration::from_secs(if is_held { 3 } else { 30 });
    stream.set_read_timeout(Some(within)).expect("a socket");
    stream.write_all(sent.as_bytes()).expect("sent");
    let mut received = Vec::new();
    let ended = stream.read_to_end(&mut received);
    if is_held {
        return vec![format!("a response has begun: {}", !received.is_empty())];
    }
    let received = String::from_utf8_lossy(&received).into_owned();
    assert!(ended.is_ok(), "the connection ends: {sent}\n{received}");
    let (head, body) = received.split_once("\r\n\r\n").expect("a response");
    let changes = |line: &str| ["date: ", "server: ", "x-envoy-"].iter().any(|name| line.starts_with(name));
    let mut lines: Vec<String> = head.lines().filter(|line| !changes(line)).map(str::to_owned).collect();
    lines.sort();
    // Sizes of chunks are hexadecimal in either case.
    lines.push(body.to_lowercase());
    lines
}

#[test]
fn bodies_over_http1_pass_the_filters_as_in_envoy() {
    let embedded = observe(&Kind::Embedded);
    let of_posted = &embedded[7];
    assert!(of_posted.iter().any(|line| line.ends_with("request_body 4 0")), "{of_posted:?}");
    for (version, kind) in envoys() {
        for ((ours, theirs), request) in embedded.iter().zip(observe(&kind)).zip(REQUESTS) {
            assert_eq!(*ours, theirs, "the harness, then Envoy {version}: {request:?}");
        }
    }
}
