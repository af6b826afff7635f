//! Settlements whose connection is cut after any of their bytes, and after any byte of their replies: each counts once.
//!
//! Every byte on workers in virtual time with a real Redis; some of them on both hosts.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

use redis::Commands as _;
use serde_json::json;
use weir::{HostKind, Provider, or_skip};
use weir_filter::limit::KnownScript;
use weir_filter::redis::Script;
use weir_filter::redis::resp::{Decoder, encode_command};
use weir_filter::units::Micros;
use weir_provision::redis::{RedisOptions, RedisServer};
use weir_virtual::resp::Commands;
use weir_virtual::{Arrival, Clock, Exchange, Link, Start, Upstream, Worker};

use crate::spent::{charged, key_of, ledger, settled};
use crate::{ask, budgets};

mod proxy;

use proxy::CutProxy;

const ESTIMATE: u64 = 100;
const COST: u64 = 35;
const KEY: &str = "weir:per_user:alice#budgetfixed3600000000";
/// Longer than the lease, and than the wait for a retry.
const A_WHILE: Micros = Micros::from_secs(9);

const SOON: Duration = Duration::from_secs(30);

/// Place at which a connection is cut: behind so many bytes of a settlement, or of the reply to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Call(usize),
    Reply(usize),
}

/// Returns the script that a command runs, with its source or without.
fn script_of(command: &[Vec<u8>]) -> Option<KnownScript> {
    thread_local!(static KNOWN: RefCell<HashMap<Vec<u8>, Option<KnownScript>>> = RefCell::default());
    let [name, script, ..] = command else { return None };
    let by_source = || KnownScript::by_sha1(Script::new(String::from_utf8_lossy(script).into_owned()).sha1_hex());
    KNOWN.with_borrow_mut(|known| match name.as_slice() {
        b"EVAL" => *known.entry(script.clone()).or_insert_with(by_source),
        b"EVALSHA" => {
            *known.entry(script.clone()).or_insert_with(|| KnownScript::by_sha1(str::from_utf8(script).ok()?))
        }
        _ => None,
    })
}

/// Connection to a real Redis whose next settlement is cut.
struct Cutting {
    redis: SocketAddr,
    streams: RefCell<BTreeMap<u32, (Commands, Option<TcpStream>)>>,
    arrivals: RefCell<Vec<Arrival>>,
    /// The name of the command, and the place.
    next: Cell<Option<(&'static str, Cut)>>,
    /// Lengths of the last settlement of this name, and of its reply.
    seen: RefCell<HashMap<String, [usize; 2]>>,
    /// Settlements that Redis has run, and whose replies have passed.
    passed: Cell<u32>,
    /// Whether the next check loses its reply.
    loses_check: Cell<bool>,
}

impl Link for Cutting {
    fn open(&self, stream: u32) -> bool {
        let connection = TcpStream::connect(self.redis).unwrap();
        connection.set_nodelay(true).unwrap();
        self.streams.borrow_mut().insert(stream, (Commands::default(), Some(connection)));
        true
    }

    fn send(&self, stream: u32, bytes: &[u8]) {
        let mut streams = self.streams.borrow_mut();
        let Some((commands, connection)) = streams.get_mut(&stream) else { return };
        commands.push(bytes);
        let mut replies = Vec::new();
        while let Some(command) = commands.next() {
            let Some(open) = connection else { return };
            let (reply, goes_on) = self.run(open, &command.unwrap());
            replies.extend(reply);
            if !goes_on {
                *connection = None;
            }
        }
        let is_cut = connection.is_none();
        let mut arrivals = self.arrivals.borrow_mut();
        if !replies.is_empty() {
            arrivals.push(Arrival::Bytes { stream, bytes: replies });
        }
        if is_cut {
            arrivals.push(Arrival::Closed { stream });
        }
    }

    fn close(&self, stream: u32) {
        self.streams.borrow_mut().remove(&stream);
    }

