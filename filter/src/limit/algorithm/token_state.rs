//! State of a token bucket in Redis, and how buckets of other sizes and rates read it.
//!
//! State outlives its parameters: a limit changes while its buckets live, or two proxies have different limits for a
//! time. So a bucket's state is the tokens that are *spent* and have not flowed back, whatever the rate: if the rate
//! changes, spent tokens stay spent. A leased token is spent until its lease ends or the worker returns it.
//!
//! A bucket whose capacity is less than the tokens spent counts as empty at the last write, not as overdrawn, and fills
//! from then on at its own rate. It makes no room in a larger bucket, for which all tokens stay spent: a denied request
//! changes nothing, and after an admitted request the state has two levels: all tokens spent, and the tokens spent of
//! the smaller bucket (*narrow*). A bucket of a third size takes the higher of the two levels that these give for it.
//!
//! So the tokens admitted within a window are at most the largest capacity plus the tokens that flow in at the fastest
//! rate in force: each admitted request adds its cost to the tokens spent; no bucket admits beyond its capacity; the
//! largest bucket never lacks less than any other bucket, and never more than that plus the difference in capacity.
//!
//! This is the specification; Redis runs `token_state.lua` beside it.

use alloc::vec::Vec;

use super::lease::Settlement;
use super::rate::{MOST_UNITS, Rate, Units};
use super::token_bucket::TokenBucket;
use crate::units::{Micros, Tokens};

/// State of a token bucket in Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::limit) struct TokenState {
    /// Time of the last write.
    at: Micros,
    /// The writer's rate, in whose units the state counts.
    rate: Rate,
    /// Whether held requests wait for tokens, which are reserved for them, whatever the capacity.
    delays: bool,
    /// Units that were spent at the last write and had not flowed back, without leased units.
    spent: u64,
    narrow: Option<Narrow>,
    /// Leases in the order of their ends.
    leases: Vec<Lease>,
}

/// Level of a bucket whose room is less than the units spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Narrow {
    room: u64,
    spent: u64,
}

/// Units that are leased until `ends`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lease {
    ends: Micros,
    units: u64,
}

/// Numbers of a bucket on which the meaning of its state depends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::limit) struct Shape {
    rate: Rate,
    /// Most units that the bucket may lack of being full.
    room: Units,
    /// Whether the bucket holds requests until their tokens exist.
    delays: bool,
}

impl Shape {
    /// Returns a shape from a script's arguments: the units of a token, negated where the bucket delays requests; the
    /// units that flow in per µs; and the room in units. `None` where one of the first two is zero.
    #[cfg(not(target_arch = "wasm32"))]
    pub(in crate::limit) fn of_arguments(unit: i64, per_micro: u64, room: u64) -> Option<Self> {
        let rate = Rate::of_units(unit.unsigned_abs(), per_micro)?;
        Some(Self { rate, room: Units(room), delays: unit.is_negative() })
    }

    /// Units that flow in per µs.
    #[cfg(not(target_arch = "wasm32"))]
    pub(in crate::limit) fn per_micro(&self) -> u64 {
        self.rate.per_micro()
    }

    /// Reads the state before the decision, as Redis does. Returns the units that the bucket lacks of being full.
    pub(in crate::limit) fn look(&self, state: &mut Option<TokenState>, now: Micros) -> Units {
        let open = TokenState::open(state.as_ref(), now, self, &[]);
        let lack = open.lack();
        if let Some(changed) = open.changed() {
            *state = Some(changed);
        }
        lack
    }

    /// Spends `price`, as Redis does after [`look`](Self::look).
    pub(in crate::limit) fn spend(&self, state: &mut Option<TokenState>, now: Micros, price: Units) {
        let open = TokenState::open(state.as_ref(), now, self, &[]);
        *state = Some(open.spend(price, None));
    }
}

