//! Tests of the limiter, with requests from the proxy and replies of Redis.

mod callouts;
mod charges;
mod crowd;
mod delays;
mod filter_state;
mod heal;
mod idle;
mod leases;
mod local;
mod near_and_over;
mod parts;
mod rejected;
mod slots;
mod undecided;
mod zero;

use super::ticks::REPORT_WITHIN;
use super::*;
use crate::config;
use crate::descriptor::Request;
use crate::response::{Header, LocalReply};

const PONG: &[u8] = b"+PONG\r\n";
/// Reply of one limit that admits: the bucket was full before the request.
const ADMITTED: &[u8] = b"*2\r\n:5\r\n:0\r\n";
/// Reply of one limit that denies: the bucket is empty, and needs 12 s to fill.
const DENIED: &[u8] = b"*2\r\n:-5\r\n:12000000\r\n";
const ALICE: RequestId = RequestId(1);
const BOB: RequestId = RequestId(2);

/// Limiter with one limit per user, of 20 tokens and 100 a minute.
struct Fixture {
    limiter: Limiter,
    now: Micros,
    /// Bytes sent to Redis since the last [`sent`](Self::sent).
    sent: Vec<u8>,
}

impl Fixture {
    /// Creates a limiter with further fields of the limit and of the configuration.
    fn new(of_limit: &str, of_filter: &str) -> Self {
        let bucket = r#""token_bucket": {"max_tokens": 20, "tokens_per_fill": 100, "fill_interval": "60s"}"#;
        Self::of(&[of_limit, bucket].concat(), of_filter)
    }

    /// Creates a limiter whose limit has these fields.
    fn of(limit: &str, of_filter: &str) -> Self {
        let json = format!(
            r#"{{"redis": {{"cluster": "redis"}}, "overrides": {{"enabled": false}}, {of_filter} "limits": [{{
                "name": "per_user", "descriptor": [{{"request_header": {{"name": "x-user-id"}}}}], {limit}}}]}}"#
        );
        let config = config::parse(json.as_bytes(), &|_| None).unwrap();
        Self { limiter: Limiter::new(config, 1), now: Micros::from_secs(1), sent: Vec::new() }
    }

    /// Creates a limiter with an established connection.
    fn connected(of_limit: &str, of_filter: &str) -> Self {
        let mut fixture = Self::new(of_limit, of_filter);
        fixture.connect();
        fixture
    }

    fn connect(&mut self) {
        assert_eq!(self.request(RequestId(0), "warm-up"), Step::Wait);
        assert_eq!(self.tick(), [Effect::OpenStream]);
        self.redis_replies(PONG);
        let effects = self.redis_replies(b"-ERR warming up\r\n");
        assert!(effects.iter().any(|effect| matches!(effect, Effect::Decide(RequestId(0), _))), "{effects:?}");
        self.limiter.done(self.now, RequestId(0));
        if self.sent().contains("ZREM") {
            self.redis_replies(b":0\r\n");
        }
        self.counted();
        // The failure of the warm-up is over.
        self.limiter.warnings = Warnings::new("redis");
    }

    /// Takes the bytes sent to Redis, as text.
    fn sent(&mut self) -> String {
        self.send();
        String::from_utf8_lossy(&core::mem::take(&mut self.sent)).into_owned()
    }

    fn request(&mut self, request: RequestId, user: &str) -> Step {
        let step = self.limiter.request(self.now, request, &Request::default().header("x-user-id", user));
        self.send();
        step
    }

    fn send(&mut self) {
        let mut sent = Vec::new();
        self.limiter.redis().take_outgoing(self.now, &mut sent);
        self.sent.extend(sent);
    }

    fn redis_replies(&mut self, bytes: &[u8]) -> Vec<Effect> {
        self.send();
        self.limiter.redis().handle_bytes(self.now, bytes);
        self.effects()
    }

    fn tick(&mut self) -> Vec<Effect> {
        self.limiter.tick(self.now);
        self.effects()
    }

    fn effects(&mut self) -> Vec<Effect> {
        self.send();
        self.sent.clear();
        core::iter::from_fn(|| self.limiter.poll(self.now)).collect()
    }

    /// Takes the increments of counters, as sorted lines of name and increment.
    fn counted(&mut self) -> Vec<String> {
        let names = Counters::names(self.limiter.config());
        let mut counted: Vec<String> =
            self.limiter.counters().take().map(|(i, gained)| format!("{} {gained}", names[i])).collect();
        counted.sort();
        counted
    }
}

