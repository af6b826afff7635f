//! Rate of a token bucket, as a ratio of whole numbers, and the units in which its level is counted.
//!
//! Units are small enough that a token has a whole number of them, and that a whole number of them flows in per
//! microsecond: at 100 tokens a minute a token is 600,000 units, 1 of which flows in per µs; at 50 million tokens a
//! minute a token is 6 units, 5 of which flow in per µs.

use core::num::NonZeroU64;

use super::bounds::MOST_TOKENS_PER_MICRO;
use crate::units::{Micros, Tokens};

/// Most units that Lua counts: its numbers are doubles, and sums of two such counts stay exact.
pub(super) const MOST_UNITS: u64 = 1 << 52;
/// Most units that flow in per microsecond: scripts get four times that number.
const MOST_PER_MICRO: u64 = 1 << 50;
/// Tolerance of rates: at most one part of 2¹⁴, or 0.006 %, slower than configured is as good as exact.
const TOLERATED_BITS: u32 = 14;

/// Parts of a token; see [`Rate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Units(pub u64);

/// Rate at which tokens flow in: [`per_micro`](Self::per_micro) units per microsecond, of which
/// [`per_token`](Self::per_token) are a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    per_token: NonZeroU64,
    per_micro: NonZeroU64,
}

impl Rate {
    /// Returns the rate of `tokens` per `interval`, in lowest terms. `None` above 2³² tokens per microsecond, and where
    /// `interval` is zero.
    pub(in crate::limit) fn new(tokens: NonZeroU64, interval: Micros) -> Option<Self> {
        let interval = NonZeroU64::new(interval.0)?;
        let divisor = greatest_common_divisor(tokens, interval);
        let rate = Self {
            per_token: NonZeroU64::new(interval.get().checked_div(divisor)?)?,
            per_micro: NonZeroU64::new(tokens.get().checked_div(divisor)?)?,
        };
        let most = u128::from(rate.per_token.get()).wrapping_mul(MOST_TOKENS_PER_MICRO.into());
        (u128::from(rate.per_micro.get()) <= most).then_some(rate)
    }

