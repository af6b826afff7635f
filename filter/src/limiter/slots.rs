//! Slots that requests hold in concurrency limits: renewed during the request, released at its end.
//!
//! A failed release becomes a [pending release](PendingReleases), retried until the lease ends and Redis frees the slot
//! by itself. A check whose request ends before Redis has decided it may still take slots: its reply is awaited, and
//! the slots are then released.

use alloc::vec::Vec;

use super::releases::{PendingReleases, SlotRelease};
use super::request_id::RequestId;
use super::tickets::BackgroundCalls;
use super::timers::Timers;
use crate::limit::{Check, HeldSlots, Scripts, SlotOwner, release_call, renew_call};
use crate::redis::{Call, Failure, Reply, Ticket, Topology};
use crate::table::Table;
use crate::units::Micros;

/// Maximum number of slots that one call renews or releases.
const PER_CALL: usize = 128;
/// Maximum number of slots renewed in one tick, and of pending releases retried in one tick.
const PER_TICK: usize = 64 * PER_CALL;

/// Slots of one worker.
#[derive(Debug)]
pub(super) struct Slots {
    /// Held slots by request, due at their next renewal.
    held: Timers<HeldSlots>,
    /// Checks of ended requests whose reply is still to come, by request.
    awaited: Table<Check>,
    /// Slots being released with their keys, by call.
    returning: Table<Vec<(Vec<u8>, SlotRelease)>>,
    pending_releases: PendingReleases,
    /// Whether each call has slots of one key only: Redis is a cluster, or refused a call with several keys as one.
    one_key_per_call: bool,
}

#[cfg(test)]
impl Default for Slots {
    fn default() -> Self {
        Self::new(Topology::Single)
    }
}

impl Slots {
    /// Creates the state of a worker without slots.
    #[inline(never)]
    pub(super) fn new(topology: Topology) -> Self {
        Self {
            held: Timers::new(),
            awaited: Table::new(),
            returning: Table::new(),
            pending_releases: PendingReleases::default(),
            one_key_per_call: topology == Topology::Cluster,
        }
    }

    /// Adds slots of a request, which may hold others of the same owner. These are renewed no later than before.
    pub(super) fn take(&mut self, now: Micros, request: RequestId, holds: HeldSlots) {
        let due = now.plus(holds.renew_within());
        match self.held.take(request) {
            Some((earlier, others)) => self.held.set(earlier.min(due), request, others.and(holds)),
            None => self.held.set(due, request, holds),
        }
    }

    /// Whether the request holds slots.
    pub(super) fn holds(&self, request: RequestId) -> bool {
        self.held.contains(request)
    }

    /// Removes a request that has ended, and returns its slots, if any, to be [released](Self::release).
    pub(super) fn leave(&mut self, request: RequestId) -> Option<HeldSlots> {
        self.held.remove(request)
    }

    /// Awaits the reply to the check of a request that has ended.
    pub(super) fn await_outcome(&mut self, request: RequestId, check: Check) {
        self.awaited.insert(request.0, check);
    }

    /// Removes and returns the awaited check of a request that has ended.
    pub(super) fn outcome(&mut self, request: RequestId) -> Option<Check> {
        self.awaited.remove(request.0)
    }

    /// Returns the calls that release these slots. `is_guess` if they may not be held.
    #[inline(never)]
    pub(super) fn release(
        &mut self,
        now: Micros,
        background: &mut BackgroundCalls,
        holds: &HeldSlots,
        is_guess: bool,
        scripts: &Scripts,
    ) -> Vec<(Ticket, Call)> {
        let release = if is_guess { SlotRelease::guess } else { SlotRelease::held };
        let releases = holds.slots().map(|(key, lease)| (key.to_vec(), release(now, holds.owner(), lease)));
        self.release_calls(background, releases.collect(), scripts)
    }

    /// Returns the calls due by `now`: renewals and pending releases.
    #[inline(never)]
    pub(super) fn due(
        &mut self,
        now: Micros,
        background: &mut BackgroundCalls,
        scripts: &Scripts,
    ) -> Vec<(Ticket, Call)> {
        let pending = self.pending_releases.due(now, PER_TICK);
        let mut calls = self.release_calls(background, pending, scripts);
        let mut renewed: Vec<(RequestId, HeldSlots)> = Vec::new();
        while renewed.len() < PER_TICK
            && let Some(held) = self.held.pop_due(now)
        {
            renewed.push(held);
        }
        let slots = |(_, holds): &'_ (_, HeldSlots)| {
            let slot = |(key, lease): (&[u8], Micros)| (key.to_vec(), holds.owner(), lease);
            holds.slots().map(slot).collect::<Vec<_>>()
        };
        let slots: Vec<(Vec<u8>, SlotOwner, Micros)> = renewed.iter().flat_map(slots).collect();
        for chunk in chunks(&slots, self.one_key_per_call, |(key, ..)| key) {
            let chunk: Vec<_> = chunk.iter().map(|(key, owner, lease)| (key.as_slice(), *owner, *lease)).collect();
            calls.push((background.ticket(), renew_call(&chunk, scripts)));
        }
        for (request, holds) in renewed {
            self.take(now, request, holds);
        }
        calls
    }

    /// Time at which calls are due next.
    pub(super) fn next_due(&self) -> Option<Micros> {
        self.held.next().into_iter().chain(self.pending_releases.next_due()).min()
    }

    /// Handles the result of a call. A failed renewal is not retried: two more follow within its lease.
    #[inline(never)]
    pub(super) fn completed(&mut self, now: Micros, ticket: Ticket, result: Result<Reply, Failure>) {
        self.one_key_per_call |= result == Err(Failure::ClusterMode);
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
    fn release_calls(
        &mut self,
        background: &mut BackgroundCalls,
        releases: Vec<(Vec<u8>, SlotRelease)>,
        scripts: &Scripts,
    ) -> Vec<(Ticket, Call)> {
        let mut calls = Vec::new();
        for chunk in chunks(&releases, self.one_key_per_call, |(key, _)| key) {
            let slots: Vec<_> =
                chunk.iter().map(|(key, release)| (key.as_slice(), release.owner, release.lease)).collect();
            let ticket = background.ticket();
            calls.push((ticket, release_call(&slots, scripts)));
            self.returning.insert(ticket.0, chunk.to_vec());
        }
        calls
    }
}

/// Splits a list into chunks for one call each: of at most [`PER_CALL`] items, and of one key if `one_key_per_call`.
pub(super) fn chunks<T>(all: &[T], one_key_per_call: bool, key: impl Fn(&T) -> &Vec<u8>) -> Vec<&[T]> {
    let runs = all.chunk_by(|one, other| !one_key_per_call || key(one) == key(other));
    runs.flat_map(|chunk| chunk.chunks(PER_CALL)).collect()
}

#[cfg(test)]
mod tests;
