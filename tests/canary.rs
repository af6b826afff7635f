//! Two hosts with different configurations on one Redis: a canary, a redeploy, an override that one host has not read
//! yet. Spent tokens stay spent, and the smaller limit adds no tokens to the larger. On both kinds of host.

use serde_json::{Value, json};
use weir::{HostKind, Mesh, MeshBuilder, on_both_hosts};

const QUICKSTART: &str = "envoy/quickstart.yaml";
const CALLOUT: &str = "envoy/callout.yaml";

on_both_hosts! {
    a_denial_by_a_smaller_bucket_adds_no_tokens_to_a_larger_one
    a_denial_by_a_smaller_bucket_beside_a_quota_adds_no_tokens_to_a_larger_one
    a_canary_with_a_faster_rate_counts_what_others_have_spent
    an_override_with_a_lower_rate_keeps_spent_tokens_spent
    a_smaller_sliding_window_keeps_what_a_larger_one_has_counted
    a_limit_with_leases_and_the_same_limit_without_share_a_bucket
    a_limit_of_fifty_million_a_minute_is_reported_and_enforced
    a_limit_of_ten_megabytes_a_second_is_enforced
}

/// Builds a host with one limit that has these fields, keyed by `x-user-id`.
fn host(kind: HostKind, fields: &Value) -> MeshBuilder {
    host_of(kind, QUICKSTART, fields)
}

/// The same, with the transport of `scenario`.
fn host_of(kind: HostKind, scenario: &str, fields: &Value) -> MeshBuilder {
    let mut limit = json!({"name": "per_user", "descriptor": [{"request_header": {"name": "x-user-id"}}]});
    limit.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    Mesh::on(kind, scenario).workers(1).patient().configure(move |filter| {
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

/// Spends 100 in one window. In the next, of which 50 to 60 % have passed, 40 to 50 of them count.
async fn a_smaller_sliding_window_keeps_what_a_larger_one_has_counted(kind: HostKind) {
    for scenario in [QUICKSTART, CALLOUT] {
        let window = window_in_its_middle();
        let of = |max_requests: u64| {
            json!({
                "sliding_window": {"max_requests": max_requests, "window": format!("{window}s")},
                "hits_addend": {"request_header": {"name": "x-cost", "max": 100}},
            })
        };
        let Some(large) = host_of(kind, scenario, &of(100)).start().await else { return };
        let small = host_of(kind, scenario, &of(5)).sharing_buckets_of(&large);
        let Some(small) = small.start().await else { return };
        large.ask("/").user("alice").header("x-cost", "100").send().await.admitted().remaining(0);
        into_the_past(&large, window);
        // Its worker would heal what was moved: another one, that remembers nothing, takes its place.
        let large = host_of(kind, scenario, &of(100)).sharing_buckets_of(&large);
        let Some(large) = large.start().await else { return };
        // Of its five, the smaller limit counts two or three as spent in the window before.
        let left: u64 = small.get("alice").await.admitted().number("x-ratelimit-remaining").unwrap();
        assert!((1..=2).contains(&left), "{left}, {scenario}");
        let left: u64 = large.get("alice").await.admitted().number("x-ratelimit-remaining").unwrap();
        assert!((48..=58).contains(&left), "{left}, {scenario}");
        // The same for the counts of the current window.
        large.ask("/").user("alice").header("x-cost", "20").send().await.admitted();
        small.get("alice").await.denied();
        let left: u64 = large.get("alice").await.admitted().number("x-ratelimit-remaining").unwrap();
        assert!((27..=37).contains(&left), "{left}, {scenario}");
    }
}

/// Returns the length in seconds of a window of which 50 to 55 % have passed.
fn window_in_its_middle() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let passed = |window: &u64| 100 * (now % window) / window;
    (7_200..14_400).find(|window| (50..55).contains(&passed(window))).unwrap()
}

/// Moves alice's only bucket into the window before, as if a window's length had passed.
fn into_the_past(mesh: &Mesh, window: u64) {
    let mut redis = mesh.redis_connection();
    let keys: Vec<String> =
        redis::cmd("KEYS").arg(format!("{}per_user:alice#*", mesh.key_prefix())).query(&mut redis).unwrap();
    let state: String = redis::cmd("GET").arg(&keys).query(&mut redis).unwrap();
    let (start, counts) = state.split_once(' ').unwrap();
    let start = start.parse::<u64>().unwrap() - window * 1_000_000;
    redis::cmd("SET").arg(&keys).arg(format!("{start} {counts}")).arg("KEEPTTL").exec(&mut redis).unwrap();
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
        "token_bucket": bucket(600_000_000, 10_000_000, "1s"),
        "hits_addend": {"request_header": {"name": "x-cost", "max": 600_000_000}},
    });
    let Some(mesh) = host(kind, &fields).start().await else { return };
    mesh.ask("/").user("alice").header("x-cost", "600000000").send().await.admitted();
    let denied = mesh.ask("/").user("alice").header("x-cost", "600000000").send().await.denied();
    let wait = denied.number::<u64>("retry-after").unwrap();
    assert!((50..=60).contains(&wait), "{wait}");
}
