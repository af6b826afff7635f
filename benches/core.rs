//! Native cost of the filter's core: a decision, a reply, a loaded connection, a configuration.
//! Run it with `cargo bench --bench core`.

use std::hint::black_box;
use std::num::NonZeroU64;

use criterion::{Criterion, criterion_group, criterion_main};
use weir_filter::config;
use weir_filter::limit::{Algorithms, BucketState, Check, Scripts, SlotOwner, TokenBucket};
use weir_filter::redis::resp::Decoder;
use weir_filter::redis::{Call, Session, SessionConfig, Ticket, Topology};
use weir_filter::units::{Micros, Tokens};
use weir_filter::usage::{Framing, Paths, Reader};

const CONFIGURATION: &[u8] = br#"{"redis": {"cluster": "redis"}, "limits": [{"name": "per_user",
    "descriptor": [{"request_header": {"name": "x-user-id"}}],
    "token_bucket": {"max_tokens": 20, "tokens_per_fill": 100, "fill_interval": "60s"}}]}"#;

fn decision(c: &mut Criterion) {
    let tokens = |n| NonZeroU64::new(n).expect("a bucket has tokens");
    let bucket = TokenBucket::new(tokens(20), tokens(100), Micros::from_secs(60)).expect("a bucket");
    let windows = Algorithms::from(bucket);
    let scripts = Scripts::default();
    for limits in [1, 3, 8] {
        let check = |limit| windows.checks(limit, b"weir:per_user:alice", Tokens(1), true);
        let check = Check::new((0..limits).flat_map(check).collect(), SlotOwner::new(1, 1));
        let seen = vec![BucketState { used: 1_000_000, ..BucketState::default() }; limits];
        let now = Micros::from_secs(1_800_000_000);
        c.bench_function(&format!("decide over {limits} limits"), |b| b.iter(|| check.decide(now, black_box(&seen))));
        c.bench_function(&format!("encode the call of {limits} limits"), |b| {
            b.iter(|| check.call(black_box(&scripts)))
        });
    }
}

fn replies(c: &mut Criterion) {
    // Each reply is two integers, packed as the scripts pack them.
    let numbers = [1_800_000_000_000_000_i64, 600_000].map(i64::to_be_bytes);
    let replies = [b"$16\r\n", numbers.concat().as_slice(), b"\r\n"].concat().repeat(16);
    c.bench_function("decode 16 replies", |b| {
        let mut decoder = Decoder::new();
        b.iter(|| {
            decoder.push(black_box(&replies));
            std::iter::from_fn(|| decoder.next_reply().ok().flatten()).count()
        });
    });
}

/// A thousand calls and their replies on a connection that has passed its handshake.
fn session(c: &mut Criterion) {
    let config = SessionConfig {
        credentials: None,
        database: 0,
        topology: Topology::Single,
        timeout: Micros::from_secs(60),
        max_in_flight: 2_000,
    };
    let mut session = Session::new(config, 1);
    let (now, mut sent) = (Micros::from_secs(1), Vec::new());
    let call = || Call::command(&["PING"]);
    session.submit(now, Ticket(0), call()).expect("it has room");
    session.handle_tick(now);
    while session.poll().is_some() {}
    session.take_outgoing(now, &mut sent);
    session.handle_bytes(now, b"+PONG\r\n");
    session.take_outgoing(now, &mut sent);
    session.handle_bytes(now, b"+PONG\r\n");
    while session.poll().is_some() {}
    let replies = b"+PONG\r\n".repeat(1_000);
    c.bench_function("a thousand calls in flight on one connection", |b| {
        b.iter(|| {
            for ticket in 1..=1_000 {
                session.submit(now, Ticket(ticket), call()).expect("it has room");
            }
            session.take_outgoing(now, &mut sent);
            session.handle_bytes(now, black_box(&replies));
            let settled = std::iter::from_fn(|| session.poll()).count();
            assert_eq!(settled, 1_000);
        });
    });
}

fn configuration(c: &mut Criterion) {
    c.bench_function("read the quickstart's configuration", |b| {
        b.iter(|| config::parse(black_box(CONFIGURATION), &|_| None));
    });
}

/// A stream of 64 KB that tells no usage before its end, as most do, in chunks of these sizes; and one document.
fn usage(c: &mut Criterion) {
    let event = "data: {\"id\":\"chatcmpl-CkT7R0pN9fQyZ3bA5u1hXwYd2eG\",\"object\":\"chat.completion.chunk\",\
        \"created\":1796107711,\"model\":\"gpt-4o-mini-2024-07-18\",\"choices\":[{\"index\":0,\"delta\":\
        {\"content\":\" tokens\"},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n";
    let stream = event.repeat(65_536 / event.len() + 1);
    let document = format!(r#"{{"choices":[{{"message":{{"content":"{}"}}}}]}}"#, "many words ".repeat(6_000));
    let paths = Paths::default();
    for (name, framing, body, size) in [
        ("64 KB of events in chunks of 50 bytes", Framing::ServerSentEvents, &stream, 50),
        ("64 KB of events in chunks of 16 KB", Framing::ServerSentEvents, &stream, 16_384),
        ("a document of 64 KB in chunks of 16 KB", Framing::Json, &document, 16_384),
    ] {
        c.bench_function(&format!("read usage: {name}"), |b| {
            b.iter(|| {
                let mut reader = Reader::new(framing);
                black_box(body).as_bytes().chunks(size).for_each(|chunk| reader.push(&paths, chunk));
                reader.readings().usage()
            });
        });
    }
}

criterion_group!(core, decision, replies, session, configuration, usage);
criterion_main!(core);
