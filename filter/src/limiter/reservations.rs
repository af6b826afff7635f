//! Reservations of requests in budgets: renewed during the request, settled at its end.
//!
//! A settlement that fails is *owed*: it is sent again each second, until an hour after the lease. It may be repeated,
//! as Redis settles a reservation once.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::request_id::RequestId;
use super::slots::chunks;
use super::tickets::BackgroundCalls;
use super::timers::Timers;
use crate::limit::{Budget, Ledger, Reservations, Scripts, SettleResult, SlotOwner, read_results, renew_budgets_call};
use crate::redis::{Call, Failure, Reply, Ticket, Topology};
use crate::table::Table;
use crate::units::Micros;

/// Maximum number of owed settlements. Further ones are dropped: their requests are charged as lost.
const MAX_OWED: usize = 1_024;
/// Maximum number of owed settlements sent in one tick.
const OWED_PER_TICK: usize = 64;
/// Interval between attempts to send what is owed.
const TRY_AGAIN: Micros = Micros::from_secs(1);
/// Time for which Redis keeps a lost reservation for its settlement.
const KEPT: Micros = Micros::from_secs(3_600);
/// Maximum number of requests whose reservations are renewed in one tick.
const PER_TICK: usize = 8_192;

/// Reservations of one worker.
#[derive(Debug)]
pub(super) struct OpenReservations {
    /// Reservations by request, due at their next renewal.
    held: Timers<Open>,
    /// Settlements that are sent, by call.
    settling: Table<Settling>,
    owed: VecDeque<Settling>,
    /// Time of the next attempt, if anything is owed.
    retry_at: Micros,
    /// Whether each call has one budget only: Redis is a cluster, or refused a call with several keys as one.
    one_key_per_call: bool,
}

/// Reservations of a request in flight.
#[derive(Debug)]
pub(super) struct Open {
    reservations: Reservations,
    /// Whether the request may have none of them, since Redis' decision is not known.
    is_unknown: bool,
}

/// Names and values of an entry in the ledger.
pub(super) type Fields = Vec<(&'static str, Vec<u8>)>;

/// Settlement of a request.
#[derive(Debug)]
pub(super) struct Settling {
    open: Open,
    /// Indexes of limits, each with what the request has cost it.
    costs: Vec<(usize, u64)>,
    ledger: Option<Fields>,
    until: Micros,
    /// Whether it was sent before: Redis may have applied it, although its reply was lost.
    is_repeated: bool,
}

/// Result of a call.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) results: Vec<SettleResult>,
    /// Indexes of limits, each with what the request has cost it.
    pub(super) charged: Vec<(usize, u64)>,
    /// Whether the ledger has refused the entry.
    pub(super) is_refused: bool,
    /// Number of settlements that were dropped.
    pub(super) dropped: u64,
}

/// Scripts and ledger of calls.
#[derive(Clone, Copy)]
pub(super) struct Calls<'a> {
    pub(super) scripts: &'a Scripts,
    /// Key and length of the stream to which settlements write. An empty key: they write to none.
    pub(super) stream: (&'a [u8], u64),
}

impl OpenReservations {
    /// Creates the state of a worker without reservations.
    #[inline(never)]
    pub(super) fn new(topology: Topology) -> Self {
        Self {
            held: Timers::new(),
            settling: Table::new(),
            owed: VecDeque::new(),
            retry_at: Micros::ZERO,
            one_key_per_call: topology == Topology::Cluster,
        }
    }

    /// Adds reservations of a request, which may have others of the same owner.
    #[inline(never)]
    pub(super) fn take(&mut self, now: Micros, request: RequestId, reservations: Reservations, is_unknown: bool) {
        let due = now.plus(reservations.renew_within());
        match self.held.take(request) {
            Some((earlier, others)) => {
                let is_unknown = is_unknown || others.is_unknown;
                let reservations = others.reservations.and(reservations);
                self.held.set(earlier.min(due), request, Open { reservations, is_unknown });
            }
            None => self.held.set(due, request, Open { reservations, is_unknown }),
        }
    }

    /// Whether the request has reservations.
    pub(super) fn holds(&self, request: RequestId) -> bool {
        self.held.contains(request)
    }

    /// Removes a request that has ended, and returns its reservations, if any, to be [settled](Self::settle).
    pub(super) fn leave(&mut self, request: RequestId) -> Option<Open> {
        self.held.remove(request)
    }

    /// Returns the calls that settle these reservations.
    #[inline(never)]
    pub(super) fn settle(
        &mut self,
        now: Micros,
        background: &mut BackgroundCalls,
        open: Open,
        cost: &dyn Fn(usize) -> u64,
        ledger: Option<Fields>,
        calls: Calls<'_>,
    ) -> Vec<(Ticket, Call)> {
        let until = now.plus(open.reservations.lease()).plus(KEPT);
        let costs = open.reservations.as_slice().iter().map(|of| (of.limit, cost(of.limit))).collect();
        self.send(background, Settling { open, costs, ledger, until, is_repeated: false }, calls)
    }

