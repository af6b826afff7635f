//! The places that requests hold in concurrency limits: renewed while they last, given back when they end.
//!
//! A place that cannot be given back now is owed, and tried again until its lease ends and Redis frees it by itself.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::RequestId;
use super::tickets::Aside;
use super::timers::Timers;
use crate::limit::{Holds, Scripts};
use crate::redis::{Call, Ticket};
use crate::table::Table;
use crate::units::Micros;

/// The most that is owed. Of more, the oldest, whose leases end first, are left to Redis.
const MAX_OWED: usize = 1024;
/// Until what failed is tried again.
const TRY_AGAIN: Micros = Micros::from_secs(1);
/// Renewals, and debts paid, in one tick.
const MAX_CALLS: usize = 64;

/// One worker's.
#[derive(Debug)]
pub(super) struct Places {
    /// By when they are to be renewed.
    held: Timers<Holds>,
    /// Being given back, by their calls.
    returning: Table<Debt>,
    owed: VecDeque<(Micros, Debt)>,
}

#[derive(Debug)]
struct Debt {
    holds: Holds,
    /// When Redis frees the last of them.
    ends: Micros,
}

impl Default for Places {
    fn default() -> Self {
        Self { held: Timers::new(), returning: Table::new(), owed: VecDeque::new() }
    }
}

impl Places {
    /// An admitted request holds these from now on.
    pub(super) fn take(&mut self, now: Micros, request: RequestId, holds: Holds) {
        self.held.set(now.plus(holds.renew_within()), request, holds);
    }

    /// Whether a request holds any.
    pub(super) fn holds(&self, request: RequestId) -> bool {
        self.held.contains(request)
    }

    /// The request is over: what it held, if anything, which is to be [given back](Self::give_back).
    pub(super) fn leave(&mut self, request: RequestId) -> Option<Holds> {
        self.held.remove(request)
    }

    /// The call that gives these places back, to be made under `ticket`.
    pub(super) fn give_back(&mut self, now: Micros, ticket: Ticket, holds: Holds, scripts: &Scripts) -> Call {
        let lease = holds.places().map(|(_, lease)| lease).max().unwrap_or_default();
        self.pay(ticket, Debt { holds, ends: now.plus(lease) }, scripts)
    }

    /// The calls that are due: renewals, and what is owed.
    pub(super) fn due(&mut self, now: Micros, aside: &mut Aside, scripts: &Scripts) -> Vec<(Ticket, Call)> {
        let mut calls = Vec::new();
        while calls.len() < MAX_CALLS
            && let Some((request, holds)) = self.held.pop_due(now)
        {
            calls.push((aside.ticket(), holds.renew_call(scripts)));
            self.take(now, request, holds);
        }
        while calls.len() < MAX_CALLS
            && let Some((_, debt)) = self.owed.pop_front_if(|(at, _)| *at <= now)
        {
            if debt.ends > now {
                let ticket = aside.ticket();
                calls.push((ticket, self.pay(ticket, debt, scripts)));
            }
        }
        calls
    }

    /// When calls are due next.
    pub(super) fn next_due(&self) -> Option<Micros> {
        let debt = self.owed.front().map(|(at, _)| *at);
        self.held.next().into_iter().chain(debt).min()
    }

    /// A call has come to its end. A renewal that failed is not made again before its next turn: there are two more
    /// within its lease.
    pub(super) fn settled(&mut self, now: Micros, ticket: Ticket, succeeded: bool) {
        if let Some(debt) = self.returning.remove(ticket.0)
            && !succeeded
        {
            if self.owed.len() >= MAX_OWED {
                self.owed.pop_front();
            }
            self.owed.push_back((now.plus(TRY_AGAIN), debt));
        }
    }

    fn pay(&mut self, ticket: Ticket, debt: Debt, scripts: &Scripts) -> Call {
        let call = debt.holds.release_call(scripts);
        self.returning.insert(ticket.0, debt);
        call
    }
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU64;

    use super::*;
    use crate::limit::{Algorithm, Check, Concurrency, Holder, Windows};
    use crate::units::Tokens;

    const SEC: fn(u64) -> Micros = Micros::from_secs;

    /// A place with a lease of 3 s: renewed each second.
    fn holds(request: u64) -> Holds {
        let concurrency = Algorithm::Concurrency(Concurrency::new(NonZeroU64::MIN, SEC(3)).unwrap());
        let asked = Windows::new(&[concurrency]).unwrap().asked(0, b"key", Tokens(1), true).collect();
        Check::new(asked, Holder::new(1, request)).possible_holds().unwrap()
    }

    fn calls(places: &mut Places, now: Micros) -> Vec<Call> {
        places.due(now, &mut Aside::default(), &Scripts::default()).into_iter().map(|(_, call)| call).collect()
    }

    #[test]
    fn a_place_is_renewed_three_times_a_lease_until_its_request_ends() {
        let (mut places, scripts) = (Places::default(), Scripts::default());
        places.take(SEC(10), RequestId(1), holds(1));
        assert_eq!(places.next_due(), Some(SEC(11)));
        assert_eq!(calls(&mut places, SEC(10)), []);
        assert_eq!(calls(&mut places, SEC(11)), [holds(1).renew_call(&scripts)]);
        assert_eq!(places.next_due(), Some(SEC(12)));
        assert_eq!(places.leave(RequestId(1)), Some(holds(1)));
        assert_eq!((places.next_due(), places.leave(RequestId(1))), (None, None));
    }

    #[test]
    fn what_could_not_be_given_back_is_tried_again_until_its_lease_ends() {
        let (mut places, scripts) = (Places::default(), Scripts::default());
        let call = places.give_back(SEC(10), Ticket(7), holds(1), &scripts);
        assert_eq!(call, holds(1).release_call(&scripts));
        places.settled(SEC(10), Ticket(7), false);
        assert_eq!((calls(&mut places, SEC(10)), places.next_due()), (vec![], Some(SEC(11))));
        let again = places.due(SEC(11), &mut Aside::default(), &scripts);
        assert_eq!(again.iter().map(|(_, call)| call.clone()).collect::<Vec<_>>(), [call]);
        places.settled(SEC(12), again[0].0, false);
        assert_eq!(calls(&mut places, SEC(13)), [], "Redis has freed it");
        assert_eq!(places.next_due(), None);
    }

    #[test]
    fn what_was_given_back_is_not_owed() {
        let mut places = Places::default();
        places.give_back(SEC(10), Ticket(7), holds(1), &Scripts::default());
        places.settled(SEC(10), Ticket(7), true);
        assert_eq!((places.next_due(), places.returning.len()), (None, 0));
    }

    #[test]
    fn what_is_owed_is_bounded() {
        let mut places = Places::default();
        for request in 0..2_000 {
            places.give_back(SEC(10), Ticket(request), holds(request), &Scripts::default());
            places.settled(SEC(10), Ticket(request), false);
        }
        assert_eq!((places.owed.len(), places.returning.len()), (MAX_OWED, 0));
        assert_eq!(places.due(SEC(11), &mut Aside::default(), &Scripts::default()).len(), MAX_CALLS);
    }
}
