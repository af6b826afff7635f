//! Bounds of the numbers of algorithms, and the errors of numbers beyond them.
//!
//! The configuration checks the same bounds, with errors that name the path.

use core::num::NonZeroU64;

use crate::units::Micros;

/// Most windows of one limit.
pub const MAX_WINDOWS: usize = 8;

/// Most tokens of a token bucket, and most tokens per fill interval: Envoy's `TokenBucket` counts in `uint32`.
pub const MAX_TOKENS: u64 = u32::MAX as u64;
/// Longest fill interval of a token bucket: 142 years.
pub const MAX_FILL_INTERVAL: Micros = Micros::from_secs(4_503_599_627);
/// Most tokens per microsecond.
pub(super) const MOST_TOKENS_PER_MICRO: u64 = 1 << 32;
/// Longest time for which a request may be held until its tokens exist.
pub const MAX_MAX_DELAY: Micros = Micros::from_secs(60);

/// Greatest limit of any window.
pub const MAX_LIMIT: u64 = 1 << 32;
/// Longest window: about 71 years, less than 2⁵¹ µs. Two of them and Redis' clock stay exact in Lua's doubles.
pub const MAX_WINDOW: Micros = Micros::from_secs(2_251_799_813);
/// Greatest limit of an exact sliding window, which lists each request: about 300 kB in Redis for each bucket.
pub const MAX_LOGGED: u64 = 10_000;
/// Farthest offset of a quota from UTC, in minutes: that of Kiribati. In the other direction the farthest is UTC-12.
pub const MAX_OFFSET_MINUTES: i32 = 14 * 60;

/// Shortest lease of a slot of a concurrency limit.
pub const MIN_SLOT_LEASE: Micros = Micros::from_secs(1);
/// Longest lease of a slot of a concurrency limit: a day.
pub const MAX_SLOT_LEASE: Micros = Micros::from_secs(86_400);

/// Most tokens that a worker leases ahead.
pub const MAX_LEASED: u64 = 1_000_000;
/// Shortest time for which leased tokens are valid.
pub const MIN_LEASE_TTL: Micros = Micros::from_millis(100);
/// Longest time for which leased tokens are valid; a lease may last twice as long.
pub const MAX_LEASE_TTL: Micros = Micros::from_secs(60);

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

/// Numbers that a token bucket cannot have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenBucketError {
    /// A rate above the greatest that Envoy's numbers can express.
    #[error("expected at most {MOST_TOKENS_PER_MICRO} tokens per µs, found {tokens} in {interval} µs", interval = .interval.0)]
    TooFast {
        /// Tokens per interval, as configured.
        tokens: u64,
        /// The interval, as configured.
        interval: Micros,
    },
    /// An empty bucket would take longer to fill than Lua's numbers can count.
    #[error("expected a bucket that fills within 142 years, found {capacity} tokens of {emission} µs each", emission = .emission.0)]
    TooSlow {
        /// The bucket's capacity, as configured.
        capacity: u64,
        /// The time for one token to arrive.
        emission: Micros,
    },
    /// An empty bucket would take longer to fill, together with the longest delay, than Lua's numbers can count; or at
    /// millions of tokens per microsecond, more tokens flow in meanwhile than Lua's numbers can count to 0.006 %.
    #[error("expected a delay within 142 years, and fewer tokens that flow in meanwhile, found {max_delay} µs", max_delay = .max_delay.0)]
    TooLong {
        /// The delay, as configured.
        max_delay: Micros,
    },
}

/// Returns `limit` if it is at most `max`.
pub(super) fn limit_within(limit: u64, max: u64) -> Result<u64, AlgorithmError> {
    if limit <= max { Ok(limit) } else { Err(AlgorithmError::Limit { max, found: limit }) }
}

/// Returns `window` in µs if it is 1 µs to [`MAX_WINDOW`].
pub(super) fn window_within(window: Micros) -> Result<NonZeroU64, AlgorithmError> {
    let bounded = if window <= MAX_WINDOW { NonZeroU64::new(window.0) } else { None };
    bounded.ok_or(AlgorithmError::Window { found: window })
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use crate::limit::{Concurrency, FixedWindow, Period, Quota, SlidingLog, SlidingWindow};

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
            "expected a window of 1 to 2251799813000000 µs, found 0 µs"
        );
        assert!(SlidingWindow::new(one, Micros(MAX_WINDOW.0 + 1)).is_err());
        assert_eq!(
            text(Quota::new(one, Period::Day, 841).unwrap_err()),
            "expected an offset from UTC of -840 to 840 minutes, found 841"
        );
        assert_eq!(
            text(Concurrency::new(one, Micros(1)).unwrap_err()),
            "expected a lease of 1000000 to 86400000000 µs, found 1 µs"
        );
    }
}
