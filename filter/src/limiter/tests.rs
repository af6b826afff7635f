//! Tests of the limiter, with requests from the proxy and replies of Redis.

mod callouts;
mod crowd;
mod slots;
mod zero;

use super::*;
use crate::config;
use crate::descriptor::Request;

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
    let effects = fixture.redis_replies(&[DENIED, ADMITTED].concat());
    assert!(matches!(effects[..], [Effect::Decide(BOB, Decision::Admit(_))]), "{effects:?}");
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
        let warnings = effects.iter().filter(|effect| matches!(effect, Effect::Warn(_))).count();
        assert_eq!((warnings, effects.len()), (1, 101));
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
            ["weir.limit.per_user.failed 100", "weir.redis.reset 100", "weir.requests.failed 100"]
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
    assert_eq!(fixture.tick(), [Effect::Decide(ALICE, Decision::Admit(Vec::new()))]);
    assert!(fixture.counted().contains(&"weir.redis.timeout 1".to_owned()));
    assert_eq!(fixture.redis_replies(DENIED), [], "too late");
}

/// Limiter with a bucket of 1 token, 1 a second, that delays requests for at most 2 s.
fn shaped(of_filter: &str) -> Fixture {
    let mut fixture = Fixture::of(
        r#""token_bucket": {"max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "1s"}, "max_delay": "2s""#,
        of_filter,
    );
    fixture.connect();
    fixture
}

/// Reply that admits, with a bucket that needed this many seconds to fill before the request.
fn lacking(seconds: u64) -> Vec<u8> {
    format!("*2\r\n:5\r\n:{seconds}000000\r\n").into_bytes()
}

#[test]
fn a_request_is_delayed_until_its_token_exists() {
    let mut fixture = shaped("");
    fixture.request(ALICE, "alice");
    assert_eq!(fixture.redis_replies(&lacking(1)), []);
    assert!(fixture.limiter.is_waiting(ALICE));
    assert_eq!(
        fixture.counted(),
        ["weir.limit.per_user.admitted 1", "weir.requests.admitted 1", "weir.requests.delayed 1"]
    );
    let turn = fixture.now.plus(Micros::from_secs(1));
    fixture.now = turn.minus(Micros(1));
    assert_eq!(fixture.tick(), []);
    assert_eq!(fixture.limiter.next_tick(fixture.now), Some(turn));
    fixture.now = turn;
    assert!(matches!(fixture.tick()[..], [Effect::Decide(ALICE, Decision::Admit(_))]));
    assert!(!fixture.limiter.is_waiting(ALICE));
}

#[test]
fn a_delayed_request_that_ends_is_refunded_once() {
    let mut fixture = shaped("");
    fixture.request(ALICE, "alice");
    fixture.redis_replies(&lacking(1));
    fixture.limiter.done(fixture.now, ALICE);
    let refund = fixture.sent();
    assert!(refund.contains("weir:per_user:alice"), "{refund}");
    fixture.limiter.done(fixture.now, ALICE);
    assert_eq!(fixture.sent(), "");
    assert_eq!(fixture.redis_replies(b":1\r\n"), []);
    fixture.now = fixture.now.plus(Micros::from_secs(3));
    assert_eq!(fixture.tick(), []);
}

