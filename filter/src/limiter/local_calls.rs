//! Requests that the worker decides by its shares of the limits, while Redis cannot be asked.

use alloc::vec::Vec;

use super::effect::{Decision, Effect};
use super::local_mode::LocalMode;
use super::pending::PendingRequest;
use super::{Limiter, RequestId, filter_state, tickets};
use crate::limit::{BucketCheck, FailureMode, Limit, Outcome, Verdict, post_call};
use crate::redis::{Failure, Reply, Ticket, Topology};
use crate::units::Micros;

/// Most buckets of a post. In a Redis Cluster, each bucket has a post of its own.
const MAX_POSTED: usize = 64;

/// Answer of the worker's own shares before Redis is asked.
pub(super) enum LocalAnswer {
    /// Redis decides.
    Ask,
    /// Redis cannot be asked.
    Lost(Failure),
    /// The worker denies the request.
    Denied(Verdict),
}

impl Limiter {
    /// Answers a request before Redis is asked.
    #[inline]
    pub(super) fn local_answer(&mut self, now: Micros, pending: &mut PendingRequest) -> LocalAnswer {
        if self.local.is_none() { LocalAnswer::Ask } else { self.own_answer(now, pending) }
    }

    #[inline(never)]
    fn own_answer(&mut self, now: Micros, pending: &mut PendingRequest) -> LocalAnswer {
        let Some(local) = &mut self.local else { return LocalAnswer::Ask };
        let (cause, is_returning) = (local.cause(), local.is_returning(now));
        if cause.is_none() && !is_returning {
            return LocalAnswer::Ask;
        }
        let checks = local_checks(&self.config.limits, pending);
        match cause {
            // What is known of keys is believed while Redis cannot be asked about them.
            _ if checks.is_empty() && (cause.is_none() || !pending.is_probe()) => LocalAnswer::Ask,
            Some(cause) => LocalAnswer::Lost(cause),
            None => {
                let verdict = local.decide(now, &checks);
                if !verdict.admitted {
                    return LocalAnswer::Denied(verdict);
                }
                // The worker's share has admitted the request now, and not when its tokens exist.
                pending.check.never_delays();
                LocalAnswer::Ask
            }
        }
    }

    /// Handles a failure that may mean that Redis is lost: the connection is, or there is no reply for a second.
    #[inline(never)]
    pub(super) fn may_lose_redis(&mut self, now: Micros, cause: Failure) {
        let Some(local) = &mut self.local else { return };
        let is_late = matches!(cause, Failure::Timeout | Failure::Overloaded);
        let is_silent = local.is_silent(now, LocalMode::patience(self.config.redis.timeout));
        if is_silent || !is_late && !self.redis.is_connected() {
            // A full queue is a cause no more.
            let cause = if cause == Failure::Overloaded { Failure::Timeout } else { cause };
            local.lose(now, cause);
        }
    }

    /// Decides a request that Redis has not decided, by the worker's shares. `None` where no limit has this failure
    /// mode.
    #[inline(never)]
    pub(super) fn local_verdict(&mut self, now: Micros, pending: &PendingRequest) -> Option<Verdict> {
        let local = self.local.as_mut()?;
        let checks = local_checks(&self.config.limits, pending);
        if checks.is_empty() {
            return None;
        }
        if local.cause().is_some() {
            return Some(local.decide(now, &checks));
        }
        // Redis answers other requests: it may have counted this one, and others have what is left.
        let counting = checks.into_iter().filter(|check| check.counts());
        let outcomes: Vec<Outcome> = counting.map(|check| check.exhausted(None)).collect();
        Some(Verdict { admitted: outcomes.is_empty(), outcomes, is_local: true, ..Verdict::default() })
    }

