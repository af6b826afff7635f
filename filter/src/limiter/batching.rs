//! Batching: checks requests immediately, or together at the end of the turn in which they arrive.
//!
//! A turn is one iteration of the event loop of a proxy's worker: the worker polls its connections, then serves the
//! ready ones in order. Under concurrent load the first request schedules a callback at the end of the turn, and that
//! callback checks all requests of the turn: the proxy reads them in one go, the filter decides them in one go, and
//! their calls to Redis are one message. Each of the three steps is much cheaper batched than interleaved with the
//! others: its code and data stay in the CPU's caches, and each socket wakes its reader once. A lone request is checked
//! immediately.
use alloc::collections::VecDeque;

use super::request_id::RequestId;

/// Probing interval: of the requests that seem to be alone, every 16th waits for the end of its turn, to detect
/// concurrent requests.
const PROBE_INTERVAL: u32 = 16;

/// Batching state of one worker.
#[derive(Debug, Default)]
pub struct Batching {
    /// Requests to be checked when the turn ends.
    arrived: VecDeque<RequestId>,
    /// Whether `arrived` may be out of order by ID. The proxy's IDs count up, so `arrived` is usually sorted.
    is_unsorted: bool,
    /// Number of requests and sends that wait for the end of this turn.
    waiting: u32,
    /// `waiting` of the last turn that had a scheduled end.
    last: u32,
    /// Number of consecutive requests that were checked immediately.
    alone: u32,
    /// Whether the end of the turn is being processed.
    is_ending: bool,
}

/// Time at which a request is checked, or data is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Immediately.
    Now,
    /// At the end of the turn; the caller must schedule its callback.
    Schedule,
    /// At the end of the turn; its callback is already scheduled.
    Wait,
}

impl Batching {
    /// Handles the arrival of a request while `in_flight` calls are in flight. Unless the pace is [`Pace::Now`],
    /// [`take_next`](Self::take_next) returns the request at the end of the turn.
    pub fn arrive(&mut self, request: RequestId, in_flight: usize) -> Pace {
        let pace = self.pace(in_flight, self.alone.saturating_add(1) >= PROBE_INTERVAL);
        match pace {
            Pace::Now => self.alone = self.alone.saturating_add(1),
            Pace::Schedule | Pace::Wait => {
                self.alone = 0;
                let is_next = self.arrived.back().is_none_or(|last| *last < request);
                self.is_unsorted = !is_next || (self.is_unsorted && !self.arrived.is_empty());
                self.arrived.push_back(request);
            }
        }
        pace
    }

    /// Returns when to send outgoing data while `in_flight` calls are in flight.
    pub fn send(&mut self, in_flight: usize) -> Pace {
        if self.is_ending { Pace::Wait } else { self.pace(in_flight, false) }
    }

    /// Returns [`Pace::Now`] if no call is in flight, nothing waits, and at most one waited in the last turn.
    fn pace(&mut self, in_flight: usize, is_probe: bool) -> Pace {
        let pace = match self.waiting {
            0 if in_flight == 0 && self.last <= 1 && !is_probe => return Pace::Now,
            0 => Pace::Schedule,
            _ => Pace::Wait,
        };
        self.waiting = self.waiting.saturating_add(1);
        pace
    }

    /// Removes a request that has ended, or that is checked immediately after all. The proxy may report the request as
    /// alive for some time after that.
    pub fn leave(&mut self, request: RequestId) {
        if let Some(at) = self.index(request) {
            self.arrived.remove(at);
        }
    }

    /// Starts the end of the turn: until [`turn_ended`](Self::turn_ended), sends wait.
    pub fn turn_ends(&mut self) {
        self.is_ending = true;
    }

    /// Takes the next request to be checked at the end of the turn. The request may have ended.
    pub fn take_next(&mut self) -> Option<RequestId> {
        self.arrived.pop_front()
    }

    /// Whether any request is still to be checked.
    #[must_use]
    pub fn has_any(&self) -> bool {
        !self.arrived.is_empty()
    }

    /// Whether this request is still to be checked.
    #[must_use]
    pub fn holds(&self, request: RequestId) -> bool {
        self.index(request).is_some()
    }

    fn index(&self, request: RequestId) -> Option<usize> {
        if self.arrived.is_empty() {
            None
        } else if self.is_unsorted {
            self.arrived.iter().position(|arrived| *arrived == request)
        } else {
            self.arrived.binary_search(&request).ok()
        }
    }

