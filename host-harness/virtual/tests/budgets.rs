//! Budgets in virtual time: whatever ends a request, its reservation is settled once, by what it has cost.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests fail by panicking")]

mod support;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use support::{exchange, start};
use weir_filter::limit::KnownScript;
use weir_filter::redis::Script;
use weir_filter::units::Micros;
use weir_virtual::resp::{Commands, encode};
use weir_virtual::{Arrival, Clock, Exchange, Link, Mesh, Redis, Start, Worker};

const SECOND: Micros = Micros::from_secs(1);
const MS: fn(u64) -> Micros = Micros::from_millis;
/// Key of alice's budget.
const ALICE: &[u8] = b"weir:per_user:alice#budgetfixed3600000000";
/// Estimate of each request, and what each response tells.
const ESTIMATE: u64 = 100;
const COST: u64 = 35;

/// Configuration of one limit of 1,000 tokens an hour, with these further settings of the filter and of the limit.
fn configuration(of_filter: &str, of_limit: &str) -> String {
    format!(
        r#"{{"redis": {{"cluster": "redis"}}, {of_filter} "limits": [{{
            "name": "per_user", "descriptor": [{{"request_header": {{"name": "x-user-id"}}}}], "charge": "total_tokens",
            "reserve": {{"input": 10, "output": {{"default": 90}}, "lease": "3s"}}, {of_limit}
            "fixed_window": {{"max_tokens": 1000, "window": "3600s"}}}}]}}"#
    )
}

fn mesh(of_filter: &str) -> Mesh {
    start(1, &configuration(of_filter, ""), MS(1)).unwrap()
}

fn by(user: &str, takes: Micros) -> Exchange {
    let mut exchange = exchange(&[("x-user-id", user)], takes);
    exchange.headers[0].1 = b"POST".to_vec();
    exchange.upstream.headers = vec![("content-type".to_owned(), b"application/json".to_vec())];
    exchange.upstream.body =
        br#"{"usage": {"prompt_tokens": 10, "completion_tokens": 25, "total_tokens": 35}}"#.to_vec();
    exchange
}

/// Lets all calls end.
fn settle(mesh: &Mesh) {
    mesh.run_until(mesh.now().plus(SECOND));
    assert_eq!(mesh.redis().unknown(), [""; 0]);
}

fn statuses(mesh: &Mesh) -> Vec<u16> {
    mesh.take_answers().iter().map(|(_, answer)| answer.status).collect()
}

#[test]
fn a_request_reserves_its_estimate_and_is_settled_by_what_its_response_tells() {
    let mesh = mesh("");
    mesh.begin(0, by("alice", SECOND)).unwrap();
    mesh.run_until(mesh.now().plus(MS(500)));
    assert_eq!(mesh.redis().budget(ALICE), Some((0, ESTIMATE)));
    settle(&mesh);
    assert_eq!((statuses(&mesh), mesh.redis().budget(ALICE)), (vec![200], Some((COST, 0))));
    settle(&mesh);
    let counter = |name| mesh.workers()[0].metric(name);
    assert_eq!([counter("weir.usage.settled"), counter("weir.usage.overrun")], [Some(1), Some(0)]);
}

#[test]
fn a_long_request_keeps_its_reservation_and_is_settled_exactly() {
    let mesh = mesh("");
    mesh.begin(0, by("alice", Micros::from_secs(20))).unwrap();
    for _ in 0..19 {
        mesh.run_until(mesh.now().plus(SECOND));
        assert_eq!(mesh.redis().budget(ALICE), Some((0, ESTIMATE)));
    }
    mesh.run_until(mesh.now().plus(Micros::from_secs(4)));
    assert_eq!(mesh.redis().budget(ALICE), Some((COST, 0)));
    assert_eq!(mesh.workers()[0].metric("weir.usage.late"), Some(0));
}

#[test]
fn a_client_that_leaves_leaves_nothing_reserved_in_any_phase() {
    for leaves_after in [0, 300, 1_000, 1_500, 2_000, 3_000, 50_000, 900_000] {
        let mesh = mesh("");
        // The connection is open already, or is not.
        for warms_up in [false, true] {
            if warms_up {
                mesh.begin(0, by("bob", Micros::ZERO)).unwrap();
                settle(&mesh);
            }
            let (_, request) = mesh.begin(0, by("alice", SECOND)).unwrap();
            mesh.run_until(mesh.now().plus(Micros(leaves_after)));
            mesh.workers()[0].leave(request);
            settle(&mesh);
            assert_eq!(mesh.redis().budget(ALICE).unwrap_or_default(), (0, 0), "after {leaves_after} µs, {warms_up}");
        }
    }
}

