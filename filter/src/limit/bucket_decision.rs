//! What an algorithm says about one request and one bucket, whoever else may have a say.

use super::leased_bucket::Grant;
use crate::units::{Micros, Tokens};

/// One algorithm's word, for both ends that the whole request may come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BucketDecision {
    /// The most that the bucket holds.
    pub(super) capacity: Tokens,
    /// In which time it holds that, where it is a matter of time.
    pub(super) period: Option<Micros>,
    /// Whether this bucket admits the request.
    pub(super) admits: bool,
    /// Time until it would, if nobody else spends. Zero where it does; `None` where waiting cannot help.
    pub(super) retry_after: Option<Micros>,
    /// How long the request is to be held, where it is admitted.
    pub(super) delay: Micros,
    /// How full the bucket is if nothing is spent.
    pub(super) before: Level,
    /// How full it is if the request's cost is, and what is granted has been taken.
    pub(super) after: Level,
    /// What the worker may take ahead, if the request goes on.
    pub(super) granted: Option<Grant>,
}

impl BucketDecision {
    /// A bucket that never holds anything.
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

/// How full a bucket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Level {
    /// Whole tokens left, rounded down.
    pub(super) remaining: Tokens,
    /// Time until it is full, if nobody spends.
    pub(super) reset: Micros,
}
