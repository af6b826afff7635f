//! Two hosts with different configurations on one Redis: a canary, a redeploy, an override that one host has not read
//! yet. Spent tokens stay spent, and the smaller limit adds no tokens to the larger. On both kinds of host.

use serde_json::{Value, json};
use weir::{HostKind, Mesh, MeshBuilder, on_both_hosts};

const QUICKSTART: &str = "envoy/quickstart.yaml";

on_both_hosts! {
    a_denial_by_a_smaller_bucket_adds_no_tokens_to_a_larger_one
    a_denial_by_a_smaller_bucket_beside_a_quota_adds_no_tokens_to_a_larger_one
    a_canary_with_a_faster_rate_counts_what_others_have_spent
    an_override_with_a_lower_rate_keeps_spent_tokens_spent
    a_limit_with_leases_and_the_same_limit_without_share_a_bucket
    a_limit_of_fifty_million_a_minute_is_reported_and_enforced
    a_limit_of_ten_megabytes_a_second_is_enforced
}

/// Builds a host with one limit that has these fields, keyed by `x-user-id`.
fn host(kind: HostKind, fields: &Value) -> MeshBuilder {
    let mut limit = json!({"name": "per_user", "descriptor": [{"request_header": {"name": "x-user-id"}}]});
    limit.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    Mesh::on(kind, QUICKSTART).workers(1).patient().configure(move |filter| {
        filter["limits"] = json!([limit]);
        // Each request asks Redis, and no denial is repeated from memory.
        filter["deny_cache"] = json!({"max_entries": 0});
    })
}

/// Starts two hosts that share buckets.
async fn two(kind: HostKind, one: &Value, other: &Value) -> Option<(Mesh, Mesh)> {
    let one = host(kind, one).start().await?;
    let other = host(kind, other).sharing_buckets_of(&one).start().await?;
    Some((one, other))
}

fn bucket(max_tokens: u64, tokens_per_fill: u64, fill_interval: &str) -> Value {
    json!({"max_tokens": max_tokens, "tokens_per_fill": tokens_per_fill, "fill_interval": fill_interval})
}

/// Sends `requests` one after the other, and returns how many are admitted.
async fn crowd(mesh: &Mesh, user: &str, requests: usize) -> usize {
    let mut admitted = 0;
    for _ in 0..requests {
        admitted += usize::from(mesh.get(user).await.status == 200);
    }
    admitted
}

async fn makes_no_room(large: &Mesh, small: &Mesh) {
    let mut admitted = crowd(large, "alice", 55).await;
    for _ in 0..3 {
        small.get("alice").await.denied();
        admitted += crowd(large, "alice", 20).await;
    }
    assert_eq!(admitted, 50);
}

async fn a_denial_by_a_smaller_bucket_adds_no_tokens_to_a_larger_one(kind: HostKind) {
    let of = |max_tokens| json!({"token_bucket": bucket(max_tokens, 1, "3600s")});
    let Some((large, small)) = two(kind, &of(50), &of(5)).await else { return };
    makes_no_room(&large, &small).await;
}

async fn a_denial_by_a_smaller_bucket_beside_a_quota_adds_no_tokens_to_a_larger_one(kind: HostKind) {
    let of = |max_tokens| {
        json!({"windows": [
            {"token_bucket": bucket(max_tokens, 1, "3600s")}, {"quota": {"max_requests": 100_000, "unit": "year"}},
        ]})
    };
    let Some((large, small)) = two(kind, &of(50), &of(5)).await else { return };
    makes_no_room(&large, &small).await;
}

async fn a_canary_with_a_faster_rate_counts_what_others_have_spent(kind: HostKind) {
    let of = |tokens| {
        json!({"windows": [
            {"token_bucket": bucket(40, tokens, "86400s")}, {"quota": {"max_requests": 100_000, "unit": "year"}},
        ]})
    };
    let Some((old, new)) = two(kind, &of(1), &of(2)).await else { return };
    for turn in 0..20 {
        old.get("alice").await.admitted().remaining(39 - 2 * turn);
        new.get("alice").await.admitted().remaining(38 - 2 * turn);
    }
    old.get("alice").await.denied();
    new.get("alice").await.denied();
}

async fn an_override_with_a_lower_rate_keeps_spent_tokens_spent(kind: HostKind) {
    let fields = json!({"token_bucket": bucket(10, 10, "60s")});
    let refresh = json!({"refresh_interval": "1s"});
    let mesh = host(kind, &fields).configure(|filter| filter["overrides"] = refresh.clone());
    let Some(mesh) = mesh.start().await else { return };
    let spent = crowd(&mesh, "bob", 11).await;
    assert!((10..=11).contains(&spent), "{spent}");
    let lower = json!({"token_bucket": bucket(10, 10, "86400s")}).to_string();
    let hash = format!("{}overrides", mesh.key_prefix());
    redis::cmd("HSET").arg(hash).arg("per_user:bob").arg(lower).exec(&mut mesh.redis_connection()).unwrap();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let denied = mesh.get("bob").await;
        if denied.status == 429 && denied.number::<u64>("retry-after").unwrap() > 60 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "the override is not in force: {denied:?}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(crowd(&mesh, "bob", 11).await, 0);
}

async fn a_limit_with_leases_and_the_same_limit_without_share_a_bucket(kind: HostKind) {
    let plain = json!({"token_bucket": bucket(40, 1, "86400s")});
    let mut leased = plain.clone();
    leased["lease"] = json!({"max": 10, "ttl": "1s"});
    let Some((plain, leased)) = two(kind, &plain, &leased).await else { return };
    let mut admitted = crowd(&plain, "alice", 15).await;
    admitted += crowd(&leased, "alice", 15).await;
    admitted += crowd(&plain, "alice", 60).await;
    admitted += crowd(&leased, "alice", 60).await;
    assert!((31..=40).contains(&admitted), "{admitted}");
}

async fn a_limit_of_fifty_million_a_minute_is_reported_and_enforced(kind: HostKind) {
    let fields = json!({
        "token_bucket": bucket(60_000_000, 50_000_000, "60s"),
        "hits_addend": {"request_header": {"name": "x-cost", "max": 60_000_000}},
    });
    let mesh =
        host(kind, &fields).configure(|filter| filter["response"]["headers"] = json!(["ratelimit", "retry-after"]));
    let Some(mesh) = mesh.start().await else { return };
    let answer = mesh.ask("/").user("alice").header("x-cost", "60000000").send().await.admitted();
    assert_eq!(answer.header("ratelimit-policy"), Some(r#""per_user";q=60000000;w=72"#), "{answer:?}");
    let denied = mesh.ask("/").user("alice").header("x-cost", "50000000").send().await.denied();
    let wait = denied.number::<u64>("retry-after").unwrap();
    assert!((50..=60).contains(&wait), "{wait}");
}

async fn a_limit_of_ten_megabytes_a_second_is_enforced(kind: HostKind) {
    let fields = json!({
        "token_bucket": bucket(20_000_000, 10_000_000, "1s"),
        "hits_addend": {"request_header": {"name": "x-cost", "max": 20_000_000}},
    });
    let Some(mesh) = host(kind, &fields).start().await else { return };
    mesh.ask("/").user("alice").header("x-cost", "20000000").send().await.admitted();
    let denied = mesh.ask("/").user("alice").header("x-cost", "20000000").send().await.denied();
    let wait = denied.number::<u64>("retry-after").unwrap();
    assert!((1..=2).contains(&wait), "{wait}");
}
