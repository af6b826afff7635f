//! Tests of concurrency limits: slots taken, renewed and released.

#![allow(clippy::arithmetic_side_effects)]

use super::*;

fn one_in_flight() -> Fixture {
    let mut fixture = Fixture::of(r#""concurrency": {"max_requests": 1, "lease": "3s"}"#, "");
    fixture.connect();
    fixture
}

impl Fixture {
    /// Delivers a reply to a request that has ended, and returns whether that releases a slot.
    fn releases_after(&mut self, reply: &[u8]) -> bool {
        self.limiter.redis().handle_bytes(self.now, reply);
        assert_eq!(self.limiter.poll(self.now), None);
        self.sent().contains("ZREM")
    }
}

/// Reply that admits: no slot was taken before.
pub(super) const A_SLOT: &[u8] = b"*4\r\n:5\r\n:0\r\n:0\r\n:0\r\n";
/// Reply that denies: the one slot was taken.
pub(super) const NO_SLOT: &[u8] = b"*4\r\n:-5\r\n:1\r\n:0\r\n:0\r\n";

#[test]
fn a_request_releases_its_slot_when_it_ends() {
    let mut fixture = one_in_flight();
    fixture.request(ALICE, "alice");
    assert!(matches!(fixture.redis_replies(A_SLOT)[..], [Effect::Decide(ALICE, Decision::Admit(_))]));
    fixture.limiter.done(fixture.now, ALICE);
    let returned = fixture.sent();
    assert!(returned.contains("ZREM") && returned.contains("weir:per_user:alice#concurrency"), "{returned}");
    assert_eq!(fixture.redis_replies(b":1\r\n"), []);
}

#[test]
fn a_request_with_a_slot_and_a_reservation_gives_back_the_one_and_settles_the_other() {
    let json = br#"{"redis": {"cluster": "redis"}, "overrides": {"enabled": false}, "limits": [
        {"name": "slots", "descriptor": [], "concurrency": {"max_requests": 1, "lease": "3s"}},
        {"name": "tokens", "descriptor": [], "charge": "total_tokens",
            "fixed_window": {"max_tokens": 1000, "window": "60s"}, "reserve": {"output": {"default": 50}}}]}"#;
    let config = config::parse(json, &|_| None).unwrap();
    let mut fixture = Fixture { limiter: Limiter::new(config, 1), now: Micros::from_secs(1), sent: Vec::new() };
    let headers = [(":method", "POST"), ("content-length", "300")];
    let request = headers.iter().fold(Request::default(), |it, (name, value)| it.header(name, value));
    assert_eq!(fixture.limiter.request(fixture.now, ALICE, &request), Step::Wait);
    assert_eq!(fixture.tick(), [Effect::OpenStream]);
    fixture.redis_replies(PONG);
    let effects = fixture.redis_replies(b"*7\r\n:5\r\n:0\r\n:0\r\n:0\r\n:0\r\n:0\r\n:0\r\n");
    assert!(matches!(effects[..], [Effect::Decide(ALICE, Decision::Admit(_))]), "{effects:?}");
    assert!(fixture.limiter.holds_slots(ALICE) && fixture.limiter.holds_reservations(ALICE));
    assert!(fixture.limiter.done(fixture.now, ALICE), "calls are to be sent");
    let sent = fixture.sent();
    assert!(sent.contains("ZREM") && sent.contains("budget"), "{sent}");
}

#[test]
fn a_request_holds_its_slot_from_its_admission_to_its_end() {
    let mut fixture = one_in_flight();
    fixture.request(ALICE, "alice");
    assert!(!fixture.limiter.holds_slots(ALICE));
    fixture.redis_replies(A_SLOT);
    assert!(fixture.limiter.holds_slots(ALICE) && !fixture.limiter.holds_slots(BOB));
    assert!(fixture.limiter.has_any_of(ALICE) && !fixture.limiter.has_any_of(BOB));
    fixture.limiter.done(fixture.now, ALICE);
    assert!(!fixture.limiter.holds_slots(ALICE));
}

