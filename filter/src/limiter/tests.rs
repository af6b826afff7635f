//! Conversations with the limiter: requests from one side, Redis' words from the other.

use super::*;
use crate::config;
use crate::descriptor::Request;

const PONG: &[u8] = b"+PONG\r\n";
/// One limit admits, its bucket full before the request.
const ADMITTED: &[u8] = b"*2\r\n:1\r\n:0\r\n";
/// One limit denies: the bucket lacks all of its 12 seconds.
const DENIED: &[u8] = b"*2\r\n:0\r\n:12000000\r\n";
const ALICE: Ticket = Ticket(1);
const BOB: Ticket = Ticket(2);

/// A limiter of one limit per user, 20 at once and 100 a minute, with `more` fields of the limit and of the whole.
struct Fixture {
    limiter: Limiter,
    now: Micros,
}

impl Fixture {
    fn new(of_limit: &str, of_filter: &str) -> Self {
        let json = format!(
            r#"{{"redis": {{"cluster": "redis"}}, {of_filter} "limits": [{{
                "name": "per_user", "descriptor": [{{"request_header": {{"name": "x-user-id"}}}}], {of_limit}
                "token_bucket": {{"max_tokens": 20, "tokens_per_fill": 100, "fill_interval": "60s"}}}}]}}"#
        );
        let config = config::parse(json.as_bytes(), &|_| None).unwrap();
        Self { limiter: Limiter::new(config, 1), now: Micros::from_secs(1) }
    }

    /// The same, with its connection proven.
    fn connected(of_limit: &str, of_filter: &str) -> Self {
        let mut fixture = Self::new(of_limit, of_filter);
        assert_eq!(fixture.request(Ticket(0), "warm-up"), Step::Wait);
        assert_eq!(fixture.tick(), [Effect::OpenStream]);
        fixture.redis_says(PONG);
        assert!(matches!(fixture.redis_says(ADMITTED)[..], [Effect::Decide(Ticket(0), Decision::Admit(_))]));
        fixture.counted();
        fixture
    }

    fn request(&mut self, ticket: Ticket, user: &str) -> Step {
        self.limiter.request(self.now, ticket, &Request::default().header("x-user-id", user))
    }

    fn redis_says(&mut self, bytes: &[u8]) -> Vec<Effect> {
        self.limiter.redis().handle_bytes(self.now, bytes);
        self.effects()
    }

    fn tick(&mut self) -> Vec<Effect> {
        self.limiter.redis().handle_tick(self.now);
        self.effects()
    }

    fn effects(&mut self) -> Vec<Effect> {
        self.limiter.redis().take_outgoing(&mut Vec::new());
        std::iter::from_fn(|| self.limiter.poll(self.now)).collect()
    }

    /// The names of the counters that have gained, sorted.
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

#[test]
fn a_request_waits_for_redis_and_passes_with_what_is_left() {
    let mut fixture = Fixture::connected("", "");
    assert_eq!(fixture.request(ALICE, "alice"), Step::Wait);
    let effects = fixture.redis_says(ADMITTED);
    let [Effect::Decide(ALICE, Decision::Admit(headers))] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(header(headers, "x-ratelimit-remaining"), Some("19"));
    assert_eq!(fixture.counted(), ["weir.limit.per_user.admitted 1", "weir.requests.admitted 1"]);
}

#[test]
fn a_denied_request_is_answered_and_told_when_to_come_back() {
    let mut fixture = Fixture::connected("", "");
    fixture.request(ALICE, "alice");
    let effects = fixture.redis_says(DENIED);
    let [Effect::Decide(ALICE, Decision::Answer(reply))] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(reply.status.code(), 429);
    assert_eq!(header(&reply.headers, "retry-after"), Some("1"));
    assert_eq!(fixture.counted(), ["weir.limit.per_user.denied 1", "weir.requests.denied 1"]);
}

