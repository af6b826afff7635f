//! Undecided checks counted by bucket while a worker has many: detects requests that Redis will deny, and keys that
//! flood.
//!
//! A request is denied without Redis if the undecided checks of one of its buckets that cost no more than the request
//! take all that the bucket can admit until the request is decided. Redis would deny the request as well: either those
//! checks are admitted, or one of them is denied and leaves less than the request costs. There are two exceptions: a
//! bucket whose undecided checks are denied by another of their limits, and a key with an override that the worker does
//! not know, for which [`UNKNOWN_ADMITS`] leaves room.

use alloc::rc::Rc;
use alloc::vec::Vec;

use super::deny_cache::CachedDenial;
use crate::limit::{BucketCheck, Check, Rate};
use crate::table::Keyed;
use crate::units::{Micros, Tokens};

/// Number of undecided checks of a worker from which they are counted by bucket.
const COUNTS_FROM: usize = 64;
/// Number of undecided checks of one bucket from which its key floods.
const FLOOD: usize = 32;
/// Tokens that a bucket may admit, as far as is known, if Redis has decided none of its checks lately.
const UNKNOWN_ADMITS: u64 = 1_000;
/// Time for which a decision of Redis tells that no other override is in force.
const DECISION_HOLDS: Micros = Micros::from_secs(1);
/// Maximum number of distinct costs per bucket. A further cost counts as the next higher one, which denies less.
const MAX_COSTS: usize = 8;

/// Undecided checks of one worker.
#[derive(Debug, Default)]
pub(super) struct Contention {
    is_counting: bool,
    buckets: Keyed<Bucket>,
    /// Whether requests carry numbers of limits, so that checks of one bucket may have different limits.
    has_carried_numbers: bool,
}

/// Undecided checks of one bucket.
#[derive(Debug, Default)]
struct Bucket {
    checks: usize,
    /// Maximum of `checks` since it was last zero.
    peak: usize,
    /// Enforced checks: each cost and the sum of the checks of that cost, lowest cost first.
    costs: Vec<(Tokens, Tokens)>,
    /// Denial shared by the requests that this bucket denies.
    denial: Option<Rc<CachedDenial>>,
    /// Numbers of the checks, where requests carry them. Other checks are not compared with these: what denies one
    /// may admit the other.
    numbers: CarriedNumbers,
    /// Time of Redis' last decision on a check of this bucket: it had the override that is applied.
    decided_at: Option<Micros>,
}

/// Numbers of the checks of a bucket.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum CarriedNumbers {
    /// All checks have the numbers of the configuration or of an override.
    #[default]
    None,
    /// All checks have these.
    Same((Tokens, Option<Rate>)),
    /// Two checks differ.
    Mixed,
}

impl Contention {
    /// Creates the count of no checks. `has_carried_numbers` is whether requests carry numbers of limits.
    #[inline(never)]
    pub(super) fn new(has_carried_numbers: bool) -> Self {
        Self { has_carried_numbers, ..Self::default() }
    }

    /// Starts counting if there are many `undecided` checks. Returns whether it started: then all of them must
    /// [`enter`](Self::enter).
    pub(super) fn starts_counting(&mut self, undecided: usize) -> bool {
        let starts = !self.is_counting && undecided >= COUNTS_FROM;
        self.is_counting |= starts;
        starts
    }

    /// Counts a check that Redis is to decide.
    #[inline(never)]
    pub(super) fn enter(&mut self, check: &Check) {
        if !self.is_counting {
            return;
        }
        for check in check.buckets() {
            let hash = self.buckets.hash(&check.key);
            let place = self.buckets.position(hash, &check.key);
            let bucket = match place {
                Some(place) => self.buckets.at_mut(place),
                None => Some(self.buckets.push(hash, check.key.as_slice().into(), Bucket::default())),
            };
            if let Some(bucket) = bucket {
                if self.has_carried_numbers {
                    bucket.carry(check);
                }
                bucket.enter(check);
            }
        }
    }

    /// Removes a check that is decided or has ended. Counting stops when no `undecided` check is left.
    #[inline(never)]
    pub(super) fn leave(&mut self, check: &Check, undecided: usize) {
        if !self.is_counting {
            return;
        }
        if undecided == 0 {
            self.is_counting = false;
            self.buckets = self.buckets.empty_alike();
            return;
        }
        for check in check.buckets() {
            let place = self.buckets.position(self.buckets.hash(&check.key), &check.key);
            if let Some(place) = place
                && let Some(bucket) = self.buckets.at_mut(place)
            {
                bucket.leave(check);
                if bucket.checks == 0 {
                    self.buckets.remove_at(place);
                }
            }
        }
    }

