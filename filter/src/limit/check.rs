//! All limits that one request runs into, decided in one atomic step: spent from all, or from none.

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::algorithm::{Algorithm, BucketState};
use super::bucket_decision::BucketDecision;
use super::held_slots::{HeldSlots, SlotOwner};
use super::scripts::Scripts;
use super::verdict::{Outcome, Verdict};
use crate::redis::{Call, CallWriter, Integers, Reply, Script};
use crate::units::{Micros, Tokens};

/// One bucket that the request runs into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketCheck {
    /// The limit's index in the configuration.
    pub limit: usize,
    /// The bucket's place among the limit's windows. The windows of a limit follow each other.
    pub window: usize,
    /// Where it is kept.
    pub key: Vec<u8>,
    /// How it admits.
    pub algorithm: Algorithm,
    /// Tokens that the request costs.
    pub cost: Tokens,
    /// Whether a denial counts; not so in shadow mode.
    pub enforced: bool,
}

/// A request's limits, in the configuration's order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Check {
    buckets: Vec<BucketCheck>,
    owner: SlotOwner,
}

/// A reply that no script of ours gives.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected {expected} integers, listed or packed, the first above 0 where the rest admit, found {found} of others"
)]
pub struct MalformedReply {
    expected: usize,
    found: &'static str,
}

impl Check {
    /// The buckets that the request runs into, and the name under which it takes slots in those of concurrency
    /// limits. None at all is a check that admits.
    #[must_use]
    pub fn new(buckets: Vec<BucketCheck>, owner: SlotOwner) -> Self {
        Self { buckets, owner }
    }

    /// Whether no limit applies.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// The buckets that the request runs into.
    pub fn buckets(&self) -> impl Iterator<Item = &BucketCheck> {
        self.buckets.iter()
    }

    /// The bucket that an outcome is of.
    #[must_use]
    pub fn of(&self, outcome: &Outcome) -> Option<&BucketCheck> {
        self.buckets.iter().find(|check| (check.limit, check.window) == (outcome.limit, outcome.window))
    }

    /// In whose name slots are taken.
    #[must_use]
    pub fn owner(&self) -> SlotOwner {
        self.owner
    }

    /// Whether a request that is admitted may hold slots.
    #[must_use]
    pub fn takes_slots(&self) -> bool {
        self.buckets.iter().any(|check| check.cost.0 > 0 && matches!(check.algorithm, Algorithm::Concurrency(_)))
    }

    /// Bytes that it takes in memory, about.
    #[must_use]
    pub fn size(&self) -> usize {
        let one = |check: &BucketCheck| check.key.len().saturating_add(size_of::<BucketCheck>());
        self.buckets.iter().fold(size_of::<Self>(), |all, check| all.saturating_add(one(check)))
    }

    /// The call that has Redis decide.
    #[must_use]
    pub fn call(&self, scripts: &Scripts) -> Call {
        let call = if self.is_lean() {
            lean_call(scripts.token_buckets(), &self.buckets)
        } else {
            mixed_call(scripts.mixed(), &self.buckets, self.owner)
        };
        call.sharing(self.reply_len())
    }

    /// The verdict in Redis' reply.
    ///
    /// # Errors
    /// Where the reply is not of the script's form, or contradicts itself.
    pub fn read(&self, reply: &Reply) -> Result<Verdict, MalformedReply> {
        let malformed = MalformedReply::new(self.reply_len(), reply);
        let Some((admitted, now, numbers)) = read(reply) else { return Err(malformed) };
        let seen = if self.is_lean() { in_ones(numbers) } else { in_threes(numbers) };
        let Some(seen) = seen.filter(|seen| seen.len() == self.buckets.len()) else { return Err(malformed) };
        let verdict = self.decide(now, &seen);
        if verdict.admitted == admitted { Ok(verdict) } else { Err(malformed) }
    }

