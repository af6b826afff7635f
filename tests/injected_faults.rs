//! Faults between the hosts and a real Redis, through both transports: what a request gets, which cause is counted, and
//! that limits apply again when the fault is over.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use weir::{Fault, HostKind, Mesh, Rule};

const QUICKSTART: &str = "envoy/quickstart.yaml";
const CALLOUT: &str = "envoy/callout.yaml";
/// Value of `redis.timeout` in these tests.
const TIMEOUT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_millis(400);
/// Time to open a connection, longer than a busy machine needs for a request.
const SLOW: Duration = Duration::from_secs(3);
const SOON: Duration = Duration::from_secs(60);
const CAUSES: [&str; 4] = ["timeout", "reset", "unavailable", "protocol"];

weir::on_both_hosts! {
    each_fault_fails_checks_by_its_cause_on_a_stream
    each_fault_fails_checks_by_its_cause_in_callouts
    a_reply_that_arrives_byte_by_byte_decides
    some_commands_are_struck_and_others_are_not
}

/// Causes that a fault may be counted under: with faults that break connections, the cause depends on whether a check
/// was in flight.
fn faults() -> Vec<(Rule, &'static [&'static str])> {
    const BROKEN: &[&str] = &["reset", "unavailable"];
    vec![
        (Fault::Delay(LONG).into(), &["timeout", "unavailable"]),
        (Fault::Drop.into(), &["timeout", "unavailable"]),
        (Fault::Reset.into(), BROKEN),
        (Fault::LoseReply.into(), BROKEN),
        (Fault::Garbage.into(), &["protocol", "unavailable"]),
        (Fault::HalfClose.into(), &["reset", "unavailable", "protocol"]),
        (Fault::Refuse.into(), BROKEN),
        (Rule::from(Fault::Drop).after(3), &["timeout", "unavailable"]),
        (Rule::from(Fault::Reset).after(3), BROKEN),
        (Rule::from(Fault::Garbage).after(3), &["protocol", "unavailable", "timeout"]),
        (Rule::from(Fault::HalfClose).after(3), &["reset", "unavailable", "protocol"]),
    ]
}

async fn each_fault_fails_checks_by_its_cause_on_a_stream(host: HostKind) {
    fail_and_recover(host, QUICKSTART).await;
}

async fn each_fault_fails_checks_by_its_cause_in_callouts(host: HostKind) {
    fail_and_recover(host, CALLOUT).await;
}

async fn fail_and_recover(host: HostKind, scenario: &str) {
    let Some(mesh) = mesh(host, scenario).await else { return };
    let slow_open = (Rule::from(Fault::SlowOpen(SLOW)), &["timeout", "unavailable"][..]);
    for (fault, causes) in faults().into_iter().chain([slow_open]) {
        until_limiting(&mesh).await;
        let mut before = failures(&mesh).await;
        if scenario == QUICKSTART && fault == slow_open.0 {
            // Only a new connection is slow to open.
            mesh.faults().set(Fault::Refuse);
            until_failed(&mesh, &before, fault).await;
            before = failures(&mesh).await;
        }
        mesh.faults().set(fault);
        let (failed, waited) = until_failed(&mesh, &before, fault).await;
        // On a stalled host, a check may time out before the host has seen the fault.
        let may_be = |cause: &str| causes.contains(&cause) || cause == "timeout" && waited >= TIMEOUT;
        assert!(failed.iter().all(|cause| may_be(cause)), "{scenario}, {fault:?}: {failed:?} after {waited:?}");
        mesh.faults().clear();
    }
    until_limiting(&mesh).await;
}

async fn a_reply_that_arrives_byte_by_byte_decides(host: HostKind) {
    for scenario in [QUICKSTART, CALLOUT] {
        let Some(mesh) = patient(host, scenario).await else { return };
        until_limiting(&mesh).await;
        mesh.faults().set(Fault::Split);
        for nth in 1..=3 {
            mesh.get("alice").await.admitted().remaining(20 - nth);
        }
        assert!(mesh.faults().struck().iter().any(|(kind, times)| *kind == "split" && *times >= 3));
    }
}

async fn some_commands_are_struck_and_others_are_not(host: HostKind) {
    let Some(mesh) = patient(host, CALLOUT).await else { return };
    until_limiting(&mesh).await;
    mesh.faults().set(Rule::from(Fault::LoseReply).with_probability(0.5));
    let mut statuses = Vec::new();
    for nth in 0..40 {
        statuses.push(mesh.get(&format!("user {nth}")).await.status);
    }
    let count = |status| statuses.iter().filter(|found| **found == status).count();
    assert!(count(200) >= 5 && count(503) >= 5 && count(200) + count(503) == 40, "{statuses:?}");
}

async fn mesh(host: HostKind, scenario: &str) -> Option<Mesh> {
    start(host, scenario, TIMEOUT).await
}

/// Starts a mesh whose checks do not time out on a busy machine.
async fn patient(host: HostKind, scenario: &str) -> Option<Mesh> {
    start(host, scenario, Duration::from_secs(5)).await
}

async fn start(host: HostKind, scenario: &str, timeout: Duration) -> Option<Mesh> {
    let mesh = Mesh::on(host, scenario).workers(1).with_faults().bucket(20, 1, "3600s").configure(|filter| {
        filter["redis"]["timeout"] = format!("{}s", timeout.as_secs_f64()).into();
        filter["failure_mode"] = "deny".into();
        filter["overrides"] = serde_json::json!({"enabled": false});
    });
    mesh.start().await
}

/// Numbers of failed requests by cause.
async fn failures(mesh: &Mesh) -> Vec<u64> {
    let mut counts = Vec::new();
    for cause in CAUSES {
        counts.push(mesh.counter(&format!("weir_redis_{cause}")).await);
    }
    counts
}

/// Sends requests until one has failed and its cause is counted; returns the causes, and the longest wait of a request
/// that failed.
async fn until_failed(mesh: &Mesh, before: &[u64], fault: Rule) -> (BTreeSet<&'static str>, Duration) {
    let deadline = Instant::now() + SOON;
    let (mut failed, mut waited) = (false, Duration::ZERO);
    let mut user = 0;
    loop {
        user += 1;
        let sent = Instant::now();
        let answer = mesh.get(&format!("{fault:?} {user}")).await;
        assert!([200, 503].contains(&answer.status), "{}", answer.status);
        if answer.status == 503 {
            (failed, waited) = (true, waited.max(sent.elapsed()));
        }
        let now = failures(mesh).await;
        let risen = CAUSES.into_iter().zip(before.iter().zip(&now)).filter(|(_, (before, now))| now > before);
        let risen: BTreeSet<&str> = risen.map(|(cause, _)| cause).collect();
        if failed && !risen.is_empty() {
            return (risen, waited);
        }
        assert!(
            Instant::now() < deadline,
            "{fault:?}: no request fails within {SOON:?}, or no cause is counted (failed: {failed})"
        );
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until 5 requests in a row are limited.
async fn until_limiting(mesh: &Mesh) {
    let deadline = Instant::now() + SOON;
    let (mut in_a_row, mut user) = (0, 0);
    while in_a_row < 5 {
        user += 1;
        let limited = mesh.get(&format!("warm-up {user}")).await.header("x-ratelimit-limit").is_some();
        in_a_row = if limited { in_a_row + 1 } else { 0 };
        assert!(Instant::now() < deadline, "limits do not apply again within {SOON:?}");
        if !limited {
            sleep(Duration::from_millis(20)).await;
        }
    }
}
