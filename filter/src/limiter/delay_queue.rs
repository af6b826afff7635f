//! Requests that are admitted, and held until their tokens exist.

use super::timers::Timers;
use super::{Decision, RequestId};
use crate::redis::Call;
use crate::units::Micros;

/// DelayedRequest requests, in the order in which they go on, then in that in which they came: a bounded queue.
#[derive(Debug)]
pub(super) struct DelayQueue {
    max: usize,
    held: Timers<DelayedRequest>,
    /// Slots that are kept for requests which Redis may have held.
    kept: usize,
}

#[derive(Debug)]
struct DelayedRequest {
    decision: Decision,
    refund: Option<Call>,
}

impl DelayQueue {
    /// Room for `max` requests.
    pub(super) fn new(max: usize) -> Self {
        Self { max, held: Timers::new(), kept: 0 }
    }

    /// Keeps a place for a request that Redis may have held, before Redis is asked. `false` where there is none.
    pub(super) fn keep(&mut self) -> bool {
        let has_room = self.held.len().saturating_add(self.kept) < self.max;
        self.kept = self.kept.saturating_add(usize::from(has_room));
        has_room
    }

    /// Redis has decided, or will not: the place that was kept is free, or to be [taken](Self::hold) now.
    pub(super) fn let_go(&mut self) {
        self.kept = self.kept.saturating_sub(1);
    }

    pub(super) fn holds(&self, request: RequestId) -> bool {
        self.held.contains(request)
    }

    /// Holds a request until `at`. `refund` is the call that gives its tokens back, should it leave before.
    pub(super) fn hold(&mut self, at: Micros, request: RequestId, decision: Decision, refund: Option<Call>) {
        self.held.set(at, request, DelayedRequest { decision, refund });
    }

    /// A request has gone, which frees its place: the call to make, if it was held and can be refunded.
    pub(super) fn leave(&mut self, request: RequestId) -> Option<Call> {
        self.held.remove(request)?.refund
    }

    /// The next request whose turn has come.
    pub(super) fn pop_due(&mut self, now: Micros) -> Option<(RequestId, Decision)> {
        self.held.pop_due(now).map(|(request, held)| (request, held.decision))
    }

    /// When the first one's turn comes.
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
    fn requests_go_on_in_turn_and_not_before() {
        let mut delayed = DelayQueue::new(9);
        for (at, request) in [(30, 1), (10, 2), (30, 3)] {
            delayed.hold(Micros(at), RequestId(request), GO, None);
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
    fn who_leaves_frees_the_place_and_is_refunded_once() {
        let mut delayed = DelayQueue::new(1);
        delayed.hold(Micros(10), RequestId(1), GO, Some(refund()));
        assert!(!delayed.keep() && delayed.holds(RequestId(1)));
        assert_eq!(delayed.leave(RequestId(1)), Some(refund()));
        assert!(delayed.keep() && !delayed.keep() && !delayed.holds(RequestId(1)));
        delayed.let_go();
        assert!(delayed.keep());
        assert_eq!(delayed.leave(RequestId(1)), None);
        assert_eq!(delayed.pop_due(Micros(99)), None);
    }

    #[test]
    fn who_has_gone_on_is_not_refunded() {
        let mut delayed = DelayQueue::new(1);
        delayed.hold(Micros(10), RequestId(1), GO, Some(refund()));
        assert!(delayed.pop_due(Micros(10)).is_some());
        assert_eq!(delayed.leave(RequestId(1)), None);
    }
}
