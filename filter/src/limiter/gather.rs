//! Whether calls are sent one by one, or with those of other requests that the proxy finds in the same turn.
//!
//! A proxy's worker goes from turn to turn: it looks which connections have something, then serves them one after the
//! other. A message to Redis costs it as much as the rest of a check, however many calls are in the message. So where
//! there is a crowd, the first request asks to be told when the turn ends, and that is when all calls are sent, in one
//! message; the proxy writes to sockets hardly sooner in any case. Where there is none, a call is sent at once.

/// One worker's.
#[derive(Debug, Default)]
pub struct Gather {
    /// Sends that the end of the turn is to bring.
    waiting: u32,
    /// Those that the last message was made of.
    last: u32,
}

/// When to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// At once.
    Now,
    /// At the end of the turn, which is to be asked for.
    Schedule,
    /// At the end of the turn, which has been asked for.
    Wait,
}

impl Gather {
    /// There is something to send, with which so many calls are in flight. It is a crowd where others are, or were.
    pub fn pace(&mut self, in_flight: usize) -> Pace {
        let pace = match self.waiting {
            0 if in_flight <= 1 && self.last <= 1 => return Pace::Now,
            0 => Pace::Schedule,
            _ => Pace::Wait,
        };
        self.waiting = self.waiting.saturating_add(1);
        pace
    }

    /// All that there was has been sent.
    pub fn sent(&mut self) {
        self.last = core::mem::take(&mut self.waiting);
    }

    /// There is nothing to send: what waited is gone, with its connection.
    pub fn dropped(&mut self) {
        self.waiting = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_alone_waits_for_nobody() {
        let mut gather = Gather::default();
        for _ in 0..3 {
            assert_eq!(gather.pace(1), Pace::Now);
            gather.sent();
        }
    }

    #[test]
    fn of_a_crowd_the_first_asks_for_the_turns_end_and_all_wait_for_it() {
        let mut gather = Gather::default();
        assert_eq!(gather.pace(1), Pace::Now);
        gather.sent();
        assert_eq!([gather.pace(2), gather.pace(3), gather.pace(4)], [Pace::Schedule, Pace::Wait, Pace::Wait]);
        gather.sent();
        // All of them are answered, and come again.
        assert_eq!([gather.pace(1), gather.pace(2)], [Pace::Schedule, Pace::Wait]);
    }

    #[test]
    fn those_whose_connection_is_gone_are_not_waited_for() {
        let mut gather = Gather::default();
        assert_eq!(gather.pace(2), Pace::Schedule);
        gather.dropped();
        assert_eq!([gather.pace(2), gather.pace(3)], [Pace::Schedule, Pace::Wait]);
    }

    #[test]
    fn after_a_crowd_who_comes_alone_waits_once() {
        let mut gather = Gather::default();
        assert_eq!([gather.pace(2), gather.pace(3)], [Pace::Schedule, Pace::Wait]);
        gather.sent();
        assert_eq!(gather.pace(1), Pace::Schedule);
        gather.sent();
        assert_eq!(gather.pace(1), Pace::Now);
    }
}
