//! Lease of a limit: the most tokens that a worker may lease ahead, and the time for which they are valid.

use super::error::Problem;
use super::reader::Node;
use super::report::Read;
use crate::limit::{Algorithm, Algorithms, LeasedBucket, bounds};
use crate::units::{Micros, Tokens};

const DEFAULT_TTL: Micros = Micros::from_secs(1);

/// Field `lease` of a limit.
pub(super) struct Lease<'a> {
    node: &'a Node<'a>,
    max: Tokens,
    ttl: Micros,
}

/// Algorithms of a limit, with its lease.
pub(super) struct LeasedAlgorithms {
    pub(super) windows: Algorithms,
    /// Most tokens that a worker leases, 0 without a lease.
    pub(super) max: Tokens,
}

pub(super) fn read<'a>(node: &'a Node<'a>) -> Read<Lease<'a>> {
    let fields = node.object(&["max", "ttl"])?;
    let max = fields.required("max", "a number of tokens").and_then(|node| node.integer(1..=bounds::MAX_LEASED));
    let ttl = fields.or("ttl", DEFAULT_TTL, |node| node.duration(bounds::MIN_LEASE_TTL..=bounds::MAX_LEASE_TTL));
    Ok(Lease { node, max: Tokens(max?), ttl: ttl? })
}

/// Returns the algorithms of a limit with its `lease`.
pub(super) fn of(windows: Algorithms, lease: Option<Lease<'_>>) -> Read<LeasedAlgorithms> {
    let Some(Lease { node, max, ttl }) = lease else { return Ok(LeasedAlgorithms { windows, max: Tokens(0) }) };
    let only = if windows.algorithms().count() == 1 { windows.algorithms().next().copied() } else { None };
    let bucket = match only {
        Some(Algorithm::TokenBucket(bucket)) => bucket,
        // A bucket without tokens has none to lease.
        Some(Algorithm::NoTokens) => return Ok(LeasedAlgorithms { windows, max: Tokens(0) }),
        _ => return Err(node.expected("a token_bucket alone beside lease")),
    };
    let leased = LeasedBucket::new(bucket, ttl).map(Algorithm::LeasedBucket);
    let windows = leased.map(|leased| Algorithms::new(&[leased]));
    match windows {
        Ok(Ok(windows)) => Ok(LeasedAlgorithms { windows, max }),
        Ok(Err(error)) => Err(node.fail(Problem::Algorithms(error))),
        Err(error) => Err(node.fail(Problem::Algorithm(error))),
    }
}
