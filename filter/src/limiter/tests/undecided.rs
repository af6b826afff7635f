//! Checks that Redis leaves undecided, since a key has another override than the worker has applied.

use core::num::NonZeroU64;

use super::*;
use crate::limit::{Algorithm, Algorithms, BucketCheck, LeaseRequest, LeasedBucket, Settlement, TokenBucket};
use crate::redis::Reply;
use crate::units::Tokens;

const MS: fn(u64) -> Micros = Micros::from_millis;

#[test]
fn all_checks_of_a_request_share_one_timeout() {
    let mut fixture = Fixture::new("", r#""overrides": {"refresh_interval": "3600s"},"#);
    fixture.connect();
    fixture.redis_replies(b"-ERR no page of overrides\r\n");
    let began = fixture.now;
    assert_eq!(fixture.request(ALICE, "alice"), Step::Wait);
    for times in 2..=8 {
        fixture.now = fixture.now.plus(MS(20));
        let text = format!(r#"{{"times": {times}}}"#);
        let mut effects = fixture.redis_replies(format!("*1\r\n${}\r\n{text}\r\n", text.len()).as_bytes());
        fixture.now = fixture.now.plus(MS(5));
        effects.extend(fixture.tick());
        if effects.iter().any(|effect| matches!(effect, Effect::Decide(ALICE, _))) {
            let wait = fixture.now.minus(began);
            assert!(wait > MS(50) && wait <= MS(100), "{wait:?}");
            return;
        }
    }
    panic!("not decided after {:?}", fixture.now.minus(began));
}

/// Check of a lease that settles 3 tokens used and 2 unused.
fn leased() -> BucketCheck {
    let bucket = TokenBucket::new(NonZeroU64::MIN, NonZeroU64::MIN, Micros::from_secs(1)).unwrap();
    let settled = Settlement { ends: Micros(7), used: Tokens(3), unused: Tokens(2) };
    let request = LeaseRequest { want: Tokens(5), settled: [settled, Settlement::default()] };
    let leased = LeasedBucket::new(bucket, Micros::from_secs(1)).unwrap().with_request(request);
    let plain = Algorithms::from(bucket).checks(0, b"weir:per_user:alice", Tokens(0), true).next().unwrap();
    BucketCheck { algorithm: Algorithm::LeasedBucket(leased), ..plain }
}

/// Redis has told the override of a key, and settled nothing.
#[test]
fn a_settlement_that_redis_leaves_undecided_is_reported_once_more_and_asks_for_no_tokens() {
    let mut fixture = Fixture::new("", r#""overrides": {"refresh_interval": "3600s"},"#);
    fixture.connect();
    fixture.redis_replies(b"-ERR no page of overrides\r\n");
    let check = leased();
    for is_repeated in [false, true] {
        let check = Check::new(vec![check.clone()], SlotOwner::default());
        let refill = LeaseRefill { check, sent_at: fixture.now, is_repeated };
        fixture.limiter.repeat_settlement(fixture.now, &refill);
        let sent = fixture.sent();
        assert_eq!(sent.contains(" 1000000 0 7 3 2\r\n"), !is_repeated, "{sent}");
    }
}

#[test]
fn a_malformed_override_of_a_key_is_counted_each_time_and_warned_of_each_ten_seconds() {
    let mut fixture = Fixture::new("", r#""overrides": {"refresh_interval": "3600s"},"#);
    fixture.connect();
    fixture.redis_replies(b"-ERR no page of overrides\r\n");
    fixture.counted();
    fixture.limiter.warnings = Warnings::new("redis");
    let began = fixture.now;
    for (nth, (at, warns)) in [(0, true), (9_999, false), (10_000, true), (19_999, false)].into_iter().enumerate() {
        fixture.now = began.plus(MS(at));
        fixture.request(ALICE, &format!("user {nth}"));
        let effects = fixture.redis_replies(b"*1\r\n$8\r\nnonsense\r\n");
        let warnings = effects.iter().filter(|effect| matches!(effect, Effect::Warn(_))).count();
        assert_eq!(warnings, usize::from(warns), "{at}: {effects:?}");
        assert!(fixture.counted().contains(&"weir.overrides.ignored 1".to_owned()));
        fixture.limiter.done(fixture.now, ALICE);
    }
}

#[test]
fn a_lease_whose_override_redis_tells_is_settled_again_by_the_other_numbers() {
    let mut fixture = Fixture::new("", r#""overrides": {"refresh_interval": "3600s"},"#);
    fixture.connect();
    fixture.redis_replies(b"-ERR no page of overrides\r\n");
    let refill = LeaseRefill {
        check: Check::new(vec![leased()], SlotOwner::default()),
        sent_at: fixture.now,
        is_repeated: false,
    };
    let ticket = fixture.limiter.background.ticket();
    fixture.limiter.lease_refills.insert(ticket.0, refill);
    let told = Reply::Array(vec![Reply::Bulk(br#"{"times": 2}"#.to_vec())]);
    fixture.limiter.on_background_reply(fixture.now, ticket, Ok(told));
    let sent = fixture.sent();
    assert!(sent.contains(" 1000000 0 7 3 2\r\n") && sent.contains("\r\n{\"times\": 2}\r\n"), "{sent}");
}

#[test]
fn a_check_tells_redis_the_override_that_it_applies() {
    let mut fixture = Fixture::new("", r#""overrides": {"refresh_interval": "3600s"},"#);
    fixture.connect();
    fixture.redis_replies(b"-ERR no page of overrides\r\n");
    fixture.request(ALICE, "alice");
    assert!(!fixture.sent().contains("times"), "none is known");
    fixture.limiter.redis().handle_bytes(fixture.now, b"*1\r\n$12\r\n{\"times\": 2}\r\n");
    core::iter::from_fn(|| fixture.limiter.poll(fixture.now)).for_each(drop);
    let again = fixture.sent();
    assert!(again.contains("\r\n{\"times\": 2}\r\n"), "{again}");
}

#[test]
fn a_check_that_is_asked_again_has_the_numbers_that_the_request_carries() {
    let json = r#"{"redis": {"cluster": "redis"}, "overrides": {"refresh_interval": "3600s"}, "limits": [{
        "name": "per_user", "descriptor": [{"request_header": {"name": "x-user-id"}}], "fixed_window": {
            "max_requests": {"request_header": {"name": "x-max", "default": 10, "max": 100}}, "window": "60s"}}]}"#;
    let config = config::parse(json.as_bytes(), &|_| None).unwrap();
    let mut fixture = Fixture { limiter: Limiter::new(config, 1), now: Micros::from_secs(1), sent: Vec::new() };
    fixture.connect();
    fixture.redis_replies(b"-ERR no page of overrides\r\n");
    let request = Request::default().header("x-user-id", "alice").header("x-max", "37");
    assert_eq!(fixture.limiter.request(fixture.now, ALICE, &request), Step::Wait);
    let first = fixture.sent();
    assert!(first.contains("\r\n37\r\n"), "{first}");
    fixture.limiter.redis().handle_bytes(fixture.now, b"*1\r\n$12\r\n{\"times\": 2}\r\n");
    core::iter::from_fn(|| fixture.limiter.poll(fixture.now)).for_each(drop);
    let again = fixture.sent();
    assert!(again.contains("\r\n74\r\n"), "{again}");
}

#[test]
fn a_request_is_left_undecided_eight_times_and_no_more() {
    let mut fixture = Fixture::new("", r#""overrides": {"refresh_interval": "3600s"},"#);
    fixture.connect();
    fixture.redis_replies(b"-ERR no page of overrides\r\n");
    assert_eq!(fixture.request(ALICE, "alice"), Step::Wait);
    for times in 11..=19 {
        let effects = fixture.redis_replies(format!("*1\r\n$13\r\n{{\"times\": {times}}}\r\n").as_bytes());
        let is_decided = effects.contains(&Effect::Decide(ALICE, Decision::Admit(Vec::new())));
        assert_eq!(is_decided, times == 19, "{times}: {effects:?}");
    }
}
