//! Tests of the algorithms of a limit.

use core::num::NonZeroU64;

use insta::assert_snapshot;
use serde_json::{Value, json};

use super::{errors, limit, parsed, with};
use crate::limit::{
    Algorithm, Algorithms, Concurrency, FixedWindow, LeasedBucket, Period, Quota, SlidingLog, SlidingWindow,
    TokenBucket,
};
use crate::units::{Micros, Tokens};

/// Configuration of one limit, with `fields` in place of its token bucket.
fn with_fields(fields: Value) -> Value {
    let mut limit = limit();
    limit.as_object_mut().unwrap().remove("token_bucket");
    super::merge(&mut limit, fields);
    with(json!({"limits": [limit]}))
}

fn windows(fields: Value) -> Algorithms {
    parsed(&with_fields(fields)).limits.remove(0).windows
}

fn refused(fields: Value) -> String {
    errors(&with_fields(fields))
}

fn n(n: u64) -> NonZeroU64 {
    NonZeroU64::new(n).unwrap()
}

#[test]
fn each_algorithm_is_read_with_its_defaults() {
    let secs = Micros::from_secs;
    let approximate = SlidingWindow::new(n(50), secs(30)).map(Algorithm::SlidingWindow);
    let exact = SlidingLog::new(n(50), secs(30)).map(Algorithm::SlidingLog);
    let fixed = FixedWindow::new(n(5), secs(1)).map(Algorithm::FixedWindow);
    let month = Quota::new(n(1_000), Period::Month, 330).map(Algorithm::Quota);
    let utc_day = Quota::new(n(9), Period::Day, 0).map(Algorithm::Quota);
    let in_flight = Concurrency::new(n(10), secs(60)).map(Algorithm::Concurrency);
    let short = Concurrency::new(n(10), secs(5)).map(Algorithm::Concurrency);
    for (fields, algorithm) in [
        (json!({"sliding_window": {"max_requests": 50, "window": "30s"}}), approximate),
        (json!({"sliding_window": {"max_requests": 50, "window": "30s", "mode": "exact"}}), exact),
        (json!({"fixed_window": {"max_requests": 5, "window": "1s"}}), fixed),
        (json!({"quota": {"max_requests": 1000, "unit": "month", "utc_offset": "+05:30"}}), month),
        (json!({"quota": {"max_requests": 9, "unit": "day"}}), utc_day),
        (json!({"concurrency": {"max_requests": 10}}), in_flight),
        (json!({"concurrency": {"max_requests": 10, "lease": "5s"}}), short),
    ] {
        assert_eq!(windows(fields), Algorithms::new(&[algorithm.unwrap()]).unwrap());
    }
}

#[test]
fn a_limit_of_zero_blocks_every_request_for_all_algorithms() {
    let bucket = json!({"max_tokens": 0, "fill_interval": "60s"});
    for fields in [
        json!({"token_bucket": bucket}),
        json!({"token_bucket": {"max_tokens": 0.0, "tokens_per_fill": 5, "fill_interval": "60s"}, "max_delay": "1s"}),
        json!({"token_bucket": bucket, "lease": {"max": 20}}),
        json!({"sliding_window": {"max_requests": 0, "window": "30s"}}),
        json!({"sliding_window": {"max_requests": 0, "window": "30s", "mode": "exact"}}),
        json!({"fixed_window": {"max_requests": 0, "window": "1s"}}),
        json!({"quota": {"max_requests": 0, "unit": "month"}}),
        json!({"concurrency": {"max_requests": 0}}),
    ] {
        assert_eq!(windows(fields.clone()).blocking(), Some(0), "{fields}");
    }
    let second = json!({"windows": [{"quota": {"max_requests": 9, "unit": "day"}}, {"token_bucket": bucket}]});
    assert_eq!(windows(second).blocking(), Some(1));
}

#[test]
fn several_windows_are_kept_in_their_order() {
    let per_second = TokenBucket::new(n(10), n(10), Micros::from_secs(1)).unwrap();
    let per_day = Quota::new(n(1_000), Period::Day, 0).unwrap();
    let fields = json!({"windows": [
        {"token_bucket": {"max_tokens": 10, "tokens_per_fill": 10, "fill_interval": "1s"}},
        {"quota": {"max_requests": 1000, "unit": "day"}},
    ]});
    let expected = [Algorithm::TokenBucket(per_second), Algorithm::Quota(per_day)];
    assert_eq!(windows(fields), Algorithms::new(&expected).unwrap());
}

#[test]
fn a_delay_applies_to_the_token_bucket() {
    let fields = json!({"max_delay": "0.5s", "windows": [
        {"concurrency": {"max_requests": 3}},
        {"token_bucket": {"max_tokens": 1, "fill_interval": "1s"}},
    ]});
    assert_eq!(windows(fields).max_delay(), Micros::from_millis(500));
    assert_eq!(windows(json!({"quota": {"max_requests": 1, "unit": "day"}})).max_delay(), Micros::ZERO);
}

