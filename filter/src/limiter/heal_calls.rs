//! Heals of buckets that Redis may have lost: calls before checks, after replies and at ticks.

use super::Limiter;
use super::memory::{Healed, MAX_HEALED, Memory};
use crate::limit::{BucketCheck, Check, Verdict, heal_call, read_healed};
use crate::redis::{Failure, Reply, Ticket, Topology};
use crate::units::Micros;

/// Maximum number of calls of a sweep in a Redis Cluster, where each bucket has a call of its own.
const MAX_SINGLES: usize = 16;

/// Remembers the buckets from which a request has spent, by the reply to its check.
#[inline]
pub(super) fn remember(memory: &mut Memory, check: &Check, reply: &Reply, verdict: &Verdict) {
    memory.answered();
    for (nth, (check_of_one, outcome)) in check.buckets().zip(&verdict.outcomes).enumerate() {
        if outcome.spent
            && let Some(hash) = memory.regards(verdict.now, &check_of_one.key, outcome)
            && !memory.follows(hash, verdict.now, check_of_one, outcome)
            && let Some(state) = check.state_before(reply, nth)
        {
            memory.spent(hash, verdict.now, check_of_one, outcome, state);
        }
    }
}

impl Limiter {
    /// Sends heals of lost states, and of those of these buckets whose states are in doubt, before their check.
    #[inline(never)]
    pub(super) fn heal_before(&mut self, now: Micros, checks: &[BucketCheck]) {
        if !self.redis.is_connected() {
            self.memory.disconnected(now);
        }
        if self.memory.is_in_doubt() {
            let healed = self.memory.take_doubtful(now, checks);
            self.send_heals(now, healed);
        }
    }

    /// Sends heals of lost states, and of states in doubt, at a tick.
    pub(super) fn heal_due(&mut self, now: Micros) {
        let is_cluster = self.config.redis.topology == Topology::Cluster;
        let most = if is_cluster { MAX_SINGLES } else { MAX_HEALED };
        if self.next_heal().is_some()
            && let Some(healed) = self.memory.take_due(now, self.redis_activity.redis_time(now), most)
        {
            self.send_heals(now, healed);
        }
    }

    /// Time of the next [`heal_due`](Self::heal_due).
    pub(super) fn next_heal(&self) -> Option<Micros> {
        self.memory.next_due().filter(|_| self.redis.is_connected())
    }

    /// Handles the end of a heal. Returns whether the ticket is of one.
    #[inline(never)]
    pub(super) fn on_heal_reply(&mut self, now: Micros, ticket: Ticket, result: &Result<Reply, Failure>) -> bool {
        let results = |number| result.as_ref().ok().and_then(|reply| read_healed(reply, number));
        let restored = self.memory.ended(now, ticket, results);
        self.counters.healed(restored.unwrap_or(0));
        restored.is_some()
    }

    /// Forgets buckets to which this worker gives back what it has spent.
    pub(super) fn forget_buckets(&mut self, check: &Check) {
        check.buckets().for_each(|check| self.memory.forget(&check.key));
    }

    #[inline(never)]
    fn send_heals(&mut self, now: Micros, mut all: Healed) {
        // Each bucket of a cluster has a call of its own.
        let at_once = if self.config.redis.topology == Topology::Cluster { 1 } else { MAX_HEALED };
        while !all.is_empty() {
            let healed = all.split_off(all.len().saturating_sub(at_once));
            let (ticket, call) = (self.background.ticket(), heal_call(&healed, &self.scripts));
            // The number of buckets is bounded, and each is in few calls at a time.
            match self.redis.submit_reserved(now, ticket, call) {
                Ok(()) => self.memory.sent(ticket, healed),
                Err(_) => self.memory.failed(now, healed),
            }
        }
    }
}
