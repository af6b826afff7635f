//! Target `worker`: the whole filter, while clients and Redis do as the input says.
//!
//! Input: a byte for the transport, then events: a byte for the kind, and what the kind needs.

use weir_filter::units::Micros;

use crate::choices::Choices;
use crate::proxy::{Proxy, exchange};
use crate::{MARK, SECRET};

/// Longest time to a decision: `max_delay` of 0.2 s; `redis.timeout` of 50 ms, twice for a script that is sent again; and
/// the ticks of a busy host.
const LONGEST: Micros = Micros::from_millis(600);
/// Statuses of the filter and the upstream.
const STATUSES: [u16; 5] = [200, 400, 429, 431, 503];

/// Runs the target.
///
/// # Panics
/// If a request is not decided in time or has an unknown status, if the bytes sent are no commands, or if the log repeats
/// bytes of others.
pub fn run(input: &[u8]) {
    let mut choices = Choices::of(input);
    let transport = if choices.byte() & 1 == 0 { "stream" } else { "callout" };
    let proxy = match Proxy::start(configuration(transport).as_bytes()) {
        Ok(proxy) => proxy,
        Err(lines) => panic!("the configuration is refused: {lines:?}"),
    };
    for _ in 0..200 {
        if choices.are_over() {
            break;
        }
        step(&proxy, &mut choices);
        check(&proxy);
    }
    proxy.refuse(false);
    proxy.run_for(LONGEST, false);
    check(&proxy);
    assert_eq!(proxy.worker.in_flight(), 0, "requests without a decision");
}

fn configuration(transport: &str) -> String {
    format!(
        r#"{{
        "redis": {{"cluster": "redis", "transport": "{transport}", "password": {{"inline": "{SECRET}"}},
            "max_in_flight": 20}},
        "failure_mode": "deny", "emit_metadata": true,
        "events": {{"only": "all", "max_len": 100}}, "overrides": {{"refresh_interval": "0.1s"}},
        "limits": [
            {{"name": "user", "descriptor": [{{"request_header": {{"name": "x-user"}}}}],
                "token_bucket": {{"max_tokens": 3, "tokens_per_fill": 10, "fill_interval": "1s"}},
                "lease": {{"max": 3, "ttl": "0.5s"}}}},
            {{"name": "slot", "descriptor": [{{"request_header": {{"name": "x-slot"}}}}],
                "concurrency": {{"max_requests": 2}}}},
            {{"name": "slow", "descriptor": [{{"request_header": {{"name": "x-slow"}}}}],
                "token_bucket": {{"max_tokens": 1, "tokens_per_fill": 10, "fill_interval": "1s"}}, "max_delay": "0.2s"}},
            {{"name": "month", "descriptor": [{{"request_header": {{"name": "x-month"}}}}],
                "hits_addend": {{"request_header": {{"name": "x-cost", "on_invalid": "reject", "max": 5}}}},
                "quota": {{"max_requests": 10, "unit": "month"}}}},
            {{"name": "window", "descriptor": [{{"request_header": {{"name": "x-window"}}}}],
                "windows": [{{"sliding_window": {{"max_requests": 5, "window": "1s"}}}},
                    {{"sliding_window": {{"max_requests": 7, "window": "2s", "mode": "exact"}}}},
                    {{"fixed_window": {{"max_requests": 9, "window": "60s"}}}}]}}
        ]}}"#
    )
}

fn step(proxy: &Proxy, choices: &mut Choices<'_>) {
    match choices.below(12) {
        0..=2 => begin(proxy, choices),
        3 => proxy.run_for(Micros::ZERO, true),
        4 => proxy.run_for(Micros(choices.short()), true),
        5 => proxy.run_for(Micros(choices.short()), false),
        6 => {
            proxy.say(choices.piece());
            proxy.run_for(Micros::ZERO, false);
        }
        7 => {
            proxy.cut();
            proxy.run_for(Micros::ZERO, false);
        }
        8 => proxy.refuse(choices.byte() & 1 == 1),
        9 => proxy.redis.flush_scripts(),
        10 => proxy.redis.flush(),
        _ => set_override(proxy, choices),
    }
}

/// Begins a request with some of the headers that limits read.
fn begin(proxy: &Proxy, choices: &mut Choices<'_>) {
    let named = choices.byte();
    let value = [MARK.as_bytes(), choices.piece()].concat();
    let cost = if named & 32 == 0 { &b"1"[..] } else { choices.piece() };
    let names = ["x-user", "x-slot", "x-slow", "x-month", "x-window"];
    let always: [(&str, &[u8]); 3] = [(":method", b"GET"), (":path", b"/"), ("x-cost", cost)];
    let mut headers = always.to_vec();
    let wanted = (0..).zip(names).filter(|(nth, _)| named >> nth & 1 == 1);
    headers.extend(wanted.map(|(_, name)| (name, value.as_slice())));
    proxy.worker.begin(exchange(&headers, None));
}

fn set_override(proxy: &Proxy, choices: &mut Choices<'_>) {
    let limit = [&b"user"[..], b"slot", b"slow", b"month", b"window"][choices.below(5)];
    let text = choices.piece();
    proxy.redis.set_limit_override(b"weir:overrides", limit, text);
    proxy.redis.set_key_override(&[b"weir:", limit, b":", MARK.as_bytes()].concat(), text, None);
}

fn check(proxy: &Proxy) {
    for answer in proxy.take_answers() {
        assert!(STATUSES.contains(&answer.status), "status {}", answer.status);
        let took = answer.decided.minus(answer.began);
        assert!(took <= LONGEST, "decided after {took:?} with {}", answer.status);
    }
}
