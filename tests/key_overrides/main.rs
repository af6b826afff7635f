//! Overrides of keys: each holds from the next request on, of any algorithm, on both hosts and over both transports.

mod hostile;
mod refunds;
mod shared;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::sleep;
use weir::{HostKind, Mesh};
use weir_filter::overrides::hash_key;

use self::shared::{
    BELIEVED_FOR, FRONT_ENDS, KINDS, Operator, TRANSPORTS, ask, every_kind, flood, of_case, of_each, until,
    until_heeded,
};

weir::on_both_hosts! {
    an_override_holds_from_the_next_request_on_whatever_the_algorithm
    a_worker_that_has_leased_tokens_heeds_an_override_within_a_second
    a_blocked_key_is_blocked_from_the_first_request_on
    of_a_crowd_exactly_the_blocked_are_denied
    an_override_of_zero_denies_all_without_retry_after_until_it_is_removed
    an_override_ends_at_its_time
    what_was_spent_stays_spent
    an_override_of_a_key_goes_before_one_of_its_limit
    a_configuration_may_switch_the_overrides_of_keys_off
    a_malformed_override_of_a_key_is_ignored_and_counted
}

async fn an_override_holds_from_the_next_request_on_whatever_the_algorithm(host: HostKind) {
    for scenario in TRANSPORTS {
        let Some(mesh) = every_kind(Mesh::on(host, scenario)).start().await else { return };
        let mesh = Arc::new(mesh);
        of_each(&mesh, KINDS, holds_from_the_next_request_on).await;
        mesh.counts("weir_redis_protocol", 0).await;
    }
}

