//! HTTP front ends of Redis on both hosts: exactness, faults on the way to the front end, a front end and a Redis that
//! die, refusals and credentials.
//!
//! Webdis is a real one, of Debian. Upstash is an emulation of the documented REST API in front of a real Redis: what
//! Upstash does beyond its documentation, no test here shows. tests/callouts.rs has more, on all transports over callouts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use redis::Commands;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use weir::{Fault, HostKind, Mesh, MeshBuilder, Rule};
use weir_harness::front_end::FrontEnd;
use weir_harness::traffic::{self, Pace};
use weir_provision::webdis::WebdisOptions;

const WEBDIS: &str = "envoy/webdis.yaml";
const UPSTASH: &str = "envoy/upstash.yaml";
const FRONT_ENDS: [&str; 2] = [WEBDIS, UPSTASH];
/// Value of `redis.timeout` in tests of faults.
const TIMEOUT: Duration = Duration::from_millis(100);
/// Delay beyond the timeout.
const LONG: Duration = Duration::from_millis(400);
const SOON: Duration = Duration::from_secs(60);
const CAUSES: [&str; 6] = ["timeout", "reset", "unavailable", "protocol", "auth", "refused"];

weir::on_both_hosts! {
    decisions_are_those_of_redis_itself
    two_hosts_admit_exactly_the_capacity
    an_error_about_one_bucket_fails_the_requests_of_that_bucket_alone
    overrides_apply
    each_fault_fails_checks_by_its_cause
    redis_dies_and_returns_under_load
    a_stalled_redis_admits_nobody_twice
    webdis_dies_and_returns
    webdis_demands_its_own_credentials
    a_request_that_is_too_large_for_webdis_is_refused
    each_status_of_upstash_is_a_cause
    the_token_comes_from_the_environment
}

async fn decisions_are_those_of_redis_itself(host: HostKind) {
    for scenario in FRONT_ENDS {
        let mesh = Mesh::on(host, scenario).patient().workers(1).bucket(3, 1, "60s");
        let Some(mesh) = mesh.start().await else { return };
        for user in ["alice", "b o+b/%2F?", "50%/\u{fc}"] {
            for left in [2, 1, 0] {
                mesh.get(user).await.admitted().remaining(left);
            }
            let denied = mesh.get(user).await.denied().remaining(0);
            let wait: u64 = denied.number("retry-after").unwrap();
            assert!((50..=60).contains(&wait), "{scenario}: {denied:#?}");
        }
        mesh.counts("weir_requests_failed", 0).await;
        mesh.counts("weir_redis_connected", 1).await;
    }
}

/// A bucket of 100 tokens, asked for by 1,200 requests of two hosts with two workers each.
async fn two_hosts_admit_exactly_the_capacity(host: HostKind) {
    for scenario in FRONT_ENDS {
        let mesh = Mesh::on(host, scenario).patient().hosts(2).bucket(100, 2, "86400s");
        let mesh = mesh.configure(|filter| filter["deny_cache"] = json!({"max_entries": 0}));
        let Some(mesh) = mesh.start().await else { return };
        let hundreds = |host: usize| {
            let mut plan = mesh.plan(host);
            (plan.duration, plan.timeout) = (Duration::from_secs(60), Duration::from_secs(30));
            plan.users = vec![Mesh::user("alice", Pace::Closed).connections(50).requests(600)];
            traffic::run(plan, Arc::default())
        };
        let (one, other) = tokio::join!(hundreds(0), hundreds(1));
        let (one, other) = (one.together(), other.together());
        assert_eq!(one.admitted() + other.admitted(), 100, "{scenario}: {one:?} {other:?}");
        assert_eq!(one.denied() + other.denied(), 1_100, "{scenario}: {:?} {:?}", one.failures(), other.failures());
    }
}

