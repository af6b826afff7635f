//! Deny cache on both hosts: denies only requests that Redis would deny, and saves most of their checks.

use std::sync::Arc;
use std::time::Duration;

use redis::Commands;
use serde_json::json;
use tokio::time::{Instant, sleep};
use weir::{HostKind, Mesh};
use weir_harness::traffic::{self, Pace};

const QUICKSTART: &str = "envoy/quickstart.yaml";

weir::on_both_hosts! {
    a_flood_is_denied_without_asking_redis
    refilled_tokens_are_admitted_and_no_more
    a_reset_by_an_operator_takes_effect_within_a_second
}

async fn a_flood_is_denied_without_asking_redis(host: HostKind) {
    let mesh = Mesh::on(host, QUICKSTART).patient().bucket(100, 2, "86400s");
    let mesh = mesh.configure(|filter| filter["overrides"] = json!({"enabled": false}));
    let Some(mesh) = mesh.start().await else { return };
    let start = Instant::now();
    let mut plan = mesh.plan(0);
    plan.duration = Duration::from_secs(60);
    plan.users = vec![Mesh::user("alice", Pace::Closed).connections(32).requests(5_000)];
    let crowd = traffic::run(plan, Arc::default()).await.together();
    assert_eq!((crowd.admitted(), crowd.denied()), (100, 4_900), "{:?}", crowd.failures());
    // Once a second, each of the two workers asks Redis for the requests that arrive before the reply: at most 32.
    let bound = 100 + 2 * 32 * (1 + start.elapsed().as_secs());
    let asked = weir::buckets_asked(&mesh);
    assert!((100..=bound).contains(&asked), "{asked} of at most {bound}");
    mesh.counts("weir_deny_cache_hits", 5_000 - asked).await;
}

/// A token each 100 ms, and a client that sends 400 requests a second.
async fn refilled_tokens_are_admitted_and_no_more(host: HostKind) {
    let Some(mesh) = Mesh::on(host, QUICKSTART).patient().bucket(1, 10, "1s").start().await else { return };
    let mut plan = mesh.plan(0);
    plan.duration = Duration::from_secs(3);
    plan.users = vec![Mesh::user("alice", Pace::PerSecond(400.0))];
    let start = Instant::now();
    let crowd = traffic::run(plan, Arc::default()).await.together();
    let most = 1 + start.elapsed().as_millis() / 100;
    let admitted = u128::try_from(crowd.admitted()).unwrap();
    // Requests at least 140 ms apart, of which a stalled machine sends fewer: each finds a token, or another request
    // since the one before has found it.
    let (mut least, mut since) = (0, Duration::ZERO);
    for outcome in &crowd.outcomes {
        if outcome.at >= since {
            (least, since) = (least + 1, outcome.at + outcome.latency + Duration::from_millis(140));
        }
    }
    assert!((least..=most).contains(&admitted) && least > 0, "{admitted} of {least} to {most}");
}

async fn a_reset_by_an_operator_takes_effect_within_a_second(host: HostKind) {
    let Some(mesh) = Mesh::on(host, QUICKSTART).patient().bucket(1, 1, "3600s").start().await else { return };
    mesh.get("alice").await.admitted();
    // Both workers have cached the denial.
    for _ in 0..20 {
        mesh.get("alice").await.denied();
    }
    let deleted: u64 = mesh.redis_connection().del(format!("{}per_user:alice", mesh.key_prefix())).unwrap();
    assert_eq!(deleted, 1);
    sleep(Duration::from_secs(1)).await;
    mesh.get("alice").await.admitted();
}
