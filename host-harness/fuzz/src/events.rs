//! Target `events`: decisions as the filter appends them to a Redis stream.
//!
//! Input: requests, each a piece for the value of the descriptor, and a byte for the time that passes.

use std::sync::LazyLock;

use weir_filter::descriptor::bucket_key;
use weir_filter::limiter::EVENTS_SCRIPT;
use weir_filter::redis::Script;
use weir_filter::units::Micros;

use crate::choices::Choices;
use crate::proxy::{Proxy, exchange};

const CONFIGURATION: &[u8] = br#"{
    "redis": {"cluster": "redis"}, "events": {"only": "all", "max_len": 123, "stream": "decisions"},
    "limits": [
        {"name": "user", "descriptor": [{"request_header": {"name": "x-user"}}],
            "token_bucket": {"max_tokens": 2, "fill_interval": "1s"}},
        {"name": "all", "descriptor": [], "shadow_mode": true,
            "quota": {"max_requests": 3, "unit": "hour"}}
    ]}"#;
/// Events of one call, at most.
const MAX_BATCH: usize = 64;

static SHA1: LazyLock<String> = LazyLock::new(|| Script::new(EVENTS_SCRIPT).sha1_hex().to_owned());

/// Runs the target.
///
/// # Panics
/// If an event has not the words, the key and the numbers of a decision on one of the requests.
pub fn run(input: &[u8]) {
    let mut choices = Choices::of(input);
    let proxy = match Proxy::start(CONFIGURATION) {
        Ok(proxy) => proxy,
        Err(lines) => panic!("the configuration is refused: {lines:?}"),
    };
    let mut keys = vec![b"weir:all:".to_vec()];
    while !choices.are_over() && keys.len() < 100 {
        let user = choices.piece();
        keys.push(bucket_key("weir:", "user", &[user]));
        proxy.worker.begin(exchange(&[(":method", b"GET"), (":path", b"/"), ("x-user", user)], None));
        proxy.run_for(Micros::from_millis(choices.byte().into()), true);
    }
    proxy.run_for(Micros::from_secs(2), true);
    assert_eq!(proxy.take_answers().len(), keys.len() - 1, "every request is answered");
    let mut events = 0;
    for command in proxy.sent() {
        events += self::events(&command, &keys);
    }
    let requests = keys.len() - 1;
    assert!((requests..=requests * 2).contains(&events), "{events} events of {requests} requests");
}

/// Checks the events of a command, and counts them.
fn events(command: &[Vec<u8>], keys: &[Vec<u8>]) -> usize {
    let [name, script, count, stream, max_len, events @ ..] = command else { return 0 };
    let is_batch = match name.as_slice() {
        b"EVAL" => script == EVENTS_SCRIPT.as_bytes(),
        _ => name == b"EVALSHA" && script == SHA1.as_bytes(),
    };
    if !is_batch {
        return 0;
    }
    assert_eq!([count.as_slice(), stream, max_len], [&b"1"[..], b"decisions", b"123"]);
    let (events, []) = events.as_chunks::<5>() else { panic!("{} arguments", events.len()) };
    assert!((1..=MAX_BATCH).contains(&events.len()), "{} events", events.len());
    for [limit, key, decision, remaining, retry_after] in events {
        assert!([&b"user"[..], b"all"].contains(&limit.as_slice()), "{}", limit.escape_ascii());
        assert!(key.starts_with(&[b"weir:", limit.as_slice(), b":"].concat()), "{}", key.escape_ascii());
        // A tag follows, except for token buckets.
        let tag = keys.iter().filter_map(|known| key.strip_prefix(known.as_slice()));
        assert!(tag.into_iter().any(|tag| matches!(tag, [] | [b'#', ..])), "{}", key.escape_ascii());
        assert!([&b"admitted"[..], b"denied"].contains(&decision.as_slice()), "{}", decision.escape_ascii());
        assert!(is_number(remaining) && (is_number(retry_after) || retry_after == b"never"));
    }
    // Every batch is sent by the script's name first, and with its source where Redis has not run it.
    if name == b"EVAL" { 0 } else { events.len() }
}

fn is_number(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}
