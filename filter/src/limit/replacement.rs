//! Replacement window: a window that an operator has set in place of a limit's own.

use super::algorithm::{Algorithm, Concurrency, LeasedBucket, Quota, SlidingLog, TokenBucket};
use crate::units::Micros;

/// Window that replaces a limit's own window of its kind, while an override holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replacement {
    /// The algorithm by which the window admits.
    pub algorithm: Algorithm,
    /// Whether the override leaves the `mode`, the `utc_offset` or the `lease` to the window that it replaces.
    pub inherits: bool,
}

impl Replacement {
    /// Returns the window in place of `own`, which is of the same kind. The window is shaped and leased as the limit
    /// is.
    #[inline(never)]
    pub(super) fn in_place_of(&self, own: &Algorithm, max_delay: Micros) -> Algorithm {
        if let Algorithm::Budget(budget) = own {
            let algorithm = self.in_place_of(&budget.algorithm(), Micros::ZERO);
            return budget.with(algorithm).map_or(algorithm, Algorithm::Budget);
        }
        let algorithm = match (self.algorithm, own) {
            (Algorithm::TokenBucket(bucket), Algorithm::LeasedBucket(leased)) => {
                LeasedBucket::new(bucket, leased.ttl()).ok().map(Algorithm::LeasedBucket)
            }
            (Algorithm::TokenBucket(bucket), _) => Some(shaped(bucket, max_delay)),
            (Algorithm::SlidingWindow(sliding), Algorithm::SlidingLog(_)) if self.inherits => {
                SlidingLog::new(sliding.limit().0, sliding.window()).ok().map(Algorithm::SlidingLog)
            }
            (Algorithm::Quota(quota), Algorithm::Quota(own)) if self.inherits => {
                Quota::of_amounts(quota.limit().0, quota.period(), own.offset_minutes()).ok().map(Algorithm::Quota)
            }
            (Algorithm::Concurrency(slots), Algorithm::Concurrency(own)) if self.inherits => {
                Concurrency::new(slots.max().0, own.lease()).ok().map(Algorithm::Concurrency)
            }
            _ => None,
        };
        // A limit above the maximum of a sliding log is estimated instead.
        algorithm.unwrap_or(self.algorithm)
    }
}

/// Returns the bucket with `max_delay`, or unshaped where its rate does not allow that delay.
fn shaped(bucket: TokenBucket, max_delay: Micros) -> Algorithm {
    Algorithm::TokenBucket(bucket.with_max_delay(max_delay).unwrap_or(bucket))
}
