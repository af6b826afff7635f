//! Share of a limit from which a request that is admitted is near it.

use core::num::NonZeroU32;

use super::check::Outcome;

const WHOLE: u32 = 1_000_000;

/// Share of a limit from which it is nearly used up: above 0 and below 1, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NearLimit {
    /// Share that is left there.
    left: NonZeroU32,
}

impl NearLimit {
    /// Converts a share, such as 0.8. `None` outside of 0.000001 to 0.999999.
    #[must_use]
    pub fn new(share: f64) -> Option<Self> {
        let millionths = share * f64::from(WHOLE);
        if !(1.0..=f64::from(WHOLE - 1)).contains(&millionths) {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the bounds above")]
        let used = (millionths + 0.5) as u32;
        NonZeroU32::new(WHOLE.saturating_sub(used)).map(|left| Self { left })
    }

    /// Whether less than the rest of the limit is left after an admitted request: with 0.8, less than 20 %.
    #[must_use]
    pub fn is_near(self, outcome: &Outcome) -> bool {
        outcome.admitted && self.is_exceeded(outcome)
    }

    /// Whether less than the rest of the limit is left, whether or not the request is admitted.
    #[must_use]
    pub fn is_exceeded(self, outcome: &Outcome) -> bool {
        self.leaves_less(outcome.remaining.0, outcome.capacity.0)
    }

    /// Whether `remaining` of `capacity` is less than the rest of the limit.
    #[must_use]
    pub fn leaves_less(self, remaining: u64, capacity: u64) -> bool {
        remaining < self.rest(capacity)
    }

    /// Returns the least amount that exceeds the share of a limit.
    #[must_use]
    pub fn exceeding(self, limit: u64) -> u64 {
        limit.saturating_sub(self.rest(limit)).saturating_add(1)
    }

    /// Returns the share, in millionths.
    #[cfg(not(target_arch = "wasm32"))]
    #[must_use]
    pub fn millionths(self) -> u64 {
        WHOLE.saturating_sub(self.left.get()).into()
    }

    /// Rest of a limit, rounded up.
    fn rest(self, limit: u64) -> u64 {
        let millionths = u128::from(limit).saturating_mul(self.left.get().into());
        u64::try_from(millionths.div_ceil(WHOLE.into())).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Micros, Tokens};

    fn outcome(remaining: u64, capacity: u64) -> Outcome {
        Outcome {
            limit: 0,
            window: 0,
            cost: Tokens(1),
            capacity: Tokens(capacity),
            period: None,
            admitted: true,
            enforced: true,
            spent: true,
            remaining: Tokens(remaining),
            retry_after: None,
            reset: Micros::ZERO,
            delay: Micros::ZERO,
            granted: None,
            held: Tokens(0),
        }
    }

    #[test]
    fn a_request_is_near_a_limit_of_which_less_than_the_rest_is_left() {
        let near = NearLimit::new(0.8).unwrap();
        for (remaining, capacity, expected) in
            [(10, 10, false), (2, 10, false), (1, 10, true), (0, 10, true), (0, 1, true), (1, 4, false), (0, 0, false)]
        {
            assert_eq!(near.is_near(&outcome(remaining, capacity)), expected, "{remaining} of {capacity}");
        }
        let (most, fifth) = (u64::from(u32::MAX) + 1, 858_993_459);
        assert!(near.is_near(&outcome(fifth, most)) && !near.is_near(&outcome(fifth + 1, most)));
        // A million dollars, in nano-USD.
        let (million, fifth) = (1_000_000_000_000_000, 200_000_000_000_000);
        assert!(near.is_near(&outcome(fifth - 1, million)) && !near.is_near(&outcome(fifth, million)));
        let denied = Outcome { admitted: false, ..outcome(0, 10) };
        assert!(!near.is_near(&denied) && near.is_exceeded(&denied), "it is beyond the limit");
        let most = (1 << 53) - 1;
        assert!(near.is_near(&outcome(most / 5, most)) && !near.is_near(&outcome(most / 5 + 1, most)));
    }

    #[test]
    fn an_amount_exceeds_the_share_where_a_request_is_near_the_limit() {
        for share in [0.000_001, 0.1, 0.5, 0.8, 0.999_999] {
            let near = NearLimit::new(share).unwrap();
            for limit in [1, 2, 3, 10, 99, 1_000_000, 1_000_001, (1 << 53) - 1] {
                let amount = near.exceeding(limit);
                let is_near = |used: u64| near.is_near(&outcome(limit - used, limit));
                assert!(amount <= limit && is_near(amount) && !is_near(amount - 1), "{share} of {limit}: {amount}");
            }
        }
    }

    #[test]
    fn a_share_is_above_0_and_below_1() {
        for share in [0.0, -0.5, 1.0, 1.5, 0.000_000_1, f64::NAN, f64::INFINITY] {
            assert_eq!(NearLimit::new(share), None, "{share}");
        }
        let left = |share| NearLimit::new(share).map(|near| near.left.get());
        assert_eq!([left(0.999_999), left(0.1)], [Some(1), Some(900_000)]);
    }
}
