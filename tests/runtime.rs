//! Features for operators at run time: overrides in Redis, decision events, and metadata for access logs.

use std::collections::HashMap;
use std::time::Duration;

use redis::Commands;
use serde_json::json;
use tokio::time::{Instant, sleep};
use weir::{Answer, HostKind, Mesh};

const QUICKSTART: &str = "envoy/quickstart.yaml";

weir::on_both_hosts! {
    an_override_applies_within_the_refresh_interval_and_ends_when_it_is_deleted
    an_override_changes_one_window_and_keeps_the_others_and_spent_tokens
    denials_are_appended_to_a_stream
}

async fn an_override_applies_within_the_refresh_interval_and_ends_when_it_is_deleted(host: HostKind) {
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

async fn an_override_changes_one_window_and_keeps_the_others_and_spent_tokens(host: HostKind) {
    let mesh = Mesh::on(host, "envoy/tenant-quota.yaml").patient().configure(|filter| {
        filter["overrides"] = json!({"refresh_interval": "0.1s"});
        filter["response"]["headers"] = json!(["ratelimit", "retry-after"]);
        filter["limits"][0]["windows"][0] =
            json!({"quota": {"max_requests": 3, "unit": "year", "utc_offset": "+01:00"}});
    });
    let Some(mesh) = mesh.start().await else { return };
    let mut redis = mesh.redis_connection();
    let overrides = format!("{}overrides", mesh.key_prefix());
    let of = |answer: &Answer, policy: &str| answer.header("ratelimit-policy").is_some_and(|all| all.contains(policy));
    for _ in 0..3 {
        tenant(&mesh).await.admitted();
    }
    tenant(&mesh).await.denied();

    // An override of the rate leaves the quota of the year exhausted.
    let rate = r#"{"token_bucket": {"max_tokens": 70, "tokens_per_fill": 3000, "fill_interval": "60s"}}"#;
    let _: () = redis.hset(&overrides, "plan:acme", rate).unwrap();
    until_tenant(&mesh, |answer| of(answer, r#""plan:1";q=70"#)).await;
    for _ in 0..5 {
        tenant(&mesh).await.denied();
    }
    // An override of the quota keeps the limit's utc_offset: three of the four requests are spent.
    let _: () = redis.hset(&overrides, "plan:acme", r#"{"quota": {"max_requests": 4, "unit": "year"}}"#).unwrap();
    until_tenant(&mesh, |answer| of(answer, r#""plan";q=4"#)).await;
    let _: () = redis.hset(&overrides, "plan:acme", r#"{"quota": {"max_requests": 0, "unit": "year"}}"#).unwrap();
    let zero = until_tenant(&mesh, |answer| of(answer, r#""plan";q=0"#)).await;
    assert_eq!((zero.status, zero.header("retry-after")), (429, None));

    // An override of a kind that the limit lacks adds a window, and the quota of the year stays.
    let fixed = r#"{"fixed_window": {"max_requests": 100, "window": "31536000s"}}"#;
    let _: () = redis.hset(&overrides, "plan:acme", fixed).unwrap();
    until_tenant(&mesh, |answer| of(answer, r#""plan:2";q=100"#)).await;
    tenant(&mesh).await.denied();

    let _: () = redis.hset(&overrides, "in_flight:acme", r#"{"concurrency": {"max_requests": 0}}"#).unwrap();
    let _: () = redis.hset(&overrides, "plan:acme", "unlimited").unwrap();
    until_tenant(&mesh, |answer| answer.status == 503).await;
    let _: () = redis.del(&overrides).unwrap();
    until_tenant(&mesh, |answer| of(answer, r#""plan";q=3"#) && answer.status == 429).await;
}

async fn tenant(mesh: &Mesh) -> Answer {
    mesh.ask("/").header("x-tenant-id", "acme").send().await
}

/// Waits until 20 responses in a row to the tenant meet a condition, so that both workers do, and returns the last.
async fn until_tenant(mesh: &Mesh, is: impl Fn(&Answer) -> bool) -> Answer {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut in_a_row = 0;
    loop {
        let answer = tenant(mesh).await;
        in_a_row = if is(&answer) { in_a_row + 1 } else { 0 };
        if in_a_row >= 20 {
            return answer;
        }
        assert!(Instant::now() < deadline, "the condition does not hold within a minute: {answer:?}");
        sleep(Duration::from_millis(10)).await;
    }
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
    let deadline = Instant::now() + Duration::from_secs(60);
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
async fn the_access_log_has_the_decision() {
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
    let deadline = Instant::now() + Duration::from_secs(60);
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

/// Waits until 12 responses in a row to this user meet a condition, so that every worker does.
async fn until_always(mesh: &Mesh, user: &str, so: impl Fn(&Answer) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
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