    fn call_out(&self, _callout: u32, _bytes: &[u8], _timeout: Micros) -> bool {
        false
    }
}

impl Cutting {
    /// Runs a command in Redis. Returns what arrives of the reply, and whether the connection goes on.
    fn run(&self, connection: &mut TcpStream, command: &[Vec<u8>]) -> (Vec<u8>, bool) {
        let mut call = Vec::new();
        encode_command(&mut call, command);
        let name = String::from_utf8_lossy(&command[0]).into_owned();
        let script = script_of(command);
        let settles = script == Some(KnownScript::Settle);
        if matches!(script, Some(KnownScript::Mixed { .. })) && self.loses_check.take() {
            exchange(connection, &call);
            return (Vec::new(), false);
        }
        let cut = self.next.get().filter(|(its, _)| settles && *its == name).map(|(_, cut)| cut);
        if cut.is_some() {
            self.next.set(None);
        }
        if let Some(Cut::Call(bytes)) = cut {
            connection.write_all(&call[..bytes]).unwrap();
            connection.shutdown(Shutdown::Write).unwrap();
            // Redis has run what has arrived, and has closed its side.
            connection.read_to_end(&mut Vec::new()).unwrap();
            return (Vec::new(), false);
        }
        let mut reply = exchange(connection, &call);
        if settles && !reply.starts_with(b"-") {
            self.seen.borrow_mut().insert(name, [call.len(), reply.len()]);
        }
        match cut {
            Some(Cut::Reply(bytes)) => reply.truncate(bytes),
            _ => self.passed.set(self.passed.get() + u32::from(settles && !reply.starts_with(b"-"))),
        }
        (reply, cut.is_none())
    }
}

/// Sends a command, and returns the bytes of its reply.
fn exchange(connection: &mut TcpStream, command: &[u8]) -> Vec<u8> {
    connection.write_all(command).unwrap();
    let (mut decoder, mut reply, mut piece) = (Decoder::new(), Vec::new(), [0; 4_096]);
    loop {
        let size = connection.read(&mut piece).unwrap();
        assert!(size > 0, "Redis has closed the connection");
        reply.extend_from_slice(&piece[..size]);
        decoder.push(&piece[..size]);
        if decoder.next_reply().unwrap().is_some() {
            return reply;
        }
    }
}

/// Worker with a real Redis.
struct Proxy {
    clock: Clock,
    link: Rc<Cutting>,
    worker: Worker,
}

impl Proxy {
    fn new(redis: SocketAddr) -> Self {
        let configuration = json!({
            "redis": {"cluster": "redis"}, "failure_mode": "allow", "events": {"usage": true},
            "limits": [{
                "name": "per_user", "descriptor": [{"request_header": {"name": "x-user-id"}}], "charge": "total_tokens",
                "reserve": {"input": 10, "output": {"default": ESTIMATE - 10}, "lease": "3s"},
                "fixed_window": {"max_tokens": 1_000, "window": "3600s"},
            }],
        });
        let configuration = configuration.to_string();
        let clock = Clock::at(Micros::from_secs(1_795_132_800));
        let link = Rc::new(Cutting {
            redis,
            streams: RefCell::default(),
            arrivals: RefCell::default(),
            next: Cell::new(None),
            seen: RefCell::default(),
            passed: Cell::new(0),
            loses_check: Cell::new(false),
        });
        let start = Start {
            configuration: configuration.as_bytes(),
            environment: &[],
            seed: 7,
            sees_body_past_headers: true,
            round_trip: Micros::ZERO,
        };
        let worker = Worker::start_linked(&clock, Rc::clone(&link) as Rc<dyn Link>, &start).unwrap();
        Self { clock, link, worker }
    }

    /// Lets a request of a user pass, and all calls end.
    fn ask(&self, user: &str) {
        let headers = [(":method", "POST"), (":path", "/"), (":authority", "test"), ("x-user-id", user)];
        self.worker.begin(Exchange {
            headers: headers.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())).into(),
            body: None,
            properties: Rc::new(|_: &[&str]| None),
            upstream: Upstream {
                status: 200,
                headers: vec![("content-type".to_owned(), b"application/json".to_vec())],
                body: br#"{"usage": {"prompt_tokens": 10, "completion_tokens": 25, "total_tokens": 35}}"#.to_vec(),
                takes: Micros::from_millis(500),
                ..Upstream::default()
            },
        });
        let until = self.clock.now().plus(A_WHILE);
        loop {
            for arrival in self.link.arrivals.take() {
                self.worker.arrives(self.clock.now().plus(Micros::from_millis(1)), arrival);
            }
            let Some(at) = self.worker.next_at().filter(|at| *at <= until) else { break };
            self.clock.set(at.max(self.clock.now()));
            self.worker.handle_next();
        }
        self.clock.set(until);
    }
}

