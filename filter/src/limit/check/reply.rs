//! Replies of the scripts: the state of each bucket, and Redis' time.

use core::fmt;

use crate::limit::algorithm::BucketState;
use crate::redis::{Integers, Reply};
use crate::units::Micros;

/// Script reply of another form, or one that contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "malformed script reply: expected {expected} integers, the first above 0 only if the others admit, found {found}{}",
    Size(.size)
)]
pub struct MalformedReply {
    expected: usize,
    found: &'static str,
    /// Length of a string or an array, with its unit.
    size: Option<(usize, &'static str)>,
}

struct Size<'a>(&'a Option<(usize, &'static str)>);

impl fmt::Display for Size<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |(len, unit)| write!(f, " of {len} {unit}"))
    }
}

impl MalformedReply {
    pub(super) fn new(expected: usize, reply: &Reply) -> Self {
        let size = match reply {
            Reply::Bulk(bytes) => Some((bytes.len(), "bytes")),
            Reply::Array(items) => Some((items.len(), "items")),
            _ => None,
        };
        Self { expected, found: reply.kind(), size }
    }
}

/// Reads a reply of integers: whether it admits, Redis' time, and all integers. The first integer is the time, negative
/// for a denial.
pub(super) fn read(reply: &Reply) -> Option<(bool, Micros, Integers<'_>)> {
    let integers = Integers::of(reply)?;
    let first = integers.get(0)?;
    Some((first > 0, Micros(first.unsigned_abs()), integers))
}

/// State of the bucket at `nth` in a reply of the script for token buckets: one integer each, after the first. `None`
/// where it is negative, or missing.
pub(super) fn single_state(integers: Integers<'_>, nth: usize) -> Option<BucketState> {
    Some(BucketState { used: natural(integers, nth.saturating_add(1))?, more: [0, 0] })
}

/// State of the bucket at `nth` in a reply of the mixed script: three integers each, after the first. `None` where one is
/// negative, or missing.
pub(super) fn triple_state(integers: Integers<'_>, nth: usize) -> Option<BucketState> {
    let [used, x, y] = [1, 2, 3].map(|more| natural(integers, nth.saturating_mul(3).saturating_add(more)));
    Some(BucketState { used: used?, more: [x?, y?] })
}

fn natural(integers: Integers<'_>, index: usize) -> Option<u64> {
    u64::try_from(integers.get(index)?).ok()
}
