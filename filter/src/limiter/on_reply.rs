//! Replies of Redis: verdicts, failures, and replies of background calls.

use alloc::rc::Rc;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::deny_cache::CacheHit;
use super::effect::{Decision, Effect};
use super::events::Event;
use super::heal_calls::remember;
use super::on_request::LocalDenial;
use super::pending::{DelayReservation, PendingRequest};
use super::{Limiter, RequestId, filter_state};
use crate::limit::{BucketCheck, Check, FailureMode, Limit, Outcome, Verdict};
use crate::redis::{Failure, Reply, Ticket, Topology};
use crate::response;
use crate::units::Micros;

impl Limiter {
    /// Handles the reply to a request's check, or its failure.
    pub(super) fn on_reply(&mut self, now: Micros, request: RequestId, result: Result<Reply, Failure>) {
        let Some(pending) = self.pending.remove(request.0) else {
            return self.on_late_reply(now, request, result);
        };
        if let Ok(reply @ Reply::Array(_)) = &result
            && self.learns_overrides(now, &pending.check, reply)
        {
            return self.check_again(now, request, pending);
        }
        let verdict = result.and_then(|reply| self.read(now, &pending.check, &reply));
        if pending.is_probe() {
            self.check_ended(&pending);
            let step = self.believe_overrides(now, request, pending);
            return self.take_step(request, step);
        }
        match verdict {
            Ok(verdict) => {
                self.redis_activity.on_decision(now, verdict.now);
                self.hear_redis(now, verdict.now);
                self.contention.decided(now, &pending.check);
                self.warnings.decided(now);
                self.on_lease_outcome(&pending, Some(&verdict));
                // A denial without a delay reservation is not cached: a later request with a reservation may be
                // admitted with a delay.
                if !verdict.admitted && pending.delay_reservation != DelayReservation::Unavailable {
                    self.deny_cache.insert(pending.arrived_at, &pending.check, &verdict);
                }
                if verdict.admitted && pending.has_later() {
                    return self.part_admitted(now, request, verdict, pending);
                }
                self.check_ended(&pending);
                self.on_verdict(now, request, verdict, &pending);
            }
            Err(failure) if self.config.redis.topology == Topology::Cluster => {
                let check = pending.check.clone();
                self.contention.leave(&check, self.pending.len());
                let step = self.fail_part(now, request, failure, pending);
                self.take_step(request, step);
                self.release_possible_slots(now, request, failure, check);
            }
            Err(failure) => {
                let decision = self.decide_failed(now, request, failure, &pending);
                self.check_ended(&pending);
                self.effects.push_back(Effect::Decide(request, decision));
                self.release_possible_slots(now, request, failure, pending.check);
            }
        }
    }

    /// Handles the result of a background call.
    pub(super) fn on_background_reply(&mut self, now: Micros, ticket: Ticket, result: Result<Reply, Failure>) {
        if self.on_post_reply(now, ticket, &result) || self.on_settled(now, ticket, &result) {
            return;
        }
        match self.lease_refills.remove(ticket.0) {
            Some(refill) => {
                let verdict = match result {
                    Ok(reply) if self.learns_overrides(now, refill.check(), &reply) => {
                        self.repeat_settlement(now, &refill);
                        Err(Failure::Refused)
                    }
                    result => result.and_then(|reply| self.read(now, refill.check(), &reply)),
                };
                self.on_refill(&refill, verdict.as_ref().ok());
            }
            None => {
                self.slots.completed(now, ticket, result);
                if let Some(request) = self.response_gate.completed(ticket) {
                    self.effects.push_back(Effect::Decide(request, Decision::EndResponse));
                }
            }
        }
    }

