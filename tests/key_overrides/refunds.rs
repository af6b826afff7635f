//! Requests that are held, under an override, and whose client disconnects: their tokens and slots return.

use std::pin::pin;
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

/// Sends requests that carry this number: as many as are in the bucket, and one that is held, whose client disconnects.
/// Asserts that its tokens and its slot return.
async fn leaves(mesh: &Mesh, number: &str, in_bucket: usize, what: &str) {
    let send = || mesh.ask("/").user("alice").header("x-max", number).send();
    for _ in 0..in_bucket {
        send().await.admitted();
    }
    let before = spent(mesh);
    {
        let mut held = pin!(send());
        while spent(mesh) <= before {
            let answer = timeout(Duration::from_millis(20), held.as_mut()).await;
            assert!(answer.is_err(), "{what}: the request is not held: {answer:?}");
        }
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
        for (text, in_bucket) in [
            (String::new(), 1),
            (r#"{"times": 2}"#.to_owned(), 2),
            (r#"{"max": 3}"#.to_owned(), 3),
            (bucket(1, 1, "60s"), 1),
            (bucket(1, 2, "60s"), 1),
            (bucket(5, 1, "40s"), 5),
            (r#"{"concurrency": {"max_requests": 2}}"#.to_owned(), 1),
            (r#"{"quota": {"max_requests": 100, "unit": "month"}}"#.to_owned(), 1),
        ] {
            mesh.reset("held:alice#token");
            operator.set("held", &text);
            leaves(&mesh, "", in_bucket, &format!("{text} on {host:?}, {scenario}")).await;
        }
        mesh.counts("weir_overrides_ignored", 0).await;
    }
}

async fn a_held_request_that_leaves_returns_its_token_of_the_number_that_it_carries(host: HostKind) {
    let carried = json!({"request_header": {"name": "x-max", "max": 100, "default": 1}});
    for scenario in TRANSPORTS {
        let Some(mesh) = held(Mesh::on(host, scenario), &carried).start().await else { return };
        for number in [1, 3, 2] {
            mesh.reset("held:alice#token");
            let carried = number.to_string();
            leaves(&mesh, &carried, number, &format!("{number} on {host:?}, {scenario}")).await;
        }
    }
}
