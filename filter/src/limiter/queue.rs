//! Requests that wait until there is room for their checks: a bounded queue, fair between keys.
//!
//! A request's turn is as many places ahead as its key has undecided checks, so that one of a key that has none comes
//! before the hundredth of a key that has many (start-time fair queueing). Of the room that is left, a key takes no more
//! than it leaves: one that floods cannot fill the queue.

use alloc::collections::VecDeque;

use super::RequestId;
use super::timers::Timers;
use crate::units::Micros;

/// Requests that may wait, and bytes that their checks may take together.
const MAX_REQUESTS: usize = 16_384;
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// The first turn: before it are only requests that were put back.
const FIRST_TURN: u64 = 1;
/// Stale deadlines that are not worth clearing away.
const FEW: usize = 64;

/// One worker's waiting requests.
#[derive(Debug)]
pub(super) struct Queue {
    /// By their turns, which are counted as if they were times.
    waiting: Timers<Waiting>,
    /// The last turn that came.
    turn: u64,
    /// When requests have to be decided, in that order; also of requests that have left.
    deadlines: VecDeque<(Micros, RequestId)>,
    bytes: usize,
}

#[derive(Debug)]
struct Waiting {
    deadline: Micros,
    bytes: usize,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self { waiting: Timers::new(), turn: FIRST_TURN, deadlines: VecDeque::new(), bytes: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.len() == 0
    }

    /// A request waits, whose key has `rank` undecided checks. `false` where there is no room for it.
    #[inline(never)]
    pub(super) fn push(&mut self, request: RequestId, rank: usize, deadline: Micros, bytes: usize) -> bool {
        let room = MAX_REQUESTS.saturating_sub(self.waiting.len());
        if rank >= room || self.bytes.saturating_add(bytes) > MAX_BYTES {
            return false;
        }
        self.leave(request);
        self.bytes = self.bytes.saturating_add(bytes);
        let turn = self.turn.saturating_add(u64::try_from(rank).unwrap_or(u64::MAX));
        self.waiting.set(Micros(turn), request, Waiting { deadline, bytes });
        self.deadlines.push_back((deadline, request));
        true
    }

    /// The next request whose turn it is, and its deadline.
    #[inline(never)]
    pub(super) fn pop(&mut self) -> Option<(RequestId, Micros)> {
        let turn = self.waiting.next()?;
        self.turn = self.turn.max(turn.0);
        let (request, Waiting { deadline, bytes }) = self.waiting.pop_due(turn)?;
        self.left(bytes);
        Some((request, deadline))
    }

    /// A request that was popped has no room yet: it is the next again.
    pub(super) fn put_back(&mut self, request: RequestId, deadline: Micros, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.waiting.set(Micros::ZERO, request, Waiting { deadline, bytes });
        self.deadlines.push_front((deadline, request));
    }

    /// The next request whose deadline has come by `now`: it waits no longer.
    #[inline(never)]
    pub(super) fn pop_due(&mut self, now: Micros) -> Option<RequestId> {
        while let Some((_, request)) = self.deadlines.pop_front_if(|(deadline, _)| *deadline <= now) {
            if self.leave(request) {
                return Some(request);
            }
        }
        None
    }

    /// A request is over. Whether it was waiting.
    #[inline(never)]
    pub(super) fn leave(&mut self, request: RequestId) -> bool {
        let waiting = self.waiting.remove(request);
        waiting.as_ref().inspect(|waiting| self.left(waiting.bytes)).is_some()
    }

    /// No later than the first deadline.
    pub(super) fn next_deadline(&self) -> Option<Micros> {
        self.deadlines.front().map(|(deadline, _)| *deadline)
    }

