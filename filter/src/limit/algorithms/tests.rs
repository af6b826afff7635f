use core::num::NonZeroU64;

use super::*;
use crate::limit::{Concurrency, FixedWindow, LeasedBucket, Period, Quota, SlidingLog, SlidingWindow, Unit};

fn n(n: u64) -> NonZeroU64 {
    NonZeroU64::new(n).unwrap()
}

fn per_second(capacity: u64) -> Algorithm {
    Algorithm::TokenBucket(TokenBucket::new(n(capacity), n(10), Micros::from_secs(1)).unwrap())
}

fn quota(limit: u64, period: Period, offset: i32) -> Algorithm {
    Algorithm::Quota(Quota::new(limit, period, offset).unwrap())
}

fn keys(algorithms: &[Algorithm]) -> Vec<String> {
    let windows = Algorithms::new(algorithms).unwrap();
    windows.checks(0, b"key", Tokens(1), true).map(|check| String::from_utf8(check.key).unwrap()).collect()
}

#[test]
fn a_token_bucket_alone_has_the_limits_own_key() {
    assert_eq!(keys(&[per_second(10)]), ["key"]);
}

#[test]
fn every_other_bucket_has_its_algorithms_tag() {
    let secs = Micros::from_secs;
    assert_eq!(
        keys(&[
            per_second(10),
            quota(1_000, Period::Day, -90),
            Algorithm::SlidingLog(SlidingLog::new(n(5), secs(1)).unwrap()),
            Algorithm::SlidingWindow(SlidingWindow::new(n(5), secs(1)).unwrap()),
            Algorithm::FixedWindow(FixedWindow::new(n(5), secs(1)).unwrap()),
            Algorithm::Concurrency(Concurrency::new(n(5), secs(1)).unwrap()),
        ]),
        ["key#token", "key#day-90", "key#log1000000", "key#sliding1000000", "key#fixed1000000", "key#concurrency"]
    );
    assert_eq!(keys(&[quota(1_000, Period::Day, 0)]), ["key#day0"]);
}

#[test]
fn token_buckets_keep_their_suffixes_when_rates_change() {
    let rate =
        |tokens, secs| Algorithm::TokenBucket(TokenBucket::new(n(9), n(tokens), Micros::from_secs(secs)).unwrap());
    assert_eq!(keys(&[rate(10, 1), rate(100, 3_600)]), ["key#token2", "key#token"]);
    assert_eq!(keys(&[rate(20, 1), rate(150, 3_600)]), ["key#token2", "key#token"]);
    assert_eq!(keys(&[rate(100, 3_600), quota(9, Period::Day, 0)]), ["key#token", "key#day0"]);
    assert_eq!(keys(&[rate(7, 1), rate(5, 1), rate(6, 1)]), ["key#token3", "key#token", "key#token2"]);
    assert!(Algorithms::new(&[rate(10, 1), rate(20, 2)]).is_err(), "they differ in nothing but their capacities");
}

#[test]
fn a_leased_bucket_has_the_key_of_the_token_bucket() {
    let Algorithm::TokenBucket(bucket) = per_second(10) else { unreachable!("a token bucket") };
    let leased = LeasedBucket::new(bucket, Micros::from_secs(1)).unwrap();
    assert_eq!(keys(&[Algorithm::LeasedBucket(leased)]), ["key"]);
}

#[test]
fn the_order_of_windows_does_not_move_their_state() {
    let [minute, day] = [quota(10, Period::Minute, 0), quota(100, Period::Day, 0)];
    let (mut one, other) = (keys(&[minute, day]), keys(&[day, minute]));
    one.reverse();
    assert_eq!(one, other);
}

fn replacement(algorithm: Algorithm) -> Replacement {
    Replacement { algorithm, unit: Unit::Requests, inherits: false }
}

/// The algorithms while the replacements hold, and their keys.
fn overridden(algorithms: &[Algorithm], replacements: &[Replacement]) -> (Vec<Algorithm>, Vec<String>) {
    let windows = Algorithms::new(algorithms).unwrap().overridden(replacements);
    let keys = windows.checks(0, b"key", Tokens(1), true).map(|check| String::from_utf8(check.key).unwrap());
    (windows.algorithms().copied().collect(), keys.collect())
}