#[test]
fn a_limit_in_shadow_mode_counts_a_denial_and_lets_it_pass() {
    let mut fixture = Fixture::connected(r#""shadow_mode": true,"#, "");
    fixture.request(ALICE, "alice");
    let effects = fixture.redis_says(b"*2\r\n:1\r\n:12000000\r\n");
    assert_eq!(effects, [Effect::Decide(ALICE, Decision::Admit(Vec::new()))]);
    assert_eq!(fixture.counted(), ["weir.limit.per_user.shadow_denied 1", "weir.requests.admitted 1"]);
}

#[test]
fn a_request_without_the_descriptors_header_is_none_of_our_business() {
    let mut fixture = Fixture::connected("", "");
    assert_eq!(fixture.limiter.request(fixture.now, ALICE, &Request::default()), Step::Pass);
    assert!(fixture.counted().is_empty());
}

#[test]
fn replies_belong_to_requests_in_the_order_of_their_calls() {
    let mut fixture = Fixture::connected("", "");
    fixture.request(ALICE, "alice");
    fixture.request(BOB, "bob");
    let effects = fixture.redis_says(&[ADMITTED, DENIED].concat());
    assert!(matches!(effects[0], Effect::Decide(ALICE, Decision::Admit(_))), "{effects:?}");
    assert!(matches!(effects[1], Effect::Decide(BOB, Decision::Answer(_))), "{effects:?}");
}

#[test]
fn the_reply_of_a_request_that_has_gone_is_dropped() {
    let mut fixture = Fixture::connected("", "");
    fixture.request(ALICE, "alice");
    fixture.request(BOB, "bob");
    fixture.limiter.abandon(ALICE);
    let effects = fixture.redis_says(&[DENIED, ADMITTED].concat());
    assert!(matches!(effects[..], [Effect::Decide(BOB, Decision::Admit(_))]), "{effects:?}");
}

#[test]
fn without_redis_the_failure_mode_answers_and_one_warning_is_logged() {
    for (mode, status) in [("allow", None), ("deny", Some(503))] {
        let mut fixture = Fixture::connected("", &format!(r#""failure_mode": "{mode}","#));
        for ticket in 1..=100 {
            fixture.request(Ticket(ticket), "alice");
        }
        fixture.limiter.redis().handle_closed(fixture.now);
        let effects = fixture.effects();
        let warnings = effects.iter().filter(|effect| matches!(effect, Effect::Warn(_))).count();
        assert_eq!((warnings, effects.len()), (1, 101));
        let answered = |decision: &Decision| match decision {
            Decision::Answer(reply) => Some(reply.status.code()),
            Decision::Admit(_) => None,
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
        // From here on at once, until Redis is back.
        let Step::Decided(decision) = fixture.request(BOB, "bob") else { panic!("it was made to wait") };
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
        [&b":1\r\n"[..], b"*1\r\n:1\r\n", b"*2\r\n:2\r\n+0\r\n", b"*2\r\n:1\r\n:-1\r\n", b"*2\r\n:0\r\n:0\r\n"]
    {
        let mut fixture = Fixture::connected("", "");
        fixture.request(ALICE, "alice");
        let effects = fixture.redis_says(nonsense);
        assert!(effects.contains(&Effect::Decide(ALICE, Decision::Admit(Vec::new()))), "{effects:?}");
        assert!(fixture.counted().contains(&"weir.redis.protocol 1".to_owned()));
    }
}

#[test]
fn a_silent_redis_costs_a_request_its_timeout_and_no_more() {
    let mut fixture = Fixture::connected("", "");
    fixture.request(ALICE, "alice");
    fixture.now = fixture.now.plus(Micros::from_millis(50));
    assert_eq!(fixture.tick(), [Effect::Decide(ALICE, Decision::Admit(Vec::new()))]);
    assert!(fixture.counted().contains(&"weir.redis.timeout 1".to_owned()));
    assert_eq!(fixture.redis_says(DENIED), [], "too late");
}