#[test]
fn a_full_delay_queue_makes_redis_admit_without_delay_or_deny() {
    let mut fixture = shaped(r#""max_delayed_requests": 1,"#);
    fixture.request(ALICE, "alice");
    fixture.limiter.request(fixture.now, BOB, &Request::default().header("x-user-id", "alice"));
    let sent = fixture.sent();
    assert_eq!(sent.matches("\r\n1 2000000\r\n").count(), 1, "with a delay of at most 2 s: {sent}");
    assert_eq!(sent.matches("$1\r\n1\r\n$1\r\n1\r\n$7\r\n1000000\r\n").count(), 1, "without a delay: {sent}");
    fixture.limiter.redis().handle_bytes(fixture.now, &lacking(1));
    fixture.limiter.redis().handle_bytes(fixture.now, b"*2\r\n:-5\r\n:2000000\r\n");
    let effect = fixture.limiter.poll(fixture.now);
    let Some(Effect::Decide(BOB, Decision::Answer(reply))) = effect else { panic!("{effect:?}") };
    assert_eq!(retry_after(&reply), Some("2"));
    assert_eq!((fixture.sent(), fixture.limiter.is_waiting(ALICE)), (String::new(), true), "no refund is sent");
    // The delay queue is empty again: the denial of the request without a reservation was not cached.
    fixture.limiter.done(fixture.now, ALICE);
    fixture.sent();
    fixture.limiter.request(fixture.now, BOB, &Request::default().header("x-user-id", "alice"));
    assert!(fixture.sent().contains("\r\n1 2000000\r\n"));
}

#[test]
fn a_delay_reservation_is_released_however_its_check_ends() {
    let mut fixture = shaped(r#""max_delayed_requests": 1, "failure_mode": "deny","#);
    for end in 0..5 {
        assert_eq!(fixture.request(ALICE, &format!("user {end}")), Step::Wait);
        let sent = fixture.sent();
        assert!(sent.contains("\r\n1 2000000\r\n"), "{end}: {sent}");
        match end {
            0 => drop(fixture.redis_replies(&lacking(0))),
            1 => drop(fixture.redis_replies(b"*2\r\n:-5\r\n:3000000\r\n")),
            2 => drop(fixture.redis_replies(b"-OOM no\r\n")),
            3 => drop(fixture.limiter.done(fixture.now, ALICE)),
            _ => {
                fixture.now = fixture.now.plus(Micros::from_millis(50));
                fixture.tick();
                fixture.tick();
            }
        }
    }
    assert_eq!(fixture.request(BOB, "bob"), Step::Wait);
    assert!(fixture.sent().contains("\r\n1 2000000\r\n"));
}

/// Delays requests of these IDs, each of another user, for 1 s.
fn hold_requests(fixture: &mut Fixture, crowd: core::ops::RangeInclusive<u32>) {
    for id in crowd {
        assert_eq!(fixture.request(RequestId(id), &format!("user {id}")), Step::Wait);
        assert_eq!(fixture.redis_replies(&lacking(1)), []);
    }
    // Counters to report would need a tick.
    fixture.counted();
}

fn admitted(effects: &[Effect]) -> Vec<RequestId> {
    let admitted = |effect: &Effect| match effect {
        Effect::Decide(request, Decision::Admit(_)) => Some(*request),
        _ => None,
    };
    effects.iter().filter_map(admitted).collect()
}

#[test]
fn each_tick_releases_at_most_128_delayed_requests_and_the_rest_are_held_until_the_next() {
    let mut fixture = shaped("");
    hold_requests(&mut fixture, 1..=300);
    fixture.now = fixture.now.plus(Micros::from_secs(1));
    let first = admitted(&fixture.tick());
    assert_eq!(first, (1..=128).map(RequestId).collect::<Vec<_>>());
    assert!((129..=300).all(|id| fixture.limiter.is_waiting(RequestId(id))));
    let next = fixture.limiter.next_tick(fixture.now);
    assert!(next.is_some_and(|next| next <= fixture.now), "{next:?}");

    assert!(fixture.limiter.done(fixture.now, RequestId(200)), "a refund is submitted");
    assert!(!fixture.limiter.is_waiting(RequestId(200)));
    let second = admitted(&fixture.tick());
    assert_eq!(second, (129..=199).chain(201..=257).map(RequestId).collect::<Vec<_>>());
    let third = admitted(&fixture.tick());
    assert_eq!(third, (258..=300).map(RequestId).collect::<Vec<_>>());
    assert_eq!(admitted(&fixture.tick()), []);
}

#[test]
fn many_due_requests_do_not_keep_a_stream_from_being_opened() {
    let mut fixture = shaped("");
    hold_requests(&mut fixture, 1..=300);
    fixture.limiter.redis().handle_closed(fixture.now);
    fixture.effects();
    fixture.now = fixture.now.plus(Micros::from_secs(1));
    fixture.request(RequestId(999), "another");
    let effects = fixture.tick();
    assert!(effects.contains(&Effect::OpenStream));
    assert_eq!(admitted(&effects).len(), 128, "no more than one callback may decide");
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
    assert_eq!(fixture.counted(), ["weir.deny_cache.hits 1", "weir.limit.per_user.denied 1", "weir.requests.denied 1"]);
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
