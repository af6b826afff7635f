//! Bucket of a request, read back from a script's arguments.

use super::bucket::BucketCheck;
use super::model::State;
use super::script_model::number;
use crate::limit::algorithm::{
    Algorithm, BucketState, Budget, Concurrency, FixedWindow, LeasedBucket, Quota, Shape, SlidingLog, SlidingWindow,
    SlotOwner, TokenState, Units,
};
use crate::units::{Micros, Tokens};

/// Group of the enforced limits. Each limit in shadow mode is a group of its own.
pub(super) const ENFORCED: usize = 0;

/// Bucket of a request, read from a script's arguments.
pub(super) struct Bucket<'a> {
    pub(super) key: &'a [u8],
    pub(super) kind: Kind,
    pub(super) group: usize,
    /// Cost and limit, in the unit of the limit.
    pub(super) cost: u64,
    pub(super) limit: u64,
    pub(super) is_last: bool,
    pub(super) owner: SlotOwner,
}

/// Algorithm of a bucket. Of a token bucket, only the shape can be read back.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Tokens(Shape),
    /// Budget with the request's estimate.
    Budget(Budget, Tokens),
    Limit(Algorithm),
}

impl<'a> Bucket<'a> {
    pub(super) fn read(place: usize, key: &'a [u8], arguments: &[Vec<u8>]) -> Option<Self> {
        match arguments {
            [capacity, cost, unit, flags] => Self::read_plain(place, key, capacity, [cost, unit, flags]),
            [letter, group, cost, limit, x, y, owner] => {
                let (cost, limit) = (number(cost)?, number(limit)?);
                let kind = Kind::read(core::str::from_utf8(letter).ok()?, [cost, limit], number(x)?, y)?;
                let owner_of = || SlotOwner::of_bytes(owner);
                let (is_last, owner) =
                    if owner.is_empty() { (false, SlotOwner::default()) } else { (true, owner_of()?) };
                Some(Self { key, kind, group: number(group)?, cost, limit, is_last, owner })
            }
            _ => None,
        }
    }

    /// Reads the arguments of the script for token buckets.
    fn read_plain(place: usize, key: &'a [u8], capacity: &[u8], more: [&Vec<u8>; 3]) -> Option<Self> {
        let [cost, unit, flags] = more;
        let (cost, unit, flags): (u64, i64, u64) = (number(cost)?, number(unit)?, number(flags)?);
        let (per_micro, flags) = (flags >> 2, flags & 3);
        let (capacity, delay) = match core::str::from_utf8(capacity).ok()?.split_once(' ') {
            Some((capacity, delay)) => (capacity.parse().ok()?, delay.parse().ok()?),
            None => (number(capacity)?, 0_u64),
        };
        let full = unit.unsigned_abs().checked_mul(capacity)?;
        let room = delay.checked_mul(per_micro)?.checked_add(full)?;
        let cost = if cost <= capacity { unit.unsigned_abs().checked_mul(cost)? } else { room.checked_add(1)? };
        Some(Self {
            key,
            kind: Kind::Tokens(Shape::of_arguments(unit, per_micro, room)?),
            // The script takes each bucket in shadow mode for a limit of its own.
            group: if flags & 1 == 1 { ENFORCED } else { place.checked_add(1)? },
            cost,
            limit: room,
            is_last: flags & 2 == 2,
            owner: SlotOwner::default(),
        })
    }

    pub(super) fn look(&self, state: &mut State, now: Micros, owner: SlotOwner) -> BucketState {
        let before = state.tokens.clone();
        let seen = match &self.kind {
            Kind::Tokens(shape) => BucketState { used: shape.look(&mut state.tokens, now).0, more: [0, 0] },
            Kind::Budget(budget, _) => budget.look(&mut state.budget, now, owner),
            Kind::Limit(algorithm) => state.look(&self.check(algorithm), now, owner),
        };
        self.keep_until_full(state, now, before.as_ref());
        // A bucket that a larger limit left overdrawn counts as used up.
        BucketState { used: seen.used.min(self.limit), ..seen }
    }

    pub(super) fn spend(&self, state: &mut State, now: Micros, owner: SlotOwner) {
        let before = state.tokens.clone();
        match &self.kind {
            Kind::Tokens(shape) => shape.spend(&mut state.tokens, now, Units(self.cost)),
            Kind::Budget(budget, estimate) => budget.reserve(&mut state.budget, now, owner, *estimate),
            Kind::Limit(algorithm) => state.spend(&self.check(algorithm), now, owner),
        }
        self.keep_until_full(state, now, before.as_ref());
    }

    /// Sets the time at which a token bucket's key expires: after a write, and where the writer's rate is faster than
    /// that of this bucket.
    fn keep_until_full(&self, state: &mut State, now: Micros, before: Option<&TokenState>) {
        let shape = match &self.kind {
            Kind::Tokens(shape) => *shape,
            Kind::Limit(Algorithm::LeasedBucket(leased)) => leased.bucket().shape(),
            Kind::Limit(_) | Kind::Budget(..) => return,
        };
        let Some(tokens) = &state.tokens else { return };
        if before != Some(tokens) {
            state.expires = Some(tokens.expires(now));
        } else if tokens.is_faster_than(&shape) {
            state.expires = state.expires.max(Some(tokens.seen_by(&shape, now).expires(now)));
        }
    }

    /// The check of a bucket whose algorithm can be read back.
    fn check(&self, algorithm: &Algorithm) -> BucketCheck {
        let cost = match algorithm {
            Algorithm::LeasedBucket(leased) if self.cost <= self.limit => {
                self.cost.checked_div(leased.bucket().rate().per_token()).unwrap_or(0)
            }
            Algorithm::LeasedBucket(leased) => leased.bucket().capacity().0.saturating_add(1),
            _ => self.cost,
        };
        let key = self.key.to_vec();
        let enforced = self.group == ENFORCED;
        BucketCheck { limit: 0, window: 0, key, algorithm: *algorithm, cost: Tokens(cost), enforced, applied: None }
    }
}

impl Kind {
    /// Reads an algorithm of the mixed script. `y` is a number, or a string for leases.
    fn read(letter: &str, [cost, limit]: [u64; 2], x: i64, y: &[u8]) -> Option<Self> {
        let micros = || Some(Micros(u64::try_from(x).ok()?));
        Some(Self::Limit(match letter {
            "t" => return Some(Self::Tokens(Shape::of_arguments(x, number(y)?, limit)?)),
            "r" => {
                let (budget, estimate) = Budget::of_arguments(cost, limit, x, core::str::from_utf8(y).ok()?)?;
                return Some(Self::Budget(budget, estimate));
            }
            "b" => {
                let unit = u64::try_from(x).ok()?;
                Algorithm::LeasedBucket(LeasedBucket::of_arguments(unit, limit, core::str::from_utf8(y).ok()?)?)
            }
            "l" => Algorithm::SlidingLog(SlidingLog::new(limit, micros()?).ok()?),
            "s" => Algorithm::SlidingWindow(SlidingWindow::new(limit, micros()?).ok()?),
            "c" => Algorithm::Concurrency(Concurrency::new(limit, micros()?).ok()?),
            "f" if number::<i64>(y)? == 0 => Algorithm::FixedWindow(FixedWindow::new(limit, micros()?).ok()?),
            letter => Algorithm::Quota(Quota::of_arguments(letter, limit, [x, number(y)?])?),
        }))
    }
}
