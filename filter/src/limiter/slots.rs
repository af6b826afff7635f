//! The slots that requests hold in concurrency limits: renewed while they last, given back when they end.
//!
//! A slot that cannot be given back now is [owed](PendingReleases), and tried again until its lease ends and Redis frees it by
//! itself. A check whose request is over before Redis has decided it may yet take slots: its outcome is awaited.

use alloc::vec::Vec;

use super::RequestId;
use super::releases::{PendingReleases, SlotRelease};
use super::tickets::BackgroundCalls;
use super::timers::Timers;
use crate::limit::{Check, HeldSlots, Scripts, SlotOwner, release_call, renew_call};
use crate::redis::{Call, Failure, Reply, Ticket};
use crate::table::Table;
use crate::units::Micros;

/// Slots that one call renews or gives back.
const PER_CALL: usize = 128;
/// Slots that are renewed in one tick, and as many that are owed.
const PER_TICK: usize = 64 * PER_CALL;

/// One worker's.
#[derive(Debug)]
pub(super) struct Slots {
    /// By when they are to be renewed.
    held: Timers<HeldSlots>,
    /// Checks of requests that are over, of which Redis has yet to tell what it took for them; by request.
    awaited: Table<Check>,
    /// Being given back, by their calls, with their keys.
    returning: Table<Vec<(Vec<u8>, SlotRelease)>>,
    pending_releases: PendingReleases,
    /// Whether each call has one key: Redis has refused one that had several.
    is_apart: bool,
}

impl Default for Slots {
    fn default() -> Self {
        Self {
            held: Timers::new(),
            awaited: Table::new(),
            returning: Table::new(),
            pending_releases: PendingReleases::default(),
            is_apart: false,
        }
    }
}

impl Slots {
    /// An admitted request holds these from now on.
    pub(super) fn take(&mut self, now: Micros, request: RequestId, holds: HeldSlots) {
        self.held.set(now.plus(holds.renew_within()), request, holds);
    }

    /// Whether a request holds any.
    pub(super) fn holds(&self, request: RequestId) -> bool {
        self.held.contains(request)
    }

    /// The request is over: what it held, if anything, which is to be [given back](Self::give_back).
    pub(super) fn leave(&mut self, request: RequestId) -> Option<HeldSlots> {
        self.held.remove(request)
    }

    /// A request is over, and Redis will tell later what it took for this check.
    pub(super) fn await_outcome(&mut self, request: RequestId, check: Check) {
        self.awaited.insert(request.0, check);
    }

    /// The check of a request that is over, whose outcome is told.
    pub(super) fn outcome(&mut self, request: RequestId) -> Option<Check> {
        self.awaited.remove(request.0)
    }

    /// The calls that give these slots back, which may be but a guess.
    #[inline(never)]
    pub(super) fn give_back(
        &mut self,
        now: Micros,
        background: &mut BackgroundCalls,
        holds: &HeldSlots,
        is_guess: bool,
        scripts: &Scripts,
    ) -> Vec<(Ticket, Call)> {
        let release = if is_guess { SlotRelease::guess } else { SlotRelease::held };
        let releases = holds.slots().map(|(key, lease)| (key.to_vec(), release(now, holds.owner(), lease)));
        self.pay(background, releases.collect(), scripts)
    }

    /// The calls that are due: renewals, and what is owed.
    #[inline(never)]
    pub(super) fn due(
        &mut self,
        now: Micros,
        background: &mut BackgroundCalls,
        scripts: &Scripts,
    ) -> Vec<(Ticket, Call)> {
        let owed = self.pending_releases.due(now, PER_TICK);
        let mut calls = self.pay(background, owed, scripts);
        let mut renewed: Vec<(RequestId, HeldSlots)> = Vec::new();
        while renewed.len() < PER_TICK
            && let Some(held) = self.held.pop_due(now)
        {
            renewed.push(held);
        }
        let slots = |(_, holds): &'_ (_, HeldSlots)| {
            let of_one = |(key, lease): (&[u8], Micros)| (key.to_vec(), holds.owner(), lease);
            holds.slots().map(of_one).collect::<Vec<_>>()
        };
        let slots: Vec<(Vec<u8>, SlotOwner, Micros)> = renewed.iter().flat_map(slots).collect();
        for some in chunks(&slots, self.is_apart, |(key, ..)| key) {
            let some: Vec<_> = some.iter().map(|(key, owner, lease)| (key.as_slice(), *owner, *lease)).collect();
            calls.push((background.ticket(), renew_call(&some, scripts)));
        }
        for (request, holds) in renewed {
            self.take(now, request, holds);
        }
        calls
    }

    /// When calls are due next.
    pub(super) fn next_due(&self) -> Option<Micros> {
        self.held.next().into_iter().chain(self.pending_releases.next_due()).min()
    }

    /// A call has come to its end. A renewal that failed is not made again before its next turn: there are two more
    /// within its lease.
    #[inline(never)]
    pub(super) fn completed(&mut self, now: Micros, ticket: Ticket, result: Result<Reply, Failure>) {
        self.is_apart |= result == Err(Failure::ClusterMode);
        let Some(releases) = self.returning.remove(ticket.0) else { return };
        let had_all = result == i64::try_from(releases.len()).map_or(Ok(Reply::Nil), |all| Ok(Reply::Integer(all)));
        for (key, release) in releases {
            match result {
                Err(_) => self.pending_releases.failed(now, &key, release),
                Ok(_) if release.is_guess() && !had_all => self.pending_releases.guessed(now, &key, release),
                Ok(_) => {}
            }
        }
    }

    #[inline(never)]
    fn pay(
        &mut self,
        background: &mut BackgroundCalls,
        releases: Vec<(Vec<u8>, SlotRelease)>,
        scripts: &Scripts,
    ) -> Vec<(Ticket, Call)> {
        let mut calls = Vec::new();
        for some in chunks(&releases, self.is_apart, |(key, _)| key) {
            let slots: Vec<_> =
                some.iter().map(|(key, release)| (key.as_slice(), release.owner, release.lease)).collect();
            let ticket = background.ticket();
            calls.push((ticket, release_call(&slots, scripts)));
            self.returning.insert(ticket.0, some.to_vec());
        }
        calls
    }
}

/// As many as one call takes; only of one key, where they are apart.
fn chunks<T>(all: &[T], are_apart: bool, key: impl Fn(&T) -> &Vec<u8>) -> Vec<&[T]> {
    let of_key = all.chunk_by(|one, other| !are_apart || key(one) == key(other));
    of_key.flat_map(|some| some.chunks(PER_CALL)).collect()
}

#[cfg(test)]
mod tests;
