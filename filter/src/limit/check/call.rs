//! Calls of the scripts that decide a request: the keys of its buckets, and the arguments of each bucket.

use alloc::string::ToString;
use alloc::sync::Arc;

use super::bucket::BucketCheck;
use super::verdict::Outcome;
use crate::limit::algorithm::{Algorithm, Arguments, SlotOwner};
use crate::redis::{Call, CallWriter, Script};
use crate::units::Micros;

/// Starts a call with the keys of `buckets`; `for_each` arguments for each of them are to follow.
fn writer(script: &Arc<Script>, buckets: &[BucketCheck], for_each: usize, has_applied: bool) -> CallWriter {
    let for_each = for_each.wrapping_add(usize::from(has_applied));
    let each = |size: usize, check: &BucketCheck| {
        size.saturating_add(check.key.len()).saturating_add(for_each.saturating_mul(16))
    };
    let mut call =
        Call::write_script(script, buckets.len(), buckets.len().saturating_mul(for_each), buckets.iter().fold(0, each));
    buckets.iter().for_each(|check| call.bytes(&check.key));
    call
}

/// The call of the script for token buckets.
pub(super) fn plain_call(script: &Arc<Script>, buckets: &[BucketCheck], has_applied: bool) -> Call {
    let mut call = writer(script, buckets, 4, has_applied);
    for_each_and_last(buckets, |check, is_last| check.write_plain(is_last, &mut call));
    write_applied(buckets, has_applied, &mut call);
    call.finish()
}

/// The call of a script with the mixed script's arguments.
pub(super) fn mixed_call(script: &Arc<Script>, buckets: &[BucketCheck], owner: SlotOwner) -> Call {
    let has_applied = has_applied(buckets);
    let mut call = writer(script, buckets, 7, has_applied);
    for_each_and_last(buckets, |check, is_last| {
        check.write_mixed(&mut call);
        call.bytes(if is_last { owner.as_bytes() } else { b"" });
    });
    write_applied(buckets, has_applied, &mut call);
    call.finish()
}

/// The call that gives back what a request spent at `when`, by Redis' clock, from buckets with these outcomes.
pub(super) fn give_back_call(script: &Arc<Script>, spent: &[(&BucketCheck, &Outcome)], when: Micros) -> Call {
    let mut call = Call::write_script(script, spent.len(), spent.len().saturating_mul(6), 0);
    spent.iter().for_each(|(check, _)| call.bytes(&check.key));
    for (check, outcome) in spent {
        let Arguments { letter, cost, more, .. } = check.algorithm.arguments(check.cost);
        call.bytes(letter.as_bytes());
        [when.0, cost, outcome.reset.0].into_iter().for_each(|number| call.number(number));
        more.into_iter().for_each(|number| write_signed(&mut call, number));
    }
    call.finish()
}

/// Whether an override of a key has been applied to a bucket.
pub(super) fn has_applied(buckets: &[BucketCheck]) -> bool {
    buckets.iter().any(|check| check.applied.is_some())
}

/// Writes the texts of the overrides that have been applied, if any.
fn write_applied(buckets: &[BucketCheck], has_applied: bool, call: &mut CallWriter) {
    if has_applied {
        buckets.iter().for_each(|check| call.bytes(check.applied.as_deref().unwrap_or_default()));
    }
}

fn for_each_and_last(buckets: &[BucketCheck], mut write: impl FnMut(&BucketCheck, bool)) {
    if let Some((last, others)) = buckets.split_last() {
        others.iter().for_each(|check| write(check, false));
        write(last, true);
    }
}

impl BucketCheck {
    /// Writes the bucket's four arguments of the script for token buckets: the capacity, with the longest delay if
    /// there is one; the cost; the units of a token; and the rate, with flags for the last bucket and for an enforced
    /// limit.
    fn write_plain(&self, is_last: bool, call: &mut CallWriter) {
        let Algorithm::TokenBucket(bucket) = &self.algorithm else { return };
        let (capacity, rate) = (bucket.capacity().0, bucket.rate());
        let flags = match (is_last, self.enforced) {
            (false, false) => 0,
            (false, true) => 1,
            (true, false) => 2,
            (true, true) => 3,
        };
        let cost = self.cost.0.min(capacity.saturating_add(1));
        match bucket.max_delay() {
            Micros::ZERO => {
                call.number(capacity);
                call.number(cost);
                call.number(rate.per_token());
            }
            delay => {
                call.bytes(format!("{capacity} {}", delay.0).as_bytes());
                call.number(cost);
                call.bytes(bucket.unit().to_string().as_bytes());
            }
        }
        // At most 2⁵² and the flags, as a rate is at most 2⁵⁰ units per µs.
        call.number(rate.per_micro().wrapping_mul(4) | flags);
    }

    /// Writes six of the bucket's seven arguments of the mixed script: all but the owner.
    fn write_mixed(&self, call: &mut CallWriter) {
        let arguments = self.algorithm.arguments(self.cost);
        let group = if self.enforced { 0 } else { self.limit.saturating_add(1) };
        let [x, y] = arguments.more;
        call.bytes(arguments.letter.as_bytes());
        call.number(u64::try_from(group).unwrap_or(u64::MAX));
        call.number(arguments.cost);
        call.number(arguments.limit);
        write_signed(call, x);
        match &self.algorithm {
            Algorithm::LeasedBucket(leased) => call.bytes(leased.lease_argument().as_bytes()),
            Algorithm::Budget(budget) => call.bytes(budget.argument(self.cost).as_bytes()),
            _ => write_signed(call, y),
        }
    }
}

pub(super) fn write_signed(call: &mut CallWriter, number: i64) {
    match u64::try_from(number) {
        Ok(number) => call.number(number),
        Err(_) => call.bytes(number.to_string().as_bytes()),
    }
}
