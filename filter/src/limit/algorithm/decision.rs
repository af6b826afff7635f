//! State of one bucket, and the decision of its algorithm on one request, regardless of the request's other buckets.

use super::lease::Grant;
use crate::units::{Micros, Tokens};

/// State of a bucket before the request, as the script returns it. Each algorithm defines the meaning of the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BucketState {
    /// Used part of the limit, in the unit of the algorithm's limit.
    pub used: u64,
    /// Two further results of the algorithm. Zero where it has none.
    pub more: [u64; 2],
}

/// Decision of one algorithm, with the bucket's level both if the request goes on and if another bucket denies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::limit) struct BucketDecision {
    /// Most tokens or slots that the bucket holds.
    pub(in crate::limit) capacity: Tokens,
    /// Time to which the capacity applies: a window's length, or a token bucket's time to fill. `None` for requests in
    /// flight.
    pub(in crate::limit) period: Option<Micros>,
    /// Whether this bucket admits the request.
    pub(in crate::limit) admits: bool,
    /// Time until the bucket would admit the request, if no other request spends. Zero where it admits now; `None`
    /// where waiting cannot help.
    pub(in crate::limit) retry_after: Option<Micros>,
    /// Time for which the request is held, if it is admitted.
    pub(in crate::limit) delay: Micros,
    /// Level of the bucket if the request does not go on.
    pub(in crate::limit) before: Level,
    /// Level of the bucket after the request's cost and the grant.
    pub(in crate::limit) after: Level,
    /// Tokens that the worker is leased, if the request goes on.
    pub(in crate::limit) granted: Option<Grant>,
    /// Part of the used tokens that open requests have reserved, without this request.
    pub(in crate::limit) held: Tokens,
}

impl BucketDecision {
    /// Decision of a bucket that never holds a token.
    pub(in crate::limit) const NOTHING: Self = Self {
        capacity: Tokens(0),
        period: None,
        admits: false,
        retry_after: None,
        delay: Micros::ZERO,
        before: Level::EMPTY,
        after: Level::EMPTY,
        granted: None,
        held: Tokens(0),
    };
}

impl Level {
    const EMPTY: Self = Self { remaining: Tokens(0), reset: Micros::ZERO };
}

/// Level of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::limit) struct Level {
    /// Whole tokens left, rounded down.
    pub(in crate::limit) remaining: Tokens,
    /// Time until the bucket is full, if no request spends.
    pub(in crate::limit) reset: Micros,
}
