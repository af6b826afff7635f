//! Floods: many requests of one client at once never get more than its bucket holds, and cost nobody else anything. On
//! both hosts, over both transports.
//!
//! `WEIR_FLOODS=20 cargo test --test flood` repeats each flood so often, and prints what was admitted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hyper::header::{HeaderMap, HeaderValue};
use redis::Commands;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use weir::{Fault, HostKind, Mesh};
use weir_harness::load::Flood;

const QUICKSTART: &str = "envoy/quickstart.yaml";
const CALLOUT: &str = "envoy/callout.yaml";

weir::on_both_hosts! {
    a_thousand_streams_that_do_not_wait_for_the_settings_are_all_answered
    a_flood_is_admitted_what_its_bucket_holds
    a_flood_before_there_is_a_connection_gets_no_more_than_its_bucket_holds
    a_flood_of_a_large_bucket_is_never_let_through
    many_users_at_once_are_each_admitted
    a_burst_leaves_no_place_taken
    no_place_is_left_where_redis_stalls_now_and_then
    what_there_is_no_room_to_delay_takes_nothing_of_other_limits
}

/// An HTTP/2 client may open streams before it has read how many the server allows. The server refuses none of 1,000.
async fn a_thousand_streams_that_do_not_wait_for_the_settings_are_all_answered(host: HostKind) {
    let Some(mesh) = Mesh::on(host, QUICKSTART).workers(1).start().await else { return };
    let mut connection = TcpStream::connect(mesh.ingress()[0]).await.unwrap();
    connection.write_all(&requests_with_their_preface(1_000)).await.unwrap();
    let (mut answered, mut refused) = (0, 0);
    while answered + refused < 1_000 {
        match timeout(Duration::from_secs(60), frame(&mut connection)).await.expect("a frame within a minute") {
            HEADERS => answered += 1,
            RST_STREAM => refused += 1,
            _ => {}
        }
    }
    assert_eq!((answered, refused), (1_000, 0));
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;

/// Reads an HTTP/2 frame and returns its type.
async fn frame(connection: &mut TcpStream) -> u8 {
    let mut head = [0; 9];
    connection.read_exact(&mut head).await.unwrap();
    let [size_0, size_1, size_2, kind, ..] = head;
    let size = u32::from_be_bytes([0, size_0, size_1, size_2]);
    connection.read_exact(&mut vec![0; size as usize]).await.unwrap();
    kind
}

/// A connection's preface, empty settings, and GETs of `/` by alice on streams of their own.
fn requests_with_their_preface(requests: u32) -> Vec<u8> {
    // `:method: GET`, `:path: /` and `:scheme: http` of HPACK's static table, and two literals.
    let block = b"\x82\x84\x86\x41\x04shop\x00\x09x-user-id\x05alice";
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for nth in 0..requests {
        let (end_stream_and_headers, stream) = (5, 2 * nth + 1);
        bytes.extend_from_slice(&[0, 0, block.len() as u8, HEADERS, end_stream_and_headers]);
        bytes.extend_from_slice(&stream.to_be_bytes());
        bytes.extend_from_slice(block);
    }
    bytes
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