/// 1,100 requests end while Redis is away: 1,024 settlements are owed, and the others are charged as lost.
#[test]
fn settlements_are_owed_while_redis_is_away() {
    for (requests, dropped) in [(9, 0), (1_100, 76)] {
        let mesh = start(1, &configuration("", "").replace("1000,", "1000000,"), MS(1)).unwrap();
        for _ in 0..requests {
            mesh.begin(0, by("alice", SECOND)).unwrap();
        }
        mesh.run_until(mesh.now().plus(MS(900)));
        assert_eq!(mesh.redis().budget(ALICE), Some((0, requests * ESTIMATE)));
        mesh.stop_redis();
        mesh.run_until(mesh.now().plus(SECOND));
        assert_eq!(statuses(&mesh), vec![200; usize::try_from(requests).unwrap()]);
        mesh.run_until(mesh.now().plus(SECOND));
        assert_eq!(mesh.redis().budget(ALICE), Some((0, requests * ESTIMATE)), "Redis is away");
        mesh.start_redis();
        // 64 settlements a second at most, and the lease of the others ends.
        mesh.run_until(mesh.now().plus(Micros::from_secs(40)));
        mesh.begin(0, by("alice", Micros::ZERO)).unwrap();
        settle(&mesh);
        let own = (requests - dropped + 1) * COST;
        assert_eq!(mesh.redis().budget(ALICE), Some((own + dropped * ESTIMATE, 0)), "{requests} requests");
        mesh.workers()[0].tick();
        assert_eq!(mesh.workers()[0].metric("weir.usage.dropped"), i64::try_from(dropped).ok());
    }
}

#[test]
fn a_denial_by_open_requests_is_short_and_is_not_remembered() {
    let mesh = mesh("");
    for _ in 0..10 {
        mesh.begin(0, by("alice", SECOND)).unwrap();
    }
    mesh.run_until(mesh.now().plus(MS(900)));
    mesh.begin(0, by("alice", Micros::ZERO)).unwrap();
    mesh.run_until(mesh.now().plus(MS(50)));
    let denied = mesh.take_answers().remove(0).1;
    assert_eq!((denied.status, denied.header("retry-after")), (429, Some("1")));
    // The others end 50 ms later, and have cost 350: there is room at once.
    mesh.run_until(mesh.now().plus(MS(60)));
    mesh.begin(0, by("alice", Micros::ZERO)).unwrap();
    settle(&mesh);
    assert_eq!((statuses(&mesh), mesh.redis().budget(ALICE)), (vec![200; 11], Some((11 * COST, 0))));

    // Now what is spent excludes a request, and repeats are denied from memory.
    for _ in 0..25 {
        mesh.begin(0, by("alice", Micros::ZERO)).unwrap();
        settle(&mesh);
    }
    mesh.take_answers();
    for _ in 0..2 {
        mesh.begin(0, by("alice", Micros::ZERO)).unwrap();
        mesh.run_until(mesh.now().plus(MS(50)));
    }
    let denied = mesh.take_answers();
    assert!(denied.iter().all(|(_, it)| it.status == 429 && it.header("retry-after") > Some("1")), "{denied:?}");
    settle(&mesh);
    assert!(mesh.workers()[0].metric("weir.deny_cache.hits") >= Some(1));
}

