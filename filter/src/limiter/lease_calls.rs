//! Leases of requests: spends leased tokens, refills leases, and returns unused tokens.

use alloc::vec::Vec;

use super::lease_table::{LeaseRefill, LeaseSpend};
use super::pending::PendingRequest;
use super::{Limiter, RequestId};
use crate::limit::{Algorithm, BucketCheck, Check, LeaseRequest, Outcome, SlotOwner, Verdict};
use crate::units::{Micros, Tokens};

impl Limiter {
    /// Spends leased tokens. Adds the checks that leases have served to `lease_spends`, and returns the others, which are
    /// to be sent to Redis.
    pub(super) fn spend_leases(
        &mut self,
        now: Micros,
        buckets: Vec<BucketCheck>,
        lease_spends: &mut Vec<LeaseSpend>,
    ) -> Vec<BucketCheck> {
        if !buckets.iter().any(is_leased) {
            return buckets;
        }
        let mut to_ask = Vec::new();
        for check in buckets {
            if !is_leased(&check) {
                to_ask.push(check);
                continue;
            }
            match self.leases.spend(now, &check) {
                Some(spent) => {
                    self.counters.lease_hit();
                    if spent.is_low {
                        self.refill_lease(now, &check);
                    }
                    lease_spends.push(LeaseSpend { check, spent });
                }
                None => {
                    let mut check = check;
                    let limit = self.config.limits.get(check.limit);
                    let max = limit.map_or(Tokens(0), |limit| limit.max_lease);
                    self.leases.request(now, max, &mut check);
                    to_ask.push(check);
                }
            }
        }
        to_ask
    }

    /// Adds the outcomes of lease spends, and of checks in other hash slots, to Redis' verdict, and
    /// [finishes](Self::finish) them.
    #[inline(never)]
    pub(super) fn with_other_outcomes(
        &mut self,
        now: Micros,
        request: RequestId,
        mut verdict: Verdict,
        pending: &PendingRequest,
    ) -> Verdict {
        let of_leases = pending.lease_spends.iter().map(|spend| &spend.spent.outcome);
        let of_parts = pending.earlier().iter().flat_map(|(_, earlier)| &earlier.outcomes);
        for outcome in of_leases.chain(of_parts) {
            verdict.add(if verdict.admitted { *outcome } else { outcome.given_back() });
        }
        self.finish(now, request, pending, verdict.admitted);
        verdict
    }

    /// Ends what a decided request has spent before: marks lease spends as used if the request is admitted; else makes
    /// their tokens available again, and gives back what checks in other hash slots have spent.
    #[inline(never)]
    pub(super) fn finish(&mut self, now: Micros, request: RequestId, pending: &PendingRequest, is_admitted: bool) {
        let lease_spends = pending.lease_spends.iter();
        lease_spends.for_each(|spend| self.leases.decided(now, &spend.check, &spend.spent, is_admitted));
        if let Some(series) = &pending.series {
            self.finish_series(now, request, pending.arrived_at, series, is_admitted);
        }
    }

    /// Handles the outcomes of the lease requests in a request's check, or their failure.
    pub(super) fn on_lease_outcome(&mut self, pending: &PendingRequest, verdict: Option<&Verdict>) {
        pass_outcomes(&mut self.leases, pending.check.as_slice(), pending.arrived_at, verdict);
    }

    /// Submits the calls that return unused leased tokens.
    pub(super) fn return_leases(&mut self, now: Micros) {
        for check in self.leases.due_returns(now) {
            self.send_lease_call(now, check);
        }
    }

    /// Handles the end of a lease call.
    pub(super) fn on_refill(&mut self, refill: &LeaseRefill, verdict: Option<&Verdict>) {
        pass_outcomes(&mut self.leases, refill.check.as_slice(), refill.sent_at, verdict);
    }

    fn refill_lease(&mut self, now: Micros, check: &BucketCheck) {
        if let Some(check) = self.leases.refill(now, check) {
            self.send_lease_call(now, check);
        }
    }

    /// Reports used and unused tokens again, once, of a lease whose key has another override: Redis has told the
    /// override, and settled nothing.
    pub(super) fn repeat_settlement(&mut self, now: Micros, refill: &LeaseRefill) {
        if refill.is_repeated {
            return;
        }
        let Some(keys) = &mut self.key_overrides else { return };
        for check in refill.check.buckets() {
            let Algorithm::LeasedBucket(leased) = check.algorithm else { continue };
            let settled = leased.request().settled;
            let algorithm = Algorithm::LeasedBucket(leased.with_request(LeaseRequest { want: Tokens(0), settled }));
            let applied = keys.of(now, check.limit_key()).text;
            let check = BucketCheck { algorithm, applied, ..check.clone() };
            let check = Check::new(vec![check], SlotOwner::default());
            return self.send_lease_refill(now, LeaseRefill { check, sent_at: now, is_repeated: true });
        }
    }

    fn send_lease_call(&mut self, now: Micros, check: BucketCheck) {
        let check = Check::new(vec![check], SlotOwner::default());
        self.send_lease_refill(now, LeaseRefill { check, sent_at: now, is_repeated: false });
    }

    fn send_lease_refill(&mut self, now: Micros, refill: LeaseRefill) {
        let ticket = self.background.ticket();
        match self.redis.submit_background(now, ticket, refill.check.call(&self.scripts)) {
            Ok(()) => self.lease_refills.insert(ticket.0, refill),
            Err(_) => self.on_refill(&refill, None),
        }
    }
}

fn is_leased(check: &BucketCheck) -> bool {
    check.enforced && matches!(check.algorithm, Algorithm::LeasedBucket(_))
}

#[inline(never)]
pub(super) fn pass_outcomes(
    leases: &mut super::lease_table::LeaseTable,
    buckets: &[BucketCheck],
    sent_at: Micros,
    verdict: Option<&Verdict>,
) {
    for check in buckets.iter().filter(|check| is_leased(check)) {
        let is_own = |outcome: &&Outcome| (outcome.limit, outcome.window) == (check.limit, check.window);
        leases.on_outcome(sent_at, check, verdict.and_then(|verdict| verdict.outcomes.iter().find(is_own)));
    }
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU64;

    use super::*;
    use crate::limit::{Algorithms, LeasedBucket, TokenBucket};

    #[test]
    fn only_an_enforced_limit_with_leases_spends_leased_tokens() {
        let bucket = TokenBucket::new(NonZeroU64::MIN, NonZeroU64::MIN, Micros::from_secs(1)).unwrap();
        let leased = LeasedBucket::new(bucket, Micros::from_secs(1)).unwrap();
        for (algorithm, is_enforced, is_its) in [
            (Algorithm::LeasedBucket(leased), true, true),
            (Algorithm::LeasedBucket(leased), false, false),
            (Algorithm::TokenBucket(bucket), true, false),
            (Algorithm::TokenBucket(bucket), false, false),
        ] {
            let check = Algorithms::from(bucket).checks(0, b"key", Tokens(1), is_enforced).next().unwrap();
            assert_eq!(is_leased(&BucketCheck { algorithm, ..check }), is_its);
        }
    }
}
