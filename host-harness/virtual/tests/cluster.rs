//! Redis Cluster in virtual time: calls of one hash slot, and what a request gets back that another slot denied.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use weir_filter::units::Micros;
use weir_virtual::{Answer, Exchange, Mesh};

use support::{exchange, start};

const SLOWLY: &str = r#""tokens_per_fill": 1, "fill_interval": "3600s""#;

/// Workers of a cluster without a deny cache, so that each request asks Redis.
fn mesh_of(workers: usize, more: &str, limits: &[String]) -> Mesh {
    let configuration = format!(
        r#"{{"redis": {{"cluster": "redis", "topology": "cluster"}}, "deny_cache": {{"max_entries": 0}}, {more}
            "limits": [{}]}}"#,
        limits.join(",")
    );
    let mesh = start(workers, &configuration, Micros::from_millis(1)).unwrap();
    mesh.redis().become_cluster();
    mesh
}

/// Limit with entries of the headers `x-tenant` and `x-user-id`.
fn limit(name: &str, headers: &[&str], rest: &str) -> String {
    let entries: Vec<String> =
        headers.iter().map(|header| format!(r#"{{"request_header": {{"name": "{header}"}}}}"#)).collect();
    format!(r#"{{"name": "{name}", "descriptor": [{}], {rest}}}"#, entries.join(","))
}

fn bucket(tokens: u64) -> String {
    format!(r#""token_bucket": {{"max_tokens": {tokens}, {SLOWLY}}}"#)
}

fn by(tenant: &str, user: &str) -> Exchange {
    taking(tenant, user, Micros::ZERO)
}

fn taking(tenant: &str, user: &str, takes: Micros) -> Exchange {
    exchange(&[("x-tenant", tenant), ("x-user-id", user)], takes)
}

/// Sends requests at once, spread over the workers, and returns their answers.
fn at_once(mesh: &Mesh, exchanges: impl IntoIterator<Item = Exchange>) -> Vec<Answer> {
    for (place, exchange) in exchanges.into_iter().enumerate() {
        mesh.begin(place % mesh.workers().len(), exchange).unwrap();
    }
    assert!(mesh.run_until_answered(mesh.now().plus(Micros::from_secs(600))), "every request is answered");
    // Calls that give back are under way when the last request is answered.
    mesh.run_until(mesh.now().plus(Micros::from_millis(20)));
    assert_eq!(mesh.redis().unknown(), [""; 0]);
    mesh.take_answers().into_iter().map(|(_, answer)| answer).collect()
}

fn admitted(mesh: &Mesh, exchanges: impl IntoIterator<Item = Exchange>) -> usize {
    at_once(mesh, exchanges).iter().filter(|answer| answer.status == 200).count()
}

fn status(mesh: &Mesh, user: &str) -> u16 {
    at_once(mesh, [by("acme", user)])[0].status
}

#[test]
fn limits_with_one_hash_tag_are_one_call() {
    let tagged = |tokens| format!(r#""hash_tag": {{"entry": 0}}, {}"#, bucket(tokens));
    let limits =
        [limit("per_tenant", &["x-tenant"], &tagged(100)), limit("per_user", &["x-tenant", "x-user-id"], &tagged(30))];
    let mesh = mesh_of(2, "", &limits);
    assert_eq!(status(&mesh, "warm-up"), 200);
    assert_eq!(admitted(&mesh, (0..640).map(|_| by("acme", "alice"))), 30);
    let before = mesh.redis().commands();
    assert_eq!(status(&mesh, "bob"), 200);
    assert_eq!(mesh.redis().commands() - before, 1);
    assert_eq!(admitted(&mesh, (0..640).map(|nth| by("acme", &format!("user {nth}")))), 100 - 32);
}

/// No two of these limits share a hash slot.
#[test]
fn limits_in_several_slots_admit_what_each_admits_and_lose_nothing() {
    let limits = [
        limit("per_tenant", &["x-tenant"], &bucket(100)),
        limit("per_user", &["x-user-id"], &bucket(10)),
        limit("all", &[], &bucket(400)),
    ];
    let mesh = mesh_of(3, "", &limits);
    assert_eq!(admitted(&mesh, (0..640).map(|_| by("acme", "alice"))), 10);
    // 630 requests were denied by the user's bucket, and have spent nothing of the tenant's.
    assert_eq!(admitted(&mesh, (0..640).map(|nth| by("acme", &format!("user {nth}")))), 90);
    // What the tenant's bucket denied has spent nothing of the bucket of all.
    assert_eq!(admitted(&mesh, (0..640).map(|nth| by(&format!("tenant {nth}"), &format!("other {nth}")))), 300);
    assert_eq!(mesh.workers().iter().filter_map(|it| it.metric("weir.redis.cluster_mode")).sum::<i64>(), 0);
}

#[test]
fn each_algorithm_gets_back_what_another_slot_denied() {
    for first in [
        bucket(5),
        format!(r#"{}, "max_delay": "1s""#, bucket(5)),
        r#""fixed_window": {"max_requests": 5, "window": "3600s"}"#.to_owned(),
        r#""sliding_window": {"max_requests": 5, "window": "3600s", "mode": "exact"}"#.to_owned(),
        r#""sliding_window": {"max_requests": 5, "window": "3600s", "mode": "approximate"}"#.to_owned(),
        r#""quota": {"max_requests": 5, "unit": "month"}"#.to_owned(),
        r#""concurrency": {"max_requests": 5}"#.to_owned(),
    ] {
        let limits = [limit("first", &["x-tenant"], &first), limit("second", &["x-user-id"], &bucket(1))];
        let mesh = mesh_of(1, "", &limits);
        let slow = |user: &str| taking("acme", user, Micros::from_secs(30));
        assert_eq!(status(&mesh, "alice"), 200);
        // One after the other: requests at once may find the first bucket empty before the others have given back.
        for _ in 0..9 {
            assert_eq!(status(&mesh, "alice"), 429, "{first}");
        }
        let left = if first.contains("concurrency") { 5 } else { 4 };
        assert_eq!(admitted(&mesh, (0..9).map(|nth| slow(&format!("user {nth}")))), left, "{first}");
    }
}

/// The second limit denies, whatever its algorithm.
#[test]
fn what_each_algorithm_denies_is_given_back_by_another_slot() {
    for second in [
        bucket(5),
        r#""fixed_window": {"max_requests": 5, "window": "3600s"}"#.to_owned(),
        r#""sliding_window": {"max_requests": 5, "window": "3600s", "mode": "exact"}"#.to_owned(),
        r#""sliding_window": {"max_requests": 5, "window": "3600s", "mode": "approximate"}"#.to_owned(),
        r#""quota": {"max_requests": 5, "unit": "month"}"#.to_owned(),
        r#""concurrency": {"max_requests": 5}"#.to_owned(),
    ] {
        let limits = [limit("first", &["x-tenant"], &bucket(9)), limit("second", &["x-user-id"], &second)];
        let mesh = mesh_of(1, "", &limits);
        let slow = |user: &str| taking("acme", user, Micros::from_secs(30));
        assert_eq!(admitted(&mesh, (0..9).map(|_| slow("alice"))), 5, "{second}");
        assert_eq!(admitted(&mesh, (0..9).map(|_| slow("bob"))), 4, "{second}");
    }
}

#[test]
fn slots_in_two_hash_slots_are_released_in_both_orders() {
    let of_tenant = limit("of_tenant", &["x-tenant"], r#""concurrency": {"max_requests": 5}"#);
    let of_user = limit("of_user", &["x-user-id"], r#""concurrency": {"max_requests": 2}"#);
    for limits in [[of_tenant.clone(), of_user.clone()], [of_user, of_tenant]] {
        let mesh = mesh_of(2, "", &limits);
        let slow = |user: &str| taking("acme", user, Micros::from_secs(30));
        for (nth, user) in
            ["alice", "alice", "alice", "alice", "bob", "bob", "bob", "carol", "carol"].iter().enumerate()
        {
            mesh.begin(nth % 2, slow(user)).unwrap();
            mesh.run_until(mesh.now().plus(Micros::from_millis(20)));
        }
        // Two of alice, two of bob, one of carol; each of these holds a slot of its user and one of the tenant.
        let denied = mesh.take_answers();
        assert!(denied.len() == 4 && denied.iter().all(|(_, answer)| answer.status == 429), "{denied:?}");
        assert_eq!(mesh.redis().slots(), 10);
        assert!(mesh.run_until_answered(mesh.now().plus(Micros::from_secs(600))));
        mesh.run_until(mesh.now().plus(Micros::from_millis(20)));
        assert_eq!((mesh.take_answers().len(), mesh.redis().slots()), (5, 0));
    }
}

#[test]
fn leased_tokens_are_spent_by_admitted_requests_alone() {
    let leased = format!(r#"{}, "lease": {{"max": 10, "ttl": "2s"}}"#, bucket(100));
    let leased = limit("leased", &["x-tenant"], &leased);
    let other = limit("other", &["x-user-id"], &bucket(1));
    for limits in [[leased.clone(), other.clone()], [other, leased]] {
        let mesh = mesh_of(1, "", &limits);
        assert_eq!(admitted(&mesh, (0..200).map(|_| by("acme", "alice"))), 1);
        mesh.advance(Micros::from_secs(10));
        let more = (0..300).filter(|nth| status(&mesh, &format!("user {nth}")) == 200).count();
        assert!((80..=99).contains(&more), "{more}");
    }
}

#[test]
fn tokens_that_cannot_be_given_back_are_missing_and_never_too_many() {
    let limits = [limit("first", &["x-tenant"], &bucket(5)), limit("second", &["x-user-id"], &bucket(1))];
    for error in ["upstream failure", "CLUSTERDOWN The cluster is down", "ERR a script that fails"] {
        let mesh = mesh_of(1, "", &limits);
        assert_eq!(status(&mesh, "alice"), 200);
        mesh.begin(0, by("acme", "alice")).unwrap();
        // The first call is over. Its hash slot fails when the denial of the second call is given back to it.
        let spends = mesh.redis().commands() + 1;
        while mesh.redis().commands() < spends {
            assert!(mesh.step(mesh.now().plus(Micros::from_secs(1))));
        }
        mesh.redis().set_slot_error(b"weir:{first:acme}", Some(error));
        assert!(mesh.run_until_answered(mesh.now().plus(Micros::from_secs(600))));
        mesh.run_until(mesh.now().plus(Micros::from_millis(20)));
        assert_eq!(mesh.take_answers()[0].1.status, 429, "{error}");
        mesh.redis().set_slot_error(b"weir:{first:acme}", None);
        assert_eq!((0..9).filter(|nth| status(&mesh, &format!("user {nth}")) == 200).count(), 3, "{error}");
    }
}

/// The first limit holds the request; the override of the second leaves nothing to ask about.
#[test]
fn a_request_is_held_by_an_earlier_slot_also_if_an_override_is_told_by_a_later_one() {
    let held = r#""token_bucket": {"max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "1s"}, "max_delay": "5s""#;
    let limits = [limit("first", &["x-tenant"], held), limit("second", &["x-user-id"], &bucket(3))];
    let mesh = mesh_of(1, "", &limits);
    assert_eq!(status(&mesh, "alice"), 200);
    mesh.redis().set_key_override(b"weir:{second:bob}", b"unlimited", None);
    let answer = at_once(&mesh, [by("acme", "bob")]).remove(0);
    let waited = answer.decided.minus(answer.began);
    assert!(answer.status == 200 && waited >= Micros::from_millis(900), "{waited:?}");
}

#[test]
fn a_slot_that_fails_leaves_the_limits_of_the_others_in_force() {
    for error in ["upstream failure", "no upstream host", "CLUSTERDOWN The cluster is down", "READONLY"] {
        for failing in [&b"weir:{first:acme}"[..], b"weir:{second:acme}"] {
            let limits = [limit("first", &["x-tenant"], &bucket(3)), limit("second", &["x-tenant"], &bucket(5))];
            let mesh = mesh_of(1, "", &limits);
            assert_eq!(status(&mesh, "alice"), 200);
            mesh.redis().set_slot_error(failing, Some(error));
            let left = if failing == b"weir:{first:acme}" { 4 } else { 2 };
            assert_eq!((0..9).filter(|_| status(&mesh, "alice") == 200).count(), left, "{error}");
            mesh.redis().set_slot_error(failing, None);
            assert_eq!(status(&mesh, "alice"), 429);
        }
    }
}

#[test]
fn a_slot_that_fails_under_failure_mode_deny_gives_back_what_others_admitted() {
    let limits = [limit("first", &["x-tenant"], &bucket(3)), limit("second", &["x-tenant"], &bucket(5))];
    let mesh = mesh_of(1, r#""failure_mode": "deny","#, &limits);
    assert_eq!(status(&mesh, "alice"), 200);
    mesh.redis().set_slot_error(b"weir:{second:acme}", Some("upstream failure"));
    for _ in 0..9 {
        assert_eq!(status(&mesh, "alice"), 503);
    }
    mesh.redis().set_slot_error(b"weir:{second:acme}", None);
    assert_eq!((0..9).filter(|_| status(&mesh, "alice") == 200).count(), 2);
}

#[test]
fn all_slots_that_fail_leave_the_failure_mode() {
    for (mode, expected) in [("allow", 200), ("deny", 503)] {
        let limits = [limit("first", &["x-tenant"], &bucket(3)), limit("second", &["x-tenant"], &bucket(5))];
        let mesh = mesh_of(1, &format!(r#""failure_mode": "{mode}","#), &limits);
        assert_eq!(status(&mesh, "alice"), 200);
        for key in [&b"weir:{first:acme}"[..], b"weir:{second:acme}"] {
            mesh.redis().set_slot_error(key, Some("upstream failure"));
        }
        assert_eq!(status(&mesh, "alice"), expected);
        mesh.stop_redis();
        assert_eq!(status(&mesh, "alice"), expected);
    }
}

#[test]
fn buckets_of_a_slot_that_moves_are_asked_one_by_one() {
    let tagged = |tokens| format!(r#""hash_tag": {{"entry": 0}}, {}"#, bucket(tokens));
    let limits = [limit("first", &["x-tenant"], &tagged(30)), limit("second", &["x-tenant"], &tagged(10))];
    let mesh = mesh_of(2, r#""failure_mode": "deny","#, &limits);
    assert_eq!(status(&mesh, "alice"), 200);
    mesh.redis().set_slot_moving(b"{acme}", true);
    assert_eq!((0..20).filter(|_| status(&mesh, "alice") == 200).count(), 9);
    mesh.redis().set_slot_moving(b"{acme}", false);
    assert_eq!(status(&mesh, "alice"), 429);
}

#[test]
fn overrides_of_keys_in_any_slot_hold_at_once() {
    for key in [&b"weir:{first:acme}"[..], b"weir:{second:alice}"] {
        let limits = [limit("first", &["x-tenant"], &bucket(30)), limit("second", &["x-user-id"], &bucket(30))];
        let mesh = mesh_of(1, "", &limits);
        assert_eq!(status(&mesh, "alice"), 200);
        mesh.redis().set_key_override(key, b"blocked", None);
        for _ in 0..5 {
            assert_eq!(status(&mesh, "alice"), 429);
            mesh.advance(Micros::from_millis(1_500));
        }
        // Of the 29 tokens that are left, denied requests have spent none.
        mesh.redis().unset_key_override(key);
        mesh.advance(Micros::from_millis(1_500));
        assert_eq!((0..40).filter(|_| status(&mesh, "alice") == 200).count(), 29);
    }
}

/// Both limits are blocked: what the worker knows of them is asked again slot by slot.
#[test]
fn overrides_in_two_slots_are_asked_about_one_after_the_other() {
    let limits = [limit("first", &["x-tenant"], &bucket(30)), limit("second", &["x-user-id"], &bucket(30))];
    let mesh = mesh_of(1, "", &limits);
    let keys = [&b"weir:{first:acme}"[..], b"weir:{second:alice}"];
    keys.iter().for_each(|key| mesh.redis().set_key_override(key, b"unlimited", None));
    assert_eq!((0..40).filter(|_| status(&mesh, "alice") == 200).count(), 40);
    mesh.advance(Micros::from_secs(2));
    assert_eq!((0..40).filter(|_| status(&mesh, "alice") == 200).count(), 40);
    keys.iter().for_each(|key| _ = mesh.redis().unset_key_override(key));
    mesh.advance(Micros::from_secs(2));
    assert_eq!((0..40).filter(|_| status(&mesh, "alice") == 200).count(), 30);
}

#[test]
fn an_override_that_leaves_nothing_to_ask_keeps_what_an_earlier_slot_decided() {
    let limits = [limit("first", &["x-tenant"], &bucket(30)), limit("second", &["x-user-id"], &bucket(3))];
    let mesh = mesh_of(1, "", &limits);
    mesh.redis().set_key_override(b"weir:{second:alice}", b"unlimited", None);
    let answers = at_once(&mesh, [by("acme", "alice")]);
    assert_eq!((answers[0].status, answers[0].header("x-ratelimit-remaining")), (200, Some("29")));
    mesh.workers()[0].tick();
    assert_eq!(mesh.workers()[0].metric("weir.limit.first.admitted"), Some(1));
    assert_eq!((0..40).filter(|_| status(&mesh, "alice") == 200).count(), 29);
}
