//! Tests of limits with leases: requests that spend leased tokens, and the calls that refill and return leases.

use super::*;

const MS: fn(u64) -> Micros = Micros::from_millis;
const KEY: &str = "weir:per_user:alice";
const LEASED: &str = r#"{"name": "per_user", "descriptor": [{"request_header": {"name": "x-user-id"}}],
    "token_bucket": {"max_tokens": 20, "tokens_per_fill": 100, "fill_interval": "60s"}, "lease": {"max": 5}}"#;
/// Limit beside [`LEASED`].
const ALL: &str = r#"{"name": "all", "descriptor": [],
    "token_bucket": {"max_tokens": 20, "tokens_per_fill": 100, "fill_interval": "60s"}}"#;

/// Reply that admits, and leases so many tokens: all buckets were full before the request.
fn granted(tokens: u64, others: usize) -> Vec<u8> {
    let elements = [4, 7][others];
    let of_others = ":0\r\n:0\r\n:0\r\n".repeat(others);
    format!("*{elements}\r\n:5\r\n:0\r\n:{tokens}\r\n:2000000\r\n{of_others}").into_bytes()
}

/// Limiter with 5 leased tokens of alice, and a number of limits beside [`LEASED`].
fn leased(others: usize, of_filter: &str) -> Fixture {
    let limits = [LEASED, ALL][..=others].join(",");
    let json = format!(
        r#"{{"redis": {{"cluster": "redis"}}, "overrides": {{"enabled": false}}, {of_filter} "limits": [{limits}]}}"#
    );
    let config = config::parse(json.as_bytes(), &|_| None).unwrap();
    let mut fixture = Fixture { limiter: Limiter::new(config, 1), now: Micros::from_secs(1), sent: Vec::new() };
    fixture.connect();
    fixture.request(ALICE, "alice");
    fixture.redis_replies(&granted(0, others));
    fixture.now = fixture.now.plus(MS(100));
    fixture.request(ALICE, "alice");
    assert!(fixture.sent().contains("\r\n1 1000000 5\r\n"), "5 tokens are asked for");
    fixture.redis_replies(&granted(5, others));
    fixture.counted();
    fixture
}

/// Returns what is sent half a lease's time later.
fn returned(fixture: &mut Fixture) -> String {
    fixture.now = fixture.now.plus(MS(500));
    fixture.limiter.tick(fixture.now);
    fixture.sent()
}

#[test]
fn a_lease_serves_requests_without_redis_and_is_refilled_once_a_quarter_is_left() {
    let mut fixture = leased(0, "");
    for left in [4, 3, 2, 1] {
        fixture.now = fixture.now.plus(MS(10));
        let step = fixture.request(ALICE, "alice");
        assert!(matches!(step, Step::Decided(Decision::Admit(_))), "{step:?}");
        let sent = fixture.sent();
        assert_eq!(sent.contains(KEY), left == 1, "{left} left: {sent}");
    }
    assert!(fixture.counted().contains(&"weir.leases.hits 4".to_owned()));
    fixture.redis_replies(&granted(5, 0));
    let served = (0..9).filter(|_| fixture.request(ALICE, "alice") != Step::Wait).count();
    assert_eq!(served, 6);
}

#[test]
fn tokens_of_a_lease_that_no_request_spends_are_returned() {
    let mut fixture = leased(0, "");
    fixture.request(ALICE, "alice");
    assert_eq!(fixture.sent(), "");
    let returned = returned(&mut fixture);
    assert!(returned.contains(KEY) && returned.contains("\r\n1 1000000 0 2000000 1 4\r\n"), "1 is used: {returned}");
}

#[test]
fn a_request_that_another_limit_denies_spends_nothing_of_a_lease() {
    let mut fixture = leased(1, r#""events": {"only": "all"},"#);
    fixture.limiter.tick(fixture.now);
    fixture.redis_replies(b":1\r\n");
    fixture.request(ALICE, "alice");
    let effects = fixture.redis_replies(DENIED);
    assert!(matches!(effects[..], [Effect::Decide(ALICE, Decision::Answer(_))]), "{effects:?}");
    fixture.limiter.tick(fixture.now);
    let events = fixture.sent();
    assert!(events.contains("\r\nadmitted\r\n$2\r\n19\r\n"), "the token is back: {events}");
    fixture.redis_replies(b":1\r\n");
    let returned = returned(&mut fixture);
    assert!(returned.contains("\r\n1 1000000 0 2000000 0 5\r\n"), "none is used: {returned}");
}

#[test]
fn a_request_that_another_limits_failure_mode_admits_spends_of_a_lease() {
    let mut fixture = leased(1, "");
    fixture.request(ALICE, "alice");
    let effects = fixture.redis_replies(b"-ERR broken\r\n");
    assert!(effects.contains(&Effect::Decide(ALICE, Decision::Admit(Vec::new()))), "{effects:?}");
    let returned = returned(&mut fixture);
    assert!(returned.contains("\r\n1 1000000 0 2000000 1 4\r\n"), "1 is used: {returned}");
}
