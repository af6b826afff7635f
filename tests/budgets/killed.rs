//! `kill -9` of a proxy with requests in flight: each budget is charged as `on_lost` says, and nothing else changes.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use weir::mesh::MeshBuilder;
use weir::{HostKind, Mesh, Provider};
use weir_harness::serving::Serving;
use weir_host::scenario::Scenario;
use weir_provision::Reaper;
use weir_provision::envoy::{EnvoyOptions, EnvoyServer};

use crate::budgets;
use crate::spent::{Budget, budget, charged, key_of, ledger};

/// Limits, by their `on_lost`.
const LIMITS: [&str; 3] = ["estimate", "input", "refund"];
const LEASE: Duration = Duration::from_secs(2);
/// Tokens of each request's estimate, and those of them that are its own.
const ESTIMATE: u64 = 70;
const INPUT: u64 = 20;
/// Requests in flight at the proxy that is killed, and at the other one.
const LOST: u64 = 10;
const OTHERS: u64 = 3;
const SOON: Duration = Duration::from_secs(30);
/// Bootstrap of the child process.
const BOOTSTRAP: &str = "WEIR_BUDGETS_BOOTSTRAP";

weir::on_both_hosts! {
    a_proxy_that_is_killed_leaves_what_its_requests_had_reserved_and_nothing_else
}

/// Proxy in a process of its own. Dropping it ends the process.
enum Victim {
    Envoy(EnvoyServer, SocketAddr),
    Child(Child, SocketAddr, #[expect(dead_code, reason = "ends the child if this process dies")] Option<Reaper>),
}

fn mesh(host: HostKind, provider: &Provider) -> MeshBuilder {
    budgets(host, "envoy/quickstart.yaml", provider).configure(|filter| {
        let limit = |on_lost: &&str| {
            let output = json!({"default": ESTIMATE - INPUT, "json_pointers": []});
            let reserve = json!({"input": INPUT, "output": output, "lease": format!("{}s", LEASE.as_secs()),
                "on_lost": on_lost});
            json!({"name": on_lost, "descriptor": [{"request_header": {"name": "x-user-id"}}],
                "charge": "total_tokens", "reserve": reserve, "quota": {"max_tokens": 100_000, "unit": "year"}})
        };
        filter["limits"] = LIMITS.iter().map(limit).collect();
        filter["events"] = json!({"usage": true, "max_len": 100_000});
    })
}

async fn a_proxy_that_is_killed_leaves_what_its_requests_had_reserved_and_nothing_else(host: HostKind) {
    let provider = Provider::start().await;
    let Some(mesh) = mesh(host, &provider).start().await else { return };
    let mut victim = Victim::start(host, mesh.scenario()).await;
    ask(&mesh, "alice", 3, 4).await;
    ask(&mesh, "bob", 5, 6).await;
    let _in_flight = begin(victim.ingress(), "hang", LOST).await;
    let _others = begin(mesh.ingress()[0], "gated", OTHERS).await;
    {
        let all = Budget { used: 7, held: (LOST + OTHERS) * ESTIMATE, open: 13, lost: 0 };
        until(&mesh, |each| each.iter().all(|it| *it == all)).await;
        tokio::task::block_in_place(|| victim.kill());
        let each = LIMITS.map(|limit| budget(&mesh, limit, "alice"));
        assert_eq!(each, [all; 3], "nothing changes by the kill");
    }
    // What is in flight elsewhere is settled exactly, and what was lost is swept with a request after the lease.
    provider.open_gate();
    tokio::time::sleep(LEASE).await;
    let used = 7 + OTHERS * 30;
    let lost = [ESTIMATE, INPUT, 0].map(|each| LOST * each);
    let deadline = Instant::now() + SOON;
    let mut asked = 0;
    loop {
        ask(&mesh, "alice", 1, 1).await;
        asked += 2;
        let each = LIMITS.map(|limit| budget(&mesh, limit, "alice"));
        let expected = lost.map(|lost| Budget { used: used + lost + asked, held: 0, open: 0, lost: 10 });
        if each == expected {
            break;
        }
        assert!(Instant::now() < deadline, "expected {expected:?}, found {each:?}");
    }
    // Nobody settles what is lost.
    tokio::time::sleep(LEASE).await;
    ask(&mesh, "alice", 1, 1).await;
    asked += 2;
    let expected = lost.map(|lost| Budget { used: used + lost + asked, held: 0, open: 0, lost: 10 });
    until(&mesh, |each| *each == expected).await;
    assert_eq!(budget(&mesh, "estimate", "bob"), Budget { used: 11, ..Budget::default() });
    let entries = ledger(&mesh);
    for (limit, expected) in LIMITS.iter().zip(expected) {
        let key = key_of(&mesh, limit, "alice").unwrap();
        let of_lost = entries.iter().filter(|entry| entry["source"] == "lost" && entry["key"] == key).count();
        assert_eq!((of_lost, charged(&entries, &key)), (10, expected.used), "{limit}");
    }
    mesh.counts("weir_usage_late", 0).await;
    println!(
        "{host:?}: {LOST} requests in flight at a proxy that is killed: {lost:?} charged by {LIMITS:?}, {} for the \
         others, as in the ledger",
        used + asked
    );
}

impl Victim {
    async fn start(host: HostKind, scenario: &Scenario) -> Self {
        if host == HostKind::Envoy {
            let options = EnvoyOptions { concurrency: 2, ..EnvoyOptions::new(scenario.to_yaml()) };
            let envoy = tokio::task::block_in_place(|| EnvoyServer::start(options)).expect("Envoy starts");
            let ingress = envoy.listener("ingress").expect("a listener");
            return Self::Envoy(envoy, ingress);
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), scenario.to_yaml()).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["killed::serves_a_bootstrap", "--exact", "--ignored", "--nocapture"]).env(BOOTSTRAP, file.path());
        let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
        let reaper = Reaper::of(child.id());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ingress = lines.find_map(|line| line.ok()?.split_once("ingress: ")?.1.parse().ok());
        Self::Child(child, ingress.expect("the address"), reaper)
    }

    fn ingress(&self) -> SocketAddr {
        match self {
            Self::Envoy(_, ingress) | Self::Child(_, ingress, _) => *ingress,
        }
    }

    fn kill(&mut self) {
        match self {
            Self::Envoy(envoy, _) => envoy.kill(),
            Self::Child(child, ..) => {
                child.kill().unwrap();
                child.wait().unwrap();
            }
        }
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        if let Self::Child(child, ..) = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Child process of the test: the embedded host, until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "serves until it is killed"]
async fn serves_a_bootstrap() {
    let Some(file) = std::env::var_os(BOOTSTRAP) else { return };
    let scenario = Scenario::load(file).unwrap();
    let host = Serving::start(HostKind::Embedded, &scenario, 2).await.unwrap();
    println!("\ningress: {}", host.listener("ingress").unwrap());
    std::future::pending::<()>().await;
}

