use core::num::NonZeroU32;
use core::time::Duration;

use governor::clock::FakeRelativeClock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use proptest::prelude::*;

use super::*;

fn bucket(capacity: u64, tokens: u64, interval: Micros) -> Result<TokenBucket, TokenBucketError> {
    let nonzero = |n| NonZeroU64::new(n).expect("a test's bucket has tokens");
    TokenBucket::new(nonzero(capacity), nonzero(tokens), interval)
}

#[test]
fn a_rate_that_is_no_whole_number_of_microseconds_per_token_is_exact() {
    let thirds = bucket(3, 3, Micros::from_secs(1)).unwrap();
    assert_eq!((thirds.emission(), thirds.fill_time()), (Micros(333_334), Micros::from_secs(1)));
    let minute = bucket(60_000_000, 50_000_000, Micros::from_secs(60)).unwrap();
    assert_eq!(minute.fill_time(), Micros::from_secs(72));
    assert_eq!(minute.time_for(Tokens(50_000_000)), Micros::from_secs(60));
    let bytes = bucket(10_000_000, 10_000_000, Micros::from_secs(1)).unwrap();
    assert_eq!((bytes.fill_time(), bytes.time_for(Tokens(25))), (Micros::from_secs(1), Micros(3)));
}

#[test]
fn envoys_largest_numbers_are_exact_to_the_last_token() {
    let largest = bucket(u32::MAX.into(), u32::MAX.into(), Micros(1)).unwrap();
    assert_eq!(largest.remaining(largest.price(Tokens(7))), Tokens(u64::from(u32::MAX) - 7));
    assert!(bucket(u32::MAX.into(), 1, Micros(1 << 20)).is_ok());
    let odd = bucket(u32::MAX.into(), 4_294_967_291, Micros::from_secs(4_000_000_000)).unwrap();
    assert!(odd.fill_time() >= Micros::from_secs(4_000_000_003));
}

#[test]
fn a_delay_in_which_more_tokens_flow_in_than_can_be_counted_is_refused() {
    let fast = bucket(1, 1_000_000, Micros(1)).unwrap();
    assert!(fast.with_max_delay(Micros::from_secs(60)).is_ok());
    let odd = bucket(1, 1_000_000_007, Micros(999)).unwrap();
    assert!(matches!(odd.with_max_delay(Micros::from_secs(60)), Err(TokenBucketError::TooLong { .. })));
    let fastest = bucket(1, u32::MAX.into(), Micros(7)).unwrap();
    assert!(matches!(fastest.with_max_delay(Micros::from_secs(60)), Err(TokenBucketError::TooLong { .. })));
}

#[test]
fn rates_beyond_envoys_numbers_and_fill_times_beyond_lua_are_refused() {
    let too_fast = bucket(1, (1 << 32) + 1, Micros(1)).unwrap_err();
    assert_eq!(too_fast.to_string(), "expected at most 4294967296 tokens per µs, found 4294967297 in 1 µs");
    let too_slow = bucket(1 << 40, 1, Micros::from_secs(1)).unwrap_err();
    assert!(matches!(too_slow, TokenBucketError::TooSlow { .. }));
    assert!(bucket(u64::MAX, 1, Micros(u64::MAX)).is_err());
}

#[test]
fn a_cost_above_the_capacity_is_never_admitted_and_waiting_does_not_help() {
    let ten = bucket(10, 10, Micros::from_secs(1)).unwrap();
    for cost in [11, 12, u64::MAX] {
        assert!(!ten.admits(Units(0), Tokens(cost)));
        assert_eq!(ten.retry_after(Units(0), Tokens(cost)), None);
    }
    assert!(ten.admits(Units(0), Tokens(10)));
}

#[test]
fn retry_after_is_the_first_instant_that_admits() {
    let ten = bucket(10, 10, Micros::from_secs(1)).unwrap();
    // A token is 100,000 units.
    let empty = ten.full();
    let wait = ten.retry_after(empty, Tokens(3)).unwrap();
    assert_eq!(wait, Micros(300_000));
    assert!(ten.admits(Units(empty.0 - wait.0), Tokens(3)));
    assert!(!ten.admits(Units(empty.0 - wait.0 + 1), Tokens(3)));
}

#[test]
fn remaining_is_rounded_down() {
    let ten = bucket(10, 10, Micros::from_secs(1)).unwrap();
    assert_eq!(ten.remaining(Units(1)), Tokens(9));
    assert_eq!(ten.remaining(Units(0)), Tokens(10));
    assert_eq!(ten.remaining(Units(u64::MAX)), Tokens(0));
}

#[test]
fn a_request_whose_tokens_come_soon_enough_is_held_until_they_do() {
    let shaped = bucket(10, 10, Micros::from_secs(1)).unwrap().with_max_delay(Micros::from_secs(1)).unwrap();
    let empty = shaped.full();
    assert!(shaped.admits(empty, Tokens(10)));
    assert_eq!(shaped.delay(empty, Tokens(10)), Micros::from_secs(1));
    assert_eq!(shaped.delay(Units(300_000), Tokens(5)), Micros::ZERO);
    let queue_is_full = Units(empty.0 + 1_000_000);
    assert!(!shaped.admits(queue_is_full, Tokens(1)));
    assert_eq!(shaped.retry_after(queue_is_full, Tokens(1)), Some(Micros(100_000)));
    assert_eq!(shaped.remaining(queue_is_full), Tokens(0));
}

