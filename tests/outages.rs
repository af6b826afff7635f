//! What a host logs and counts of a slow, a lost and a returned Redis, and of a wrong `redis.cluster`. On both hosts,
//! over both transports.

use std::sync::{Mutex, Once};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use weir::{Fault, HostKind, Mesh, MeshBuilder};
use weir_provision::redis::RedisServer;

const TRANSPORTS: [&str; 2] = ["envoy/quickstart.yaml", "envoy/callout.yaml"];
const LIMITER: &str =
    "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/config";
/// Value of `redis.timeout`.
const TIMEOUT: Duration = Duration::from_millis(100);
/// Interval of the warnings of one cause.
const INTERVAL: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_secs(60);
/// Causes of failures, as in the log.
const CAUSES: [&str; 3] = ["timeout", "reset", "unavailable"];

weir::on_both_hosts! {
    a_slow_redis_is_logged_once_in_ten_seconds_and_its_recovery_once
    a_killed_redis_is_logged_and_counted_until_it_is_back
    a_stopped_redis_is_logged_and_counted_until_it_continues
    a_wrong_cluster_is_named
}

async fn a_slow_redis_is_logged_once_in_ten_seconds_and_its_recovery_once(host: HostKind) {
    for scenario in TRANSPORTS {
        let (name, mesh) = named(Mesh::on(host, scenario).with_faults(), "allow");
        let Some(mesh) = mesh.start().await else { return };
        until_settled(&mesh).await;
        let before = lines(&mesh, &name);
        mesh.faults().set(Fault::Delay(3 * TIMEOUT));
        let start = Instant::now();
        let of_timeouts =
            || since(&before, &mesh, &name).iter().filter(|line| line.contains("redis timeout: ")).count();
        let mut failed = 0;
        // A stalled host may decide the request that would have been the first to fail after the interval.
        while of_timeouts() < 2 {
            assert!(start.elapsed() < SOON, "{scenario}: {:#?}", since(&before, &mesh, &name));
            let sent = Instant::now();
            let is_decided = mesh.get("alice").await.admitted().header("x-ratelimit-limit").is_some();
            // A stalled host may read the late reply before it looks at the clock.
            assert!(!is_decided || sent.elapsed() >= 3 * TIMEOUT, "{scenario}: decided after {:?}", sent.elapsed());
            failed += u64::from(!is_decided);
        }
        let second = start.elapsed();
        assert!(second >= INTERVAL, "{scenario}: a second warning after {second:?}");
        mesh.faults().clear();
        until_decided(&mesh).await;
        let most = most_warnings(start.elapsed());
        let logged = until_recovered(&before, &mesh, &name).await;
        let timeouts: Vec<_> = logged.iter().filter(|line| line.contains("redis timeout: ")).collect();
        let [first, second, ..] = timeouts[..] else { panic!("{scenario}: {logged:#?}") };
        assert!(timeouts.len() <= most, "{scenario}: {logged:#?}");
        assert!(first.contains("(cluster \"redis\"; requests failed open: ") && !first.contains("since"), "{first}");
        assert!(second.contains("since the last warning of this cause, requests failed open: "), "{second}");
        assert!(failed > 10, "{failed}");
        let counted = mesh.counter("weir_requests_failed").await;
        assert!(counted >= failed, "{counted} of {failed}");
        mesh.counts("weir_requests_failed_open", counted).await;
        mesh.counts("weir_requests_failed_closed", 0).await;
        until_at_least(&mesh, "weir_redis_round_trip_us_count", 1).await;
    }
}

async fn a_killed_redis_is_logged_and_counted_until_it_is_back(host: HostKind) {
    for scenario in TRANSPORTS {
        let back = |redis: &RedisServer| redis.restart().unwrap();
        is_lost_and_returns(host, scenario, RedisServer::kill, back).await;
    }
}

async fn a_stopped_redis_is_logged_and_counted_until_it_continues(host: HostKind) {
    for scenario in TRANSPORTS {
        let stop = |redis: &RedisServer| redis.pause().unwrap();
        is_lost_and_returns(host, scenario, stop, |redis| redis.resume().unwrap()).await;
    }
}

async fn is_lost_and_returns(host: HostKind, scenario: &str, lose: impl Fn(&RedisServer), back: impl Fn(&RedisServer)) {
    let (name, mesh) = named(Mesh::on(host, scenario), "deny");
    let Some(mesh) = mesh.start().await else { return };
    until_settled(&mesh).await;
    mesh.counts("weir_redis_connected", 1).await;
    let (before, failed_before) = (lines(&mesh, &name), mesh.counter("weir_requests_failed_closed").await);
    lose(mesh.redis());
    let start = Instant::now();
    let mut failed = 0;
    while failed < 50 || start.elapsed() < Duration::from_secs(3) {
        failed += u64::from(mesh.get("alice").await.status == 503);
        sleep(Duration::from_millis(20)).await;
    }
    mesh.counts("weir_redis_connected", 0).await;
    back(mesh.redis());
    failed += until_decided(&mesh).await;
    let most = most_warnings(start.elapsed());
    let logged = until_recovered(&before, &mesh, &name).await;
    for cause in CAUSES {
        let of_cause = logged.iter().filter(|line| line.contains(&format!("redis {cause}: "))).count();
        assert!(of_cause <= most, "{scenario}: {logged:#?}");
    }
    let [warnings @ .., recovered] = &logged[..] else { panic!("{scenario}: {logged:#?}") };
    assert!(!warnings.is_empty(), "{scenario}: {logged:#?}");
    assert!(warnings.iter().all(|line| line.contains("(cluster \"redis\"")), "{scenario}: {logged:#?}");
    let requests = format!("; requests failed open: 0, failed closed: {failed})");
    assert!(
        recovered.contains("(cluster \"redis\"; outage: ") && recovered.contains(&requests),
        "{failed}: {logged:#?}"
    );
    mesh.counts("weir_requests_failed_closed", failed_before + failed).await;
    mesh.counts("weir_requests_failed_open", 0).await;
    mesh.counts("weir_redis_connected", 1).await;
}