/// Spend of a request that another bucket has denied.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Debug, Clone, Copy)]
pub(in crate::limit) struct DeniedSpend {
    /// Time of the spend.
    pub(in crate::limit) at: Micros,
    pub(in crate::limit) price: Units,
    /// Time from the spend until the bucket would be full. `None`: it may have been full at any time since, without the
    /// request.
    pub(in crate::limit) full_in: Option<Micros>,
    /// Tokens that others have given back since the spend.
    pub(in crate::limit) others: Units,
}

/// State as a bucket reads it at a given time, to spend from it.
#[derive(Debug)]
pub(super) struct OpenBucket {
    state: TokenState,
    /// Units that this bucket lacks of being full, without leased units.
    lack: u64,
    room: u64,
    delays: bool,
    is_changed: bool,
}

impl TokenState {
    /// Reads the state of a bucket, and settles leases. `None` is a full bucket.
    pub(super) fn open(state: Option<&Self>, now: Micros, shape: &Shape, settled: &[Settlement]) -> OpenBucket {
        let Shape { rate, room: Units(room), delays } = *shape;
        let full = Self { at: now, rate, delays: false, spent: 0, narrow: None, leases: Vec::new() };
        let mut state = state.map_or(full, |state| state.converted(rate));
        let ahead = state.at.minus(now);
        state.at = state.at.minus(ahead);
        state.leases.iter_mut().for_each(|lease| lease.ends = lease.ends.minus(ahead));

        let lack = state.lack_of(room);
        let mut open = OpenBucket { state, lack, room, delays, is_changed: ahead > Micros::ZERO };
        open.age(now);
        if !open.state.delays {
            open.lack = open.lack.min(room.saturating_sub(open.state.leased()));
        }
        settled.iter().for_each(|settled| open.settle(settled));
        open
    }