    /// Returns the calls due by `now`: renewals, and settlements that are owed. Drops those that come too late, and
    /// returns their number as well.
    #[inline(never)]
    pub(super) fn due(
        &mut self,
        now: Micros,
        background: &mut BackgroundCalls,
        calls: Calls<'_>,
    ) -> (Vec<(Ticket, Call)>, u64) {
        let (mut due, mut dropped) = (Vec::new(), 0_u64);
        if !self.owed.is_empty() && self.retry_at <= now {
            self.retry_at = now.plus(TRY_AGAIN);
            for _ in 0..OWED_PER_TICK {
                let Some(settling) = self.owed.pop_front() else { break };
                if settling.until > now {
                    due.append(&mut self.send(background, Settling { is_repeated: true, ..settling }, calls));
                } else {
                    dropped = dropped.saturating_add(1);
                }
            }
        }
        let mut renewed: Vec<(RequestId, Open)> = Vec::new();
        while renewed.len() < PER_TICK
            && let Some(open) = self.held.pop_due(now)
        {
            renewed.push(open);
        }
        let all = renewed.iter().flat_map(|(_, open)| {
            let owner = open.reservations.owner();
            open.reservations.as_slice().iter().map(move |of| (of.key.clone(), owner, of.budget))
        });
        let all: Vec<(Vec<u8>, SlotOwner, Budget)> = all.collect();
        for chunk in chunks(&all, self.one_key_per_call, |(key, ..)| key) {
            let chunk: Vec<_> = chunk.iter().map(|(key, owner, budget)| (key.as_slice(), *owner, *budget)).collect();
            due.push((background.ticket(), renew_budgets_call(&chunk, calls.scripts)));
        }
        for (request, Open { reservations, is_unknown }) in renewed {
            self.take(now, request, reservations, is_unknown);
        }
        (due, dropped)
    }

    /// Time at which calls are due next.
    pub(super) fn next_due(&self) -> Option<Micros> {
        let retry = (!self.owed.is_empty()).then_some(self.retry_at);
        self.held.next().into_iter().chain(retry).min()
    }

    /// Handles the result of a call. `None`: it is no settlement. A failed renewal is not retried: two more follow
    /// within its lease.
    #[inline(never)]
    pub(super) fn completed(
        &mut self,
        now: Micros,
        ticket: Ticket,
        result: &Result<Reply, Failure>,
    ) -> Option<Settled> {
        let settling = self.settling.remove(ticket.0)?;
        self.one_key_per_call |= matches!(result, Err(Failure::ClusterMode));
        match result {
            Ok(reply) => {
                let (results, is_refused) = read_results(reply).unwrap_or_default();
                let charged = settling.charged(&results);
                Some(Settled { results, charged, is_refused, dropped: 0 })
            }
            Err(_) if self.owed.len() < MAX_OWED => {
                if self.owed.is_empty() {
                    self.retry_at = now.plus(TRY_AGAIN);
                }
                self.owed.push_back(settling);
                Some(Settled::default())
            }
            Err(_) => Some(Settled { dropped: 1, ..Settled::default() }),
        }
    }

    fn send(
        &mut self,
        background: &mut BackgroundCalls,
        settling: Settling,
        Calls { scripts, stream: (stream, max_len) }: Calls<'_>,
    ) -> Vec<(Ticket, Call)> {
        let Settling { open: Open { reservations, is_unknown }, costs, mut ledger, until, is_repeated } = settling;
        let parts: Vec<Reservations> = match self.one_key_per_call {
            true => reservations.apart().collect(),
            false => vec![reservations],
        };
        let mut sent = Vec::new();
        for reservations in parts {
            let open = Open { reservations, is_unknown };
            let settling = Settling { open, costs: costs.clone(), ledger: ledger.take(), until, is_repeated };
            let writes = !stream.is_empty() && settling.open.reservations.has_soft_limit();
            let fields = settling.ledger.clone().or_else(|| writes.then(Fields::new));
            let entry = fields.map(|fields| Ledger { stream, max_len, fields });
            let ticket = background.ticket();
            let cost = |limit| settling.cost(limit);
            sent.push((ticket, settling.open.reservations.settle_call(&cost, is_unknown, entry.as_ref(), scripts)));
            self.settling.insert(ticket.0, settling);
        }
        sent
    }
}

impl Open {
    /// Creates what a request that has ended may still reserve, as its check is not decided.
    pub(super) fn of_undecided(reservations: Reservations) -> Self {
        Self { reservations, is_unknown: true }
    }

    pub(super) fn reservations(&self) -> &Reservations {
        &self.reservations
    }
}

impl Settling {
    fn cost(&self, limit: usize) -> u64 {
        self.costs.iter().find(|(of, _)| *of == limit).map_or(0, |(_, cost)| *cost)
    }

    /// Returns what was charged by these results, for each limit once, whatever the number of its windows.
    fn charged(&self, results: &[SettleResult]) -> Vec<(usize, u64)> {
        let of = self.open.reservations.as_slice().iter().zip(results);
        let is_charged = |result: &SettleResult| self.is_repeated || *result != SettleResult::Nothing;
        of.filter(|(of, result)| of.window == 0 && is_charged(result))
            .map(|(of, _)| (of.limit, self.cost(of.limit)))
            .collect()
    }
}
