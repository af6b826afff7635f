//! `failure_mode: local`: 4 proxies × 2 workers decide by their shares while Redis is stopped, and post what they have
//! admitted once it is back. On both hosts.
//!
//! The ordinary run has one short outage. `WEIR_LOCAL_SECONDS=60 cargo test --test local_mode -- --nocapture` has two of
//! that length, and prints what was admitted and how long requests waited.

use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderName;
use redis::Commands;
use serde_json::json;
use tokio::time::{Instant, sleep};
use weir::trial::over_admitted;
use weir::{HostKind, Mesh};
use weir_harness::traffic::{self, Outcome, Pace};
use weir_provision::redis::RedisOptions;

const HOSTS: usize = 4;
/// Tokens a second of the limit, and its burst.
const RATE: u64 = 100;
const BURST: u64 = 50;
/// Time of load before Redis is stopped, once shares are granted.
const BEFORE: Duration = Duration::from_secs(1);
/// Time of load after Redis' return, at least.
const AFTER: Duration = Duration::from_millis(1_500);
/// Time by which the times of two load clients may differ.
const SKEW: Duration = Duration::from_millis(100);
/// Time from the first worker's return within which the others must be back: see `docs/src/guarantees.md`.
const RETURN_WITHIN: Duration = Duration::from_millis(400);
/// Time for what takes as long as it takes on a busy machine.
const SOON: Duration = Duration::from_secs(60);
const BY_SHARES: HeaderName = HeaderName::from_static("x-weir-failure-mode");

const BALANCED: (&str, [f64; HOSTS]) = ("balanced", [1.0; HOSTS]);
const ZIPF: (&str, [f64; HOSTS]) = ("Zipf", [1.0, 1.0 / 2.0, 1.0 / 3.0, 1.0 / 4.0]);

weir::on_both_hosts! {
    workers_decide_by_their_shares_without_redis_and_admit_no_more_than_the_limit
}

async fn workers_decide_by_their_shares_without_redis_and_admit_no_more_than_the_limit(host: HostKind) {
    let seconds: Option<u64> = std::env::var("WEIR_LOCAL_SECONDS").ok().and_then(|text| text.parse().ok());
    if let Some(seconds) = seconds {
        outage(host, BALANCED, Duration::from_secs(seconds)).await;
    }
    outage(host, ZIPF, Duration::from_secs(seconds.unwrap_or(3))).await;
}

/// Runs 3 times the limit's rate over the proxies, in these proportions, with an outage in the middle.
async fn outage(host: HostKind, (name, proportions): (&str, [f64; HOSTS]), lost_for: Duration) {
    let options = RedisOptions { appendonly: true, ..RedisOptions::default() };
    let mesh = Mesh::on(host, "envoy/quickstart.yaml").hosts(HOSTS).workers(2).redis(options);
    let mesh = mesh.bucket(BURST, RATE, "1s").configure(|filter| {
        filter["failure_mode"] = "local".into();
        filter["redis"]["timeout"] = "0.2s".into();
        filter["emit_metadata"] = true.into();
    });
    let Some(mesh) = mesh.start().await else { return };
    let stop = traffic::Stop::default();
    let all: f64 = proportions.iter().sum();
    let start = Instant::now();
    let clients = proportions.into_iter().enumerate().map(|(place, proportion)| {
        let mut plan = mesh.plan(place);
        plan.headers_of_interest = vec![BY_SHARES];
        plan.duration = lost_for + 10 * SOON;
        let pace = Pace::PerSecond(3.0 * RATE as f64 * proportion / all);
        plan.users = vec![Mesh::user("alice", pace).connections(16)];
        let stop = &stop;
        async move {
            let began = start.elapsed();
            let report = traffic::run_until(plan, Arc::default(), stop).await.together();
            report.outcomes.into_iter().map(move |it| Outcome { at: it.at + began, ..it })
        }
    });
    let strike = async {
        until_shares_are_granted(&mesh).await;
        sleep(BEFORE).await;
        let lost = start.elapsed();
        mesh.redis().kill();
        starts_in_the_outage(host, &mesh).await;
        sleep((lost + lost_for).saturating_sub(start.elapsed())).await;
        let back = start.elapsed();
        mesh.redis().restart().expect("Redis starts again");
        sleep(AFTER).await;
        until_redis_decides(&mesh).await;
        stop.stop();
        (lost, back)
    };
    let [one, two, three, four]: [_; HOSTS] = clients.collect::<Vec<_>>().try_into().ok().expect("as many");
    let (one, two, three, four, (lost, back)) = tokio::join!(one, two, three, four, strike);
    let all: Vec<Outcome> = one.chain(two).chain(three).chain(four).collect();
    print(name, host, &all, (lost, back));
    check(&all, (lost, back));
}