    /// Handles the reply to a check whose request has ended: releases the slots that the check took.
    #[inline(never)]
    fn on_late_reply(&mut self, now: Micros, request: RequestId, result: Result<Reply, Failure>) {
        let Some(check) = self.slots.outcome(request) else { return };
        if let Ok(reply) = &result
            && self.learns_overrides(now, &check, reply)
        {
            return;
        }
        match result.and_then(|reply| self.read(now, &check, &reply)) {
            Ok(verdict) => {
                if let Some(holds) = check.held_slots(&verdict) {
                    self.release_slots(now, &holds, false);
                }
            }
            Err(failure) => self.release_possible_slots(now, request, failure, check),
        }
    }

    /// Releases the slots that a failed check may have taken, depending on the failure.
    #[inline(never)]
    fn release_possible_slots(&mut self, now: Micros, request: RequestId, failure: Failure, check: Check) {
        let Some(holds) = check.possible_slots() else { return };
        match failure {
            // The reply may still arrive.
            Failure::Timeout => self.slots.await_outcome(request, check),
            Failure::Reset | Failure::Protocol => {
                self.release_slots(now, &holds, true);
            }
            Failure::Refused => {
                self.release_slots(now, &holds, false);
            }
            // Redis has not run the check.
            Failure::Unavailable
            | Failure::Overloaded
            | Failure::CircuitBreaker
            | Failure::Auth
            | Failure::ClusterMode
            | Failure::NotReady => {}
        }
    }

    fn read(&mut self, now: Micros, check: &Check, reply: &Reply) -> Result<Verdict, Failure> {
        let verdict = check.read(reply).map_err(|malformed| {
            self.warnings.trouble(now, Failure::Protocol, malformed.to_string());
            Failure::Protocol
        })?;
        remember(&mut self.memory, check, reply, &verdict);
        if let Some(lost) = self.memory.take_lost() {
            self.send_heals(now, lost);
        }
        Ok(verdict)
    }

    /// Applies a verdict: takes slots, and decides or delays the request.
    pub(super) fn on_verdict(&mut self, now: Micros, request: RequestId, verdict: Verdict, pending: &PendingRequest) {
        if let Some(holds) = pending.check.held_slots(&verdict) {
            self.slots.take(now, request, holds);
        }
        self.take_reservations(now, request, &pending.check, &verdict);
        let delay = pending.delay(&verdict);
        if delay == Micros::ZERO {
            let verdict = &self.with_other_outcomes(now, request, verdict, pending);
            let decision = self.decide(request, verdict, pending);
            self.effects.push_back(Effect::Decide(request, decision));
            return;
        }
        let refunds = pending.refund_calls(&verdict, &self.scripts);
        let verdict = &self.with_other_outcomes(now, request, verdict, pending);
        self.counters.delayed();
        let decision = self.decide(request, verdict, pending);
        self.delay_queue.hold(now.plus(delay), request, decision, refunds);
    }

    #[inline(never)]
    pub(super) fn decide(&mut self, request: RequestId, verdict: &Verdict, pending: &PendingRequest) -> Decision {
        self.counters.decided(verdict);
        self.record(verdict, pending);
        let may_be_near = verdict.admitted && self.counters.has_near_limits();
        let near = if may_be_near { self.count_near(verdict) } else { None };
        if self.config.emit_metadata {
            self.annotate(request, verdict, pending, near);
        }
        if verdict.admitted {
            if self.counters.has_marks() {
                self.mark_all(request, verdict);
            }
            Decision::Admit(response::admitted_headers(
                verdict,
                &self.config.limits,
                &self.config.responses,
                pending.protocol,
            ))
        } else {
            Decision::Answer(Rc::new(response::denied(
                verdict,
                &self.config.limits,
                &self.config.responses,
                pending.protocol,
            )))
        }
    }

    #[inline(never)]
    fn annotate(&mut self, request: RequestId, verdict: &Verdict, pending: &PendingRequest, near: Option<usize>) {
        let mut entries = filter_state::of_verdict(verdict, pending, &self.config);
        entries.extend(near.and_then(|limit| filter_state::near(limit, &self.config)));
        entries.extend(response::soft_limits(verdict, &self.config.limits).map(|it| ("weir.soft_limit", it)));
        self.effects.push_back(Effect::Annotate(request, entries));
    }

