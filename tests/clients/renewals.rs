//! Thousands of requests in flight, whose slots have to be renewed three times a second: 21,000 renewals a second.
//!
//! While renewals are due, a worker ticks each millisecond. The test fails if a tick renews fewer slots than the load
//! needs, and passes with 64 a tick, which are 64,000 a second. `filter/src/limiter/slots/tests.rs` bounds the number of
//! renewals in a single tick.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::header::HeaderMap;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use redis::Commands;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use weir::{HostKind, Mesh};
use weir_harness::traffic::Flood;

use crate::QUICKSTART;
use crate::upstream::route;

const CONNECTIONS: usize = 7;
const STREAMS: usize = 1_000;
const REQUESTS: u64 = (CONNECTIONS * STREAMS) as u64;
/// Time in flight: several leases of a second.
const HELD_FOR: Duration = Duration::from_secs(3);
const SOON: Duration = Duration::from_secs(60);
const GIVEN_UP_AFTER: Duration = Duration::from_secs(5);
/// Number of tries: a machine that stalls for two thirds of a second lets leases end.
const TRIES: usize = 6;

weir::on_both_hosts! {
    seven_thousand_requests_in_flight_keep_slots_with_a_lease_of_a_second
}

async fn seven_thousand_requests_in_flight_keep_slots_with_a_lease_of_a_second(host: HostKind) {
    let (upstream, answers) = upstream().await;
    let mesh = Mesh::on(host, QUICKSTART).patient().workers(1).configure(|filter| {
        let concurrency = json!({"max_requests": 1_000_000, "lease": "1s"});
        filter["limits"] = json!([{"name": "flights", "descriptor": [], "concurrency": concurrency}]);
    });
    let Some(mesh) = mesh.edit(|bootstrap| route(bootstrap, &["/"], upstream, true)).start().await else { return };
    let mut fewest = 0;
    for nth in 1..=TRIES {
        answers.send_replace(false);
        let mut floods = JoinSet::new();
        let mut all_have_slots = true;
        for part in 1..=CONNECTIONS {
            let flood = Flood { target: mesh.ingress()[0], connections: 1, streams: STREAMS, limit: SOON };
            floods.spawn(flood.send(|_| HeaderMap::new()));
            all_have_slots = all_have_slots && have_slots(&mesh, (part * STREAMS) as u64).await;
        }
        let end = Instant::now() + HELD_FOR;
        fewest = slots(&mesh);
        while all_have_slots && Instant::now() < end {
            fewest = fewest.min(slots(&mesh));
            sleep(Duration::from_millis(50)).await;
        }
        println!("{host:?}: {fewest} of {REQUESTS} slots were kept for {HELD_FOR:?}, try {nth}");
        answers.send_replace(true);
        for statuses in floods.join_all().await {
            let statuses = statuses.expect("the host speaks HTTP/2");
            assert_eq!(statuses.values().sum::<usize>(), STREAMS);
        }
        if fewest == REQUESTS {
            until_none(&mesh).await;
            return;
        }
    }
    panic!("{fewest} of {REQUESTS} slots were kept for {HELD_FOR:?}");
}

/// Number of slots whose lease has not ended.
fn slots(mesh: &Mesh) -> u64 {
    let mut redis = mesh.redis_connection();
    let (seconds, micros): (u64, u64) = redis::cmd("TIME").query(&mut redis).unwrap();
    redis.zcount(format!("{}flights:#concurrency", mesh.key_prefix()), seconds * 1_000_000 + micros, "+inf").unwrap()
}

/// Waits until this number of slots is taken. `false` if that is not so after a while: a busy machine fails a few
/// requests, or lets a lease end.
async fn have_slots(mesh: &Mesh, expected: u64) -> bool {
    let deadline = Instant::now() + GIVEN_UP_AFTER;
    while slots(mesh) < expected {
        if Instant::now() > deadline {
            return false;
        }
        sleep(Duration::from_millis(20)).await;
    }
    true
}

async fn until_none(mesh: &Mesh) {
    let deadline = Instant::now() + SOON;
    while slots(mesh) > 0 {
        assert!(Instant::now() < deadline, "{} slots are taken without a request in flight", slots(mesh));
        sleep(Duration::from_millis(20)).await;
    }
}

/// Starts an upstream over HTTP/2 that answers while the switch is on.
async fn upstream() -> (SocketAddr, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("a bound socket");
    let (switch, answers) = watch::channel(false);
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let answers = answers.clone();
            let answer = service_fn(move |_: Request<Incoming>| {
                let mut answers = answers.clone();
                async move {
                    let _ = answers.wait_for(|answers| *answers).await;
                    Ok::<_, hyper::Error>(Response::new(Empty::<Bytes>::new()))
                }
            });
            let mut server = http2::Builder::new(TokioExecutor::new());
            server.max_concurrent_streams(u32::MAX);
            tokio::spawn(server.serve_connection(TokioIo::new(connection), answer));
        }
    });
    (addr, switch)
}