async fn holds_from_the_next_request_on(mesh: Arc<Mesh>, kind: &'static str) {
    let mut operator = Operator::of(&mesh);
    let shown = ask(&mesh, kind).await.admitted().header("x-ratelimit-limit").map(str::to_owned);
    assert!(shown.is_some(), "{kind}");
    let twice = 2 * shown.as_deref().unwrap().parse::<u64>().unwrap();
    for (text, limit) in [(r#"{"times": 2}"#, twice), (r#"{"max": 77}"#, 77)] {
        operator.set(kind, text);
        until_heeded(kind).await;
        for _ in 0..4 {
            let answer = ask(&mesh, kind).await;
            assert_eq!(answer.number("x-ratelimit-limit"), Some(limit), "{kind}: {text}");
        }
    }
    operator.set(kind, "");
    until_heeded(kind).await;
    for _ in 0..4 {
        assert_eq!(ask(&mesh, kind).await.header("x-ratelimit-limit"), shown.as_deref(), "{kind}");
    }
    operator.set(kind, "blocked");
    until_heeded(kind).await;
    for _ in 0..4 {
        ask(&mesh, kind).await.denied();
    }
    operator.set(kind, "unlimited");
    sleep(BELIEVED_FOR).await;
    for _ in 0..4 {
        ask(&mesh, kind).await.admitted().without("x-ratelimit-limit");
    }
    operator.set(kind, "");
    sleep(BELIEVED_FOR).await;
    for _ in 0..4 {
        assert_eq!(ask(&mesh, kind).await.header("x-ratelimit-limit"), shown.as_deref(), "{kind}");
    }
}

async fn a_worker_that_has_leased_tokens_heeds_an_override_within_a_second(host: HostKind) {
    for scenario in TRANSPORTS {
        let Some(mesh) = every_kind(Mesh::on(host, scenario)).workers(1).start().await else { return };
        let mut operator = Operator::of(&mesh);
        for _ in 0..4 {
            flood(&mesh, 100, |_| of_case("leased", "alice")).await;
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        while mesh.counter("weir_leases_hits").await == 0 {
            assert!(Instant::now() < deadline, "no request was served from a lease");
            flood(&mesh, 100, |_| of_case("leased", "alice")).await;
        }
        operator.set("leased", "blocked");
        sleep(BELIEVED_FOR).await;
        for _ in 0..4 {
            ask(&mesh, "leased").await.denied();
        }
    }
}

/// No worker has read anything, and 64 requests come at once.
async fn a_blocked_key_is_blocked_from_the_first_request_on(host: HostKind) {
    for scenario in TRANSPORTS.into_iter().chain(FRONT_ENDS) {
        let Some(mesh) = every_kind(Mesh::on(host, scenario)).workers(2).start().await else { return };
        let mut operator = Operator::of(&mesh);
        for kind in KINDS {
            operator.set(kind, "blocked");
            let statuses = flood(&mesh, 64, |_| of_case(kind, "alice")).await;
            assert_eq!(statuses, BTreeMap::from([(429, 64)]), "{kind}");
        }
    }
}

/// Checks of many keys travel in one command.
async fn of_a_crowd_exactly_the_blocked_are_denied(host: HostKind) {
    for scenario in TRANSPORTS.into_iter().chain(FRONT_ENDS) {
        let Some(mesh) = every_kind(Mesh::on(host, scenario)).workers(1).start().await else { return };
        let mut operator = Operator::of(&mesh);
        for kind in ["bucket", "fixed", "slots"] {
            for nth in (0..300).step_by(3) {
                operator.set_key(kind, &format!("user-{nth}"), "blocked");
            }
            for _ in 0..2 {
                let statuses = flood(&mesh, 300, |nth| of_case(kind, &format!("user-{nth}"))).await;
                assert_eq!(statuses, BTreeMap::from([(200, 200), (429, 100)]), "{kind}");
            }
        }
    }
}

async fn an_override_of_zero_denies_all_without_retry_after_until_it_is_removed(host: HostKind) {
    for scenario in TRANSPORTS {
        let Some(mesh) = every_kind(Mesh::on(host, scenario)).start().await else { return };
        of_each(&Arc::new(mesh), KINDS, denies_all_without_retry_after).await;
    }
}

async fn denies_all_without_retry_after(mesh: Arc<Mesh>, kind: &'static str) {
    let mut operator = Operator::of(&mesh);
    ask(&mesh, kind).await.admitted();
    operator.set(kind, r#"{"max": 0}"#);
    until_heeded(kind).await;
    for _ in 0..3 {
        let denied = ask(&mesh, kind).await.denied().without("retry-after");
        assert_eq!(denied.header("x-ratelimit-limit"), Some("0"), "{kind}");
    }
    operator.set(kind, "");
    until(&mesh, kind, |answer| answer.status == 200).await;
}

async fn an_override_ends_at_its_time(host: HostKind) {
    for scenario in TRANSPORTS {
        let Some(mesh) = every_kind(Mesh::on(host, scenario)).start().await else { return };
        of_each(&Arc::new(mesh), ["bucket", "quota"], ends_at_its_time).await;
    }
}

async fn ends_at_its_time(mesh: Arc<Mesh>, kind: &'static str) {
    Operator::of(&mesh).set_until(kind, r#"{"max": 77}"#, Duration::from_millis(3_000));
    let answer = ask(&mesh, kind).await.admitted();
    assert_eq!(answer.header("x-ratelimit-limit"), Some("77"));
    sleep(Duration::from_millis(3_100)).await;
    let answer = ask(&mesh, kind).await.admitted();
    assert_ne!(answer.header("x-ratelimit-limit"), Some("77"));
}

async fn what_was_spent_stays_spent(host: HostKind) {
    let Some(mesh) = every_kind(Mesh::on(host, TRANSPORTS[0])).start().await else { return };
    of_each(&Arc::new(mesh), ["bucket", "exact", "approximate", "fixed", "quota"], stays_spent).await;
}

async fn stays_spent(mesh: Arc<Mesh>, kind: &'static str) {
    let mut operator = Operator::of(&mesh);
    for _ in 0..10 {
        ask(&mesh, kind).await.admitted();
    }
    ask(&mesh, kind).await.denied();
    operator.set(kind, r#"{"max": 12}"#);
    for _ in 0..2 {
        until(&mesh, kind, |answer| answer.status == 200).await;
    }
    ask(&mesh, kind).await.denied();
    operator.set(kind, "");
    sleep(BELIEVED_FOR).await;
    ask(&mesh, kind).await.denied();
}

async fn an_override_of_a_key_goes_before_one_of_its_limit(host: HostKind) {
    let Some(mesh) = every_kind(Mesh::on(host, TRANSPORTS[0])).start().await else { return };
    let mut operator = Operator::of(&mesh);
    operator.set("bucket", "blocked");
    for (general, others) in [("off", 200), ("blocked", 429), ("unlimited", 200)] {
        redis::cmd("HSET")
            .arg(hash_key(mesh.key_prefix()))
            .arg("bucket")
            .arg(general)
            .exec(&mut operator.redis)
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let (mut in_a_row, mut nth) = (0, 0);
        while in_a_row < 12 {
            nth += 1;
            let other = mesh.ask("/").header("x-case", "bucket").user(&format!("{general}-{nth}")).send().await;
            // The limit itself, which holds until a worker knows the override, sends headers.
            let is_in_force = other.status == others && (others == 429 || other.header("x-ratelimit-limit").is_none());
            in_a_row = if is_in_force { in_a_row + 1 } else { 0 };
            assert!(Instant::now() < deadline, "{general} is not in force");
        }
        ask(&mesh, "bucket").await.denied();
    }
    operator.set("bucket", r#"{"max": 77}"#);
    until(&mesh, "bucket", |answer| answer.header("x-ratelimit-limit") == Some("77")).await;
}

async fn a_configuration_may_switch_the_overrides_of_keys_off(host: HostKind) {
    let mesh = every_kind(Mesh::on(host, TRANSPORTS[0]))
        .configure(|filter| filter["overrides"] = json!({"refresh_interval": "1s", "per_key": false}));
    let Some(mesh) = mesh.start().await else { return };
    let mut operator = Operator::of(&mesh);
    for kind in KINDS {
        operator.set(kind, "blocked");
        ask(&mesh, kind).await.admitted();
    }
}

async fn a_malformed_override_of_a_key_is_ignored_and_counted(host: HostKind) {
    let Some(mesh) = every_kind(Mesh::on(host, TRANSPORTS[0])).workers(1).start().await else { return };
    let mut operator = Operator::of(&mesh);
    for kind in KINDS {
        operator.set(kind, "blokced");
        for _ in 0..2 {
            assert!(ask(&mesh, kind).await.admitted().header("x-ratelimit-limit").is_some(), "{kind}");
        }
    }
    mesh.counts("weir_overrides_ignored", KINDS.len() as u64).await;
}
