//! Activity of Redis, from which the worker tells a flood from a failure.

use crate::units::Micros;

/// Time for which Redis still counts as answering after its last decision before a timeout, for keys that flood.
const PATIENCE: Micros = Micros::from_secs(1);
/// Minimum number of ticks of that time: a busy proxy ticks once per turn of its event loop, however long a turn takes.
const PATIENT_TICKS: u32 = 16;
/// Activity of Redis: the last decision in time, and Redis' clock.
#[derive(Debug)]
pub(super) struct RedisActivity {
    /// Time until which Redis counts as answering.
    answers_until: Option<Micros>,
    /// Number of ticks since the last decision.
    ticks: u32,
    /// Whether Redis has decided a check since [`on_first_check`](Self::on_first_check) last extended `answers_until`.
    is_trusted: bool,
    /// Time of the last decision, by the worker's clock and by Redis' clock.
    clocks: Option<(Micros, Micros)>,
}

impl RedisActivity {
    pub(super) fn new() -> Self {
        Self { answers_until: None, ticks: 0, is_trusted: true, clocks: None }
    }

    /// Handles a decision in time. `redis` is its time by Redis' clock.
    pub(super) fn on_decision(&mut self, now: Micros, redis: Micros) {
        (self.answers_until, self.ticks) = (Some(now.plus(PATIENCE)), 0);
        self.is_trusted = true;
        self.clocks = Some((now, redis));
    }

    /// Handles a check of a worker that has no other undecided check. Redis was idle, not silent: it counts as
    /// answering, once until its next decision.
    pub(super) fn on_first_check(&mut self, now: Micros) {
        if core::mem::take(&mut self.is_trusted) {
            (self.answers_until, self.ticks) = (Some(now.plus(PATIENCE)), 0);
        }
    }

    pub(super) fn on_tick(&mut self) {
        self.ticks = self.ticks.saturating_add(1);
    }

    pub(super) fn is_answering(&self, now: Micros) -> bool {
        self.answers_until.is_some_and(|until| now < until || self.ticks < PATIENT_TICKS)
    }

    /// Estimates the present time of Redis' clock.
    pub(super) fn redis_time(&self, now: Micros) -> Option<Micros> {
        self.clocks.map(|(then, redis)| redis.plus(now.minus(then)))
    }
}
