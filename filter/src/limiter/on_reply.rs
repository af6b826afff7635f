//! What becomes of a request whose check has come to its end.

use alloc::rc::Rc;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::deny_cache::CacheHit;
use super::events::Event;
use super::on_request::LocalDenial;
use super::{Decision, Effect, Limiter, PendingRequest, RequestId, Seat, filter_state};
use crate::config::FailureMode;
use crate::limit::{BucketCheck, Check, Outcome, Verdict};
use crate::redis::{Failure, Reply, Ticket};
use crate::respond;
use crate::units::Micros;

impl PendingRequest {
    /// The bucket that an outcome is of.
    pub(super) fn bucket(&self, outcome: &Outcome) -> Option<&BucketCheck> {
        let lease_spends = self.lease_spends.iter().map(|paid| &paid.check);
        self.check.of(outcome).or_else(|| lease_spends.into_iter().find(|check| check.limit == outcome.limit))
    }
}

impl Limiter {
    /// Redis has answered, or will not.
    pub(super) fn on_reply(&mut self, now: Micros, request: RequestId, result: Result<Reply, Failure>) {
        let Some(waiting) = self.pending.remove(request.0) else {
            return self.on_late_reply(now, request, result);
        };
        let verdict = result.and_then(|reply| self.read(now, &waiting.check, &reply));
        match verdict {
            Ok(verdict) => {
                self.redis_activity.answered(now, verdict.now);
                self.leased(&waiting, Some(&verdict));
                // With a place to wait, another of the same bucket may be admitted sooner.
                if !verdict.admitted && waiting.seat != Seat::Missing {
                    self.deny_cache.learn(waiting.asked_at, &waiting.check, &verdict);
                }
                self.left(&waiting);
                self.on_verdict(now, request, verdict, &waiting);
            }
            Err(failure) => {
                let decision = self.give_up(now, request, failure, &waiting);
                self.left(&waiting);
                self.effects.push_back(Effect::Decide(request, decision));
                self.slots_after(now, request, failure, waiting.check);
            }
        }
    }

    /// A call that no request waits for has come to its end.
    pub(super) fn on_background_reply(&mut self, now: Micros, ticket: Ticket, result: Result<Reply, Failure>) {
        match self.lease_refills.remove(ticket.0) {
            Some(ahead) => {
                let verdict = result.and_then(|reply| self.read(now, ahead.check(), &reply));
                self.on_refill(&ahead, verdict.as_ref().ok());
            }
            None => {
                self.slots.completed(now, ticket, result);
                if let Some(request) = self.response_gate.completed(ticket) {
                    self.effects.push_back(Effect::Decide(request, Decision::EndResponse));
                }
            }
        }
    }

    /// Redis has told of a check whose request is over.
    #[inline(never)]
    fn on_late_reply(&mut self, now: Micros, request: RequestId, result: Result<Reply, Failure>) {
        let Some(check) = self.slots.outcome(request) else { return };
        match result.and_then(|reply| self.read(now, &check, &reply)) {
            Ok(verdict) => {
                if let Some(holds) = check.held_slots(&verdict) {
                    self.give_back(now, &holds, false);
                }
            }
            Err(failure) => self.slots_after(now, request, failure, check),
        }
    }

    /// Gives back the slots that a check may have taken which failed so.
    #[inline(never)]
    fn slots_after(&mut self, now: Micros, request: RequestId, failure: Failure, check: Check) {
        let Some(holds) = check.possible_slots() else { return };
        match failure {
            // It is told once more.
            Failure::Timeout => self.slots.await_outcome(request, check),
            Failure::Reset | Failure::Protocol => {
                self.give_back(now, &holds, true);
            }
            Failure::Refused => {
                self.give_back(now, &holds, false);
            }
            // Redis has not run it.
            Failure::Unavailable
            | Failure::Overloaded
            | Failure::CircuitBreaker
            | Failure::Auth
            | Failure::ClusterMode
            | Failure::NotReady => {}
        }
    }

    fn read(&mut self, now: Micros, check: &Check, reply: &Reply) -> Result<Verdict, Failure> {
        check.read(reply).map_err(|malformed| {
            self.warn(now, Failure::Protocol, &malformed.to_string());
            Failure::Protocol
        })
    }

