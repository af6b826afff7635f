//! Responses whose end is held until Redis has back the slots that their requests held.
//!
//! Without it, a client that asks again as soon as it is answered could find its own place taken: its next request may
//! reach Redis through another worker, or another connection, before the place does.

use super::request_id::RequestId;
use super::timers::Timers;
use crate::redis::Ticket;
use crate::table::Table;
use crate::units::Micros;

/// Held responses of one worker. Most often there are few, but all requests that an upstream has may end in one moment.
#[derive(Debug)]
pub(super) struct ResponseGate {
    /// The calls that give their slots back, by when they end, whatever Redis does.
    held: Timers<Ticket>,
    /// The requests, by those calls.
    by_call: Table<RequestId>,
}

impl Default for ResponseGate {
    fn default() -> Self {
        Self { held: Timers::new(), by_call: Table::new() }
    }
}

impl ResponseGate {
    /// Holds the end of a response until a call is [completed](Self::completed), but no longer than until `latest`.
    pub(super) fn hold(&mut self, latest: Micros, request: RequestId, ticket: Ticket) {
        self.leave(request);
        self.held.set(latest, request, ticket);
        self.by_call.insert(ticket.0, request);
    }

    /// Whether the end of this request's response is held.
    pub(super) fn holds(&self, request: RequestId) -> bool {
        self.held.contains(request)
    }

    /// A call has come to its end: the response that may end now.
    pub(super) fn completed(&mut self, ticket: Ticket) -> Option<RequestId> {
        let request = self.by_call.remove(ticket.0)?;
        self.held.remove(request).map(|_| request)
    }

    /// The next response that has been held for too long.
    pub(super) fn pop_due(&mut self, now: Micros) -> Option<RequestId> {
        let (request, ticket) = self.held.pop_due(now)?;
        self.by_call.remove(ticket.0);
        Some(request)
    }

    /// The request is over.
    pub(super) fn leave(&mut self, request: RequestId) {
        if let Some(ticket) = self.held.remove(request) {
            self.by_call.remove(ticket.0);
        }
    }

    /// Time when [`pop_due`](Self::pop_due) has something, if nothing else happens.
    pub(super) fn next_due(&self) -> Option<Micros> {
        self.held.next()
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;
    use std::time::Instant;

    use super::*;

    const LATEST: Micros = Micros(50);

    fn holding(n: u32) -> ResponseGate {
        let mut ending = ResponseGate::default();
        for id in 0..n {
            ending.hold(LATEST, RequestId(id), Ticket(1_000_000 + u64::from(id)));
            assert!(ending.holds(RequestId(id)) && ending.next_due() == Some(LATEST));
        }
        ending
    }

    #[test]
    fn a_response_is_held_until_its_call_is_completed_or_for_long_enough() {
        let mut ending = holding(3);
        assert_eq!(ending.completed(Ticket(1_000_001)), Some(RequestId(1)));
        assert_eq!(ending.completed(Ticket(1_000_001)), None);
        ending.leave(RequestId(0));
        assert_eq!(ending.completed(Ticket(1_000_000)), None);
        assert_eq!([ending.pop_due(Micros(49)), ending.pop_due(LATEST)], [None, Some(RequestId(2))]);
        assert_eq!((ending.completed(Ticket(1_000_002)), ending.next_due()), (None, None));
    }

    /// A search through all for each would take a minute here.
    #[test]
    fn all_responses_of_an_upstream_may_end_at_once() {
        let start = Instant::now();
        let mut ending = holding(100_000);
        for id in (0..100_000).rev() {
            assert_eq!(ending.completed(Ticket(1_000_000 + u64::from(id))), Some(RequestId(id)));
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }
}
