//! What requests have to do at a time of their own: in the order of those times, then in that in which they were set.

use alloc::collections::BinaryHeap;
use core::cmp::Reverse;

use super::RequestId;
use crate::table::Table;
use crate::units::Micros;

/// Stale turns that are not worth clearing away.
const FEW: usize = 64;

/// At most one value of each request, and when its turn comes.
#[derive(Debug)]
pub(super) struct Timers<T> {
    values: Table<(Turn, T)>,
    turns: Turns,
}

/// When it comes; which of all it is.
type Turn = (Micros, u64);

/// Also of values that are gone, but for the first, and for no more than about half of them.
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
        // Most often there is none at all.
        self.values.len() > 0 && self.values.contains(request.0)
    }

    /// In place of any that the request has.
    pub(super) fn set(&mut self, at: Micros, request: RequestId, value: T) {
        self.remove(request);
        let turn = self.turns.add(at, request);
        self.values.insert(request.0, (turn, value));
    }

    pub(super) fn remove(&mut self, request: RequestId) -> Option<T> {
        let (_, value) = self.values.remove(request.0)?;
        let Self { values, turns } = self;
        turns.clear(values.len(), &|turn, request| values.get(request.0).is_some_and(|(its, _)| *its == turn));
        Some(value)
    }

    /// The first whose turn has come by `now`.
    pub(super) fn pop_due(&mut self, now: Micros) -> Option<(RequestId, T)> {
        let &Reverse(((at, _), request)) = self.turns.heap.peek()?;
        if at > now {
            return None;
        }
        self.remove(request).map(|value| (request, value))
    }

    /// When the first turn comes.
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

    /// Drops stale ones, where the first is or too many are. So many are `live`, those of which `is_live` says so.
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
        fn turns_come_in_order_whoever_leaves(steps: Vec<(u8, u8, u8)>) {
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
    fn those_who_have_left_take_no_room() {
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
