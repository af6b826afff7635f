//! Lease of a limit: the most tokens that a worker may lease ahead, and the time for which they are valid.

use super::error::{Expected, Problem};
use super::reader::Node;
use crate::limit::{Algorithm, Algorithms, LeasedBucket};
use crate::units::{Micros, Tokens};

const MAX_LEASE: u64 = 1_000_000;
const DEFAULT_TTL: Micros = Micros::from_secs(1);
const MIN_TTL: Micros = Micros::from_millis(100);
const MAX_TTL: Micros = Micros::from_secs(60);

/// Field `lease` of a limit.
pub(super) struct Lease<'a> {
    node: Node<'a>,
    max: Tokens,
    ttl: Micros,
}

/// Algorithms of a limit, with its lease.
pub(super) struct LeasedAlgorithms {
    pub(super) windows: Algorithms,
    /// Most tokens that a worker leases, 0 without a lease.
    pub(super) max: Tokens,
}

pub(super) fn read<'a>(node: &Node<'a>) -> Option<Lease<'a>> {
    let fields = node.object(&["max", "ttl"])?;
    let max = fields.required("max", "a number of tokens").and_then(|node| node.integer(1..=MAX_LEASE));
    let ttl = fields.or("ttl", DEFAULT_TTL, |node| node.duration(MIN_TTL..=MAX_TTL));
    Some(Lease { node: *node, max: Tokens(max?), ttl: ttl? })
}

/// Returns the algorithms of a limit with its `lease`.
pub(super) fn of(windows: Option<Algorithms>, lease: Option<Lease<'_>>) -> Option<LeasedAlgorithms> {
    let windows = windows?;
    let Some(Lease { node, max, ttl }) = lease else { return Some(LeasedAlgorithms { windows, max: Tokens(0) }) };
    let only = if windows.algorithms().count() == 1 { windows.algorithms().next().copied() } else { None };
    let bucket = match only {
        Some(Algorithm::TokenBucket(bucket)) => bucket,
        // A bucket without tokens has none to lease.
        Some(Algorithm::NoTokens) => return Some(LeasedAlgorithms { windows, max: Tokens(0) }),
        _ => return node.unexpected(Expected::The("a token_bucket alone beside lease")),
    };
    let leased = LeasedBucket::new(bucket, ttl).map(Algorithm::LeasedBucket);
    let windows = leased.map(|leased| Algorithms::new(&[leased]));
    match windows {
        Ok(Ok(windows)) => Some(LeasedAlgorithms { windows, max }),
        Ok(Err(error)) => node.fail(Problem::Algorithms(error)),
        Err(error) => node.fail(Problem::Algorithm(error)),
    }
}