    /// Returns the first bucket that cannot admit this check within `span`, however the checks before it are decided.
    /// `now` is given if an override of the bucket's key may be unknown: it might admit more.
    #[inline(never)]
    pub(super) fn full<'a>(&self, check: &'a Check, span: Micros, now: Option<Micros>) -> Option<&'a BucketCheck> {
        if !self.is_counting {
            return None;
        }
        check.buckets().find(|check| {
            let Some(bucket) = self.buckets.get(&check.key) else { return false };
            let taken = bucket.taken(check).0;
            if !check.counts() || taken == 0 {
                return false;
            }
            let least = if now.is_some_and(|now| !bucket.is_known(now)) { UNKNOWN_ADMITS } else { 0 };
            taken.saturating_add(check.takes().0) > check.at_most_within(span).0.max(least)
        })
    }

    /// Notes that Redis has decided a check.
    #[inline(never)]
    pub(super) fn decided(&mut self, now: Micros, check: &Check) {
        if !self.is_counting {
            return;
        }
        for check in check.buckets() {
            let place = self.buckets.position(self.buckets.hash(&check.key), &check.key);
            if let Some(bucket) = place.and_then(|place| self.buckets.at_mut(place)) {
                bucket.decided_at = Some(now);
            }
        }
    }

    /// Number of undecided checks before this one, in its bucket that has the fewest.
    #[inline(never)]
    pub(super) fn rank(&self, check: &Check) -> usize {
        if !self.is_counting {
            return 0;
        }
        let of = |check: &BucketCheck| self.buckets.get(&check.key).map_or(0, |bucket| bucket.checks);
        check.buckets().map(of).min().unwrap_or(0)
    }

    /// Returns the most flooded enforced bucket of a check, if any floods.
    #[inline(never)]
    pub(super) fn flooded<'a>(&self, check: &'a Check) -> Option<&'a BucketCheck> {
        if !self.is_counting {
            return None;
        }
        let peak = |check: &&BucketCheck| self.buckets.get(&check.key).map_or(0, |bucket| bucket.peak);
        let floods = |check: &&BucketCheck| check.counts() && peak(check) >= FLOOD;
        check.buckets().filter(floods).max_by_key(peak)
    }

    /// Returns the bucket's shared denial, if it is of the same cost and not expired.
    #[inline(never)]
    pub(super) fn denial(&self, now: Micros, check: &BucketCheck) -> Option<Rc<CachedDenial>> {
        let bucket = self.buckets.get(&check.key)?;
        let denial = bucket.denial.as_ref().filter(|_| bucket.is_like(check))?;
        denial.applies_to(now, check).then(|| Rc::clone(denial))
    }

    /// Sets the bucket's shared denial.
    #[inline(never)]
    pub(super) fn set_denial(&mut self, check: &BucketCheck, denial: &Rc<CachedDenial>) {
        let place = self.buckets.position(self.buckets.hash(&check.key), &check.key);
        if let Some(bucket) = place.and_then(|place| self.buckets.at_mut(place))
            && bucket.is_like(check)
        {
            bucket.denial = Some(Rc::clone(denial));
        }
    }
}

impl Bucket {
    /// Notes the numbers of a check.
    fn carry(&mut self, check: &BucketCheck) {
        let own = CarriedNumbers::Same(check.algorithm.numbers());
        self.numbers = match self.numbers {
            CarriedNumbers::None => own,
            kept if kept == own => kept,
            _ => CarriedNumbers::Mixed,
        };
    }

    /// Whether all checks have the numbers of this one.
    fn is_like(&self, check: &BucketCheck) -> bool {
        match self.numbers {
            CarriedNumbers::None => true,
            CarriedNumbers::Same(numbers) => numbers == check.algorithm.numbers(),
            CarriedNumbers::Mixed => false,
        }
    }

    /// Whether Redis has decided a check lately, so that no other override is in force.
    fn is_known(&self, now: Micros) -> bool {
        self.decided_at.is_some_and(|at| at.plus(DECISION_HOLDS) > now)
    }

    fn enter(&mut self, check: &BucketCheck) {
        self.checks = self.checks.saturating_add(1);
        self.peak = self.peak.max(self.checks);
        if !check.counts() {
            return;
        }
        let cost = Tokens(check.takes().0);
        let at = self.costs.partition_point(|(known, _)| *known < cost);
        let is_full = self.costs.len() >= MAX_COSTS;
        match self.costs.get_mut(at) {
            Some((known, sum)) if *known == cost || is_full => sum.0 = sum.0.saturating_add(cost.0),
            None if is_full => {
                if let Some((known, sum)) = self.costs.last_mut() {
                    (*known, sum.0) = (cost, sum.0.saturating_add(cost.0));
                }
            }
            _ => self.costs.insert(at, (cost, cost)),
        }
    }

    fn leave(&mut self, check: &BucketCheck) {
        self.checks = self.checks.saturating_sub(1);
        let cost = Tokens(check.takes().0);
        let is_own = |(known, sum): &(Tokens, Tokens)| *known >= cost && *sum >= cost;
        if check.counts()
            && let Some(at) = self.costs.iter().position(is_own)
            && let Some((_, sum)) = self.costs.get_mut(at)
        {
            sum.0 = sum.0.saturating_sub(cost.0);
            if sum.0 == 0 {
                self.costs.remove(at);
            }
        }
    }

    /// Sum of the costs of the checks that cost no more than this one. 0 where their numbers differ.
    fn taken(&self, check: &BucketCheck) -> Tokens {
        if !self.is_like(check) {
            return Tokens(0);
        }
        let cheaper = self.costs.iter().take_while(|(cost, _)| cost.0 <= check.takes().0);
        Tokens(cheaper.fold(0, |all: u64, (_, sum)| all.saturating_add(sum.0)))
    }
}

#[cfg(test)]
mod tests;
