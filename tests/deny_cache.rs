//! What is denied from memory: no more than Redis would deny, and Redis hears little of it. On both hosts.

use std::sync::Arc;
use std::time::Duration;

use redis::Commands;
use serde_json::json;
use tokio::time::{Instant, sleep};
use weir::{HostKind, Mesh};
use weir_harness::load::{self, Pace};

const QUICKSTART: &str = "envoy/quickstart.yaml";

weir::on_both_hosts! {
    a_flood_is_denied_without_asking_redis
    tokens_that_come_back_are_admitted_to_the_last
    an_operators_reset_is_heeded_within_a_second
}

async fn a_flood_is_denied_without_asking_redis(host: HostKind) {
    let mesh = Mesh::on(host, QUICKSTART).patient().bucket(100, 2, "86400s");
    let mesh = mesh.configure(|filter| filter["overrides"] = json!({"enabled": false}));
    let Some(mesh) = mesh.start().await else { return };
    let start = Instant::now();
    let mut plan = mesh.plan(0);
    plan.duration = Duration::from_secs(60);
    plan.users = vec![Mesh::user("alice", Pace::Closed).connections(32).requests(5_000)];
    let crowd = load::run(plan, Arc::default()).await.together();
    assert_eq!((crowd.admitted(), crowd.denied()), (100, 4_900), "{:?}", crowd.failures());
    // Each of two workers asks once a second, and those ask that came before the first denial's reply.
    let bound = 100 + 2 * 32 * (1 + start.elapsed().as_secs());
    let asked = weir::buckets_asked(&mesh);
    assert!((100..=bound).contains(&asked), "{asked} of at most {bound}");
    mesh.counts("weir_deny_cache_hits", 5_000 - asked).await;
}

/// A token each 100 ms, and a client that asks at any time: it gets each of them.
async fn tokens_that_come_back_are_admitted_to_the_last(host: HostKind) {
    let Some(mesh) = Mesh::on(host, QUICKSTART).patient().bucket(1, 10, "1s").start().await else { return };
    let mut plan = mesh.plan(0);
    plan.duration = Duration::from_secs(3);
    plan.users = vec![Mesh::user("alice", Pace::PerSecond(400.0))];
    let start = Instant::now();
    let crowd = load::run(plan, Arc::default()).await.together();
    let most = 1 + start.elapsed().as_millis() / 100;
    let admitted = u128::try_from(crowd.admitted()).unwrap();
    assert!((20..=most).contains(&admitted), "{admitted} of at most {most}");
}

async fn an_operators_reset_is_heeded_within_a_second(host: HostKind) {
    let Some(mesh) = Mesh::on(host, QUICKSTART).patient().bucket(1, 1, "3600s").start().await else { return };
    mesh.get("alice").await.admitted();
    // Both workers know.
    for _ in 0..20 {
        mesh.get("alice").await.denied();
    }
    let deleted: u64 = mesh.redis_connection().del(format!("{}per_user:alice", mesh.key_prefix())).unwrap();
    assert_eq!(deleted, 1);
    sleep(Duration::from_secs(1)).await;
    mesh.get("alice").await.admitted();
}
