//! Quantities that carry their unit in their type.

mod duration;
mod random;

use core::time::Duration;

pub use self::duration::{DurationError, Seconds};
pub use self::random::Random;

/// A span or an instant in microseconds. An instant counts from the epoch of the clock that it was read from.
///
/// Arithmetic saturates at 0 and at 584,000 years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Micros(pub u64);

impl Micros {
    /// A span of 0 µs.
    pub const ZERO: Self = Self(0);

    /// Converts `n` milliseconds.
    #[must_use]
    pub const fn from_millis(n: u64) -> Self {
        Self(n.saturating_mul(1_000))
    }

    /// Converts `n` seconds.
    #[must_use]
    pub const fn from_secs(n: u64) -> Self {
        Self(n.saturating_mul(1_000_000))
    }

    /// Parses a duration in protobuf's JSON form, `60s` or `0.05s`: whole seconds, then up to nine decimals; or whole
    /// numbers with the units d, h, m, s and ms, such as `15m` or `1h30m`.
    ///
    /// # Errors
    /// Where the text has another form, or is no whole number of microseconds.
    pub fn parse(text: &str) -> Result<Self, DurationError> {
        duration::parse(text)
    }

    /// Returns the sum, at most `u64::MAX`.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Returns the difference, 0 where `other` is greater.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// Returns the product, at most `u64::MAX`.
    #[must_use]
    pub const fn times(self, n: u64) -> Self {
        // On wasm, an overflow check is much slower than the multiplication: factors below 2³² need none.
        if (self.0 | n) >> 32 == 0 { Self(self.0.wrapping_mul(n)) } else { Self(self.0.saturating_mul(n)) }
    }

    /// Returns whole milliseconds, rounded up: a wait of this length is never too short.
    #[must_use]
    pub const fn to_millis_ceil(self) -> u64 {
        self.0.div_ceil(1_000)
    }

    /// Returns whole seconds, rounded up: a wait of this length is never too short.
    #[must_use]
    pub const fn to_secs_ceil(self) -> u64 {
        self.0.div_ceil(1_000_000)
    }
}

impl From<Micros> for Duration {
    fn from(micros: Micros) -> Self {
        Self::from_micros(micros.0)
    }
}

/// Tokens in a bucket, or the tokens that a request costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tokens(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_rounded_up_and_never_to_nothing() {
        assert_eq!(Micros(1).to_secs_ceil(), 1);
        assert_eq!(Micros(1_000_001).to_secs_ceil(), 2);
        assert_eq!(Micros(1).to_millis_ceil(), 1);
        assert_eq!(Micros::ZERO.to_secs_ceil(), 0);
    }

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(Micros(3).minus(Micros(5)), Micros::ZERO);
        assert_eq!(Micros(u64::MAX).plus(Micros(1)), Micros(u64::MAX));
        assert_eq!(Micros::from_secs(u64::MAX), Micros(u64::MAX));
    }
}
