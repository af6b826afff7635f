//! Floods: many requests of one client at once never get more than its bucket holds, and cost nobody else anything. On
//! both hosts, over both transports.
//!
//! `WEIR_FLOODS=20 cargo test --test flood` repeats each flood so often, and prints what was admitted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hyper::header::{HeaderMap, HeaderValue};
use redis::Commands;
use serde_json::{Value, json};
use weir::{Fault, HostKind, Mesh};
use weir_harness::load::Flood;

const QUICKSTART: &str = "envoy/quickstart.yaml";
const CALLOUT: &str = "envoy/callout.yaml";

weir::on_both_hosts! {
    a_flood_is_admitted_what_its_bucket_holds
    a_flood_before_there_is_a_connection_gets_no_more_than_its_bucket_holds
    a_flood_of_a_large_bucket_is_never_let_through
    many_users_at_once_are_each_admitted
    a_burst_leaves_no_place_taken
    no_place_is_left_where_redis_stalls_now_and_then
    what_there_is_no_room_to_delay_takes_nothing_of_other_limits
}

/// With every default: 20 tokens, 100 a minute, failure mode `allow`.
async fn a_flood_is_admitted_what_its_bucket_holds(host: HostKind) {
    for scenario in [QUICKSTART, CALLOUT] {
        for workers in [1, 2] {
            let Some(mesh) = Mesh::on(host, scenario).workers(workers).start().await else { return };
            // Its connection is made.
            mesh.get("alice").await.admitted();
            for nth in 0..repetitions() {
                let user = format!("mallory-{nth}");
                let (statuses, took) = flood(&mesh, 10, 1_000, |_| by(&user)).await;
                println!("{host:?} {scenario} {workers} workers: {statuses:?} in {took:?}");
                holds(&statuses, 20, took, 10_000);
            }
        }
    }
}

async fn a_flood_before_there_is_a_connection_gets_no_more_than_its_bucket_holds(host: HostKind) {
    for scenario in [QUICKSTART, CALLOUT] {
        let Some(mesh) = Mesh::on(host, scenario).workers(1).start().await else { return };
        let (statuses, took) = flood(&mesh, 10, 1_000, |_| by("mallory")).await;
        println!("{host:?} {scenario}: {statuses:?} in {took:?}");
        // How many of its tokens it gets in time is a matter of the machine.
        let refilled = (took.as_secs_f64() * 100.0 / 60.0).ceil() as usize;
        let admitted = statuses.get(&200).copied().unwrap_or(0);
        assert!((1..=20 + refilled).contains(&admitted), "{statuses:?} in {took:?}");
        assert_eq!(statuses.get(&429).copied().unwrap_or(0) + admitted, 10_000, "{statuses:?}");
    }
}

/// Half of what 10,000 tokens were has been spent: no more than the rest is admitted, and others are.
async fn a_flood_of_a_large_bucket_is_never_let_through(host: HostKind) {
    let Some(mesh) = Mesh::on(host, QUICKSTART).workers(1).bucket(2_000, 100, "60s").start().await else { return };
    let mut admitted = 0;
    for _ in 0..3 {
        let (statuses, took) = flood(&mesh, 4, 1_000, |_| by("mallory")).await;
        admitted += statuses.get(&200).copied().unwrap_or(0);
        assert!(admitted <= 2_010 + took.as_secs() as usize * 6, "{admitted}: {statuses:?} in {took:?}");
        assert_eq!(statuses.values().sum::<usize>(), 4_000);
        assert!(statuses.keys().all(|status| [200, 429].contains(status)), "{statuses:?}");
    }
    mesh.get("alice").await.admitted();
}

async fn many_users_at_once_are_each_admitted(host: HostKind) {
    let Some(mesh) = Mesh::on(host, QUICKSTART).patient().workers(1).start().await else { return };
    let (statuses, _) = flood(&mesh, 10, 600, |nth| by(&format!("user-{nth}"))).await;
    assert_eq!(statuses, BTreeMap::from([(200, 6_000)]));
    assert_eq!(mesh.counter("weir_redis_overloaded").await, 0);
}

/// All of a burst are answered: nothing is in flight, and no place is taken.
async fn a_burst_leaves_no_place_taken(host: HostKind) {
    for scenario in [QUICKSTART, CALLOUT] {
        for workers in [1, 2] {
            let mesh = Mesh::on(host, scenario).workers(workers).configure(a_hundred_in_flight).start().await;
            let Some(mesh) = mesh else { return };
            for _ in 0..repetitions() {
                let (statuses, took) = flood(&mesh, 8, 1_000, |_| HeaderMap::new()).await;
                let left = places_left(&mesh).await;
                println!("{host:?} {scenario} {workers} workers: {statuses:?} in {took:?}, {left} places left");
                assert_eq!(left, 0);
            }
            mesh.get("alice").await.admitted();
        }
    }
}

