//! Statements of docs/src/rollouts.md: a changed limit on one of two proxies, a new limit in shadow mode and the swap,
//! reloads of the configuration under load, rollback. `tests/canary.rs` has the cases in which buckets are shared.

mod reload;

use serde_json::{Value, json};
use weir::{HostKind, Mesh, on_both_hosts};
use weir_filter::{config, limit::Algorithms, units::Tokens};

const PAGE: &str = include_str!("../../docs/src/rollouts.md");

on_both_hosts! {
    another_kind_of_limit_counts_from_zero
    a_limit_that_gets_a_second_window_counts_from_zero
    a_value_from_another_source_keeps_its_bucket
    a_second_token_bucket_gives_the_burst_of_the_shorter_one_again
    a_renamed_limit_counts_from_zero
    in_shadow_mode_a_stricter_limit_counts_the_requests_that_it_would_deny
    in_shadow_mode_a_looser_limit_sees_only_what_the_old_limit_admits
    a_swapped_limit_continues_with_what_was_spent_in_shadow_mode
    during_a_swap_the_stricter_bucket_is_empty_first
    after_a_rollback_tokens_spent_by_the_newer_configuration_stay_spent
}

/// The rows of the page's table of pairs of algorithms are true.
#[test]
fn the_page_says_which_changes_keep_the_state() {
    let rows = PAGE.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| `")?.split(" | ").collect();
        let [from, to, state] = cells[..] else { return None };
        Some((from.trim_end_matches('`'), to.trim_matches('`'), state.trim_end_matches(" |")))
    });
    let (mut shared, mut new) = (0, 0);
    for (from, to, state) in rows {
        let keeps = keys(from) == keys(to);
        assert_eq!(if keeps { "shared" } else { "new" }, state, "{from} to {to}");
        *if keeps { &mut shared } else { &mut new } += 1;
    }
    assert_eq!((shared, new), (4, 5), "rows of shared and of new states");
}

/// Returns the keys in Redis of a limit with this algorithm.
fn keys(algorithm: &str) -> Vec<String> {
    let mut limit: Value = serde_saphyr::from_str(&format!("{{{algorithm}}}")).unwrap();
    limit["name"] = "limit".into();
    limit["descriptor"] = json!([]);
    let config = json!({"redis": {"cluster": "redis"}, "limits": [limit]}).to_string();
    let config = config::parse(config.as_bytes(), &|_| None).unwrap_or_else(|error| panic!("{algorithm}: {error}"));
    let windows: &Algorithms = &config.limits[0].windows;
    windows.checks(0, "limit:", Tokens(1), true).map(|check| String::from_utf8(check.key).unwrap()).collect()
}

/// Returns a limit by `x-user-id` with these fields.
fn limit(name: &str, fields: Value) -> Value {
    let mut limit = json!({"name": name, "descriptor": [{"request_header": {"name": "x-user-id"}}]});
    limit.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    limit
}

/// Returns a bucket that gets no token during a test.
fn bucket(max_tokens: u64) -> Value {
    json!({"token_bucket": {"max_tokens": max_tokens, "fill_interval": "86400s"}})
}

fn merged(mut object: Value, fields: Value) -> Value {
    object.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    object
}

fn in_shadow_mode(mut limit: Value) -> Value {
    limit["shadow_mode"] = true.into();
    limit
}

/// Starts a host with these limits, which shares the buckets of another.
async fn host(kind: HostKind, limits: &[&Value], other: Option<&Mesh>) -> Option<Mesh> {
    let limits = json!(limits);
    let mesh = Mesh::on(kind, "envoy/quickstart.yaml").workers(1).patient().configure(move |filter| {
        filter["limits"] = limits.clone();
        // Each request asks Redis, and no denial is repeated from memory.
        filter["deny_cache"] = json!({"max_entries": 0});
    });
    match other {
        Some(other) => mesh.sharing_buckets_of(other).start().await,
        None => mesh.start().await,
    }
}

/// Starts two hosts with one limit each, which share buckets, and returns how many of 10 requests each of them admits.
async fn admitted_by_each(kind: HostKind, one: &Value, other: &Value) -> Option<(usize, usize)> {
    let first = host(kind, &[one], None).await?;
    let second = host(kind, &[other], Some(&first)).await?;
    Some((crowd(&first, 10).await, crowd(&second, 10).await))
}

/// Sends `requests` of one user, and returns how many are admitted.
async fn crowd(mesh: &Mesh, requests: usize) -> usize {
    let mut admitted = 0;
    for _ in 0..requests {
        admitted += usize::from(mesh.get("alice").await.status == 200);
    }
    admitted
}

async fn another_kind_of_limit_counts_from_zero(kind: HostKind) {
    let window = json!({"fixed_window": {"max_requests": 4, "window": "315360000s"}});
    let (bucket, window) = (limit("per_user", bucket(3)), limit("per_user", window));
    let Some(admitted) = admitted_by_each(kind, &bucket, &window).await else { return };
    assert_eq!(admitted, (3, 4));
}

async fn a_limit_that_gets_a_second_window_counts_from_zero(kind: HostKind) {
    let both = json!({"windows": [bucket(3), {"quota": {"max_requests": 100, "unit": "year"}}]});
    let (one, both) = (limit("per_user", bucket(3)), limit("per_user", both));
    let Some(admitted) = admitted_by_each(kind, &one, &both).await else { return };
    assert_eq!(admitted, (3, 3));
    let quota = json!({"quota": {"max_requests": 3, "unit": "year"}});
    let both = limit("per_user", json!({"windows": [bucket(100), quota]}));
    let Some(admitted) = admitted_by_each(kind, &limit("per_user", quota.clone()), &both).await else { return };
    assert_eq!(admitted, (3, 0), "a quota keeps its state");
}

async fn a_value_from_another_source_keeps_its_bucket(kind: HostKind) {
    let by = |entries: Value| limit("per_user", merged(bucket(4), json!({ "descriptor": entries })));
    let of_header = |name: &str| json!({"request_header": {"name": name}});
    let Some(old) = host(kind, &[&by(json!([of_header("x-user-id")]))], None).await else { return };
    old.get("alice").await.admitted().remaining(3);
    let lowered = json!({"request_header": {"name": "x-uid", "lowercase": true}});
    for (entries, (name, value), left) in [
        (json!([of_header("x-uid")]), ("x-uid", "alice"), 2),
        (json!([{"cookie": {"name": "uid"}}]), ("cookie", "uid=alice"), 1),
        (json!([lowered]), ("x-uid", "Alice"), 0),
        (json!([of_header("x-uid"), {"generic_key": {"descriptor_value": "v2"}}]), ("x-uid", "alice"), 3),
    ] {
        let Some(new) = host(kind, &[&by(entries)], Some(&old)).await else { return };
        new.ask("/").header(name, value).send().await.admitted().remaining(left);
    }
}

async fn a_second_token_bucket_gives_the_burst_of_the_shorter_one_again(kind: HostKind) {
    let token_bucket = |max_tokens: u64, fill_interval: &str| json!({"token_bucket": {"max_tokens": max_tokens, "fill_interval": fill_interval}});
    let (short, quota) = (token_bucket(9, "86400s"), json!({"quota": {"max_requests": 100, "unit": "year"}}));
    let old = limit("per_user", json!({"windows": [short, quota]}));
    let both = limit("per_user", json!({"windows": [short, token_bucket(20, "864000s"), quota]}));
    let Some(old_mesh) = host(kind, &[&old], None).await else { return };
    assert_eq!(crowd(&old_mesh, 10).await, 9);
    let Some(new) = host(kind, &[&both], Some(&old_mesh)).await else { return };
    assert_eq!(crowd(&new, 12).await, 9, "the short bucket is new, and 11 tokens are left of the long one");
}

async fn a_renamed_limit_counts_from_zero(kind: HostKind) {
    let Some(old) = host(kind, &[&limit("per_user", bucket(3))], None).await else { return };
    assert_eq!(crowd(&old, 2).await, 2);
    let Some(new) = host(kind, &[&limit("per_user_2", bucket(4))], Some(&old)).await else { return };
    assert_eq!(crowd(&new, 10).await, 4);
    // After a rollback, the old limit continues.
    assert_eq!(crowd(&old, 10).await, 1);
}

/// Sends 12 requests to a limit of 10 tokens beside one in shadow mode.
async fn twelve_requests(kind: HostKind, tokens_in_shadow: u64) -> Option<Mesh> {
    let (old, new) = (limit("per_user", bucket(10)), limit("per_user_2", bucket(tokens_in_shadow)));
    let mesh = host(kind, &[&old, &in_shadow_mode(new)], None).await?;
    assert_eq!(crowd(&mesh, 12).await, 10);
    mesh.counts("weir_limit_per_user_admitted", 10).await;
    mesh.counts("weir_limit_per_user_denied", 2).await;
    Some(mesh)
}

async fn in_shadow_mode_a_stricter_limit_counts_the_requests_that_it_would_deny(kind: HostKind) {
    let Some(mesh) = twelve_requests(kind, 4).await else { return };
    mesh.counts("weir_limit_per_user_2_admitted", 4).await;
    mesh.counts("weir_limit_per_user_2_shadow_denied", 8).await;
    mesh.counts("weir_limit_per_user_2_denied", 0).await;
}

async fn in_shadow_mode_a_looser_limit_sees_only_what_the_old_limit_admits(kind: HostKind) {
    let Some(mesh) = twelve_requests(kind, 11).await else { return };
    mesh.counts("weir_limit_per_user_2_admitted", 10).await;
    mesh.counts("weir_limit_per_user_2_shadow_denied", 0).await;
    mesh.counts("weir_limit_per_user_2_denied", 0).await;
}

/// While one proxy has swapped the limits and the other has not, each admitted request spends once from both buckets,
/// and a denied request spends from none.
async fn a_swapped_limit_continues_with_what_was_spent_in_shadow_mode(kind: HostKind) {
    let (old, new) = (limit("per_user", bucket(10)), limit("per_user_2", bucket(8)));
    let Some(before) = host(kind, &[&old, &in_shadow_mode(new.clone())], None).await else { return };
    let Some(after) = host(kind, &[&in_shadow_mode(old), &new], Some(&before)).await else { return };
    before.get("alice").await.admitted().remaining(9);
    for spent in [1, 3, 5] {
        after.get("alice").await.admitted().remaining(8 - spent - 1);
        before.get("alice").await.admitted().remaining(10 - spent - 2);
    }
    after.get("alice").await.admitted().remaining(0);
    for _ in 0..5 {
        after.get("alice").await.denied();
    }
    before.get("alice").await.admitted().remaining(1);
    before.get("alice").await.admitted().remaining(0);
    before.get("alice").await.denied();
    // The old limit goes: the new one is as empty as before.
    let Some(alone) = host(kind, &[&new], Some(&before)).await else { return };
    alone.get("alice").await.denied();
}

async fn during_a_swap_the_stricter_bucket_is_empty_first(kind: HostKind) {
    let (old, new) = (limit("per_user", bucket(10)), limit("per_user_2", bucket(4)));
    let Some(before) = host(kind, &[&old, &in_shadow_mode(new.clone())], None).await else { return };
    let Some(after) = host(kind, &[&in_shadow_mode(old), &new], Some(&before)).await else { return };
    let mut admitted = 0;
    for request in 0..10 {
        admitted += crowd(if request % 2 == 0 { &before } else { &after }, 1).await;
    }
    assert_eq!(admitted, 7);
    before.get("alice").await.admitted().remaining(2);
}

async fn after_a_rollback_tokens_spent_by_the_newer_configuration_stay_spent(kind: HostKind) {
    let old = limit("per_user", bucket(20));
    let newer = json!({"token_bucket": {"max_tokens": 50, "tokens_per_fill": 2, "fill_interval": "86400s"}});
    let Some(before) = host(kind, &[&old], None).await else { return };
    before.get("alice").await.admitted().remaining(19);
    let Some(during) = host(kind, &[&limit("per_user", newer)], Some(&before)).await else { return };
    for spent in 1..15 {
        during.get("alice").await.admitted().remaining(50 - spent - 1);
    }
    let Some(after) = host(kind, &[&old], Some(&before)).await else { return };
    for spent in 15..20 {
        after.get("alice").await.admitted().remaining(20 - spent - 1);
    }
    after.get("alice").await.denied();
}
