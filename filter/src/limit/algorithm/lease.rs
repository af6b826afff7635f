//! Leases of tokens: the request of a worker, the grant of Redis, and the settlement.

use crate::units::{Micros, Tokens};

/// Lease request of a worker, beside the request that it checks. By default empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeaseRequest {
    /// Tokens wanted. At most half of the tokens left after the request are granted, and only if the request goes on,
    /// which may cost nothing.
    pub want: Tokens,
    /// Settlements of earlier leases, in any order. They count even if the request is denied.
    pub settled: [Settlement; 2],
}

/// Settlement of a worker's leased tokens that end at one time. All zero: no settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settlement {
    /// End of the leases, as in the [grant](Grant::ends). After that time the settlement is ignored.
    pub ends: Micros,
    /// Tokens used since they were granted. Each use must be reported once.
    pub used: Tokens,
    /// Tokens returned, which the worker will never use.
    pub unused: Tokens,
}

/// Grant of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Tokens granted, ≥ 1.
    pub tokens: Tokens,
    /// End of the lease by Redis' clock: it must be [settled](Settlement) before.
    pub ends: Micros,
    /// Time for which the tokens may be used, from Redis' now: more than one epoch, and at most two. The reply's delay
    /// is unknown, so that a worker counts from before it sent the call.
    pub valid_for: Micros,
}
