//! State of a budget in Redis: the amounts settled and reserved in its window and in the window before, and the open
//! reservations.
//!
//! A reservation names its window by number, not by time, so that a clock that is set back moves nothing to another
//! window. A reservation whose lease ends is *lost*: it is charged as its budget says, and kept for an hour, so that a
//! settlement that comes late is still exact, once. A settlement of a reservation that may never have been made leaves a
//! mark, by which it is not applied twice, and which a request that it has overtaken meets.
//!
//! Of a token bucket the window has no end, and what is settled drains. Why the bucket admits no more than `capacity +
//! window / emission` within any time: let V be the units spent and reserved. Only an admission increases V, and to no
//! more than the capacity: a settlement of no more than was reserved does not. What is settled between two instants is
//! what the units spent have grown by, which is at most V at the end, and what has drained. A cost above the reservation
//! is debt, which drains before anything is admitted. To give back a charge that has drained in part would break this:
//! see the test `what_has_drained_is_not_given_back`.

use alloc::collections::BTreeMap;

use super::budget::{Base, KEPT};
use super::rate::Rate;
use super::slot_owner::SlotOwner;
use crate::limit::charge::MAX_AMOUNT;
use crate::units::Micros;

/// State of a budget in Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::limit) struct BudgetState {
    window: Counts,
    before: Option<Counts>,
    reservations: BTreeMap<SlotOwner, Reservation>,
    /// Time before which no reservation ends.
    next: Micros,
}

/// Amounts of one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counts {
    /// Start of the window; of a token bucket, the time of the last write.
    start: Micros,
    /// Amount settled; of a token bucket, in units that have not drained.
    used: u64,
    /// Amount reserved, in tokens.
    held: u64,
    number: u64,
    /// Rate of a token bucket, in whose units the state counts.
    rate: Option<Rate>,
}

/// Reservation of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reservation {
    phase: Phase,
    amount: u64,
    /// Charge if it is lost.
    lost: u64,
    /// Number of its window.
    window: u64,
    ends: Micros,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    Lost,
    /// Settled before it was made.
    Done,
}

/// Result of a settlement, by its letter in the script's reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettleResult {
    /// Cost of no more than was reserved.
    Within,
    /// Cost of more than was reserved.
    Overrun,
    /// Settlement after the end of the lease.
    Late,
    /// No reservation: the request is charged in full.
    Unreserved,
    /// No reservation to settle.
    Nothing,
}

impl SettleResult {
    /// Letters of the results in the script's reply.
    pub(in crate::limit) const LETTERS: [(u8, Self); 5] = [
        (b'O', Self::Within),
        (b'V', Self::Overrun),
        (b'L', Self::Late),
        (b'D', Self::Unreserved),
        (b'-', Self::Nothing),
    ];
}

impl BudgetState {
    /// Reads a state, and sweeps reservations whose leases have ended, but not that of `owner`. Returns whether the state
    /// is to be written even if the request is denied.
    pub(super) fn open(state: Option<&Self>, base: &Base, now: Micros, owner: SlotOwner) -> (Self, bool) {
        let start = base.start(now);
        let rate = if let Base::Bucket(bucket) = base { Some(bucket.rate()) } else { None };
        let fresh = |start, number| Counts { start, used: 0, held: 0, number, rate };
        let Some(mut state) = state.cloned() else {
            let (reservations, next) = (BTreeMap::new(), Micros(MAX_AMOUNT));
            return (Self { window: fresh(start, 0), before: None, reservations, next }, false);
        };
        let ahead = state.window.start.minus(start);
        if let Some(rate) = rate {
            state.window = state.window.drained(start, rate);
        } else if ahead > Micros::ZERO {
            // The clock was set back: what a later window has counts in this one.
            state.window.start = start;
            state.before = state.before.map(|before| Counts { start: before.start.minus(ahead), ..before });
        } else if state.window.start < start {
            let next = state.window.number.saturating_add(1);
            state.before = Some(core::mem::replace(&mut state.window, fresh(start, next)));
        }
        let is_swept = state.next <= now;
        if is_swept {
            state.sweep(now, owner);
        }
        (state, is_swept || ahead > Micros::ZERO)
    }

    /// Used part of the limit, of that the part without reservations, and what the window before counts.
    pub(super) fn level(&self, base: &Base, now: Micros) -> [u64; 3] {
        let held = self.window.held.saturating_mul(base.unit());
        let (spent, used) = (self.window.used, self.window.used.saturating_add(held).min(MAX_AMOUNT));
        match (base, self.before) {
            (Base::Sliding(sliding), Some(before)) if before.start.plus(sliding.window()) == self.window.start => {
                let limit = sliding.limit().0;
                let part = |amount: u64| sliding.part(now, amount.min(limit));
                let all = before.used.saturating_add(before.held).min(limit);
                [used.min(limit).saturating_add(part(all)), spent.min(limit).saturating_add(part(before.used)), all]
            }
            _ => [used, spent, 0],
        }
    }

    /// Reserves an amount for `owner`. Returns false where it was settled already.
    pub(super) fn reserve(&mut self, owner: SlotOwner, amount: u64, lost: u64, ends: Micros) -> bool {
        if self.reservations.contains_key(&owner) {
            return false;
        }
        self.window.held = self.window.held.saturating_add(amount);
        self.insert(owner, Reservation { phase: Phase::Open, amount, lost, window: self.window.number, ends });
        true
    }

