//! Check of one request against all limits that apply, in one atomic step: it spends from all buckets, or from none.

use alloc::string::ToString;
use alloc::vec::Vec;

use super::bucket::BucketCheck;
use super::call::{give_back_call, has_applied, mixed_call, plain_call};
use super::reply::{MalformedReply, read, single_state, triple_state};
use super::reservations::{Reservation, Reservations};
use super::scripts::Scripts;
use super::slots::HeldSlots;
use super::verdict::{Outcome, Verdict};
use crate::limit::algorithm::{Algorithm, BucketState, SlotOwner};
use crate::redis::{Call, Integers, Reply};
use crate::units::Micros;

/// Bytes of a reply that tell one override: 1,025 bytes of its text, and RESP's framing.
const TOLD_OVERRIDE: usize = 1_040;

/// Buckets of a request, in the configuration's order of limits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Check {
    buckets: Vec<BucketCheck>,
    owner: SlotOwner,
}

impl Check {
    /// Returns a check of `buckets`, which takes slots of concurrency limits for `owner`. A check of no buckets admits.
    #[must_use]
    pub fn new(buckets: Vec<BucketCheck>, owner: SlotOwner) -> Self {
        Self { buckets, owner }
    }

    /// Whether no limit applies.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// The buckets, in the configuration's order of limits.
    #[must_use]
    pub fn as_slice(&self) -> &[BucketCheck] {
        &self.buckets
    }

    /// Sets the longest delays of all buckets to zero.
    pub fn never_delays(&mut self) {
        self.buckets.iter_mut().for_each(BucketCheck::never_delays);
    }

    /// Takes the buckets out of the check.
    #[must_use]
    pub fn into_buckets(self) -> Vec<BucketCheck> {
        self.buckets
    }

    /// The buckets, in the configuration's order of limits.
    pub fn buckets(&self) -> impl Iterator<Item = &BucketCheck> {
        self.buckets.iter()
    }

    /// Returns the bucket of an outcome.
    #[must_use]
    pub fn of(&self, outcome: &Outcome) -> Option<&BucketCheck> {
        self.buckets.iter().find(|check| (check.limit, check.window) == (outcome.limit, outcome.window))
    }

    /// Owner of the slots that the request takes.
    #[must_use]
    pub fn owner(&self) -> SlotOwner {
        self.owner
    }

    /// Whether the request holds slots if it is admitted.
    #[must_use]
    pub fn takes_slots(&self) -> bool {
        self.buckets.iter().any(|check| check.cost.0 > 0 && matches!(check.algorithm, Algorithm::Concurrency(_)))
    }

    /// Whether the request reserves something if it is admitted.
    #[must_use]
    pub fn reserves(&self) -> bool {
        self.buckets.iter().any(|check| matches!(check.algorithm, Algorithm::Budget(_)))
    }

