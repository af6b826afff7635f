//! What the filter's core costs natively: a decision, a reply, a configuration. `cargo bench --bench core`.

use std::hint::black_box;
use std::num::NonZeroU64;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use weir_filter::config;
use weir_filter::limit::{Asked, Check, SCRIPT, TokenBucket};
use weir_filter::redis::Script;
use weir_filter::redis::resp::Decoder;
use weir_filter::units::{Micros, Tokens};

const CONFIGURATION: &[u8] = br#"{"redis": {"cluster": "redis"}, "limits": [{"name": "per_user",
    "descriptor": [{"request_header": {"name": "x-user-id"}}],
    "token_bucket": {"max_tokens": 20, "tokens_per_fill": 100, "fill_interval": "60s"}}]}"#;

fn decision(c: &mut Criterion) {
    let tokens = |n| NonZeroU64::new(n).expect("a bucket has tokens");
    let bucket = TokenBucket::new(tokens(20), tokens(100), Micros::from_secs(60)).expect("a bucket");
    let asked = |limit| Asked { limit, key: b"weir:per_user:alice".to_vec(), bucket, cost: Tokens(1), enforced: true };
    let script = Arc::new(Script::new(SCRIPT));
    for limits in [1, 3, 8] {
        let check = Check::new((0..limits).map(asked).collect());
        let lacks = vec![Micros::from_secs(1); limits];
        c.bench_function(&format!("decide over {limits} limits"), |b| b.iter(|| check.decide(black_box(&lacks))));
        c.bench_function(&format!("encode the call of {limits} limits"), |b| b.iter(|| check.call(black_box(&script))));
    }
}

fn replies(c: &mut Criterion) {
    let replies = b"*2\r\n:1\r\n:600000\r\n".repeat(16);
    c.bench_function("decode 16 replies", |b| {
        let mut decoder = Decoder::new();
        b.iter(|| {
            decoder.push(black_box(&replies));
            std::iter::from_fn(|| decoder.next_reply().ok().flatten()).count()
        });
    });
}

fn configuration(c: &mut Criterion) {
    c.bench_function("read the quickstart's configuration", |b| {
        b.iter(|| config::parse(black_box(CONFIGURATION), &|_| None));
    });
}

criterion_group!(core, decision, replies, configuration);
criterion_main!(core);
