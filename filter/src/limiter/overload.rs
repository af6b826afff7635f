//! Overload: submits checks to Redis, queues them when the transport is full, or decides requests without Redis.

use alloc::rc::Rc;

use super::deny_cache::{CacheHit, CachedDenial};
use super::effect::{Decision, Effect, Step};
use super::local_calls::LocalAnswer;
use super::pending::{DelayReservation, PendingRequest};
use super::{Limiter, RequestId};
use crate::limit::{BucketCheck, Verdict};
use crate::redis::{Call, Extension, Failure};
use crate::units::Micros;

/// Maximum lag between a decision of Redis and its arrival at the worker, in addition to two timeouts.
const LAG: Micros = Micros::from_secs(1);

impl Limiter {
    /// Submits or queues a request's check, or decides the request without Redis: if its denial is certain, or if Redis
    /// is unavailable or the queue is full.
    pub(super) fn submit_check(&mut self, now: Micros, request: RequestId, mut pending: PendingRequest) -> Step {
        let span = self.config.redis.timeout.times(2).plus(LAG);
        let may_have_overrides = self.key_overrides.is_some() && self.redis_activity.is_answering();
        if let Some(check) = self.contention.full(&pending.check, span, may_have_overrides.then_some(now)) {
            let decision = self.deny_without_redis(now, request, check, self.redis_activity.redis_time(now), &pending);
            self.release_delay(&pending);
            return Step::Decided(decision);
        }
        // All checks of a request share one timeout.
        let deadline = pending.arrived_at.plus(self.config.redis.timeout);
        let mut failure = Failure::Overloaded;
        match self.local_answer(now, &mut pending) {
            LocalAnswer::Ask => {}
            LocalAnswer::Lost(cause) => failure = cause,
            LocalAnswer::Denied(verdict) => {
                let decision = self.decide_by_shares(now, request, None, verdict, &pending);
                self.release_delay(&pending);
                return Step::Decided(decision);
            }
        }
        if failure == Failure::Overloaded && self.queue.is_empty() {
            self.heal_before(now, pending.check.as_slice());
            match self.redis.submit_until(deadline, request.into(), self.call_of(&pending)) {
                Ok(()) => {
                    self.add_pending(request, pending);
                    return Step::Wait;
                }
                Err(refusal) => failure = refusal,
            }
        }
        if failure == Failure::Overloaded
            && self.queue.push(request, self.contention.rank(&pending.check), deadline, pending.check.size())
        {
            self.add_pending(request, pending);
            return Step::Wait;
        }
        if pending.is_probe() {
            return self.believe_overrides(now, request, pending);
        }
        if pending.is_split() {
            return self.fail_part(now, request, failure, pending);
        }
        let decision = self.decide_failed(now, request, failure, &pending);
        self.release_delay(&pending);
        Step::Decided(decision)
    }

    /// Reserves a delay queue entry if one of the buckets may delay the request. If the queue is full, the checks are
    /// changed so that none of them delays it.
    pub(super) fn reserve_delay(&mut self, buckets: &mut [BucketCheck]) -> DelayReservation {
        if !buckets.iter().any(BucketCheck::may_delay) {
            return DelayReservation::NotNeeded;
        }
        if self.delay_queue.reserve() {
            return DelayReservation::Reserved;
        }
        buckets.iter_mut().for_each(BucketCheck::never_delays);
        DelayReservation::Unavailable
    }

    pub(super) fn release_delay(&mut self, pending: &PendingRequest) {
        if pending.delay_reservation == DelayReservation::Reserved {
            self.delay_queue.release();
        }
    }

    /// Handles the end of a [pending](Self::add_pending) check: decided, failed, or its request has ended.
    #[inline(never)]
    pub(super) fn check_ended(&mut self, pending: &PendingRequest) {
        self.contention.leave(&pending.check, self.pending.len());
        self.release_delay(pending);
    }

    /// Submits queued checks while the transport has room. Returns whether any was submitted, or failed and was
    /// decided.
    #[inline(never)]
    pub(super) fn drain(&mut self, now: Micros) -> bool {
        let mut any = false;
        if !self.redis.is_connected() {
            self.memory.disconnected(now);
        }
        while self.redis.has_room(0)
            && let Some((request, deadline)) = self.queue.pop()
        {
            let Some(pending) = self.pending.get(request.0) else { continue };
            let (call, bytes) = (self.call_of(pending), pending.check.size());
            let healed = self.memory.take_doubtful(pending.check.as_slice());
            self.send_heals(now, healed);
            match self.redis.submit_until(deadline, request.into(), call) {
                Ok(()) => {}
                Err(Failure::Overloaded) => {
                    self.queue.put_back(request, deadline, bytes);
                    break;
                }
                Err(failure) => self.fail_pending(now, request, failure),
            }
            any = true;
        }
        any
    }

