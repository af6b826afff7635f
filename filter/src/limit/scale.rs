//! Scale: other numbers for all algorithms of a limit, whatever their kinds, while an override holds.

use core::num::NonZeroU64;

use super::algorithm::bounds::{MAX_LIMIT, MAX_TOKENS};
use super::algorithm::{Algorithm, LeasedBucket, TokenBucket};
use super::charge::MAX_AMOUNT;

/// Factor of 0 to 1,000, with at most six decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Factor {
    millionths: u64,
}

/// Numbers in place of those of a limit's algorithms: the capacity of a token bucket, and `max_requests` of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// This number. A token bucket keeps its rate.
    Max(u64),
    /// The configured numbers times this factor, rounded down, but to no less than 1, unless the factor is 0. The rate
    /// of a token bucket is multiplied, too.
    Times(Factor),
}

impl Factor {
    /// Greatest factor.
    pub const MAX: u64 = 1_000;
    const ONE: u64 = 1_000_000;

    /// Converts a number. `None` above [`MAX`](Self::MAX), below 0, and for more than six decimals.
    #[must_use]
    pub fn new(number: f64) -> Option<Self> {
        let millionths = number * Self::ONE as f64;
        // A number of six decimals is no double in general: the nearest one is less than this away.
        const INEXACT: f64 = 0.001;
        if !(0.0..=(Self::MAX * Self::ONE) as f64).contains(&millionths) {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the bounds above")]
        let whole = (millionths + 0.5) as u64;
        ((whole as f64 - millionths).abs() < INEXACT).then_some(Self { millionths: whole })
    }

    /// Returns the product of `number` and the factor, at most `most`.
    fn of(self, number: u64, most: u64) -> u64 {
        // Configured numbers are below 2⁵³, factors at most 2³⁰ millionths: their products are below 2⁶⁴.
        let [whole, rest] = [number / Self::ONE, number % Self::ONE].map(|part| part.saturating_mul(self.millionths));
        let product = whole.saturating_add(rest / Self::ONE);
        product.clamp(u64::from(self.millionths > 0 && number > 0), most)
    }
}

impl Scale {
    /// Returns `own` with other numbers. An algorithm that cannot have them is unchanged: a bucket of that capacity
    /// would take over 142 years to fill.
    #[must_use]
    pub fn applied_to(self, own: &Algorithm) -> Algorithm {
        let scaled = match own {
            Algorithm::Budget(budget) => match budget.algorithm() {
                Algorithm::TokenBucket(bucket) => {
                    self.bucket(&bucket).map(|to| budget.with(to).map_or(to, Algorithm::Budget))
                }
                window => own.with_limit(self.limit(window.limit().0, MAX_AMOUNT)).ok().flatten(),
            },
            Algorithm::TokenBucket(bucket) => self.bucket(bucket),
            Algorithm::LeasedBucket(leased) => match self.bucket(leased.bucket()) {
                Some(Algorithm::TokenBucket(bucket)) => {
                    LeasedBucket::new(bucket, leased.ttl()).ok().map(Algorithm::LeasedBucket)
                }
                other => other,
            },
            // Without tokens, no rate is known.
            Algorithm::NoTokens => None,
            window => window.with_limit(self.limit(window.limit().0, MAX_LIMIT)).ok().flatten(),
        };
        scaled.unwrap_or(*own)
    }

    fn limit(self, own: u64, most: u64) -> u64 {
        match self {
            Self::Max(max) => max.min(most),
            Self::Times(factor) => factor.of(own, most),
        }
    }

