//! Response gate: holds the end of a response until Redis has released the slots of its request.
//!
//! Without the gate, a client that sends its next request right after a response could find its own slot still taken:
//! the next request may reach Redis through another worker or connection before the release does.

use alloc::vec::Vec;

use super::RequestId;
use crate::redis::Ticket;
use crate::units::Micros;

/// Held responses of one worker: at most one per release in flight, so a `Vec` is searched.
#[derive(Debug, Default)]
pub(super) struct ResponseGate {
    held: Vec<HeldResponse>,
}

#[derive(Debug)]
struct HeldResponse {
    request: RequestId,
    /// The call that releases the request's slots.
    ticket: Ticket,
    /// Time at which the response ends, even without a reply of Redis.
    latest: Micros,
}

impl ResponseGate {
    /// Holds the end of a response until the call is [completed](Self::completed), but not after `latest`.
    pub(super) fn hold(&mut self, latest: Micros, request: RequestId, ticket: Ticket) {
        self.held.push(HeldResponse { request, ticket, latest });
    }

    /// Whether the end of the request's response is held.
    pub(super) fn holds(&self, request: RequestId) -> bool {
        self.held.iter().any(|held| held.request == request)
    }

    /// Handles the completion of a call, and returns the request whose response may end now.
    pub(super) fn completed(&mut self, ticket: Ticket) -> Option<RequestId> {
        self.take(|held| held.ticket == ticket)
    }

    /// Removes and returns the next request whose response has been held until its latest time.
    pub(super) fn pop_due(&mut self, now: Micros) -> Option<RequestId> {
        self.take(|held| held.latest <= now)
    }

    /// Removes a request that has ended.
    pub(super) fn leave(&mut self, request: RequestId) {
        self.take(|held| held.request == request);
    }

    /// Time at which [`pop_due`](Self::pop_due) next returns a request, unless a call completes earlier.
    pub(super) fn next_due(&self) -> Option<Micros> {
        self.held.iter().map(|held| held.latest).min()
    }

    fn take(&mut self, is_it: impl Fn(&HeldResponse) -> bool) -> Option<RequestId> {
        let at = self.held.iter().position(is_it)?;
        Some(self.held.swap_remove(at).request)
    }
}
