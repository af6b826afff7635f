//! Checks of a pair: a limit each, and the numbers of requests that it must admit and deny.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde_json::{Value, json};
use tokio::{
    task::block_in_place,
    time::{Instant, sleep},
};
use weir_harness::limits::Limits;
use weir_provision::client::Client;

use crate::pair::{Asker, Pair};

/// Time for what takes as long as it takes on a busy machine.
const SOON: Duration = Duration::from_secs(60);
/// Time within which a request is answered that is not held.
const AT_ONCE: Duration = Duration::from_secs(2);
/// Time of a served request that occupies a slot, in milliseconds.
const SERVED_MS: &str = "5000";

/// A limit and its numbers.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// Name of the limit; requests with this path have it.
    pub name: &'static str,
    /// Fields of the limit, as YAML.
    pub limit: &'static str,
    /// Requests that are sent.
    pub requests: &'static str,
    /// Numbers that they must have.
    pub expected: Counted,
}

/// Numbers of requests by status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Requests with status 200.
    pub admitted: u64,
    /// Requests with status 429.
    pub denied: u64,
    /// Requests with another status.
    pub others: u64,
}

const fn counted(admitted: u64, denied: u64) -> Counted {
    Counted { admitted, denied, others: 0 }
}

pub const CHECKS: [Check; 8] = [
    Check {
        name: "token_bucket",
        limit: "token_bucket: {max_tokens: 20, fill_interval: 86400s}",
        requests: "30 on 30 connections",
        expected: counted(20, 10),
    },
    Check {
        name: "fixed_window",
        limit: "fixed_window: {max_requests: 20, window: 2251799813s}",
        requests: "30 on 30 connections",
        expected: counted(20, 10),
    },
    Check {
        name: "sliding_window",
        limit: "sliding_window: {max_requests: 20, window: 86400s, mode: exact}",
        requests: "30 on 30 connections",
        expected: counted(20, 10),
    },
    Check {
        name: "concurrency",
        limit: "concurrency: {max_requests: 5}",
        requests: "8 at once, served in 5 s",
        expected: counted(5, 3),
    },
    Check {
        name: "lease",
        limit: "{token_bucket: {max_tokens: 20, fill_interval: 86400s}, lease: {max: 5}}",
        requests: "30 on one connection",
        expected: counted(20, 10),
    },
    Check {
        name: "max_delay",
        limit: "{token_bucket: {max_tokens: 1, fill_interval: 2s}, max_delay: 5s}",
        requests: "6 at once; two are held",
        expected: counted(3, 3),
    },
    Check {
        name: "given_back",
        limit: "{token_bucket: {max_tokens: 1, fill_interval: 45s}, max_delay: 60s}",
        requests: "2, and one whose client leaves",
        expected: counted(1, 1),
    },
    Check {
        name: "overrides",
        limit: "token_bucket: {max_tokens: 5, fill_interval: 86400s}",
        requests: "10 each: blocked, unlimited, no override",
        expected: counted(15, 15),
    },
];

/// The filter's `limits`.
pub fn limits() -> Value {
    let limit = |check: Check| {
        let mut limit: Value = serde_saphyr::from_str(check.limit).expect("YAML");
        limit["name"] = check.name.into();
        limit["when"] = json!([{"path": {"exact": format!("/{}", check.name)}}]);
        limit["descriptor"] = json!([{"request_header": {"name": "x-user-id"}}]);
        limit
    };
    CHECKS.map(limit).into()
}

/// Runs all checks at the same time.
pub async fn run(pair: &Pair) -> [Counted; CHECKS.len()] {
    let asker = pair.asker();
    let counted = tokio::join!(
        one_by_one(asker, "token_bucket"),
        one_by_one(asker, "fixed_window"),
        one_by_one(asker, "sliding_window"),
        concurrency(asker),
        lease(asker),
        max_delay(asker),
        given_back(pair),
        overrides(pair),
    );
    counted.into()
}

/// Each request has a connection of its own, so that all workers decide.
async fn one_by_one(asker: Asker, name: &str) -> Counted {
    let mut counted = Counted::default();
    for _ in 0..30 {
        counted.add(asker.get(name, "alice").await);
    }
    counted
}

