//! Leases on both hosts: workers take tokens ahead, admit no request too many, and ask Redis rarely.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use weir::{HostKind, Mesh, MeshBuilder};
use weir_harness::traffic::{self, Pace, UserReport};

const QUICKSTART: &str = "envoy/quickstart.yaml";

weir::on_both_hosts! {
    two_hosts_with_leases_admit_no_more_than_the_capacity
    leases_that_end_or_are_returned_admit_no_more_than_the_rate
    a_steady_key_asks_redis_at_most_once_per_twenty_requests
    unused_tokens_of_a_worker_come_back
    a_request_that_another_limit_denies_spends_nothing_from_a_leased_limit
    a_flood_that_another_limit_denies_does_not_drain_a_leased_limit
}

async fn two_hosts_with_leases_admit_no_more_than_the_capacity(host: HostKind) {
    // A worker that stalls for two lifetimes of a lease would lose its tokens.
    let mesh = leased(Mesh::on(host, QUICKSTART).hosts(2).bucket(1_000, 2, "86400s"), 100, "5s");
    let Some(mesh) = mesh.start().await else { return };
    let (one, other) = tokio::join!(crowd(&mesh, 0, 2_000), crowd(&mesh, 1, 2_000));
    let admitted = one.admitted() + other.admitted();
    assert!(admitted <= 1_000, "{admitted}");
    assert_eq!(one.denied() + other.denied() + admitted, 4_000, "{:?} {:?}", one.failures(), other.failures());
    println!("{} of 1,000 tokens were unused", 1_000 - admitted);
    // Tokens that workers hold at the end come back and admit further requests.
    let (mut rest, deadline) = (0, Instant::now() + Duration::from_secs(30));
    while admitted + rest < 900 {
        assert!(Instant::now() < deadline, "{admitted} and {rest}");
        tokio::time::sleep(Duration::from_millis(500)).await;
        rest += one_by_one(&mesh, 1_000 - admitted - rest).await;
    }
    rest += one_by_one(&mesh, 1_000 - admitted - rest + 5).await;
    assert!(admitted + rest <= 1_000, "{admitted} and {rest}");
}

/// A limit of 100 at once and 1,000 a second, and bursts of 150 requests each 150 ms, which leave leases unused.
async fn leases_that_end_or_are_returned_admit_no_more_than_the_rate(host: HostKind) {
    let mesh = leased(Mesh::on(host, QUICKSTART).hosts(2).bucket(100, 1_000, "1s"), 25, "0.1s");
    let Some(mesh) = mesh.start().await else { return };
    let start = Instant::now();
    let bursts = Pace::Bursts { size: 150, every: Duration::from_millis(150) };
    let run = |host| {
        let mut plan = mesh.plan(host);
        plan.duration = Duration::from_secs(3);
        plan.users = vec![Mesh::user("alice", bursts)];
        traffic::run(plan, Arc::default())
    };
    let (one, other) = tokio::join!(run(0), run(1));
    let admitted = one.together().admitted() + other.together().admitted();
    let most = 100 + usize::try_from(start.elapsed().as_millis()).unwrap();
    assert!((200..=most).contains(&admitted), "{admitted} of at most {most}");
}

async fn a_steady_key_asks_redis_at_most_once_per_twenty_requests(host: HostKind) {
    let mesh = leased(Mesh::on(host, QUICKSTART).workers(1).bucket(1_000_000, 1_000_000, "1s"), 1_000, "1s");
    let mesh = mesh.configure(|filter| filter["overrides"] = json!({"enabled": false}));
    let Some(mesh) = mesh.start().await else { return };
    let report = crowd(&mesh, 0, 5_000).await;
    assert_eq!(report.admitted(), 5_000, "{:?}", report.failures());
    let asked = weir::evaluations(&mesh);
    assert!(asked <= 5_000 / 20, "{asked} scripts for 5,000 requests");
    let answer = mesh.get("alice").await.admitted();
    assert!(answer.number::<u64>("x-ratelimit-remaining").unwrap() > 900_000);
}

