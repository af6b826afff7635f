//! Check of one request against all limits that apply, in one atomic step: it spends from all buckets, or from none.

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::algorithm::{Algorithm, BucketState};
use super::bucket_decision::BucketDecision;
use super::held_slots::{HeldSlots, SlotOwner};
use super::scripts::Scripts;
use super::verdict::{Outcome, Verdict};
use crate::redis::{Call, CallWriter, Integers, Reply, Script};
use crate::units::{Micros, Tokens};

/// Check of one bucket for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketCheck {
    /// The limit's index in the configuration.
    pub limit: usize,
    /// The window's index within the limit. A limit's windows follow each other.
    pub window: usize,
    /// The bucket's key in Redis.
    pub key: Vec<u8>,
    /// The algorithm by which the bucket admits.
    pub algorithm: Algorithm,
    /// Tokens that the request costs.
    pub cost: Tokens,
    /// Whether a denial by this bucket denies the request; not in shadow mode.
    pub enforced: bool,
}

/// Buckets of a request, in the configuration's order of limits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Check {
    buckets: Vec<BucketCheck>,
    owner: SlotOwner,
}

/// Script reply of another form, or one that contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "malformed script reply: expected {expected} integers, the first above 0 only if the others admit, found {found}{}",
    Size(.size)
)]
pub struct MalformedReply {
    expected: usize,
    found: &'static str,
    /// Length of a string or an array, with its unit.
    size: Option<(usize, &'static str)>,
}

struct Size<'a>(&'a Option<(usize, &'static str)>);

impl fmt::Display for Size<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |(len, unit)| write!(f, " of {len} {unit}"))
    }
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

    /// Approximate size in memory, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        let one = |check: &BucketCheck| check.key.len().saturating_add(size_of::<BucketCheck>());
        self.buckets.iter().fold(size_of::<Self>(), |all, check| all.saturating_add(one(check)))
    }

    /// The call by which Redis decides the request.
    #[must_use]
    pub fn call(&self, scripts: &Scripts) -> Call {
        let call = if self.is_plain() {
            plain_call(scripts.token_buckets(), &self.buckets)
        } else {
            mixed_call(scripts.mixed(), &self.buckets, self.owner)
        };
        call.sharing(self.reply_len())
    }

    /// Reads the verdict in Redis' reply.
    ///
    /// # Errors
    /// Where the reply is not of the script's form, or contradicts itself.
    pub fn read(&self, reply: &Reply) -> Result<Verdict, MalformedReply> {
        let malformed = MalformedReply::new(self.reply_len(), reply);
        let Some((admitted, now, numbers)) = read(reply) else { return Err(malformed) };
        let states = if self.is_plain() { single_states(numbers) } else { triple_states(numbers) };
        let Some(states) = states.filter(|states| states.len() == self.buckets.len()) else { return Err(malformed) };
        let verdict = self.decide(now, &states);
        if verdict.admitted == admitted { Ok(verdict) } else { Err(malformed) }
    }

    /// Decides the request, given each bucket's state at `now`: the specification of the scripts.
    #[must_use]
    pub fn decide(&self, now: Micros, states: &[BucketState]) -> Verdict {
        let decisions = self.buckets.iter().zip(states);
        let decisions: Vec<(&BucketCheck, BucketDecision)> =
            decisions.map(|(check, &state)| (check, check.algorithm.decide(now, state, check.cost))).collect();
        let admitted = decisions.iter().all(|(check, decision)| !check.enforced || decision.admits);
        let fits = |limit: usize| decisions.iter().all(|(check, decision)| check.limit != limit || decision.admits);
        let outcomes = decisions.iter().map(|(check, decision)| check.outcome(decision, admitted && fits(check.limit)));
        Verdict { admitted, now, outcomes: outcomes.collect() }
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
        let slots = check.filter(|check| check.cost.0 > 0).filter_map(|check| match check.algorithm {
            Algorithm::Concurrency(concurrency) => Some((check.key.clone(), concurrency.lease())),
            _ => None,
        });
        HeldSlots::new(self.owner, slots)
    }
}