#[test]
fn an_override_changes_the_limit_and_keeps_what_is_spent() {
    let mesh = mesh("");
    mesh.begin(0, by("alice", Micros::ZERO)).unwrap();
    settle(&mesh);
    for (text, status) in [
        (r#"{"max": 134}"#, 429),
        (r#"{"max": 135}"#, 200),
        (r#"{"times": 0.1}"#, 429),
        (r#"{"fixed_window": {"max_tokens": 169, "window": "3600s"}}"#, 429),
        (r#"{"fixed_window": {"max_tokens": 170, "window": "3600s"}}"#, 200),
    ] {
        mesh.redis().set_key_override(b"weir:per_user:alice", text.as_bytes(), None);
        // Denials are remembered for a second.
        mesh.run_until(mesh.now().plus(Micros::from_secs(2)));
        mesh.begin(0, by("alice", Micros::ZERO)).unwrap();
        settle(&mesh);
        assert_eq!(statuses(&mesh).last(), Some(&status), "{text}");
    }
    assert_eq!(mesh.redis().budget(ALICE), Some((3 * COST, 0)));
}

/// Parts of a check in several hash slots: a request that the second part denies leaves nothing reserved in the first.
#[test]
fn a_part_in_another_hash_slot_that_denies_leaves_nothing_reserved() {
    let limit = |name: &str, header: &str, rest: &str| {
        format!(r#"{{"name": "{name}", "descriptor": [{{"request_header": {{"name": "{header}"}}}}], {rest}}}"#)
    };
    let budget = r#""charge": "total_tokens", "reserve": {"input": 10, "output": {"default": 90}},
        "fixed_window": {"max_tokens": 1000, "window": "3600s"}"#;
    let one = r#""token_bucket": {"max_tokens": 1, "fill_interval": "3600s"}"#;
    let limits = [limit("first", "x-user-id", budget), limit("second", "x-team", one)].join(",");
    let configuration = format!(r#"{{"redis": {{"cluster": "redis", "topology": "cluster"}}, "limits": [{limits}]}}"#);
    let mesh = start(1, &configuration, MS(1)).unwrap();
    mesh.redis().become_cluster();
    for _ in 0..3 {
        let mut request = by("alice", Micros::ZERO);
        request.headers.push(("x-team".to_owned(), b"red".to_vec()));
        mesh.begin(0, request).unwrap();
        settle(&mesh);
    }
    assert_eq!(statuses(&mesh), [200, 429, 429]);
    assert_eq!(mesh.redis().budget(b"weir:{first:alice}#budgetfixed3600000000"), Some((COST, 0)));
}

/// Fault of a call of a script, and of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Redis runs it, and nothing comes back any more.
    LosesReply,
    /// Redis never gets it, nor anything behind it.
    LosesCall,
    /// Redis runs it, and the connection closes.
    Closes,
}

/// Connection to Redis that loses one call of a script.
struct Faulty {
    redis: Redis,
    /// The script whose next call has a fate.
    next: Cell<Option<(KnownScript, Fate)>>,
    streams: RefCell<BTreeMap<u32, (Commands, Option<Fate>)>>,
    arrivals: RefCell<Vec<Arrival>>,
}

impl Link for Faulty {
    fn open(&self, stream: u32) -> bool {
        self.streams.borrow_mut().insert(stream, (Commands::default(), None));
        true
    }

    fn send(&self, stream: u32, bytes: &[u8]) {
        let mut streams = self.streams.borrow_mut();
        let Some((commands, fate)) = streams.get_mut(&stream) else { return };
        commands.push(bytes);
        let mut replies = Vec::new();
        while let Some(Ok(command)) = commands.next() {
            let script = command.get(1).and_then(|script| {
                let source = String::from_utf8_lossy(script);
                KnownScript::by_sha1(&source)
                    .or_else(|| KnownScript::by_sha1(Script::new(source.into_owned()).sha1_hex()))
            });
            if let Some((its, next)) = self.next.get()
                && script == Some(its)
            {
                self.next.set(None);
                *fate = Some(next);
            }
            if *fate == Some(Fate::LosesCall) {
                continue;
            }
            let reply = self.redis.run(&command);
            match fate {
                None => encode(&reply, &mut replies),
                Some(Fate::Closes) => self.arrivals.borrow_mut().push(Arrival::Closed { stream }),
                Some(_) => {}
            }
        }
        if !replies.is_empty() {
            self.arrivals.borrow_mut().push(Arrival::Bytes { stream, bytes: replies });
        }
    }

    fn close(&self, stream: u32) {
        self.streams.borrow_mut().remove(&stream);
    }

    fn call_out(&self, _callout: u32, _bytes: &[u8], _timeout: Micros) -> bool {
        false
    }
}

/// Worker behind a connection with a fault.
struct Proxy {
    clock: Clock,
    link: Rc<Faulty>,
    worker: Worker,
}

impl Proxy {
    fn new(of_filter: &str) -> Self {
        let clock = Clock::at(Micros::from_secs(1_795_132_800));
        let link = Rc::new(Faulty {
            redis: Redis::new(&clock),
            next: Cell::new(None),
            streams: RefCell::default(),
            arrivals: RefCell::default(),
        });
        let configuration = configuration(of_filter, "");
        let start = Start {
            configuration: configuration.as_bytes(),
            environment: &[],
            seed: 7,
            sees_body_past_headers: true,
            round_trip: Micros::ZERO,
        };
        let worker = Worker::start_linked(&clock, Rc::clone(&link) as Rc<dyn Link>, &start).unwrap();
        let proxy = Self { clock, link, worker };
        // The first request connects.
        proxy.worker.begin(by("bob", Micros::ZERO));
        proxy.run(SECOND);
        proxy.worker.take_answers();
        proxy
    }

    fn run(&self, span: Micros) {
        let until = self.clock.now().plus(span);
        loop {
            for arrival in self.link.arrivals.take() {
                self.worker.arrives(self.clock.now().plus(MS(1)), arrival);
            }
            match self.worker.next_at().filter(|at| *at <= until) {
                Some(at) => {
                    self.clock.set(at.max(self.clock.now()));
                    self.worker.handle_next();
                }
                None => break,
            }
        }
        self.clock.set(until);
    }
}

/// The check of a request is lost in every way; the request goes on, and is charged exactly once.
#[test]
fn a_request_whose_check_is_lost_is_charged_once() {
    let check = KnownScript::Mixed { per_key: true };
    for fate in [Fate::LosesReply, Fate::LosesCall, Fate::Closes] {
        for (mode, status, charged) in [("allow", 200, COST), ("deny", 503, 0)] {
            let proxy = Proxy::new(&format!(r#""failure_mode": "{mode}","#));
            proxy.link.next.set(Some((check, fate)));
            proxy.worker.begin(by("alice", MS(500)));
            proxy.run(Micros::from_secs(9));
            let answers = proxy.worker.take_answers();
            assert_eq!(answers[0].1.status, status, "{fate:?}, {mode}");
            assert_eq!(proxy.link.redis.budget(ALICE), Some((charged, 0)), "{fate:?}, {mode}");
        }
    }
}

#[test]
fn a_settlement_that_is_lost_is_sent_again_and_counts_once() {
    for fate in [Fate::LosesReply, Fate::LosesCall, Fate::Closes] {
        let proxy = Proxy::new("");
        proxy.link.next.set(Some((KnownScript::Settle, fate)));
        proxy.worker.begin(by("alice", MS(500)));
        proxy.run(Micros::from_secs(9));
        assert_eq!(proxy.link.next.get(), None, "the fault has occurred");
        assert_eq!(proxy.link.redis.budget(ALICE), Some((COST, 0)), "{fate:?}");
    }
}

/// A proxy that dies leaves what its requests had reserved, which is charged when another asks.
#[test]
fn a_proxy_that_dies_leaves_its_estimates_charged() {
    for (on_lost, charged) in [("estimate", ESTIMATE), ("input", 10), ("refund", 0)] {
        let configuration =
            configuration("", "").replace(r#""lease": "3s""#, &format!(r#""lease": "3s", "on_lost": "{on_lost}""#));
        let clock = Clock::at(Micros::from_secs(1_795_132_800));
        let redis = Redis::new(&clock);
        let start = |seed| Start {
            configuration: configuration.as_bytes(),
            environment: &[],
            seed,
            sees_body_past_headers: true,
            round_trip: Micros::ZERO,
        };
        let ask = |worker: &Worker, takes| {
            worker.begin(by("alice", takes));
            let until = clock.now().plus(SECOND);
            while let Some(at) = worker.next_at().filter(|at| *at <= until) {
                clock.set(at.max(clock.now()));
                worker.handle_next();
            }
            clock.set(until);
        };
        let dead = Worker::start(&clock, &redis, &start(1)).unwrap();
        ask(&dead, Micros::from_secs(60));
        drop(dead);
        let other = Worker::start(&clock, &redis, &start(2)).unwrap();
        ask(&other, Micros::ZERO);
        assert_eq!(redis.budget(ALICE), Some((COST, ESTIMATE)));
        clock.set(clock.now().plus(Micros::from_secs(4)));
        ask(&other, Micros::ZERO);
        assert_eq!(redis.budget(ALICE), Some((2 * COST + charged, 0)), "{on_lost}");
    }
}
