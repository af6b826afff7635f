//! Requests in flight.

use super::*;

fn one_in_flight() -> Fixture {
    let mut fixture = Fixture::of(r#""concurrency": {"max_requests": 1, "lease": "3s"}"#, "");
    fixture.connect();
    fixture
}

/// Admits, no place taken before; denies, the one place taken.
pub(super) const A_PLACE: &[u8] = b"*4\r\n:5\r\n:0\r\n:0\r\n:0\r\n";
pub(super) const NO_PLACE: &[u8] = b"*4\r\n:-5\r\n:1\r\n:0\r\n:0\r\n";

#[test]
fn a_request_gives_its_place_back_when_it_is_over() {
    let mut fixture = one_in_flight();
    fixture.request(ALICE, "alice");
    assert!(matches!(fixture.redis_says(A_PLACE)[..], [Effect::Decide(ALICE, Decision::Admit(_))]));
    fixture.limiter.done(fixture.now, ALICE);
    let returned = fixture.sent();
    assert!(returned.contains("ZREM") && returned.contains("weir:per_user:alice#concurrency"), "{returned}");
    assert_eq!(fixture.redis_says(b":1\r\n"), []);
}

#[test]
fn a_request_that_was_denied_a_place_gives_none_back() {
    let mut fixture = one_in_flight();
    fixture.request(ALICE, "alice");
    let effects = fixture.redis_says(NO_PLACE);
    let [Effect::Decide(ALICE, Decision::Answer(reply))] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((reply.status.code(), retry_after(reply)), (429, Some("1")));
    fixture.limiter.done(fixture.now, ALICE);
    assert_eq!(fixture.sent(), "");
}

#[test]
fn a_request_that_leaves_before_it_is_decided_gives_back_what_it_may_get() {
    let mut fixture = one_in_flight();
    fixture.request(ALICE, "alice");
    fixture.limiter.done(fixture.now, ALICE);
    let sent = fixture.sent();
    assert!(sent.find("EVALSHA") < sent.find("ZREM"), "{sent}");
    assert_eq!(fixture.redis_says(&[A_PLACE, b":1\r\n"].concat()), []);
}

#[test]
fn a_long_request_renews_its_lease() {
    let mut fixture = one_in_flight();
    fixture.request(ALICE, "alice");
    fixture.redis_says(A_PLACE);
    for _ in 0..5 {
        fixture.now = fixture.now.plus(Micros::from_secs(1));
        fixture.limiter.tick(fixture.now);
        assert!(fixture.sent().contains("weir:per_user:alice#concurrency"));
        fixture.redis_says(b":1\r\n");
    }
}

#[test]
fn a_place_that_could_not_be_given_back_is_when_redis_returns() {
    let mut fixture = one_in_flight();
    fixture.request(ALICE, "alice");
    fixture.redis_says(A_PLACE);
    fixture.limiter.redis().handle_closed(fixture.now);
    fixture.limiter.done(fixture.now, ALICE);
    fixture.now = fixture.now.plus(Micros::from_millis(100));
    assert!(fixture.tick().contains(&Effect::OpenStream));
    fixture.redis_says(PONG);
    fixture.now = fixture.now.plus(Micros::from_secs(1));
    fixture.limiter.tick(fixture.now);
    assert!(fixture.sent().contains("ZREM"));
}