    /// Denies a request from the deny cache. Requests with the same reply share it, unless filter state or events need
    /// each request's own verdict.
    #[inline(never)]
    pub(super) fn deny_again(
        &mut self,
        now: Micros,
        request: RequestId,
        hit: &CacheHit,
        pending: &PendingRequest,
    ) -> Decision {
        let CacheHit::All(denial) = hit else { return self.decide(request, &hit.verdict(now), pending) };
        if self.config.emit_metadata || self.events.is_some() {
            return self.decide(request, &hit.verdict(now), pending);
        }
        if let Some(reply) = denial.reply(now, pending.protocol) {
            self.counters.decided(denial.verdict());
            return Decision::Answer(reply);
        }
        let decision = self.decide(request, &hit.verdict(now), pending);
        if let Decision::Answer(reply) = &decision {
            denial.keep_reply(now, reply);
        }
        decision
    }

    /// Counts, marks and records a request that is beyond a limit of zero which does not deny, without Redis.
    #[inline(never)]
    pub(super) fn passed_locally(&mut self, request: RequestId, LocalDenial { check, outcome }: LocalDenial) {
        self.counters.passed(outcome.limit);
        self.mark(request, outcome.limit);
        self.record_one(&check, &outcome);
    }

    fn record(&mut self, verdict: &Verdict, pending: &PendingRequest) {
        if self.events.is_none() {
            return;
        }
        for outcome in &verdict.outcomes {
            if let Some(check) = pending.bucket(outcome) {
                self.record_one(check, outcome);
            }
        }
    }

    #[inline(never)]
    fn record_one(&mut self, check: &BucketCheck, outcome: &Outcome) {
        if let Some(events) = &mut self.events
            && events.wants(outcome.admitted)
        {
            events.push(Event {
                limit: Limit::name_of(&self.config.limits, outcome).into_owned(),
                key: check.key.clone(),
                admitted: outcome.admitted,
                remaining: outcome.remaining,
                retry_after: outcome.retry_after,
            });
        }
    }

    /// Decides a request that Redis did not decide, by the failure mode: `deny` of any enforced limit denies the
    /// request.
    #[inline(never)]
    pub(super) fn fail(
        &mut self,
        now: Micros,
        request: RequestId,
        failure: Failure,
        pending: &PendingRequest,
    ) -> Decision {
        self.may_lose_redis(now, failure);
        let denies = |check: &BucketCheck| {
            let mode = self.config.limits.get(check.limit).map(|limit| limit.failure_mode);
            check.enforced && mode == Some(FailureMode::Deny)
        };
        let is_denied = pending.check.buckets().any(denies);
        if !is_denied && let Some(verdict) = self.local_verdict(now, pending) {
            self.take_possible_reservations(now, request, failure, &pending.check, verdict.admitted);
            return self.decide_by_shares(now, request, Some(failure), verdict, pending);
        }
        if self.config.emit_metadata {
            self.effects.push_back(Effect::Annotate(request, filter_state::of_failure(failure)));
        }
        let mode = if is_denied { FailureMode::Deny } else { FailureMode::Allow };
        self.counters.failed(failure, mode, pending.check.buckets().map(|check| check.limit));
        self.warnings.failed(now, failure, mode);
        self.take_possible_reservations(now, request, failure, &pending.check, !is_denied);
        // A request that other checks decide is finished by them.
        if is_denied || !pending.is_split() {
            self.finish(now, request, pending, !is_denied);
        }
        if is_denied {
            Decision::Answer(Rc::new(response::failed(&self.config.responses, failure, pending.protocol)))
        } else {
            Decision::Admit(Vec::new())
        }
    }
}