    /// The specification of the decision: given what was seen in each bucket at `now`, what becomes of the request.
    #[must_use]
    pub fn decide(&self, now: Micros, seen: &[BucketState]) -> Verdict {
        let decisions = self.buckets.iter().zip(seen);
        let decisions: Vec<(&BucketCheck, BucketDecision)> =
            decisions.map(|(check, &seen)| (check, check.algorithm.decide(now, seen, check.cost))).collect();
        let admitted = decisions.iter().all(|(check, decision)| !check.enforced || decision.admits);
        let fits = |limit: usize| decisions.iter().all(|(check, decision)| check.limit != limit || decision.admits);
        let outcomes = decisions.iter().map(|(check, decision)| check.outcome(decision, admitted && fits(check.limit)));
        Verdict { admitted, now, outcomes: outcomes.collect() }
    }

    /// The slots that an admitted request holds from now on.
    #[must_use]
    pub fn held_slots(&self, verdict: &Verdict) -> Option<HeldSlots> {
        let spent = verdict.outcomes.iter().map(|outcome| outcome.spent);
        self.slots(self.buckets.iter().zip(spent).filter(|(_, spent)| *spent).map(|(check, _)| check))
    }

    /// The slots that a request may hold of which Redis did not say what became of it. They are to be given back.
    #[must_use]
    pub fn possible_slots(&self) -> Option<HeldSlots> {
        self.slots(self.buckets.iter())
    }

    /// The call that gives the tokens of a held request back, whose client has gone before they came.
    ///
    /// Only where nobody spent from a bucket since: the turns of those who wait behind it are told already, and were
    /// one told a second time, two would leave at once. `None` where there is nothing to give back.
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

    /// Integers in the script's reply.
    fn reply_len(&self) -> usize {
        self.buckets.len().saturating_mul(if self.is_lean() { 1 } else { 3 }).saturating_add(1)
    }

    /// Whether the script for token buckets alone decides it. That one takes windows in shadow mode for limits of
    /// their own.
    fn is_lean(&self) -> bool {
        self.buckets
            .iter()
            .all(|check| matches!(check.algorithm, Algorithm::TokenBucket(_)) && (check.enforced || check.window == 0))
    }

    fn slots<'a>(&self, check: impl Iterator<Item = &'a BucketCheck>) -> Option<HeldSlots> {
        let slots = check.filter(|check| check.cost.0 > 0).filter_map(|check| match check.algorithm {
            Algorithm::Concurrency(concurrency) => Some((check.key.clone(), concurrency.lease())),
            _ => None,
        });
        HeldSlots::new(self.owner, slots)
    }
}

impl BucketCheck {
    /// Whether it may have the request held until its tokens exist.
    #[must_use]
    pub fn may_delay(&self) -> bool {
        matches!(self.algorithm, Algorithm::TokenBucket(bucket) if self.enforced && bucket.max_delay() > Micros::ZERO)
    }

    /// The same bucket, which admits at once or not at all.
    pub fn never_delays(&mut self) {
        if let Algorithm::TokenBucket(bucket) = self.algorithm {
            self.algorithm = Algorithm::TokenBucket(bucket.with_max_delay(Micros::ZERO).unwrap_or(bucket));
        }
    }

    /// What it says where an operator has blocked it for `wait`, or until further notice, and Redis is not asked. Of
    /// a calendar period, whose length is a matter of the date, it has the length in January 1970.
    #[must_use]
    pub fn blocked(&self, wait: Option<Micros>) -> Outcome {
        Outcome {
            admitted: false,
            remaining: Tokens(0),
            retry_after: wait,
            reset: wait.unwrap_or_default(),
            delay: Micros::ZERO,
            ..self.outcome(&self.algorithm.decide(Micros::ZERO, BucketState::default(), self.cost), false)
        }
    }

    /// What it says at `now` to a request that spends nothing, given what Redis saw.
    pub(super) fn look(&self, now: Micros, seen: BucketState) -> Outcome {
        self.outcome(&self.algorithm.decide(now, seen, self.cost), false)
    }

