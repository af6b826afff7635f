//! Heals of buckets that Redis may have lost: calls before checks, after replies and at ticks.

use super::memory::{Healed, MAX_HEALED, Memory};
use super::{Effect, Limiter, tickets};
use crate::limit::{BucketCheck, Check, Verdict, heal_call};
use crate::redis::{Failure, Reply, Topology};
use crate::units::Micros;

/// Maximum number of calls of a sweep in a Redis Cluster, where each bucket has a call of its own.
const MAX_SINGLES: usize = 16;

/// Remembers the buckets from which a request has spent, by the reply to its check.
#[inline]
pub(super) fn remember(memory: &mut Memory, check: &Check, reply: &Reply, verdict: &Verdict) {
    memory.answered();
    for (nth, (bucket, outcome)) in check.buckets().zip(&verdict.outcomes).enumerate() {
        if outcome.spent
            && let Some(hash) = memory.follow_plain(verdict.now, &bucket.key, outcome)
            && let Some(state) = check.state_before(reply, nth)
        {
            memory.spent(hash, (verdict.now, bucket, outcome), state);
        }
    }
}

impl Limiter {
    /// Sends heals of those of these buckets whose states are in doubt, before their check.
    #[inline]
    pub(super) fn heal_before(&mut self, now: Micros, checks: &[BucketCheck]) {
        if self.memory.is_in_doubt() || !self.redis.is_connected() {
            self.heal_doubtful(now, checks);
        }
    }

    #[inline(never)]
    fn heal_doubtful(&mut self, now: Micros, checks: &[BucketCheck]) {
        if !self.redis.is_connected() {
            self.memory.disconnected(now);
        }
        let healed = self.memory.take_doubtful(checks);
        self.send_heals(now, healed);
    }

    /// Returns the effect that opens a connection, on which another Redis may answer.
    pub(super) fn open_stream(&mut self, now: Micros) -> Effect {
        self.memory.disconnected(now);
        Effect::OpenStream
    }

    /// Sends heals of states in doubt that are due.
    #[inline(never)]
    pub(super) fn heal_due(&mut self, now: Micros) {
        let is_cluster = self.config.redis.topology == Topology::Cluster;
        let most = if is_cluster { MAX_SINGLES } else { MAX_HEALED };
        if self.next_heal().is_some_and(|due| due <= now) {
            let healed = self.memory.take_due(self.redis_activity.redis_time(now), most);
            self.send_heals(now, healed);
        }
    }

    /// Time of the next [`heal_due`](Self::heal_due).
    pub(super) fn next_heal(&self) -> Option<Micros> {
        self.memory.next_due().filter(|_| self.redis.is_connected())
    }

    /// Handles the end of a heal.
    #[inline(never)]
    pub(super) fn on_heal_reply(&mut self, now: Micros, result: &Result<Reply, Failure>) {
        match result {
            Ok(Reply::Bulk(results)) => return self.counters.healed(self.memory.healed(now, results)),
            Ok(other) => {
                let detail = format!("malformed reply to a heal: expected a bulk string, found {}", other.kind());
                self.warnings.trouble(now, Failure::Protocol, detail);
            }
            // The transport logs error replies.
            Err(_) => {}
        }
        self.memory.failed(now);
    }

    /// Forgets buckets to which this worker gives back what it has spent.
    pub(super) fn forget_buckets(&mut self, check: &Check) {
        check.buckets().for_each(|check| self.memory.forget(&check.key));
    }

    #[inline(never)]
    pub(super) fn send_heals(&mut self, now: Micros, mut all: Healed) {
        // Each bucket of a cluster has a call of its own.
        let at_once = if self.config.redis.topology == Topology::Cluster { 1 } else { MAX_HEALED };
        while !all.is_empty() {
            let healed = all.split_off(all.len().saturating_sub(at_once));
            // The number of buckets is bounded, and each is in few calls at a time.
            if self.redis.submit_reserved(now, tickets::HEAL, heal_call(&healed, &self.scripts)).is_err() {
                self.memory.failed(now);
            }
        }
    }
}