    /// Approximate size in memory, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        let one = |check: &BucketCheck| check.key.len().saturating_add(size_of::<BucketCheck>());
        self.buckets.iter().fold(size_of::<Self>(), |all, check| all.saturating_add(one(check)))
    }

    /// The call by which Redis decides the request.
    #[must_use]
    pub fn call(&self, scripts: &Scripts) -> Call {
        let has_applied = has_applied(&self.buckets);
        let call = if self.is_plain() {
            plain_call(scripts.token_buckets(), &self.buckets, has_applied)
        } else {
            mixed_call(scripts.mixed(), &self.buckets, self.owner)
        };
        let texts = if scripts.per_key() { self.buckets.len() } else { 0 };
        let call = call.replying(texts.saturating_mul(TOLD_OVERRIDE));
        // Among several requests, there is no room for the texts of overrides.
        if has_applied { call } else { call.sharing(self.reply_len()) }
    }

    /// Reads the verdict in Redis' reply.
    ///
    /// # Errors
    /// Where the reply is not of the script's form, or contradicts itself.
    pub fn read(&self, reply: &Reply) -> Result<Verdict, MalformedReply> {
        let malformed = || MalformedReply::new(self.reply_len(), reply);
        let (admitted, now, numbers) = read(reply).ok_or_else(malformed)?;
        let state = if self.is_plain() { single_state } else { triple_state };
        let verdict = self.verdict(now, |nth| state(numbers, nth));
        let is_consistent = |verdict: &Verdict| verdict.admitted == admitted && numbers.len() == self.reply_len();
        verdict.filter(is_consistent).ok_or_else(malformed)
    }

    /// The state of the bucket at `nth` before the request, in a reply that was [read](Self::read).
    #[must_use]
    pub fn state_before(&self, reply: &Reply, nth: usize) -> Option<BucketState> {
        let numbers = Integers::of(reply)?;
        let is_plain = numbers.len() == self.buckets.len().saturating_add(1);
        if is_plain { single_state(numbers, nth) } else { triple_state(numbers, nth) }
    }

    /// Reads the texts of overrides in Redis' reply, of each bucket whose key has another override than the one that has
    /// been applied; empty where the key has none. `None` where the reply is of another form: a verdict.
    #[must_use]
    pub fn overrides<'a>(&'a self, reply: &'a Reply) -> Option<impl Iterator<Item = (&'a BucketCheck, &'a [u8])>> {
        let Reply::Array(texts) = reply else { return None };
        let is_text = |text: &Reply| matches!(text, Reply::Bulk(_) | Reply::Nil);
        let others = self.buckets.iter().zip(texts).filter_map(|(check, text)| match text {
            Reply::Bulk(text) => Some((check, text.as_slice())),
            _ => None,
        });
        (texts.len() == self.buckets.len() && texts.iter().all(is_text)).then_some(others)
    }

    /// Decides the request, given each bucket's state at `now`: the specification of the scripts.
    ///
    /// With fewer states than buckets: a denial without outcomes.
    #[must_use]
    pub fn decide(&self, now: Micros, states: &[BucketState]) -> Verdict {
        self.verdict(now, |nth| states.get(nth).copied()).unwrap_or_default()
    }

    /// The verdict, given each bucket's state: the request spends from all buckets, or from none. `None` where a state is
    /// missing.
    fn verdict(&self, now: Micros, state: impl Fn(usize) -> Option<BucketState>) -> Option<Verdict> {
        let outcome = |(nth, check): (usize, &BucketCheck), goes_on: bool| {
            let decision = check.algorithm.decide(now, state(nth)?, check.cost);
            Some(check.outcome(&decision, goes_on))
        };
        let buckets = || self.buckets.iter().enumerate();
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(self.buckets.len());
        for bucket in buckets() {
            outcomes.push(outcome(bucket, true)?);
        }
        let admitted = outcomes.iter().all(|outcome| !outcome.enforced || outcome.admitted);
        let denying: Vec<usize> =
            outcomes.iter().filter(|outcome| !outcome.admitted).map(|outcome| outcome.limit).collect();
        if !denying.is_empty() {
            for (bucket, known) in buckets().zip(&mut outcomes) {
                if !admitted || denying.contains(&known.limit) {
                    *known = outcome(bucket, false)?;
                }
            }
        }
        Some(Verdict { admitted, now, outcomes, is_local: false })
    }

    /// Slots that the request holds after `verdict`. `None` where it holds none.
    #[must_use]
    pub fn held_slots(&self, verdict: &Verdict) -> Option<HeldSlots> {
        let spent = verdict.outcomes.iter().map(|outcome| outcome.spent);
        self.slots(self.buckets.iter().zip(spent).filter(|(_, spent)| *spent).map(|(check, _)| check))
    }

    /// Slots that the request may hold where Redis' reply is lost: they must be released. `None` where there are none.
    #[must_use]
    pub fn possible_slots(&self) -> Option<HeldSlots> {
        self.slots(self.buckets.iter())
    }

    /// Reservations that the request has after `verdict`, with its estimates. `None` where it has none.
    #[must_use]
    pub fn reservations(&self, verdict: &Verdict) -> Option<Reservations> {
        let spent = verdict.outcomes.iter().map(|outcome| outcome.spent);
        let own = self.buckets.iter().zip(spent).filter(|(_, spent)| *spent).map(|(check, _)| check);
        Reservations::new(self.owner, own.filter_map(Reservation::of))
    }

    /// Reservations that the request may have where Redis' reply is lost. `None` where there are none.
    #[must_use]
    pub fn possible_reservations(&self) -> Option<Reservations> {
        Reservations::new(self.owner, self.buckets.iter().filter_map(Reservation::of))
    }

    /// The call that refunds the tokens of a held request whose client has gone before its delay was over.
    ///
    /// Redis refunds only buckets from which no other request has spent since: the delays of the requests behind it are
    /// set already, and a refund would let a later request go on at the same time as one of them. `None` where there is
    /// nothing to refund.
    #[must_use]
    pub fn refund_call(&self, verdict: &Verdict, scripts: &Scripts) -> Option<Call> {
        let mut keys: Vec<&[u8]> = Vec::new();
        let mut arguments = Vec::new();
        for (check, outcome) in self.buckets.iter().zip(&verdict.outcomes) {
            if let (Algorithm::TokenBucket(bucket), true) = (check.algorithm, outcome.spent) {
                keys.push(&check.key);
                let (price, per_micro) = (bucket.price(check.cost).0, bucket.rate().per_micro());
                arguments.extend([verdict.now.0, outcome.reset.0, price].map(|number| number.to_string()));
                arguments.extend([bucket.unit().to_string(), per_micro.to_string()]);
            }
        }
        (!keys.is_empty()).then(|| Call::script(scripts.refund(), &keys, &arguments))
    }

    /// The call that gives back what a request spent that was denied by buckets in other hash slots of a cluster.
    /// `None` where it spent nothing but slots, which are released, and reservations, which are settled.
    ///
    /// No bucket becomes fuller than it would be without the request.
    #[must_use]
    #[inline(never)]
    pub fn give_back_call(&self, verdict: &Verdict, scripts: &Scripts) -> Option<Call> {
        let is_given = |(check, outcome): &(&BucketCheck, &Outcome)| {
            outcome.spent && !matches!(check.algorithm, Algorithm::Concurrency(_) | Algorithm::Budget(_))
        };
        let spent: Vec<(&BucketCheck, &Outcome)> =
            self.buckets.iter().zip(&verdict.outcomes).filter(is_given).collect();
        (!spent.is_empty()).then(|| give_back_call(scripts.give_back(), &spent, verdict.now))
    }

    /// Number of integers in the script's reply.
    fn reply_len(&self) -> usize {
        self.buckets.len().saturating_mul(if self.is_plain() { 1 } else { 3 }).saturating_add(1)
    }

    /// Whether the script for token buckets can decide the check. In shadow mode that script takes each window for a
    /// limit of its own.
    fn is_plain(&self) -> bool {
        self.buckets
            .iter()
            .all(|check| matches!(check.algorithm, Algorithm::TokenBucket(_)) && (check.enforced || check.window == 0))
    }

    fn slots<'a>(&self, check: impl Iterator<Item = &'a BucketCheck>) -> Option<HeldSlots> {
        if !self.takes_slots() {
            return None;
        }
        let slots = check.filter(|check| check.cost.0 > 0).filter_map(|check| match check.algorithm {
            Algorithm::Concurrency(concurrency) => Some((check.key.clone(), concurrency.lease())),
            _ => None,
        });
        HeldSlots::new(self.owner, slots)
    }
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU64;

    use super::*;
    use crate::units::Tokens;

    #[test]
    fn a_reply_of_another_form_is_malformed() {
        let one = NonZeroU64::MIN;
        let fixed = Algorithm::FixedWindow(crate::limit::FixedWindow::new(one, Micros::from_secs(1)).unwrap());
        let check = BucketCheck {
            limit: 0,
            window: 0,
            key: Vec::new(),
            algorithm: fixed,
            cost: Tokens(1),
            enforced: true,
            applied: None,
        };
        let check = Check::new(vec![check], SlotOwner::default());
        let listed = |numbers: &[i64]| Reply::Array(numbers.iter().map(|n| Reply::Integer(*n)).collect());
        let packed = |numbers: &[i64]| Reply::Bulk(numbers.iter().flat_map(|n| n.to_be_bytes()).collect());
        let malformed = |reply| check.read(&reply).unwrap_err().to_string();
        for reply in [&listed as &dyn Fn(&[i64]) -> Reply, &packed] {
            assert!(check.read(&reply(&[5, 0, 0, 0])).unwrap().admitted);
            assert!(!check.read(&reply(&[-5, 1, 0, 0])).unwrap().admitted);
            for nonsense in [&[5][..], &[5, 0], &[5, 0, 0, 0, 0], &[5, 1, 0, 0], &[-5, 0, 0, 0], &[5, -1, 0, 0], &[]] {
                let malformed = malformed(reply(nonsense));
                assert!(malformed.starts_with("malformed script reply: expected 4 integers, "), "{malformed}");
            }
        }
        assert!(malformed(Reply::Bulk(vec![1; 31])).ends_with(" found a bulk string of 31 bytes"));
    }
}
