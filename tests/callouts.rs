//! Callouts on both hosts, to Redis and to its front ends: slots that are returned before the client's next request, and
//! checks that share a callout. On Envoy alone: the circuit breaker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;
use weir::{Fault, HostKind, Mesh};
use weir_harness::traffic::{self, Pace};

const STREAM: &str = "envoy/quickstart.yaml";
const CALLOUT: &str = "envoy/callout.yaml";
/// All transports over callouts.
const CALLOUTS: [&str; 3] = [CALLOUT, "envoy/webdis.yaml", "envoy/upstash.yaml"];

weir::on_both_hosts! {
    a_client_that_sends_one_request_after_another_finds_its_slot_free
    requests_that_share_a_callout_each_get_their_own_response
    a_lost_script_is_sent_again_for_all_checks_of_a_callout
}

/// A limit of one slot, and a client that sends its requests one after the other: each on a new connection, which
/// another worker may serve, and all on one connection.
async fn a_client_that_sends_one_request_after_another_finds_its_slot_free(host: HostKind) {
    for scenario in CALLOUTS.into_iter().chain([STREAM]) {
        for workers in [1, 2] {
            let mesh = Mesh::on(host, scenario).patient().workers(workers).configure(|filter| {
                let limit = &mut filter["limits"][0];
                limit.as_object_mut().unwrap().remove("token_bucket");
                limit["concurrency"] = json!({"max_requests": 1, "lease": "3600s"});
            });
            let Some(mesh) = mesh.start().await else { return };
            for nth in 0..50 {
                let answer = mesh.get("alice").await;
                assert_eq!(answer.status, 200, "{scenario}, {workers} workers, request {nth}");
            }
            let mut plan = mesh.plan(0);
            (plan.duration, plan.timeout) = (Duration::from_secs(60), Duration::from_secs(30));
            plan.users = vec![Mesh::user("bob", Pace::Closed).requests(50)];
            let report = traffic::run(plan, Arc::default()).await.together();
            assert_eq!(
                (report.admitted(), report.denied(), report.failed()),
                (50, 0, 0),
                "{scenario}, {workers} workers"
            );
        }
    }
}

/// 64 users at once, with five tokens each.
async fn requests_that_share_a_callout_each_get_their_own_response(host: HostKind) {
    for scenario in CALLOUTS {
        let Some(callouts) = share_a_callout(host, scenario).await else { return };
        // A front end keeps connections open.
        let expected = if scenario == CALLOUT { 5..=250 } else { 0..=250 };
        assert!(expected.contains(&callouts), "{scenario}: {callouts} callouts for 320 to 384 checks");
    }
}

/// Returns the number of connections that the checks needed.
async fn share_a_callout(host: HostKind, scenario: &str) -> Option<u64> {
    let mesh = Mesh::on(host, scenario).patient().workers(1).bucket(5, 1, "3600s").with_faults();
    let mesh = mesh.configure(|filter| filter["overrides"] = json!({"enabled": false}));
    let mesh = mesh.start().await?;
    mesh.get("warm-up").await.admitted();
    let before = mesh.faults().connections();
    // The delay keeps a callout in flight while other checks arrive, also where the users are slow.
    mesh.faults().set(Fault::Delay(Duration::from_millis(10)));
    let (mesh, mut users) = (Arc::new(mesh), JoinSet::new());
    for user in 0..64 {
        let mesh = Arc::clone(&mesh);
        users.spawn(async move {
            let name = format!("user-{user}");
            let mut answers = Vec::new();
            for _ in 0..8 {
                let answer = mesh.get(&name).await;
                answers.push((answer.status, answer.number::<u64>("x-ratelimit-remaining")));
            }
            (name, answers)
        });
    }
    let expected: Vec<_> = (0..5).rev().map(|left| (200, Some(left))).chain([(429, Some(0)); 3]).collect();
    for (name, answers) in users.join_all().await {
        assert_eq!(answers, expected, "{scenario}: {name}");
    }
    for cause in ["reset", "timeout", "unavailable", "protocol", "refused"] {
        mesh.counts(&format!("weir_redis_{cause}"), 0).await;
    }
    Some(mesh.faults().connections() - before)
}