async fn concurrency(asker: Asker) -> Counted {
    let served_slowly = |_| asker.at_once("concurrency", Some(("x-envoy-fault-delay-request", SERVED_MS)));
    let counted = all((0..8).map(served_slowly)).await;
    // Slots come back.
    let deadline = Instant::now() + SOON;
    while asker.get("concurrency", "alice").await != 200 {
        assert!(Instant::now() < deadline, "no slot comes back");
        sleep(Duration::from_millis(50)).await;
    }
    counted
}

/// Connection of one worker: no other worker has leased tokens.
async fn lease(asker: Asker) -> Counted {
    let (mut client, mut counted) = (Client::new(asker.ingress, SOON), Counted::default());
    for _ in 0..30 {
        let response = client.get("/lease", &Asker::headers("alice", None)).await.expect("an answer");
        counted.add(response.status);
    }
    counted
}

async fn max_delay(asker: Asker) -> Counted {
    let start = Instant::now();
    let counted = all((0..6).map(|_| asker.at_once("max_delay", None))).await;
    let held = start.elapsed();
    assert!(held >= Duration::from_millis(3_900), "expected the last admitted request after 4 s, found {held:?}");
    counted
}

/// The client of a held request leaves, and its token is there for another.
async fn given_back(pair: &Pair) -> Counted {
    let (asker, name) = (pair.asker(), "given_back");
    let mut counted = Counted::default();
    counted.add(asker.get(name, "alice").await);
    let before = pair.bucket(name);
    let held = asker.at_once(name, None);
    let deadline = Instant::now() + SOON;
    while pair.bucket(name) == before {
        assert!(Instant::now() < deadline, "no request is held");
        sleep(Duration::from_millis(20)).await;
    }
    counted.add(asker.get(name, "alice").await);
    held.abort();
    // A request is held that no token would exist for within its delay, if the token had not come back.
    let mut client = Client::new(asker.ingress, AT_ONCE);
    while let Ok(denied) = client.get(&format!("/{name}"), &Asker::headers("alice", None)).await {
        assert!(denied.status == 429 && Instant::now() < deadline, "no token comes back: {denied:?}");
        sleep(Duration::from_millis(50)).await;
    }
    counted
}

/// An operator's `weir limits` sets overrides of keys.
async fn overrides(pair: &Pair) -> Counted {
    let (config, url) = (pair.configuration_file(), pair.redis.url());
    for (user, setting) in [("alice", "blocked"), ("bob", "unlimited")] {
        let arguments =
            ["set", "overrides", user, setting, "--redis", &url, "--config", config.to_str().expect("text")];
        let limits = Limits::parse(&arguments).expect("arguments");
        block_in_place(|| limits.perform(&mut Vec::new(), &mut Vec::new())).expect("the override is set");
    }
    let mut counted = Counted::default();
    let mut of_users = BTreeMap::new();
    for user in ["alice", "bob", "carol"] {
        let mut own = Counted::default();
        for _ in 0..10 {
            own.add(pair.asker().get("overrides", user).await);
        }
        of_users.insert(user, own);
        counted = counted.plus(own);
    }
    let expected = [("alice", self::counted(0, 10)), ("bob", self::counted(10, 0)), ("carol", self::counted(5, 5))];
    assert_eq!(of_users, BTreeMap::from(expected));
    counted
}

/// Counts the statuses of requests that are under way.
async fn all(requests: impl Iterator<Item = tokio::task::JoinHandle<u16>>) -> Counted {
    let requests: Vec<_> = requests.collect();
    let mut counted = Counted::default();
    for request in requests {
        counted.add(request.await.expect("an answer"));
    }
    counted
}

impl Counted {
    fn add(&mut self, status: u16) {
        match status {
            200 => self.admitted += 1,
            429 => self.denied += 1,
            _ => self.others += 1,
        }
    }

    pub fn plus(self, other: Self) -> Self {
        Self {
            admitted: self.admitted + other.admitted,
            denied: self.denied + other.denied,
            others: self.others + other.others,
        }
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} / {}", self.admitted, self.denied)?;
        if self.others > 0 { write!(f, " / {} others", self.others) } else { Ok(()) }
    }
}
