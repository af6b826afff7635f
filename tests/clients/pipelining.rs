//! Pipelined requests over HTTP/1.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use weir::{HostKind, Mesh};

use crate::QUICKSTART;

const TOKENS: u64 = 40;
/// Requests of each of two users.
const REQUESTS: u64 = 60;

weir::on_both_hosts! {
    pipelined_requests_are_decided_and_answered_in_their_order
}

/// Two users take turns on one connection, and all requests are sent before any is answered.
async fn pipelined_requests_are_decided_and_answered_in_their_order(host: HostKind) {
    for scenario in [QUICKSTART, "envoy/callout.yaml"] {
        let mesh = Mesh::on(host, scenario).patient().workers(1).bucket(TOKENS, 1, "86400s");
        // Redis decides each request. Envoy closes a connection after two pipelined requests that are answered at once,
        // as those of its own filter `local_ratelimit` are.
        let mesh = mesh.configure(|filter| filter["deny_cache"] = json!({"max_entries": 0}));
        let Some(mesh) = mesh.start().await else { return };
        let last = 2 * REQUESTS - 1;
        let request = |nth: u64| {
            let (user, end) =
                (["alice", "bob"][nth as usize % 2], if nth == last { "connection: close\r\n" } else { "" });
            format!("GET / HTTP/1.1\r\nhost: weir\r\nx-user-id: {user}\r\n{end}\r\n")
        };
        let mut connection = TcpStream::connect(mesh.ingress()[0]).await.unwrap();
        connection.write_all((0..=last).map(request).collect::<String>().as_bytes()).await.unwrap();
        let mut responses = String::new();
        timeout(Duration::from_secs(60), connection.read_to_string(&mut responses)).await.unwrap().unwrap();

        let decisions: Vec<(&str, Option<u64>)> = responses.split("HTTP/1.1 ").skip(1).map(decision).collect();
        let expected = (0..=last).map(|nth| match TOKENS.checked_sub(nth / 2 + 1) {
            Some(left) => ("200", Some(left)),
            None => ("429", Some(0)),
        });
        assert_eq!(decisions, expected.collect::<Vec<_>>(), "{scenario}");
    }
}

/// The status of a response and its remaining tokens.
fn decision(response: &str) -> (&str, Option<u64>) {
    let remaining = response.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        if name.eq_ignore_ascii_case("x-ratelimit-remaining") { value.trim().parse().ok() } else { None }
    });
    (&response[..3], remaining)
}
