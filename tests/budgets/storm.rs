//! Storm: 500 clients at once on two hosts, and a watch on both budgets all the while.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Incoming;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;
use weir::{HostKind, Mesh, Provider};

use crate::budgets;
use crate::spent::{amounts, charged, key_of, ledger, settled};

const CLIENTS: u64 = 500;
/// Requests of each client, one after the other.
const REQUESTS: u64 = 3;
/// Budget of tokens, and of money in billionths of a dollar.
const BUDGETS: [u64; 2] = [20_000, 6_600_000];
const MAX_USD: f64 = 0.0066;
/// Users, with the bytes of padding in their requests and the maximum that these state: the first one runs out of
/// tokens, the other one out of money.
const USERS: [(&str, usize, u64); 2] = [("alice", 250, 50), ("bob", 0, 100)];
/// Time after which a request without a response has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// Text of a response that is cut off: 48 bytes, a quarter of which are taken for tokens.
const SEEN: u64 = 12;

/// End of a request by its client.
#[derive(Debug, Clone, Copy)]
enum Leave {
    Never,
    /// Unless there is a response before.
    After(Duration),
    /// Once the body has so many blank lines.
    AtBlankLine(usize),
}

/// Responses, with the ends of their requests.
const MIXTURE: [(&str, Leave); 14] = [
    ("json", Leave::Never),
    ("stream", Leave::Never),
    ("headers", Leave::Never),
    ("anthropic", Leave::Never),
    ("message", Leave::Never),
    ("slow", Leave::Never),
    ("error", Leave::Never),
    ("unknown", Leave::Never),
    ("reset", Leave::Never),
    ("cut", Leave::Never),
    ("silent", Leave::After(Duration::ZERO)),
    ("silent", Leave::After(Duration::from_millis(150))),
    ("hang", Leave::AtBlankLine(3)),
    ("done", Leave::AtBlankLine(5)),
];

weir::on_both_hosts! {
    a_storm_never_exceeds_a_budget_and_is_charged_to_the_unit
}

async fn a_storm_never_exceeds_a_budget_and_is_charged_to_the_unit(host: HostKind) {
    weir_provision::raise_open_files_limit();
    let provider = Provider::start().await;
    let mesh = budgets(host, "envoy/quickstart.yaml", &provider).hosts(2).configure(|filter| {
        filter["limits"][0]["fixed_window"]["max_tokens"] = BUDGETS[0].into();
        filter["limits"][1]["quota"]["max_usd"] = MAX_USD.into();
        filter["events"] = json!({"usage": true, "sample": 0.000_001, "max_len": 100_000});
    });
    let Some(mesh) = mesh.start().await else { return };
    // The first requests create the budgets.
    for nth in 0..2 {
        assert_eq!(send(mesh.ingress()[0], nth, MIXTURE[0]).await, Some(200));
    }
    let keys = USERS.map(|(user, ..)| ["tokens", "money"].map(|limit| key_of(&mesh, limit, user).unwrap()));
    let watch = Watch::of(&mesh, keys.as_flattened());
    let began = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let ingress = mesh.ingress()[usize::try_from(client % 2).unwrap()];
        clients.spawn(async move {
            let mut statuses = Vec::new();
            for nth in 0..REQUESTS {
                let nth = client * REQUESTS + nth;
                let kind = MIXTURE[usize::try_from(nth / 2 * 5 % 14).unwrap()];
                statuses.push(send(ingress, nth, kind).await);
            }
            statuses
        });
    }
    let mut statuses = BTreeMap::<Option<u16>, u64>::new();
    for status in clients.join_all().await.concat() {
        *statuses.entry(status).or_default() += 1;
    }
    let lasted = began.elapsed();
    let mut spent = Vec::new();
    for (user, ..) in USERS {
        spent.extend(settled(&mesh, user).await);
    }
    let watched = watch.stop();
    let entries = ledger(&mesh);
    let seen = provider.seen();
    println!(
        "{host:?}: {} requests in {:.1} s, {} admitted, {} denied, all statuses {statuses:?}; most of used + held {:?} \
         of {BUDGETS:?}; used at the end {spent:?}; {} samples, {:.1} ms apart, at most {} ms",
        CLIENTS * REQUESTS,
        lasted.as_secs_f64(),
        entries.len(),
        statuses.get(&Some(429)).unwrap_or(&0),
        watched.highest,
        watched.samples,
        lasted.as_secs_f64() * 1_000.0 / watched.samples as f64,
        watched.longest_gap.as_millis(),
    );
    for (nth, highest) in watched.highest.iter().enumerate() {
        assert!(*highest <= BUDGETS[nth % 2], "{}: {highest}", keys.as_flattened()[nth]);
    }
    assert!(
        watched.highest[0] * 10 > BUDGETS[0] * 9 && watched.highest[3] * 10 > BUDGETS[1] * 9,
        "the storm is strong"
    );
    // One entry for each request.
    assert_eq!(entries.iter().map(|entry| &entry["id"]).collect::<HashSet<_>>().len(), entries.len());
    let of_ledger: Vec<u64> = keys.as_flattened().iter().map(|key| charged(&entries, key)).collect();
    assert_eq!(of_ledger, spent, "the ledger and Redis");
    let ([input, output], [cut, bytes]) = (seen.told, seen.untold);
    let told = [input + bytes + output + SEEN * cut, 150 * (input + bytes) + 600 * (output + SEEN * cut)];
    assert_eq!([spent[0] + spent[2], spent[1] + spent[3]], told, "Redis and the provider");
}

