//! Requests on their way to Redis where many others are: asked, made to wait for room, or denied.

use alloc::rc::Rc;

use super::deny_cache::{CacheHit, CachedDenial};
use super::{Decision, Effect, Limiter, PendingRequest, RequestId, Seat, Step};
use crate::limit::{BucketCheck, Check, Verdict};
use crate::redis::Failure;
use crate::units::Micros;

/// How long a Redis that does not answer in time counts as one that answers, for keys that flood.
const PATIENCE: Micros = Micros::from_secs(1);
/// Ticks that it has for that at least: a busy proxy ticks once in each turn of its loop, however long that is.
const PATIENT_TICKS: u32 = 16;
/// How much earlier than this moment Redis may have decided checks that are undecided here, at most, beside two timeouts.
const LAG: Micros = Micros::from_secs(1);

/// When Redis decided a check in time, and what its clock said.
#[derive(Debug)]
pub(super) struct RedisActivity {
    /// Until when it counts as answering, and ticks since it has answered.
    answers_until: Option<Micros>,
    ticks: u32,
    /// Whether it has answered since it was last given the benefit of the doubt.
    is_trusted: bool,
    /// By the worker's clock, and by Redis'.
    clocks: Option<(Micros, Micros)>,
}

impl RedisActivity {
    pub(super) fn new() -> Self {
        Self { answers_until: None, ticks: 0, is_trusted: true, clocks: None }
    }

    /// Redis has decided a check in time, when its clock stood at `redis`.
    pub(super) fn answered(&mut self, now: Micros, redis: Micros) {
        (self.answers_until, self.ticks) = (Some(now.plus(PATIENCE)), 0);
        self.is_trusted = true;
        self.clocks = Some((now, redis));
    }

    /// Redis is asked by a worker of which no check is undecided: silent so far, it has not been asked.
    fn asked(&mut self, now: Micros) {
        if core::mem::take(&mut self.is_trusted) {
            (self.answers_until, self.ticks) = (Some(now.plus(PATIENCE)), 0);
        }
    }

    fn ticked(&mut self) {
        self.ticks = self.ticks.saturating_add(1);
    }

    fn is_answering(&self, now: Micros) -> bool {
        self.answers_until.is_some_and(|until| now < until || self.ticks < PATIENT_TICKS)
    }

    /// What Redis' clock stands at.
    fn redis_time(&self, now: Micros) -> Option<Micros> {
        self.clocks.map(|(then, redis)| redis.plus(now.minus(then)))
    }
}

impl Limiter {
    /// Has Redis decide a request, now or when there is room; unless it is certain, or has to be decided without.
    pub(super) fn ask(&mut self, now: Micros, request: RequestId, waiting: PendingRequest) -> Step {
        let span = self.config.redis.timeout.times(2).plus(LAG);
        if let Some(check) = self.contention.full(&waiting.check, span) {
            let decision = self.refuse(now, request, check, self.redis_activity.redis_time(now), &waiting);
            self.stand_up(&waiting);
            return Step::Decided(decision);
        }
        let mut failure = Failure::Overloaded;
        if self.queue.is_empty() {
            match self.redis.submit(now, request.into(), self.call_of(&waiting.check)) {
                Ok(()) => {
                    self.wait_for(now, request, waiting);
                    return Step::Wait;
                }
                Err(refusal) => failure = refusal,
            }
        }
        if failure == Failure::Overloaded {
            let deadline = now.plus(self.config.redis.timeout);
            if self.queue.push(request, self.contention.rank(&waiting.check), deadline, waiting.check.size()) {
                self.wait_for(now, request, waiting);
                return Step::Wait;
            }
        }
        let decision = self.give_up(now, request, failure, &waiting);
        self.stand_up(&waiting);
        Step::Decided(decision)
    }

    /// Keeps a place for a request that one of its buckets may have held; where there is none, none of them will.
    pub(super) fn seat(&mut self, buckets: &mut [BucketCheck]) -> Seat {
        if !buckets.iter().any(BucketCheck::may_delay) {
            return Seat::Unwanted;
        }
        if self.delay_queue.keep() {
            return Seat::Kept;
        }
        buckets.iter_mut().for_each(BucketCheck::never_delays);
        Seat::Missing
    }