    /// Time at which the bucket is full, in whole milliseconds from `now`, at least 1: when Redis lets the key expire.
    #[cfg(not(target_arch = "wasm32"))]
    pub(in crate::limit) fn expires(&self, now: Micros) -> Micros {
        let per_micro = self.rate.per_micro();
        // In Lua's doubles, the quotients have parts of a microsecond: the sum is rounded up once.
        let [spent, leased] = [self.spent, self.leased()].map(u128::from);
        let last_end = self.leases.last().map_or(Micros::ZERO, |lease| lease.ends.minus(now));
        let waiting = u128::from(last_end.0).saturating_mul(per_micro.into());
        let units = spent.max(waiting).saturating_add(leased);
        let millis = units.div_ceil(u128::from(per_micro).saturating_mul(1_000)).max(1);
        now.plus(Micros::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
    }

    /// Whether the writer's rate is faster than that of `shape`: the key would expire before a bucket of that rate is full.
    #[cfg(not(target_arch = "wasm32"))]
    pub(in crate::limit) fn is_faster_than(&self, shape: &Shape) -> bool {
        self.rate.is_faster_than(&shape.rate)
    }

    /// The state as a bucket of `shape` reads it at `now`.
    #[cfg(not(target_arch = "wasm32"))]
    pub(in crate::limit) fn seen_by(&self, shape: &Shape, now: Micros) -> Self {
        Self::open(Some(self), now, shape, &[]).state
    }

    /// Whether no bucket of another size and no lease has a part in the state.
    pub(in crate::limit) fn is_plain(&self) -> bool {
        self.narrow.is_none() && self.leases.is_empty()
    }

    /// Refunds `price`, which a request spent at `at`, and returns whether it did.
    ///
    /// Only if that request was the last that spent, from a bucket of the same rate, and left the bucket `full_in` from
    /// full; and only if no bucket of another size and no lease has a part in the state.
    pub(in crate::limit) fn refund(&mut self, at: Micros, shape: &Shape, full_in: Micros, price: Units) -> bool {
        let is_plain = self.is_plain();
        let is_same_shape = self.rate == shape.rate && self.delays == shape.delays;
        let is_last = self.at == at && self.rate.time_for(Units(self.spent)) == full_in;
        if is_plain && is_same_shape && is_last {
            self.spent = self.spent.saturating_sub(price.0);
        }
        is_plain && is_same_shape && is_last
    }

    /// Gives back what a request has spent that another bucket denied, and returns it. `None`: nothing is given back.
    ///
    /// Tokens that have flowed in while the bucket would have been full without the request are there only because of
    /// it. It would have been full no sooner than it was to be, less what others have given back since.
    ///
    /// Only in a bucket of the same rate, without the level of a smaller bucket; where requests are delayed, only if
    /// none has spent since.
    #[cfg(not(target_arch = "wasm32"))]
    pub(in crate::limit) fn give_back(&mut self, shape: &Shape, spend: &DeniedSpend) -> Option<Units> {
        let is_same_shape = self.rate == shape.rate && self.delays == shape.delays;
        let is_in_time = self.at >= spend.at && (!self.delays || self.at == spend.at);
        if self.narrow.is_some() || !is_same_shape || !is_in_time {
            return None;
        }
        let flowed = |since: Micros| self.at.minus(since).0.saturating_mul(self.rate.per_micro());
        let sooner = spend.full_in.map(|full_in| {
            let full_at = spend.at.plus(full_in).minus(self.rate.time_for(spend.price).plus(Micros(1)));
            let until_full = full_at.minus(self.at).0.saturating_mul(self.rate.per_micro());
            flowed(full_at).saturating_add(spend.others.0.saturating_sub(until_full))
        });
        let flowed = sooner.unwrap_or(u64::MAX).min(flowed(spend.at));
        let units = spend.price.0.checked_sub(flowed).filter(|units| *units > 0)?;
        self.spent = self.spent.saturating_sub(units);
        Some(Units(units))
    }

    /// The same state in units of another rate. A token stays a token; parts of a unit are rounded up.
    fn converted(&self, rate: Rate) -> Self {
        let [from, to] = [&self.rate, &rate].map(|rate| u128::from(rate.per_token()));
        let bounded = |units: u128| u64::try_from(units).unwrap_or(u64::MAX).min(MOST_UNITS);
        let product = |units: u64| u128::from(units).saturating_mul(to);
        let up = |units: u64| bounded(product(units).div_ceil(from));
        let down = |units: u64| bounded(product(units).checked_div(from).unwrap_or(0));
        Self {
            rate,
            spent: up(self.spent),
            narrow: self.narrow.map(|narrow| Narrow { room: down(narrow.room), spent: up(narrow.spent) }),
            leases: self.leases.iter().map(|lease| Lease { units: up(lease.units), ..*lease }).collect(),
            ..*self
        }
    }

    /// Units that are leased.
    fn leased(&self) -> u64 {
        self.leases.iter().fold(0, |sum, lease| sum.saturating_add(lease.units))
    }

    /// Units that a bucket of `room` lacked at the last write, without leased units.
    fn lack_of(&self, room: u64) -> u64 {
        if self.delays {
            return self.spent;
        }
        let lack = self.spent.min(room.saturating_sub(self.leased()));
        self.narrow.map_or(lack, |narrow| lack.min(narrow.spent.saturating_add(room.saturating_sub(narrow.room))))
    }

    /// Units of a bucket of `room` that are still spent at `now`, of `units` spent at the last write. Leases that have
    /// ended since count as used at their ends.
    fn aged(&self, now: Micros, units: u64, room: u64) -> u64 {
        let flowed = |units: u64, from: Micros, to: Micros| {
            units.saturating_sub(to.minus(from).0.saturating_mul(self.rate.per_micro()))
        };
        let ended = self.leases.iter().filter(|lease| lease.ends <= now);
        let (since, units) = ended.fold((self.at, units), |(since, units), lease| {
            let rest = flowed(units, since, lease.ends);
            (since.max(lease.ends), rest.saturating_add(lease.units).min(room))
        });
        flowed(units, since, now)
    }
}

impl TokenBucket {
    /// Reads the state before the decision, as Redis does. Returns the units that the bucket lacks of being full.
    pub(in crate::limit) fn look(&self, state: &mut Option<TokenState>, now: Micros) -> Units {
        self.shape().look(state, now)
    }