    /// Redis has decided a request.
    fn on_verdict(&mut self, now: Micros, request: RequestId, verdict: Verdict, waiting: &PendingRequest) {
        let holds = waiting.check.held_slots(&verdict);
        let delay = verdict.delay();
        let is_held = delay > Micros::ZERO;
        let refund = is_held.then(|| waiting.check.refund_call(&verdict, &self.scripts)).flatten();
        let verdict = &self.with_lease_spends(now, verdict, &waiting.lease_spends);
        if !is_held {
            if let Some(holds) = holds {
                self.slots.take(now, request, holds);
            }
            let decision = self.decide(request, verdict, waiting);
            self.effects.push_back(Effect::Decide(request, decision));
            return;
        }
        if let Some(holds) = holds {
            self.slots.take(now, request, holds);
        }
        self.counters.delayed();
        let decision = self.decide(request, verdict, waiting);
        self.delay_queue.hold(now.plus(delay), request, decision, refund);
    }

    #[inline(never)]
    pub(super) fn decide(&mut self, request: RequestId, verdict: &Verdict, waiting: &PendingRequest) -> Decision {
        self.counters.decided(verdict);
        self.record(verdict, waiting);
        if self.config.emit_metadata {
            let entries = filter_state::of_verdict(verdict, waiting, &self.config);
            self.effects.push_back(Effect::Annotate(request, entries));
        }
        if verdict.admitted {
            Decision::Admit(respond::admitted_headers(verdict, &self.config))
        } else {
            Decision::Answer(Rc::new(respond::denied(verdict, &self.config, waiting.is_grpc)))
        }
    }

    /// A request is known to be denied. Where nothing is to be left with each request, those that are told the same are told
    /// it in the same answer.
    #[inline(never)]
    pub(super) fn deny_again(
        &mut self,
        now: Micros,
        request: RequestId,
        recalled: &CacheHit,
        waiting: &PendingRequest,
    ) -> Decision {
        let CacheHit::All(said) = recalled else { return self.decide(request, &recalled.verdict(now), waiting) };
        if self.config.emit_metadata || self.events.is_some() {
            return self.decide(request, &recalled.verdict(now), waiting);
        }
        if let Some(reply) = said.reply(now, waiting.is_grpc) {
            self.counters.decided(said.verdict());
            return Decision::Answer(reply);
        }
        let decision = self.decide(request, &recalled.verdict(now), waiting);
        if let Decision::Answer(reply) = &decision {
            said.keep_reply(now, waiting.is_grpc, reply);
        }
        decision
    }

    /// A limit in shadow mode would deny the request, for which Redis is not asked.
    #[inline(never)]
    pub(super) fn denied_in_shadow(&mut self, LocalDenial { check, outcome }: LocalDenial) {
        self.counters.shadow_denied(outcome.limit);
        self.record_one(&check, &outcome);
    }

    fn record(&mut self, verdict: &Verdict, waiting: &PendingRequest) {
        if self.events.is_none() {
            return;
        }
        for outcome in &verdict.outcomes {
            if let Some(check) = waiting.bucket(outcome) {
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
                limit: self.config.name_of(outcome).into_owned(),
                key: check.key.clone(),
                admitted: outcome.admitted,
                remaining: outcome.remaining.0,
                retry_after_us: outcome.retry_after.map(|wait| wait.0),
            });
        }
    }

    /// What the failure mode makes of a request that Redis did not decide: the strictest enforced limit's wins.
    #[inline(never)]
    pub(super) fn fail(
        &mut self,
        now: Micros,
        request: RequestId,
        failure: Failure,
        waiting: &PendingRequest,
    ) -> Decision {
        self.counters.failed(failure, waiting.check.buckets().map(|check| check.limit));
        if self.config.emit_metadata {
            self.effects.push_back(Effect::Annotate(request, filter_state::of_failure(failure)));
        }
        let denies = |check: &BucketCheck| {
            let mode = self.config.limits.get(check.limit).map(|limit| limit.failure_mode);
            check.enforced && mode == Some(FailureMode::Deny)
        };
        let is_denied = waiting.check.buckets().any(denies);
        self.used(now, &waiting.lease_spends, !is_denied);
        if is_denied {
            Decision::Answer(Rc::new(respond::failed(&self.config, failure, waiting.is_grpc)))
        } else {
            Decision::Admit(Vec::new())
        }
    }
}
