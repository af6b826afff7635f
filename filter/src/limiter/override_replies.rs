//! Replies of Redis that tell overrides: of limits when they are read, and of keys in place of a decision.

use alloc::string::ToString;
use alloc::vec::Vec;

use super::effect::{Decision, Effect, Step};
use super::lease_calls::pass_outcomes;
use super::on_request::{KnownOverrides, checks_again};
use super::pending::{DelayReservation, PendingRequest};
use super::{Limiter, RequestId};
use crate::limit::Check;
use crate::overrides::{self, Ignored, Refresh};
use crate::redis::{Failure, Reply, Topology};
use crate::units::Micros;

/// Maximum number of checks of a request that Redis leaves undecided. More would need an override that changes with
/// each of them.
const MAX_UNDECIDED: u8 = 8;
/// Minimum time between two warnings of malformed overrides of keys.
const WARNING_INTERVAL: Micros = Micros::from_secs(10);

impl Limiter {
    /// Handles a page of the overrides of limits, or the failure to read it.
    pub(super) fn refreshed(&mut self, now: Micros, result: Result<Reply, Failure>) {
        let Some(refresh) = &mut self.refresh else { return };
        for event in refresh.handle(now, result) {
            match event {
                overrides::Event::Changed => self.deny_cache.clear(),
                overrides::Event::Prices(models) => self.set_prices(&models),
                overrides::Event::KeyChanged { redis_time, key, text } => {
                    let prefix = &self.config.redis.key_prefix;
                    let heard = self.key_overrides.as_mut().map(|keys| keys.hear(now, redis_time, prefix, &key, &text));
                    if let Some(Err(ignored)) = heard {
                        self.warn_of_key(now, &ignored);
                    }
                }
                // A malformed reply may recur at every refresh: its warning is throttled.
                overrides::Event::Ignored(Ignored::Reply(malformed)) => {
                    self.warnings.trouble(now, Failure::Protocol, malformed.to_string());
                }
                overrides::Event::Ignored(ignored) => {
                    self.counters.override_ignored();
                    self.effects.push_back(Effect::Warn(ignored.to_string()));
                }
            }
        }
    }

    /// Notes the overrides in the reply to a check. Returns false if the reply has none, and so is a verdict.
    pub(super) fn learns_overrides(&mut self, now: Micros, check: &Check, reply: &Reply) -> bool {
        let Some(keys) = &mut self.key_overrides else { return false };
        let Some(told) = check.overrides(reply) else { return false };
        let redis_time = self.redis_activity.redis_time(now);
        let mut ignored = Vec::new();
        for (bucket, text) in told {
            ignored.extend(keys.tell(now, redis_time, bucket.limit_key(), text).err());
        }
        ignored.iter().for_each(|ignored| self.warn_of_key(now, ignored));
        true
    }

    /// Counts a malformed override of a key, and warns of it at most once in [`WARNING_INTERVAL`].
    fn warn_of_key(&mut self, now: Micros, ignored: &Ignored) {
        self.counters.override_ignored();
        if self.key_override_warned_at.is_none_or(|at| now.minus(at) >= WARNING_INTERVAL) {
            self.key_override_warned_at = Some(now);
            self.effects.push_back(Effect::Warn(ignored.to_string()));
        }
    }

    /// Checks a request again, whose overrides Redis has told in place of a decision.
    #[inline(never)]
    pub(super) fn check_again(&mut self, now: Micros, request: RequestId, mut pending: PendingRequest) {
        self.check_ended(&pending);
        pending.delay_reservation = DelayReservation::NotNeeded;
        self.on_lease_outcome(&pending, None);
        let series = pending.series.get_or_insert_default();
        pass_outcomes(&mut self.leases, &series.later, pending.arrived_at, None);
        series.undecided = series.undecided.saturating_add(1);
        if series.undecided > MAX_UNDECIDED {
            // The failure is that of the later checks, too.
            let owner = pending.check.owner();
            let mut buckets = core::mem::take(&mut pending.check).into_buckets();
            buckets.append(&mut series.later);
            pending.check = Check::new(buckets, owner);
            let decision = self.fail(now, request, Failure::Protocol, &pending);
            let step = self.after_failure(now, request, decision, pending);
            return self.take_step(request, step);
        }
        let step = self.check_limits(now, request, pending);
        self.take_step(request, step);
    }

    /// Goes on with a request whose [probe](PendingRequest::is_probe) has ended: Redis has no other overrides, or does
    /// not answer, and what the worker knows is believed for another second.
    #[inline(never)]
    pub(super) fn believe_overrides(&mut self, now: Micros, request: RequestId, pending: PendingRequest) -> Step {
        if let Some(keys) = &mut self.key_overrides {
            pending.check.buckets().for_each(|bucket| keys.confirm(now, bucket.limit_key()));
        }
        self.check_limits(now, request, pending)
    }

    /// Carries out a step of a request that was held.
    pub(super) fn take_step(&mut self, request: RequestId, step: Step) {
        let decision = match step {
            Step::Wait => return,
            Step::Pass => Decision::Admit(Vec::new()),
            Step::Decided(decision) => decision,
        };
        self.effects.push_back(Effect::Decide(request, decision));
    }

    /// Checks the limits of a request anew, with the overrides that are known now.
    fn check_limits(&mut self, now: Micros, request: RequestId, mut pending: PendingRequest) -> Step {
        let series = pending.series.get_or_insert_default();
        let mut rest = series.probed.take().unwrap_or_default();
        rest.append(&mut series.later);
        let overrides = KnownOverrides {
            of_limits: self.refresh.as_ref().map(Refresh::overrides),
            of_keys: self.key_overrides.as_mut(),
            // In a cluster, a probe asks one hash slot.
            probes: self.config.redis.topology == Topology::Cluster,
        };
        let checks = checks_again(&self.config, overrides, now, pending.check.buckets().chain(&rest), &series.carried);
        self.check(now, request, checks, pending)
    }
}
