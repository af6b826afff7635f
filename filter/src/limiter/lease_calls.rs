//! Requests and leases: what is served from memory, what is asked besides, and what is done with the rest.

use alloc::vec::Vec;

use super::lease_table::SpentFromLease;
use super::{Limiter, PendingRequest};
use crate::limit::{Algorithm, BucketCheck, Check, Outcome, SlotOwner, Verdict};
use crate::units::{Micros, Tokens};

/// A bucket that a request need not ask about.
#[derive(Debug)]
pub(super) struct LeaseSpend {
    pub(super) check: BucketCheck,
    spent: SpentFromLease,
}

/// A call for leases alone, which no request waits for.
#[derive(Debug)]
pub(super) struct LeaseRefill {
    check: Check,
    asked_at: Micros,
}

impl Limiter {
    /// Has leases serve what they can. The buckets that are still to be asked, and those that are not.
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
                    self.counters.leased();
                    if spent.is_low {
                        self.take_ahead(now, &check);
                    }
                    lease_spends.push(LeaseSpend { check, spent });
                }
                None => {
                    let mut check = check;
                    let limit = self.config.limits.get(check.limit);
                    let max = limit.map_or(Tokens(0), |limit| limit.max_lease);
                    self.leases.ask(now, max, &mut check);
                    to_ask.push(check);
                }
            }
        }
        (to_ask, lease_spends)
    }

    /// What Redis said of what it was asked, with what was not.
    pub(super) fn with_lease_spends(
        &mut self,
        now: Micros,
        mut verdict: Verdict,
        lease_spends: &[LeaseSpend],
    ) -> Verdict {
        if !lease_spends.is_empty() {
            let spent = verdict.admitted;
            let place = |outcome: &Outcome| (outcome.limit, outcome.window);
            for paid in lease_spends {
                let outcome = Outcome { spent, ..paid.spent.outcome };
                let at = verdict.outcomes.partition_point(|other| place(other) < place(&outcome));
                verdict.outcomes.insert(at, outcome);
            }
        }
        self.used(now, lease_spends, verdict.admitted);
        verdict
    }

    /// A request goes on with what it has spent, or does not.
    pub(super) fn used(&mut self, now: Micros, lease_spends: &[LeaseSpend], goes_on: bool) {
        lease_spends.iter().for_each(|paid| self.leases.decided(now, &paid.check, &paid.spent, goes_on));
    }

    /// What Redis said, if anything, of the leases that a request asked for.
    pub(super) fn leased(&mut self, waiting: &PendingRequest, verdict: Option<&Verdict>) {
        hear(&mut self.leases, &waiting.check, waiting.asked_at, verdict);
    }

    /// Returns what nobody uses.
    pub(super) fn return_leases(&mut self, now: Micros) {
        for check in self.leases.idle(now) {
            self.ask_ahead(now, check);
        }
    }

    /// A call for leases alone has come to its end.
    pub(super) fn on_refill(&mut self, ahead: &LeaseRefill, verdict: Option<&Verdict>) {
        hear(&mut self.leases, &ahead.check, ahead.asked_at, verdict);
    }

    fn take_ahead(&mut self, now: Micros, check: &BucketCheck) {
        if let Some(check) = self.leases.runs_low(now, check) {
            self.ask_ahead(now, check);
        }
    }

    fn ask_ahead(&mut self, now: Micros, check: BucketCheck) {
        let ahead = LeaseRefill { check: Check::new(vec![check], SlotOwner::default()), asked_at: now };
        let ticket = self.background.ticket();
        match self.redis.submit_background(now, ticket, ahead.check.call(&self.scripts)) {
            Ok(()) => self.lease_refills.insert(ticket.0, ahead),
            Err(_) => self.on_refill(&ahead, None),
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

fn hear(leases: &mut super::lease_table::LeaseTable, check: &Check, asked_at: Micros, verdict: Option<&Verdict>) {
    for check in check.buckets().filter(|check| is_leased(check)) {
        let is_its = |outcome: &&Outcome| (outcome.limit, outcome.window) == (check.limit, check.window);
        leases.answered(asked_at, check, verdict.and_then(|verdict| verdict.outcomes.iter().find(is_its)));
    }
}