    /// Settles the reservation of `owner` by what its request has cost, as Redis does. `is_unknown` tells whether it may
    /// not have been made. Returns the result.
    pub(in crate::limit) fn settle(
        state: &mut Option<Self>,
        budget: &super::Budget,
        now: Micros,
        owner: SlotOwner,
        cost: u64,
        is_unknown: bool,
    ) -> SettleResult {
        let base = budget.base();
        let (mut open, is_changed) = Self::open(state.as_ref(), &base, now, owner);
        let result = match open.reservations.get(&owner).copied() {
            Some(reservation) if reservation.phase != Phase::Done => {
                open.reservations.remove(&owner);
                open.close(&base, reservation, cost)
            }
            None if is_unknown => {
                open.charge(open.window.number, 0, cost.into());
                SettleResult::Unreserved
            }
            _ => SettleResult::Nothing,
        };
        // Without a mark, the settlement would find nothing when it is sent again, and charge in full.
        if is_unknown && result != SettleResult::Nothing {
            let ends = now.plus(KEPT.times(2));
            open.insert(owner, Reservation { phase: Phase::Done, amount: 0, lost: 0, window: 0, ends });
        }
        if is_changed || result != SettleResult::Nothing {
            *state = Some(open);
        }
        result
    }

    /// Renews the lease of an open reservation, and returns whether there is one.
    pub(in crate::limit) fn renew(&mut self, now: Micros, owner: SlotOwner, lease: Micros) -> bool {
        let open = self.reservations.get_mut(&owner).filter(|reservation| reservation.phase == Phase::Open);
        let is_open = open.is_some();
        if let Some(reservation) = open {
            reservation.ends = now.plus(lease);
            self.next = self.next.min(reservation.ends);
        }
        is_open
    }

    /// Amounts settled and reserved in the window; what is settled of a token bucket is in units.
    #[cfg(not(target_arch = "wasm32"))]
    pub(in crate::limit) fn amounts(&self) -> (u64, u64) {
        (self.window.used, self.window.held)
    }

    /// Amounts settled and reserved in the window at `now`, in tokens or nano-USD.
    #[cfg(not(target_arch = "wasm32"))]
    pub(in crate::limit) fn amounts_at(&self, now: Micros) -> (u64, u64) {
        match self.window.rate {
            Some(rate) => (self.window.drained(now, rate).used.div_ceil(rate.per_token()), self.window.held),
            None => self.amounts(),
        }
    }

    fn close(&mut self, base: &Base, reservation: Reservation, cost: u64) -> SettleResult {
        let (excess, is_late) = (cost.saturating_sub(reservation.amount), reservation.phase == Phase::Lost);
        let (held, mut due) = match is_late {
            true => (0, i128::from(cost).saturating_sub(reservation.lost.into())),
            false => (reservation.amount, cost.into()),
        };
        match base {
            // What has drained since cannot be given back.
            Base::Bucket(_) => due = due.max(0),
            Base::Quota(_) => {}
            Base::Fixed(_) | Base::Sliding(_) => {
                // In the window of its request, it may no longer hold anything back.
                self.charge(self.window.number, 0, excess.into());
                due = due.saturating_sub(excess.into());
            }
        }
        self.charge(reservation.window, held, due);
        match (is_late, excess) {
            (true, _) => SettleResult::Late,
            (false, 0) => SettleResult::Within,
            (false, _) => SettleResult::Overrun,
        }
    }

    /// Charges an amount, and ends the reservation of another, in the window of this number, if it is this window or the
    /// one before.
    fn charge(&mut self, number: u64, held: u64, amount: i128) {
        let own = self.window.number;
        let counts = match self.before.as_mut() {
            _ if number == own => &mut self.window,
            Some(before) if number.saturating_add(1) == own => before,
            _ => return,
        };
        let unit = counts.rate.map_or(1, |rate| rate.per_token());
        let used = amount.saturating_mul(unit.into()).saturating_add(counts.used.into());
        counts.used = u64::try_from(used.clamp(0, MAX_AMOUNT.into())).unwrap_or(0);
        counts.held = counts.held.saturating_sub(held);
    }

    fn sweep(&mut self, now: Micros, owner: SlotOwner) {
        let is_swept = |(its, reservation): (&SlotOwner, &Reservation)| *its != owner && reservation.ends <= now;
        let swept: alloc::vec::Vec<SlotOwner> =
            self.reservations.iter().filter(|(its, of)| is_swept((its, of))).map(|(its, _)| *its).collect();
        for its in swept {
            let Some(reservation) = self.reservations.remove(&its) else { continue };
            if reservation.phase == Phase::Open {
                self.charge(reservation.window, reservation.amount, reservation.lost.into());
                let lost = Reservation { phase: Phase::Lost, ends: now.plus(KEPT), ..reservation };
                self.reservations.insert(its, lost);
            }
        }
        self.next = self.reservations.values().map(|of| of.ends).min().unwrap_or(Micros(MAX_AMOUNT));
    }

    fn insert(&mut self, owner: SlotOwner, reservation: Reservation) {
        self.next = self.next.min(reservation.ends);
        self.reservations.insert(owner, reservation);
    }
}

impl Counts {
    /// Level of a token bucket of this rate at `now`. A token that is spent stays a token.
    fn drained(self, now: Micros, rate: Rate) -> Self {
        let from = self.rate.unwrap_or(rate).per_token();
        let units = u128::from(self.used).saturating_mul(rate.per_token().into()).div_ceil(from.into());
        let units = u64::try_from(units).unwrap_or(u64::MAX).min(MAX_AMOUNT);
        let drained = now.minus(self.start).0.saturating_mul(rate.per_micro());
        Self { start: now, used: units.saturating_sub(drained), rate: Some(rate), ..self }
    }
}

#[cfg(test)]
mod tests;
