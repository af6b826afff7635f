//! End of a request, however it ended.

use super::{Limiter, RequestId};
use crate::units::Micros;

impl Limiter {
    /// Handles the end of a request, however it ended: releases its slots, refunds a delayed request, and drops a reply
    /// of Redis that is still to come. Returns whether calls were submitted: then [`poll`](Self::poll), and send.
    pub fn done(&mut self, now: Micros, request: RequestId) -> bool {
        let mut has_calls = false;
        self.settle_charges(request);
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

    /// Ends a charged request. Its amounts are not sent yet.
    fn settle_charges(&mut self, request: RequestId) {
        if let Some(charging) = &mut self.charging {
            charging.end(request, &self.config);
        }
    }
}
