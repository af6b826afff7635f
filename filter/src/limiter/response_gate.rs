//! Responses whose end is held until Redis has back the slots that their requests held.
//!
//! Without it, a client that asks again as soon as it is answered could find its own slot taken: its next request may
//! reach Redis through another worker, or another connection, before the slot does.

use alloc::vec::Vec;

use super::RequestId;
use crate::redis::Ticket;
use crate::units::Micros;

/// One worker's. There are as many as calls under way that give slots back: few.
#[derive(Debug, Default)]
pub(super) struct ResponseGate {
    held: Vec<HeldResponse>,
}

#[derive(Debug)]
struct HeldResponse {
    request: RequestId,
    /// The call that gives its slots back.
    ticket: Ticket,
    /// When the response ends, whatever Redis does.
    latest: Micros,
}

impl ResponseGate {
    /// Holds the end of a response until a call is [settled](Self::settled), but no longer than until `latest`.
    pub(super) fn hold(&mut self, latest: Micros, request: RequestId, ticket: Ticket) {
        self.held.push(HeldResponse { request, ticket, latest });
    }

    /// Whether the end of this request's response is held.
    pub(super) fn holds(&self, request: RequestId) -> bool {
        self.held.iter().any(|held| held.request == request)
    }

    /// A call has come to its end: a response that may end now. There may be more.
    pub(super) fn completed(&mut self, ticket: Ticket) -> Option<RequestId> {
        self.take(|held| held.ticket == ticket)
    }

    /// The next response that has been held for too long.
    pub(super) fn pop_due(&mut self, now: Micros) -> Option<RequestId> {
        self.take(|held| held.latest <= now)
    }

    /// The request is over.
    pub(super) fn leave(&mut self, request: RequestId) {
        self.take(|held| held.request == request);
    }

    /// When [`pop_due`](Self::pop_due) has something, if nothing else happens.
    pub(super) fn next_due(&self) -> Option<Micros> {
        self.held.iter().map(|held| held.latest).min()
    }

    fn take(&mut self, is_it: impl Fn(&HeldResponse) -> bool) -> Option<RequestId> {
        let at = self.held.iter().position(is_it)?;
        Some(self.held.swap_remove(at).request)
    }
}