impl BucketCheck {
    /// Whether the bucket may hold the request until its tokens exist.
    #[must_use]
    pub fn may_delay(&self) -> bool {
        matches!(self.algorithm, Algorithm::TokenBucket(bucket) if self.enforced && bucket.max_delay() > Micros::ZERO)
    }

    /// Sets the bucket's longest delay to zero, so that it admits at once or not at all.
    pub fn never_delays(&mut self) {
        if let Algorithm::TokenBucket(bucket) = self.algorithm {
            self.algorithm = Algorithm::TokenBucket(bucket.with_max_delay(Micros::ZERO).unwrap_or(bucket));
        }
    }

    /// The denial of a bucket that an operator has blocked for `wait`, `None` until further notice: Redis is not
    /// called.
    ///
    /// A calendar period, whose length depends on the date, has its length in January 1970.
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

    /// The outcome at `now` for a request that spends nothing, given the bucket's state.
    pub(super) fn peek(&self, now: Micros, state: BucketState) -> Outcome {
        self.outcome(&self.algorithm.decide(now, state, self.cost), false)
    }

    /// The outcome of `decision`: a request that goes on pays its cost and takes its grant, another does neither.
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

    /// Writes the bucket's four arguments of the script for token buckets: the capacity, with the longest delay if
    /// there is one; the cost; the units of a token; and the rate, with flags for the last bucket and for an enforced
    /// limit.
    fn write_plain(&self, is_last: bool, call: &mut CallWriter) {
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
        // At most 2⁵² and the flags, as a rate is at most 2⁵⁰ units per µs.
        call.number(rate.per_micro().wrapping_mul(4) | flags);
    }

    /// Writes six of the bucket's seven arguments of the mixed script: all but the owner.
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
            Algorithm::LeasedBucket(leased) => call.bytes(leased.lease_argument().as_bytes()),
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

/// Starts a call with the keys of `buckets`; `for_each` arguments for each of them are to follow.
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
fn plain_call(script: &Arc<Script>, buckets: &[BucketCheck]) -> Call {
    let mut call = writer(script, buckets, 4);
    for_each_and_last(buckets, |check, is_last| check.write_plain(is_last, &mut call));
    call.finish()
}

/// The call of a script with the mixed script's arguments.
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

/// Bucket states in a reply of the script for token buckets: one integer each, after the first. `None` where an integer
/// is negative.
fn single_states(integers: Integers<'_>) -> Option<Vec<BucketState>> {
    let state = |nth| Some(BucketState { used: natural(integers, nth)?, more: [0, 0] });
    (1..integers.len()).map(state).collect()
}

/// Bucket states in a reply of the mixed script: three integers each, after the first. `None` where an integer is
/// negative, or missing.
pub(super) fn triple_states(integers: Integers<'_>) -> Option<Vec<BucketState>> {
    let state = |nth: usize| {
        let [used, x, y] = [0, 1, 2].map(|more| natural(integers, nth.saturating_add(more)));
        Some(BucketState { used: used?, more: [x?, y?] })
    };
    (1..integers.len()).step_by(3).map(state).collect()
}

impl MalformedReply {
    pub(super) fn new(expected: usize, reply: &Reply) -> Self {
        let size = match reply {
            Reply::Bulk(bytes) => Some((bytes.len(), "bytes")),
            Reply::Array(items) => Some((items.len(), "items")),
            _ => None,
        };
        Self { expected, found: reply.kind(), size }
    }
}

/// Reads a reply of integers: whether it admits, Redis' time, and all integers. The first integer is the time, negative
/// for a denial.
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
    fn a_bucket_that_an_operator_blocked_denies_whatever_it_holds() {
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
                assert!(malformed.starts_with("malformed script reply: expected 4 integers, "), "{malformed}");
            }
        }
        assert!(malformed(Reply::Bulk(vec![1; 31])).ends_with(" found a bulk string of 31 bytes"));
    }
}
