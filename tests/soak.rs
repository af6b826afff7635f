//! Soak: mixed load on both hosts, with clients that leave, overrides that change, and connections to Redis that are
//! lost. Memory, descriptors and the number of stats stay flat, and nothing is left at the end.
//!
//! `WEIR_SOAK_SECONDS=1800 cargo test --test soak -- --nocapture` runs for half an hour in place of 8 s.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use redis::Commands;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use weir::{HostKind, Mesh};
use weir_provision::client::{self, Client};

const WORKERS: usize = 2;
const CLIENTS: u64 = 16;
/// Users; each is there within seconds, so that what is kept per user no longer grows.
const USERS: u64 = 1_000;
const TENANTS: u64 = 20;
/// Samples, of which the first third is the warm-up.
const SAMPLES: u32 = 24;
/// The most that the resident set may grow after the warm-up, in KiB: a leak of 2 KiB with each request in the 8 s, or
/// of a few bytes in half an hour.
const GROWTH: u64 = 8 * 1_024;
/// Descriptors of clients that are about to leave, and of connections to Redis that are being replaced.
const DESCRIPTORS: usize = 24;
const SOON: Duration = Duration::from_secs(30);
/// Variable that a process has that runs one of these tests alone.
const ALONE: &str = "WEIR_SOAK_ALONE";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_stays_flat() {
    soak(HostKind::Envoy).await;
}

/// In a process of its own, whose memory is that of the host and of the clients.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_host_stays_flat() {
    if tokio::task::block_in_place(|| weir::has_variable("the_embedded_host_stays_flat", ALONE, "1")) {
        soak(HostKind::Embedded).await;
    }
}

/// Requests of all clients.
#[derive(Debug, Default)]
struct Traffic {
    stops: AtomicBool,
    admitted: AtomicU64,
    denied: AtomicU64,
    failed: AtomicU64,
    left: AtomicU64,
    others: AtomicU64,
}

/// Resources of the process at a time.
#[derive(Debug, Clone, Copy)]
struct Sample {
    /// Resident set, in KiB.
    resident: u64,
    descriptors: usize,
    stats: usize,
}