#[test]
fn a_request_that_was_denied_a_slot_releases_none() {
    let mut fixture = one_in_flight();
    fixture.request(ALICE, "alice");
    let effects = fixture.redis_replies(NO_SLOT);
    let [Effect::Decide(ALICE, Decision::Answer(reply))] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((reply.status.code(), retry_after(reply)), (429, Some("1")));
    fixture.limiter.done(fixture.now, ALICE);
    assert_eq!(fixture.sent(), "");
}

#[test]
fn a_request_that_ends_before_it_is_decided_releases_the_slot_it_gets() {
    for (reply, gives_back) in [(A_SLOT, true), (NO_SLOT, false)] {
        let mut fixture = one_in_flight();
        fixture.request(ALICE, "alice");
        fixture.limiter.done(fixture.now, ALICE);
        assert!(!fixture.sent().contains("ZREM"), "no slot is taken yet");
        assert_eq!(fixture.releases_after(reply), gives_back);
    }
}

#[test]
fn a_request_that_times_out_releases_the_slot_it_gets_later() {
    for (reply, gives_back) in [(A_SLOT, true), (NO_SLOT, false), (b"-NOSCRIPT No matching script.\r\n", false)] {
        let mut fixture = one_in_flight();
        fixture.request(ALICE, "alice");
        fixture.now = fixture.now.plus(Micros::from_millis(50));
        fixture.tick();
        assert!(matches!(fixture.tick()[..], [Effect::Decide(ALICE, Decision::Admit(_)), Effect::Warn(_)]));
        fixture.limiter.done(fixture.now, ALICE);
        assert!(!fixture.sent().contains("ZREM"));
        assert_eq!(fixture.releases_after(reply), gives_back);
    }
}

#[test]
fn a_request_that_ends_before_its_check_is_sent_takes_no_slot() {
    let mut fixture = one_in_flight();
    fixture.limiter.redis().handle_closed(fixture.now);
    fixture.effects();
    fixture.request(ALICE, "alice");
    fixture.request(BOB, "alice");
    fixture.limiter.done(fixture.now, ALICE);
    assert!(fixture.limiter.slots.outcome(ALICE).is_none(), "no reply is awaited");
    fixture.now = fixture.now.plus(Micros::from_millis(50));
    // While the stream connects, a busy proxy ticks several times.
    (0..9).for_each(|_| drop(fixture.tick()));
    assert_eq!(fixture.limiter.slots.next_due(), None);
    assert_eq!(fixture.limiter.redis().in_flight(), 0);
}

#[test]
fn when_the_connection_is_lost_a_slot_that_may_have_been_taken_is_released() {
    for leaves in [true, false] {
        let mut fixture = one_in_flight();
        fixture.request(ALICE, "alice");
        if leaves {
            fixture.limiter.done(fixture.now, ALICE);
        }
        fixture.send();
        fixture.limiter.redis().handle_closed(fixture.now);
        fixture.effects();
        assert!(fixture.limiter.slots.next_due().is_some());
        fixture.now = fixture.now.plus(Micros::from_millis(250));
        fixture.tick();
        fixture.limiter.redis().handle_bytes(fixture.now, PONG);
        fixture.now = fixture.now.plus(Micros::from_millis(250));
        fixture.limiter.tick(fixture.now);
        assert!(fixture.sent().contains("ZREM"), "leaves: {leaves}");
    }
}

