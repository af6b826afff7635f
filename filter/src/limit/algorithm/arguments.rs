//! Arguments of the mixed script for one bucket.

use crate::units::{Micros, Tokens};

/// Arguments of the mixed script for one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::limit) struct Arguments {
    /// The algorithm's letter in the script.
    pub(in crate::limit) letter: &'static str,
    /// Cost of the request, in the unit of the limit.
    pub(in crate::limit) cost: u64,
    /// Limit of the used part.
    pub(in crate::limit) limit: u64,
    /// Two further arguments of the algorithm.
    pub(in crate::limit) more: [i64; 2],
}

impl Arguments {
    /// Returns the arguments of an algorithm that counts tokens. A cost above the limit becomes the limit plus 1.
    pub(super) fn of_count(letter: &'static str, cost: Tokens, limit: Tokens, more: [Micros; 2]) -> Self {
        let cost = cost.0.min(limit.0.saturating_add(1));
        Self { letter, cost, limit: limit.0, more: more.map(|micros| signed(micros.0)) }
    }
}

/// Returns `number` as a signed integer. All numbers of this module are far below 2⁶³.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