    /// Decides queued requests whose deadline had passed at the tick before this one.
    pub(super) fn expire(&mut self, now: Micros) {
        let due = core::mem::replace(&mut self.last_tick, now);
        self.redis_activity.on_tick(now.minus(due));
        let extension = Extension::at(now, due, self.queue.next_deadline(), self.config.redis.timeout);
        self.queue.extend(extension.by);
        while let Some(request) = self.queue.pop_due(due) {
            self.fail_pending(now, request, Failure::Overloaded);
        }
    }

    /// Decides a queued request whose check could not be submitted, by its failure.
    #[inline(never)]
    fn fail_pending(&mut self, now: Micros, request: RequestId, failure: Failure) {
        let Some(pending) = self.pending.remove(request.0) else { return };
        if pending.is_probe() {
            self.check_ended(&pending);
            let step = self.believe_overrides(now, request, pending);
            return self.take_step(request, step);
        }
        if pending.is_split() {
            self.contention.leave(&pending.check, self.pending.len());
            let step = self.fail_part(now, request, failure, pending);
            return self.take_step(request, step);
        }
        let decision = self.decide_failed(now, request, failure, &pending);
        self.check_ended(&pending);
        self.effects.push_back(Effect::Decide(request, decision));
    }

    /// Decides a request that Redis has not decided, by the failure mode. While Redis still answers, the requests of a
    /// key that floods are denied instead: `allow` is meant for failures of Redis, not for floods.
    #[inline(never)]
    pub(super) fn decide_failed(
        &mut self,
        now: Micros,
        request: RequestId,
        failure: Failure,
        pending: &PendingRequest,
    ) -> Decision {
        let may_be_flood =
            matches!(failure, Failure::Timeout | Failure::Overloaded) && self.redis_activity.is_answering();
        match self.contention.flooded(&pending.check).filter(|_| may_be_flood) {
            Some(check) => {
                let decision = self.deny_without_redis(now, request, check, None, pending);
                self.take_possible_reservations(now, request, failure, &pending.check, false);
                decision
            }
            None => {
                self.on_lease_outcome(pending, None);
                self.fail(now, request, failure, pending)
            }
        }
    }

    /// Denies a request by one of its buckets, without Redis. `redis` is the time of Redis' clock, or `None` if it is
    /// unknown or if the bucket may not be empty; the retry-after is then at most 1 s.
    #[inline(never)]
    fn deny_without_redis(
        &mut self,
        now: Micros,
        request: RequestId,
        check: &BucketCheck,
        redis: Option<Micros>,
        pending: &PendingRequest,
    ) -> Decision {
        self.counters.crowd_denied();
        self.on_lease_outcome(pending, None);
        self.finish(now, request, pending, false);
        let denial = match self.contention.denial(now, check) {
            Some(denial) => denial,
            None => {
                let outcomes = vec![check.exhausted(redis)];
                let verdict = Verdict { now: redis.unwrap_or_default(), outcomes, ..Verdict::default() };
                let denial = Rc::new(CachedDenial::of_one(now, verdict));
                self.contention.set_denial(check, &denial);
                denial
            }
        };
        self.deny_again(now, request, &CacheHit::All(denial), pending)
    }

    /// Adds a request to the pending ones, and counts its check.
    fn add_pending(&mut self, request: RequestId, pending: PendingRequest) {
        let undecided = self.pending.len();
        if undecided == 0 {
            self.redis_activity.on_first_check();
        }
        if self.contention.starts_counting(undecided) {
            self.pending.values().for_each(|pending| self.contention.enter(&pending.check));
        }
        self.contention.enter(&pending.check);
        self.pending.insert(request.0, pending);
    }

    fn call_of(&self, pending: &PendingRequest) -> Call {
        let call = pending.check.call(&self.scripts);
        let call = if pending.series.is_some() { call.alone() } else { call };
        if pending.check.takes_slots() || pending.check.reserves() { call.tracked() } else { call }
    }
}
