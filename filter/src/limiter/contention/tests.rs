#![allow(clippy::arithmetic_side_effects)]

use core::num::NonZeroU64;

use proptest::prelude::*;

use super::*;
use crate::limit::{Algorithms, Model, SlotOwner, TokenBucket};

const SPAN: Micros = Micros::from_secs(1);

/// Ten tokens, one a minute, and a request of each key that costs so much.
fn check(of: &[(&str, u64)]) -> Check {
    let ten = NonZeroU64::new(10).unwrap();
    let bucket = TokenBucket::new(ten, NonZeroU64::MIN, Micros::from_secs(60)).unwrap();
    let check = of.iter().enumerate().map(|(limit, (key, cost))| {
        Algorithms::from(bucket).checks(limit, key.as_bytes(), Tokens(*cost), true).next().unwrap()
    });
    Check::new(check.collect(), SlotOwner::default())
}

fn counting() -> Contention {
    let mut crowd = Contention::default();
    assert!(!crowd.begins(COUNTS_FROM - 1) && crowd.begins(COUNTS_FROM) && !crowd.begins(COUNTS_FROM));
    crowd
}

#[test]
fn few_are_not_counted() {
    let mut crowd = Contention::default();
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
    let mut shadow = check(&[("mallory", 1)]).buckets().next().unwrap().clone();
    shadow.enforced = false;
    let shadow = Check::new(vec![shadow], SlotOwner::default());
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
    crowd.leave(&mallory, 99);
    assert!(crowd.flooded(&mallory).is_none());
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
