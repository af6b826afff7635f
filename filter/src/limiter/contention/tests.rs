#![allow(clippy::arithmetic_side_effects)]

use core::num::NonZeroU64;

use proptest::prelude::*;

use super::*;
use crate::limit::{Algorithms, Model, SlotOwner, TokenBucket, Verdict};

const SPAN: Micros = Micros::from_secs(1);

/// Buckets of 10 tokens, 1 a minute: one check for each key and cost.
fn check(of: &[(&str, u64)]) -> Check {
    let ten = NonZeroU64::new(10).unwrap();
    let bucket = TokenBucket::new(ten, NonZeroU64::MIN, Micros::from_secs(60)).unwrap();
    let check = of.iter().enumerate().map(|(limit, (key, cost))| {
        Algorithms::from(bucket).checks(limit, key.as_bytes(), Tokens(*cost), true).next().unwrap()
    });
    Check::new(check.collect(), SlotOwner::default())
}

fn counting() -> Contention {
    let mut contention = Contention::default();
    assert!(
        !contention.starts_counting(COUNTS_FROM - 1)
            && contention.starts_counting(COUNTS_FROM)
            && !contention.starts_counting(COUNTS_FROM)
    );
    contention
}

#[test]
fn few_checks_are_not_counted() {
    let mut contention = Contention::default();
    (0..100).for_each(|_| contention.enter(&check(&[("mallory", 1)])));
    assert!(contention.buckets.is_empty() && contention.full(&check(&[("mallory", 1)]), SPAN, None).is_none());
}

#[test]
fn a_bucket_is_full_once_undecided_checks_take_all_its_tokens() {
    let mut contention = counting();
    let mallory = check(&[("everybody", 0), ("mallory", 1)]);
    // 10 tokens, and one that is refilled within the span.
    for _ in 0..11 {
        assert_eq!(contention.full(&mallory, SPAN, None), None);
        contention.enter(&mallory);
    }
    assert_eq!(contention.full(&mallory, SPAN, None).unwrap().key, b"mallory");
    assert_eq!(contention.full(&check(&[("alice", 1)]), SPAN, None), None);
    assert_eq!((contention.rank(&mallory), contention.rank(&check(&[("alice", 1), ("everybody", 1)]))), (11, 0));
    contention.leave(&mallory, 10);
    assert_eq!(contention.full(&mallory, SPAN, None), None);
    contention.leave(&mallory, 0);
    assert!(contention.buckets.is_empty() && !contention.is_counting);
}

/// Redis denies checks with a small number, and they leave room for one with a greater number.
#[test]
fn undecided_checks_with_other_carried_numbers_do_not_fill_a_bucket() {
    let of = |capacity: u64| {
        let bucket = TokenBucket::new(NonZeroU64::new(capacity).unwrap(), NonZeroU64::MIN, Micros::from_secs(60));
        Check::new(
            Algorithms::from(bucket.unwrap()).checks(0, b"tenant", Tokens(1), true).collect(),
            SlotOwner::default(),
        )
    };
    let mut contention = Contention::new(true);
    assert!(contention.starts_counting(COUNTS_FROM));
    (0..50).for_each(|_| contention.enter(&of(5)));
    assert!(contention.full(&of(5), SPAN, None).is_some());
    assert!(contention.full(&of(40), SPAN, None).is_none());
    contention.enter(&of(40));
    assert!(contention.full(&of(5), SPAN, None).is_none(), "the numbers are mixed until all are decided");
}

#[test]
fn undecided_checks_of_a_higher_cost_leave_room_for_a_lower_cost() {
    let mut contention = counting();
    (0..20).for_each(|_| contention.enter(&check(&[("mallory", 9)])));
    assert!(contention.full(&check(&[("mallory", 9)]), SPAN, None).is_some());
    assert!(contention.full(&check(&[("mallory", 1)]), SPAN, None).is_none(), "Redis may deny all the others");
}

#[test]
fn a_check_that_is_decided_makes_room_for_its_own_cost_and_no_lower_one() {
    let mut contention = counting();
    (0..15).for_each(|_| contention.enter(&check(&[("mallory", 1)])));
    contention.enter(&check(&[("mallory", 9)]));
    contention.leave(&check(&[("mallory", 9)]), 15);
    assert!(contention.full(&check(&[("mallory", 1)]), SPAN, None).is_some());
}

#[test]
fn a_limit_in_shadow_mode_takes_nothing_and_denies_no_request() {
    let mut contention = counting();
    let mut shadow = check(&[("mallory", 1)]).buckets().next().unwrap().clone();
    shadow.enforced = false;
    let shadow = Check::new(vec![shadow], SlotOwner::default());
    (0..50).for_each(|_| contention.enter(&shadow));
    assert!(
        contention.full(&check(&[("mallory", 1)]), SPAN, None).is_none()
            && contention.full(&shadow, SPAN, None).is_none()
    );
    assert!(contention.flooded(&shadow).is_none());
    assert_eq!(contention.rank(&shadow), 50);
}

#[test]
fn a_key_floods_until_none_of_its_checks_is_undecided() {
    let mut contention = counting();
    let [mallory, alice] = [check(&[("mallory", 1)]), check(&[("alice", 1)])];
    (0..FLOOD - 1).for_each(|_| contention.enter(&mallory));
    assert!(contention.flooded(&mallory).is_none());
    contention.enter(&mallory);
    contention.enter(&alice);
    assert!(contention.flooded(&mallory).is_some() && contention.flooded(&alice).is_none());
    (0..FLOOD - 1).for_each(|_| contention.leave(&mallory, 99));
    assert!(contention.flooded(&mallory).is_some(), "the last of them is one of a flood");
    contention.leave(&mallory, 99);
    assert!(contention.flooded(&mallory).is_none());
}