/// Sends a request, whose estimate is never too low, and leaves it. Returns the status, if there is one.
async fn send(ingress: SocketAddr, nth: u64, (kind, leave): (&str, Leave)) -> Option<u16> {
    let (user, padding, max_tokens) = USERS[usize::try_from(nth % 2).unwrap()];
    let body = json!({"model": "gpt-4o-mini", "max_tokens": max_tokens, "text": "x".repeat(padding)}).to_string();
    let request = Request::post("/v1/chat/completions")
        .header("host", "weir")
        .header("x-user-id", user)
        .header("x-answer", kind)
        .header("x-input", nth * 7 % (body.len() as u64 + 1))
        .header("x-output", nth * 3 % (max_tokens + 1))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let stream = TcpStream::connect(ingress).await.unwrap();
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let exchange = async {
        let response = match leave {
            Leave::After(time) => tokio::select! {
                response = sender.send_request(request) => response,
                () = tokio::time::sleep(time.max(Duration::from_millis(1))) => return None,
            },
            _ => sender.send_request(request).await,
        };
        let response = response.ok()?;
        let status = response.status().as_u16();
        read(response.into_body(), leave).await;
        Some(status)
    };
    let status = tokio::time::timeout(PATIENCE, exchange).await;
    connection.abort();
    status.unwrap_or_else(|_| panic!("{kind}: no response"))
}

/// Reads a body to its end, or to the place at which the client leaves.
async fn read(mut body: Incoming, leave: Leave) {
    let mut read = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        read.extend(frame.into_data().unwrap_or_default());
        let blank_lines = read.windows(2).filter(|bytes| bytes == b"\n\n").count();
        if matches!(leave, Leave::AtBlankLine(line) if blank_lines >= line) {
            return;
        }
    }
}

/// Thread that reads budgets again and again.
struct Watch {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Watched>,
}

/// Figures of a watch.
struct Watched {
    samples: u64,
    /// The most that was used and held together, of each budget.
    highest: Vec<u64>,
    longest_gap: Duration,
}

impl Watch {
    fn of(mesh: &Mesh, keys: &[String]) -> Self {
        let (mut redis, mut all) = (mesh.redis_connection(), redis::pipe());
        for key in keys {
            all.hget(key, "w");
        }
        let mut watched = Watched { samples: 0, highest: vec![0; keys.len()], longest_gap: Duration::ZERO };
        let is_over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            let mut last = Instant::now();
            while !until.load(Ordering::Relaxed) {
                let windows: Vec<String> = all.query(&mut redis).unwrap();
                watched.samples += 1;
                watched.longest_gap = watched.longest_gap.max(last.elapsed());
                last = Instant::now();
                for (highest, window) in watched.highest.iter_mut().zip(windows) {
                    *highest = (*highest).max(amounts(&window).iter().sum());
                }
                thread::sleep(Duration::from_millis(1));
            }
            watched
        });
        Self { is_over, thread }
    }

    fn stop(self) -> Watched {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}