/// Every byte of a settlement that Redis knows, and of its reply; and some of one that is sent with its source. The
/// reservation is known, or its check's reply was lost, so that the settlement may have to charge in full.
#[test]
fn a_settlement_that_is_cut_behind_any_byte_counts_once() {
    let Some(server) = or_skip(RedisServer::start(RedisOptions::default())) else { return };
    let mut redis = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let proxy = Proxy::new(server.addr());
    let mut cases = 0;
    for (name, step) in [("EVALSHA", 1), ("EVAL", 211)] {
        for loses_check in [false, true] {
            for _ in 0..2 {
                proxy.link.loses_check.set(loses_check);
                proxy.ask("bob");
            }
            let [call, reply] = proxy.link.seen.borrow()[name];
            assert!(call > 300 && reply > 3, "{call} and {reply} bytes");
            let of_call = (0..=call).filter(|bytes| bytes % step == 0 || call - bytes < 9).map(Cut::Call);
            for cut in of_call.chain((0..reply).map(Cut::Reply)) {
                redis::cmd("FLUSHALL").exec(&mut redis).unwrap();
                if name == "EVAL" {
                    redis::cmd("SCRIPT").arg("FLUSH").exec(&mut redis).unwrap();
                }
                proxy.link.loses_check.set(loses_check);
                proxy.link.next.set(Some((name, cut)));
                let passed = proxy.link.passed.get();
                proxy.ask("alice");
                assert_eq!(
                    proxy.link.passed.get(),
                    passed + 1,
                    "{name}, {cut:?} of {call} and {reply} bytes: sent again once"
                );
                assert_eq!(proxy.link.next.get(), None, "{name}, {cut:?}: the connection was cut");
                let state: HashMap<Vec<u8>, Vec<u8>> = redis.hgetall(KEY).unwrap();
                let window = String::from_utf8_lossy(&state[&b"w"[..]]).into_owned();
                assert!(window.contains(&format!(" {COST} 0 ")), "{name}, {cut:?}: {window}");
                let open = state.iter().filter(|(name, value)| name.len() == 16 && !value.starts_with(b"D")).count();
                let entries: usize = redis.xlen("weir:events").unwrap();
                assert_eq!((open, entries), (0, 1), "{name}, {cut:?}: reservations, and entries of the ledger");
                cases += 1;
            }
            proxy.link.loses_check.set(false);
        }
    }
    println!("{cases} cuts of a settlement or of its reply: each counts once");
}

weir::on_both_hosts! {
    a_settlement_that_is_cut_is_sent_again_and_counts_once
}

async fn a_settlement_that_is_cut_is_sent_again_and_counts_once(host: HostKind) {
    let start = || RedisServer::start(RedisOptions::default()).map(std::sync::Arc::new);
    let Some(redis) = or_skip(tokio::task::block_in_place(start)) else { return };
    let cutting = CutProxy::start(redis.addr()).await;
    let provider = Provider::start().await;
    let mesh = budgets(host, "envoy/quickstart.yaml", &provider).reaching(&redis, vec![cutting.addr()]);
    let mesh = mesh.configure(|filter| filter["events"] = json!({"usage": true, "sample": 0.000_001}));
    let Some(mesh) = mesh.start().await else { return };
    let cuts = [0, 1, 40, 200, 400, 4_000].map(Cut::Call).into_iter().chain([0, 1, 5, 7].map(Cut::Reply));
    let mut told = [0, 0];
    for (nth, cut) in (0..).zip(cuts) {
        let user = format!("user-{nth}");
        cutting.cut(cut);
        ask(&mesh, &user, "json", 10 + nth, 20).await.admitted();
        let deadline = Instant::now() + SOON;
        while cutting.passed() <= nth {
            assert!(Instant::now() < deadline, "{cut:?}: not sent again");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let expected = [30 + nth, 150 * (10 + nth) + 600 * 20];
        assert_eq!(settled(&mesh, &user).await, expected, "{cut:?}");
        assert_eq!((cutting.cuts(), cutting.passed()), (nth + 1, nth + 1), "{cut:?}: cut, and sent again once");
        told = [told[0] + expected[0], told[1] + expected[1]];
        let entries = ledger(&mesh);
        for (limit, expected) in ["tokens", "money"].into_iter().zip(expected) {
            assert_eq!(charged(&entries, &key_of(&mesh, limit, &user).unwrap()), expected, "{cut:?}");
        }
        assert_eq!(entries.len() as u64, nth + 1, "{cut:?}: entries of the ledger");
    }
    println!("{host:?}: {} cuts, {told:?} tokens and billionths of a dollar charged once", cutting.cuts());
}
