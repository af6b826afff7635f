//! Access logs on both hosts, each in its own file: the JSON lines of `envoy/access-log.yaml`, and a text format.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use weir::{HostKind, Mesh};

weir::on_both_hosts! {
    the_log_has_the_decision_of_each_request
    a_text_format_expands_its_operators
    the_log_has_the_decision_of_each_of_a_thousand_requests_at_once
}

const MANAGER: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
const FILE: &str = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog";

async fn the_log_has_the_decision_of_each_request(host: HostKind) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    let mesh = Mesh::on(host, "envoy/access-log.yaml").patient().bucket(2, 1, "3600s");
    let Some(mesh) = mesh.edit(|bootstrap| log_to(&file, bootstrap)).start().await else { return };
    mesh.get("alice").await.admitted();
    mesh.get("alice").await.admitted();
    mesh.get("alice").await.denied();
    mesh.ask("/\"quoted\"?x=1").send().await.admitted();

    let lines: Vec<Value> = lines(&mesh, &file, 4).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let key_hash = weir_filter::descriptor::key_hash(format!("{}per_user:alice", mesh.key_prefix()).as_bytes());
    for (line, (decision, status, remaining)) in
        lines.iter().zip([("admitted", 200, "1"), ("admitted", 200, "0"), ("denied", 429, "0")])
    {
        assert_eq!(line["decision"], decision, "{line}");
        assert_eq!((&line["status"], &line["remaining"]), (&json!(status), &json!(remaining)), "{line}");
        assert_eq!((&line["limit"], &line["key_hash"]), (&json!("per_user"), &json!(key_hash)), "{line}");
        assert_eq!(
            (&line["method"], &line["path"], &line["client"]),
            (&json!("GET"), &json!("/"), &json!("127.0.0.1"))
        );
        assert!(
            line["duration_ms"].is_u64() && line["time"].as_str().is_some_and(|time| time.ends_with('Z')),
            "{line}"
        );
        let decided: u64 = line["redis_unix_time_us"].as_str().unwrap().parse().unwrap();
        let (now, _): (u64, u64) = redis::cmd("TIME").query(&mut mesh.redis_connection()).unwrap();
        assert!((now - 60..=now).contains(&(decided / 1_000_000)), "{line}");
        assert_eq!(line.get("retry_after_us").is_some(), decision == "denied", "{line}");
    }
    let wait: u64 = lines[2]["retry_after_us"].as_str().unwrap().parse().unwrap();
    assert!((3_500_000_000..=3_600_000_000).contains(&wait), "{wait}");
    let unlimited: Vec<&str> = lines[3].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        unlimited,
        ["client", "duration_ms", "method", "path", "status", "time"],
        "fields of a request that no limit applies to"
    );
    assert_eq!(lines[3]["path"], "/\"quoted\"?x=1");
}

/// 1,000 requests at once are more than one callback decides.
async fn the_log_has_the_decision_of_each_of_a_thousand_requests_at_once(host: HostKind) {
    const CROWD: usize = 1_000;
    const ROUNDS: usize = 3;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    let mesh = Mesh::on(host, "envoy/access-log.yaml").patient().workers(1).bucket(1, 1, "3600s");
    let Some(mesh) = mesh.edit(|bootstrap| log_to(&file, bootstrap)).start().await else { return };
    mesh.get("alice").await.admitted();
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        crowd.push(TcpStream::connect(mesh.ingress()[0]).await.unwrap());
    }
    for _ in 0..ROUNDS {
        for client in &mut crowd {
            client.write_all(b"GET / HTTP/1.1\r\nhost: weir\r\nx-user-id: alice\r\n\r\n").await.unwrap();
        }
        for client in &mut crowd {
            let (mut answer, mut buffer) = (Vec::new(), [0; 1024]);
            while !answer.ends_with(b"rate limited\n") {
                let size = timeout(Duration::from_secs(20), client.read(&mut buffer)).await.unwrap().unwrap();
                assert!(size > 0, "{}", answer.escape_ascii());
                answer.extend_from_slice(&buffer[..size]);
            }
        }
    }
    let lines = lines(&mesh, &file, 1 + ROUNDS * CROWD);
    let silent = lines.iter().skip(1).filter(|line| !line.contains(r#""decision":"denied""#)).count();
    assert_eq!(silent, 0, "of {} lines", lines.len());
}

async fn a_text_format_expands_its_operators(host: HostKind) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    let format = "%REQ(:METHOD)% %REQ(X-ORIGINAL?:PATH):6% %PROTOCOL% %RESPONSE_CODE% %RESPONSE_CODE_DETAILS% \
         %BYTES_RECEIVED%/%BYTES_SENT% %UPSTREAM_HOST% <%ROUTE_NAME%> %RESP(x-ratelimit-remaining)% %REQ(x-none)% 100%%\n";
    let mesh = Mesh::on(host, "envoy/access-log.yaml").patient().edit(|bootstrap| {
        log_to(&file, bootstrap);
        let log = bootstrap.pointer_mut(&format!("{MANAGER}/access_log/0/typed_config/log_format")).unwrap();
        *log = json!({"text_format_source": {"inline_string": format}});
        let route = bootstrap.pointer_mut(&format!("{MANAGER}/route_config/virtual_hosts/0/routes/0")).unwrap();
        route["name"] = "everything".into();
    });
    let Some(mesh) = mesh.start().await else { return };
    mesh.ask("/shop/cart").method(hyper::Method::DELETE).user("alice").send().await.admitted();
    assert_eq!(lines(&mesh, &file, 1), ["DELETE /shop/ HTTP/1.1 200 direct_response 0/6 - <everything> 19 - 100%"]);
}

/// Changes the first access log to a file log with the same format.
fn log_to(file: &Path, bootstrap: &mut Value) {
    let log = bootstrap.pointer_mut(&format!("{MANAGER}/access_log/0/typed_config")).expect("an access log");
    log["@type"] = FILE.into();
    log["path"] = file.display().to_string().into();
}

/// Stops Envoy, waits for `count` lines in the log, and returns them. Envoy buffers lines for seconds and writes them
/// when it exits.
fn lines(mesh: &Mesh, file: &Path, count: usize) -> Vec<String> {
    mesh.hosts().iter().filter_map(|host| host.envoy()).for_each(|envoy| envoy.stop());
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let text = fs::read_to_string(file).unwrap_or_default();
        if text.ends_with('\n') && text.lines().count() >= count {
            assert_eq!(text.lines().count(), count, "{text}");
            return text.lines().map(str::to_owned).collect();
        }
        assert!(Instant::now() < deadline, "expected {count} lines, found:\n{text}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
