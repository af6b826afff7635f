//! Algorithms behind one enum.

use alloc::borrow::ToOwned;
use alloc::string::String;

use super::bucket_decision::BucketDecision;
use super::concurrency::Concurrency;
use super::fixed_window::FixedWindow;
use super::leased_bucket::LeasedBucket;
use super::quota::Quota;
use super::rate::Units;
use super::sliding_log::SlidingLog;
use super::sliding_window::SlidingWindow;
use super::token_bucket::{TokenBucket, TokenBucketError};
use crate::units::{Micros, Tokens};

/// The greatest limit of any window: Envoy counts tokens in `uint32`.
pub(super) const MAX_LIMIT: u64 = 1 << 32;
/// The longest window: 2⁵¹ µs, about 71 years. Two of them and Redis' clock stay exact in Lua's doubles.
pub(super) const MAX_WINDOW: Micros = Micros(1 << 51);

/// Algorithm of a bucket, with its configured numbers. The bucket's state is in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Token bucket: tokens flow in evenly, up to a burst.
    TokenBucket(TokenBucket),
    /// Token bucket of which workers may lease tokens ahead.
    LeasedBucket(LeasedBucket),
    /// Exact sliding window: a number of tokens in any window, by a log of all spends. For small limits.
    SlidingLog(SlidingLog),
    /// Approximate sliding window: a number of tokens in any window, estimated from two counters.
    SlidingWindow(SlidingWindow),
    /// Fixed window: a number of tokens in each of the windows that follow each other since 1970.
    FixedWindow(FixedWindow),
    /// Quota: a number of tokens in each calendar minute, hour, day, week, month or year.
    Quota(Quota),
    /// Concurrency limit: a number of requests in flight.
    Concurrency(Concurrency),
    /// Token bucket that never holds a token. Redis has no state of it.
    NoTokens,
}

/// Kind of an algorithm, as the configuration names it. An override replaces a window by one of the same kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Token bucket, with or without leases, and with or without tokens.
    TokenBucket,
    /// Sliding window, exact or approximate.
    SlidingWindow,
    /// Window of a fixed length.
    FixedWindow,
    /// Calendar period.
    Quota,
    /// Requests in flight.
    Concurrency,
}

impl Kind {
    /// The kind's name in configurations.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TokenBucket => "token_bucket",
            Self::SlidingWindow => "sliding_window",
            Self::FixedWindow => "fixed_window",
            Self::Quota => "quota",
            Self::Concurrency => "concurrency",
        }
    }
}

/// State of a bucket before the request, as the script returns it. Each algorithm defines the meaning of the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BucketState {
    /// Used part of the limit, in the unit of the algorithm's limit.
    pub used: u64,
    /// Two further results of the algorithm. Zero where it has none.
    pub more: [u64; 2],
}

/// Numbers that an algorithm cannot have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AlgorithmError {
    /// Numbers that a token bucket cannot have.
    #[error(transparent)]
    TokenBucket(#[from] TokenBucketError),
    /// A limit that is too large to be kept exactly.
    #[error("expected a limit of at most {max}, found {found}")]
    Limit {
        /// Greatest limit of the algorithm.
        max: u64,
        /// The configured limit.
        found: u64,
    },
    /// A window of no length, or one that is longer than Lua's numbers can count.
    #[error("expected a window of 1 to {max} µs, found {found} µs", max = MAX_WINDOW.0, found = .found.0)]
    Window {
        /// The configured window.
        found: Micros,
    },
    /// An offset that is farther from UTC than any place on earth.
    #[error("expected an offset from UTC of -840 to 840 minutes, found {found}")]
    Offset {
        /// The configured offset in minutes.
        found: i32,
    },
    /// A lease that is too short to be of use, or so long that a crashed proxy's slots or tokens stay taken for too
    /// long.
    #[error("expected a lease of {min} to {max} µs, found {found} µs", min = .min.0, max = .max.0, found = .found.0)]
    Lease {
        /// Shortest lease.
        min: Micros,
        /// Longest lease.
        max: Micros,
        /// The configured lease.
        found: Micros,
    },
    /// A lease of a bucket that delays requests: no token can be leased ahead of tokens that are spent before they
    /// exist.
    #[error("expected no delay where tokens are leased, found {found} µs", found = .found.0)]
    LeasedAndHeld {
        /// The configured delay.
        found: Micros,
    },
}

/// Arguments of the mixed script for one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arguments {
    /// The algorithm's letter in the script.
    pub(super) letter: &'static str,
    /// Cost of the request, in the unit of the limit.
    pub(super) cost: u64,
    /// Limit of the used part.
    pub(super) limit: u64,
    /// Two further arguments of the algorithm.
    pub(super) more: [i64; 2],
}

