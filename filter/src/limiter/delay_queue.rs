//! Delay queue: admitted requests held until their tokens exist.

use alloc::vec::Vec;

use super::effect::Decision;
use super::request_id::RequestId;
use super::timers::Timers;
use crate::redis::Call;
use crate::units::Micros;

/// Bounded queue of delayed requests, ordered by due time, then by arrival.
#[derive(Debug)]
pub(super) struct DelayQueue {
    max: usize,
    held: Timers<DelayedRequest>,
    /// Number of entries reserved for requests that Redis may delay.
    reserved: usize,
}

#[derive(Debug)]
struct DelayedRequest {
    decision: Decision,
    refunds: Vec<Call>,
}

impl DelayQueue {
    /// Creates a queue of at most `max` requests.
    pub(super) fn new(max: usize) -> Self {
        Self { max, held: Timers::new(), reserved: 0 }
    }

    /// Reserves an entry for a request before its check is sent, as Redis may delay it. Returns `false` if the queue is
    /// full.
    pub(super) fn reserve(&mut self) -> bool {
        let has_room = self.held.len().saturating_add(self.reserved) < self.max;
        self.reserved = self.reserved.saturating_add(usize::from(has_room));
        has_room
    }

    /// Releases a reservation once the check has ended. A delayed request then [takes](Self::hold) the entry.
    pub(super) fn release(&mut self) {
        self.reserved = self.reserved.saturating_sub(1);
    }

    pub(super) fn holds(&self, request: RequestId) -> bool {
        self.held.contains(request)
    }

    /// Holds a request until `at`. `refunds` are the calls that refund its tokens if the request ends earlier.
    pub(super) fn hold(&mut self, at: Micros, request: RequestId, decision: Decision, refunds: Vec<Call>) {
        self.held.set(at, request, DelayedRequest { decision, refunds });
    }

    /// Removes a request that has ended, and returns its refund calls, if it was held and has any.
    pub(super) fn leave(&mut self, request: RequestId) -> Vec<Call> {
        self.held.remove(request).map_or(Vec::new(), |held| held.refunds)
    }

    /// Removes and returns the next request due by `now`, with its decision.
    pub(super) fn pop_due(&mut self, now: Micros) -> Option<(RequestId, Decision)> {
        self.held.pop_due(now).map(|(request, held)| (request, held.decision))
    }

    /// Due time of the first request.
    pub(super) fn next_turn(&self) -> Option<Micros> {
        self.held.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GO: Decision = Decision::Admit(Vec::new());

    fn refund() -> Call {
        Call::command(&["PING"])
    }

    #[test]
    fn requests_are_released_in_turn_and_not_before() {
        let mut delayed = DelayQueue::new(9);
        for (at, request) in [(30, 1), (10, 2), (30, 3)] {
            delayed.hold(Micros(at), RequestId(request), GO, Vec::new());
        }
        assert_eq!(delayed.next_turn(), Some(Micros(10)));
        assert_eq!(delayed.pop_due(Micros(9)), None);
        assert_eq!(delayed.pop_due(Micros(10)), Some((RequestId(2), GO)));
        assert_eq!(delayed.pop_due(Micros(29)), None);
        let rest: Vec<_> = core::iter::from_fn(|| delayed.pop_due(Micros(99))).map(|(request, _)| request).collect();
        assert_eq!(rest, [RequestId(1), RequestId(3)]);
        assert_eq!(delayed.next_turn(), None);
    }

    #[test]
    fn a_removed_request_frees_its_entry_and_is_refunded_once() {
        let mut delayed = DelayQueue::new(1);
        delayed.hold(Micros(10), RequestId(1), GO, vec![refund()]);
        assert!(!delayed.reserve() && delayed.holds(RequestId(1)));
        assert_eq!(delayed.leave(RequestId(1)), [refund()]);
        assert!(delayed.reserve() && !delayed.reserve() && !delayed.holds(RequestId(1)));
        delayed.release();
        assert!(delayed.reserve());
        assert_eq!(delayed.leave(RequestId(1)), []);
        assert_eq!(delayed.pop_due(Micros(99)), None);
    }

    #[test]
    fn a_released_request_is_not_refunded() {
        let mut delayed = DelayQueue::new(1);
        delayed.hold(Micros(10), RequestId(1), GO, vec![refund()]);
        assert!(delayed.pop_due(Micros(10)).is_some());
        assert_eq!(delayed.leave(RequestId(1)), []);
    }
}
