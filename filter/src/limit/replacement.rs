//! Replacement window: a window that an operator has set in place of a limit's own.

use super::algorithm::{Algorithm, Concurrency, Kind, LeasedBucket, Quota, SlidingLog, TokenBucket};
use super::charge::{Charge, Charged};
use crate::units::Micros;

/// Unit of the numbers of windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Requests, or tokens of a limit without a charge: `max_requests`.
    Requests,
    /// Tokens that a limit charges: `max_tokens`.
    Tokens,
    /// Money that a limit charges: `max_usd`.
    NanoUsd,
}

impl Unit {
    /// Returns the unit of a limit with this charge.
    #[must_use]
    pub fn of(charge: Option<&Charge>) -> Self {
        match charge.map(|charge| charge.of) {
            None => Self::Requests,
            Some(Charged::Tokens(_)) => Self::Tokens,
            Some(Charged::Cost) => Self::NanoUsd,
        }
    }

    /// Name of the field with the number of a window.
    #[must_use]
    pub const fn field(self) -> &'static str {
        match self {
            Self::Requests => "max_requests",
            Self::Tokens => "max_tokens",
            Self::NanoUsd => "max_usd",
        }
    }
}

/// Window that replaces a limit's own window of its kind, while an override holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replacement {
    /// The algorithm by which the window admits.
    pub algorithm: Algorithm,
    /// Unit of its number. Of a token bucket and of a limit on requests in flight always [`Unit::Requests`].
    pub unit: Unit,
    /// Whether the override leaves the `mode`, the `utc_offset` or the `lease` to the window that it replaces.
    pub inherits: bool,
}

impl Replacement {
    /// Whether a limit of this unit can have the window. `max_requests` may also be the tokens that a limit charges.
    #[must_use]
    pub fn fits(&self, unit: Unit) -> bool {
        match (unit, self.unit) {
            (Unit::Tokens, Unit::Requests) => self.algorithm.kind() != Kind::Concurrency,
            (unit, own) => unit == own,
        }
    }

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
