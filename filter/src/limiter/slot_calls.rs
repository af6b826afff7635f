//! Slots of requests: releases them when a response ends, and submits the calls that release and renew them.

use super::{Limiter, RequestId};
use crate::limit::HeldSlots;
use crate::redis::{Call, Ticket};
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
            let is_unsent = self.queue.leave(request) || self.redis.abandon(request.into(), takes_slots);
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
        has_calls
    }

    /// Handles the end of a response before the proxy sends it downstream: releases the request's slots.
    pub fn response_ends(&mut self, now: Micros, request: RequestId) {
        let Some(holds) = self.slots.leave(request) else { return };
        if let Some(ticket) = self.release_slots(now, &holds, false) {
            self.response_gate.hold(now.plus(self.config.redis.timeout), request, ticket);
        }
    }

    /// Releases slots. Returns the ticket of the last call if it was submitted: Redis runs calls in order, so its
    /// completion implies that of the others.
    pub(super) fn release_slots(&mut self, now: Micros, holds: &HeldSlots, is_guess: bool) -> Option<Ticket> {
        let mut last = None;
        for (ticket, call) in self.slots.release(now, &mut self.background, holds, is_guess, &self.scripts) {
            last = self.call_for_slots(now, ticket, call).then_some(ticket);
        }
        last
    }

    /// Submits a call that renews or releases slots, and returns whether it was submitted. The transport reserves room
    /// for these calls: there are at most as many as held slots.
    pub(super) fn call_for_slots(&mut self, now: Micros, ticket: Ticket, call: Call) -> bool {
        let sent = self.redis.submit_reserved(now, ticket, call);
        if let Err(failure) = sent {
            self.slots.completed(now, ticket, Err(failure));
        }
        sent.is_ok()
    }
}