    fn left(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        if self.deadlines.len() > self.waiting.len().saturating_mul(2).saturating_add(FEW) {
            let waiting = &self.waiting;
            self.deadlines.retain(|(_, request)| waiting.contains(*request));
        }
        if self.waiting.len() == 0 {
            self.deadlines.clear();
            self.turn = FIRST_TURN;
        }
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    const LATER: Micros = Micros::from_secs(9);

    fn popped(queue: &mut Queue) -> Vec<u32> {
        core::iter::from_fn(|| queue.pop()).map(|(request, _)| request.0).collect()
    }

    #[test]
    fn requests_of_one_rank_go_on_in_the_order_in_which_they_came() {
        let mut queue = Queue::new();
        (1..=4).for_each(|id| assert!(queue.push(RequestId(id), 0, LATER, 1)));
        assert!(queue.leave(RequestId(2)));
        assert!(!queue.leave(RequestId(2)));
        assert_eq!(popped(&mut queue), [1, 3, 4]);
        assert!(queue.is_empty() && queue.next_deadline().is_none() && queue.bytes == 0);
    }

    #[test]
    fn a_key_that_has_none_undecided_comes_before_the_many_of_another() {
        let mut queue = Queue::new();
        (0..1_000).for_each(|nth| assert!(queue.push(RequestId(nth), nth as usize, LATER, 1)));
        let first: Vec<_> = (0..500).filter_map(|_| queue.pop()).map(|(request, _)| request.0).collect();
        assert_eq!(first, (0..500).collect::<Vec<_>>());
        assert!(queue.push(RequestId(5_000), 0, LATER, 1));
        assert!(queue.push(RequestId(5_003), 3, LATER, 1));
        assert_eq!([0; 4].map(|_| queue.pop().unwrap().0.0), [5_000, 500, 501, 502]);
    }

    #[test]
    fn one_that_is_put_back_is_the_next_again() {
        let mut queue = Queue::new();
        (1..=3).for_each(|id| assert!(queue.push(RequestId(id), 0, LATER, 1)));
        let (request, deadline) = queue.pop().unwrap();
        queue.put_back(request, deadline, 1);
        assert_eq!(popped(&mut queue), [1, 2, 3]);
    }

    #[test]
    fn a_key_leaves_as_much_room_as_it_takes() {
        let mut queue = Queue::new();
        let taken = (0..40_000).take_while(|nth| queue.push(RequestId(*nth), *nth as usize, LATER, 1)).count();
        assert_eq!(taken, MAX_REQUESTS / 2);
        assert!(queue.push(RequestId(50_000), 0, LATER, 1), "another key");
        assert!(!queue.push(RequestId(50_001), 0, LATER, MAX_BYTES));
        let keys = (60_000..90_000).filter(|nth| queue.push(RequestId(*nth), 0, LATER, 1)).count();
        assert_eq!(keys, MAX_REQUESTS / 2 - 1);
    }

    #[test]
    fn whose_deadline_has_come_waits_no_longer() {
        let mut queue = Queue::new();
        for (id, deadline) in [(1, 10), (2, 20), (3, 30)] {
            assert!(queue.push(RequestId(id), 0, Micros(deadline), 1));
        }
        assert_eq!(queue.pop_due(Micros(9)), None);
        queue.leave(RequestId(1));
        assert_eq!([queue.pop_due(Micros(20)), queue.pop_due(Micros(20))], [Some(RequestId(2)), None]);
        assert_eq!(queue.next_deadline(), Some(Micros(30)));
        let (request, deadline) = queue.pop().unwrap();
        queue.put_back(request, deadline, 1);
        assert_eq!((queue.next_deadline(), queue.pop()), (Some(Micros(30)), Some((RequestId(3), Micros(30)))));
    }

    #[test]
    fn those_who_have_left_take_no_room() {
        let mut queue = Queue::new();
        assert!(queue.push(RequestId(0), 0, LATER, 1));
        for id in 1..10_000 {
            assert!(queue.push(RequestId(id), 0, LATER, 1));
            queue.leave(RequestId(id));
            assert!(queue.deadlines.len() <= FEW + 4);
        }
    }
}