#[test]
fn a_limit_has_exactly_one_algorithm_or_a_list_of_windows() {
    let quota = json!({"max_requests": 1, "unit": "day"});
    assert_snapshot!(refused(json!({})), @"limits[0]: expected exactly one of token_bucket, sliding_window, fixed_window, quota, concurrency, windows, found nothing");
    assert_snapshot!(refused(json!({"quota": quota, "concurrency": {"max_requests": 1}})), @"limits[0]: expected exactly one of token_bucket, sliding_window, fixed_window, quota, concurrency, windows, found 2 of them");
    assert_snapshot!(refused(json!({"windows": []})), @"limits[0].windows: expected a list of 1 to 8 items, found a list of 0");
    assert_snapshot!(refused(json!({"windows": [{"windows": []}, {"quota": quota, "fixed_window": {}}]})), @"
    limits[0].windows[0].windows: unknown field, expected one of token_bucket, sliding_window, fixed_window, quota, concurrency
    limits[0].windows[1]: expected an object with exactly one of token_bucket, sliding_window, fixed_window, quota, concurrency, found an object
    ");
    assert_snapshot!(refused(json!({"windows": [{"quota": quota}, {"quota": quota}]})), @"limits[0].windows: expected windows of different kinds or lengths, found that 0 and 1 (from 0) are alike");
}

#[test]
fn numbers_out_of_bounds_are_refused_with_their_paths() {
    assert_snapshot!(refused(json!({"sliding_window": {"max_requests": 10_001, "window": "0s", "mode": "exact"}})), @r#"
    limits[0].sliding_window.max_requests: expected an integer from 0 to 10000, found 10001
    limits[0].sliding_window.window: expected a duration from "0.000001s" to "2251799813s", found "0s"
    "#);
    assert_snapshot!(refused(json!({"sliding_window": {"window": "60s", "mode": "precise"}})), @r#"
    limits[0].sliding_window.mode: expected "approximate" or "exact", found "precise"
    limits[0].sliding_window: expected exactly one of max_requests, max_tokens, max_usd, found nothing
    "#);
    assert_snapshot!(refused(json!({"fixed_window": {"max_requests": -1}})), @r#"
    limits[0].fixed_window.max_requests: expected an integer from 0 to 4294967296, found -1
    limits[0].fixed_window.window: expected a duration such as "60s", found nothing
    "#);
    assert_snapshot!(refused(json!({"quota": {"max_requests": 5, "unit": "fortnight", "utc_offset": "CET"}})), @r#"
    limits[0].quota.unit: expected "minute" or "hour" or "day" or "week" or "month" or "year", found "fortnight"
    limits[0].quota.utc_offset: expected an offset from UTC such as "+02:00", from "-14:00" to "+14:00", found "CET"
    "#);
    assert_snapshot!(refused(json!({"concurrency": {"max_requests": 5, "lease": "0.5s"}})), @r#"limits[0].concurrency.lease: expected a duration from "1s" to "86400s", found "0.5s""#);
}

#[test]
fn a_delay_needs_a_token_bucket_and_is_bounded() {
    let bucket = json!({"max_tokens": 1, "fill_interval": "1s"});
    assert_snapshot!(refused(json!({"max_delay": "61s", "token_bucket": bucket})), @r#"limits[0].max_delay: expected a duration from "0s" to "60s", found "61s""#);
    assert_snapshot!(refused(json!({"max_delay": "1s", "quota": {"max_requests": 1, "unit": "day"}})), @r#"limits[0].max_delay: expected a token_bucket beside max_delay, found "1s""#);
    let century = json!({"max_tokens": 1, "fill_interval": "4503599627s"});
    assert_snapshot!(refused(json!({"max_delay": "60s", "token_bucket": century})), @"limits[0].max_delay: expected a delay within 142 years, and fewer tokens that flow in meanwhile, found 60000000 µs");
}

#[test]
fn a_lease_needs_a_token_bucket_as_the_only_algorithm() {
    let bucket = json!({"max_tokens": 100, "tokens_per_fill": 100, "fill_interval": "1s"});
    let limit = parsed(&with_fields(json!({"token_bucket": bucket, "lease": {"max": 20}}))).limits.remove(0);
    let plain = TokenBucket::new(n(100), n(100), Micros::from_secs(1)).unwrap();
    let leased = LeasedBucket::new(plain, Micros::from_secs(1)).map(Algorithm::LeasedBucket).unwrap();
    assert_eq!((limit.windows, limit.max_lease), (Algorithms::new(&[leased]).unwrap(), Tokens(20)));

    assert_snapshot!(refused(json!({"token_bucket": bucket, "lease": {"ttl": "61s"}})), @r#"
    limits[0].lease.max: expected a number of tokens, found nothing
    limits[0].lease.ttl: expected a duration from "0.1s" to "60s", found "61s"
    "#);
    assert_snapshot!(refused(json!({"token_bucket": bucket, "lease": {"max": 5}, "max_delay": "1s"})), @"limits[0].lease: expected no delay where tokens are leased, found 1000000 µs");
    assert_snapshot!(refused(json!({"quota": {"max_requests": 1, "unit": "day"}, "lease": {"max": 5}})), @"limits[0].lease: expected a token_bucket alone beside lease, found an object");
}
