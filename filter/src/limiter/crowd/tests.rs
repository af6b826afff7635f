#![allow(clippy::arithmetic_side_effects)]

use core::num::NonZeroU64;

use proptest::prelude::*;

use super::*;
use crate::limit::{Holder, Model, TokenBucket, Verdict, Windows};

const SPAN: Micros = Micros::from_secs(1);

/// Ten tokens, one a minute, and a request of each key that costs so much.
fn check(of: &[(&str, u64)]) -> Check {
    let ten = NonZeroU64::new(10).unwrap();
    let bucket = TokenBucket::new(ten, NonZeroU64::MIN, Micros::from_secs(60)).unwrap();
    let asked = of.iter().enumerate().map(|(limit, (key, cost))| {
        Windows::from(bucket).asked(limit, key.as_bytes(), Tokens(*cost), true).next().unwrap()
    });
    Check::new(asked.collect(), Holder::default())
}

fn counting() -> Crowd {
    let mut crowd = Crowd::default();
    assert!(!crowd.begins(COUNTS_FROM - 1) && crowd.begins(COUNTS_FROM) && !crowd.begins(COUNTS_FROM));
    crowd
}

#[test]
fn few_are_not_counted() {
    let mut crowd = Crowd::default();
    (0..100).for_each(|_| crowd.enter(&check(&[("mallory", 1)])));
    assert!(crowd.buckets.is_empty() && crowd.full(&check(&[("mallory", 1)]), SPAN).is_none());
}

#[test]
fn a_bucket_is_full_once_all_that_it_holds_is_taken() {
    let mut crowd = counting();
    let mallory = check(&[("everybody", 0), ("mallory", 1)]);
    // And one that comes meanwhile.
    for _ in 0..11 {
        assert_eq!(crowd.full(&mallory, SPAN), None);
        crowd.enter(&mallory);
    }
    assert_eq!(crowd.full(&mallory, SPAN).unwrap().key, b"mallory");
    assert_eq!(crowd.full(&check(&[("alice", 1)]), SPAN), None);
    assert_eq!((crowd.rank(&mallory), crowd.rank(&check(&[("alice", 1), ("everybody", 1)]))), (11, 0));
    crowd.leave(&mallory, 10);
    assert_eq!(crowd.full(&mallory, SPAN), None);
    crowd.leave(&mallory, 0);
    assert!(crowd.buckets.is_empty() && !crowd.is_counting);
}

#[test]
fn those_that_cost_more_leave_room_for_those_that_cost_less() {
    let mut crowd = counting();
    (0..20).for_each(|_| crowd.enter(&check(&[("mallory", 9)])));
    assert!(crowd.full(&check(&[("mallory", 9)]), SPAN).is_some());
    assert!(crowd.full(&check(&[("mallory", 1)]), SPAN).is_none(), "Redis may deny all the others");
}

#[test]
fn a_shadow_takes_nothing_and_denies_nobody() {
    let mut crowd = counting();
    let mut shadow = check(&[("mallory", 1)]).asked().next().unwrap().clone();
    shadow.enforced = false;
    let shadow = Check::new(vec![shadow], Holder::default());
    (0..50).for_each(|_| crowd.enter(&shadow));
    assert!(crowd.full(&check(&[("mallory", 1)]), SPAN).is_none() && crowd.full(&shadow, SPAN).is_none());
    assert!(crowd.flooded(&shadow).is_none());
    assert_eq!(crowd.rank(&shadow), 50);
}

#[test]
fn a_key_floods_until_none_of_its_checks_is_undecided() {
    let mut crowd = counting();
    let [mallory, alice] = [check(&[("mallory", 1)]), check(&[("alice", 1)])];
    (0..FLOOD - 1).for_each(|_| crowd.enter(&mallory));
    assert!(crowd.flooded(&mallory).is_none());
    crowd.enter(&mallory);
    crowd.enter(&alice);
    assert!(crowd.flooded(&mallory).is_some() && crowd.flooded(&alice).is_none());
    (0..FLOOD - 1).for_each(|_| crowd.leave(&mallory, 99));
    assert!(crowd.flooded(&mallory).is_some(), "the last of them is one of a flood");
    crowd.enter(&mallory);
    assert!(crowd.flooded(&mallory).is_some(), "and so is one that comes meanwhile");
    (0..2).for_each(|_| crowd.leave(&mallory, 99));
    assert!(crowd.flooded(&mallory).is_none());
}

#[test]
fn requests_of_one_cost_are_told_the_same() {
    let mut crowd = counting();
    let [one, two] = [check(&[("mallory", 1)]), check(&[("mallory", 2)])];
    let [one, two] = [&one, &two].map(|check| check.asked().next().unwrap());
    (0..12).for_each(|_| crowd.enter(&check(&[("mallory", 1)])));
    let verdict = Verdict { admitted: false, now: SPAN, outcomes: vec![one.exhausted(Some(SPAN))] };
    crowd.say(one, &Rc::new(Said::of_one(SPAN, verdict)));
    assert!(crowd.said(SPAN, one).is_some() && crowd.said(SPAN, two).is_none());
}

#[test]
fn a_request_that_costs_more_than_its_bucket_holds_is_asked_about_where_nothing_is_taken() {
    assert_eq!(counting().full(&check(&[("mallory", 12)]), SPAN), None);
}

#[test]
fn what_flows_in_until_a_request_is_decided_is_not_taken() {
    let mut crowd = counting();
    let mallory = check(&[("mallory", 1)]);
    (0..12).for_each(|_| crowd.enter(&mallory));
    assert!(crowd.full(&mallory, SPAN).is_some());
    assert_eq!(crowd.full(&mallory, Micros::from_secs(120)), None);
}

#[test]
fn few_costs_are_told_apart_and_one_more_counts_as_the_next_higher() {
    let mut crowd = counting();
    (1..=9).for_each(|cost| crowd.enter(&check(&[("mallory", cost)])));
    let of_eight = check(&[("mallory", 8)]);
    let bucket = crowd.buckets.get(b"mallory").unwrap();
    assert_eq!(bucket.costs.len(), MAX_COSTS);
    assert_eq!(bucket.taken(of_eight.asked().next().unwrap()), Tokens((1..8).sum()));
}

proptest! {
    /// Whatever the bucket holds and the requests cost: who is denied without asking, Redis denies as well.
    #[test]
    fn whoever_is_denied_without_asking_redis_denies_as_well(
        spent in 0_u64..=10, costs in prop::collection::vec((1_u64..14, any::<bool>()), 1..60), last in 1_u64..12,
    ) {
        let (mut crowd, mut redis, now) = (counting(), Model::default(), Micros::from_secs(1 << 30));
        redis.decide(now, &check(&[("mallory", spent)]));
        let mut undecided = Vec::new();
        for (cost, leaves) in costs {
            let check = check(&[("mallory", cost)]);
            crowd.enter(&check);
            undecided.push(check);
            // Decided by Redis, and known to be.
            if leaves {
                let check = undecided.remove(0);
                redis.decide(now, &check);
                crowd.leave(&check, 99);
            }
        }
        let last = check(&[("mallory", last)]);
        let is_full = crowd.full(&last, SPAN).is_some();
        undecided.iter().for_each(|check| drop(redis.decide(now, check)));
        prop_assert!(!is_full || !redis.decide(now, &last).admitted);
    }
}