fn header<'a>(headers: &'a [Header], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
}

fn retry_after(reply: &LocalReply) -> Option<&str> {
    reply.headers().find(|(name, _)| *name == "retry-after").map(|(_, value)| value)
}

#[test]
fn a_request_waits_for_redis_and_passes_with_the_remaining_tokens() {
    let mut fixture = Fixture::connected("", "");
    assert_eq!(fixture.request(ALICE, "alice"), Step::Wait);
    let effects = fixture.redis_replies(ADMITTED);
    let [Effect::Decide(ALICE, Decision::Admit(headers))] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(header(headers, "x-ratelimit-remaining"), Some("19"));
    assert_eq!(fixture.counted(), ["weir.limit.per_user.admitted 1", "weir.requests.admitted 1"]);
}

#[test]
fn a_denied_request_gets_a_local_reply_with_retry_after() {
    let mut fixture = Fixture::connected("", "");
    fixture.request(ALICE, "alice");
    let effects = fixture.redis_replies(DENIED);
    let [Effect::Decide(ALICE, Decision::Answer(reply))] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(reply.status.code(), 429);
    assert_eq!(retry_after(reply), Some("1"));
    assert_eq!(fixture.counted(), ["weir.limit.per_user.denied 1", "weir.requests.denied 1"]);
}

