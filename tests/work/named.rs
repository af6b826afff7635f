//! Configurations whose requests took Envoy 8 to 94 ms each before work was bounded.

use serde_json::{Value, json};
use weir_provision::{or_skip, redis::RedisServer};

use super::{BOUND, BOUND_OF_MOST_BUCKETS, LIMITS, LONG, RedisOptions, WINDOWS, cost, named, proxy};

/// Bytes of a key, of a limit with many windows.
const KEY: usize = 30_000;

#[tokio::test]
async fn eight_limits_by_one_long_header_are_cheap() {
    let by_header = json!({"descriptor": [{"request_header": {"name": "x-long"}}]});
    for text in ["a", " ,", "%", "\u{e9}"] {
        is_cheap("eight limits", named(vec![by_header.clone(); 8]), &long(text, LONG), BOUND).await;
    }
}

#[tokio::test]
async fn twenty_greedy_repetitions_are_cheap() {
    for text in ["a", "b", "ab", "ba"] {
        for limits in [1, LIMITS] {
            is_cheap("(.*a){20}", matching("(.*a){20}", limits), &long(text, LONG), BOUND).await;
        }
    }
}

#[tokio::test]
async fn eighty_five_greedy_stars_are_cheap() {
    for text in ["a", "ab"] {
        for limits in [1, LIMITS] {
            is_cheap(".* by 85", matching(&".*".repeat(85), limits), &long(text, LONG), BOUND).await;
        }
    }
}

#[tokio::test]
async fn eight_windows_of_each_of_32_limits_by_one_long_key_are_cheap() {
    let bucket = |nth: usize| json!({"max_tokens": 1_000_000, "fill_interval": format!("{}s", 60 * (nth + 1))});
    let windows: Vec<Value> = (0..WINDOWS).map(|nth| json!({"token_bucket": bucket(nth)})).collect();
    let by_header = json!([{"request_header": {"name": "x-long"}}]);
    let limit = |nth: usize| json!({"name": format!("limit_{nth}"), "descriptor": by_header, "windows": windows});
    for text in ["a", " ,"] {
        let limits = (0..LIMITS).map(limit).collect();
        is_cheap("256 windows", limits, &long(text, KEY), BOUND_OF_MOST_BUCKETS).await;
    }
}

/// Returns limits that apply where a long header matches.
fn matching(regex: &str, limits: usize) -> Vec<Value> {
    named(vec![json!({"when": [{"header": {"name": "x-long", "regex": regex}}], "descriptor": []}); limits])
}

fn long(text: &str, length: usize) -> String {
    text.repeat(length / text.len()).trim().to_owned()
}

/// Asserts that a request with this header takes at most `bound` instructions.
async fn is_cheap(name: &str, limits: Vec<Value>, header: &str, bound: u64) {
    let Some(redis) = or_skip(RedisServer::start(RedisOptions::default())) else { return };
    let proxy = proxy(redis.addr(), name, limits);
    let (status, cost) = cost(&proxy, &("/".to_owned(), vec![("x-long".to_owned(), header.to_owned())])).await;
    println!("{name}, {} bytes: {cost} instructions, {status}", header.len());
    assert!(matches!(status, 200 | 429 | 431), "{name}: {status}");
    assert!(cost <= bound, "{name}, {} bytes: {cost} instructions", header.len());
}
