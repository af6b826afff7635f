//! Raw bytes of HTTP/1 on the harness and on real Envoys: answers to requests, and ends of connections.

#![allow(clippy::expect_used, clippy::panic, reason = "a fixture that cannot do its work fails the test")]

#[path = "../support/mod.rs"]
mod support;

mod ends;
mod expect;
mod forwarded;
mod framing;
mod http2;
mod refused;
mod slow;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use support::{Kind, Proxy, Scenario, cluster, mirror_server};

/// Routes: `/up` to an upstream, all other paths to a direct response.
const ROUTES: &str = r#"- {match: {prefix: "/up"}, route: {cluster: up, timeout: 20s}}
- {match: {prefix: "/"}, direct_response: {status: 200, body: {inline_string: "hello"}}}"#;

/// Bytes that a client sends, and the answers that it gets before the connection ends.
struct Case {
    sent: Vec<u8>,
    answers: &'static str,
}

fn case(sent: impl Into<Vec<u8>>, answers: &'static str) -> Case {
    Case { sent: sent.into(), answers }
}

fn start(kind: &Kind) -> Proxy {
    let scenario = Scenario {
        filters: String::new(),
        routes: ROUTES.to_owned(),
        clusters: cluster("up", mirror_server(), "http1"),
        ..Scenario::default()
    };
    scenario.start_on(kind).unwrap_or_else(|error| panic!("{error:?}"))
}

/// Asserts that each case has its answers on the embedded host and on each Envoy.
fn assert_answers(cases: &[Case]) {
    let envoys = support::envoys().into_iter();
    let mut different = Vec::new();
    for (host, kind) in [("the harness", Kind::Embedded)].into_iter().chain(envoys) {
        let proxy = start(&kind);
        // Envoy closes a connection only 1 s after its answer: the cases run side by side.
        let received: Vec<String> = std::thread::scope(|scope| {
            let clients = cases.iter().map(|case| scope.spawn(|| answers_to(connect(&proxy), &case.sent)));
            let clients: Vec<_> = clients.collect();
            clients.into_iter().map(|client| client.join().expect("no panic")).collect()
        });
        for (Case { sent, answers }, received) in cases.iter().zip(received) {
            if received != *answers {
                let start = sent.get(..200).unwrap_or(sent).escape_ascii();
                different.push(format!("{host}: {start}\n  expected {answers}\n  received {received}"));
            }
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
    stream
}

/// Sends bytes in one piece, reads until the connection ends, and returns the answers in words.
fn answers_to(mut stream: impl Read + Write, sent: &[u8]) -> String {
    // A host that has answered may read no more.
    let _ = stream.write_all(sent);
    let _ = stream.flush();
    let (mut received, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    let end = loop {
        match stream.read(&mut buffer) {
            Ok(0) => break "",
            Ok(count) => received.extend_from_slice(&buffer[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof) => break "",
            Err(_) => break ", open",
        }
    };
    format!("{}{end}", in_words(&received))
}

/// Returns responses in words: status, body if it is short, and whether the connection is to close.
fn in_words(mut received: &[u8]) -> String {
    let mut answers = Vec::new();
    while let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&received[..end]).to_lowercase();
        let status = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        let rest = &received[end + 4..];
        let (body, after) = rest.split_at(rest.len().min(length));
        // The mirrored request has headers that differ from host to host: its body is compared.
        let text = String::from_utf8_lossy(body);
        let text = text.split_once("\r\n\r\n").map_or(text.as_ref(), |(_, body)| body);
        let close = head.lines().any(|line| line == "connection: close");
        let parts = [status.as_str(), text, if close { "close" } else { "" }];
        answers.push(parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" "));
        received = after;
    }
    if !received.is_empty() {
        answers.push(format!("{} bytes that are no response", received.len()));
    }
    answers.join(", ")
}
