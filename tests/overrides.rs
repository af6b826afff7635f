//! Refresh of overrides from a real Redis, with the bytes that a worker sends and reads.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use redis::Commands;
use weir_filter::overrides::{Event, Ignored, MAX_ENTRIES, Overrides, Refresh, Ruling};
use weir_filter::redis::resp::Decoder;
use weir_filter::redis::{Call, Failure, Reply};
use weir_filter::units::Micros;
use weir_provision::{self as provision, redis::RedisOptions, redis::RedisServer};

const HASH: &str = "weir:overrides";
const INTERVAL: Micros = Micros::from_secs(5);

/// A worker with its own connection to Redis.
struct Worker {
    refresh: Refresh,
    now: Micros,
    stream: TcpStream,
    calls: u32,
    largest: usize,
}

impl Worker {
    fn of(server: &RedisServer) -> Self {
        let mut refresh = Refresh::new("weir:", INTERVAL, 1);
        refresh.wake(Micros::ZERO);
        let stream = TcpStream::connect(server.addr()).unwrap();
        Self { refresh, now: Micros::ZERO, stream, calls: 0, largest: 0 }
    }

    /// Advances the clock to the next refresh, runs all its calls, and returns the events.
    fn refreshes(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        self.calls = 0;
        self.now = self.refresh.next_tick(self.now).unwrap();
        while let Some(call) = self.refresh.due(self.now) {
            let reply = self.asks(&call);
            self.calls += 1;
            events.extend(self.refresh.handle(self.now, reply));
        }
        events
    }

    fn asks(&mut self, call: &Call) -> Result<Reply, Failure> {
        let mut bytes = Vec::new();
        assert!(call.encode_with_source(&mut bytes));
        self.stream.write_all(&bytes).unwrap();
        let (mut decoder, mut size) = (Decoder::new(), 0);
        loop {
            let mut chunk = [0; 65_536];
            let read = self.stream.read(&mut chunk).unwrap();
            assert!(read > 0, "Redis closed the connection");
            decoder.push(&chunk[..read]);
            size += read;
            if let Some(reply) = decoder.next_reply().expect("a reply within the session's bounds") {
                self.largest = self.largest.max(size);
                return match reply {
                    Reply::Error(error) => panic!("{}", error.escape_ascii()),
                    reply => Ok(reply),
                };
            }
        }
    }

    fn knows(&self) -> &Overrides {
        self.refresh.overrides()
    }

    fn ruling(&self, field: &str) -> Option<Ruling> {
        self.knows().of(self.now, "none", format!("weir:{field}").as_bytes()).map(|found| found.ruling)
    }
}

fn start() -> Option<(RedisServer, redis::Connection)> {
    let server = provision::or_skip(RedisServer::start(RedisOptions::default()))?;
    let connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    Some((server, connection))
}

fn redis_time(redis: &mut redis::Connection) -> u64 {
    redis::cmd("TIME").query::<(u64, u64)>(redis).unwrap().0
}

