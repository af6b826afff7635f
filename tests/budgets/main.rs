//! Budgets of tokens and of money, on both hosts, against a provider that tells usage in every way.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weir::mesh::MeshBuilder;
use weir::{Answer, HostKind, Mesh, Provider};

weir::on_both_hosts! {
    the_access_log_has_the_usage_of_each_response
}

const MANAGER: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
const FILE: &str = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog";
/// Maximum that requests state.
const MAX_TOKENS: u64 = 100;

/// Builds a mesh with a budget of tokens and one of money for each user, in front of the provider.
fn budgets(host: HostKind, scenario: &str, provider: &Provider) -> MeshBuilder {
    let mesh = Mesh::on(host, scenario).patient().that_sees_bodies().configure(|filter| {
        let descriptor = json!([{"request_header": {"name": "x-user-id"}}]);
        // 1 token for each of the 30 bytes.
        let reserve = json!({"input": {"request_body_bytes": {"bytes_per_token": 1}}});
        filter["request_body"] = json!({"timeout": "10s"});
        filter["usage"] = json!({"prices": [{"model": {"prefix": "gpt-4o"}, "input": 0.15, "output": 0.6}]});
        filter["limits"] = json!([
            {"name": "tokens", "descriptor": descriptor, "charge": "total_tokens", "reserve": reserve,
                "fixed_window": {"max_tokens": 100_000, "window": "86400s"}},
            {"name": "money", "descriptor": descriptor, "charge": "cost", "reserve": reserve,
                "quota": {"max_usd": 10, "unit": "month"}},
        ]);
    });
    mesh.edit(|bootstrap| provider.serve_all(bootstrap))
}

/// Asks for a response of a kind that tells these tokens.
async fn ask(mesh: &Mesh, user: &str, kind: &str, input: u64, output: u64) -> Answer {
    let body = json!({"model": "gpt-4o-mini", "max_tokens": MAX_TOKENS}).to_string();
    let ask = mesh.ask("/v1/chat/completions").method(Method::POST).user(user).header("x-answer", kind);
    let ask = ask.header("x-input", input.to_string()).header("x-output", output.to_string());
    ask.header("content-type", "application/json").header("accept-encoding", "gzip").body(&body).send().await
}

/// Asks for a response of this kind, and leaves once its head has come and `after` has passed.
async fn leave(mesh: &Mesh, user: &str, kind: &str, after: Duration) {
    let mut client = TcpStream::connect(mesh.ingress()[0]).await.unwrap();
    let body = json!({"model": "gpt-4o-mini", "max_tokens": MAX_TOKENS}).to_string();
    let head = format!(
        "POST / HTTP/1.1\r\nhost: weir\r\nx-user-id: {user}\r\nx-answer: {kind}\r\nx-input: 7\r\nx-output: 9\r\n\
        content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    client.write_all(head.as_bytes()).await.unwrap();
    let mut buffer = [0; 4_096];
    assert!(client.read(&mut buffer).await.unwrap() > 0);
    tokio::time::sleep(after).await;
}

async fn the_access_log_has_the_usage_of_each_response(host: HostKind) {
    let (folder, provider) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let file = folder.path().join("access.log");
    let mesh = budgets(host, "envoy/access-log.yaml", &provider).edit(|bootstrap| log_to(&file, bootstrap));
    let Some(mesh) = mesh.start().await else { return };
    let body = json!({"model": "gpt-4o-mini", "max_tokens": MAX_TOKENS}).to_string().len();
    let estimated = format!("{body}/100/{}/estimate", body * 150 + 60_000);
    let mut expected = Vec::new();
    for (kind, log) in [
        ("json", "11/22/14850/usage"),
        ("stream", "11/22/14850/usage"),
        ("headers", "11/22/14850/usage"),
        ("missing", &estimated),
        ("gzip", &estimated),
        ("error", "0/0/0/zero"),
        // 48 bytes of text, as it is escaped.
        ("failed", &format!("{body}/12/{}/seen", body * 150 + 7_200)),
    ] {
        let answer = ask(&mesh, "alice", kind, 11, 22).await;
        let seen = provider.seen();
        assert_eq!(answer.body, seen.response, "{kind}: the body passes unchanged");
        assert!(!seen.head.contains("accept-encoding"), "{kind}: {}", seen.head);
        expected.push(format!("{} {log}", answer.status));
    }
    // A local reply.
    let unknown = mesh.ask("/").method(Method::POST).user("alice").body(r#"{"model": "unknown"}"#).send().await;
    assert_eq!((unknown.status, unknown.body.as_str()), (400, "expected a model with a price\n"));
    expected.push("400 -/-/-/-".to_owned());
    assert_eq!(lines(&mesh, &file, expected.len()), expected);
}

/// Changes the first access log to a file log of usage.
fn log_to(file: &Path, bootstrap: &mut Value) {
    let log = bootstrap.pointer_mut(&format!("{MANAGER}/access_log/0/typed_config")).expect("an access log");
    let state = |name: &str| format!("%FILTER_STATE(wasm.weir.{name}:PLAIN)%");
    let format = ["input_tokens", "output_tokens", "cost_nano_usd", "usage_source"].map(state).join("/");
    let format = format!("%RESPONSE_CODE% {format}\n");
    *log = json!({"@type": FILE, "path": file.display().to_string(),
        "log_format": {"text_format_source": {"inline_string": format}}});
}

/// Stops Envoy, waits for `count` lines in the log, and returns them. Envoy buffers lines for seconds and writes them
/// when it exits.
fn lines(mesh: &Mesh, file: &Path, count: usize) -> Vec<String> {
    mesh.hosts().iter().filter_map(|host| host.envoy()).for_each(|envoy| envoy.stop());
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let text = fs::read_to_string(file).unwrap_or_default();
        if text.ends_with('\n') && text.lines().count() >= count {
            return text.lines().map(str::to_owned).collect();
        }
        assert!(Instant::now() < deadline, "expected {count} lines, found:\n{text}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
