//! Tickets of calls to Redis: those of requests are the proxy's IDs, those of background calls start at 2³².

use super::request_id::RequestId;
use crate::redis::Ticket;

/// Ticket of batches of events.
pub(super) const EVENTS: Ticket = Ticket(1 << 32);
/// Ticket of the refresh of overrides.
pub(super) const OVERRIDES: Ticket = Ticket(EVENTS.0 + 1);
/// Ticket of heartbeats.
pub(super) const HEARTBEAT: Ticket = Ticket(OVERRIDES.0 + 1);
/// Ticket of all heals.
pub(super) const HEAL: Ticket = Ticket(HEARTBEAT.0 + 1);
const FIRST_BACKGROUND: u64 = HEAL.0 + 1;

impl From<RequestId> for Ticket {
    fn from(RequestId(id): RequestId) -> Self {
        Self(id.into())
    }
}

/// Returns the request of a ticket, or `None` for a background call.
pub(super) fn request(ticket: Ticket) -> Option<RequestId> {
    u32::try_from(ticket.0).ok().map(RequestId)
}

/// Generator of tickets for background calls; each ticket is issued once.
#[derive(Debug)]
pub(super) struct BackgroundCalls {
    next: u64,
}

impl Default for BackgroundCalls {
    fn default() -> Self {
        Self { next: FIRST_BACKGROUND }
    }
}

impl BackgroundCalls {
    pub(super) fn ticket(&mut self) -> Ticket {
        let ticket = Ticket(self.next);
        // A wrap would take about 2⁶⁴ calls.
        self.next = self.next.wrapping_add(1).max(FIRST_BACKGROUND);
        ticket
    }
}