/// A key of another type: its error is one of several in the reply to the requests that came together.
async fn an_error_about_one_bucket_fails_the_requests_of_that_bucket_alone(host: HostKind) {
    for scenario in FRONT_ENDS {
        let mesh = Mesh::on(host, scenario).patient().workers(1).bucket(1, 1, "3600s").with_faults();
        let Some(mesh) = mesh.start().await else { return };
        mesh.get("warm-up").await.admitted();
        let key = format!("{}per_user:user-7", mesh.key_prefix());
        mesh.redis_connection().rpush::<_, _, ()>(key, "not a bucket").unwrap();
        // The delay keeps a callout under way while other checks arrive.
        mesh.faults().set(Fault::Delay(Duration::from_millis(2)));
        let (mesh, mut users) = (Arc::new(mesh), JoinSet::new());
        for user in 0..48 {
            let mesh = Arc::clone(&mesh);
            users.spawn(async move { (user, mesh.get(&format!("user-{user}")).await.status) });
        }
        for (user, status) in users.join_all().await {
            assert_eq!(status, if user == 7 { 503 } else { 200 }, "{scenario}: user {user}");
        }
        mesh.counts("weir_redis_refused", 1).await;
        mesh.counts("weir_requests_failed", 1).await;
    }
}

/// Overrides of limits arrive in an array; tests/key_overrides has those of keys.
async fn overrides_apply(host: HostKind) {
    for scenario in FRONT_ENDS {
        let mesh = Mesh::on(host, scenario).patient().workers(1);
        let mesh = mesh.configure(|filter| filter["overrides"] = json!({"refresh_interval": "1s"}));
        let Some(mesh) = mesh.start().await else { return };
        mesh.get("alice").await.admitted().remaining(19);
        let hash = format!("{}overrides", mesh.key_prefix());
        let text = r#"{"token_bucket":{"max_tokens":5,"tokens_per_fill":1,"fill_interval":"3600s"}}"#;
        mesh.redis_connection().hset::<_, _, _, ()>(hash, "per_user", text).unwrap();
        until(|| async { mesh.get("bob").await.header("x-ratelimit-limit") == Some("5") }).await;
        mesh.counts("weir_redis_protocol", 0).await;
        mesh.counts("weir_redis_reset", 0).await;
    }
}

async fn each_fault_fails_checks_by_its_cause(host: HostKind) {
    // On a busy machine, a check can time out before its lost connection is seen.
    const BROKEN: &[&str] = &["reset", "unavailable", "timeout"];
    let faults: [(Rule, &[&str]); 8] = [
        (Fault::Delay(LONG).into(), &["timeout"]),
        (Fault::Drop.into(), &["timeout"]),
        (Fault::Reset.into(), BROKEN),
        (Fault::LoseReply.into(), BROKEN),
        (Fault::Garbage.into(), &["reset", "protocol", "timeout"]),
        (Fault::HalfClose.into(), &["reset", "unavailable", "protocol", "timeout"]),
        (Fault::Refuse.into(), BROKEN),
        (Rule::from(Fault::Reset).after(3), BROKEN),
    ];
    for scenario in FRONT_ENDS {
        let Some(mesh) = impatient(host, scenario).with_faults().start().await else { return };
        for (fault, causes) in faults {
            until_limiting(&mesh).await;
            let before = failures(&mesh).await;
            mesh.faults().set(fault);
            let failed = until_failed(&mesh, &before).await;
            assert!(failed.iter().all(|cause| causes.contains(cause)), "{scenario}, {fault:?}: {failed:?}");
            mesh.faults().clear();
        }
        until_limiting(&mesh).await;
    }
}

async fn redis_dies_and_returns_under_load(host: HostKind) {
    for scenario in FRONT_ENDS {
        let mesh = impatient(host, scenario).configure(|filter| filter["failure_mode"] = "allow".into());
        let Some(mesh) = mesh.start().await else { return };
        until_limiting(&mesh).await;
        let mut plan = mesh.plan(0);
        plan.duration = Duration::from_secs(3);
        plan.users = vec![Mesh::user("alice", Pace::PerSecond(200.0)).connections(8)];
        let trouble = async {
            sleep(Duration::from_secs(1)).await;
            mesh.redis().kill();
            sleep(Duration::from_secs(1)).await;
            mesh.redis().restart().unwrap();
        };
        let (report, ()) = tokio::join!(traffic::run(plan, Arc::default()), trouble);
        let together = report.together();
        assert_eq!(together.failed(), 0, "{scenario}: {:?}", together.failures());
        until_limiting(&mesh).await;
        assert!(mesh.counter("weir_requests_failed").await > 0, "{scenario}");
        is_well(&mesh);
    }
}

