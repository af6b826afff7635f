use super::*;
use crate::descriptor::{Request, Source};
use crate::limit::{FixedWindow, SlidingLog};
use crate::units::Tokens;

const MINUTE: Micros = Micros::from_secs(60);

fn n(n: u64) -> NonZeroU64 {
    NonZeroU64::new(n).unwrap()
}

fn bucket(capacity: u64, fill: u64, interval: Micros) -> TokenBucket {
    TokenBucket::new(n(capacity), n(fill), interval).unwrap()
}

fn number(header: &str, default: u64) -> Number {
    Number::FromRequest(Box::new(RequestNumber { source: Source::request_header(header), default, max: 4_000_000_000 }))
}

/// The configured windows are those of a default of 0.
#[test]
fn a_default_of_zero_blocks_requests_without_a_number_or_with_one_that_is_too_great() {
    let year = Micros::from_secs(31_536_000);
    let numbers = WindowNumbers { window: 0, limit: number("x-max", 0), fill: Some((Number::Constant(1), year)) };
    assert_eq!(numbers.limit.shape(), 1);
    let windows = RequestWindows::new(Algorithms::from(bucket(1, 1, year)), vec![numbers]);
    assert_eq!(windows.defaults().blocking(), Some(0));
    assert_eq!(algorithms(&windows, Zero::Blocks, &[("x-max", "4000000000")]), [Algorithm::NoTokens]);
    assert_eq!(algorithms(&windows, Zero::Blocks, &[("x-max", "2")]), [Algorithm::TokenBucket(bucket(2, 1, year))]);
}

/// Windows of one bucket of 10 tokens, 10 an `interval`, both of which requests carry.
fn of_bucket(shape: Algorithm, interval: Micros) -> RequestWindows {
    let fill = Some((number("x-fill", 10), interval));
    let numbers = WindowNumbers { window: 0, limit: number("x-max", 10), fill };
    RequestWindows::new(Algorithms::new(&[shape]).unwrap(), vec![numbers])
}

fn algorithms(windows: &RequestWindows, zero: Zero, headers: &[(&str, &str)]) -> Vec<Algorithm> {
    let request = headers.iter().fold(Request::default(), |request, (name, value)| request.header(name, value));
    windows.with(&windows.read(&request), zero).algorithms().copied().collect()
}

#[test]
fn a_bucket_has_the_capacity_and_the_rate_that_a_request_carries() {
    let windows = of_bucket(Algorithm::TokenBucket(bucket(10, 10, MINUTE)), MINUTE);
    for (headers, expected) in [
        (&[][..], bucket(10, 10, MINUTE)),
        (&[("x-max", "500")], bucket(500, 10, MINUTE)),
        (&[("x-fill", "7")], bucket(10, 7, MINUTE)),
        (&[("x-max", "3"), ("x-fill", "900")], bucket(3, 900, MINUTE)),
    ] {
        assert_eq!(algorithms(&windows, Zero::Blocks, headers), [Algorithm::TokenBucket(expected)]);
    }
    assert_eq!(windows.defaults(), Algorithms::from(bucket(10, 10, MINUTE)));
}

#[test]
fn a_zero_blocks_unless_an_override_replaces_it() {
    let own = Algorithm::TokenBucket(bucket(10, 10, MINUTE));
    let windows = of_bucket(own, MINUTE);
    for zero in [("x-max", "0"), ("x-fill", "0")] {
        assert_eq!(algorithms(&windows, Zero::Blocks, &[zero]), [Algorithm::NoTokens]);
        assert_eq!(algorithms(&windows, Zero::IsReplaced, &[zero]), [own]);
    }
}

/// 4,000,000,000 tokens, 10 in a year, would take over 142 years.
#[test]
fn a_bucket_that_would_not_fill_in_time_has_the_defaults() {
    let year = Micros::from_secs(31_536_000);
    let own = Algorithm::TokenBucket(bucket(10, 10, year));
    let windows = of_bucket(own, year);
    assert_eq!(algorithms(&windows, Zero::Blocks, &[("x-max", "4000000000")]), [own]);
    assert_eq!(algorithms(&windows, Zero::Blocks, &[("x-max", "99999999999"), ("x-fill", "1")]), [own]);
}

#[test]
fn a_bucket_stays_shaped_and_leased() {
    let shaped = bucket(10, 10, MINUTE).with_max_delay(Micros::from_secs(5)).unwrap();
    let windows = of_bucket(Algorithm::TokenBucket(shaped), MINUTE);
    let expected = bucket(20, 10, MINUTE).with_max_delay(Micros::from_secs(5)).unwrap();
    assert_eq!(algorithms(&windows, Zero::Blocks, &[("x-max", "20")]), [Algorithm::TokenBucket(expected)]);
    let leased = |capacity| LeasedBucket::new(bucket(capacity, 10, MINUTE), Micros::from_secs(1)).unwrap();
    let windows = of_bucket(Algorithm::LeasedBucket(leased(10)), MINUTE);
    assert_eq!(algorithms(&windows, Zero::Blocks, &[("x-max", "20")]), [Algorithm::LeasedBucket(leased(20))]);
    assert_eq!(algorithms(&windows, Zero::Blocks, &[("x-max", "0")]), [Algorithm::NoTokens]);
}

#[test]
fn the_keys_are_the_same_whatever_a_request_carries() {
    let all = [
        Algorithm::TokenBucket(bucket(10, 10, MINUTE)),
        Algorithm::TokenBucket(bucket(10, 10, Micros::from_secs(1))),
        Algorithm::SlidingLog(SlidingLog::new(10_u64, MINUTE).unwrap()),
        Algorithm::FixedWindow(FixedWindow::new(10_u64, MINUTE).unwrap()),
    ];
    let numbers = |window: usize| WindowNumbers {
        window,
        limit: number("x-max", 10),
        fill: (window < 2).then(|| (number("x-fill", 10), MINUTE)),
    };
    let windows = RequestWindows::new(Algorithms::new(&all).unwrap(), (0..3).map(numbers).collect());
    let keys = |max: &str, fill: &str| -> Vec<Vec<u8>> {
        let request = Request::default().header("x-max", max).header("x-fill", fill);
        let own = windows.with(&windows.read(&request), Zero::Blocks);
        assert_eq!(own.algorithms().last(), Some(&all[3]), "requests carry no number of this one");
        own.checks(0, b"key", Tokens(1), true).map(|check| check.key).collect()
    };
    let expected = keys("10", "10");
    for (max, fill) in [("0", "10"), ("9000", "1"), ("1", "4000000000"), ("5", "0"), ("x", "x")] {
        assert_eq!(keys(max, fill), expected, "{max}, {fill}");
    }
}