    /// Returns the rate of a script's arguments, as they are. `None` where one of them is zero.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn of_units(per_token: u64, per_micro: u64) -> Option<Self> {
        Some(Self { per_token: NonZeroU64::new(per_token)?, per_micro: NonZeroU64::new(per_micro)? })
    }

    /// Returns this rate times `numerator / denominator`. `None` where the product is zero or above 2³² tokens per
    /// microsecond.
    pub(in crate::limit) fn times(&self, numerator: u64, denominator: u64) -> Option<Self> {
        let [numerator, denominator] = [numerator, denominator].map(NonZeroU64::new);
        let divisor = greatest_common_divisor(numerator?, denominator?);
        let product = |own: NonZeroU64, n: u64| u128::from(own.get()).checked_mul(n.checked_div(divisor)?.into());
        let (mut micro, mut token) =
            (product(self.per_micro, numerator?.get())?, product(self.per_token, denominator?.get())?);
        // Terms of over 63 bits lose their last bits: less than one part of 2⁵⁰.
        while micro.max(token) > i64::MAX.unsigned_abs().into() {
            (micro, token) = (micro.wrapping_shr(1), token.wrapping_shr(1).saturating_add(token & 1));
        }
        let [micro, token] = [micro, token].map(|term| u64::try_from(term).ok().and_then(NonZeroU64::new));
        Self::new(micro?, Micros(token?.get()))
    }

    /// Units of a token. ≥ 1.
    #[must_use]
    pub fn per_token(&self) -> u64 {
        self.per_token.get()
    }

    /// Units that flow in per microsecond. ≥ 1.
    #[must_use]
    pub fn per_micro(&self) -> u64 {
        self.per_micro.get()
    }

    /// Units of `tokens` tokens.
    pub(super) fn units(&self, tokens: Tokens) -> Units {
        Units(tokens.0.saturating_mul(self.per_token.get()))
    }

    /// Time in which `units` flow in, rounded up.
    pub(in crate::limit) fn time_for(&self, units: Units) -> Micros {
        Micros(units.0.div_ceil(self.per_micro.get()))
    }

    /// Whether this rate is faster than `other`.
    pub(in crate::limit) fn is_faster_than(&self, other: &Self) -> bool {
        let [own, others] = self.cross_products(other);
        own > others
    }

    /// Returns the fastest rate, at most this rate, at which Lua can count the units of `capacity` tokens and of the
    /// tokens that flow in within `max_delay`. `None` where no rate is slow enough.
    pub(super) fn countable(&self, capacity: Tokens, max_delay: Micros) -> Option<Self> {
        // Products of two numbers of 64 bits never overflow.
        let [token, micro] = [self.per_token, self.per_micro].map(|n| u128::from(n.get()));
        let [capacity, delay, most] = [capacity.0, max_delay.0, MOST_UNITS].map(u128::from);
        let room = capacity.wrapping_mul(token).saturating_add(delay.wrapping_mul(micro));
        if room <= most && micro <= MOST_PER_MICRO.into() {
            return Some(*self);
        }
        // `capacity` units less: rounding up gives each token at most one unit more.
        let fits = quotient(most.saturating_sub(capacity).wrapping_mul(micro), room).min(MOST_PER_MICRO.into());
        let rounded_up = token.wrapping_mul(fits).saturating_add(micro.saturating_sub(1));
        let slower = |n: u128| NonZeroU64::new(u64::try_from(n).ok()?);
        Some(Self { per_token: slower(quotient(rounded_up, micro))?, per_micro: slower(fits)? })
    }

    /// Whether this is slower than `other` by more than 0.006 %.
    pub(super) fn is_noticeably_slower_than(&self, other: &Self) -> bool {
        let [own, others] = self.cross_products(other);
        others.saturating_sub(own) > others.wrapping_shr(TOLERATED_BITS)
    }

    /// Both rates with one denominator: `[self, other]`.
    fn cross_products(&self, other: &Self) -> [u128; 2] {
        let product = |micro: NonZeroU64, token: NonZeroU64| u128::from(micro.get()).wrapping_mul(token.get().into());
        [product(self.per_micro, other.per_token), product(other.per_micro, self.per_token)]
    }
}

/// Returns `number / divisor`, rounded down, bit by bit: a 128-bit division would add more than a kilobyte of code, and
/// no request needs it.
pub(super) fn quotient(number: u128, divisor: u128) -> u128 {
    let (mut quotient, mut rest) = (0_u128, 0_u128);
    for bit in (0..u128::BITS).rev() {
        rest = rest.wrapping_shl(1) | (number.wrapping_shr(bit) & 1);
        quotient = quotient.wrapping_shl(1);
        if let Some(left) = rest.checked_sub(divisor) {
            (rest, quotient) = (left, quotient | 1);
        }
    }
    quotient
}

