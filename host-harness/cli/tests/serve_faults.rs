//! `weir serve --fault`: faults of the command line, with a real Redis.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use hyper::header::HeaderMap;
use weir_host::scenario::Scenario;
use weir_provision::client::Client;
use weir_provision::redis::{RedisOptions, RedisServer};
use weir_provision::{checkout, envoy, filter_wasm, or_skip};

const REQUESTS: usize = 30;

/// Serves `envoy/callout.yaml` with faults, and returns the statuses of requests, one user each, and the last lines.
async fn statuses(faults: &[&str]) -> Option<(Vec<u16>, String)> {
    let redis = or_skip(RedisServer::start(RedisOptions::default()))?;
    let wasm = or_skip(filter_wasm::find_or_build())?;
    let mut scenario = Scenario::load(checkout::root().unwrap().join("envoy/callout.yaml")).unwrap();
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    scenario.listener("ingress", any_port).unwrap().admin(any_port).unwrap().wasm(&wasm).unwrap();
    scenario.endpoint("redis", redis.addr()).unwrap();
    let configure = |filter: &mut serde_json::Value| {
        filter["failure_mode"] = "deny".into();
        filter["redis"]["timeout"] = "5s".into();
        filter["overrides"] = serde_json::json!({"enabled": false});
    };
    scenario.filter_configuration(configure).unwrap();
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(file.path(), scenario.to_yaml()).unwrap();
    let mut weir = Command::new(env!("CARGO_BIN_EXE_weir"));
    weir.arg("serve").arg(file.path()).args(faults).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut serving = weir.spawn().unwrap();
    let mut output = BufReader::new(serving.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    let address = line.trim().rsplit("http://").next().unwrap().parse().expect("the listener's address");
    let mut client = Client::new(address, Duration::from_secs(20));
    let mut statuses = Vec::new();
    for nth in 0..REQUESTS {
        let mut headers = HeaderMap::new();
        headers.insert("x-user-id", format!("user-{nth}").parse().unwrap());
        statuses.push(client.get("/", &headers).await.unwrap().status);
    }
    let id = serving.id().to_string();
    assert!(Command::new("kill").arg(id).status().unwrap().success());
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert!(serving.wait().unwrap().success());
    Some((statuses, rest))
}

#[tokio::test]
async fn a_seed_repeats_a_run_and_another_differs() {
    let fault = "redis: lose-reply p=0.4";
    let Some((first, summary)) = statuses(&["--fault", fault, "--seed", "7"]).await else { return };
    assert!(first.contains(&200) && first.contains(&503), "{first:?}");
    let struck = first.iter().filter(|status| **status == 503).count();
    assert!(summary.contains(&format!("faults of cluster `redis`: lose-reply {struck}")), "{struck} in {summary}");
    assert_eq!(first, statuses(&["--fault", fault, "--seed", "7"]).await.unwrap().0);
    assert_ne!(first, statuses(&["--fault", fault, "--seed", "8"]).await.unwrap().0);
}

#[tokio::test]
async fn refused_connections_are_counted() {
    let Some((statuses, summary)) = statuses(&["--fault", "redis: refuse"]).await else { return };
    assert!(statuses.iter().all(|status| *status == 503), "{statuses:?}");
    let refused = summary.split("faults of cluster `redis`: refuse ").nth(1).expect(&summary);
    assert!(refused.trim().parse::<u64>().unwrap() > 0, "{summary}");
}

/// The cluster of a real Envoy, whose file names it by a host name.
#[test]
fn a_real_envoy_meets_the_faults_too() {
    if or_skip(envoy::binary()).is_none() {
        return;
    }
    let upstream = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = upstream.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in upstream.incoming().flatten() {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
        }
    });
    let ingress = weir_provision::port::free_port().unwrap().release().port();
    let types = "type.googleapis.com/envoy.extensions.filters";
    let yaml = format!(
        "static_resources:\n  listeners:\n  - name: ingress\n    \
         address: {{socket_address: {{address: 127.0.0.1, port_value: {ingress}}}}}\n    \
         filter_chains: {{filters: {{name: a, typed_config: {{\"@type\": \
         {types}.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: a, \
         route_config: {{virtual_hosts: {{name: a, domains: '*', \
         routes: {{match: {{prefix: /}}, route: {{cluster: up}}}}}}}}, \
         http_filters: {{name: r, typed_config: {{\"@type\": {types}.http.router.v3.Router}}}}}}}}}}\n  \
         clusters: {{name: up, type: STRICT_DNS, dns_lookup_family: V4_ONLY, \
         load_assignment: {{cluster_name: up, endpoints: {{lb_endpoints: \
         {{endpoint: {{address: {{socket_address: {{address: localhost, port_value: {port}}}}}}}}}}}}}}}\n"
    );
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(file.path(), yaml).unwrap();
    let answered = |faults: &[&str]| {
        let mut weir = Command::new(env!("CARGO_BIN_EXE_weir"));
        weir.args(["serve", "--host", "envoy"]).arg(file.path()).args(faults);
        let mut serving = weir.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut output = BufReader::new(serving.stdout.take().unwrap());
        output.read_line(&mut String::new()).unwrap();
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", ingress)).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(Command::new("kill").arg(serving.id().to_string()).status().unwrap().success());
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        assert!(serving.wait().unwrap().success());
        (answer, rest)
    };
    let (answer, rest) = answered(&[]);
    assert!(answer.starts_with("HTTP/1.1 200 ") && rest.is_empty(), "{answer} {rest}");
    let (answer, rest) = answered(&["--fault", "up: reset"]);
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(rest.starts_with("faults of cluster `up`: reset "), "{rest}");
}

#[test]
fn a_seed_without_a_fault_is_refused() {
    let done = Command::new(env!("CARGO_BIN_EXE_weir")).args(["serve", "envoy.yaml", "--seed", "7"]).output().unwrap();
    let error = String::from_utf8(done.stderr).unwrap();
    assert!(!done.status.success() && error.contains("--fault <FAULT>"), "{error}");
}

#[test]
fn a_wrong_fault_is_refused_with_its_place() {
    let errors = |fault: &str| {
        let file = checkout::root().unwrap().join("envoy/quickstart.yaml");
        let mut weir = Command::new(env!("CARGO_BIN_EXE_weir"));
        let done = weir.arg("serve").arg(file).args(["--fault", fault]).output().unwrap();
        assert!(!done.status.success());
        String::from_utf8(done.stderr).unwrap()
    };
    let error = errors("redis: dely=20ms");
    assert!(error.contains("column 8: expected a fault: `delay=TIME`, `drop`,"), "{error}");
    let error = errors("rediss: drop");
    assert!(error.contains("no cluster `rediss` in ") && error.contains("; found redis"), "{error}");
}
