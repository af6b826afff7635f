//! Checks that Redis leaves undecided, since a key has another override than the worker has applied.

use core::num::NonZeroU64;

use super::*;
use crate::limit::{Algorithm, Algorithms, BucketCheck, LeaseRequest, LeasedBucket, Settlement, TokenBucket};
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

/// Redis has told the override of a key, and settled nothing.
#[test]
fn a_settlement_that_redis_leaves_undecided_is_reported_once_more_and_asks_for_no_tokens() {
    let mut fixture = Fixture::new("", r#""overrides": {"refresh_interval": "3600s"},"#);
    fixture.connect();
    fixture.redis_replies(b"-ERR no page of overrides\r\n");
    let bucket = TokenBucket::new(NonZeroU64::MIN, NonZeroU64::MIN, Micros::from_secs(1)).unwrap();
    let settled = Settlement { ends: Micros(7), used: Tokens(3), unused: Tokens(2) };
    let request = LeaseRequest { want: Tokens(5), settled: [settled, Settlement::default()] };
    let leased = LeasedBucket::new(bucket, Micros::from_secs(1)).unwrap().with_request(request);
    let plain = Algorithms::from(bucket).checks(0, b"weir:per_user:alice", Tokens(0), true).next().unwrap();
    let check = BucketCheck { algorithm: Algorithm::LeasedBucket(leased), ..plain };
    for is_repeated in [false, true] {
        let check = Check::new(vec![check.clone()], SlotOwner::default());
        let refill = LeaseRefill { check, sent_at: fixture.now, is_repeated };
        fixture.limiter.repeat_settlement(fixture.now, &refill);
        let sent = fixture.sent();
        assert_eq!(sent.contains(" 1000000 0 7 3 2\r\n"), !is_repeated, "{sent}");
    }
}
