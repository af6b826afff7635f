//! All limits that one request runs into, decided in one atomic step: spent from all, or from none.

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::algorithm::{Algorithm, Seen};
use super::holds::{Holder, Holds};
use super::judgement::Judgement;
use super::scripts::Scripts;
use super::verdict::{Outcome, Verdict};
use crate::redis::{Call, CallWriter, Integers, Reply, Script};
use crate::units::{Micros, Tokens};

/// One bucket that the request runs into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
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
    asked: Vec<Asked>,
    holder: Holder,
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
    /// The buckets that the request runs into, and the name under which it takes places in those of concurrency
    /// limits. None at all is a check that admits.
    #[must_use]
    pub fn new(asked: Vec<Asked>, holder: Holder) -> Self {
        Self { asked, holder }
    }

    /// Whether no limit applies.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    /// The buckets that the request runs into.
    pub fn asked(&self) -> impl Iterator<Item = &Asked> {
        self.asked.iter()
    }

    /// The bucket that an outcome is of.
    #[must_use]
    pub fn of(&self, outcome: &Outcome) -> Option<&Asked> {
        self.asked.iter().find(|asked| (asked.limit, asked.window) == (outcome.limit, outcome.window))
    }

    /// In whose name places are taken.
    #[must_use]
    pub fn holder(&self) -> Holder {
        self.holder
    }

    /// Whether a request that is admitted may hold places.
    #[must_use]
    pub fn takes_places(&self) -> bool {
        self.asked.iter().any(|asked| asked.cost.0 > 0 && matches!(asked.algorithm, Algorithm::Concurrency(_)))
    }

    /// Bytes that it takes in memory, about.
    #[must_use]
    pub fn size(&self) -> usize {
        let one = |asked: &Asked| asked.key.len().saturating_add(size_of::<Asked>());
        self.asked.iter().fold(size_of::<Self>(), |all, asked| all.saturating_add(one(asked)))
    }

    /// The call that has Redis decide.
    #[must_use]
    pub fn call(&self, scripts: &Scripts) -> Call {
        let call = if self.is_lean() {
            lean_call(scripts.token_buckets(), &self.asked)
        } else {
            mixed_call(scripts.mixed(), &self.asked, self.holder)
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
        let Some(seen) = seen.filter(|seen| seen.len() == self.asked.len()) else { return Err(malformed) };
        let verdict = self.decide(now, &seen);
        if verdict.admitted == admitted { Ok(verdict) } else { Err(malformed) }
    }

    /// The specification of the decision: given what was seen in each bucket at `now`, what becomes of the request.
    #[must_use]
    pub fn decide(&self, now: Micros, seen: &[Seen]) -> Verdict {
        let judged = self.asked.iter().zip(seen);
        let judged: Vec<(&Asked, Judgement)> =
            judged.map(|(asked, &seen)| (asked, asked.algorithm.judge(now, seen, asked.cost))).collect();
        let admitted = judged.iter().all(|(asked, judgement)| !asked.enforced || judgement.admits);
        let fits = |limit: usize| judged.iter().all(|(asked, judgement)| asked.limit != limit || judgement.admits);
        let outcomes = judged.iter().map(|(asked, judgement)| asked.outcome(judgement, admitted && fits(asked.limit)));
        Verdict { admitted, now, outcomes: outcomes.collect() }
    }

    /// The places that an admitted request holds from now on.
    #[must_use]
    pub fn holds(&self, verdict: &Verdict) -> Option<Holds> {
        let spent = verdict.outcomes.iter().map(|outcome| outcome.spent);
        self.places(self.asked.iter().zip(spent).filter(|(_, spent)| *spent).map(|(asked, _)| asked))
    }

    /// The places that a request may hold of which Redis did not say what became of it. They are to be given back.
    #[must_use]
    pub fn possible_holds(&self) -> Option<Holds> {
        self.places(self.asked.iter())
    }

    /// The call that gives the tokens of a held request back, whose client has gone before they came.
    ///
    /// Only where nobody spent from a bucket since: the turns of those who wait behind it are told already, and were
    /// one told a second time, two would leave at once. `None` where there is nothing to give back.
    #[must_use]
    pub fn refund_call(&self, verdict: &Verdict, scripts: &Scripts) -> Option<Call> {
        let mut keys: Vec<&[u8]> = Vec::new();
        let mut arguments = Vec::new();
        for (asked, outcome) in self.asked.iter().zip(&verdict.outcomes) {
            if let (Algorithm::TokenBucket(bucket), true) = (asked.algorithm, outcome.spent) {
                keys.push(&asked.key);
                let (price, per_micro) = (bucket.price(asked.cost).0, bucket.rate().per_micro());
                arguments.extend([verdict.now.0, outcome.reset.0, price].map(|number| number.to_string()));
                arguments.extend([bucket.unit().to_string(), per_micro.to_string()]);
            }
        }
        (!keys.is_empty()).then(|| Call::script(scripts.refund(), &keys, &arguments))
    }

    /// Integers in the script's reply.
    fn reply_len(&self) -> usize {
        self.asked.len().saturating_mul(if self.is_lean() { 1 } else { 3 }).saturating_add(1)
    }

    /// Whether the script for token buckets alone decides it. That one takes windows in shadow mode for limits of
    /// their own.
    fn is_lean(&self) -> bool {
        self.asked
            .iter()
            .all(|asked| matches!(asked.algorithm, Algorithm::TokenBucket(_)) && (asked.enforced || asked.window == 0))
    }

    fn places<'a>(&self, asked: impl Iterator<Item = &'a Asked>) -> Option<Holds> {
        let places = asked.filter(|asked| asked.cost.0 > 0).filter_map(|asked| match asked.algorithm {
            Algorithm::Concurrency(concurrency) => Some((asked.key.clone(), concurrency.lease())),
            _ => None,
        });
        Holds::new(self.holder, places)
    }
}