async fn unused_tokens_of_a_worker_come_back(host: HostKind) {
    // A worker that stalls for two lifetimes of a lease would lose its tokens.
    let mesh = leased(Mesh::on(host, QUICKSTART).workers(1).hosts(2).bucket(40, 1, "3600s"), 10, "5s");
    let Some(mesh) = mesh.start().await else { return };
    let first = one_by_one(&mesh, 12).await;
    assert_eq!(first, 12);
    // The other host spends the rest, once the lease of the first host is returned.
    let (mut rest, deadline) = (0, Instant::now() + Duration::from_secs(30));
    while rest < 27 {
        while mesh.ask("/").user("alice").via(1).send().await.status == 200 {
            rest += 1;
        }
        assert!(Instant::now() < deadline, "{rest}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!((27..=28).contains(&rest), "{rest}");
}

async fn a_request_that_another_limit_denies_spends_nothing_from_a_leased_limit(host: HostKind) {
    let mesh = Mesh::on(host, QUICKSTART).workers(1).patient().configure(|filter| {
        filter["limits"] = json!([
            {"name": "leased", "descriptor": [], "lease": {"max": 20, "ttl": "60s"},
             "token_bucket": {"max_tokens": 100, "tokens_per_fill": 1, "fill_interval": "3600s"}},
            {"name": "narrow", "descriptor": [{"request_header": {"name": "x-user-id"}}],
             "token_bucket": {"max_tokens": 10, "tokens_per_fill": 1, "fill_interval": "3600s"}},
        ]);
        filter["deny_cache"] = json!({"max_entries": 0});
    });
    let Some(mesh) = mesh.start().await else { return };
    for _ in 0..10 {
        mesh.get("alice").await.admitted();
    }
    for _ in 0..100 {
        mesh.get("alice").await.denied();
    }
    let mut admitted = 10;
    for user in 0..12 {
        for _ in 0..10 {
            admitted += u64::from(mesh.get(&format!("user {user}")).await.status == 200);
        }
    }
    assert!(
        (80..=100).contains(&admitted),
        "denied requests spend nothing from the leased limit, found {admitted} admitted"
    );
}

/// Alice's requests are denied by the limit `narrow`, from which Bob is exempt.
async fn a_flood_that_another_limit_denies_does_not_drain_a_leased_limit(host: HostKind) {
    let mesh = Mesh::on(host, QUICKSTART).workers(1).patient().configure(|filter| {
        filter["limits"] = json!([
            {"name": "leased", "descriptor": [], "lease": {"max": 20, "ttl": "4s"},
             "token_bucket": {"max_tokens": 1000, "tokens_per_fill": 1, "fill_interval": "3600s"}},
            {"name": "narrow", "descriptor": [{"request_header": {"name": "x-user-id"}}], "hits_addend": 2,
             "exempt": [{"descriptor_value": "bob"}],
             "token_bucket": {"max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "3600s"}},
        ]);
        filter["deny_cache"] = json!({"max_entries": 0});
    });
    let Some(mesh) = mesh.start().await else { return };
    for _ in 0..20 {
        mesh.get("bob").await.admitted();
    }
    let report = crowd(&mesh, 0, 20_000).await;
    assert_eq!((report.admitted(), report.denied()), (0, 20_000));
    let left = || async { mesh.get("bob").await.number::<u64>("x-ratelimit-remaining").unwrap() };
    let deadline = Instant::now() + Duration::from_secs(20);
    // Tokens that the worker took ahead come back.
    while left().await < 950 {
        assert!(Instant::now() < deadline, "{} are left", left().await);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn leased(mesh: MeshBuilder, max: u64, ttl: &str) -> MeshBuilder {
    let lease = json!({"max": max, "ttl": ttl});
    mesh.patient().configure(|filter| filter["limits"][0]["lease"] = lease.clone())
}

/// Sends `requests` of one user over 32 connections, each as soon as the one before it is answered.
async fn crowd(mesh: &Mesh, host: usize, requests: u64) -> UserReport {
    let mut plan = mesh.plan(host);
    plan.duration = Duration::from_secs(60);
    plan.users = vec![Mesh::user("alice", Pace::Closed).connections(32).requests(requests)];
    traffic::run(plan, Arc::default()).await.together()
}

/// Sends `requests` one after the other, and returns how many are admitted.
async fn one_by_one(mesh: &Mesh, requests: usize) -> usize {
    let mut admitted = 0;
    for _ in 0..requests {
        admitted += usize::from(mesh.get("alice").await.status == 200);
    }
    admitted
}
