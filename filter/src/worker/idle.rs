//! Ticks at which nothing is due, in native builds: most ticks of a simulation are of this kind.
//!
//! A tick at which nothing is due changes nothing but the records of the latest ticks and the tick period. Between two
//! callbacks, these are all that is brought up to date; the result is the same as that of a whole tick.

use crate::host;
use crate::units::Micros;

use super::Worker;

/// Time of the next deadline of a worker that has nothing to do until then; `None` without any deadline.
pub(crate) type NextDeadline = Option<Micros>;

impl Worker {
    /// Returns the next deadline. `None` if the next tick may have something to do besides, or other callbacks may.
    pub(crate) fn idle_until(&self) -> Option<NextDeadline> {
        let now = self.clock.now();
        self.with(|state| {
            let is_idle = state.limiter.is_idle() && state.batching.is_idle() && state.body_waits.next_due().is_none();
            is_idle.then(|| state.limiter.next_tick(now))
        })
    }

    /// Handles a tick if nothing is due: `next` is what [`idle_until`](Self::idle_until) returned after the last tick,
    /// and there was no other callback since. Returns whether it was handled.
    pub(crate) fn idle_tick(&self, next: NextDeadline) -> bool {
        let now = self.clock.now();
        if next.is_some_and(|at| at <= now) || !self.with(|state| state.limiter.idle_tick(now)) {
            return false;
        }
        if let Some(period) = self.with(|state| state.ticker.adjust(now, next)) {
            let set = host::set_tick_period(u32::try_from(period.as_millis()).unwrap_or(u32::MAX));
            debug_assert_eq!(set, Ok(()), "every period is valid");
        }
        true
    }
}