async fn soak(host: HostKind) {
    let time = std::env::var("WEIR_SOAK_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(8);
    let time = Duration::from_secs(time);
    let Some(mesh) = Mesh::on(host, "envoy/quickstart.yaml").patient().configure(limits).start().await else { return };
    mesh.ask("/").user("0").header("x-tenant-id", "0").send().await;
    let traffic = Arc::new(Traffic::default());
    let mut clients = JoinSet::new();
    for seed in 0..CLIENTS {
        clients.spawn(keep_asking(mesh.ingress()[0], seed, traffic.clone()));
    }
    clients.spawn(keep_leaving(mesh.ingress()[0], traffic.clone()));
    let mut samples = Vec::new();
    let begin = Instant::now();
    for nth in 1..=SAMPLES {
        tokio::time::sleep_until(begin + time * nth / SAMPLES).await;
        samples.push(sample(&mesh).await);
        disturb(&mesh, nth);
    }
    traffic.stops.store(true, Ordering::Relaxed);
    clients.join_all().await;
    println!("{host:?}, {time:?}: {traffic:?}");
    let shown: Vec<String> =
        samples.iter().map(|it| format!("{} KiB, {} files, {} stats", it.resident, it.descriptors, it.stats)).collect();
    println!("{}", shown.join("\n"));

    let (_, warm) = samples.split_at(samples.len() / 3);
    let (first, last) = warm.split_at(warm.len() / 2);
    let most = |part: &[Sample], of: fn(&Sample) -> u64| part.iter().map(of).max().expect("samples");
    let resident = |it: &Sample| it.resident;
    let grown = most(last, resident).saturating_sub(most(first, resident));
    assert!(grown <= GROWTH, "{grown} KiB");
    let descriptors = |it: &Sample| it.descriptors as u64;
    assert!(most(last, descriptors) <= most(first, descriptors) + DESCRIPTORS as u64, "{samples:?}");
    assert_eq!(most(last, |it| it.stats as u64), most(first, |it| it.stats as u64), "{samples:?}");
    nothing_is_left(&mesh, &traffic).await;
}

/// A token bucket per user, a log per tenant, a bucket with leases, and a limit of requests in flight.
fn limits(filter: &mut Value) {
    let by = |name: &str| json!([{"request_header": {"name": name}}]);
    filter["overrides"] = json!({"refresh_interval": "0.5s"});
    filter["events"] = json!({"stream": "decisions", "max_len": 1_000});
    filter["limits"] = json!([
        {"name": "per_user", "descriptor": by("x-user-id"),
         "token_bucket": {"max_tokens": 5, "tokens_per_fill": 2, "fill_interval": "1s"}},
        {"name": "per_tenant", "descriptor": by("x-tenant-id"),
         "sliding_window": {"max_requests": 50, "window": "1s", "mode": "exact"}},
        {"name": "all", "descriptor": [], "lease": {"max": 50, "ttl": "1s"},
         "token_bucket": {"max_tokens": 1_000_000, "tokens_per_fill": 1_000_000, "fill_interval": "1s"}},
        {"name": "flights", "descriptor": [], "concurrency": {"max_requests": 1_000_000, "lease": "5s"}},
    ]);
}

/// A client that asks for one user after the other.
async fn keep_asking(ingress: std::net::SocketAddr, seed: u64, traffic: Arc<Traffic>) {
    let mut client = Client::new(ingress, SOON);
    let mut nth = seed;
    while !traffic.stops.load(Ordering::Relaxed) {
        nth += CLIENTS;
        let status = client.get("/", &headers(nth)).await.map(|response| response.status);
        let counter = match status {
            Ok(200) => &traffic.admitted,
            Ok(429) => &traffic.denied,
            Ok(503) => &traffic.failed,
            _ => &traffic.others,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if !matches!(status, Ok(200 | 429)) {
            // The failure mode answers at once, while Redis is away.
            sleep(Duration::from_millis(10)).await;
        }
    }
}

fn headers(nth: u64) -> HeaderMap {
    let value = |number: u64| HeaderValue::from(number);
    HeaderMap::from_iter([
        (HeaderName::from_static("x-user-id"), value(nth % USERS)),
        (HeaderName::from_static("x-tenant-id"), value(nth % TENANTS)),
    ])
}

/// Clients that leave as soon as they have sent their request.
async fn keep_leaving(ingress: std::net::SocketAddr, traffic: Arc<Traffic>) {
    while !traffic.stops.load(Ordering::Relaxed) {
        let mut client = TcpStream::connect(ingress).await.expect("the host listens");
        let request = "GET / HTTP/1.1\r\nhost: weir\r\nx-user-id: leaver\r\nx-tenant-id: leaver\r\n\r\n";
        client.write_all(request.as_bytes()).await.expect("the host reads");
        traffic.left.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(5)).await;
    }
}

/// Loses the connections to Redis, its scripts, or changes an override.
fn disturb(mesh: &Mesh, nth: u32) {
    let mut redis = mesh.redis_connection();
    let overrides = format!("{}overrides", mesh.key_prefix());
    match nth % 4 {
        0 => redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").exec(&mut redis).unwrap(),
        1 => redis::cmd("SCRIPT").arg("FLUSH").exec(&mut redis).unwrap(),
        2 => redis.hset(overrides, format!("per_tenant:{nth}"), "blocked").unwrap(),
        _ => redis.del(overrides).unwrap(),
    }
}

async fn sample(mesh: &Mesh) -> Sample {
    let process = mesh.hosts()[0].envoy().map_or_else(std::process::id, |envoy| envoy.id());
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("Linux");
    let resident =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
    let descriptors = fs::read_dir(format!("/proc/{process}/fd")).expect("Linux").count();
    Sample { resident: resident.expect("a resident set"), descriptors, stats: stats(mesh).await.lines().count() }
}

async fn stats(mesh: &Mesh) -> String {
    let admin = mesh.hosts()[0].admin().expect("an admin");
    let answer = client::get(admin, "/stats", SOON).await.expect("the admin answers");
    String::from_utf8_lossy(&answer.body).into_owned()
}

/// No slot, request or connection of a client is left; one connection to Redis per worker. A slot whose release was lost
/// with its connection ends with its lease.
async fn nothing_is_left(mesh: &Mesh, traffic: &Traffic) {
    let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (admitted, denied, failed) = (number(&traffic.admitted), number(&traffic.denied), number(&traffic.failed));
    assert_eq!(number(&traffic.others), 0, "{traffic:?}");
    assert!(failed < admitted + denied, "{traffic:?}");
    let flights = format!("{}flights:#concurrency", mesh.key_prefix());
    let deadline = Instant::now() + SOON;
    loop {
        let mut redis = mesh.redis_connection();
        let slots: u64 = redis.zcard(&flights).unwrap();
        let clients: String = redis::cmd("CLIENT").arg("LIST").query(&mut redis).unwrap();
        let stats = stats(mesh).await;
        let value = |name: &str| -> Option<u64> {
            stats.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.parse().ok())
        };
        let active = ["http.ingress.downstream_rq_active", "http.ingress.downstream_cx_active"].map(value);
        let is_idle =
            slots == 0 && active.iter().all(|it| it.unwrap_or(0) == 0) && clients.lines().count() <= 1 + WORKERS;
        if is_idle {
            break;
        }
        let left = format!("{slots} slots, {active:?} requests and connections, {traffic:?}, {clients}");
        assert!(Instant::now() < deadline, "{left}");
        sleep(Duration::from_millis(100)).await;
    }
    if let Some(envoy) = mesh.hosts()[0].envoy() {
        assert!(envoy.is_alive() && !envoy.log().contains("proxy_on_"), "no trap: {}", envoy.log());
    }
    // A worker may be about to connect to Redis again.
    while mesh.ask("/").user("last").header("x-tenant-id", "last").send().await.status != 200 {
        assert!(Instant::now() < deadline, "no request is admitted");
        sleep(Duration::from_millis(100)).await;
    }
}
