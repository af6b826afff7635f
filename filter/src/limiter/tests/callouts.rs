//! Tests of requests over callouts, and of the response gate.

use super::slots::{A_SLOT, NO_SLOT};
use super::*;
use crate::redis::{Callout, Failure, Refusal};

/// Limiter with one slot per user, over callouts.
fn one_in_flight() -> Fixture {
    let json =
        br#"{"redis": {"cluster": "redis", "transport": "callout"}, "overrides": {"enabled": false}, "limits": [{
        "name": "per_user", "descriptor": [{"request_header": {"name": "x-user-id"}}],
        "concurrency": {"max_requests": 1, "lease": "3s"}}]}"#;
    let config = config::parse(json, &|_| None).unwrap();
    Fixture { limiter: Limiter::new(config, 1), now: Micros::from_secs(1), sent: Vec::new() }
}

fn callout(fixture: &mut Fixture) -> Callout {
    match fixture.limiter.poll(fixture.now) {
        Some(Effect::CallOut(callout)) => callout,
        other => panic!("expected a callout, found {other:?}"),
    }
}

/// Completes a callout, returns its effects, and ends the turn.
fn ends(fixture: &mut Fixture, callout: &Callout, response: Result<&[u8], Failure>) -> Vec<Effect> {
    fixture.limiter.redis().handle_callout(fixture.now, callout.id, response);
    let effects = fixture.effects();
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::CallOut(_))), "{effects:?}");
    fixture.limiter.redis().handle_turn();
    effects
}

fn admitted(fixture: &mut Fixture) {
    assert_eq!(fixture.request(ALICE, "alice"), Step::Wait);
    let check = callout(fixture);
    assert!(matches!(ends(fixture, &check, Ok(A_SLOT))[..], [Effect::Decide(ALICE, Decision::Admit(_))]));
}

#[test]
fn the_end_of_a_response_waits_until_its_slot_is_released() {
    for response in [Ok(b":1\r\n".as_slice()), Err(Failure::Unavailable)] {
        let mut fixture = one_in_flight();
        admitted(&mut fixture);
        assert!(fixture.limiter.holds_slots(ALICE) && !fixture.limiter.holds_response(ALICE));
        fixture.limiter.response_ends(fixture.now, ALICE);
        assert!(fixture.limiter.holds_response(ALICE) && fixture.limiter.has_any_of(ALICE));
        let release = callout(&mut fixture);
        assert!(String::from_utf8_lossy(&release.body).contains("ZREM"));
        assert_eq!(ends(&mut fixture, &release, response), [Effect::Decide(ALICE, Decision::EndResponse)]);
        assert!(!fixture.limiter.has_any_of(ALICE));
    }
}

#[test]
fn a_response_is_held_for_the_timeout_at_most_and_not_after_its_request_has_ended() {
    let mut fixture = one_in_flight();
    admitted(&mut fixture);
    fixture.limiter.response_ends(fixture.now, ALICE);
    callout(&mut fixture);
    let latest = fixture.now.plus(Micros::from_millis(50));
    assert_eq!(fixture.limiter.next_tick(fixture.now), Some(latest));
    fixture.now = latest;
    assert_eq!(fixture.tick(), [Effect::Decide(ALICE, Decision::EndResponse)]);
    let mut fixture = one_in_flight();
    admitted(&mut fixture);
    fixture.limiter.response_ends(fixture.now, ALICE);
    let release = callout(&mut fixture);
    fixture.limiter.done(fixture.now, ALICE);
    assert_eq!(ends(&mut fixture, &release, Ok(b":1\r\n")), []);
}

#[test]
fn over_a_stream_the_end_of_a_response_waits_as_well() {
    let mut fixture = Fixture::of(r#""concurrency": {"max_requests": 1, "lease": "3s"}"#, "");
    fixture.connect();
    fixture.request(ALICE, "alice");
    fixture.redis_replies(A_SLOT);
    fixture.limiter.response_ends(fixture.now, ALICE);
    assert!(fixture.sent().contains("ZREM") && fixture.limiter.holds_response(ALICE));
    assert_eq!(fixture.redis_replies(b":1\r\n"), [Effect::Decide(ALICE, Decision::EndResponse)]);
    assert!(!fixture.limiter.has_any_of(ALICE));
}

#[test]
fn without_a_connection_no_response_is_held() {
    let mut fixture = Fixture::of(r#""concurrency": {"max_requests": 1, "lease": "3s"}"#, "");
    fixture.connect();
    fixture.request(ALICE, "alice");
    fixture.redis_replies(A_SLOT);
    fixture.limiter.redis().handle_closed(fixture.now);
    fixture.request(BOB, "bob");
    assert!(fixture.tick().contains(&Effect::OpenStream));
    fixture.limiter.redis().handle_open_failed(fixture.now, Refusal::Internal);
    fixture.limiter.response_ends(fixture.now, ALICE);
    assert!(!fixture.limiter.has_any_of(ALICE));
}

#[test]
fn calls_in_one_callout_are_in_the_order_of_their_submission() {
    let mut fixture = one_in_flight();
    admitted(&mut fixture);
    fixture.request(BOB, "alice");
    let denied = callout(&mut fixture);
    fixture.limiter.done(fixture.now, ALICE);
    fixture.request(RequestId(3), "alice");
    assert_eq!(fixture.limiter.poll(fixture.now), None, "they wait");
    let effects = ends(&mut fixture, &denied, Ok(NO_SLOT));
    assert!(matches!(effects[..], [Effect::Decide(BOB, Decision::Answer(_))]), "{effects:?}");
    let both = callout(&mut fixture);
    let body = String::from_utf8_lossy(&both.body);
    assert!(body.find("ZREM").unwrap() < body.find("EVALSHA").unwrap(), "{body}");
    let effects = ends(&mut fixture, &both, Ok(&[b":1\r\n", A_SLOT].concat()));
    assert!(matches!(effects[..], [Effect::Decide(RequestId(3), Decision::Admit(_))]), "{effects:?}");
}

#[test]
fn requests_that_failed_after_a_warning_are_logged_by_a_tick_though_none_follows() {
    let mut fixture = one_in_flight();
    let fail = |request, fixture: &mut Fixture| {
        assert_eq!(fixture.request(request, "alice"), Step::Wait);
        let check = callout(fixture);
        let effects = ends(fixture, &check, Err(Failure::Unavailable));
        fixture.limiter.done(fixture.now, request);
        effects
    };
    let start = fixture.now;
    assert!(matches!(fail(ALICE, &mut fixture)[..], [Effect::Decide(..), Effect::Warn(_)]));
    assert!(matches!(fail(BOB, &mut fixture)[..], [Effect::Decide(..)]));
    fixture.counted();
    let due = start.plus(Micros::from_secs(10));
    assert_eq!(fixture.limiter.next_tick(fixture.now), Some(due));
    fixture.now = due;
    let rest = "redis unavailable: no connection to Redis \
                (cluster \"redis\"; since the last warning of this cause, requests failed open: 1, failed closed: 0)";
    assert_eq!(fixture.tick(), [Effect::Warn(rest.to_owned())]);
    assert_eq!(fixture.limiter.next_tick(fixture.now), None);
}
