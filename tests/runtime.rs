//! What operators change and see while requests come: overrides in Redis, decision events, and notes for access logs.

use std::collections::HashMap;
use std::time::Duration;

use redis::Commands;
use serde_json::json;
use tokio::time::{Instant, sleep};
use weir::{Answer, HostKind, Mesh};

const QUICKSTART: &str = "envoy/quickstart.yaml";

weir::on_both_hosts! {
    an_override_holds_within_the_interval_and_no_longer_than_it_is_set
    denials_are_appended_to_a_stream
}

async fn an_override_holds_within_the_interval_and_no_longer_than_it_is_set(host: HostKind) {
    let mesh = Mesh::on(host, QUICKSTART).patient().bucket(1, 1, "3600s");
    let mesh = mesh.configure(|filter| filter["overrides"] = json!({"refresh_interval": "0.1s"}));
    let Some(mesh) = mesh.start().await else { return };
    let mut redis = mesh.redis_connection();
    let overrides = format!("{}overrides", mesh.key_prefix());
    mesh.get("alice").await.admitted();
    mesh.get("alice").await.denied();

    let _: () = redis.hset(&overrides, "per_user:bob", "blocked").unwrap();
    until_always(&mesh, "bob", |answer| answer.status == 429 && answer.header("retry-after").is_none()).await;
    mesh.get("alice").await.denied();

    let _: () = redis.hset(&overrides, "per_user", r#"{"is": "unlimited"}"#).unwrap();
    until_always(&mesh, "alice", |answer| answer.status == 200 && answer.header("x-ratelimit-limit").is_none()).await;
    mesh.get("bob").await.denied();

    let rate = r#"{"token_bucket": {"max_tokens": 500, "tokens_per_fill": 500, "fill_interval": "0.001s"}}"#;
    let _: () = redis.hset(&overrides, "per_user:alice", rate).unwrap();
    let _: () = redis.hset(&overrides, "per_user:carol", "nonsense").unwrap();
    let _: () = redis.hdel(&overrides, "per_user").unwrap();
    until_always(&mesh, "alice", |answer| answer.status == 200 && answer.header("x-ratelimit-limit") == Some("500"))
        .await;
    mesh.get("carol").await.admitted();
    mesh.get("carol").await.denied();
    mesh.counts("weir_overrides_ignored", 2).await;

    let _: () = redis.del(&overrides).unwrap();
    until_always(&mesh, "alice", |answer| answer.status == 429).await;
}

async fn denials_are_appended_to_a_stream(host: HostKind) {
    let mesh = Mesh::on(host, QUICKSTART).patient().bucket(2, 1, "3600s");
    let Some(mesh) = mesh.configure(|filter| filter["events"] = json!({"stream": "decisions"})).start().await else {
        return;
    };
    for _ in 0..5 {
        mesh.get("alice").await;
    }
    type Stream = Vec<(String, HashMap<String, String>)>;
    let mut redis = mesh.redis_connection();
    let deadline = Instant::now() + Duration::from_secs(10);
    let events = loop {
        let events: Stream = redis.xrange_all("decisions").map(entries).unwrap();
        if events.len() == 3 {
            break events;
        }
        assert!(Instant::now() < deadline && events.len() < 3, "{events:?}");
        sleep(Duration::from_millis(50)).await;
    };
    let (_, fields) = &events[0];
    assert_eq!(fields["limit"], "per_user");
    assert_eq!(fields["key"], format!("{}per_user:alice", mesh.key_prefix()));
    assert_eq!((fields["decision"].as_str(), fields["remaining"].as_str()), ("denied", "0"));
    let wait: u64 = fields["retry_after_us"].parse().unwrap();
    assert!((3_500_000_000..=3_600_000_000).contains(&wait), "{wait}");
    mesh.counts("weir_events_dropped", 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_access_log_says_what_was_decided() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let path = log.path().to_str().unwrap().to_owned();
    let format = ["decision", "limit", "remaining"].map(|note| format!("%FILTER_STATE(wasm.weir.{note}:PLAIN)%"));
    let format = format.join(" ") + "\n";
    let mesh = Mesh::on(HostKind::Envoy, QUICKSTART).patient().bucket(1, 1, "3600s");
    let mesh = mesh.configure(|filter| filter["emit_metadata"] = true.into()).edit(|bootstrap| {
        let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
        bootstrap.pointer_mut(manager).unwrap()["access_log"] = json!([{
            "name": "envoy.access_loggers.file",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                "path": path,
                "log_format": {"text_format_source": {"inline_string": format}},
            },
        }]);
    });
    let Some(mesh) = mesh.start().await else { return };
    mesh.get("alice").await.admitted();
    mesh.get("alice").await.denied();
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        let logged = std::fs::read_to_string(log.path()).unwrap();
        if logged.lines().count() >= 2 {
            assert_eq!(logged.replace('"', ""), "admitted per_user 0\ndenied per_user 0\n");
            return;
        }
        assert!(Instant::now() < deadline, "{logged}");
        sleep(Duration::from_millis(100)).await;
    }
}

/// Until every worker answers this user so.
async fn until_always(mesh: &Mesh, user: &str, so: impl Fn(&Answer) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(15);
    let mut in_a_row = 0;
    while in_a_row < 12 {
        let answer = mesh.get(user).await;
        in_a_row = if so(&answer) { in_a_row + 1 } else { 0 };
        assert!(Instant::now() < deadline, "{user}: {answer:#?}");
        if in_a_row == 0 {
            sleep(Duration::from_millis(20)).await;
        }
    }
}

fn entries(reply: redis::streams::StreamRangeReply) -> Vec<(String, HashMap<String, String>)> {
    let text = |value: &redis::Value| redis::from_redis_value_ref(value).unwrap();
    let fields =
        |map: HashMap<String, redis::Value>| map.iter().map(|(name, value)| (name.clone(), text(value))).collect();
    reply.ids.into_iter().map(|id| (id.id, fields(id.map))).collect()
}
