//! Whether requests are checked one by one as they arrive, or together with all that the proxy finds in the same turn.
//!
//! A proxy's worker goes from turn to turn: it looks which connections have something, then serves them one after the
//! other. Where there is a crowd, the first request asks to be told when the turn ends, and that is when all of them are
//! checked: the proxy has then read them in one go, the filter decides them in one go, and what it asks of Redis is one
//! message. Each of the three is much cheaper so than with the others in between, as caches have it at hand; and sockets
//! that are written one after the other wake their readers once. Who comes alone is checked at once.

use alloc::collections::VecDeque;

use super::RequestId;

/// Of the requests that seem to come alone, one in so many is kept until its turn ends, to learn whether others come.
const LOOK_AROUND: u32 = 16;

/// One worker's.
#[derive(Debug, Default)]
pub struct Batching {
    /// To be checked when the turn ends.
    arrived: VecDeque<RequestId>,
    /// Whether they may not be in the order of their numbers. The proxy counts up, so that they most often are.
    is_unsorted: bool,
    /// Requests and sends that have been told to wait for this turn's end.
    waiting: u32,
    /// Those of the last turn whose end was awaited.
    last: u32,
    /// Requests in a row that were told to go on at once.
    alone: u32,
    /// Whether what waited is being done.
    is_ending: bool,
}

/// When to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// At once.
    Now,
    /// At the end of the turn, which is to be asked for.
    Schedule,
    /// At the end of the turn, which has been asked for.
    Wait,
}

impl Batching {
    /// A request arrives, when so many calls are in flight. Unless it is to be checked at once, [`take_next`](Self::take_next)
    /// gives it back.
    pub fn arrive(&mut self, request: RequestId, in_flight: usize) -> Pace {
        let pace = self.pace(in_flight, self.alone.saturating_add(1) >= LOOK_AROUND);
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

    /// There is something to send, beside so many calls in flight.
    pub fn send(&mut self, in_flight: usize) -> Pace {
        if self.is_ending { Pace::Wait } else { self.pace(in_flight, false) }
    }

    /// It is a crowd where others are, or were.
    fn pace(&mut self, in_flight: usize, looks_around: bool) -> Pace {
        let pace = match self.waiting {
            0 if in_flight == 0 && self.last <= 1 && !looks_around => return Pace::Now,
            0 => Pace::Schedule,
            _ => Pace::Wait,
        };
        self.waiting = self.waiting.saturating_add(1);
        pace
    }

    /// A request is over, or goes on at once after all. To the proxy it may look alive for a while yet.
    pub fn leave(&mut self, request: RequestId) {
        if let Some(at) = self.place(request) {
            self.arrived.remove(at);
        }
    }

    /// The turn ends: until it [has](Self::turn_ended), what is to be sent is kept for then.
    pub fn turn_ends(&mut self) {
        self.is_ending = true;
    }

    /// The next request to be checked at the turn's end. It may be over by then.
    pub fn take_next(&mut self) -> Option<RequestId> {
        self.arrived.pop_front()
    }

    /// Whether any is left to be checked.
    #[must_use]
    pub fn has_any(&self) -> bool {
        !self.arrived.is_empty()
    }

    /// Whether this one is.
    #[must_use]
    pub fn holds(&self, request: RequestId) -> bool {
        self.place(request).is_some()
    }

    fn place(&self, request: RequestId) -> Option<usize> {
        if self.arrived.is_empty() {
            None
        } else if self.is_unsorted {
            self.arrived.iter().position(|arrived| *arrived == request)
        } else {
            self.arrived.binary_search(&request).ok()
        }
    }

    /// All that waited has been done, or will not wait: the turn's end cannot be asked for.
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
    fn who_comes_alone_waits_for_nobody_but_now_and_then() {
        let mut batching = Batching::default();
        for _ in 0..3 {
            assert_eq!(arrive(&mut batching, 1..LOOK_AROUND), [Pace::Now; LOOK_AROUND as usize - 1]);
            assert_eq!(arrive(&mut batching, 99..100), [Pace::Schedule]);
            assert_eq!(end(&mut batching), [99]);
        }
    }

    #[test]
    fn who_looked_around_and_asked_redis_was_alone() {
        let mut batching = Batching::default();
        assert_eq!(arrive(&mut batching, 1..17).last(), Some(&Pace::Schedule));
        batching.turn_ends();
        assert_eq!([batching.take_next(), batching.take_next()], [Some(RequestId(16)), None]);
        assert_eq!([batching.send(0), batching.send(0)], [Pace::Wait, Pace::Wait]);
        batching.turn_ended();
        assert_eq!(arrive(&mut batching, 17..18), [Pace::Now]);
    }

    #[test]
    fn of_a_crowd_the_first_asks_for_the_turns_end_and_all_wait_for_it() {
        let mut batching = Batching::default();
        // One that asks Redis, and then others while it does.
        assert_eq!(batching.arrive(RequestId(1), 0), Pace::Now);
        assert_eq!(batching.send(0), Pace::Now);
        assert_eq!([2, 3].map(|id| batching.arrive(RequestId(id), 1)), [Pace::Schedule, Pace::Wait]);
        assert!(batching.holds(RequestId(3)) && !batching.holds(RequestId(1)));
        assert_eq!(batching.send(1), Pace::Wait);
        assert_eq!(end(&mut batching), [2, 3]);
        // All of them are answered, and come again.
        assert_eq!(arrive(&mut batching, 4..6), [Pace::Schedule, Pace::Wait]);
        assert_eq!(end(&mut batching), [4, 5]);
    }

    #[test]
    fn a_crowd_is_found_though_nobody_asks_redis() {
        let mut batching = Batching::default();
        let paces = arrive(&mut batching, 1..20);
        assert_eq!(paces.iter().filter(|pace| **pace == Pace::Now).count(), LOOK_AROUND as usize - 1);
        assert_eq!(end(&mut batching), [16, 17, 18, 19]);
        assert_eq!(arrive(&mut batching, 20..22), [Pace::Schedule, Pace::Wait]);
    }

    #[test]
    fn a_request_that_cannot_wait_is_not_waited_for() {
        let mut batching = Batching::default();
        assert_eq!(batching.arrive(RequestId(1), 5), Pace::Schedule);
        batching.leave(RequestId(1));
        batching.turn_ended();
        assert!(!batching.has_any());
        assert_eq!(batching.arrive(RequestId(2), 5), Pace::Schedule);
    }

    #[test]
    fn who_leaves_is_not_checked() {
        let mut batching = Batching::default();
        assert_eq!([1, 2, 3].map(|id| batching.arrive(RequestId(id), 5)), [Pace::Schedule, Pace::Wait, Pace::Wait]);
        batching.leave(RequestId(2));
        batching.leave(RequestId(9));
        assert!(!batching.holds(RequestId(2)));
        assert_eq!(end(&mut batching), [1, 3]);
    }

    #[test]
    fn requests_are_found_in_whatever_order_they_come() {
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
    fn after_a_crowd_who_comes_alone_waits_once() {
        let mut batching = Batching::default();
        assert_eq!([batching.send(1), batching.send(1)], [Pace::Schedule, Pace::Wait]);
        batching.turn_ended();
        assert_eq!(arrive(&mut batching, 1..2), [Pace::Schedule]);
        assert_eq!(end(&mut batching), [1]);
        assert_eq!(arrive(&mut batching, 2..3), [Pace::Now]);
    }
}
