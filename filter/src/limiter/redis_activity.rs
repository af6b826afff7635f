//! Activity of Redis, from which the worker tells a flood from a failure.

use crate::units::Micros;

/// Time for which Redis still counts as answering after its last decision before a timeout, for keys that flood.
const PATIENCE: Micros = Micros::from_secs(1);
/// Part of that time for which a tick counts, at most: a busy proxy ticks once per turn of its event loop, and reads no
/// reply in between.
const MAX_TICK: Micros = Micros(PATIENCE.0 / 16);

/// Activity of Redis: the last decision in time, and Redis' clock.
#[derive(Debug)]
pub(super) struct RedisActivity {
    /// Time of ticks since the last decision; [`PATIENCE`] before the first.
    silence: Micros,
    /// Whether Redis has decided a check since [`on_first_check`](Self::on_first_check) last ended the silence.
    is_trusted: bool,
    /// Time of the last decision, by the worker's clock and by Redis' clock.
    clocks: Option<(Micros, Micros)>,
}

impl RedisActivity {
    pub(super) fn new() -> Self {
        Self { silence: PATIENCE, is_trusted: true, clocks: None }
    }

    /// Handles a decision in time. `redis` is its time by Redis' clock.
    pub(super) fn on_decision(&mut self, now: Micros, redis: Micros) {
        self.silence = Micros::ZERO;
        self.is_trusted = true;
        self.clocks = Some((now, redis));
    }

    /// Handles a check of a worker that has no other undecided check. Redis was idle, not silent: it counts as
    /// answering, once until its next decision.
    pub(super) fn on_first_check(&mut self) {
        if core::mem::take(&mut self.is_trusted) {
            self.silence = Micros::ZERO;
        }
    }

    /// Handles a tick, `span` after the last one.
    pub(super) fn on_tick(&mut self, span: Micros) {
        self.silence = self.silence.plus(span.min(MAX_TICK));
    }

    pub(super) fn is_answering(&self) -> bool {
        self.silence < PATIENCE
    }

    /// Estimates the present time of Redis' clock.
    pub(super) fn redis_time(&self, now: Micros) -> Option<Micros> {
        self.clocks.map(|(then, redis)| redis.plus(now.minus(then)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redis_counts_as_answering_for_less_than_a_second_of_ticks_after_its_last_decision() {
        let mut activity = RedisActivity::new();
        assert!(!activity.is_answering(), "it has decided nothing yet");
        activity.on_decision(Micros(1), Micros(1));
        for _ in 0..16 {
            assert!(activity.is_answering());
            activity.on_tick(PATIENCE);
        }
        assert!(!activity.is_answering());
        activity.on_first_check();
        assert!(activity.is_answering(), "it was idle");
    }

    #[test]
    fn the_time_of_redis_goes_on_from_its_last_decision() {
        let mut activity = RedisActivity::new();
        assert_eq!(activity.redis_time(Micros(9)), None);
        activity.on_decision(Micros(10), Micros(500));
        assert_eq!(activity.redis_time(Micros(13)), Some(Micros(503)));
    }
}
