//! End of a request, however it ended.

use super::{Limiter, RequestId, UsageCounter};
use crate::limit::{Ending, UsageSource};
use crate::units::Micros;

impl Limiter {
    /// Handles the end of a request, however it ended: releases its slots, refunds a delayed request, and drops a reply
    /// of Redis that is still to come. Returns whether calls were submitted: then [`poll`](Self::poll), and send.
    pub fn done(&mut self, now: Micros, request: RequestId) -> bool {
        let mut has_calls = false;
        self.response_gate.leave(request);
        if let Some(pending) = self.pending.remove(request.0) {
            self.check_ended(&pending);
            self.on_lease_outcome(&pending, None);
            self.finish(now, request, &pending, false);
            has_calls |= !pending.earlier().is_empty();
            let takes_slots = pending.check.takes_slots();
            let is_tracked = takes_slots || pending.check.reserves();
            let is_unsent = self.queue.leave(request) || self.redis.abandon(request.into(), is_tracked);
            if !is_unsent {
                has_calls |= self.settle_undecided(now, &pending.check);
            }
            if takes_slots && !is_unsent {
                self.slots.await_outcome(request, pending.check);
            }
        }
        for refund in self.delay_queue.leave(request) {
            has_calls |= self.refund(now, refund);
        }
        if let Some(holds) = self.slots.leave(request) {
            self.release_slots(now, &holds, false);
            has_calls = true;
        }
        self.settle_charges(now, request) | has_calls
    }

    /// Settles what a request has reserved by what it has cost: nothing where no limit charges it.
    fn settle_charges(&mut self, now: Micros, request: RequestId) -> bool {
        let amounts = self.charging.as_mut().and_then(|charging| charging.end(request, &self.config));
        let Some(amounts) = amounts else { return self.settle(now, request, &|_| 0, None) };
        let (is_told, is_served) = (amounts.ledger.source == UsageSource::Usage, self.reservations.holds(request));
        let counter = match amounts.ending {
            Ending::CutOff => Some(UsageCounter::Disconnected),
            Ending::Opaque => Some(UsageCounter::Encoded),
            Ending::Complete if !is_told => Some(UsageCounter::Missing),
            _ => None,
        };
        if let Some(counter) = counter.filter(|_| is_served) {
            self.counters.usage(counter, 1);
        }
        self.counters.usage(UsageCounter::Malformed, amounts.malformed.into());
        self.settle(now, request, &|limit| amounts.of(limit), Some(&amounts.ledger))
    }
}
