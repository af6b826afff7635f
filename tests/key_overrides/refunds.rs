//! Requests that are held, under an override, and whose client disconnects: their tokens and slots return.

use std::time::{Duration, Instant};

use redis::Commands;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use weir::{HostKind, Mesh};

use super::shared::{Operator, TRANSPORTS};

weir::on_both_hosts! {
    a_held_request_that_leaves_returns_its_token_and_its_slot_under_any_override
    a_held_request_that_leaves_returns_its_token_of_the_number_that_it_carries
}

/// A slot, and a bucket of 1 token, 1 in 40 s, that holds requests for up to 60 s.
fn held(mesh: weir::MeshBuilder, tokens: &Value) -> weir::MeshBuilder {
    let tokens = tokens.clone();
    mesh.patient().workers(1).configure(move |filter| {
        filter["limits"] = json!([{
            "name": "held", "descriptor": [{"request_header": {"name": "x-user-id"}}], "max_delay": "60s",
            "windows": [
                {"concurrency": {"max_requests": 9, "lease": "3600s"}},
                {"token_bucket": {"max_tokens": tokens, "tokens_per_fill": 1, "fill_interval": "40s"}},
            ],
        }]);
    })
}

/// Tokens that alice's bucket lacked at its last write, in thousandths. A refund does not change the time of the write.
fn spent(mesh: &Mesh) -> u64 {
    let key = format!("{}held:alice#token", mesh.key_prefix());
    let state: Vec<u8> = mesh.redis_connection().get(key).unwrap();
    let number = |at: usize| u64::from_be_bytes(state[at..at + 8].try_into().unwrap());
    number(8) * 1_000 / i64::from_be_bytes(state[16..24].try_into().unwrap()).unsigned_abs()
}

fn slots(mesh: &Mesh) -> u64 {
    mesh.redis_connection().zcard(format!("{}held:alice#concurrency", mesh.key_prefix())).unwrap()
}

/// Sends requests that carry this number until one is held, whose client disconnects. Asserts that its tokens and its
/// slot return.
async fn leaves(mesh: &Mesh, number: &str, what: &str) {
    let send = || timeout(Duration::from_millis(700), mesh.ask("/").user("alice").header("x-max", number).send());
    let mut before = 0;
    while let Ok(answer) = send().await {
        answer.admitted();
        before = spent(mesh);
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    while spent(mesh) > before || slots(mesh) > 0 {
        assert!(
            Instant::now() < deadline,
            "{what}: {before} were spent, and {} are, {} slots",
            spent(mesh),
            slots(mesh)
        );
        sleep(Duration::from_millis(20)).await;
    }
}

async fn a_held_request_that_leaves_returns_its_token_and_its_slot_under_any_override(host: HostKind) {
    let bucket = |max: u64, tokens: u64, interval: &str| {
        json!({"token_bucket": {"max_tokens": max, "tokens_per_fill": tokens, "fill_interval": interval}}).to_string()
    };
    for scenario in TRANSPORTS {
        let Some(mesh) = held(Mesh::on(host, scenario), &json!(1)).start().await else { return };
        let mut operator = Operator::of(&mesh);
        for text in [
            String::new(),
            r#"{"times": 2}"#.to_owned(),
            r#"{"max": 3}"#.to_owned(),
            bucket(1, 1, "60s"),
            bucket(1, 2, "60s"),
            bucket(5, 1, "40s"),
            r#"{"concurrency": {"max_requests": 2}}"#.to_owned(),
            r#"{"quota": {"max_requests": 100, "unit": "month"}}"#.to_owned(),
        ] {
            let buckets = mesh.redis_connection().del(format!("{}held:alice#token", mesh.key_prefix()));
            let _: u64 = buckets.unwrap();
            operator.set("held", &text);
            leaves(&mesh, "", &format!("{text} on {host:?}, {scenario}")).await;
        }
        mesh.counts("weir_overrides_ignored", 0).await;
    }
}

async fn a_held_request_that_leaves_returns_its_token_of_the_number_that_it_carries(host: HostKind) {
    let carried = json!({"request_header": {"name": "x-max", "max": 100, "default": 1}});
    for scenario in TRANSPORTS {
        let Some(mesh) = held(Mesh::on(host, scenario), &carried).start().await else { return };
        for number in ["1", "3", "2"] {
            let buckets = mesh.redis_connection().del(format!("{}held:alice#token", mesh.key_prefix()));
            let _: u64 = buckets.unwrap();
            leaves(&mesh, number, &format!("{number} on {host:?}, {scenario}")).await;
        }
    }
}