#[test]
fn an_override_is_picked_up_and_dropped_again() {
    let Some((server, mut redis)) = start() else { return };
    let mut worker = Worker::of(&server);
    assert_eq!(worker.refreshes(), []);
    assert_eq!(worker.calls, 1);

    let until = redis_time(&mut redis) + 100;
    let _: () = redis.hset(HASH, "per_user:alice", format!(r#"{{"is": "blocked", "until": {until}}}"#)).unwrap();
    let _: () = redis.hset(HASH, "per_user:bob", r#"{"is": "blocked", "until": 1}"#).unwrap();
    assert_eq!(worker.refreshes(), [Event::Changed]);
    let found = worker.knows().of(worker.now, "per_user", b"weir:per_user:alice").unwrap();
    assert_eq!(found.ruling, Ruling::Blocked);
    let left = found.until.unwrap().minus(worker.now);
    assert!(left > Micros::from_secs(90) && left <= Micros::from_secs(100), "{left:?}");
    assert_eq!(worker.ruling("per_user:bob"), None, "the override has expired");

    let _: () = redis.del(HASH).unwrap();
    assert_eq!(worker.refreshes(), [Event::Changed]);
    assert!(worker.knows().is_empty());
}

/// HSCAN returns a hash of compact encoding in one page, and another hash in pages of any size.
#[test]
fn every_override_is_known_after_one_refresh_in_any_encoding_of_the_hash() {
    let Some((server, mut redis)) = start() else { return };
    let in_one_piece = |redis: &mut redis::Connection| -> bool {
        redis::cmd("OBJECT").arg("ENCODING").arg(HASH).query::<String>(redis).unwrap() != "hashtable"
    };
    let _: () = redis::cmd("CONFIG").arg("SET").arg("hash-max-ziplist-entries").arg(5_000).query(&mut redis).unwrap();
    let _: () = redis::cmd("CONFIG").arg("SET").arg("hash-max-ziplist-value").arg(250).query(&mut redis).unwrap();
    for (count, name, compact) in [(512, 20, true), (3_000, 180, true), (4_000, 250, false), (9_000, 40, false)] {
        if !compact {
            let set = ["SET", "hash-max-ziplist-value", "8"];
            let _: () = redis::cmd("CONFIG").arg(&set).query(&mut redis).unwrap();
        }
        let _: () = redis.del(HASH).unwrap();
        let words = ["blocked", "unlimited", r#"{"is": "shadow"}"#, "off"];
        let set: HashMap<String, &str> = (0..count).map(|n| (format!("{n:0>name$}"), words[n % words.len()])).collect();
        let _: () = redis.hset_multiple(HASH, &set.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(in_one_piece(&mut redis), compact);

        let mut worker = Worker::of(&server);
        assert_eq!(worker.refreshes(), [Event::Changed]);
        assert_eq!(worker.knows().len(), count);
        for (field, word) in &set {
            let found = worker.ruling(field).unwrap();
            assert!(word.contains(found.name()), "{field}: expected {word}, found {found}");
        }
        assert!(worker.largest < 20_000, "{} bytes in a reply", worker.largest);
        assert!(worker.calls > 1);
        assert_eq!(worker.refreshes(), []);
    }
}

#[test]
fn no_override_is_missed_while_others_are_deleted_between_pages() {
    let Some((server, mut redis)) = start() else { return };
    let _: () = redis::cmd("CONFIG").arg("SET").arg("hash-max-ziplist-entries").arg(5_000).query(&mut redis).unwrap();
    for n in 0..2_000 {
        let _: () = redis.hset(HASH, format!("goes{n}"), "off").unwrap();
        let _: () = redis.hset(HASH, format!("stays{n}"), "blocked").unwrap();
    }
    let mut worker = Worker::of(&server);
    let mut gone = 0;
    while let Some(call) = worker.refresh.due(worker.now) {
        let reply = worker.asks(&call);
        worker.refresh.handle(worker.now, reply);
        // These fields are the first in the hash: later fields move up.
        for n in gone..gone + 300 {
            let _: () = redis.hdel(HASH, format!("goes{n}")).unwrap();
        }
        gone += 300;
    }
    assert!(gone > 2_000, "the refresh takes several pages");
    assert!((0..2_000).all(|n| worker.ruling(&format!("stays{n}")) == Some(Ruling::Blocked)));
}

#[test]
fn a_hash_of_arbitrary_content_costs_bounded_replies_and_memory() {
    let Some((server, mut redis)) = start() else { return };
    let (long, huge) = ("k".repeat(100_000), "v".repeat(1_000_000));
    let _: () = redis.hset(HASH, &long, "off").unwrap();
    let _: () = redis.hset(HASH, "per_user:huge", &huge).unwrap();
    let _: () = redis.hset(HASH, "", "off").unwrap();
    let _: () = redis.hset(HASH, b"per_user:\xff\x00", b"\xff\r\n$").unwrap();
    let _: () = redis.hset(HASH, "per_user:alice", "blocked").unwrap();
    let mut worker = Worker::of(&server);
    let events = worker.refreshes();
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Ignored(_))).count(), 4, "{events:?}");
    assert_eq!(worker.ruling("per_user:alice"), Some(Ruling::Blocked));
    assert_eq!(worker.refreshes(), [], "each ignored override is reported once");

    let many: Vec<(String, &str)> = (0..30_000).map(|n| (format!("limit{n}"), "off")).collect();
    let _: () = redis.hset_multiple(HASH, &many).unwrap();
    let events = worker.refreshes();
    assert!(events.contains(&Event::Ignored(Ignored::TooMany { found: 30_005 })), "{events:?}");
    assert_eq!(worker.knows().len(), MAX_ENTRIES);
    assert!(worker.largest < 20_000, "{} bytes in a reply", worker.largest);
    assert_eq!(worker.refreshes(), [], "the same overrides are kept");
}

#[test]
fn a_key_of_another_type_is_answered_with_wrongtype() {
    let Some((server, mut redis)) = start() else { return };
    let _: () = redis.set(HASH, "not a hash").unwrap();
    let mut worker = Worker::of(&server);
    let call = worker.refresh.due(worker.now).unwrap();
    let mut bytes = Vec::new();
    assert!(call.encode_with_source(&mut bytes));
    worker.stream.write_all(&bytes).unwrap();
    let mut reply = [0; 512];
    let read = worker.stream.read(&mut reply).unwrap();
    let text = String::from_utf8_lossy(&reply[..read]);
    assert!(text.starts_with('-') && text.contains("WRONGTYPE"), "{text}");
}