/// Redis stands still for longer than callouts wait, under load: a Webdis before 0.1.20 then sends late replies to other
/// connections. No such reply may decide a request.
async fn a_stalled_redis_admits_nobody_twice(host: HostKind) {
    for scenario in FRONT_ENDS {
        let mesh = impatient(host, scenario).bucket(100, 2, "86400s");
        let mesh = mesh.configure(|filter| filter["deny_cache"] = json!({"max_entries": 0}));
        let Some(mesh) = mesh.start().await else { return };
        until_limiting(&mesh).await;
        let mut plan = mesh.plan(0);
        plan.duration = Duration::from_secs(6);
        // Replies about bob, who is seldom denied, would admit alice.
        plan.users = vec![
            Mesh::user("alice", Pace::PerSecond(150.0)).connections(16),
            Mesh::user("bob", Pace::PerSecond(20.0)).connections(16),
        ];
        let trouble = async {
            for _ in 0..2 {
                sleep(Duration::from_secs(1)).await;
                mesh.redis().pause().unwrap();
                // Longer than the timeout of a callout, which is 1 s more than that of its checks.
                sleep(Duration::from_millis(1_500)).await;
                mesh.redis().resume().unwrap();
            }
        };
        let (report, ()) = tokio::join!(traffic::run(plan, Arc::default()), trouble);
        for user in &report.users {
            assert!(user.admitted() <= 100, "{scenario}: {} was admitted {} times", user.name, user.admitted());
        }
        until_limiting(&mesh).await;
        is_well(&mesh);
    }
}

async fn webdis_dies_and_returns(host: HostKind) {
    let Some(mesh) = impatient(host, WEBDIS).start().await else { return };
    until_limiting(&mesh).await;
    let FrontEnd::Webdis(webdis) = mesh.front_end() else { panic!("{:?}", mesh.front_end()) };
    let before = failures(&mesh).await;
    webdis.kill();
    let failed = until_failed(&mesh, &before).await;
    assert!(failed.iter().all(|cause| ["reset", "unavailable"].contains(cause)), "{failed:?}");
    until(|| async { mesh.get("alice").await.status == 503 && mesh.counter("weir_redis_unavailable").await > 0 }).await;
    webdis.restart().unwrap();
    until_limiting(&mesh).await;
}

async fn webdis_demands_its_own_credentials(host: HostKind) {
    let login = Some(("weir".to_owned(), "open sesame".to_owned()));
    let with = |password: &'static str| {
        let webdis = WebdisOptions { login: login.clone(), ..WebdisOptions::default() };
        Mesh::on(host, WEBDIS).patient().webdis(webdis).configure(move |filter| {
            filter["redis"]["username"] = "weir".into();
            filter["redis"]["password"] = json!({"inline": password});
        })
    };
    let Some(mesh) = with("open sesame").start().await else { return };
    mesh.get("alice").await.admitted().remaining(19);
    mesh.counts("weir_redis_auth", 0).await;
    let Some(mesh) = with("open, barley").start().await else { return };
    mesh.get("alice").await.status(503);
    mesh.counts("weir_redis_auth", 1).await;
    logged(&mesh, "redis auth: status 403 of the HTTP front end: check redis.token, or redis.username").await;
    hides(&mesh, "barley");
}

async fn a_request_that_is_too_large_for_webdis_is_refused(host: HostKind) {
    let webdis = WebdisOptions { max_request_bytes: Some(100), ..WebdisOptions::default() };
    let Some(mesh) = impatient(host, WEBDIS).webdis(webdis).start().await else { return };
    let before = failures(&mesh).await;
    let failed = until_failed(&mesh, &before).await;
    // Webdis answers, and also closes the connection.
    assert!(failed.iter().all(|cause| ["refused", "reset"].contains(cause)), "{failed:?}");
}

async fn each_status_of_upstash_is_a_cause(host: HostKind) {
    let mesh = impatient(host, UPSTASH).workers(1).configure(|filter| {
        filter["redis"]["timeout"] = "5s".into();
        filter["overrides"] = json!({"enabled": false});
    });
    let Some(mesh) = mesh.start().await else { return };
    let FrontEnd::Upstash(upstash) = mesh.front_end() else { panic!("{:?}", mesh.front_end()) };
    let statuses = [
        (400, "refused"),
        (401, "auth"),
        (403, "auth"),
        (404, "protocol"),
        (413, "refused"),
        (429, "refused"),
        (500, "reset"),
        (503, "reset"),
        (504, "timeout"),
    ];
    for (status, cause) in statuses {
        upstash.refuse(0);
        until_limiting(&mesh).await;
        let before = failures(&mesh).await;
        upstash.refuse(status);
        let failed = until_failed(&mesh, &before).await;
        assert_eq!(failed, BTreeSet::from([cause]), "{status}");
    }
    upstash.refuse(0);
    until_limiting(&mesh).await;
}