#[test]
fn an_override_changes_the_window_of_its_kind_and_keeps_all_other_windows_and_all_state() {
    let own = [quota(1_000, Period::Month, 60), per_second(10)];
    let (month, _) = (own[0], own[1]);
    let (set, keys_then) = overridden(&own, &[replacement(per_second(50))]);
    assert_eq!((set, keys_then), (vec![month, per_second(50)], keys(&own)));
    let (set, keys_then) = overridden(&own, &[replacement(quota(5, Period::Month, 60))]);
    assert_eq!((set, keys_then), (vec![quota(5, Period::Month, 60), per_second(10)], keys(&own)));
    let slower = TokenBucket::new(n(5), n(1), Micros::from_secs(60)).map(Algorithm::TokenBucket).unwrap();
    let (set, keys_then) = overridden(&own, &[replacement(slower), replacement(quota(7, Period::Month, 60))]);
    assert_eq!(set, [quota(7, Period::Month, 60), slower]);
    assert_eq!(keys_then, keys(&own), "another rate spends from the same bucket");
    assert_eq!(overridden(&[per_second(10)], &[replacement(slower)]), (vec![slower], vec!["key".to_owned()]));
}

#[test]
fn a_field_that_an_override_leaves_out_is_the_limits_own() {
    let inheriting = |algorithm| [Replacement { algorithm, unit: Unit::Requests, inherits: true }];
    let secs = Micros::from_secs;
    let slots = |max: u64, lease| Algorithm::Concurrency(Concurrency::new(max, secs(lease)).unwrap());
    let exact = |limit: u64| Algorithm::SlidingLog(SlidingLog::new(limit, secs(60)).unwrap());
    let approximate = |limit: u64| Algorithm::SlidingWindow(SlidingWindow::new(limit, secs(60)).unwrap());
    for (own, set, then) in [
        (quota(9, Period::Month, 60), quota(5, Period::Month, 0), quota(5, Period::Month, 60)),
        (quota(9, Period::Month, 60), quota(5, Period::Day, 0), quota(5, Period::Day, 60)),
        (slots(9, 5), slots(3, 60), slots(3, 5)),
        (exact(9), approximate(5), exact(5)),
        (exact(9), approximate(10_001), approximate(10_001)),
        (approximate(9), approximate(5), approximate(5)),
    ] {
        assert_eq!(overridden(&[own], &inheriting(set)).0, [then]);
        assert_eq!(overridden(&[own], &[replacement(set)]).0, [set]);
    }
}

#[test]
fn of_several_windows_of_a_kind_the_one_of_the_same_or_the_nearest_length_is_changed() {
    let [hour, day] = [quota(10, Period::Hour, 0), quota(100, Period::Day, 0)];
    assert_eq!(overridden(&[hour, day], &[replacement(quota(5, Period::Day, 0))]).0, [hour, quota(5, Period::Day, 0)]);
    let month = quota(500, Period::Month, 0);
    assert_eq!(overridden(&[hour, day], &[replacement(month)]).0, [hour, day, month], "none is removed");
    let per = |capacity, secs| {
        Algorithm::TokenBucket(TokenBucket::new(n(capacity), n(capacity), Micros::from_secs(secs)).unwrap())
    };
    let [second, hourly] = [per(10, 1), per(1_000, 3_600)];
    assert_eq!(overridden(&[second, hourly], &[replacement(per(50, 1))]).0, [per(50, 1), hourly]);
    assert_eq!(overridden(&[second, hourly], &[replacement(per(9_000, 3_600))]).0, [second, per(9_000, 3_600)]);
}