fn a_hundred_in_flight(filter: &mut Value) {
    let concurrency = json!({"max_requests": 100, "lease": "60s"});
    filter["limits"] = json!([{"name": "flights", "descriptor": [], "concurrency": concurrency}]);
}

/// Places that are taken, once no more of them come free: in five seconds at most, less than a lease.
async fn places_left(mesh: &Mesh) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let mut redis = mesh.redis_connection();
        let left = redis.zcard(format!("{}flights:#concurrency", mesh.key_prefix())).unwrap();
        if left == 0 || Instant::now() > deadline {
            return left;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// For longer than a check may take: nobody knows what Redis made of those in between.
async fn no_place_is_left_where_redis_stalls_now_and_then(host: HostKind) {
    for scenario in [QUICKSTART, CALLOUT] {
        let mesh = Mesh::on(host, scenario).workers(1).with_faults().configure(|filter| {
            a_hundred_in_flight(filter);
            filter["redis"]["timeout"] = "0.05s".into();
        });
        let Some(mesh) = mesh.start().await else { return };
        for round in 0..10 {
            let fault = if round % 2 == 0 { Fault::Delay(Duration::from_millis(80)) } else { Fault::Blackhole };
            mesh.faults().set(fault);
            let requests = flood(&mesh, 2, 10, |_| HeaderMap::new());
            let stall = async {
                tokio::time::sleep(Duration::from_millis(80)).await;
                mesh.faults().set(Fault::None);
            };
            let ((statuses, _), ()) = tokio::join!(requests, stall);
            assert_eq!(statuses.values().sum::<usize>(), 20);
        }
        let left = places_left(&mesh).await;
        println!("{host:?} {scenario}: {left} places left");
        assert_eq!(left, 0, "{scenario}");
    }
}

/// A month's quota says what was admitted, whether requests that are denied had no token or no room to wait for one.
async fn what_there_is_no_room_to_delay_takes_nothing_of_other_limits(host: HostKind) {
    for room in [0, 3] {
        let mesh = Mesh::on(host, QUICKSTART).patient().workers(1).configure(|filter| {
            let bucket = json!({"max_tokens": 1, "fill_interval": "1s"});
            let quota = json!({"max_requests": 100, "unit": "month"});
            filter["max_delayed_requests"] = json!(room);
            filter["limits"] = json!([{"name": "plan", "descriptor": [], "max_delay": "60s",
                "windows": [{"token_bucket": bucket}, {"quota": quota}]}]);
        });
        let Some(mesh) = mesh.start().await else { return };
        let (statuses, took) = flood(&mesh, 2, 30, |_| HeaderMap::new()).await;
        let admitted = statuses.get(&200).copied().unwrap_or(0);
        assert!((1.max(room)..=2 + room + took.as_secs() as usize).contains(&admitted), "{statuses:?} in {took:?}");
        assert_eq!(admitted + statuses.get(&429).copied().unwrap_or(0), 60, "{statuses:?}");
        let mut redis = mesh.redis_connection();
        let quota: String = redis.get(format!("{}plan:#month0", mesh.key_prefix())).unwrap();
        assert_eq!(quota.split_once(' ').unwrap().1, admitted.to_string(), "{statuses:?}");
    }
}

fn repetitions() -> usize {
    std::env::var("WEIR_FLOODS").ok().and_then(|times| times.parse().ok()).unwrap_or(1)
}

async fn flood(
    mesh: &Mesh,
    connections: usize,
    streams: usize,
    headers: impl Fn(usize) -> HeaderMap,
) -> (BTreeMap<u16, usize>, Duration) {
    let flood = Flood { target: mesh.ingress()[0], connections, streams, limit: Duration::from_secs(60) };
    let start = Instant::now();
    let statuses = flood.send(headers).await.expect("the host speaks HTTP/2");
    (statuses, start.elapsed())
}

fn by(user: &str) -> HeaderMap {
    HeaderMap::from_iter([("x-user-id".parse().unwrap(), HeaderValue::from_str(user).unwrap())])
}

/// A bucket of so many tokens, 100 a minute, admitted what it held and what came meanwhile, and denied the rest.
fn holds(statuses: &BTreeMap<u16, usize>, tokens: usize, took: Duration, all: usize) {
    let refilled = (took.as_secs_f64() * 100.0 / 60.0).ceil() as usize;
    let admitted = statuses.get(&200).copied().unwrap_or(0);
    // On a busy machine, some checks that Redis has admitted come back after their time, and are denied.
    assert!((tokens / 2..=tokens + refilled).contains(&admitted), "{statuses:?} in {took:?}");
    assert_eq!(statuses.get(&429).copied().unwrap_or(0) + admitted, all, "{statuses:?}");
}
