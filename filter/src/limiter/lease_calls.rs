//! Leases of requests: spends leased tokens, refills leases, and returns unused tokens.

use alloc::vec::Vec;

use super::lease_table::SpentFromLease;
use super::{Limiter, PendingRequest};
use crate::limit::{Algorithm, BucketCheck, Check, Outcome, SlotOwner, Verdict};
use crate::units::{Micros, Tokens};

/// Bucket check that leased tokens have served, without Redis.
#[derive(Debug)]
pub(super) struct LeaseSpend {
    pub(super) check: BucketCheck,
    spent: SpentFromLease,
}

/// Background call that refills or returns leases.
#[derive(Debug)]
pub(super) struct LeaseRefill {
    check: Check,
    sent_at: Micros,
}

impl Limiter {
    /// Spends leased tokens. Returns the checks to be sent to Redis, and those served from leases.
    pub(super) fn spend_leases(
        &mut self,
        now: Micros,
        buckets: Vec<BucketCheck>,
    ) -> (Vec<BucketCheck>, Vec<LeaseSpend>) {
        if !buckets.iter().any(is_leased) {
            return (buckets, Vec::new());
        }
        let (mut to_ask, mut lease_spends) = (Vec::new(), Vec::new());
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
        (to_ask, lease_spends)
    }

    /// Adds the outcomes of lease spends to Redis' verdict, and finishes the spends.
    pub(super) fn with_lease_spends(
        &mut self,
        now: Micros,
        mut verdict: Verdict,
        lease_spends: &[LeaseSpend],
    ) -> Verdict {
        if !lease_spends.is_empty() {
            let spent = verdict.admitted;
            let order = |outcome: &Outcome| (outcome.limit, outcome.window);
            for spend in lease_spends {
                let outcome = Outcome { spent, ..spend.spent.outcome };
                let at = verdict.outcomes.partition_point(|other| order(other) < order(&outcome));
                verdict.outcomes.insert(at, outcome);
            }
        }
        self.finish_lease_spends(now, lease_spends, verdict.admitted);
        verdict
    }

    /// Marks lease spends as used if the request is admitted, else makes their tokens available again.
    pub(super) fn finish_lease_spends(&mut self, now: Micros, lease_spends: &[LeaseSpend], is_admitted: bool) {
        lease_spends.iter().for_each(|spend| self.leases.decided(now, &spend.check, &spend.spent, is_admitted));
    }

    /// Handles the outcomes of the lease requests in a request's check, or their failure.
    pub(super) fn on_lease_outcome(&mut self, pending: &PendingRequest, verdict: Option<&Verdict>) {
        pass_outcomes(&mut self.leases, &pending.check, pending.arrived_at, verdict);
    }

    /// Submits the calls that return unused leased tokens.
    pub(super) fn return_leases(&mut self, now: Micros) {
        for check in self.leases.due_returns(now) {
            self.send_lease_call(now, check);
        }
    }

    /// Handles the end of a lease call.
    pub(super) fn on_refill(&mut self, refill: &LeaseRefill, verdict: Option<&Verdict>) {
        pass_outcomes(&mut self.leases, &refill.check, refill.sent_at, verdict);
    }

    fn refill_lease(&mut self, now: Micros, check: &BucketCheck) {
        if let Some(check) = self.leases.refill(now, check) {
            self.send_lease_call(now, check);
        }
    }

    fn send_lease_call(&mut self, now: Micros, check: BucketCheck) {
        let refill = LeaseRefill { check: Check::new(vec![check], SlotOwner::default()), sent_at: now };
        let ticket = self.background.ticket();
        match self.redis.submit_background(now, ticket, refill.check.call(&self.scripts)) {
            Ok(()) => self.lease_refills.insert(ticket.0, refill),
            Err(_) => self.on_refill(&refill, None),
        }
    }
}

impl LeaseRefill {
    pub(super) fn check(&self) -> &Check {
        &self.check
    }
}

fn is_leased(check: &BucketCheck) -> bool {
    check.enforced && matches!(check.algorithm, Algorithm::LeasedBucket(_))
}

fn pass_outcomes(
    leases: &mut super::lease_table::LeaseTable,
    check: &Check,
    sent_at: Micros,
    verdict: Option<&Verdict>,
) {
    for check in check.buckets().filter(|check| is_leased(check)) {
        let is_own = |outcome: &&Outcome| (outcome.limit, outcome.window) == (check.limit, check.window);
        leases.on_outcome(sent_at, check, verdict.and_then(|verdict| verdict.outcomes.iter().find(is_own)));
    }
}