    /// Spends `cost`, as Redis does after [`look`](Self::look).
    pub(in crate::limit) fn spend(&self, state: &mut Option<TokenState>, now: Micros, cost: Tokens) {
        self.shape().spend(state, now, self.price(cost));
    }

    /// Numbers on which the meaning of the bucket's state depends.
    pub(in crate::limit) fn shape(&self) -> Shape {
        Shape { rate: self.rate(), room: self.room(), delays: self.max_delay() > Micros::ZERO }
    }
}

impl OpenBucket {
    /// Units that the bucket lacks of being full, leased units included, at most its room.
    pub(super) fn lack(&self) -> Units {
        Units(self.lack.saturating_add(self.state.leased()).min(self.room))
    }

    /// Number of leases.
    pub(super) fn leases(&self) -> usize {
        self.state.leases.len()
    }

    /// State to write even if the request is denied. `None` where nothing changed.
    pub(super) fn changed(self) -> Option<TokenState> {
        let delays = self.state.delays || self.delays;
        self.is_changed.then(|| TokenState { delays, ..self.spend(Units(0), None) })
    }

    /// State after `price` is spent, and the units of `leased` are leased until its time.
    pub(in crate::limit) fn spend(mut self, price: Units, leased: Option<(Micros, Units)>) -> TokenState {
        self.take(price.0);
        if let Some((ends, Units(units))) = leased {
            let leases = &mut self.state.leases;
            let at = leases.partition_point(|lease| lease.ends < ends);
            match leases.get_mut(at).filter(|lease| lease.ends == ends) {
                Some(lease) => lease.units = lease.units.saturating_add(units),
                None => leases.insert(at, Lease { ends, units }),
            }
        }
        if self.lack < self.state.spent {
            self.state.narrow = Some(Narrow { room: self.room, spent: self.lack });
        }
        let spent = self.state.spent;
        self.state.narrow = self.state.narrow.filter(|narrow| narrow.spent < spent);
        let still_delays = self.state.delays && spent.saturating_add(self.state.leased()) > self.room;
        self.state.delays = self.delays || still_delays;
        self.state
    }

    fn take(&mut self, units: u64) {
        self.state.spent = self.state.spent.saturating_add(units).min(MOST_UNITS);
        self.lack = self.lack.saturating_add(units);
        if let Some(narrow) = &mut self.state.narrow {
            narrow.spent = narrow.spent.saturating_add(units).min(narrow.room);
        }
    }

    fn age(&mut self, now: Micros) {
        let state = &self.state;
        let room = if state.delays { MOST_UNITS } else { self.room };
        let lack = state.aged(now, self.lack, room);
        let spent = state.aged(now, state.spent, MOST_UNITS);
        let narrow = state.narrow.map(|narrow| Narrow { spent: state.aged(now, narrow.spent, narrow.room), ..narrow });
        self.lack = lack;
        (self.state.at, self.state.spent, self.state.narrow) = (now, spent, narrow);
        self.state.leases.retain(|lease| lease.ends > now);
        // A full bucket is as one whose key has expired.
        if self.state.spent == 0 && self.state.leases.is_empty() {
            (self.state.narrow, self.state.delays) = (None, false);
        }
    }

    /// Applies a settlement. Where it exceeds the lease, used tokens count first; where the lease has ended, it is
    /// ignored.
    fn settle(&mut self, settled: &Settlement) {
        if settled.used.max(settled.unused) == Tokens(0) {
            return;
        }
        let leases = &mut self.state.leases;
        let Some(index) = leases.iter().position(|lease| lease.ends == settled.ends) else { return };
        let Some(lease) = leases.get_mut(index) else { return };
        let used = self.state.rate.units(settled.used).0.min(lease.units);
        let unused = self.state.rate.units(settled.unused).0;
        lease.units = lease.units.saturating_sub(used).saturating_sub(unused);
        if lease.units == 0 {
            leases.remove(index);
        }
        self.is_changed = true;
        self.take(used);
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests;