    /// Whether nothing waits, and nothing did in the last turn.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn is_idle(&self) -> bool {
        self.arrived.is_empty() && self.waiting == 0 && self.last == 0
    }

    /// Completes the end of the turn: everything that waited was processed, or does not wait because the proxy could
    /// not schedule the callback.
    pub fn turn_ended(&mut self) {
        self.last = core::mem::take(&mut self.waiting);
        self.is_ending = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrive(batching: &mut Batching, ids: core::ops::Range<u32>) -> Vec<Pace> {
        ids.map(|id| batching.arrive(RequestId(id), 0)).collect()
    }

    fn end(batching: &mut Batching) -> Vec<u32> {
        batching.turn_ends();
        let checked = core::iter::from_fn(|| batching.take_next()).map(|request| request.0).collect();
        batching.turn_ended();
        checked
    }

    #[test]
    fn a_lone_request_is_checked_immediately_except_for_a_periodic_probe() {
        let mut batching = Batching::default();
        for _ in 0..3 {
            assert_eq!(arrive(&mut batching, 1..PROBE_INTERVAL), [Pace::Now; PROBE_INTERVAL as usize - 1]);
            assert_eq!(arrive(&mut batching, 99..100), [Pace::Schedule]);
            assert_eq!(end(&mut batching), [99]);
        }
    }

    #[test]
    fn a_probe_that_found_no_other_request_was_alone() {
        let mut batching = Batching::default();
        assert_eq!(arrive(&mut batching, 1..17).last(), Some(&Pace::Schedule));
        batching.turn_ends();
        assert_eq!([batching.take_next(), batching.take_next()], [Some(RequestId(16)), None]);
        assert_eq!([batching.send(0), batching.send(0)], [Pace::Wait, Pace::Wait]);
        batching.turn_ended();
        assert_eq!(arrive(&mut batching, 17..18), [Pace::Now]);
    }

    #[test]
    fn the_first_concurrent_request_schedules_the_end_of_the_turn_and_all_wait_for_it() {
        let mut batching = Batching::default();
        // The first request is sent to Redis; others arrive meanwhile.
        assert_eq!(batching.arrive(RequestId(1), 0), Pace::Now);
        assert_eq!(batching.send(0), Pace::Now);
        assert_eq!([2, 3].map(|id| batching.arrive(RequestId(id), 1)), [Pace::Schedule, Pace::Wait]);
        assert!(batching.has_any() && batching.holds(RequestId(3)) && !batching.holds(RequestId(1)));
        assert_eq!(batching.send(1), Pace::Wait);
        assert_eq!(end(&mut batching), [2, 3]);
        // Their clients receive replies and send the next requests.
        assert_eq!(arrive(&mut batching, 4..6), [Pace::Schedule, Pace::Wait]);
        assert_eq!(end(&mut batching), [4, 5]);
    }

    #[test]
    fn concurrent_requests_are_detected_though_none_calls_redis() {
        let mut batching = Batching::default();
        let paces = arrive(&mut batching, 1..20);
        assert_eq!(paces.iter().filter(|pace| **pace == Pace::Now).count(), PROBE_INTERVAL as usize - 1);
        assert_eq!(end(&mut batching), [16, 17, 18, 19]);
        assert_eq!(arrive(&mut batching, 20..22), [Pace::Schedule, Pace::Wait]);
    }

    #[test]
    fn a_request_that_cannot_wait_does_not_count_as_waiting() {
        let mut batching = Batching::default();
        assert_eq!(batching.arrive(RequestId(1), 5), Pace::Schedule);
        batching.leave(RequestId(1));
        batching.turn_ended();
        assert!(!batching.has_any());
        assert_eq!(batching.arrive(RequestId(2), 5), Pace::Schedule);
    }

    #[test]
    fn a_removed_request_is_not_checked() {
        let mut batching = Batching::default();
        assert_eq!([1, 2, 3].map(|id| batching.arrive(RequestId(id), 5)), [Pace::Schedule, Pace::Wait, Pace::Wait]);
        batching.leave(RequestId(2));
        batching.leave(RequestId(9));
        assert!(!batching.holds(RequestId(2)));
        assert_eq!(end(&mut batching), [1, 3]);
    }

    #[test]
    fn requests_are_found_in_any_order_of_arrival() {
        let mut batching = Batching::default();
        for id in [5, 9, 3, 4] {
            batching.arrive(RequestId(id), 5);
        }
        for id in [9, 3, 7, 5, 4] {
            assert_eq!(batching.holds(RequestId(id)), id != 7);
            batching.leave(RequestId(id));
            assert!(!batching.holds(RequestId(id)));
        }
        batching.arrive(RequestId(1), 5);
        assert!(batching.holds(RequestId(1)) && !batching.is_unsorted);
    }

    #[test]
    fn after_concurrent_requests_a_lone_request_waits_once() {
        let mut batching = Batching::default();
        assert_eq!([batching.send(1), batching.send(1)], [Pace::Schedule, Pace::Wait]);
        batching.turn_ended();
        assert_eq!(arrive(&mut batching, 1..2), [Pace::Schedule]);
        assert_eq!(end(&mut batching), [1]);
        assert_eq!(arrive(&mut batching, 2..3), [Pace::Now]);
    }

    #[test]
    fn requests_in_the_order_of_their_ids_count_as_sorted() {
        let mut batching = Batching::default();
        for id in [1, 2, 3] {
            batching.arrive(RequestId(id), 5);
        }
        assert!(!batching.is_unsorted, "they are found by bisection");
        batching.arrive(RequestId(2), 5);
        assert!(batching.is_unsorted);
    }

    #[test]
    fn a_worker_is_idle_once_nothing_waits_and_nothing_did_in_the_last_turn() {
        let mut batching = Batching::default();
        assert!(batching.is_idle());
        batching.arrive(RequestId(1), 5);
        assert!(!batching.is_idle());
        end(&mut batching);
        assert!(!batching.is_idle(), "one waited in the last turn");
        end(&mut batching);
        assert!(batching.is_idle());
    }
}
