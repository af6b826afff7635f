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

    /// Time of the proxy's clock before which no tick has anything to do; `next` as in [`idle_tick`](Self::idle_tick).
    pub(crate) fn idle_for(&self, next: NextDeadline) -> Micros {
        next.map_or(Micros(u64::MAX), |next| self.clock.to_proxy(next))
    }

    /// Handles the tick at `first`, and those that follow it `period` apart, as far as they come before `until` and
    /// nothing is due; by the proxy's clock, and `next` as in [`idle_tick`](Self::idle_tick). Ends with a tick that
    /// changes the period. Returns the number of ticks, and the new period; zero for no more ticks.
    pub(crate) fn idle_ticks(
        &self,
        next: NextDeadline,
        first: Micros,
        period: Micros,
        until: Micros,
    ) -> (u64, Option<Micros>) {
        let until = until.min(self.idle_for(next));
        self.with(|state| {
            let (mut at, mut ticks) = (first, 0_u64);
            while at < until && state.limiter.idle_tick(self.clock.of_proxy(at)) {
                ticks = ticks.saturating_add(1);
                if let Some(changed) = state.ticker.adjust(self.clock.of_proxy(at), next) {
                    return (ticks, Some(Micros(u64::try_from(changed.as_micros()).unwrap_or(u64::MAX))));
                }
                at = at.plus(period);
            }
            (ticks, None)
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