impl Algorithm {
    /// The algorithm's kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::TokenBucket(_) | Self::LeasedBucket(_) | Self::NoTokens => Kind::TokenBucket,
            Self::SlidingLog(_) | Self::SlidingWindow(_) => Kind::SlidingWindow,
            Self::FixedWindow(_) => Kind::FixedWindow,
            Self::Quota(_) => Kind::Quota,
            Self::Concurrency(_) => Kind::Concurrency,
        }
    }

    /// Whether the limit is zero: every request is denied, whatever it costs, without a call to Redis.
    #[must_use]
    pub fn admits_nothing(&self) -> bool {
        let limit = match self {
            Self::TokenBucket(_) | Self::LeasedBucket(_) => return false,
            Self::SlidingLog(log) => log.limit(),
            Self::SlidingWindow(sliding) => sliding.limit(),
            Self::FixedWindow(fixed) => fixed.limit(),
            Self::Quota(quota) => quota.limit(),
            Self::Concurrency(slots) => slots.max(),
            Self::NoTokens => Tokens(0),
        };
        limit == Tokens(0)
    }

    /// Tag of the state in Redis: two algorithms that would misread each other's state have different tags.
    ///
    /// The tag does not depend on the limit; it depends on the window's length, except for token buckets. It consists
    /// of letters, digits and signs; keys have a `#` before it.
    #[must_use]
    pub fn tag(&self) -> String {
        match self {
            Self::TokenBucket(_) | Self::LeasedBucket(_) => "token".to_owned(),
            Self::SlidingLog(log) => format!("log{}", log.window().0),
            Self::SlidingWindow(sliding) => format!("sliding{}", sliding.window().0),
            Self::FixedWindow(fixed) => format!("fixed{}", fixed.window().0),
            Self::Quota(quota) => format!("{}{}", quota.period().name(), quota.offset_minutes()),
            Self::Concurrency(_) => "concurrency".to_owned(),
            Self::NoTokens => "none".to_owned(),
        }
    }

    /// The token bucket, or the bucket from which tokens are leased. `None` for other algorithms.
    pub(super) fn token_bucket(&self) -> Option<&TokenBucket> {
        match self {
            Self::TokenBucket(bucket) => Some(bucket),
            Self::LeasedBucket(leased) => Some(leased.bucket()),
            _ => None,
        }
    }

    /// Returns the mixed script's arguments for a request of `cost` tokens.
    pub(super) fn arguments(&self, cost: Tokens) -> Arguments {
        match self {
            Self::TokenBucket(bucket) => bucket.arguments(cost),
            Self::LeasedBucket(leased) => leased.arguments(cost),
            Self::SlidingLog(log) => log.arguments(cost),
            Self::SlidingWindow(sliding) => sliding.arguments(cost),
            Self::FixedWindow(fixed) => fixed.arguments(cost),
            Self::Quota(quota) => quota.arguments(cost),
            Self::Concurrency(concurrency) => concurrency.arguments(cost),
            // A window of 1 µs and no tokens denies any cost above 0.
            Self::NoTokens => Arguments::of_count("f", Tokens(cost.0.max(1)), Tokens(0), [Micros(1), Micros::ZERO]),
        }
    }

    /// Decides a request of `cost` tokens, given the bucket's state at `now`.
    pub(super) fn decide(&self, now: Micros, state: BucketState, cost: Tokens) -> BucketDecision {
        match self {
            Self::TokenBucket(bucket) => bucket.decide(Units(state.used), cost),
            Self::LeasedBucket(leased) => leased.decide(now, state, cost),
            Self::SlidingLog(log) => log.decide(state, cost),
            Self::SlidingWindow(sliding) => sliding.decide(now, state.more, cost),
            Self::FixedWindow(fixed) => fixed.span(now).decide(now, fixed.limit(), state.used, cost),
            Self::Quota(quota) => quota.span(now).decide(now, quota.limit(), state.used, cost),
            Self::Concurrency(concurrency) => concurrency.decide(state.used, cost),
            Self::NoTokens => BucketDecision::NOTHING,
        }
    }
}

impl Arguments {
    /// Returns the arguments of an algorithm that counts tokens. A cost above the limit becomes the limit plus 1.
    pub(super) fn of_count(letter: &'static str, cost: Tokens, limit: Tokens, more: [Micros; 2]) -> Self {
        let cost = cost.0.min(limit.0.saturating_add(1));
        Self { letter, cost, limit: limit.0, more: more.map(|micros| signed(micros.0)) }
    }
}

/// Returns `number` as a signed integer. All numbers of this module are far below 2⁶³.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Returns `limit` if it is at most `max`.
pub(super) fn limit_within(limit: u64, max: u64) -> Result<u64, AlgorithmError> {
    if limit <= max { Ok(limit) } else { Err(AlgorithmError::Limit { max, found: limit }) }
}

/// Returns `window` in µs if it is 1 µs to [`MAX_WINDOW`].
pub(super) fn window_within(window: Micros) -> Result<core::num::NonZeroU64, AlgorithmError> {
    let bounded = if window <= MAX_WINDOW { core::num::NonZeroU64::new(window.0) } else { None };
    bounded.ok_or(AlgorithmError::Window { found: window })
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    #[test]
    fn numbers_beyond_bounds_are_refused_with_the_bounds() {
        let one = 1_u64;
        let text = |error: AlgorithmError| error.to_string();
        assert_eq!(
            text(SlidingLog::new(10_001_u64, Micros(1)).unwrap_err()),
            "expected a limit of at most 10000, found 10001"
        );
        assert_eq!(
            text(FixedWindow::new(one, Micros::ZERO).unwrap_err()),
            "expected a window of 1 to 2251799813685248 µs, found 0 µs"
        );
        assert!(SlidingWindow::new(one, Micros(MAX_WINDOW.0 + 1)).is_err());
        assert_eq!(
            text(Quota::new(one, super::super::Period::Day, 841).unwrap_err()),
            "expected an offset from UTC of -840 to 840 minutes, found 841"
        );
        assert_eq!(
            text(Concurrency::new(one, Micros(1)).unwrap_err()),
            "expected a lease of 1000000 to 86400000000 µs, found 1 µs"
        );
    }
}
