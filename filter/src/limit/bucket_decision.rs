//! Decision of one algorithm on one request and one bucket, regardless of the request's other buckets.

use super::leased_bucket::Grant;
use crate::units::{Micros, Tokens};

/// Decision of one algorithm, with the bucket's level both if the request goes on and if another bucket denies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BucketDecision {
    /// Most tokens or slots that the bucket holds.
    pub(super) capacity: Tokens,
    /// Time to which the capacity applies: a window's length, or a token bucket's time to fill. `None` for requests in
    /// flight.
    pub(super) period: Option<Micros>,
    /// Whether this bucket admits the request.
    pub(super) admits: bool,
    /// Time until the bucket would admit the request, if no other request spends. Zero where it admits now; `None`
    /// where waiting cannot help.
    pub(super) retry_after: Option<Micros>,
    /// Time for which the request is held, if it is admitted.
    pub(super) delay: Micros,
    /// Level of the bucket if the request does not go on.
    pub(super) before: Level,
    /// Level of the bucket after the request's cost and the grant.
    pub(super) after: Level,
    /// Tokens that the worker is leased, if the request goes on.
    pub(super) granted: Option<Grant>,
}

impl BucketDecision {
    /// Decision of a bucket that never holds a token.
    pub(super) const NOTHING: Self = Self {
        capacity: Tokens(0),
        period: None,
        admits: false,
        retry_after: None,
        delay: Micros::ZERO,
        before: Level::EMPTY,
        after: Level::EMPTY,
        granted: None,
    };
}

impl Level {
    const EMPTY: Self = Self { remaining: Tokens(0), reset: Micros::ZERO };
}

/// Level of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Level {
    /// Whole tokens left, rounded down.
    pub(super) remaining: Tokens,
    /// Time until the bucket is full, if no request spends.
    pub(super) reset: Micros,
}
