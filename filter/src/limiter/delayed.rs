//! Requests that are admitted, and held until their tokens exist.

use std::collections::{BTreeMap, HashMap};

use super::{Decision, RequestId};
use crate::redis::Call;
use crate::units::Micros;

/// Held requests, in the order in which they go on: a bounded queue.
#[derive(Debug)]
pub(super) struct Delayed {
    max: usize,
    /// By when they go on, and by when they came.
    queue: BTreeMap<Turn, Held>,
    turns: HashMap<RequestId, Turn>,
    came: u64,
}

type Turn = (Micros, u64);

#[derive(Debug)]
struct Held {
    request: RequestId,
    decision: Decision,
    refund: Option<Call>,
}

impl Delayed {
    /// Room for `max` requests.
    pub(super) fn new(max: usize) -> Self {
        Self { max, queue: BTreeMap::new(), turns: HashMap::new(), came: 0 }
    }

    pub(super) fn is_full(&self) -> bool {
        self.queue.len() >= self.max
    }

    pub(super) fn holds(&self, request: RequestId) -> bool {
        self.turns.contains_key(&request)
    }

    /// Holds a request until `at`. `refund` is the call that gives its tokens back, should it leave before.
    pub(super) fn hold(&mut self, at: Micros, request: RequestId, decision: Decision, refund: Option<Call>) {
        self.came = self.came.wrapping_add(1);
        let turn = (at, self.came);
        self.queue.insert(turn, Held { request, decision, refund });
        self.turns.insert(request, turn);
    }

    /// A request has gone, which frees its place: the call to make, if it was held and can be refunded.
    pub(super) fn leave(&mut self, request: RequestId) -> Option<Call> {
        let turn = self.turns.remove(&request)?;
        self.queue.remove(&turn)?.refund
    }

    /// The next request whose turn has come.
    pub(super) fn pop_due(&mut self, now: Micros) -> Option<(RequestId, Decision)> {
        let first = self.queue.first_entry().filter(|first| first.key().0 <= now)?;
        let Held { request, decision, .. } = first.remove();
        self.turns.remove(&request);
        Some((request, decision))
    }

    /// When the first one's turn comes.
    pub(super) fn next_turn(&self) -> Option<Micros> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
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
        let mut delayed = Delayed::new(9);
        for (at, request) in [(30, 1), (10, 2), (30, 3)] {
            delayed.hold(Micros(at), RequestId(request), GO, None);
        }
        assert_eq!(delayed.next_turn(), Some(Micros(10)));
        assert_eq!(delayed.pop_due(Micros(9)), None);
        assert_eq!(delayed.pop_due(Micros(10)), Some((RequestId(2), GO)));
        assert_eq!(delayed.pop_due(Micros(29)), None);
        let rest: Vec<_> = std::iter::from_fn(|| delayed.pop_due(Micros(99))).map(|(request, _)| request).collect();
        assert_eq!(rest, [RequestId(1), RequestId(3)]);
        assert_eq!(delayed.next_turn(), None);
    }

    #[test]
    fn who_leaves_frees_the_place_and_is_refunded_once() {
        let mut delayed = Delayed::new(1);
        delayed.hold(Micros(10), RequestId(1), GO, Some(refund()));
        assert!(delayed.is_full() && delayed.holds(RequestId(1)));
        assert_eq!(delayed.leave(RequestId(1)), Some(refund()));
        assert!(!delayed.is_full() && !delayed.holds(RequestId(1)));
        assert_eq!(delayed.leave(RequestId(1)), None);
        assert_eq!(delayed.pop_due(Micros(99)), None);
    }

    #[test]
    fn who_has_gone_on_is_not_refunded() {
        let mut delayed = Delayed::new(1);
        delayed.hold(Micros(10), RequestId(1), GO, Some(refund()));
        assert!(delayed.pop_due(Micros(10)).is_some());
        assert_eq!(delayed.leave(RequestId(1)), None);
    }
}
