//! Parts of a check in a Redis Cluster, one for each hash slot.
//!
//! A call has keys of one hash slot. The parts of a request's check are sent one after the other, in the order of the
//! configuration, each once the part before has admitted the request: a request that one part denies has spent nothing
//! in the parts behind it, and gives back what it has spent in the parts before. All parts share one timeout.
//!
//! A call that gives back is sent once and its reply is not awaited. If it is lost, or the outcome of a part is
//! unknown, tokens are missing until they flow back: a limit admits less for a time, never more.

use alloc::vec::Vec;

use super::effect::{Decision, Step};
use super::lease_calls::pass_outcomes;
use super::pending::{CheckSeries, PendingRequest};
use super::{Limiter, RequestId};
use crate::limit::{BucketCheck, Check, SlotOwner, Verdict};
use crate::redis::{Call, Failure, Topology, hash_slot};
use crate::units::Micros;

impl Limiter {
    /// Splits buckets into those of the first part of a check and the others. Without a cluster, all are in one part.
    pub(super) fn first_part(
        &self,
        buckets: Vec<BucketCheck>,
        is_single: bool,
    ) -> (Vec<BucketCheck>, Vec<BucketCheck>) {
        match self.config.redis.topology {
            Topology::Cluster if buckets.len() > 1 => split(buckets, is_single),
            _ => (buckets, Vec::new()),
        }
    }

    /// Sets the check of a request, and the buckets of further parts.
    pub(super) fn set_check(&mut self, pending: &mut PendingRequest, buckets: Vec<BucketCheck>) {
        let is_single = pending.series.as_ref().is_some_and(|series| series.is_single);
        let (buckets, later) = self.first_part(buckets, is_single);
        // All parts of a request take slots for one owner.
        let owner = pending.earlier().first().map(|(check, _)| check.owner());
        let owner = owner.unwrap_or_else(|| SlotOwner::new(self.worker, self.checked));
        if !later.is_empty() {
            pending.series.get_or_insert_default().later = later;
        }
        pending.check = Check::new(buckets, owner);
    }

    /// Goes on with the next part of a check, of which one part has admitted the request.
    #[inline(never)]
    pub(super) fn part_admitted(
        &mut self,
        now: Micros,
        request: RequestId,
        verdict: Verdict,
        mut pending: PendingRequest,
    ) {
        self.contention.leave(&pending.check, self.pending.len());
        if let Some(holds) = pending.check.held_slots(&verdict) {
            self.slots.take(now, request, holds);
        }
        self.take_reservations(now, request, &pending.check, &verdict);
        let check = core::mem::take(&mut pending.check);
        let owner = check.owner();
        pending.series.get_or_insert_default().earlier.push((check, verdict));
        let step = self.next_part(now, request, pending, owner);
        self.take_step(request, step);
    }

    /// Decides a request by the failure of one part of its check, or goes on with the next part.
    ///
    /// The caller has removed the request from those that contend for their buckets.
    #[inline(never)]
    pub(super) fn fail_part(
        &mut self,
        now: Micros,
        request: RequestId,
        failure: Failure,
        mut pending: PendingRequest,
    ) -> Step {
        let owner = pending.check.owner();
        let series = pending.series.get_or_insert_default();
        // While a hash slot moves to another node, its keys may be on both, and each is to be asked for alone. The node
        // has run nothing.
        let is_moving = failure == Failure::ClusterMode && !series.is_single && pending.check.as_slice().len() > 1;
        // A further part would come too late.
        if is_moving || matches!(failure, Failure::Timeout | Failure::Overloaded) {
            let mut buckets = core::mem::take(&mut pending.check).into_buckets();
            buckets.append(&mut series.later);
            if is_moving {
                series.is_single = true;
                series.later = buckets;
                return self.next_part(now, request, pending, owner);
            }
            pending.check = Check::new(buckets, owner);
        }
        let decision = self.decide_failed(now, request, failure, &pending);
        self.after_failure(now, request, decision, pending)
    }

    /// Goes on after the failure of one part of a check, where the failure mode admits the request and other parts
    /// decide as well.
    pub(super) fn after_failure(
        &mut self,
        now: Micros,
        request: RequestId,
        decision: Decision,
        pending: PendingRequest,
    ) -> Step {
        if pending.is_split() && matches!(decision, Decision::Admit(_)) {
            let owner = pending.check.owner();
            return self.next_part(now, request, pending, owner);
        }
        self.release_delay(&pending);
        Step::Decided(decision)
    }

    /// Submits the next part of a check, or decides the request if there is none.
    #[inline(never)]
    pub(super) fn next_part(
        &mut self,
        now: Micros,
        request: RequestId,
        mut pending: PendingRequest,
        owner: SlotOwner,
    ) -> Step {
        let series = pending.series.get_or_insert_default();
        let (buckets, later) = self.first_part(core::mem::take(&mut series.later), series.is_single);
        series.later = later;
        pending.check = Check::new(buckets, owner);
        if !pending.check.is_empty() {
            return self.submit_check(now, request, pending);
        }
        self.release_delay(&pending);
        let last = pending.earlier().last().map_or(Micros::ZERO, |(_, verdict)| verdict.now);
        let admitted = Verdict { admitted: true, now: last, ..Verdict::default() };
        self.on_verdict(now, request, admitted, &pending);
        Step::Wait
    }

    /// Ends the other parts of a request's check: gives back what they have spent, unless the request is admitted.
    #[inline(never)]
    pub(super) fn finish_series(
        &mut self,
        now: Micros,
        request: RequestId,
        arrived_at: Micros,
        series: &CheckSeries,
        is_admitted: bool,
    ) {
        pass_outcomes(&mut self.leases, &series.later, arrived_at, None);
        if is_admitted || series.earlier.is_empty() {
            return;
        }
        for (check, verdict) in &series.earlier {
            self.forget_buckets(check);
            if let Some(call) = check.give_back_call(verdict, &self.scripts) {
                self.refund(now, call);
            }
        }
        if let Some(holds) = self.slots.leave(request) {
            self.release_slots(now, &holds, false);
        }
        self.settle(now, request, &|_| 0, None);
    }

    /// Submits a call that refunds tokens. If Redis is unavailable the tokens are lost: the limit admits less for a
    /// time, never more.
    pub(super) fn refund(&mut self, now: Micros, refund: Call) -> bool {
        self.redis.submit_background(now, self.background.ticket(), refund).is_ok()
    }
}

/// Splits buckets into those in the hash slot of the first, or the first alone, and the others.
#[inline(never)]
fn split(buckets: Vec<BucketCheck>, is_single: bool) -> (Vec<BucketCheck>, Vec<BucketCheck>) {
    let (mut first, mut others) = (Vec::new(), Vec::new());
    let mut slot = None;
    for bucket in buckets {
        let its = hash_slot(&bucket.key);
        let is_first = slot.is_none_or(|slot| slot == its && !is_single);
        slot.get_or_insert(its);
        if is_first { first.push(bucket) } else { others.push(bucket) }
    }
    (first, others)
}
