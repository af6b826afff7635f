//! Check queue: requests that wait for room in the Redis transport; bounded, and fair between keys.
//!
//! A request's turn is later by the number of undecided checks of its key, so that the first request of one key comes
//! before the hundredth of another (start-time fair queueing). A request is refused if its key has at least as many
//! undecided checks as the queue has free entries: a key that floods cannot fill the queue.

use alloc::collections::VecDeque;

use super::request_id::RequestId;
use super::timers::Timers;
use crate::units::Micros;

/// Maximum number of queued requests.
const MAX_REQUESTS: usize = 16_384;
/// Maximum total size of their checks: 8 MiB.
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// The first turn: before it are only requests that were put back.
const FIRST_TURN: u64 = 1;
/// Number of stale deadlines below which they are not cleared.
const FEW: usize = 64;

/// Queued requests of one worker.
#[derive(Debug)]
pub(super) struct CheckQueue {
    /// Queued checks by turn: a virtual time, stored as [`Micros`].
    queued: Timers<QueuedCheck>,
    /// Turn of the last popped request.
    turn: u64,
    /// Deadlines of requests, earliest first; may include requests that were removed.
    deadlines: VecDeque<(Micros, RequestId)>,
    /// Sum of all extensions. A deadline is stored without it.
    extended: Micros,
    bytes: usize,
}

#[derive(Debug)]
struct QueuedCheck {
    /// Deadline, stored without extensions.
    deadline: Micros,
    bytes: usize,
}

