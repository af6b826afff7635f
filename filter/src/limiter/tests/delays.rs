//! Tests of requests that are delayed until their tokens exist.

use super::*;

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
