//! Whom calls are made for: requests, by the proxy's numbers, and what runs beside them, by numbers above.

use super::RequestId;
use crate::redis::Ticket;

/// Of batches of events.
pub(super) const EVENTS: Ticket = Ticket(1 << 32);
/// Of reading overrides.
pub(super) const OVERRIDES: Ticket = Ticket(EVENTS.0 + 1);
const FIRST_BACKGROUND: u64 = OVERRIDES.0 + 1;

impl From<RequestId> for Ticket {
    fn from(RequestId(id): RequestId) -> Self {
        Self(id.into())
    }
}

/// The request for which a call was made, if it was for one.
pub(super) fn request(ticket: Ticket) -> Option<RequestId> {
    u32::try_from(ticket.0).ok().map(RequestId)
}

/// Tickets of calls that no request waits for, each given once.
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
        // Nobody makes so many calls that it wraps.
        self.next = self.next.wrapping_add(1).max(FIRST_BACKGROUND);
        ticket
    }
}
