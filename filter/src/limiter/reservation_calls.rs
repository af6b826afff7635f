//! Reservations of requests: takes them, settles them at the request's end, and submits the calls that do so.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::reservations::{Calls, Fields, Open};
use super::{Limiter, RequestId, UsageCounter};
use crate::config::Config;
use crate::descriptor::push_hex;
use crate::limit::{Check, LedgerEntry, Reservations, SettleResult, Verdict};
use crate::redis::{Call, Failure, Reply, Ticket, Topology};
use crate::units::Micros;

/// Returns key and length of the stream to which settlements write. In a cluster it may be in another hash slot.
fn stream(config: &Config) -> (&[u8], u64) {
    let events = config.events.as_ref().filter(|_| config.redis.topology == Topology::Single);
    events.map_or((&[], 0), |events| (events.stream.as_bytes(), events.max_len.get()))
}

impl Limiter {
    /// Settles a request's reservations by what it has cost the limit of each index. A request whose reservations are not
    /// settled has cost nothing when it is [done](Self::done). Returns whether calls were submitted.
    ///
    /// With an `entry`, the settlement writes it to the ledger, where there is one.
    pub fn settle(
        &mut self,
        now: Micros,
        request: RequestId,
        cost: &dyn Fn(usize) -> u64,
        entry: Option<&LedgerEntry>,
    ) -> bool {
        let Some(open) = self.reservations.leave(request) else { return false };
        let fields = entry.and_then(|entry| self.ledger_fields(open.reservations(), cost, entry));
        self.submit_settlement(now, open, cost, fields);
        true
    }

    /// Whether the request has reservations.
    #[must_use]
    pub fn holds_reservations(&self, request: RequestId) -> bool {
        self.reservations.holds(request)
    }

    /// Takes what a request has reserved by a verdict.
    pub(super) fn take_reservations(&mut self, now: Micros, request: RequestId, check: &Check, verdict: &Verdict) {
        if let Some(own) = check.reservations(verdict) {
            self.reservations.take(now, request, own, false);
        }
    }

    /// Takes what a request may have reserved whose check has failed, if the request goes on: it is charged in full at its
    /// end. If it does not, settles that at once, unless Redis has not run the check.
    #[inline(never)]
    pub(super) fn take_possible_reservations(
        &mut self,
        now: Micros,
        request: RequestId,
        failure: Failure,
        check: &Check,
        goes_on: bool,
    ) {
        let Some(own) = check.possible_reservations() else { return };
        if goes_on {
            return self.reservations.take(now, request, own, true);
        }
        if matches!(failure, Failure::Timeout | Failure::Reset | Failure::Protocol | Failure::Refused) {
            self.submit_settlement(now, Open::of_undecided(own), &|_| 0, None);
        }
    }

    /// Settles what a request may still reserve that has ended before Redis has decided it.
    #[inline(never)]
    pub(super) fn settle_undecided(&mut self, now: Micros, check: &Check) -> bool {
        let own = check.possible_reservations();
        let any = own.is_some();
        if let Some(own) = own {
            self.submit_settlement(now, Open::of_undecided(own), &|_| 0, None);
        }
        any
    }

    /// Submits the calls that are due: renewals, and settlements that are owed.
    pub(super) fn renew_reservations(&mut self, now: Micros) {
        let Self { scripts, config, .. } = self;
        let stream = stream(config);
        let (due, dropped) = self.reservations.due(now, &mut self.background, Calls { scripts, stream });
        self.settlements_dropped(dropped);
        due.into_iter().for_each(|(ticket, call)| self.call_for_budgets(now, ticket, call));
    }

    /// Handles the result of a call, and returns whether it was a settlement.
    pub(super) fn on_settled(&mut self, now: Micros, ticket: Ticket, result: &Result<Reply, Failure>) -> bool {
        let Some(settled) = self.reservations.completed(now, ticket, result) else { return false };
        self.settlements_dropped(settled.dropped);
        self.count_results(&settled.results);
        settled.charged.iter().for_each(|(limit, amount)| self.counters.charged(*limit, *amount));
        if settled.is_refused {
            self.counters.events_dropped(1);
        }
        true
    }

    #[inline(never)]
    fn submit_settlement(&mut self, now: Micros, open: Open, cost: &dyn Fn(usize) -> u64, fields: Option<Fields>) {
        let Self { scripts, config, .. } = self;
        let stream = stream(config);
        let calls = Calls { scripts, stream };
        let calls = self.reservations.settle(now, &mut self.background, open, cost, fields, calls);
        calls.into_iter().for_each(|(ticket, call)| self.call_for_budgets(now, ticket, call));
    }

    /// Submits a call. The transport reserves room for these calls: there are at most as many as requests with
    /// reservations, and few that are owed.
    fn call_for_budgets(&mut self, now: Micros, ticket: Ticket, call: Call) {
        if let Err(failure) = self.redis.submit_reserved(now, ticket, call) {
            self.on_settled(now, ticket, &Err(failure));
        }
    }

    fn count_results(&mut self, results: &[SettleResult]) {
        let any = |result| results.contains(&result);
        if any(SettleResult::Within) || any(SettleResult::Overrun) || any(SettleResult::Unreserved) {
            self.counters.usage(UsageCounter::Settled, 1);
        }
        if any(SettleResult::Overrun) {
            self.counters.usage(UsageCounter::Overrun, 1);
        }
        if any(SettleResult::Late) {
            self.counters.usage(UsageCounter::Late, 1);
        }
    }

    fn settlements_dropped(&mut self, dropped: u64) {
        self.counters.usage(UsageCounter::Dropped, dropped);
    }

    /// Returns the fields of an entry in the ledger. `None` where there is no ledger.
    #[inline(never)]
    fn ledger_fields(&self, own: &Reservations, cost: &dyn Fn(usize) -> u64, entry: &LedgerEntry) -> Option<Fields> {
        if !self.config.events.as_ref().is_some_and(|events| events.usage) {
            return None;
        }
        let mut id = Vec::new();
        own.owner().as_bytes().iter().for_each(|byte| push_hex(&mut id, *byte));
        let number = |number: u64| number.to_string().into_bytes();
        let mut fields: Fields = vec![("id", id), ("model", entry.model.clone().into_bytes())];
        let usage = &entry.usage;
        for (name, tokens) in [
            ("input", usage.input),
            ("cache_read", usage.cache_read),
            ("cache_write", usage.cache_write),
            ("cache_write_1h", usage.cache_write_1h),
            ("output", usage.output),
        ] {
            fields.push((name, number(tokens)));
        }
        fields.extend(entry.cost.map(|cost| ("cost_nano_usd", number(cost.0))));
        fields.push(("source", entry.source.name().as_bytes().to_vec()));
        fields.push(("status", number(entry.status.into())));
        let mut limits: Vec<String> = Vec::new();
        let mut amounts: Vec<String> = Vec::new();
        for of in own.as_slice() {
            let name = self.config.limits.get(of.limit).map(|limit| limit.window_name(of.window).into_owned());
            limits.push(name.unwrap_or_default());
            amounts.push(cost(of.limit).to_string());
            fields.push(("key", of.key.clone()));
        }
        fields.push(("limits", limits.join(" ").into_bytes()));
        fields.push(("amounts", amounts.join(" ").into_bytes()));
        Some(fields)
    }
}
