//! Share of a limit that one worker may spend while Redis cannot be asked.

use core::num::{NonZeroU32, NonZeroU64};

use super::algorithm::TokenBucket;
use crate::units::{Micros, Tokens};

/// Share of a limit: a number of equal parts, from none to all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    parts: u32,
    of: NonZeroU32,
}

impl Share {
    /// No part of a limit.
    pub const NONE: Self = Self { parts: 0, of: NonZeroU32::MIN };

    /// Parts of a share that is written as a decimal number.
    const MILLION: NonZeroU32 = NonZeroU32::MIN.saturating_add(999_999);

    /// Returns `parts` of `of` equal parts, at most all of them.
    #[must_use]
    pub fn new(parts: u32, of: NonZeroU32) -> Self {
        Self { parts: parts.min(of.get()), of }
    }

    /// Converts a number from 0 to 1, such as 0.1, rounded down to millionths. `None` for any other number.
    #[must_use]
    pub fn from_number(share: f64) -> Option<Self> {
        let of = Self::MILLION;
        if !(0.0..=1.0).contains(&share) {
            return None;
        }
        // 0.07 is slightly less than 70,000 millionths.
        let parts = share * f64::from(of.get()) + 0.000_1;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 10⁶")]
        let parts = parts as u32;
        Some(if parts == 0 { Self::NONE } else { Self::new(parts, of) })
    }

    /// Number of parts.
    #[must_use]
    pub fn parts(self) -> u32 {
        self.parts
    }

    /// The share of a number of tokens, rounded down.
    #[must_use]
    pub fn of_tokens(self, tokens: Tokens) -> Tokens {
        // No limit has more than 2³² tokens.
        Tokens(tokens.0.saturating_mul(self.parts.into()) / NonZeroU64::from(self.of))
    }

    /// Units by which [`of_tokens`](Self::of_tokens) rounds down, rounded up, where a token has `per_token` units.
    pub(super) fn rounded_off(self, tokens: Tokens, per_token: u64) -> u64 {
        let of = NonZeroU64::from(self.of);
        let parts = tokens.0.saturating_mul(self.parts.into()) % of;
        // `per_token * parts / of`, without overflow: `parts` is below `of`, and `of` below 2³².
        let whole = (per_token / of).saturating_mul(parts);
        whole.saturating_add((per_token % of).saturating_mul(parts).div_ceil(of.get()))
    }

    /// Returns a token bucket of this capacity, which is the share of the bucket's, and with the share of its rate,
    /// rounded down. It holds no request until its tokens exist. `None` if the share is less than one token.
    ///
    /// Shares that are at most 1 together never admit more than `bucket` together.
    pub(super) fn of_bucket(self, bucket: &TokenBucket, capacity: Tokens) -> Option<TokenBucket> {
        let rate = bucket.rate().times(self.parts.into(), self.of.get().into())?;
        let bucket = bucket.with_max_delay(Micros::ZERO).ok()?;
        bucket.resized(NonZeroU64::new(capacity.0)?, rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(tokens: u64) -> TokenBucket {
        let tokens = NonZeroU64::new(tokens).unwrap();
        TokenBucket::new(tokens, tokens, Micros::from_secs(60)).unwrap()
    }

    #[test]
    fn a_number_is_a_share_from_0_to_1() {
        for share in [-0.1, 1.000_1, f64::NAN, f64::INFINITY] {
            assert_eq!(Share::from_number(share), None, "{share}");
        }
        for (share, tokens) in [(0.0, 0), (0.07, 70_000), (0.1, 100_000), (0.125, 125_000), (1.0, 1_000_000)] {
            assert_eq!(Share::from_number(share).unwrap().of_tokens(Tokens(1_000_000)), Tokens(tokens), "{share}");
        }
        assert_eq!(Share::new(3, NonZeroU32::MIN).of_tokens(Tokens(7)), Tokens(7), "never more than all");
    }

    #[test]
    fn what_a_share_rounds_off_is_counted_in_units_and_rounded_up() {
        let share = Share::new(2, NonZeroU32::new(3).unwrap());
        assert_eq!((share.of_tokens(Tokens(7)), share.rounded_off(Tokens(7), 100)), (Tokens(4), 67), "4⅔ tokens");
        assert_eq!(share.rounded_off(Tokens(7), 1), 1);
        assert_eq!(share.rounded_off(Tokens(6), 100), 0);
        let nearly_all = Share::new(u32::MAX - 1, NonZeroU32::MAX);
        assert_eq!(nearly_all.rounded_off(Tokens(1), 1 << 52), (1 << 52) - (1 << 20));
    }

    #[test]
    fn a_share_of_a_bucket_has_a_share_of_its_numbers() {
        let third = Share::new(1, NonZeroU32::new(3).unwrap());
        let slow = bucket(100).with_max_delay(Micros::from_secs(2)).unwrap();
        let own = third.of_bucket(&slow, Tokens(33)).unwrap();
        assert_eq!((own.capacity(), own.max_delay()), (Tokens(33), Micros::ZERO));
        assert_eq!(own.emission(), Micros(1_800_000), "a third of 100 tokens a minute");
        assert_eq!(third.of_bucket(&slow, Tokens(0)), None);
        assert_eq!(Share::NONE.of_bucket(&slow, Tokens(1)), None);
    }
}