/// Waits until Redis has granted nearly the whole limit.
async fn until_shares_are_granted(mesh: &Mesh) {
    let mut redis = mesh.redis_connection();
    let key = [mesh.key_prefix(), "{local}per_user"].concat();
    let deadline = Instant::now() + SOON;
    loop {
        let registry: Vec<u8> = redis.get(&key).expect("Redis answers");
        // See filter/src/limit/check/heartbeat.lua.
        let workers = registry.get(8..).unwrap_or_default().chunks_exact(32);
        let share = |worker: &[u8]| f64::from_be_bytes(worker[24..].try_into().expect("8 bytes"));
        let granted: f64 = workers.map(share).sum();
        if granted >= 0.9 {
            return;
        }
        assert!(Instant::now() < deadline, "only {granted} of the limit is granted");
        sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until Redis decides at each proxy.
async fn until_redis_decides(mesh: &Mesh) {
    let deadline = Instant::now() + SOON;
    for host in 0..HOSTS {
        while let Some(mode) = mesh.ask("/").user("carol").via(host).send().await.header(BY_SHARES.as_str()) {
            assert!(Instant::now() < deadline, "proxy {host} decides by {mode}");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// A proxy that starts in the outage admits nothing by default.
async fn starts_in_the_outage(host: HostKind, mesh: &Mesh) {
    let new = Mesh::on(host, "envoy/quickstart.yaml").workers(1).sharing_buckets_of(mesh).configure(|filter| {
        filter["failure_mode"] = "local".into();
        filter["limits"][0]["token_bucket"] =
            json!({"max_tokens": 1_000, "tokens_per_fill": 1_000, "fill_interval": "1s"});
    });
    let Some(new) = new.start().await else { return };
    for _ in 0..3 {
        let denied = new.get("bob").await.denied();
        assert_eq!(denied.header(BY_SHARES.as_str()), Some("local"), "{denied:#?}");
    }
    new.counts("weir_local_denied", 3).await;
    new.counts("weir_local_admitted", 0).await;
}

fn is_by_shares(outcome: &&Outcome) -> bool {
    outcome.headers.first().is_some_and(Option::is_some)
}

fn check(all: &[Outcome], (lost, back): (Duration, Duration)) {
    let failed: Vec<_> = all.iter().filter(|it| !it.is_admitted() && !it.is_denied()).collect();
    assert!(failed.is_empty(), "a client has another answer: {:?}", failed[0]);
    let by_shares = || all.iter().filter(is_by_shares).filter(|it| it.is_admitted());
    assert!(by_shares().any(|it| it.at > lost), "no request was admitted by a share");
    // What a worker admits by its share once the others had to be back comes on top: none, unless the machine was busy.
    let late = by_shares().filter(|it| it.at + it.latency > back + RETURN_WITHIN).count() as u64;
    let over = over(all);
    assert!(over <= late, "{over} more than {BURST} and {RATE} a second in a window, {late} by late workers");
}

/// Tokens admitted beyond the limit in any window.
fn over(all: &[Outcome]) -> u64 {
    let admitted = all.iter().filter(|it| it.is_admitted());
    let times = admitted.map(|it| (it.at.saturating_sub(SKEW), it.at + it.latency + SKEW));
    over_admitted(times.collect(), BURST, RATE)
}

/// Prints a measurement: what was admitted in the outage, waits, and the return.
fn print(name: &str, host: HostKind, all: &[Outcome], (lost, back): (Duration, Duration)) {
    let in_outage = || all.iter().filter(|it| it.at >= lost && it.at < back);
    let within = in_outage().filter(|it| it.is_admitted()).count();
    let limit = (back - lost).as_secs_f64() * RATE as f64;
    let last = all.iter().filter(is_by_shares).map(|it| it.at + it.latency).max().unwrap_or_default();
    let mut waits: Vec<_> = in_outage().map(|it| (it.latency, it.at.saturating_sub(lost))).collect();
    waits.sort_unstable();
    let ms = |place: usize| waits.get(place).map_or(0.0, |(wait, _)| wait.as_secs_f64() * 1e3);
    let (longest, at) = waits.last().copied().unwrap_or_default();
    println!(
        "{name} load, {host:?}, {:.1} s of outage: admitted {:+.1} % of {limit:.0}, over {}, median wait {:.1} ms, 99.9 % \
         {:.1} ms, longest {:.0} ms, {:.2} s after the loss, the last by its share {:.2} s after the return",
        (back - lost).as_secs_f64(),
        (within as f64 / limit - 1.0) * 100.0,
        over(all),
        ms(waits.len() / 2),
        ms(waits.len() * 999 / 1_000),
        longest.as_secs_f64() * 1e3,
        at.as_secs_f64(),
        last.saturating_sub(back).as_secs_f64(),
    );
}
