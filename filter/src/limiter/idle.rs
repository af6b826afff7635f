//! Ticks at which nothing is due: see [`Worker::idle_tick`](crate::worker::Worker::idle_tick).

use super::Limiter;
use super::events::Events;
use crate::units::Micros;

/// Longest time between two ticks that leaves all deadlines as they are.
const LONGEST: Micros = Micros::from_millis(500);

impl Limiter {
    /// Whether nothing waits but for its deadline.
    pub(crate) fn is_idle(&self) -> bool {
        let is_reported = !self.counters.is_dirty() && self.events.as_ref().is_none_or(Events::is_quiet);
        is_reported && self.is_at_rest() && self.queue.is_empty() && self.redis.is_idle()
    }

    /// Records a tick at which nothing is due. Returns `false` if the tick before it is too long ago, and does nothing.
    pub(crate) fn idle_tick(&mut self, now: Micros) -> bool {
        let span = now.minus(self.last_tick);
        if span > LONGEST {
            return false;
        }
        self.last_tick = now;
        self.redis_activity.on_tick(span);
        self.redis.idle_tick(now);
        true
    }
}