    /// Finishes a request with this verdict of the worker's shares. `cause` is that for which Redis has not decided it;
    /// `None` where Redis was not asked.
    #[inline(never)]
    pub(super) fn decide_by_shares(
        &mut self,
        now: Micros,
        request: RequestId,
        cause: Option<Failure>,
        verdict: Verdict,
        pending: &PendingRequest,
    ) -> Decision {
        self.counters.decided_locally(cause, verdict.admitted);
        if let Some(cause) = cause {
            self.warnings.failed(now, cause, FailureMode::Local);
        }
        if let Some(cause) = cause.filter(|_| self.config.emit_metadata) {
            self.effects.push_back(Effect::Annotate(request, vec![filter_state::cause(cause)]));
        }
        // Other checks decide the request as well.
        if verdict.admitted && pending.is_split() {
            return Decision::Admit(Vec::new());
        }
        let verdict = self.with_other_outcomes(now, request, verdict, pending);
        self.decide(request, &verdict, pending)
    }

    /// Handles the end of a heartbeat.
    pub(super) fn on_heartbeat(&mut self, now: Micros, result: &Result<Reply, Failure>) {
        if let Some(local) = &mut self.local {
            local.on_heartbeat(now, result);
        }
    }

    /// Sends a heartbeat, or probes or pings Redis, at a tick.
    #[inline(never)]
    pub(super) fn probe_redis(&mut self, now: Micros) {
        let Some(local) = &mut self.local else { return };
        if let Some(call) = local.grants.as_mut().and_then(|grants| grants.due_call(now))
            && let Err(failure) = self.redis.submit_reserved(now, tickets::HEARTBEAT, call)
        {
            local.on_heartbeat(now, &Err(failure));
        }
        let _ = local.is_returning(now);
        let ticket = self.background.ticket();
        let Some(probe) = local.due_probe(now, ticket) else { return };
        let call = post_call(core::slice::from_ref(probe), &self.scripts);
        if let Err(failure) = self.redis.submit_reserved(now, ticket, call) {
            self.posted(now, ticket, Some(failure));
        }
    }

    /// Handles a decision of Redis. `redis` is its time by Redis' clock.
    pub(super) fn hear_redis(&mut self, now: Micros, redis: Micros) {
        if let Some(local) = &mut self.local {
            local.on_decision(now, redis);
        }
    }

    /// Handles the loss of the connection without calls in flight.
    #[inline(never)]
    pub(super) fn on_idle_loss(&mut self, now: Micros) {
        if let Some(local) = &mut self.local {
            local.on_idle_loss(now);
        }
    }

    /// Handles the end of a ping, a probe or a post. Returns whether the ticket is of one.
    pub(super) fn on_post_reply(&mut self, now: Micros, ticket: Ticket, result: &Result<Reply, Failure>) -> bool {
        self.local.is_some() && self.posted(now, ticket, result.as_ref().err().copied())
    }

    #[inline(never)]
    fn posted(&mut self, now: Micros, ticket: Ticket, failure: Option<Failure>) -> bool {
        let Some(local) = &mut self.local else { return false };
        let next = local.posted(now, ticket, failure);
        if next == Some(true) {
            self.post_spent(now);
        }
        next.is_some()
    }

    /// Tells Redis what was spent.
    fn post_spent(&mut self, now: Micros) {
        let Some(local) = &mut self.local else { return };
        let mut all = local.take_spent(now);
        let at_once = if self.config.redis.topology == Topology::Cluster { 1 } else { MAX_POSTED };
        while !all.is_empty() {
            let spent = all.split_off(all.len().saturating_sub(at_once));
            self.heal_before(now, &spent);
            let (ticket, call) = (self.background.ticket(), post_call(&spent, &self.scripts));
            if let Some(local) = &mut self.local {
                local.posts(ticket, spent);
            }
            // The number of buckets is bounded.
            if let Err(failure) = self.redis.submit_reserved(now, ticket, call) {
                self.posted(now, ticket, Some(failure));
            }
        }
    }
}

/// Buckets of which the worker's shares decide where Redis does not.
#[inline(never)]
fn local_checks<'a>(limits: &[Limit], pending: &'a PendingRequest) -> Vec<&'a BucketCheck> {
    let is_local = |check: &&BucketCheck| {
        check.enforced && limits.get(check.limit).is_some_and(|limit| limit.failure_mode == FailureMode::Local)
    };
    pending.check.buckets().filter(is_local).collect()
}
