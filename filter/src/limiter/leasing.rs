//! Requests and leases: what is served from memory, what is asked besides, and what is done with the rest.

use alloc::vec::Vec;

use super::leases::Spent;
use super::{Limiter, Waiting};
use crate::limit::{Algorithm, Asked, Check, Holder, Outcome, Verdict};
use crate::units::{Micros, Tokens};

/// A bucket that a request need not ask about.
#[derive(Debug)]
pub(super) struct Prepaid {
    pub(super) asked: Asked,
    spent: Spent,
}

/// A call for leases alone, which no request waits for.
#[derive(Debug)]
pub(super) struct Ahead {
    check: Check,
    asked_at: Micros,
}

impl Limiter {
    /// Has leases serve what they can. The buckets that are still to be asked, and those that are not.
    pub(super) fn prepay(&mut self, now: Micros, buckets: Vec<Asked>) -> (Vec<Asked>, Vec<Prepaid>) {
        if !buckets.iter().any(is_leased) {
            return (buckets, Vec::new());
        }
        let (mut to_ask, mut prepaid) = (Vec::new(), Vec::new());
        for asked in buckets {
            if !is_leased(&asked) {
                to_ask.push(asked);
                continue;
            }
            match self.leases.spend(now, &asked) {
                Some(spent) => {
                    self.counters.leased();
                    if spent.is_low {
                        self.take_ahead(now, &asked);
                    }
                    prepaid.push(Prepaid { asked, spent });
                }
                None => {
                    let mut asked = asked;
                    let limit = self.config.limits.get(asked.limit);
                    let max = limit.map_or(Tokens(0), |limit| limit.max_lease);
                    self.leases.ask(now, max, &mut asked);
                    to_ask.push(asked);
                }
            }
        }
        (to_ask, prepaid)
    }

    /// What Redis said of what it was asked, with what was not.
    pub(super) fn with_prepaid(&mut self, now: Micros, mut verdict: Verdict, prepaid: &[Prepaid]) -> Verdict {
        if !prepaid.is_empty() {
            let spent = verdict.admitted;
            let place = |outcome: &Outcome| (outcome.limit, outcome.window);
            for paid in prepaid {
                let outcome = Outcome { spent, ..paid.spent.outcome };
                let at = verdict.outcomes.partition_point(|other| place(other) < place(&outcome));
                verdict.outcomes.insert(at, outcome);
            }
        }
        self.used(now, prepaid, verdict.admitted);
        verdict
    }

    /// A request goes on with what it has spent, or does not.
    pub(super) fn used(&mut self, now: Micros, prepaid: &[Prepaid], goes_on: bool) {
        prepaid.iter().for_each(|paid| self.leases.decided(now, &paid.asked, &paid.spent, goes_on));
    }

    /// What Redis said, if anything, of the leases that a request asked for.
    pub(super) fn leased(&mut self, waiting: &Waiting, verdict: Option<&Verdict>) {
        hear(&mut self.leases, &waiting.check, waiting.asked_at, verdict);
    }

    /// Returns what nobody uses.
    pub(super) fn return_leases(&mut self, now: Micros) {
        for asked in self.leases.idle(now) {
            self.ask_ahead(now, asked);
        }
    }

    /// A call for leases alone has come to its end.
    pub(super) fn heard_ahead(&mut self, ahead: &Ahead, verdict: Option<&Verdict>) {
        hear(&mut self.leases, &ahead.check, ahead.asked_at, verdict);
    }

    fn take_ahead(&mut self, now: Micros, asked: &Asked) {
        if let Some(asked) = self.leases.runs_low(now, asked) {
            self.ask_ahead(now, asked);
        }
    }

    fn ask_ahead(&mut self, now: Micros, asked: Asked) {
        let ahead = Ahead { check: Check::new(vec![asked], Holder::default()), asked_at: now };
        let ticket = self.aside.ticket();
        match self.redis.submit_aside(now, ticket, ahead.check.call(&self.scripts)) {
            Ok(()) => self.ahead.insert(ticket.0, ahead),
            Err(_) => self.heard_ahead(&ahead, None),
        }
    }
}

impl Ahead {
    pub(super) fn check(&self) -> &Check {
        &self.check
    }
}

fn is_leased(asked: &Asked) -> bool {
    asked.enforced && matches!(asked.algorithm, Algorithm::LeasedBucket(_))
}

fn hear(leases: &mut super::leases::Leases, check: &Check, asked_at: Micros, verdict: Option<&Verdict>) {
    for asked in check.asked().filter(|asked| is_leased(asked)) {
        let is_its = |outcome: &&Outcome| (outcome.limit, outcome.window) == (asked.limit, asked.window);
        leases.answered(asked_at, asked, verdict.and_then(|verdict| verdict.outcomes.iter().find(is_its)));
    }
}
