//! Undecided checks by bucket, counted while a worker has many: which requests no order of decisions could admit, and
//! which keys flood.
//!
//! A request is denied without asking where the undecided checks of one of its buckets that cost no more than it take
//! all that the bucket can admit until it is decided. Redis would deny it as well: either those are admitted, or one of
//! them is denied and leaves less than the request costs. The one exception is a bucket whose undecided checks are
//! denied by another limit of theirs.

use alloc::rc::Rc;
use alloc::vec::Vec;

use super::deny_cache::CachedDenial;
use crate::limit::{BucketCheck, Check};
use crate::table::Keyed;
use crate::units::{Micros, Tokens};

/// Undecided checks of a worker from which on they are counted by bucket: with fewer, nothing is.
const COUNTS_FROM: usize = 64;
/// Undecided checks of one bucket from which on its key floods.
const FLOOD: usize = 32;
/// Costs that are told apart in a bucket. One more counts as the next higher one, which denies less.
const MAX_COSTS: usize = 8;

/// One worker's undecided checks.
#[derive(Debug, Default)]
pub(super) struct Contention {
    is_counting: bool,
    buckets: Keyed<Bucket>,
}

/// The undecided checks of one bucket.
#[derive(Debug, Default)]
struct Bucket {
    checks: usize,
    /// The most checks at a time since there have been any.
    peak: usize,
    /// What the enforced checks of each cost cost together, lowest first.
    costs: Vec<(Tokens, Tokens)>,
    /// What requests are told that it denies.
    said: Option<Rc<CachedDenial>>,
}

impl Contention {
    /// Whether checks are to be counted, of which `undecided` are there: all of them, where it has not begun to.
    pub(super) fn begins(&mut self, undecided: usize) -> bool {
        let begins = !self.is_counting && undecided >= COUNTS_FROM;
        self.is_counting |= begins;
        begins
    }

    /// A check is to be decided by Redis.
    #[inline(never)]
    pub(super) fn enter(&mut self, check: &Check) {
        if !self.is_counting {
            return;
        }
        for check in check.buckets() {
            let hash = self.buckets.hash(&check.key);
            let place = self.buckets.place(hash, &check.key);
            let bucket = match place {
                Some(place) => self.buckets.at_mut(place),
                None => Some(self.buckets.push(hash, check.key.as_slice().into(), Bucket::default())),
            };
            if let Some(bucket) = bucket {
                bucket.enter(check);
            }
        }
    }

    /// A check is decided, or will not be. Of `undecided` that are left, none is the end of counting.
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
            let place = self.buckets.place(self.buckets.hash(&check.key), &check.key);
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

    /// The first bucket that cannot admit a request of this check within `span`, however those before it are decided.
    #[inline(never)]
    pub(super) fn full<'a>(&self, check: &'a Check, span: Micros) -> Option<&'a BucketCheck> {
        if !self.is_counting {
            return None;
        }
        check.buckets().find(|check| {
            let taken = self.buckets.get(&check.key).map_or(Tokens(0), |bucket| bucket.taken(check));
            check.counts() && taken.0 > 0 && taken.0.saturating_add(check.takes().0) > check.at_most_within(span).0
        })
    }

    /// How many undecided checks are before one, in the bucket where they are the fewest.
    #[inline(never)]
    pub(super) fn rank(&self, check: &Check) -> usize {
        if !self.is_counting {
            return 0;
        }
        let of = |check: &BucketCheck| self.buckets.get(&check.key).map_or(0, |bucket| bucket.checks);
        check.buckets().map(of).min().unwrap_or(0)
    }

    /// The enforced bucket of a check that is flooded most, if one is.
    #[inline(never)]
    pub(super) fn flooded<'a>(&self, check: &'a Check) -> Option<&'a BucketCheck> {
        if !self.is_counting {
            return None;
        }
        let peak = |check: &&BucketCheck| self.buckets.get(&check.key).map_or(0, |bucket| bucket.peak);
        let floods = |check: &&BucketCheck| check.counts() && peak(check) >= FLOOD;
        check.buckets().filter(floods).max_by_key(peak)
    }

    /// What requests of this bucket are told, if one of the same cost was told before.
    #[inline(never)]
    pub(super) fn said(&self, now: Micros, check: &BucketCheck) -> Option<Rc<CachedDenial>> {
        let said = self.buckets.get(&check.key)?.said.as_ref()?;
        said.is_alike(now, check).then(|| Rc::clone(said))
    }

    /// Requests of this bucket are told so from now on.
    #[inline(never)]
    pub(super) fn say(&mut self, check: &BucketCheck, said: &Rc<CachedDenial>) {
        let place = self.buckets.place(self.buckets.hash(&check.key), &check.key);
        if let Some(bucket) = place.and_then(|place| self.buckets.at_mut(place)) {
            bucket.said = Some(Rc::clone(said));
        }
    }
}

impl Bucket {
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
        let is_its = |(known, sum): &(Tokens, Tokens)| *known >= cost && *sum >= cost;
        if check.counts()
            && let Some(at) = self.costs.iter().position(is_its)
            && let Some((_, sum)) = self.costs.get_mut(at)
        {
            sum.0 = sum.0.saturating_sub(cost.0);
            if sum.0 == 0 {
                self.costs.remove(at);
            }
        }
    }

    /// What those cost together that cost no more than this one.
    fn taken(&self, check: &BucketCheck) -> Tokens {
        let cheaper = self.costs.iter().take_while(|(cost, _)| cost.0 <= check.takes().0);
        Tokens(cheaper.fold(0, |all: u64, (_, sum)| all.saturating_add(sum.0)))
    }
}

#[cfg(test)]
mod tests;
