//! Responses of upstreams whose framing is unusual: none is passed on in another form than Envoy's.

use std::io::{Read, Write};
use std::net::SocketAddr;

use super::connect;
use super::support::{Kind, Scenario, cluster, envoys, tcp_server};

/// Responses, by the path of their request.
const RESPONSES: &[(&str, &str)] = &[
    ("/both", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    ("/two", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok"),
    ("/other", "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nok"),
    ("/twice", "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    ("/case", "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    ("/short", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"),
    ("/cut", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc"),
];

/// Starts a server that sends the response for the path and closes the connection; for a number, one of that status.
fn upstream() -> SocketAddr {
    tcp_server(|mut stream| {
        let (mut received, mut buffer) = (String::new(), [0; 4096]);
        while !received.contains("\r\n\r\n") {
            let Ok(count @ 1..) = stream.read(&mut buffer) else { return };
            received.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        let path = received.split(' ').nth(1).unwrap_or_default();
        let known = RESPONSES.iter().find(|(known, _)| *known == path);
        let status = path.trim_start_matches('/');
        let response = known.map_or_else(
            || format!("HTTP/1.1 {status} Other Words\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
            |(_, response)| (*response).to_owned(),
        );
        let _ = stream.write_all(response.as_bytes());
    })
}

/// Returns the responses to these paths, without the headers that differ from run to run.
fn responses(kind: &Kind, paths: &[String]) -> Vec<String> {
    let scenario = Scenario {
        filters: String::new(),
        routes: r#"- {match: {prefix: "/"}, route: {cluster: up}}"#.to_owned(),
        clusters: cluster("up", upstream(), "http1"),
        ..Scenario::default()
    };
    let proxy = scenario.start_on(kind).unwrap_or_else(|error| panic!("{error:?}"));
    let responses = paths.iter().map(|path| {
        let mut stream = connect(&proxy);
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut received = Vec::new();
        stream.read_to_end(&mut received).expect("a response");
        let received = String::from_utf8_lossy(&received).into_owned();
        let (head, body) = received.split_once("\r\n\r\n").unwrap_or((&received, "(no body)"));
        let differs = |line: &&str| !["date: ", "server: ", "x-envoy-"].iter().any(|name| line.starts_with(name));
        let mut lines: Vec<&str> = head.lines().filter(differs).collect();
        lines.sort_unstable();
        format!("{}\n{body}", lines.join("\n"))
    });
    responses.collect()
}

fn assert_equal(paths: &[String]) {
    let embedded = responses(&Kind::Embedded, paths);
    for (version, kind) in envoys() {
        for ((path, ours), theirs) in paths.iter().zip(&embedded).zip(responses(&kind, paths)) {
            assert_eq!(*ours, theirs, "the harness, then Envoy {version}: {path}");
        }
    }
}

#[test]
fn responses_with_two_lengths_are_refused_and_parts_of_a_body_are_passed_on() {
    let paths: Vec<String> = RESPONSES.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_equal(&paths);
}

#[test]
fn each_status_has_the_words_of_envoy() {
    // A response 304 loses its length, as docs/src/serve.md says.
    let statuses = (200..600).filter(|status| *status != 304);
    assert_equal(&statuses.map(|status| format!("/{status}")).collect::<Vec<_>>());
}
