//! Ticks at which nothing is due: native builds handle them in short, with the same results as whole ticks.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::rc::Rc;

use weir_filter::units::{Micros, Random};
use weir_virtual::{Answer, Exchange, Mesh, RequestId, Start, Upstream};

/// 2026-01-01T00:00Z.
const NEW_YEAR: Micros = Micros::from_secs(1_767_225_600);
/// Limits with leases, held requests, and slots that are renewed.
const LIMITS: &str = r#"
    {"name": "leased", "descriptor": [{"request_header": {"name": "x-key"}}], "lease": {"max": 8, "ttl": "1s"},
     "token_bucket": {"max_tokens": 60, "tokens_per_fill": 40, "fill_interval": "1s"}},
    {"name": "held", "descriptor": [], "max_delay": "0.7s",
     "token_bucket": {"max_tokens": 5, "tokens_per_fill": 30, "fill_interval": "1s"}},
    {"name": "slots", "descriptor": [], "concurrency": {"max_requests": 9, "lease": "1s"}}"#;
/// A context that does not exist: the end of it changes nothing, but the next tick is a whole one.
const NO_CONTEXT: u32 = u32::MAX;

/// Runs a minute of random requests with two outages. Returns the answers, the number of Redis' commands, and metrics
/// before each of the requests.
fn minute(transport: &str, are_whole: bool) -> (Vec<(RequestId, Answer)>, u64, Vec<Option<i64>>) {
    let redis = format!(r#"{{"cluster": "redis", "transport": "{transport}"}}"#);
    let overrides = r#"{"refresh_interval": "1s"}"#;
    let configuration = format!(r#"{{"redis": {redis}, "overrides": {overrides}, "limits": [{LIMITS}]}}"#);
    let start = Start {
        configuration: configuration.as_bytes(),
        environment: &[],
        seed: 7,
        sees_body_past_headers: true,
        round_trip: Micros(700),
    };
    let mesh = Mesh::start(NEW_YEAR, 2, &start).unwrap();
    let mut random = Random::new(11);
    let (mut answers, mut metrics) = (Vec::new(), Vec::new());
    let names = ["requests.admitted", "requests.denied", "redis.unavailable", "redis.timeout"];
    for request in 0..900 {
        // Bursts and pauses.
        let pause = if random.below(9) == 0 { random.below(1_600_000) } else { random.below(4_000) };
        let until = mesh.now().plus(Micros(pause));
        loop {
            if are_whole {
                mesh.workers().iter().for_each(|worker| worker.leave(NO_CONTEXT));
            }
            if !mesh.step(until) {
                break;
            }
        }
        mesh.run_until(until);
        match request {
            300 | 600 => mesh.stop_redis(),
            380 | 640 => mesh.start_redis(),
            _ => {}
        }
        mesh.begin(request % 2, exchange(random.below(3), Micros(random.below(1_500_000)))).unwrap();
        answers.extend(mesh.take_answers());
        let all = mesh.workers().iter();
        metrics.extend(all.flat_map(|worker| names.map(|name| worker.metric(&format!("weir.{name}")))));
    }
    (answers, mesh.redis().commands(), metrics)
}

fn exchange(key: u64, takes: Micros) -> Exchange {
    let key = key.to_string();
    let headers = [(":method", "GET"), (":path", "/"), (":authority", "test"), ("x-key", &key)];
    Exchange {
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect(),
        body: None,
        properties: Rc::new(|_: &[&str]| None),
        upstream: Upstream { status: 200, headers: Vec::new(), body: Vec::new(), takes, ..Upstream::default() },
    }
}

#[test]
fn ticks_in_short_have_the_results_of_whole_ticks() {
    for transport in ["stream", "callout"] {
        let [short, whole] = [false, true].map(|are_whole| minute(transport, are_whole));
        assert!(short.0.len() > 800 && short.1 > 400, "{} answers, {} commands", short.0.len(), short.1);
        assert!(short.0.iter().any(|(_, answer)| answer.status == 429));
        assert_eq!(short, whole, "{transport}");
    }
}