#[test]
fn holding_does_not_help_a_cost_above_the_capacity() {
    let shaped = bucket(10, 10, Micros::from_secs(1)).unwrap().with_max_delay(Micros::from_secs(60)).unwrap();
    assert!(!shaped.admits(Units(0), Tokens(11)));
    assert_eq!(shaped.retry_after(Units(0), Tokens(11)), None);
}

#[test]
fn a_delay_beyond_lua_is_refused() {
    let ten = bucket(10, 10, Micros::from_secs(1)).unwrap();
    assert!(matches!(ten.with_max_delay(Micros(1 << 52)), Err(TokenBucketError::TooLong { .. })));
    assert!(ten.with_max_delay(Micros(u64::MAX)).is_err());
}

type Governor = RateLimiter<NotKeyed, InMemoryState, FakeRelativeClock, NoOpMiddleware<Nanos>>;

proptest! {
    /// Same decisions as governor's GCRA, an independent implementation of the same definition.
    #[test]
    fn decides_as_governor_does(
        capacity in 1_u32..50,
        emission in 1_u64..3_000_000,
        history in proptest::collection::vec((0_u64..6_000_000, 1_u32..60), 1..200),
    ) {
        let ours = bucket(capacity.into(), 1, Micros(emission)).unwrap();
        let clock = FakeRelativeClock::default();
        let quota = Quota::with_period(Duration::from_micros(emission)).unwrap()
            .allow_burst(NonZeroU32::new(capacity).unwrap());
        let oracle: Governor = RateLimiter::direct_with_clock(quota, clock.clone());

        let mut lack = Units(0);
        for (pause, cost) in history {
            clock.advance(Duration::from_micros(pause));
            lack = Units(lack.0.saturating_sub(pause));
            let theirs = matches!(oracle.check_n(NonZeroU32::new(cost).unwrap()), Ok(Ok(())));
            let cost = Tokens(cost.into());
            prop_assert_eq!(ours.admits(lack, cost), theirs);
            if theirs {
                lack = ours.lack_after(lack, cost);
            }
        }
    }

    /// Requests that go on from a shaped bucket within any window keep to its rate, however they arrive.
    #[test]
    fn held_requests_leave_in_turn_and_no_faster_than_the_rate(
        capacity in 1_u64..10,
        emission in 1_u64..1_000,
        max_delay in 0_u64..5_000,
        history in proptest::collection::vec((0_u64..1_500, 1_u64..6), 1..100),
    ) {
        let shaped = bucket(capacity, 1, Micros(emission)).unwrap().with_max_delay(Micros(max_delay)).unwrap();
        let (mut now, mut full_at) = (Micros(1 << 40), None);
        let mut left: Vec<(u64, u64)> = Vec::new();
        for (pause, cost) in history {
            now = now.plus(Micros(pause));
            let lack = shaped.look(&mut full_at, now);
            if shaped.admits(lack, Tokens(cost)) {
                shaped.spend(&mut full_at, now, Tokens(cost));
                let delay = shaped.delay(lack, Tokens(cost));
                prop_assert!(delay.0 <= max_delay);
                left.push((now.plus(delay).0, cost));
            }
        }
        for (i, &(since, _)) in left.iter().enumerate() {
            let mut spent = 0;
            for &(then, cost) in &left[i..] {
                prop_assert!(then >= since, "in turn");
                spent += cost;
                prop_assert!(spent * emission <= capacity * emission + (then - since));
            }
        }
    }

    /// Same decisions as a bucket of exact fractions, at any rate.
    #[test]
    fn decides_as_a_bucket_of_fractions_does(
        capacity in 1_u64..100,
        tokens in 1_u64..1_000_000,
        interval in 1_u64..1_000_000,
        history in proptest::collection::vec((0_u64..50_000, 0_u64..110), 1..100),
    ) {
        let ours = bucket(capacity, tokens, Micros(interval)).unwrap();
        let (mut now, mut state) = (Micros(1 << 50), None);
        // Tokens times the interval.
        let (full, mut spent) = (u128::from(capacity) * u128::from(interval), 0_u128);
        for (pause, cost) in history {
            now = now.plus(Micros(pause));
            spent = spent.saturating_sub(u128::from(pause) * u128::from(tokens));
            let lack = ours.look(&mut state, now);
            let after = spent + u128::from(cost) * u128::from(interval);
            prop_assert_eq!(ours.admits(lack, Tokens(cost)), after <= full);
            prop_assert_eq!(u128::from(ours.remaining(lack).0), (full - spent) / u128::from(interval));
            let wait = after.saturating_sub(full).div_ceil(tokens.into());
            let expected = (cost <= capacity).then(|| Micros(wait.try_into().unwrap()));
            prop_assert_eq!(ours.retry_after(lack, Tokens(cost)), expected);
            if after <= full {
                ours.spend(&mut state, now, Tokens(cost));
                spent = after;
            }
        }
    }
}

#[test]
fn a_script_takes_the_units_of_a_token_as_negative_only_where_requests_are_delayed() {
    let ten = bucket(10, 10, Micros::from_secs(1)).unwrap();
    assert_eq!(ten.unit(), 100_000);
    assert_eq!(ten.with_max_delay(Micros(1)).unwrap().unit(), -100_000);
}