#[test]
fn a_limit_in_shadow_mode_counts_a_denial_and_admits_the_request() {
    let mut fixture = Fixture::connected(r#""shadow_mode": true,"#, "");
    fixture.request(ALICE, "alice");
    let effects = fixture.redis_replies(b"*2\r\n:1\r\n:12000000\r\n");
    assert_eq!(effects, [Effect::Decide(ALICE, Decision::Admit(Vec::new()))]);
    assert_eq!(fixture.counted(), ["weir.limit.per_user.shadow_denied 1", "weir.requests.admitted 1"]);
}

#[test]
fn a_request_without_the_descriptors_header_is_not_limited() {
    let mut fixture = Fixture::connected("", "");
    assert_eq!(fixture.limiter.request(fixture.now, ALICE, &Request::default()), Step::Pass);
    assert!(fixture.counted().is_empty());
}

#[test]
fn replies_belong_to_requests_in_the_order_of_their_calls() {
    let mut fixture = Fixture::connected("", "");
    fixture.request(ALICE, "alice");
    fixture.request(BOB, "bob");
    let effects = fixture.redis_replies(&[ADMITTED, DENIED].concat());
    assert!(matches!(effects[0], Effect::Decide(ALICE, Decision::Admit(_))), "{effects:?}");
    assert!(matches!(effects[1], Effect::Decide(BOB, Decision::Answer(_))), "{effects:?}");
}

#[test]
fn the_reply_to_a_request_that_has_ended_is_dropped() {
    let mut fixture = Fixture::connected("", "");
    fixture.request(ALICE, "alice");
    fixture.request(BOB, "bob");
    fixture.limiter.done(fixture.now, ALICE);
    assert!(fixture.limiter.slots.outcome(ALICE).is_none(), "it has no slot to release");
    let effects = fixture.redis_replies(&[DENIED, ADMITTED].concat());
    assert!(matches!(effects[..], [Effect::Decide(BOB, Decision::Admit(_))]), "{effects:?}");
}

#[test]
fn a_request_that_ends_before_its_check_is_sent_spends_nothing() {
    let mut fixture = Fixture::new("", "");
    assert_eq!(fixture.request(ALICE, "alice"), Step::Wait);
    assert_eq!(fixture.request(BOB, "bob"), Step::Wait);
    assert_eq!(fixture.tick(), [Effect::OpenStream]);
    fixture.limiter.done(fixture.now, ALICE);
    fixture.limiter.redis().handle_bytes(fixture.now, PONG);
    let sent = fixture.sent();
    assert!(sent.contains("bob") && !sent.contains("alice"), "{sent}");
}

#[test]
fn without_redis_the_failure_mode_answers_and_one_warning_is_logged() {
    for (mode, status) in [("allow", None), ("deny", Some(503))] {
        let mut fixture = Fixture::connected("", &format!(r#""failure_mode": "{mode}","#));
        for id in 1..=100 {
            fixture.request(RequestId(id), &format!("user {id}"));
        }
        fixture.limiter.redis().handle_closed(fixture.now);
        let effects = fixture.effects();
        let (last, decisions) = effects.split_last().unwrap();
        assert_eq!(decisions.len(), 100);
        let requests = match mode {
            "allow" => "requests failed open: 100, failed closed: 0",
            _ => "requests failed open: 0, failed closed: 100",
        };
        let detail = "the connection was lost with 100 calls in flight";
        assert_eq!(*last, Effect::Warn(format!("redis reset: {detail} (cluster \"redis\"; {requests})")));
        let answered = |decision: &Decision| match decision {
            Decision::Answer(reply) => Some(reply.status.code()),
            Decision::Admit(_) | Decision::EndResponse => None,
        };
        for effect in &effects {
            if let Effect::Decide(_, decision) = effect {
                assert_eq!(answered(decision), status);
            }
        }
        assert_eq!(
            fixture.counted(),
            [
                "weir.limit.per_user.failed 100".to_owned(),
                "weir.redis.reset 100".to_owned(),
                "weir.requests.failed 100".to_owned(),
                format!("weir.requests.failed_{} 100", if mode == "allow" { "open" } else { "closed" }),
            ]
        );
        // Further requests are decided immediately, until Redis is available again.
        let Step::Decided(decision) = fixture.request(BOB, "bob") else { panic!("the request waits") };
        assert_eq!(answered(&decision), status);
    }
}

#[test]
fn a_limits_own_failure_mode_overrides_the_filters() {
    let mut fixture = Fixture::connected(r#""failure_mode": "deny","#, r#""failure_mode": "allow","#);
    fixture.request(ALICE, "alice");
    fixture.limiter.redis().handle_closed(fixture.now);
    assert!(fixture.effects().iter().any(|effect| matches!(effect, Effect::Decide(ALICE, Decision::Answer(_)))));
}

#[test]
fn a_reply_of_another_shape_is_a_failure_and_not_a_verdict() {
    for nonsense in
        [&b":1\r\n"[..], b"*1\r\n:1\r\n", b"*2\r\n:2\r\n+0\r\n", b"*2\r\n:1\r\n:-1\r\n", b"*2\r\n:-1\r\n:0\r\n"]
    {
        let mut fixture = Fixture::connected("", "");
        fixture.request(ALICE, "alice");
        let effects = fixture.redis_replies(nonsense);
        assert!(effects.contains(&Effect::Decide(ALICE, Decision::Admit(Vec::new()))), "{effects:?}");
        assert!(fixture.counted().contains(&"weir.redis.protocol 1".to_owned()));
    }
}

#[test]
fn a_silent_redis_costs_a_request_its_timeout_and_no_more() {
    let mut fixture = Fixture::connected("", "");
    fixture.request(ALICE, "alice");
    fixture.now = fixture.now.plus(Micros::from_millis(50));
    assert_eq!(fixture.tick(), [], "bytes that have arrived are read first");
    let warning = "redis timeout: no reply within redis.timeout \
                   (cluster \"redis\"; requests failed open: 1, failed closed: 0)";
    let admitted = Effect::Decide(ALICE, Decision::Admit(Vec::new()));
    assert_eq!(fixture.tick(), [admitted, Effect::Warn(warning.to_owned())]);
    assert!(fixture.counted().contains(&"weir.redis.timeout 1".to_owned()));
    assert_eq!(fixture.redis_replies(DENIED), [], "too late");
}

#[test]
fn the_windows_of_a_limit_are_counted_once() {
    let mut fixture = Fixture::of(
        r#""windows": [{"fixed_window": {"max_requests": 5, "window": "1s"}}, {"quota": {"max_requests": 9, "unit": "day"}}]"#,
        "",
    );
    fixture.connect();
    fixture.request(ALICE, "alice");
    fixture.redis_replies(b"*7\r\n:5\r\n:0\r\n:0\r\n:0\r\n:0\r\n:0\r\n:0\r\n");
    assert_eq!(fixture.counted(), ["weir.limit.per_user.admitted 1", "weir.requests.admitted 1"]);
    fixture.request(BOB, "alice");
    fixture.redis_replies(b"*7\r\n:-5\r\n:5\r\n:0\r\n:0\r\n:5\r\n:0\r\n:0\r\n");
    assert_eq!(fixture.counted(), ["weir.limit.per_user.denied 1", "weir.requests.denied 1"]);
    fixture.request(ALICE, "carol");
    fixture.limiter.redis().handle_closed(fixture.now);
    fixture.effects();
    assert!(fixture.counted().contains(&"weir.limit.per_user.failed 1".to_owned()));
}

#[test]
fn a_repeat_of_a_denied_request_is_denied_without_redis_until_a_token_exists() {
    let mut fixture = Fixture::connected("", "");
    fixture.request(ALICE, "alice");
    fixture.redis_replies(DENIED);
    fixture.counted();
    let Step::Decided(Decision::Answer(reply)) = fixture.request(BOB, "alice") else { panic!("the request waits") };
    assert_eq!((reply.status.code(), retry_after(&reply)), (429, Some("1")));
    assert_eq!(fixture.sent(), "");
    let counted = ["weir.deny_cache.hits 1", "weir.limit.per_user.denied 1", "weir.requests.denied 1"];
    assert_eq!(fixture.counted(), counted);
    fixture.request(BOB, "alice");
    assert_eq!(fixture.counted(), counted, "a reply that is kept");
    assert_eq!(fixture.request(BOB, "bob"), Step::Wait, "another key");
    fixture.now = fixture.now.plus(Micros::from_millis(600));
    assert_eq!(fixture.request(ALICE, "alice"), Step::Wait);
}

#[test]
fn without_a_deny_cache_redis_decides_every_request() {
    let mut fixture = Fixture::connected("", r#""deny_cache": {"max_entries": 0},"#);
    fixture.request(ALICE, "alice");
    fixture.redis_replies(DENIED);
    assert_eq!(fixture.request(BOB, "alice"), Step::Wait);
}

#[test]
fn the_time_of_a_decision_is_in_the_filter_state_by_its_name_and_its_old_name() {
    let mut fixture = Fixture::connected("", r#""emit_metadata": true,"#);
    fixture.request(ALICE, "alice");
    let effects = fixture.redis_replies(ADMITTED);
    let Some(Effect::Annotate(ALICE, entries)) = effects.first() else { panic!("{effects:?}") };
    let of = |name| entries.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
    assert_eq!([of("weir.redis_unix_time_us"), of("weir.redis_time_us")], [Some("5"); 2]);
}

#[test]
fn each_denial_from_memory_has_filter_state_of_its_own() {
    let mut fixture = Fixture::connected("", r#""emit_metadata": true,"#);
    fixture.request(ALICE, "alice");
    fixture.redis_replies(DENIED);
    for request in [2, 3, 4].map(RequestId) {
        let Step::Decided(Decision::Answer(_)) = fixture.request(request, "alice") else { panic!("the request waits") };
        let effects = fixture.effects();
        assert!(matches!(&effects[..], [Effect::Annotate(of, _)] if *of == request), "{effects:?}");
    }
}

#[test]
fn a_limiter_is_idle_once_its_counters_are_reported_and_nothing_is_to_be_sent() {
    let mut fixture = Fixture::connected("", "");
    assert!(fixture.limiter.is_idle());
    fixture.limiter.request(fixture.now, ALICE, &Request::default().header("x-user-id", "alice"));
    assert!(!fixture.limiter.is_idle(), "a call is to be sent");
    fixture.redis_replies(ADMITTED);
    assert!(!fixture.limiter.is_idle(), "counters have increased");
    assert!(fixture.limiter.next_tick(fixture.now).is_some_and(|at| at <= fixture.now.plus(REPORT_WITHIN)));
    fixture.counted();
    assert!(fixture.limiter.is_idle());
}