#[test]
fn requests_of_one_cost_are_told_the_same() {
    let mut crowd = counting();
    let [one, two] = [check(&[("mallory", 1)]), check(&[("mallory", 2)])];
    let [one, two] = [&one, &two].map(|check| check.buckets().next().unwrap());
    (0..12).for_each(|_| crowd.enter(&check(&[("mallory", 1)])));
    let verdict = Verdict { now: SPAN, outcomes: vec![one.exhausted(Some(SPAN))], ..Verdict::default() };
    crowd.set_denial(one, &Rc::new(CachedDenial::of_one(SPAN, verdict)));
    assert!(crowd.denial(SPAN, one).is_some() && crowd.denial(SPAN, two).is_none());
    let until = SPAN.plus(Micros::from_secs(1));
    assert!(crowd.denial(until.minus(Micros(1)), one).is_some() && crowd.denial(until, one).is_none());
}

#[test]
fn a_request_that_costs_more_than_its_bucket_holds_is_asked_about_where_nothing_is_taken() {
    assert_eq!(counting().full(&check(&[("mallory", 12)]), SPAN, None), None);
}

#[test]
fn what_flows_in_until_a_request_is_decided_is_not_taken() {
    let mut crowd = counting();
    let mallory = check(&[("mallory", 1)]);
    (0..12).for_each(|_| crowd.enter(&mallory));
    assert!(crowd.full(&mallory, SPAN, None).is_some());
    assert_eq!(crowd.full(&mallory, Micros::from_secs(120), None), None);
}

#[test]
fn few_costs_are_told_apart_and_one_more_counts_as_the_next_higher() {
    let mut crowd = counting();
    (1..=9).for_each(|cost| crowd.enter(&check(&[("mallory", cost)])));
    let of_eight = check(&[("mallory", 8)]);
    let bucket = crowd.buckets.get(b"mallory").unwrap();
    assert_eq!(bucket.costs.len(), MAX_COSTS);
    assert_eq!(bucket.taken(of_eight.buckets().next().unwrap()), Tokens((1..8).sum()));
}

#[test]
fn checks_of_one_cost_are_counted_together() {
    let mut crowd = counting();
    (0..9).for_each(|_| crowd.enter(&check(&[("mallory", 2)])));
    assert_eq!(crowd.buckets.get(b"mallory").unwrap().costs, [(Tokens(2), Tokens(18))]);
}

proptest! {
    /// Redis denies each request that is denied without Redis, whatever the bucket holds and the requests cost.
    #[test]
    fn redis_denies_each_request_that_is_denied_without_redis(
        spent in 0_u64..=10, costs in prop::collection::vec((1_u64..14, any::<bool>()), 1..60), last in 1_u64..12,
    ) {
        let (mut contention, mut redis, now) = (counting(), Model::default(), Micros::from_secs(1 << 30));
        redis.decide(now, &check(&[("mallory", spent)]));
        let mut undecided = Vec::new();
        for (cost, leaves) in costs {
            let check = check(&[("mallory", cost)]);
            contention.enter(&check);
            undecided.push(check);
            // Redis has decided the check, and the worker has its reply.
            if leaves {
                let check = undecided.remove(0);
                redis.decide(now, &check);
                contention.leave(&check, 99);
            }
        }
        let last = check(&[("mallory", last)]);
        let is_full = contention.full(&last, SPAN, None).is_some();
        undecided.iter().for_each(|check| drop(redis.decide(now, check)));
        prop_assert!(!is_full || !redis.decide(now, &last).admitted);
    }
}

#[test]
fn a_bucket_whose_override_may_be_unknown_is_full_only_beyond_a_thousand_until_redis_decides() {
    let mallory = check(&[("mallory", 1)]);
    let mut contention = Contention::default();
    assert!(contention.starts_counting(COUNTS_FROM));
    (0..100).for_each(|_| contention.enter(&mallory));
    let now = Micros::from_secs(5);
    assert!(contention.full(&mallory, SPAN, None).is_some());
    assert!(contention.full(&mallory, SPAN, Some(now)).is_none());
    (100..1_000).for_each(|_| contention.enter(&mallory));
    assert!(contention.full(&mallory, SPAN, Some(now)).is_some());
    (500..1_000).for_each(|_| contention.leave(&mallory, 500));
    contention.decided(now, &mallory);
    assert!(contention.full(&mallory, SPAN, Some(now)).is_some());
    assert!(contention.full(&mallory, SPAN, Some(now.plus(DECISION_HOLDS))).is_none());
}

#[test]
fn a_lower_cost_is_counted_apart_from_a_higher_one() {
    let mut contention = counting();
    contention.enter(&check(&[("mallory", 9)]));
    (0..11).for_each(|_| contention.enter(&check(&[("mallory", 1)])));
    assert!(contention.full(&check(&[("mallory", 1)]), SPAN, None).is_some());
}

#[test]
fn neither_a_limit_in_shadow_mode_nor_one_of_which_nothing_is_taken_denies_a_request() {
    let mut contention = counting();
    (0..20).for_each(|_| contention.enter(&check(&[("mallory", 9), ("bob", 13)])));
    let mut shadow = check(&[("mallory", 9)]).buckets().next().unwrap().clone();
    shadow.enforced = false;
    assert_eq!(contention.full(&Check::new(vec![shadow], SlotOwner::default()), SPAN, None), None);
    assert_eq!(contention.full(&check(&[("bob", 12)]), SPAN, None), None, "Redis may deny all that cost more");
}