impl CheckQueue {
    #[inline(never)]
    pub(super) fn new() -> Self {
        Self { queued: Timers::new(), turn: FIRST_TURN, deadlines: VecDeque::new(), extended: Micros::ZERO, bytes: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queued.len() == 0
    }

    /// Queues a request whose key has `rank` undecided checks. Returns `false` if there is no room.
    #[inline(never)]
    pub(super) fn push(&mut self, request: RequestId, rank: usize, deadline: Micros, bytes: usize) -> bool {
        let room = MAX_REQUESTS.saturating_sub(self.queued.len());
        if rank >= room || self.bytes.saturating_add(bytes) > MAX_BYTES {
            return false;
        }
        self.leave(request);
        self.bytes = self.bytes.saturating_add(bytes);
        let deadline = deadline.minus(self.extended);
        let turn = self.turn.saturating_add(u64::try_from(rank).unwrap_or(u64::MAX));
        self.queued.set(Micros(turn), request, QueuedCheck { deadline, bytes });
        // A check that is asked again has an earlier deadline than those that came after it.
        let later = self.deadlines.iter().rev().take_while(|(other, _)| *other > deadline).count();
        self.deadlines.insert(self.deadlines.len().saturating_sub(later), (deadline, request));
        true
    }

    /// Removes and returns the next request in turn, with its deadline.
    #[inline(never)]
    pub(super) fn pop(&mut self) -> Option<(RequestId, Micros)> {
        let turn = self.queued.next()?;
        self.turn = self.turn.max(turn.0);
        let (request, QueuedCheck { deadline, bytes }) = self.queued.pop_due(turn)?;
        self.left(bytes);
        Some((request, deadline.plus(self.extended)))
    }

    /// Puts a popped request back as the next one.
    pub(super) fn put_back(&mut self, request: RequestId, deadline: Micros, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        let deadline = deadline.minus(self.extended);
        self.queued.set(Micros::ZERO, request, QueuedCheck { deadline, bytes });
        self.deadlines.push_front((deadline, request));
    }

    /// Removes and returns the next request whose deadline has passed by `now`.
    #[inline(never)]
    pub(super) fn pop_due(&mut self, now: Micros) -> Option<RequestId> {
        let now = now.minus(self.extended);
        while let Some((_, request)) = self.deadlines.pop_front_if(|(deadline, _)| *deadline <= now) {
            if self.leave(request) {
                return Some(request);
            }
        }
        None
    }

    /// Extends all deadlines.
    pub(super) fn extend(&mut self, by: Micros) {
        self.extended = self.extended.plus(by);
    }

    /// Removes a request that has ended. Returns whether it was queued.
    #[inline(never)]
    pub(super) fn leave(&mut self, request: RequestId) -> bool {
        let waiting = self.queued.remove(request);
        waiting.as_ref().inspect(|waiting| self.left(waiting.bytes)).is_some()
    }

    /// Lower bound of the earliest deadline.
    pub(super) fn next_deadline(&self) -> Option<Micros> {
        self.deadlines.front().map(|(deadline, _)| deadline.plus(self.extended))
    }

    fn left(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        if self.deadlines.len() > self.queued.len().saturating_mul(2).saturating_add(FEW) {
            let waiting = &self.queued;
            self.deadlines.retain(|(_, request)| waiting.contains(*request));
        }
        if self.queued.len() == 0 {
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

    fn popped(queue: &mut CheckQueue) -> Vec<u32> {
        core::iter::from_fn(|| queue.pop()).map(|(request, _)| request.0).collect()
    }

    #[test]
    fn requests_of_one_rank_are_popped_in_the_order_of_arrival() {
        let mut queue = CheckQueue::new();
        (1..=4).for_each(|id| assert!(queue.push(RequestId(id), 0, LATER, 1)));
        assert!(queue.leave(RequestId(2)));
        assert!(!queue.leave(RequestId(2)));
        assert_eq!(popped(&mut queue), [1, 3, 4]);
        assert!(queue.is_empty() && queue.next_deadline().is_none() && queue.bytes == 0);
    }

    #[test]
    fn a_key_without_undecided_checks_comes_before_a_key_with_many() {
        let mut queue = CheckQueue::new();
        (0..1_000).for_each(|nth| assert!(queue.push(RequestId(nth), nth as usize, LATER, 1)));
        let first: Vec<_> = (0..500).filter_map(|_| queue.pop()).map(|(request, _)| request.0).collect();
        assert_eq!(first, (0..500).collect::<Vec<_>>());
        assert!(queue.push(RequestId(5_000), 0, LATER, 1));
        assert!(queue.push(RequestId(5_003), 3, LATER, 1));
        assert_eq!([0; 4].map(|_| queue.pop().unwrap().0.0), [5_000, 500, 501, 502]);
    }

    #[test]
    fn one_that_is_put_back_is_the_next_again() {
        let mut queue = CheckQueue::new();
        (1..=3).for_each(|id| assert!(queue.push(RequestId(id), 0, LATER, 1)));
        let (request, deadline) = queue.pop().unwrap();
        queue.put_back(request, deadline, 1);
        assert_eq!(popped(&mut queue), [1, 2, 3]);
    }

    #[test]
    fn a_key_leaves_as_much_room_as_it_takes() {
        let mut queue = CheckQueue::new();
        let taken = (0..40_000).take_while(|nth| queue.push(RequestId(*nth), *nth as usize, LATER, 1)).count();
        assert_eq!(taken, MAX_REQUESTS / 2);
        assert!(queue.push(RequestId(50_000), 0, LATER, 1), "another key");
        let (rest, bytes) = (MAX_BYTES - queue.bytes, queue.bytes);
        assert!(!queue.push(RequestId(50_001), 0, LATER, rest + 1));
        assert!(queue.push(RequestId(50_001), 0, LATER, rest) && queue.leave(RequestId(50_001)));
        assert_eq!(queue.bytes, bytes);
        let keys = (60_000..90_000).filter(|nth| queue.push(RequestId(*nth), 0, LATER, 1)).count();
        assert_eq!(keys, MAX_REQUESTS / 2 - 1);
    }

    #[test]
    fn a_request_whose_deadline_has_passed_waits_no_longer() {
        let mut queue = CheckQueue::new();
        for (id, deadline) in [(1, 10), (3, 30), (2, 20)] {
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
    fn requests_of_one_deadline_wait_no_longer_in_the_order_of_arrival() {
        let mut queue = CheckQueue::new();
        (1..=3).for_each(|id| assert!(queue.push(RequestId(id), 0, LATER, 1)));
        let due: Vec<u32> = core::iter::from_fn(|| queue.pop_due(LATER)).map(|request| request.0).collect();
        assert_eq!(due, [1, 2, 3]);
    }

    #[test]
    fn removed_requests_take_no_room() {
        let mut queue = CheckQueue::new();
        assert!(queue.push(RequestId(0), 0, LATER, 1));
        for id in 1..10_000 {
            assert!(queue.push(RequestId(id), 0, LATER, 1));
            queue.leave(RequestId(id));
            assert!(queue.deadlines.len() <= FEW + 4);
        }
    }

    #[test]
    fn few_deadlines_of_removed_requests_stay_until_there_are_many() {
        let mut queue = CheckQueue::new();
        (1..=3).for_each(|id| assert!(queue.push(RequestId(id), 0, LATER, 1)));
        queue.leave(RequestId(2));
        assert_eq!(queue.deadlines.len(), 3, "to clear them takes time");
    }
}