#[test]
fn a_window_of_a_kind_that_the_limit_does_not_have_is_added() {
    let slots = Algorithm::Concurrency(Concurrency::new(3_u64, Micros::from_secs(60)).unwrap());
    let (set, keys_then) = overridden(&[per_second(10)], &[replacement(slots)]);
    assert_eq!((set, keys_then), (vec![per_second(10), slots], vec!["key".into(), "key#concurrency".into()]));
    let (set, keys_then) = overridden(&[slots], &[replacement(per_second(10))]);
    assert_eq!(set, [slots, per_second(10)]);
    assert_eq!(keys_then, keys(&[slots, per_second(10)]), "where it would be if it were configured");
}

#[test]
fn an_override_of_a_rate_is_leased_and_shaped_as_the_limit_is() {
    let bucket = |capacity| TokenBucket::new(n(capacity), n(10), Micros::from_secs(1)).unwrap();
    let leased = |capacity| Algorithm::LeasedBucket(LeasedBucket::new(bucket(capacity), Micros::from_secs(1)).unwrap());
    let (set, keys_then) = overridden(&[leased(100)], &[replacement(per_second(50))]);
    assert_eq!((set, keys_then), (vec![leased(50)], keys(&[leased(100)])));
    let shaped = |capacity| Algorithm::TokenBucket(bucket(capacity).with_max_delay(Micros::from_secs(2)).unwrap());
    assert_eq!(overridden(&[shaped(10)], &[replacement(per_second(50))]).0, [shaped(50)]);
    let day = quota(5, Period::Day, 0);
    assert_eq!(overridden(&[day, shaped(10)], &[replacement(per_second(50))]).0, [day, shaped(50)]);
}

#[test]
fn a_window_of_zero_blocks_and_its_index_is_known() {
    let blocking = |algorithms: &[Algorithm]| Algorithms::new(algorithms).unwrap().blocking();
    assert_eq!(blocking(&[per_second(10), quota(1, Period::Day, 0)]), None);
    assert_eq!(blocking(&[per_second(10), quota(0, Period::Day, 0)]), Some(1));
    assert_eq!(blocking(&[Algorithm::NoTokens]), Some(0));
    let secs = Micros::from_secs;
    for zero in [
        SlidingLog::new(0_u64, secs(1)).map(Algorithm::SlidingLog).unwrap(),
        SlidingWindow::new(0_u64, secs(1)).map(Algorithm::SlidingWindow).unwrap(),
        FixedWindow::new(0_u64, secs(1)).map(Algorithm::FixedWindow).unwrap(),
        Concurrency::new(0_u64, secs(1)).map(Algorithm::Concurrency).unwrap(),
    ] {
        assert_eq!(blocking(&[zero]), Some(0), "{zero:?}");
        let check = Algorithms::new(&[zero]).unwrap().checks(0, b"key", Tokens(0), true).next().unwrap();
        let outcome = check.blocked(None);
        assert_eq!((outcome.admitted, outcome.capacity, outcome.remaining), (false, Tokens(0), Tokens(0)));
        assert_eq!((outcome.retry_after, outcome.reset), (None, Micros::ZERO));
    }
    let set =
        Algorithms::new(&[quota(0, Period::Day, 0)]).unwrap().overridden(&[replacement(quota(5, Period::Day, 0))]);
    assert_eq!(set.blocking(), None);
    let set = Algorithms::new(&[Algorithm::NoTokens]).unwrap().overridden(&[replacement(per_second(5))]);
    assert_eq!((set.blocking(), set), (None, Algorithms::new(&[per_second(5)]).unwrap()));
}

#[test]
fn windows_must_differ_in_more_than_their_limits() {
    let [hour, day, more] = [quota(10, Period::Hour, 0), quota(10, Period::Day, 0), quota(20, Period::Hour, 0)];
    let alike = Algorithms::new(&[hour, day, more]).unwrap_err();
    assert_eq!(
        alike.to_string(),
        "expected windows of different kinds or lengths, found that 0 and 2 (from 0) are alike"
    );
    assert_eq!(Algorithms::new(&[]).unwrap_err().to_string(), "expected 1 to 8 windows, found 0");
    assert!(Algorithms::new(&[hour; 9]).is_err());
}