fn greatest_common_divisor(one: NonZeroU64, other: NonZeroU64) -> u64 {
    let (mut divisor, mut rest) = (one.get(), other.get());
    while let Some(next) = divisor.checked_rem(rest) {
        (divisor, rest) = (rest, next);
    }
    divisor
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(tokens: u64, micros: u64) -> Rate {
        Rate::new(NonZeroU64::new(tokens).unwrap(), Micros(micros)).unwrap()
    }

    #[test]
    fn a_rate_is_in_lowest_terms() {
        for (tokens, micros, terms) in [
            (100, 60_000_000, (600_000, 1)),
            (50_000_000, 60_000_000, (6, 5)),
            (10_000_000, 1_000_000, (1, 10)),
            (7, 1_000_000, (1_000_000, 7)),
        ] {
            let rate = rate(tokens, micros);
            assert_eq!((rate.per_token(), rate.per_micro()), terms);
        }
    }

    #[test]
    fn a_product_of_a_rate_is_exact() {
        assert_eq!(rate(100, 60_000_000).times(3_000_000, 1_000_000), Some(rate(300, 60_000_000)));
        assert_eq!(rate(7, 1_000_000).times(500_000, 1_000_000), Some(rate(7, 2_000_000)));
        assert_eq!(rate(7, 11).times(1, 1), Some(rate(7, 11)));
        assert_eq!(rate(1 << 32, 1).times(2, 1), None);
        assert_eq!(rate(7, 11).times(0, 1), None);
        let finest = rate((1 << 40) - 1, 1 << 52).times(333_333, 1_000_000).unwrap();
        let parts = u128::from(finest.per_micro()) * (1 << 52) * 1_000_000;
        let exact = ((1_u128 << 40) - 1) * 333_333 * u128::from(finest.per_token());
        assert!(parts.abs_diff(exact) < exact >> 30, "{finest:?}");
    }

    #[test]
    fn a_product_is_exact_up_to_63_bits() {
        // 2⁶³ − 1 is this rate times that number.
        let product = rate(60_247_241_209, 1 << 40).times(153_092_023, 1);
        assert_eq!(product, Some(rate(i64::MAX.unsigned_abs(), 1 << 40)));
    }

    #[test]
    fn the_fastest_rate_is_two_to_the_32_tokens_per_microsecond() {
        assert!(Rate::new(NonZeroU64::new(1 << 32).unwrap(), Micros(1)).is_some());
        assert!(Rate::new(NonZeroU64::new((1 << 32) + 1).unwrap(), Micros(1)).is_none());
        assert!(Rate::new(NonZeroU64::MIN, Micros::ZERO).is_none());
    }

    #[test]
    fn a_full_bucket_is_countable_though_each_of_its_tokens_is_rounded_up() {
        let capacity = Tokens(4_000_000_000);
        let counted = rate(3_005, 1_532_998).countable(capacity, Micros::ZERO).unwrap();
        assert!(counted.units(capacity).0 <= MOST_UNITS, "{counted:?}");
    }

    #[test]
    fn no_more_flows_in_per_microsecond_than_scripts_are_told() {
        let exact = rate((1 << 60) + 1, 1 << 40);
        let counted = exact.countable(Tokens(1), Micros::ZERO).unwrap();
        assert!(counted.per_micro() <= MOST_PER_MICRO && !counted.is_faster_than(&exact), "{counted:?}");
        assert!(!counted.is_noticeably_slower_than(&exact), "{counted:?}");
    }

    #[test]
    fn rates_are_compared_as_ratios() {
        assert!(rate(2, 3).is_faster_than(&rate(3, 5)) && !rate(2, 3).is_faster_than(&rate(4, 6)));
        assert!(rate(9_998, 10_000).is_noticeably_slower_than(&rate(1, 1)));
        assert!(!rate(99_999, 100_000).is_noticeably_slower_than(&rate(1, 1)));
        assert!(!rate(2, 1).is_noticeably_slower_than(&rate(1, 1)));
    }

    proptest! {
        #[test]
        fn a_quotient_is_that_of_a_division(number: u128, divisor in 1..1_u128 << 127, shift in 0_u32..127) {
            let divisor = (divisor >> shift).max(1);
            prop_assert_eq!(quotient(number, divisor), number / divisor);
        }

        #[test]
        fn a_countable_rate_is_never_faster_and_at_most_slightly_slower(
            tokens in 1..=u64::from(u32::MAX), micros in 1_u64..(1 << 52), capacity in 1..=u64::from(u32::MAX),
        ) {
            prop_assume!(tokens >> 32 <= micros);
            let exact = rate(tokens, micros);
            let Some(counted) = exact.countable(Tokens(capacity), Micros::ZERO) else {
                prop_assert!(u128::from(capacity) * u128::from(micros) / u128::from(tokens) > u128::from(MOST_UNITS / 4));
                return Ok(());
            };
            prop_assert!(!counted.is_faster_than(&exact));
            prop_assert!(!counted.is_noticeably_slower_than(&exact));
            prop_assert!(counted.units(Tokens(capacity)).0 <= MOST_UNITS);
        }
    }
}
