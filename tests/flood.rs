//! Floods: many requests of one client at once never get more than its bucket holds, and do not affect other clients.
//! On both hosts, over both transports.
//!
//! `WEIR_FLOODS=20 cargo test --test flood` repeats each flood 20 times, and prints the statuses of the responses.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use hyper::header::{HeaderMap, HeaderValue};
use redis::Commands;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use weir::{Fault, HostKind, Mesh};
use weir_harness::traffic::Flood;

const QUICKSTART: &str = "envoy/quickstart.yaml";
const CALLOUT: &str = "envoy/callout.yaml";

weir::on_both_hosts! {
    a_thousand_streams_that_do_not_wait_for_the_settings_are_all_answered
    a_flood_gets_what_its_bucket_holds_and_no_more
    a_flood_before_redis_is_connected_gets_no_more_than_its_bucket_holds
    a_flood_gets_no_more_than_a_large_bucket_holds
    each_of_six_thousand_users_at_once_is_admitted
    other_clients_are_admitted_during_a_flood
    a_burst_leaves_no_slot_taken
    no_slot_stays_taken_after_redis_has_stalled
    a_request_that_there_is_no_room_to_hold_spends_no_quota
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

/// All defaults: 20 tokens, 100 a minute, failure mode `allow`. With a timeout that no busy machine exceeds, the flood
/// gets all tokens.
async fn a_flood_gets_what_its_bucket_holds_and_no_more(host: HostKind) {
    for scenario in [QUICKSTART, CALLOUT] {
        for (workers, is_patient) in [(1, false), (2, false), (1, true), (2, true)] {
            let mesh = Mesh::on(host, scenario).workers(workers);
            let mesh = if is_patient { mesh.patient() } else { mesh };
            let Some(mesh) = mesh.start().await else { return };
            // A worker is connected to Redis.
            mesh.get("alice").await.admitted();
            for nth in 0..repetitions() {
                let user = format!("mallory-{nth}");
                let (statuses, took) = flood(&mesh, 10, 1_000, |_| by(&user)).await;
                println!("{host:?} {scenario} {workers} workers, patient: {is_patient}: {statuses:?} in {took:?}");
                holds(&statuses, if is_patient { 20..=20 } else { 0..=20 }, took, 10_000);
            }
        }
    }
}

async fn a_flood_before_redis_is_connected_gets_no_more_than_its_bucket_holds(host: HostKind) {
    for (scenario, is_patient) in [(QUICKSTART, false), (QUICKSTART, true), (CALLOUT, false), (CALLOUT, true)] {
        let mesh = Mesh::on(host, scenario).workers(1);
        let mesh = if is_patient { mesh.patient() } else { mesh };
        let Some(mesh) = mesh.start().await else { return };
        let (statuses, took) = flood(&mesh, 10, 1_000, |_| by("mallory")).await;
        println!("{host:?} {scenario}, patient: {is_patient}: {statuses:?} in {took:?}");
        holds(&statuses, if is_patient { 20..=20 } else { 0..=20 }, took, 10_000);
    }
}

/// Three floods of 4,000 requests against a bucket of 2,000 tokens, and a request of another user.
async fn a_flood_gets_no_more_than_a_large_bucket_holds(host: HostKind) {
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

async fn each_of_six_thousand_users_at_once_is_admitted(host: HostKind) {
    for scenario in [QUICKSTART, CALLOUT] {
        let Some(mesh) = Mesh::on(host, scenario).patient().workers(1).start().await else { return };
        let (statuses, _) = flood(&mesh, 10, 600, |nth| by(&format!("user-{nth}"))).await;
        assert_eq!(statuses, BTreeMap::from([(200, 6_000)]), "{scenario}");
        for cause in ["overloaded", "circuit_breaker"] {
            assert_eq!(mesh.counter(&format!("weir_redis_{cause}")).await, 0, "{scenario}: {cause}");
        }
    }
}

/// All defaults. While mallory floods, alice sends one request after the other, and Redis decides most of them. On a
/// slow machine, the first of them may time out.
async fn other_clients_are_admitted_during_a_flood(host: HostKind) {
    for scenario in [QUICKSTART, CALLOUT] {
        let Some(mesh) = Mesh::on(host, scenario).workers(1).start().await else { return };
        mesh.get("mallory").await.admitted();
        let is_over = Cell::new(false);
        let others = async {
            let (mut admitted, mut decided) = (0, 0);
            while admitted < 20 || decided == 0 && !is_over.get() {
                let answer = mesh.get(&format!("alice-{admitted}")).await.admitted();
                admitted += 1;
                decided += usize::from(answer.header("x-ratelimit-remaining").is_some());
            }
            (admitted, decided)
        };
        let flooding = async {
            let flooded = flood(&mesh, 10, 1_000, |_| by("mallory")).await;
            is_over.set(true);
            flooded
        };
        let ((statuses, took), (admitted, decided)) = tokio::join!(flooding, others);
        println!("{host:?} {scenario}: {statuses:?} in {took:?}, {decided} of {admitted} others decided");
        holds(&statuses, 1..=20, took, 10_000);
        assert!(decided > 0, "Redis has decided no other client's request");
    }
}

/// All requests of a burst are answered, so that none is in flight and no slot is taken.
async fn a_burst_leaves_no_slot_taken(host: HostKind) {
    for scenario in [QUICKSTART, CALLOUT] {
        for workers in [1, 2] {
            let mesh = Mesh::on(host, scenario).workers(workers).configure(a_hundred_in_flight).start().await;
            let Some(mesh) = mesh else { return };
            for _ in 0..repetitions() {
                let (statuses, took) = flood(&mesh, 8, 1_000, |_| HeaderMap::new()).await;
                let left = slots_left(&mesh).await;
                println!("{host:?} {scenario} {workers} workers: {statuses:?} in {took:?}, {left} slots taken");
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

/// Waits until no slot is taken, for at most 30 s, which is less than a lease. Returns the number of slots still taken.
async fn slots_left(mesh: &Mesh) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let mut redis = mesh.redis_connection();
        let left = redis.zcard(format!("{}flights:#concurrency", mesh.key_prefix())).unwrap();
        if left == 0 || Instant::now() > deadline {
            return left;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Redis stalls for longer than a check may take, so that the outcome of the checks in between is unknown.
async fn no_slot_stays_taken_after_redis_has_stalled(host: HostKind) {
    for scenario in [QUICKSTART, CALLOUT] {
        let mesh = Mesh::on(host, scenario).workers(1).with_faults().configure(|filter| {
            a_hundred_in_flight(filter);
            filter["redis"]["timeout"] = "0.05s".into();
        });
        let Some(mesh) = mesh.start().await else { return };
        for round in 0..10 {
            let fault = if round % 2 == 0 { Fault::Delay(Duration::from_millis(80)) } else { Fault::Drop };
            mesh.faults().set(fault);
            let requests = flood(&mesh, 2, 10, |_| HeaderMap::new());
            let stall = async {
                tokio::time::sleep(Duration::from_millis(80)).await;
                mesh.faults().clear();
            };
            let ((statuses, _), ()) = tokio::join!(requests, stall);
            assert_eq!(statuses.values().sum::<usize>(), 20);
        }
        let left = slots_left(&mesh).await;
        println!("{host:?} {scenario}: {left} slots taken");
        assert_eq!(left, 0, "{scenario}");
    }
}

/// A month's quota counts the admitted requests alone: a denied request spends nothing from it, whether there was no
/// token in time or no room to hold the request.
async fn a_request_that_there_is_no_room_to_hold_spends_no_quota(host: HostKind) {
    for (scenario, room) in [(QUICKSTART, 0), (QUICKSTART, 3), (CALLOUT, 0), (CALLOUT, 3)] {
        let mesh = Mesh::on(host, scenario).patient().workers(1).configure(|filter| {
            let bucket = json!({"max_tokens": 1, "fill_interval": "1s"});
            let quota = json!({"max_requests": 100, "unit": "month", "utc_offset": weir::offset_at_noon()});
            filter["max_delayed_requests"] = json!(room);
            filter["limits"] = json!([{"name": "plan", "descriptor": [], "max_delay": "60s",
                "windows": [{"token_bucket": bucket}, {"quota": quota}]}]);
        });
        let Some(mesh) = mesh.start().await else { return };
        let (statuses, took) = flood(&mesh, 2, 30, |_| HeaderMap::new()).await;
        let admitted = statuses.get(&200).copied().unwrap_or(0);
        let all_in_time = 1.max(room)..=2 + room + took.as_secs() as usize;
        assert!(all_in_time.contains(&admitted), "{scenario}: {statuses:?} in {took:?}");
        assert_eq!(admitted + statuses.get(&429).copied().unwrap_or(0), 60, "{scenario}: {statuses:?}");
        let mut redis = mesh.redis_connection();
        let keys: Vec<String> = redis.keys(format!("{}plan:#month*", mesh.key_prefix())).unwrap();
        let [key] = &keys[..] else { panic!("{keys:?}") };
        let quota: String = redis.get(key).unwrap();
        assert_eq!(quota.split_once(' ').unwrap().1, admitted.to_string(), "{scenario}: {statuses:?}");
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

/// Asserts that a bucket, refilled at 100 a minute, admitted as many as `tokens`, and at most what refilled within `took`
/// beyond that, and that the rest of `all` requests were denied.
///
/// At the default timeout, replies of a busy machine may arrive too late: the flood's requests are denied, and the number
/// of tokens that it gets depends on the machine.
fn holds(statuses: &BTreeMap<u16, usize>, tokens: RangeInclusive<usize>, took: Duration, all: usize) {
    let refilled = (took.as_secs_f64() * 100.0 / 60.0).ceil() as usize;
    let admitted = statuses.get(&200).copied().unwrap_or(0);
    assert!((*tokens.start()..=tokens.end() + refilled).contains(&admitted), "{statuses:?} in {took:?}");
    assert_eq!(statuses.get(&429).copied().unwrap_or(0) + admitted, all, "{statuses:?}");
}
