//! Share of a limit from which a request that is admitted is near it.

use super::check::Outcome;

const WHOLE: u64 = 1_000_000;

/// Share of a limit from which it is nearly used up: above 0 and below 1, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NearLimit {
    /// Share that is left there.
    left: u64,
}

impl NearLimit {
    /// Converts a share, such as 0.8. `None` outside of 0.000001 to 0.999999.
    #[must_use]
    pub fn new(share: f64) -> Option<Self> {
        let millionths = share * WHOLE as f64;
        if !(1.0..=(WHOLE - 1) as f64).contains(&millionths) {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the bounds above")]
        let used = (millionths + 0.5) as u64;
        Some(Self { left: WHOLE.saturating_sub(used) })
    }

    /// Whether less than the rest of the limit is left after an admitted request: with 0.8, less than 20 %.
    #[must_use]
    pub fn is_near(self, outcome: &Outcome) -> bool {
        outcome.admitted && self.leaves_less(outcome.remaining.0, outcome.capacity.0)
    }

    /// Whether `remaining` of `capacity` is less than the rest of the limit.
    #[must_use]
    pub fn leaves_less(self, remaining: u64, capacity: u64) -> bool {
        let times = |amount: u64, factor: u64| u128::from(amount).saturating_mul(factor.into());
        times(remaining, WHOLE) < times(capacity, self.left)
    }

    /// The share, in millionths.
    #[cfg(not(target_arch = "wasm32"))]
    #[must_use]
    pub fn millionths(self) -> u64 {
        WHOLE.saturating_sub(self.left)
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
        assert!(!near.is_near(&Outcome { admitted: false, ..outcome(0, 10) }), "it is beyond the limit");
    }

    #[test]
    fn a_share_is_above_0_and_below_1() {
        for share in [0.0, -0.5, 1.0, 1.5, 0.000_000_1, f64::NAN, f64::INFINITY] {
            assert_eq!(NearLimit::new(share), None, "{share}");
        }
        assert_eq!(NearLimit::new(0.999_999), Some(NearLimit { left: 1 }));
        assert_eq!(NearLimit::new(0.1), Some(NearLimit { left: 900_000 }));
    }
}