/// 4,096 requests end before Redis replies: there is room for the calls that release their slots.
#[test]
fn many_requests_that_end_before_redis_replies_leave_no_slot() {
    let mut fixture = Fixture::of(r#""concurrency": {"max_requests": 100, "lease": "60s"}"#, "");
    fixture.connect();
    for id in 1..=4_096 {
        assert_eq!(fixture.request(RequestId(id), &format!("user {id}")), Step::Wait);
    }
    for id in 1..=4_096 {
        fixture.limiter.done(fixture.now, RequestId(id));
    }
    assert!(!fixture.sent().contains("ZREM"));
    for _ in 0..4_096 {
        fixture.limiter.redis().handle_bytes(fixture.now, A_SLOT);
        while fixture.limiter.poll(fixture.now).is_some() {}
    }
    assert_eq!(fixture.sent().matches("ZREM").count(), 4_096);
    for _ in 0..4_096 {
        fixture.limiter.redis().handle_bytes(fixture.now, b":1\r\n");
        while fixture.limiter.poll(fixture.now).is_some() {}
    }
    assert_eq!((fixture.limiter.slots.next_due(), fixture.limiter.redis().in_flight()), (None, 0));
}

#[test]
fn a_slot_is_given_back_though_there_is_no_room_for_one_more_check() {
    let mut fixture = Fixture::of(r#""concurrency": {"max_requests": 100, "lease": "60s"}"#, "");
    fixture.connect();
    fixture.request(ALICE, "alice");
    fixture.redis_replies(A_SLOT);
    for id in 1..=5_000 {
        assert_eq!(fixture.request(RequestId(1_000 + id), &format!("user {id}")), Step::Wait);
    }
    fixture.sent();
    assert!(!fixture.limiter.redis().has_room(0));
    fixture.limiter.done(fixture.now, ALICE);
    assert!(fixture.sent().contains("ZREM"));
}

#[test]
fn all_slots_of_requests_that_end_while_disconnected_are_released_on_reconnect() {
    let mut fixture = Fixture::of(r#""concurrency": {"max_requests": 5000, "lease": "60s"}"#, "");
    fixture.connect();
    for id in 1..=4_096 {
        fixture.request(RequestId(id), &format!("user {}", id % 2));
        fixture.redis_replies(A_SLOT);
    }
    // The connection is lost with a check in flight, so that calls are refused.
    fixture.request(RequestId(9_999), "alice");
    fixture.send();
    fixture.limiter.redis().handle_closed(fixture.now);
    fixture.effects();
    for id in 1..=4_096 {
        fixture.limiter.done(fixture.now, RequestId(id));
    }
    fixture.now = fixture.now.plus(Micros::from_millis(100));
    fixture.tick();
    fixture.limiter.redis().handle_bytes(fixture.now, PONG);
    fixture.now = fixture.now.plus(Micros::from_secs(1));
    fixture.limiter.tick(fixture.now);
    let sent = fixture.sent();
    let owners = sent.matches("\r\n$24\r\n").count();
    assert_eq!(owners, 4_096 + 1, "and the slot that the lost check may have taken");
    assert!(sent.matches("ZREM").count() + sent.matches("EVALSHA").count() < 40);
}

#[test]
fn a_long_request_renews_its_lease() {
    let mut fixture = one_in_flight();
    fixture.request(ALICE, "alice");
    fixture.redis_replies(A_SLOT);
    for _ in 0..5 {
        fixture.now = fixture.now.plus(Micros::from_secs(1));
        fixture.limiter.tick(fixture.now);
        assert!(fixture.sent().contains("weir:per_user:alice#concurrency"));
        fixture.redis_replies(b":1\r\n");
    }
}

/// Over a slow network, a renewal has more time than a check: Redis may answer after `redis.timeout` that it lacks the
/// script.
#[test]
fn a_renewal_is_sent_again_with_its_script_after_the_timeout_of_a_check() {
    let mut fixture = one_in_flight();
    fixture.request(ALICE, "alice");
    fixture.redis_replies(A_SLOT);
    fixture.now = fixture.now.plus(Micros::from_secs(1));
    fixture.limiter.tick(fixture.now);
    assert!(fixture.sent().contains("EVALSHA"));
    for _ in 0..9 {
        fixture.now = fixture.now.plus(Micros::from_millis(100));
        assert_eq!(fixture.tick(), []);
    }
    fixture.limiter.redis().handle_bytes(fixture.now, b"-NOSCRIPT No matching script.\r\n");
    let again = fixture.sent();
    assert!(again.contains("EVAL\r\n") && again.contains("weir:per_user:alice#concurrency"), "{again}");
}

#[test]
fn a_failed_release_is_retried_when_redis_is_available_again() {
    let mut fixture = one_in_flight();
    fixture.request(ALICE, "alice");
    fixture.redis_replies(A_SLOT);
    fixture.limiter.redis().handle_closed(fixture.now);
    fixture.limiter.done(fixture.now, ALICE);
    fixture.now = fixture.now.plus(Micros::from_millis(100));
    assert!(fixture.tick().contains(&Effect::OpenStream));
    fixture.limiter.redis().handle_bytes(fixture.now, PONG);
    assert!(fixture.sent().contains("ZREM"));
}
