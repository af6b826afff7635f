//! The algorithms, behind one face.

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

/// How a bucket admits: one algorithm and its numbers. Its state is in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Tokens flow in evenly, up to a burst.
    TokenBucket(TokenBucket),
    /// The same, and workers may take tokens ahead.
    LeasedBucket(LeasedBucket),
    /// So many in any window; exact, by a log of what was spent. For small limits.
    SlidingLog(SlidingLog),
    /// So many in a window that slides, estimated from two counters.
    SlidingWindow(SlidingWindow),
    /// So many in each of the windows that follow each other since 1970.
    FixedWindow(FixedWindow),
    /// So many in a calendar minute, hour, day, week, month or year.
    Quota(Quota),
    /// So many in flight.
    Concurrency(Concurrency),
    /// A token bucket that never holds a token. Redis keeps nothing of it.
    NoTokens,
}

/// Kind of an algorithm: the configuration's name for it. What a limit has at run time in its place is of the same kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Leased or not, and with tokens or without.
    TokenBucket,
    /// Exact or approximate.
    SlidingWindow,
    /// Of a fixed length.
    FixedWindow,
    /// By the calendar.
    Quota,
    /// Requests in flight.
    Concurrency,
}

impl Kind {
    /// Its name in configurations.
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

/// What Redis saw in a bucket before the request. What the numbers mean is the algorithm's affair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BucketState {
    /// How much of the limit is used, in the unit of the algorithm's limit.
    pub used: u64,
    /// What else it needs to know. Zero where it needs no more.
    pub more: [u64; 2],
}

/// Why an algorithm cannot have such numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AlgorithmError {
    /// Of a token bucket.
    #[error(transparent)]
    TokenBucket(#[from] TokenBucketError),
    /// A limit that is too large to be kept exactly.
    #[error("expected a limit of at most {max}, found {found}")]
    Limit {
        /// The most that the algorithm takes.
        max: u64,
        /// As configured.
        found: u64,
    },
    /// A window that is none, or is longer than Lua's numbers can count.
    #[error("expected a window of 1 to {max} µs, found {found} µs", max = MAX_WINDOW.0, found = .found.0)]
    Window {
        /// As configured.
        found: Micros,
    },
    /// No place on earth is that far from UTC.
    #[error("expected an offset from UTC of -840 to 840 minutes, found {found}")]
    Offset {
        /// Minutes, as configured.
        found: i32,
    },
    /// A lease that would end before it is of use, or keep what the dead held for too long.
    #[error("expected a lease of {min} to {max} µs, found {found} µs", min = .min.0, max = .max.0, found = .found.0)]
    Lease {
        /// The shortest.
        min: Micros,
        /// The longest.
        max: Micros,
        /// As configured.
        found: Micros,
    },
    /// Tokens cannot be taken ahead of those that are spent before they exist.
    #[error("expected no delay where tokens are leased, found {found} µs", found = .found.0)]
    LeasedAndHeld {
        /// As configured.
        found: Micros,
    },
}

/// A bucket's part of the mixed script's arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arguments {
    /// The letter by which the script knows the algorithm.
    pub(super) letter: &'static str,
    /// What is spent, in the unit of the limit.
    pub(super) cost: u64,
    /// How much may be used.
    pub(super) limit: u64,
    /// What else the algorithm needs to know.
    pub(super) more: [i64; 2],
}

impl Algorithm {
    /// Its kind.
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

    /// Whether its limit is zero: every request is denied, whatever it costs, and Redis is not asked.
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

    /// A name for the state that it keeps in Redis: no two algorithms that would misread each other's state have
    /// the same. Limits may grow and shrink under one name; windows may not, but for those of token buckets.
    ///
    /// Letters, digits and signs; no `#`, which keys set before it.
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

    /// The token bucket that it is, or that tokens are leased of.
    pub(super) fn token_bucket(&self) -> Option<&TokenBucket> {
        match self {
            Self::TokenBucket(bucket) => Some(bucket),
            Self::LeasedBucket(leased) => Some(leased.bucket()),
            _ => None,
        }
    }

