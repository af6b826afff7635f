//! Timers of requests: one value per request, due in the order of times, then of insertion.

use alloc::collections::BinaryHeap;
use core::cmp::Reverse;

use super::request_id::RequestId;
use crate::table::Table;
use crate::units::Micros;

/// Number of stale turns below which they are not cleared.
const FEW: usize = 64;

/// At most one value per request, each with its turn.
#[derive(Debug)]
pub(super) struct Timers<T> {
    values: Table<(Turn, T)>,
    turns: Turns,
}

/// Position in the order: the due time, then a sequence number.
type Turn = (Micros, u64);

/// Heap of turns. It may contain turns of removed values: never first, and at most about half of all turns.
#[derive(Debug, Default)]
struct Turns {
    heap: BinaryHeap<Reverse<(Turn, RequestId)>>,
    set: u64,
}

impl<T> Timers<T> {
    pub(super) fn new() -> Self {
        Self { values: Table::new(), turns: Turns::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    pub(super) fn contains(&self, request: RequestId) -> bool {
        // Usually there is no timer at all.
        self.values.len() > 0 && self.values.contains(request.0)
    }

    /// Sets the value of a request, and replaces any that it has.
    pub(super) fn set(&mut self, at: Micros, request: RequestId, value: T) {
        self.remove(request);
        let turn = self.turns.add(at, request);
        self.values.insert(request.0, (turn, value));
    }

    pub(super) fn remove(&mut self, request: RequestId) -> Option<T> {
        self.take(request).map(|(_, value)| value)
    }

    /// Removes and returns the value of a request, with its due time.
    pub(super) fn take(&mut self, request: RequestId) -> Option<(Micros, T)> {
        let ((at, _), value) = self.values.remove(request.0)?;
        let Self { values, turns } = self;
        turns.clear(values.len(), &|turn, request| values.get(request.0).is_some_and(|(its, _)| *its == turn));
        Some((at, value))
    }

    /// Removes and returns the first value due by `now`.
    pub(super) fn pop_due(&mut self, now: Micros) -> Option<(RequestId, T)> {
        let &Reverse(((at, _), request)) = self.turns.heap.peek()?;
        if at > now {
            return None;
        }
        self.remove(request).map(|value| (request, value))
    }

    /// Due time of the first value.
    pub(super) fn next(&self) -> Option<Micros> {
        self.turns.heap.peek().map(|Reverse(((at, _), _))| *at)
    }
}

impl Turns {
    fn add(&mut self, at: Micros, request: RequestId) -> Turn {
        self.set = self.set.wrapping_add(1);
        let turn = (at, self.set);
        self.heap.push(Reverse((turn, request)));
        turn
    }

    /// Drops stale turns if the first is stale or too many are. `live` is the number of turns for which `is_live`
    /// holds.
    fn clear(&mut self, live: usize, is_live: &dyn Fn(Turn, RequestId) -> bool) {
        if self.heap.len() > live.saturating_mul(2).saturating_add(FEW) {
            self.heap.retain(|&Reverse((turn, request))| is_live(turn, request));
        }
        while let Some(&Reverse((turn, request))) = self.heap.peek()
            && !is_live(turn, request)
        {
            self.heap.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn turns_come_in_order_whichever_requests_are_removed(steps: Vec<(u8, u8, u8)>) {
            let (mut timers, mut sorted) = (Timers::new(), BTreeMap::new());
            for (nth, (step, at, request)) in steps.into_iter().enumerate() {
                let (at, request) = (Micros(at.into()), RequestId(request.into()));
                let known = sorted.iter().find(|(_, id)| **id == request).map(|(turn, _)| *turn);
                match step % 4 {
                    0 | 1 => {
                        timers.set(at, request, request);
                        known.and_then(|turn| sorted.remove(&turn));
                        sorted.insert((at, nth), request);
                    }
                    2 => prop_assert_eq!(timers.remove(request), known.and_then(|turn| sorted.remove(&turn))),
                    _ => {
                        let first = sorted.first_entry().filter(|first| first.key().0 <= at);
                        let first = first.map(|first| first.remove());
                        prop_assert_eq!(timers.pop_due(at), first.map(|request| (request, request)));
                    }
                }
                prop_assert_eq!(timers.next(), sorted.first_key_value().map(|((at, _), _)| *at));
                prop_assert_eq!(timers.len(), sorted.len());
            }
        }
    }

    #[test]
    fn removed_requests_take_no_room() {
        let mut timers = Timers::new();
        timers.set(Micros(1), RequestId(0), ());
        for request in 1..10_000 {
            timers.set(Micros(2), RequestId(request), ());
            timers.remove(RequestId(request));
            assert!(timers.turns.heap.len() <= FEW + 4);
        }
        assert!(timers.contains(RequestId(0)));
    }
}