async fn the_token_comes_from_the_environment(host: HostKind) {
    const TOKEN: &str = "AYNgAS2553feg6a2d9842h2a0gcdb5f8efe9934DQ=";
    let module = if host == HostKind::Envoy { "envoy" } else { "embedded" };
    let test = format!("{module}::the_token_comes_from_the_environment");
    let again = move || weir::has_variable(&test, "UPSTASH_REDIS_REST_TOKEN", TOKEN);
    if !tokio::task::spawn_blocking(again).await.unwrap() {
        return;
    }
    let Some(mesh) = Mesh::on(host, UPSTASH).patient().start().await else { return };
    mesh.get("alice").await.admitted().remaining(19);
    let FrontEnd::Upstash(upstash) = mesh.front_end() else { panic!("{:?}", mesh.front_end()) };
    upstash.refuse(401);
    mesh.get("alice").await.status(503);
    logged(&mesh, "redis auth: status 401 of the HTTP front end: check redis.token").await;
    hides(&mesh, TOKEN);
}

/// One host with a short timeout, whose failed checks deny.
fn impatient(host: HostKind, scenario: &str) -> MeshBuilder {
    Mesh::on(host, scenario).configure(|filter| {
        filter["redis"]["timeout"] = format!("{}s", TIMEOUT.as_secs_f64()).into();
        filter["failure_mode"] = "deny".into();
    })
}

/// Numbers of failed requests by cause.
async fn failures(mesh: &Mesh) -> Vec<u64> {
    let mut counts = Vec::new();
    for cause in CAUSES {
        counts.push(mesh.counter(&format!("weir_redis_{cause}")).await);
    }
    counts
}

/// Sends requests until one has failed and its cause is counted; returns the causes.
async fn until_failed(mesh: &Mesh, before: &[u64]) -> BTreeSet<&'static str> {
    let deadline = Instant::now() + SOON;
    let mut failed = false;
    loop {
        failed |= mesh.get("alice").await.status == 503;
        let now = failures(mesh).await;
        let risen = CAUSES.into_iter().zip(before.iter().zip(&now)).filter(|(_, (before, now))| now > before);
        let risen: BTreeSet<&str> = risen.map(|(cause, _)| cause).collect();
        if failed && !risen.is_empty() {
            return risen;
        }
        assert!(Instant::now() < deadline, "no request fails within {SOON:?}, or no cause is counted ({failed})");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until 8 requests in a row are limited.
async fn until_limiting(mesh: &Mesh) {
    let (mut in_a_row, mut user) = (0, 0);
    let deadline = Instant::now() + SOON;
    while in_a_row < 8 {
        user += 1;
        let limited = mesh.get(&format!("warm-up {user}")).await.header("x-ratelimit-limit").is_some();
        in_a_row = if limited { in_a_row + 1 } else { 0 };
        assert!(Instant::now() < deadline, "limits do not apply within {SOON:?}");
        if !limited {
            sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn until<F: Future<Output = bool>>(mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + SOON;
    while !holds().await {
        assert!(Instant::now() < deadline, "the condition does not hold within {SOON:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits for a line of Envoy's log. The embedded host's log is that of this process.
async fn logged(mesh: &Mesh, part: &str) {
    if let Some(envoy) = mesh.hosts()[0].envoy() {
        until(|| async { envoy.log().contains(part) }).await;
    }
}

fn hides(mesh: &Mesh, secret: &str) {
    if let Some(envoy) = mesh.hosts()[0].envoy() {
        assert!(!envoy.log().contains(secret), "{}", envoy.log());
    }
}

fn is_well(mesh: &Mesh) {
    if let Some(envoy) = mesh.hosts()[0].envoy() {
        assert!(envoy.is_alive());
        assert!(!envoy.log().contains("proxy_on_"), "no trap: {}", envoy.log());
    }
}
