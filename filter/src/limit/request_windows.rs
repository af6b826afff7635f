//! Windows of a limit whose numbers each request carries: the number of a plan in a verified claim *is* the limit.
//!
//! The keys of the buckets do not depend on the numbers: tokens spent under one number stay spent under another.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::num::NonZeroU64;

use super::algorithm::{Algorithm, LeasedBucket, Rate, TokenBucket};
use super::algorithms::Algorithms;
use crate::descriptor::{Attributes, RequestNumber};
use crate::units::Micros;

/// Windows of a limit, of which at least one has a number that requests carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestWindows {
    /// Windows without a limit of zero, which give the keys, the delays and the leases.
    shape: Algorithms,
    /// Numbers of some of the windows.
    numbers: Vec<WindowNumbers>,
}

/// Numbers of one window, of which at least one is carried by requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowNumbers {
    /// Index of the window.
    pub window: usize,
    /// `max_tokens` or `max_requests`.
    pub limit: Number,
    /// `tokens_per_fill` and `fill_interval` of a token bucket. `None` for other algorithms.
    pub fill: Option<(Number, Micros)>,
}

/// Number of the configuration, or one that requests carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Number {
    /// Number of the configuration.
    Constant(u64),
    /// Number that each request carries.
    FromRequest(Box<RequestNumber>),
}

/// Numbers of one request, in the order of a limit's [windows](RequestWindows) that have such numbers.
pub type RequestNumbers = Vec<WindowValues>;

/// Numbers of one request for one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowValues {
    limit: u64,
    /// Tokens per fill. 1 where there are none.
    fill: u64,
}

/// Effect of a number of 0 on a token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zero {
    /// The bucket denies every request.
    Blocks,
    /// The bucket has the numbers of the configuration, for an override to replace them.
    IsReplaced,
}

impl Number {
    /// Returns the number of a request that carries none.
    #[must_use]
    pub fn default(&self) -> u64 {
        match self {
            Self::Constant(number) => *number,
            Self::FromRequest(number) => number.default,
        }
    }

    /// Returns the default, but no less than 1 where requests carry the number.
    #[must_use]
    pub fn shape(&self) -> u64 {
        self.default().max(self.is_from_request().into())
    }

    /// Whether requests carry the number.
    #[must_use]
    pub fn is_from_request(&self) -> bool {
        matches!(self, Self::FromRequest(_))
    }

    fn read(&self, request: &dyn Attributes) -> u64 {
        match self {
            Self::Constant(number) => *number,
            Self::FromRequest(number) => number.read(request),
        }
    }
}

impl WindowNumbers {
    fn values(&self, of: &dyn Fn(&Number) -> u64) -> WindowValues {
        WindowValues { limit: of(&self.limit), fill: self.fill.as_ref().map_or(1, |(tokens, _)| of(tokens)) }
    }

    /// Returns `shape` with a request's values. A rate that Lua cannot count is the nearest slower one; a bucket that
    /// would not fill within 142 years has the defaults.
    fn applied_to(&self, shape: &Algorithm, values: WindowValues, zero: Zero) -> Algorithm {
        let with_values = match shape {
            Algorithm::TokenBucket(_) | Algorithm::LeasedBucket(_) if values.has_zero() => {
                return if zero == Zero::Blocks { Algorithm::NoTokens } else { *shape };
            }
            Algorithm::TokenBucket(bucket) => self.bucket(bucket, values).map(Algorithm::TokenBucket),
            Algorithm::LeasedBucket(leased) => {
                let bucket = self.bucket(leased.bucket(), values);
                bucket.and_then(|bucket| LeasedBucket::new(bucket, leased.ttl()).ok()).map(Algorithm::LeasedBucket)
            }
            window => window.with_limit(values.limit).ok().flatten(),
        };
        match with_values {
            Some(algorithm) => algorithm,
            None if zero == Zero::Blocks && self.values(&Number::default).has_zero() => Algorithm::NoTokens,
            None => *shape,
        }
    }

    /// Returns the bucket with a request's values. `None` where it cannot have them.
    fn bucket(&self, shape: &TokenBucket, values: WindowValues) -> Option<TokenBucket> {
        let (_, interval) = self.fill.as_ref()?;
        shape.resized(NonZeroU64::new(values.limit)?, Rate::new(NonZeroU64::new(values.fill)?, *interval)?)
    }
}

impl WindowValues {
    fn has_zero(self) -> bool {
        self.limit == 0 || self.fill == 0
    }
}

impl RequestWindows {
    /// Returns windows of the `shape`, with `numbers` for at least one of them.
    #[must_use]
    pub fn new(shape: Algorithms, numbers: Vec<WindowNumbers>) -> Self {
        Self { shape, numbers }
    }

    /// Returns the windows of a request that carries no numbers.
    #[must_use]
    pub fn defaults(&self) -> Algorithms {
        let values: RequestNumbers = self.numbers.iter().map(|numbers| numbers.values(&Number::default)).collect();
        self.with(&values, Zero::Blocks)
    }

    /// Returns the numbers that `request` carries.
    #[must_use]
    #[inline(never)]
    pub fn read(&self, request: &dyn Attributes) -> RequestNumbers {
        self.numbers.iter().map(|numbers| numbers.values(&|number| number.read(request))).collect()
    }

    /// Returns the windows of a request with these `values`.
    #[must_use]
    #[inline(never)]
    pub fn with(&self, values: &[WindowValues], zero: Zero) -> Algorithms {
        self.shape.resized(&|window, shape| {
            let own = self.numbers.iter().zip(values).find(|(numbers, _)| numbers.window == window);
            own.map_or(*shape, |(numbers, values)| numbers.applied_to(shape, *values, zero))
        })
    }
}

#[cfg(test)]
mod tests;