    /// What it says of a request that goes on, so that it pays its cost and takes what it is granted, or does not.
    pub(super) fn outcome(&self, decision: &BucketDecision, goes_on: bool) -> Outcome {
        let spent = goes_on && self.cost.0 > 0;
        let granted = decision.granted.filter(|_| goes_on);
        let level = if spent || granted.is_some() { decision.after } else { decision.before };
        Outcome {
            limit: self.limit,
            window: self.window,
            cost: self.cost,
            capacity: decision.capacity,
            period: decision.period,
            admitted: decision.admits,
            enforced: self.enforced,
            spent,
            remaining: level.remaining,
            retry_after: decision.retry_after,
            reset: level.reset,
            delay: decision.delay,
            granted,
        }
    }

    /// Its four of the arguments of the script for token buckets: the capacity, with the longest delay if there is one,
    /// the cost, and the rate, together with whether it is enforced, and the last of its request.
    fn write_lean(&self, is_last: bool, call: &mut CallWriter) {
        let Algorithm::TokenBucket(bucket) = &self.algorithm else { return };
        let (capacity, rate) = (bucket.capacity().0, bucket.rate());
        let flags = match (is_last, self.enforced) {
            (false, false) => 0,
            (false, true) => 1,
            (true, false) => 2,
            (true, true) => 3,
        };
        let cost = self.cost.0.min(capacity.saturating_add(1));
        match bucket.max_delay() {
            Micros::ZERO => {
                call.number(capacity);
                call.number(cost);
                call.number(rate.per_token());
            }
            delay => {
                call.bytes(format!("{capacity} {}", delay.0).as_bytes());
                call.number(cost);
                call.bytes(bucket.unit().to_string().as_bytes());
            }
        }
        // Below 2⁵².
        call.number(rate.per_micro().wrapping_mul(4) | flags);
    }

    /// Its six of the mixed script's, without the owner.
    fn write_mixed(&self, call: &mut CallWriter) {
        let arguments = self.algorithm.arguments(self.cost);
        let group = if self.enforced { 0 } else { self.limit.saturating_add(1) };
        let [x, y] = arguments.more;
        call.bytes(arguments.letter.as_bytes());
        call.number(u64::try_from(group).unwrap_or(u64::MAX));
        call.number(arguments.cost);
        call.number(arguments.limit);
        write_signed(call, x);
        match &self.algorithm {
            Algorithm::LeasedBucket(leased) => call.bytes(leased.asks().as_bytes()),
            _ => write_signed(call, y),
        }
    }
}

fn write_signed(call: &mut CallWriter, number: i64) {
    match u64::try_from(number) {
        Ok(number) => call.number(number),
        Err(_) => call.bytes(number.to_string().as_bytes()),
    }
}

/// A call of these buckets, their keys written; so many arguments for each to come.
fn writer(script: &Arc<Script>, buckets: &[BucketCheck], for_each: usize) -> CallWriter {
    let each = |size: usize, check: &BucketCheck| {
        size.saturating_add(check.key.len()).saturating_add(for_each.saturating_mul(16))
    };
    let mut call =
        Call::write_script(script, buckets.len(), buckets.len().saturating_mul(for_each), buckets.iter().fold(0, each));
    buckets.iter().for_each(|check| call.bytes(&check.key));
    call
}

/// The call of the script for token buckets.
fn lean_call(script: &Arc<Script>, buckets: &[BucketCheck]) -> Call {
    let mut call = writer(script, buckets, 4);
    for_each_and_last(buckets, |check, is_last| check.write_lean(is_last, &mut call));
    call.finish()
}

/// The call of a script that takes what the mixed one does.
pub(super) fn mixed_call(script: &Arc<Script>, buckets: &[BucketCheck], owner: SlotOwner) -> Call {
    let mut call = writer(script, buckets, 7);
    for_each_and_last(buckets, |check, is_last| {
        check.write_mixed(&mut call);
        call.bytes(if is_last { owner.as_bytes() } else { b"" });
    });
    call.finish()
}

fn for_each_and_last(buckets: &[BucketCheck], mut write: impl FnMut(&BucketCheck, bool)) {
    if let Some((last, others)) = buckets.split_last() {
        others.iter().for_each(|check| write(check, false));
        write(last, true);
    }
}