impl Asked {
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
            ..self.outcome(&self.algorithm.judge(Micros::ZERO, Seen::default(), self.cost), false)
        }
    }

    /// What it says at `now` to a request that spends nothing, given what Redis saw.
    pub(super) fn look(&self, now: Micros, seen: Seen) -> Outcome {
        self.outcome(&self.algorithm.judge(now, seen, self.cost), false)
    }

    /// What it says of a request that goes on, so that it pays its cost and takes what it is granted, or does not.
    pub(super) fn outcome(&self, judgement: &Judgement, goes_on: bool) -> Outcome {
        let spent = goes_on && self.cost.0 > 0;
        let granted = judgement.granted.filter(|_| goes_on);
        let level = if spent || granted.is_some() { judgement.after } else { judgement.before };
        Outcome {
            limit: self.limit,
            window: self.window,
            cost: self.cost,
            capacity: judgement.capacity,
            period: judgement.period,
            admitted: judgement.admits,
            enforced: self.enforced,
            spent,
            remaining: level.remaining,
            retry_after: judgement.retry_after,
            reset: level.reset,
            delay: judgement.delay,
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

    /// Its six of the mixed script's, without the holder.
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
fn writer(script: &Arc<Script>, asked: &[Asked], for_each: usize) -> CallWriter {
    let each =
        |size: usize, asked: &Asked| size.saturating_add(asked.key.len()).saturating_add(for_each.saturating_mul(16));
    let mut call =
        Call::write_script(script, asked.len(), asked.len().saturating_mul(for_each), asked.iter().fold(0, each));
    asked.iter().for_each(|asked| call.bytes(&asked.key));
    call
}

/// The call of the script for token buckets.
fn lean_call(script: &Arc<Script>, asked: &[Asked]) -> Call {
    let mut call = writer(script, asked, 4);
    for_each_and_last(asked, |asked, is_last| asked.write_lean(is_last, &mut call));
    call.finish()
}

/// The call of a script that takes what the mixed one does.
pub(super) fn mixed_call(script: &Arc<Script>, asked: &[Asked], holder: Holder) -> Call {
    let mut call = writer(script, asked, 7);
    for_each_and_last(asked, |asked, is_last| {
        asked.write_mixed(&mut call);
        call.bytes(if is_last { holder.as_bytes() } else { b"" });
    });
    call.finish()
}

fn for_each_and_last(asked: &[Asked], mut write: impl FnMut(&Asked, bool)) {
    if let Some((last, others)) = asked.split_last() {
        others.iter().for_each(|asked| write(asked, false));
        write(last, true);
    }
}

/// What the script for token buckets replies of each, after the first integer.
fn in_ones(integers: Integers<'_>) -> Option<Vec<Seen>> {
    let seen = |nth| Some(Seen { used: natural(integers, nth)?, more: [0, 0] });
    (1..integers.len()).map(seen).collect()
}

/// What such a script replies of each bucket, after the first integer. `None` where that is something else.
pub(super) fn in_threes(integers: Integers<'_>) -> Option<Vec<Seen>> {
    let seen = |nth: usize| {
        let [used, x, y] = [0, 1, 2].map(|more| natural(integers, nth.saturating_add(more)));
        Some(Seen { used: used?, more: [x?, y?] })
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
        let asked = Asked { limit: 3, window: 0, key: Vec::new(), algorithm, cost: Tokens(1), enforced: true };
        let blocked = asked.blocked(Some(Micros::from_secs(9)));
        assert_eq!((blocked.limit, blocked.admitted, blocked.spent), (3, false, false));
        assert_eq!((blocked.capacity, blocked.period), (Tokens(10), Some(Micros::from_secs(60))));
        assert_eq!((blocked.remaining, blocked.retry_after), (Tokens(0), Some(Micros::from_secs(9))));
        assert_eq!(asked.blocked(None).retry_after, None);
    }

    #[test]
    fn a_reply_of_another_form_is_malformed() {
        let one = NonZeroU64::MIN;
        let fixed = Algorithm::FixedWindow(crate::limit::FixedWindow::new(one, Micros::from_secs(1)).unwrap());
        let asked = Asked { limit: 0, window: 0, key: Vec::new(), algorithm: fixed, cost: Tokens(1), enforced: true };
        let check = Check::new(vec![asked], Holder::default());
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