async fn a_lost_script_is_sent_again_for_all_checks_of_a_callout(host: HostKind) {
    for scenario in CALLOUTS {
        lose_the_script(host, scenario).await;
    }
}

async fn lose_the_script(host: HostKind, scenario: &str) {
    let mesh = Mesh::on(host, scenario).patient().workers(1).bucket(1, 1, "3600s");
    let Some(mesh) = mesh.start().await else { return };
    mesh.get("warm-up").await.admitted();
    let mesh = Arc::new(mesh);
    for round in 0..3 {
        redis::cmd("SCRIPT").arg("FLUSH").exec(&mut mesh.redis_connection()).unwrap();
        let mut users = JoinSet::new();
        for user in 0..64 {
            let mesh = Arc::clone(&mesh);
            users.spawn(async move { mesh.get(&format!("user-{round}-{user}")).await.status });
        }
        assert_eq!(users.join_all().await, [200; 64]);
    }
    mesh.counts("weir_requests_failed", 0).await;
}

/// The circuit breaker allows one connection to Redis and one pending callout. The embedded host has no circuit
/// breakers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_circuit_breaker_has_its_own_counter() {
    let mesh = Mesh::on(HostKind::Envoy, CALLOUT).patient().workers(2).with_faults().edit(|bootstrap| {
        let none = json!({"thresholds": [{"max_connections": 1, "max_pending_requests": 1}]});
        bootstrap["static_resources"]["clusters"][0]["circuit_breakers"] = none;
    });
    let mesh = mesh.configure(|filter| {
        filter["overrides"] = json!({"enabled": false});
        filter["failure_mode"] = "allow".into();
    });
    let Some(mesh) = mesh.start().await else { return };
    let mesh = Arc::new(mesh);
    // Each worker has to have been answered within the last second: otherwise it cannot tell an open circuit breaker from
    // a cluster without hosts, and counts `unavailable`, as on a stalled machine.
    for round in 0..5 {
        let failures = open_the_circuit_breaker(&mesh, round).await;
        if failures["unavailable"] == 0 {
            assert!(failures["circuit_breaker"] > 0, "all requests passed for other causes: {failures:?}");
            return;
        }
    }
    panic!("an open circuit breaker is counted as `unavailable`");
}

/// Sends requests while the circuit breaker opens and closes, and returns the numbers of failures by cause.
async fn open_the_circuit_breaker(mesh: &Arc<Mesh>, round: usize) -> BTreeMap<&'static str, u64> {
    let before = failures(mesh).await;
    for nth in 0..32 {
        let answer = mesh.get(&format!("warm-up-{round}-{nth}")).await.admitted();
        assert!(answer.header("x-ratelimit-limit").is_some());
    }
    mesh.faults().set(Fault::Delay(Duration::from_millis(100)));
    let mut users = JoinSet::new();
    for user in 0..64 {
        let mesh = Arc::clone(mesh);
        users.spawn(async move {
            tokio::time::sleep(Duration::from_millis(10 * user)).await;
            mesh.get(&format!("user-{round}-{user}")).await.admitted().header("x-ratelimit-limit").is_none()
        });
    }
    let let_pass = users.join_all().await.into_iter().filter(|let_pass| *let_pass).count();
    mesh.faults().clear();
    assert!(let_pass > 0, "the circuit breaker was never open");
    // On a busy machine, some checks time out before they reach the circuit breaker. Hosts report counters one by one.
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let now = failures(mesh).await;
        let failures: BTreeMap<_, _> = now.iter().map(|(cause, count)| (*cause, count - before[cause])).collect();
        if failures.values().sum::<u64>() == let_pass as u64 {
            return failures;
        }
        assert!(Instant::now() < deadline, "{let_pass} requests failed: {failures:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Returns the numbers of failures so far by cause.
async fn failures(mesh: &Mesh) -> BTreeMap<&'static str, u64> {
    let mut failures = BTreeMap::new();
    for cause in ["circuit_breaker", "timeout", "overloaded", "reset", "unavailable"] {
        failures.insert(cause, mesh.counter(&format!("weir_redis_{cause}")).await);
    }
    failures
}
