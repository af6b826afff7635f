//! Slots of requests: releases them when a response ends, and submits the calls that release and renew them.

use super::{Limiter, RequestId};
use crate::limit::HeldSlots;
use crate::redis::{Call, Ticket};
use crate::units::Micros;

impl Limiter {
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