    fn stand_up(&mut self, waiting: &PendingRequest) {
        if waiting.seat == Seat::Kept {
            self.delay_queue.let_go();
        }
    }

    /// A request that was [waited for](Self::wait_for) is decided, or is over.
    #[inline(never)]
    pub(super) fn left(&mut self, waiting: &PendingRequest) {
        self.contention.leave(&waiting.check, self.pending.len());
        self.stand_up(waiting);
    }

    /// Submits the checks of requests that wait for room, as far as there is any. Whether any of them is submitted, or decided
    /// without.
    #[inline(never)]
    pub(super) fn drain(&mut self, now: Micros) -> bool {
        let mut any = false;
        while self.redis.has_room(0)
            && let Some((request, deadline)) = self.queue.pop()
        {
            let Some(waiting) = self.pending.get(request.0) else { continue };
            let (call, bytes) = (self.call_of(&waiting.check), waiting.check.size());
            match self.redis.submit_until(deadline, request.into(), call) {
                Ok(()) => {}
                Err(Failure::Overloaded) => {
                    self.queue.put_back(request, deadline, bytes);
                    break;
                }
                Err(failure) => self.decide_without(now, request, failure),
            }
            any = true;
        }
        any
    }

    /// Decides requests that have waited for room in vain, as of the tick before this one.
    pub(super) fn expire(&mut self, now: Micros) {
        let due = core::mem::replace(&mut self.last_tick, now);
        self.redis_activity.ticked();
        while let Some(request) = self.queue.pop_due(due) {
            self.decide_without(now, request, Failure::Overloaded);
        }
    }

    /// Why Redis did not decide a request that has not been asked about, or whose time is up.
    #[inline(never)]
    fn decide_without(&mut self, now: Micros, request: RequestId, failure: Failure) {
        let Some(waiting) = self.pending.remove(request.0) else { return };
        let decision = self.give_up(now, request, failure, &waiting);
        self.left(&waiting);
        self.effects.push_back(Effect::Decide(request, decision));
    }

    /// Decides a request that Redis has not decided. `allow` is for a Redis that fails, and not for a key that floods:
    /// while Redis answers, its requests are denied.
    #[inline(never)]
    pub(super) fn give_up(
        &mut self,
        now: Micros,
        request: RequestId,
        failure: Failure,
        waiting: &PendingRequest,
    ) -> Decision {
        let is_of_many =
            matches!(failure, Failure::Timeout | Failure::Overloaded) && self.redis_activity.is_answering(now);
        match self.contention.flooded(&waiting.check).filter(|_| is_of_many) {
            Some(check) => self.refuse(now, request, check, None, waiting),
            None => {
                self.leased(waiting, None);
                self.fail(now, request, failure, waiting)
            }
        }
    }

    /// Denies a request for want of one of its buckets. Where Redis' time is not known, or whether the bucket is
    /// empty, it is told to come back soon.
    #[inline(never)]
    fn refuse(
        &mut self,
        now: Micros,
        request: RequestId,
        check: &BucketCheck,
        redis: Option<Micros>,
        waiting: &PendingRequest,
    ) -> Decision {
        self.counters.crowded();
        self.leased(waiting, None);
        self.used(now, &waiting.lease_spends, false);
        let said = match self.contention.said(now, check) {
            Some(said) => said,
            None => {
                let outcomes = vec![check.exhausted(redis)];
                let verdict = Verdict { admitted: false, now: redis.unwrap_or_default(), outcomes };
                let said = Rc::new(CachedDenial::of_one(now, verdict));
                self.contention.say(check, &said);
                said
            }
        };
        self.deny_again(now, request, &CacheHit::All(said), waiting)
    }

    /// A request waits for its check.
    fn wait_for(&mut self, now: Micros, request: RequestId, waiting: PendingRequest) {
        let undecided = self.pending.len();
        if undecided == 0 {
            self.redis_activity.asked(now);
        }
        if self.contention.begins(undecided) {
            self.pending.values().for_each(|waiting| self.contention.enter(&waiting.check));
        }
        self.contention.enter(&waiting.check);
        self.pending.insert(request.0, waiting);
    }

    fn call_of(&self, check: &Check) -> crate::redis::Call {
        let call = check.call(&self.scripts);
        if check.takes_slots() { call.tracked() } else { call }
    }
}