/// What the script for token buckets replies of each, after the first integer.
fn in_ones(integers: Integers<'_>) -> Option<Vec<BucketState>> {
    let seen = |nth| Some(BucketState { used: natural(integers, nth)?, more: [0, 0] });
    (1..integers.len()).map(seen).collect()
}

/// What such a script replies of each bucket, after the first integer. `None` where that is something else.
pub(super) fn in_threes(integers: Integers<'_>) -> Option<Vec<BucketState>> {
    let seen = |nth: usize| {
        let [used, x, y] = [0, 1, 2].map(|more| natural(integers, nth.saturating_add(more)));
        Some(BucketState { used: used?, more: [x?, y?] })
    };
    (1..integers.len()).step_by(3).map(seen).collect()
}

impl MalformedReply {
    pub(super) fn new(expected: usize, reply: &Reply) -> Self {
        Self { expected, found: reply.kind() }
    }
}

/// Whether it admits, Redis' time, and all integers, the first of which says both.
pub(super) fn read(reply: &Reply) -> Option<(bool, Micros, Integers<'_>)> {
    let integers = Integers::of(reply)?;
    let first = integers.get(0)?;
    Some((first > 0, Micros(first.unsigned_abs()), integers))
}

fn natural(integers: Integers<'_>, index: usize) -> Option<u64> {
    u64::try_from(integers.get(index)?).ok()
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU64;

    use super::*;
    use crate::limit::TokenBucket;

    #[test]
    fn what_an_operator_blocked_denies_whatever_its_bucket_holds() {
        let ten = NonZeroU64::new(10).unwrap();
        let bucket = TokenBucket::new(ten, ten, Micros::from_secs(60)).unwrap();
        let algorithm = Algorithm::TokenBucket(bucket);
        let check = BucketCheck { limit: 3, window: 0, key: Vec::new(), algorithm, cost: Tokens(1), enforced: true };
        let blocked = check.blocked(Some(Micros::from_secs(9)));
        assert_eq!((blocked.limit, blocked.admitted, blocked.spent), (3, false, false));
        assert_eq!((blocked.capacity, blocked.period), (Tokens(10), Some(Micros::from_secs(60))));
        assert_eq!((blocked.remaining, blocked.retry_after), (Tokens(0), Some(Micros::from_secs(9))));
        assert_eq!(check.blocked(None).retry_after, None);
    }

    #[test]
    fn a_reply_of_another_form_is_malformed() {
        let one = NonZeroU64::MIN;
        let fixed = Algorithm::FixedWindow(crate::limit::FixedWindow::new(one, Micros::from_secs(1)).unwrap());
        let check =
            BucketCheck { limit: 0, window: 0, key: Vec::new(), algorithm: fixed, cost: Tokens(1), enforced: true };
        let check = Check::new(vec![check], SlotOwner::default());
        let listed = |numbers: &[i64]| Reply::Array(numbers.iter().map(|n| Reply::Integer(*n)).collect());
        let packed = |numbers: &[i64]| Reply::Bulk(numbers.iter().flat_map(|n| n.to_be_bytes()).collect());
        let malformed = |reply| check.read(&reply).unwrap_err().to_string();
        for reply in [&listed as &dyn Fn(&[i64]) -> Reply, &packed] {
            assert!(check.read(&reply(&[5, 0, 0, 0])).unwrap().admitted);
            assert!(!check.read(&reply(&[-5, 1, 0, 0])).unwrap().admitted);
            for nonsense in [&[5][..], &[5, 0], &[5, 0, 0, 0, 0], &[5, 1, 0, 0], &[-5, 0, 0, 0], &[5, -1, 0, 0], &[]] {
                let malformed = malformed(reply(nonsense));
                assert!(
                    malformed.starts_with("expected 4 integers, listed or packed, the first above 0"),
                    "{malformed}"
                );
            }
        }
        assert!(malformed(Reply::Bulk(vec![1; 31])).ends_with(" found a bulk string of others"));
    }
}