/// Asks for a response that tells these tokens.
async fn ask(mesh: &Mesh, user: &str, input: u64, output: u64) {
    let ask = mesh.ask("/v1/chat/completions").method(Method::POST).user(user).header("x-answer", "stream");
    let ask = ask.header("x-input", input.to_string()).header("x-output", output.to_string());
    ask.body(r#"{"model": "gpt-4o-mini"}"#).send().await.admitted();
}

/// Sends requests that tell 20 and 10 tokens, and keeps their connections.
async fn begin(ingress: SocketAddr, kind: &str, count: u64) -> Vec<TcpStream> {
    let body = r#"{"model": "gpt-4o-mini"}"#;
    let head = format!(
        "POST / HTTP/1.1\r\nhost: weir\r\nx-user-id: alice\r\nx-answer: {kind}\r\nx-input: 20\r\nx-output: 10\r\n\
        content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = TcpStream::connect(ingress).await.unwrap();
        client.write_all(head.as_bytes()).await.unwrap();
        clients.push(client);
    }
    clients
}

/// Waits until alice's budgets are as expected.
async fn until(mesh: &Mesh, holds: impl Fn(&[Budget; 3]) -> bool) {
    let deadline = Instant::now() + SOON;
    loop {
        let each = LIMITS.map(|limit| budget(mesh, limit, "alice"));
        if holds(&each) {
            return;
        }
        assert!(Instant::now() < deadline, "{each:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