async fn a_wrong_cluster_is_named(host: HostKind) {
    for scenario in TRANSPORTS {
        let (name, mesh) = named(Mesh::on(host, scenario), "allow");
        let mesh = mesh.configure(|filter| filter["redis"]["cluster"] = "rediss".into());
        let Some(mesh) = mesh.start().await else { return };
        for _ in 0..5 {
            mesh.get("alice").await.admitted().without("x-ratelimit-limit");
        }
        let expected = "redis unavailable: the proxy has no such cluster: check redis.cluster with `weir check` \
                        (cluster \"rediss\"; requests failed open: ";
        let deadline = Instant::now() + SOON;
        loop {
            let logged = lines(&mesh, &name);
            match logged.iter().filter(|line| line.contains(expected)).count() {
                0 => assert!(Instant::now() < deadline, "{scenario}: {logged:#?}"),
                count => break assert_eq!(count, 1, "{scenario}: {logged:#?}"),
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Returns a mesh of one worker with a short timeout, and the name of its lines in the log.
fn named(mesh: MeshBuilder, failure_mode: &str) -> (String, MeshBuilder) {
    static NEXT: Mutex<u32> = Mutex::new(0);
    let name = {
        let mut next = NEXT.lock().unwrap();
        *next += 1;
        format!("outages-{next}-")
    };
    listen();
    let plugin = name.clone();
    let mesh = mesh.workers(1).configure(|filter| {
        filter["redis"]["timeout"] = format!("{}s", TIMEOUT.as_secs_f64()).into();
        filter["failure_mode"] = failure_mode.into();
    });
    let mesh = mesh.edit(|bootstrap| {
        bootstrap.pointer_mut(LIMITER).expect("the limiter is the first of the filters")["name"] = plugin.into();
    });
    (name, mesh.bucket(1_000_000, 1_000, "1s"))
}

/// Largest number of warnings of one cause in an outage of this length.
fn most_warnings(outage: Duration) -> usize {
    1 + (outage.as_secs() / INTERVAL.as_secs()) as usize
}

/// Waits until Redis decides, and until the lines and counters of failures before that have arrived, if there were any.
async fn until_settled(mesh: &Mesh) {
    until_decided(mesh).await;
    sleep(Duration::from_secs(3)).await;
    if mesh.counter("weir_requests_failed").await > 0 {
        sleep(INTERVAL).await;
    }
}

/// Sends requests until Redis has decided five in a row. Returns the number of the others.
async fn until_decided(mesh: &Mesh) -> u64 {
    let deadline = Instant::now() + SOON;
    let (mut in_a_row, mut failed) = (0, 0);
    while in_a_row < 5 {
        let is_decided = mesh.get("alice").await.header("x-ratelimit-limit").is_some();
        in_a_row = if is_decided { in_a_row + 1 } else { 0 };
        failed += u64::from(!is_decided);
        assert!(Instant::now() < deadline, "Redis does not decide within {SOON:?}");
        sleep(Duration::from_millis(20)).await;
    }
    failed
}

/// Waits for the line of the recovery, which is the last and the only one. Returns all lines since `before`.
async fn until_recovered(before: &[String], mesh: &Mesh, name: &str) -> Vec<String> {
    let deadline = Instant::now() + SOON;
    loop {
        let logged = since(before, mesh, name);
        if logged.last().is_some_and(|line| line.contains("redis recovered: ")) {
            sleep(Duration::from_secs(2)).await;
            let logged = since(before, mesh, name);
            assert_eq!(logged.iter().filter(|line| line.contains("redis recovered: ")).count(), 1, "{logged:#?}");
            return logged;
        }
        assert!(Instant::now() < deadline, "no recovery within {SOON:?}: {logged:#?}");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn until_at_least(mesh: &Mesh, counter: &str, least: u64) {
    let deadline = Instant::now() + SOON;
    while mesh.counter(counter).await < least {
        assert!(Instant::now() < deadline, "{counter} is below {least} for {SOON:?}");
        sleep(Duration::from_millis(100)).await;
    }
}

fn since(before: &[String], mesh: &Mesh, name: &str) -> Vec<String> {
    lines(mesh, name).split_off(before.len())
}

/// Lines of the log about Redis. Each Envoy has a log; the embedded hosts share one, whose lines name their plugins.
fn lines(mesh: &Mesh, name: &str) -> Vec<String> {
    let is_its = |line: &&str| line.contains("weir: redis ");
    match mesh.hosts()[0].envoy() {
        Some(envoy) => envoy.log().lines().filter(is_its).map(str::to_owned).collect(),
        None => {
            LINES.lock().unwrap().iter().filter(|line| line.contains(name) && is_its(&line.as_str())).cloned().collect()
        }
    }
}

/// Log lines of the embedded hosts of all tests in this file.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Lines;

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LINES.lock().unwrap().push(format!("{} {}", record.level(), record.args()));
    }

    fn flush(&self) {}
}

fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Lines).unwrap();
        log::set_max_level(log::LevelFilter::Info);
    });
}