    fn bucket(self, own: &TokenBucket) -> Option<Algorithm> {
        let Some(capacity) = NonZeroU64::new(self.limit(own.capacity().0, MAX_TOKENS)) else {
            return Some(Algorithm::NoTokens);
        };
        let rate = match self {
            Self::Max(_) => own.rate(),
            Self::Times(factor) => own.rate().times(factor.millionths, Factor::ONE)?,
        };
        own.resized(capacity, rate).map(Algorithm::TokenBucket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::{Algorithms, Concurrency, FixedWindow, Period, Quota, SlidingLog, SlidingWindow};
    use crate::units::{Micros, Tokens};

    fn n(n: u64) -> NonZeroU64 {
        NonZeroU64::new(n).unwrap()
    }

    fn bucket(capacity: u64, tokens: u64, secs: u64) -> TokenBucket {
        TokenBucket::new(n(capacity), n(tokens), Micros::from_secs(secs)).unwrap()
    }

    fn times(factor: f64) -> Scale {
        Scale::Times(Factor::new(factor).unwrap())
    }

    #[test]
    fn a_factor_has_up_to_six_decimals() {
        for (number, millionths) in [
            (2.0, 2_000_000),
            (0.5, 500_000),
            (1.000_001, 1_000_001),
            (0.1, 100_000),
            (0.0, 0),
            (1_000.0, 1_000_000_000),
            (999.999_999, 999_999_999),
        ] {
            assert_eq!(Factor::new(number), Some(Factor { millionths }), "{number}");
        }
        for number in [-1.0, -0.000_001, 1_000.000_001, 0.000_000_1, 1.000_000_5, f64::NAN, f64::INFINITY] {
            assert_eq!(Factor::new(number), None, "{number}");
        }
    }

    #[test]
    fn a_token_bucket_has_another_capacity_or_another_rate_as_well() {
        let own = Algorithm::TokenBucket(bucket(20, 100, 60));
        assert_eq!(Scale::Max(5).applied_to(&own), Algorithm::TokenBucket(bucket(5, 100, 60)));
        assert_eq!(times(2.0).applied_to(&own), Algorithm::TokenBucket(bucket(40, 200, 60)));
        assert_eq!(times(0.5).applied_to(&own), Algorithm::TokenBucket(bucket(10, 50, 60)));
        assert_eq!(times(0.01).applied_to(&own), Algorithm::TokenBucket(bucket(1, 1, 60)));
        for nothing in [Scale::Max(0), times(0.0)] {
            assert_eq!(nothing.applied_to(&own), Algorithm::NoTokens);
        }
        let Algorithm::TokenBucket(most) = Scale::Max(u64::MAX).applied_to(&own) else { panic!("a token bucket") };
        assert_eq!(most.capacity(), Tokens(MAX_TOKENS));
        let slow = Algorithm::TokenBucket(bucket(1, 1, 4_000_000_000));
        assert_eq!(Scale::Max(10).applied_to(&slow), slow, "it would not fill within 142 years");
        assert_eq!(times(2.0).applied_to(&Algorithm::NoTokens), Algorithm::NoTokens);
    }

    #[test]
    fn a_bucket_stays_shaped_and_leased() {
        let shaped = bucket(20, 100, 60).with_max_delay(Micros::from_secs(9)).unwrap();
        let Algorithm::TokenBucket(scaled) = times(3.0).applied_to(&Algorithm::TokenBucket(shaped)) else { panic!() };
        assert_eq!((scaled.max_delay(), scaled.capacity()), (Micros::from_secs(9), Tokens(60)));
        let leased = LeasedBucket::new(bucket(20, 100, 60), Micros::from_secs(1)).unwrap();
        let then = LeasedBucket::new(bucket(40, 200, 60), Micros::from_secs(1)).unwrap();
        assert_eq!(times(2.0).applied_to(&Algorithm::LeasedBucket(leased)), Algorithm::LeasedBucket(then));
    }

    #[test]
    fn windows_of_every_kind_have_another_limit_and_keep_their_keys() {
        let secs = Micros::from_secs(60);
        let all = |limit: u64| {
            [
                Algorithm::SlidingLog(SlidingLog::new(limit, secs).unwrap()),
                Algorithm::SlidingWindow(SlidingWindow::new(limit, secs).unwrap()),
                Algorithm::FixedWindow(FixedWindow::new(limit, secs).unwrap()),
                Algorithm::Quota(Quota::new(limit, Period::Month, 330).unwrap()),
                Algorithm::Concurrency(Concurrency::new(limit, secs).unwrap()),
            ]
        };
        for (scale, then) in [(Scale::Max(7), 7), (times(1.5), 15), (times(0.01), 1), (times(0.0), 0)] {
            let own = Algorithms::new(&all(10)).unwrap();
            let keys = |windows: &Algorithms| -> Vec<Vec<u8>> {
                windows.checks(0, b"key", Tokens(1), true).map(|check| check.key).collect()
            };
            let scaled = own.scaled(scale);
            assert_eq!(scaled.algorithms().copied().collect::<Vec<_>>(), all(then));
            assert_eq!(keys(&scaled), keys(&own));
        }
    }

    #[test]
    fn a_large_limit_of_an_exact_window_is_estimated() {
        let own = Algorithms::new(&[Algorithm::SlidingLog(SlidingLog::new(50_u64, Micros(9)).unwrap())]).unwrap();
        let then = Algorithm::SlidingWindow(SlidingWindow::new(10_001_u64, Micros(9)).unwrap());
        let scaled = own.scaled(Scale::Max(10_001));
        assert_eq!(scaled.algorithms().collect::<Vec<_>>(), [&then]);
        let key = scaled.checks(0, b"key", Tokens(1), true).next().unwrap().key;
        assert_eq!(key, b"key#sliding9", "no algorithm reads the state of another");
    }
}
