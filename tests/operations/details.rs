//! `%RESPONSE_CODE_DETAILS%`: the access log has the reason of each local reply, the same on both hosts.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use hyper::Method;
use redis::Commands;
use serde_json::{Value, json};
use weir::{Fault, HostKind, Mesh};

use super::{limit, manager};

weir::on_both_hosts! {
    the_access_log_has_the_reason_of_each_local_reply
}

/// Bytes of a header that are too many to be hashed for a key.
const LONG: usize = 45_000;

async fn the_access_log_has_the_reason_of_each_local_reply(host: HostKind) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    let mut costly = limit("costly", "x-payer", 100);
    costly["hits_addend"] = json!({"request_header": {"name": "x-cost", "on_invalid": "reject"}});
    let plan = json!({
        "name": "plan", "descriptor": [{"request_header": {"name": "x-tenant"}}],
        "windows": [
            {"fixed_window": {"max_requests": 100, "window": "31536000s"}},
            {"token_bucket": {"max_tokens": 1, "fill_interval": "3600s"}},
        ],
    });
    let limits =
        [vec![limit("per_user", "x-user-id", 1), limit("open", "x-open", 1_000), plan, costly], rejecting()].concat();
    let mesh = Mesh::on(host, "envoy/access-log.yaml").patient().workers(1).that_sees_bodies().with_faults();
    let mesh = mesh.configure(|filter| {
        filter["emit_metadata"] = false.into();
        filter["limits"] = json!(limits);
        filter["overrides"] = json!({"refresh_interval": "0.1s"});
    });
    let mesh = mesh.edit(|bootstrap| {
        let log = &mut manager(bootstrap)["access_log"][0]["typed_config"];
        log["@type"] = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog".into();
        log["path"] = file.display().to_string().into();
        let format = "%REQ(x-case)% %RESPONSE_CODE% %RESPONSE_CODE_DETAILS%\n";
        log["log_format"] = json!({"text_format_source": {"inline_string": format}});
    });
    let Some(mesh) = mesh.start().await else { return };
    let ask = |case: &str| mesh.ask("/").header("x-case", case);

    ask("admitted").user("alice").send().await.admitted();
    ask("denied").user("alice").send().await.denied();
    ask("from_memory").user("alice").send().await.denied();
    let grpc = ask("grpc").method(Method::POST).header("content-type", "application/grpc").user("alice");
    assert_eq!(grpc.send().await.status(200).header("grpc-status"), Some("8"));
    ask("admitted").header("x-tenant", "acme").send().await.admitted();
    ask("window").header("x-tenant", "acme").send().await.denied();
    ask("rejected").header("x-payer", "alice").header("x-cost", "lots").send().await.status(400);
    let post = |case: &str, body: &str| ask(case).method(Method::POST).header(&format!("x-{case}"), "acme").body(body);
    post("request_body", "no json").send().await.status(400);
    post("content_length", "{}").header("transfer-encoding", "chunked").send().await.status(411);
    ask("repeated").header("x-repeated", "acme").header("x-repeated", "other").send().await.status(400);
    ask("headers").header("x-headers", "a".repeat(LONG)).send().await.status(431);

    let overrides = format!("{}overrides", mesh.key_prefix());
    let _: () = mesh.redis_connection().hset(&overrides, "open:bob", "blocked").unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while mesh.ask("/").header("x-open", "bob").send().await.status == 200 {
        assert!(Instant::now() < deadline, "the override is not in force within a minute");
    }
    ask("blocked").header("x-open", "bob").send().await.denied();

    mesh.faults().set(Fault::Refuse);
    ask("failed").header("x-open", "carol").send().await.status(503);

    let log = log_of(&mesh, &file);
    let line = |case: &str| -> Vec<&str> {
        log.lines().filter_map(|line| line.strip_prefix(case)?.strip_prefix(' ')).collect()
    };
    assert_eq!(line("admitted"), ["200 direct_response"; 2], "{log}");
    assert_eq!(line("denied"), ["429 weir_denied{per_user}"], "{log}");
    assert_eq!(line("from_memory"), ["429 weir_denied{per_user}"], "{log}");
    assert_eq!(line("grpc"), ["200 weir_denied{per_user}"], "{log}");
    assert_eq!(line("window"), ["429 weir_denied{plan:1}"], "{log}");
    assert_eq!(line("rejected"), ["400 weir_rejected{hits_addend}"], "{log}");
    for (reason, status) in [("request_body", 400), ("content_length", 411), ("repeated", 400), ("headers", 431)] {
        assert_eq!(line(reason), [format!("{status} weir_rejected{{{reason}}}")], "{log}");
    }
    assert_eq!(line("blocked"), ["429 weir_denied{open}"], "{log}");
    let failed = line("failed");
    let causes = ["503 weir_failed{reset}", "503 weir_failed{unavailable}"];
    assert!(matches!(failed[..], [only] if causes.contains(&only)), "{log}");
}

/// Returns a limit for each reason to reject a request, which applies to requests with the header `x-REASON`.
fn rejecting() -> Vec<Value> {
    let [mut request_body, mut content_length, mut repeated, headers] =
        ["request_body", "content_length", "repeated", "headers"].map(|name| limit(name, &format!("x-{name}"), 100));
    let model = json!({"request_body": {"json_pointer": "/model", "on_invalid": "reject"}});
    request_body["descriptor"].as_array_mut().expect("a list").push(model);
    content_length["hits_addend"] = json!({"content_length": {"on_invalid": "reject"}});
    repeated["descriptor"][0]["request_header"]["repeated"] = "reject".into();
    vec![request_body, content_length, repeated, headers]
}

/// Stops Envoy, waits for the line of the last request, and returns the whole log. Envoy buffers lines for seconds and
/// writes them when it exits.
fn log_of(mesh: &Mesh, file: &Path) -> String {
    mesh.hosts().iter().filter_map(|host| host.envoy()).for_each(|envoy| envoy.stop());
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let text = fs::read_to_string(file).unwrap_or_default();
        if text.ends_with('\n') && text.contains("\nfailed ") {
            return text;
        }
        assert!(Instant::now() < deadline, "expected the line of the last request, found:\n{text}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
