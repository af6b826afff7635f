//! Hashed values on both hosts: API keys never stand in Redis or logs in the clear, and operators name them as they are.

use std::time::Duration;

use redis::Commands;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use weir::{HostKind, Mesh};
use weir_harness::limits::Limits;

const QUICKSTART: &str = "envoy/quickstart.yaml";
const HASH_KEY: &str = "0123456789abcdef";
/// Digest of `sk-alice`, from Python's `hashlib.blake2b(…, digest_size=16, key=b"0123456789abcdef")`.
const ALICE: &str = "9d9b0a601972f0846de54da929fd6e55";

weir::on_both_hosts! {
    an_api_key_is_nowhere_in_the_clear
    an_operator_limits_an_api_key_by_its_name
    values_differ_by_case_and_emptiness_as_configured
}

/// Returns a limit of one request an hour per API key, with these fields of the entry.
fn per_key(fields: Value) -> Value {
    let mut header = json!({"name": "x-api-key", "hash": true});
    header.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({
        "name": "per_key", "descriptor": [{"request_header": header}],
        "token_bucket": {"max_tokens": 1, "fill_interval": "3600s"},
    })
}

async fn status(mesh: &Mesh, key: &str, proxy: usize) -> u16 {
    mesh.ask("/").header("x-api-key", key).via(proxy).send().await.status
}

async fn an_api_key_is_nowhere_in_the_clear(host: HostKind) {
    let mesh = Mesh::on(host, QUICKSTART).patient().hosts(2).workers(1).configure(|filter| {
        filter["hash_key"] = json!({"inline": HASH_KEY});
        filter["limits"] = json!([per_key(json!({}))]);
        filter["events"] = json!({"only": "all"});
        filter["emit_metadata"] = true.into();
    });
    let Some(mesh) = mesh.start().await else { return };
    let long = format!("sk-alice-{}", "x".repeat(200));
    for key in ["sk-alice", &long] {
        assert_eq!([status(&mesh, key, 0).await, status(&mesh, key, 1).await], [200, 429], "both proxies share a hash");
    }
    let mut redis = mesh.redis_connection();
    let prefix = mesh.key_prefix();
    let stream = format!("{prefix}events");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while redis.xlen::<_, u64>(&stream).unwrap() < 4 {
        assert!(tokio::time::Instant::now() < deadline, "expected an event of each request");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut keys: Vec<String> = redis.keys(format!("{prefix}per_key:*")).unwrap();
    keys.sort_unstable_by_key(|key| !key.ends_with(ALICE));
    assert_eq!(keys[0], format!("{prefix}per_key:{ALICE}"));
    assert!(keys.len() == 2 && keys[1].len() == keys[0].len(), "{keys:?}");
    let events: redis::Value = redis.xrange_all(&stream).unwrap();
    let events = format!("{events:?}");
    assert!(events.contains("per_key") && !events.contains("alice"), "{events}");
    for host in mesh.hosts() {
        if let Some(envoy) = host.envoy() {
            let log = envoy.log();
            assert!(!log.contains("alice") && !log.contains(HASH_KEY), "{log}");
        }
    }
}

async fn an_operator_limits_an_api_key_by_its_name(host: HostKind) {
    let mesh = Mesh::on(host, QUICKSTART).patient().workers(1).configure(|filter| {
        filter["hash_key"] = json!({"inline": HASH_KEY});
        filter["limits"] = json!([per_key(json!({"lowercase": true}))]);
        filter["overrides"] = json!({"refresh_interval": "0.1s"});
    });
    let Some(mesh) = mesh.start().await else { return };
    let config = NamedTempFile::new().unwrap();
    let configuration = json!({
        "redis": {"cluster": "redis", "key_prefix": mesh.key_prefix()}, "hash_key": {"inline": HASH_KEY},
        "limits": [per_key(json!({"lowercase": true}))],
    });
    std::fs::write(config.path(), configuration.to_string()).unwrap();
    let (url, file) = (mesh.redis().url(), config.path().to_str().unwrap());
    let limits = |command: &[&str]| {
        let mut out = Vec::new();
        let limits = Limits::parse(&[command, &["--redis", &url, "--config", file]].concat()).unwrap();
        limits.perform(&mut out, &mut std::io::sink()).unwrap();
        String::from_utf8(out).unwrap()
    };
    let said = limits(&["set", "per_key", "SK-Alice", "off"]);
    assert!(said.contains(ALICE) && !said.contains("Alice"), "{said}");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while [status(&mesh, "sk-alice", 0).await, status(&mesh, "sk-alice", 0).await] != [200, 200] {
        assert!(tokio::time::Instant::now() < deadline, "the override is not in force");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!([status(&mesh, "sk-bob", 0).await, status(&mesh, "sk-bob", 0).await], [200, 429]);
}

async fn values_differ_by_case_and_emptiness_as_configured(host: HostKind) {
    let mesh = Mesh::on(host, QUICKSTART).patient().workers(1).configure(|filter| {
        filter["limits"] =
            json!([per_key(json!({"hash": false, "lowercase": true, "empty": "missing", "default": "none"}))]);
    });
    let Some(mesh) = mesh.start().await else { return };
    assert_eq!([status(&mesh, "Alice", 0).await, status(&mesh, "aLICE", 0).await], [200, 429]);
    assert_eq!([status(&mesh, "ä", 0).await, status(&mesh, "Ä", 0).await], [200, 200], "beyond ASCII");
    assert_eq!([mesh.ask("/").send().await.status, status(&mesh, "", 0).await], [200, 429]);
    assert_eq!(status(&mesh, "none", 0).await, 429, "the default is a value like any other");
}