    /// What the mixed script is told of a request that costs `cost`.
    pub(super) fn arguments(&self, cost: Tokens) -> Arguments {
        match self {
            Self::TokenBucket(bucket) => bucket.arguments(cost),
            Self::LeasedBucket(leased) => leased.arguments(cost),
            Self::SlidingLog(log) => log.arguments(cost),
            Self::SlidingWindow(sliding) => sliding.arguments(cost),
            Self::FixedWindow(fixed) => fixed.arguments(cost),
            Self::Quota(quota) => quota.arguments(cost),
            Self::Concurrency(concurrency) => concurrency.arguments(cost),
            // As of a window that holds none.
            Self::NoTokens => Arguments::of_count("f", Tokens(cost.0.max(1)), Tokens(0), [Micros(1), Micros::ZERO]),
        }
    }

    /// What it says about a request that costs `cost`, given what Redis saw at `now`.
    pub(super) fn decide(&self, now: Micros, seen: BucketState, cost: Tokens) -> BucketDecision {
        match self {
            Self::TokenBucket(bucket) => bucket.decide(Units(seen.used), cost),
            Self::LeasedBucket(leased) => leased.decide(now, seen, cost),
            Self::SlidingLog(log) => log.decide(seen, cost),
            Self::SlidingWindow(sliding) => sliding.decide(now, seen.more, cost),
            Self::FixedWindow(fixed) => fixed.span(now).decide(now, fixed.limit(), seen.used, cost),
            Self::Quota(quota) => quota.span(now).decide(now, quota.limit(), seen.used, cost),
            Self::Concurrency(concurrency) => concurrency.decide(seen.used, cost),
            Self::NoTokens => BucketDecision::NOTHING,
        }
    }
}

impl Arguments {
    /// What a script is told of a count: a cost beyond the limit is told as just beyond, however far it is.
    pub(super) fn of_count(letter: &'static str, cost: Tokens, limit: Tokens, more: [Micros; 2]) -> Self {
        let cost = cost.0.min(limit.0.saturating_add(1));
        Self { letter, cost, limit: limit.0, more: more.map(|micros| signed(micros.0)) }
    }
}

/// Every number here is far below 2⁶³.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A limit within `max`.
pub(super) fn limit_within(limit: u64, max: u64) -> Result<u64, AlgorithmError> {
    if limit <= max { Ok(limit) } else { Err(AlgorithmError::Limit { max, found: limit }) }
}

/// A window within bounds, in whole microseconds.
pub(super) fn window_within(window: Micros) -> Result<core::num::NonZeroU64, AlgorithmError> {
    let bounded = if window <= MAX_WINDOW { core::num::NonZeroU64::new(window.0) } else { None };
    bounded.ok_or(AlgorithmError::Window { found: window })
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    #[test]
    fn numbers_beyond_bounds_are_refused_in_words() {
        let one = 1_u64;
        let said = |error: AlgorithmError| error.to_string();
        assert_eq!(
            said(SlidingLog::new(10_001_u64, Micros(1)).unwrap_err()),
            "expected a limit of at most 10000, found 10001"
        );
        assert_eq!(
            said(FixedWindow::new(one, Micros::ZERO).unwrap_err()),
            "expected a window of 1 to 2251799813685248 µs, found 0 µs"
        );
        assert!(SlidingWindow::new(one, Micros(MAX_WINDOW.0 + 1)).is_err());
        assert_eq!(
            said(Quota::new(one, super::super::Period::Day, 841).unwrap_err()),
            "expected an offset from UTC of -840 to 840 minutes, found 841"
        );
        assert_eq!(
            said(Concurrency::new(one, Micros(1)).unwrap_err()),
            "expected a lease of 1000000 to 86400000000 µs, found 1 µs"
        );
    }
}
