//! Model of the scripts at the level of commands: the keys and arguments of a call in, Redis' reply out.
//!
//! [`Model`] decides a [`Check`](super::Check) that a test has at hand. A worker sends commands instead: this module
//! reads their arguments back, runs the specification of each algorithm, and encodes the reply as the Lua scripts do. The
//! worker decides the request a second time, from the reply.

use alloc::vec::Vec;

use super::bucket::{BucketCheck, limit_key};
use super::known_script::KnownScript;
use super::model::{Model, State};
use crate::limit::algorithm::{
    Algorithm, BucketState, Budget, Concurrency, FixedWindow, LeasedBucket, Quota, Shape, SlidingLog, SlidingWindow,
    SlotOwner, TokenState, Units,
};
use crate::redis::Reply;
use crate::units::{Micros, Tokens};

/// Longest text of an override that the scripts tell, in bytes.
const MAX_TEXT: usize = 1_025;
/// Bytes of texts in the reply to several requests, at most.
const MAX_TEXTS: usize = 16_384;

/// Call of a script.
#[derive(Debug, Clone, Copy)]
pub struct ScriptCall<'a> {
    /// The script.
    pub script: KnownScript,
    /// Keys: `KEYS` in Lua.
    pub keys: &'a [Vec<u8>],
    /// Arguments: `ARGV` in Lua.
    pub arguments: &'a [Vec<u8>],
}

impl Model {
    /// Returns Redis' reply to a call at `now` by its clock. `texts` returns the text of the override of a limit's key.
    ///
    /// Arguments that no worker sends get an error reply.
    pub fn reply(&mut self, now: Micros, call: ScriptCall<'_>, texts: &dyn Fn(&[u8]) -> Option<Vec<u8>>) -> Reply {
        self.expire(now, call.keys);
        let reply = match call.script {
            KnownScript::TokenBuckets { per_key } => self.decide_all(now, call, 4, per_key, texts),
            KnownScript::Mixed { per_key } => self.decide_all(now, call, 7, per_key, texts),
            KnownScript::Refund => self.refund_all(call),
            KnownScript::Release => self.release_all(call.keys, call.arguments),
            KnownScript::Renew => self.renew_all(now, call),
            KnownScript::GiveBack => self.give_back_all(now, call),
            KnownScript::Post => self.post_all(now, call),
            KnownScript::Heal => self.heal_all(now, call),
            KnownScript::Heartbeat => self.heartbeat(now, call),
            KnownScript::Settle => self.settle_all(now, call),
            KnownScript::RenewBudgets => self.renew_budgets_all(now, call),
        };
        reply.unwrap_or_else(malformed)
    }

    /// Forgets the token buckets whose keys have expired at `now`.
    ///
    /// A key expires when its bucket is full at the rate of the last writer. A bucket of another rate may depend on it.
    fn expire(&mut self, now: Micros, keys: &[Vec<u8>]) {
        if self.keeps_keys {
            return;
        }
        for key in keys {
            let state = self.bucket(key);
            if state.expires.is_some_and(|at| at <= now) {
                (state.tokens, state.expires) = (None, None);
            }
        }
    }

    /// Returns the reply to `ZREM`: releases slots of one bucket by their names.
    pub fn release_slots(&mut self, key: &[u8], names: &[Vec<u8>]) -> Reply {
        let keys = vec![key.to_vec(); names.len()];
        self.release_all(&keys, names).unwrap_or_else(malformed)
    }

    fn decide_all(
        &mut self,
        now: Micros,
        call: ScriptCall<'_>,
        width: usize,
        per_key: bool,
        texts: &dyn Fn(&[u8]) -> Option<Vec<u8>>,
    ) -> Option<Reply> {
        let (arguments, applied) = call.arguments.split_at_checked(width.checked_mul(call.keys.len())?)?;
        let buckets = call.keys.iter().zip(arguments.chunks(width)).enumerate();
        let buckets: Vec<Bucket<'_>> =
            buckets.map(|(place, (key, arguments))| Bucket::read(place, key, arguments)).collect::<Option<_>>()?;
        let (mut elements, mut is_plain, mut told) = (Vec::new(), true, 0_usize);
        for request in buckets.chunk_by(|bucket, _| !bucket.is_last) {
            let others = if per_key { texts_not_applied(request, applied, texts) } else { None };
            match others {
                Some(texts) if request.len() == buckets.len() => return Some(Reply::Array(texts)),
                Some(texts) => {
                    told = texts.iter().fold(told, |sum, text| sum.saturating_add(length(text)));
                    let texts = if told > MAX_TEXTS { vec![Reply::Nil; texts.len()] } else { texts };
                    elements.push(Reply::Array(texts));
                    is_plain = false;
                }
                None => elements.extend(self.decide_one(now, request, width)?.into_iter().map(Reply::Integer)),
            }
        }
        let packed = || elements.iter().flat_map(|element| integer(element).to_be_bytes()).collect();
        Some(if is_plain { Reply::Bulk(packed()) } else { Reply::Array(elements) })
    }

    /// Decides one request: spends from every bucket, or from none. Returns the integers of its reply.
    fn decide_one(&mut self, now: Micros, request: &[Bucket<'_>], width: usize) -> Option<Vec<i64>> {
        let owner = request.last()?.owner;
        let states: Vec<BucketState> =
            request.iter().map(|bucket| bucket.look(self.bucket(bucket.key), now, owner)).collect();
        let fits = |group: usize| {
            let mut of_group = request.iter().zip(&states).filter(|(bucket, _)| bucket.group == group);
            of_group.all(|(bucket, state)| state.used.saturating_add(bucket.cost) <= bucket.limit)
        };
        let admitted = fits(ENFORCED);
        let mut reply = vec![signed(now.0)?];
        for (bucket, state) in request.iter().zip(&states) {
            let takes = matches!(bucket.kind, Kind::Limit(Algorithm::LeasedBucket(_))) && state.more[0] > 0;
            if admitted && fits(bucket.group) && (bucket.cost > 0 || takes) {
                bucket.spend(self.bucket(bucket.key), now, owner);
            }
            reply.push(signed(state.used)?);
            if width > 4 {
                reply.extend([signed(state.more[0])?, signed(state.more[1])?]);
            }
        }
        if let Some(now) = reply.first_mut().filter(|_| !admitted) {
            *now = now.saturating_neg();
        }
        Some(reply)
    }

    fn refund_all(&mut self, call: ScriptCall<'_>) -> Option<Reply> {
        let mut refunded = 0_i64;
        for (key, arguments) in call.keys.iter().zip(call.arguments.chunks(5)) {
            let [when, full_in, price, unit, per_micro] = arguments else { return None };
            let shape = Shape::of_arguments(number(unit)?, number(per_micro)?, 0)?;
            let [when, full_in] = [Micros(number(when)?), Micros(number(full_in)?)];
            let price = Units(number(price)?);
            let state = self.bucket(key).tokens.as_mut();
            let is_refunded = state.is_some_and(|state| state.refund(when, &shape, full_in, price));
            refunded = refunded.saturating_add(is_refunded.into());
        }
        Some(Reply::Integer(refunded))
    }

    fn release_all(&mut self, keys: &[Vec<u8>], names: &[Vec<u8>]) -> Option<Reply> {
        let mut released = 0_i64;
        for (key, name) in keys.iter().zip(names) {
            let (owner, lease) = name.split_at_checked(16)?;
            let slot = (SlotOwner::of_bytes(owner)?, Micros(number(lease)?));
            released = released.saturating_add(self.bucket(key).leases.remove(&slot).is_some().into());
        }
        Some(Reply::Integer(released))
    }

    fn renew_all(&mut self, now: Micros, call: ScriptCall<'_>) -> Option<Reply> {
        let mut renewed = 0_i64;
        for (key, arguments) in call.keys.iter().zip(call.arguments.chunks(2)) {
            let [owner, lease] = arguments else { return None };
            let (owner, lease) = (SlotOwner::of_bytes(owner)?, Micros(number(lease)?));
            if let Some(end) = self.bucket(key).leases.get_mut(&(owner, lease)).filter(|end| **end > now) {
                *end = now.plus(lease);
                renewed = renewed.saturating_add(1);
            }
        }
        Some(Reply::Integer(renewed))
    }
}

/// Group of the enforced limits. Each limit in shadow mode is a group of its own.
const ENFORCED: usize = 0;

/// Bucket of a request, read from a script's arguments.
pub(super) struct Bucket<'a> {
    pub(super) key: &'a [u8],
    pub(super) kind: Kind,
    pub(super) group: usize,
    /// Cost and limit, in the unit of the limit.
    pub(super) cost: u64,
    pub(super) limit: u64,
    pub(super) is_last: bool,
    pub(super) owner: SlotOwner,
}

/// Algorithm of a bucket. Of a token bucket, only the shape can be read back.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Tokens(Shape),
    /// Budget with the request's estimate.
    Budget(Budget, Tokens),
    Limit(Algorithm),
}

impl<'a> Bucket<'a> {
    pub(super) fn read(place: usize, key: &'a [u8], arguments: &[Vec<u8>]) -> Option<Self> {
        match arguments {
            [capacity, cost, unit, flags] => Self::read_plain(place, key, capacity, [cost, unit, flags]),
            [letter, group, cost, limit, x, y, owner] => {
                let (cost, limit) = (number(cost)?, number(limit)?);
                let kind = Kind::read(core::str::from_utf8(letter).ok()?, [cost, limit], number(x)?, y)?;
                let owner_of = || SlotOwner::of_bytes(owner);
                let (is_last, owner) =
                    if owner.is_empty() { (false, SlotOwner::default()) } else { (true, owner_of()?) };
                Some(Self { key, kind, group: number(group)?, cost, limit, is_last, owner })
            }
            _ => None,
        }
    }

    /// Reads the arguments of the script for token buckets.
    fn read_plain(place: usize, key: &'a [u8], capacity: &[u8], more: [&Vec<u8>; 3]) -> Option<Self> {
        let [cost, unit, flags] = more;
        let (cost, unit, flags): (u64, i64, u64) = (number(cost)?, number(unit)?, number(flags)?);
        let (per_micro, flags) = (flags >> 2, flags & 3);
        let (capacity, delay) = match core::str::from_utf8(capacity).ok()?.split_once(' ') {
            Some((capacity, delay)) => (capacity.parse().ok()?, delay.parse().ok()?),
            None => (number(capacity)?, 0_u64),
        };
        let full = unit.unsigned_abs().checked_mul(capacity)?;
        let room = delay.checked_mul(per_micro)?.checked_add(full)?;
        let cost = if cost <= capacity { unit.unsigned_abs().checked_mul(cost)? } else { room.checked_add(1)? };
        Some(Self {
            key,
            kind: Kind::Tokens(Shape::of_arguments(unit, per_micro, room)?),
            // The script takes each bucket in shadow mode for a limit of its own.
            group: if flags & 1 == 1 { ENFORCED } else { place.checked_add(1)? },
            cost,
            limit: room,
            is_last: flags & 2 == 2,
            owner: SlotOwner::default(),
        })
    }

    pub(super) fn look(&self, state: &mut State, now: Micros, owner: SlotOwner) -> BucketState {
        let before = state.tokens.clone();
        let seen = match &self.kind {
            Kind::Tokens(shape) => BucketState { used: shape.look(&mut state.tokens, now).0, more: [0, 0] },
            Kind::Budget(budget, _) => budget.look(&mut state.budget, now, owner),
            Kind::Limit(algorithm) => state.look(&self.check(algorithm), now, owner),
        };
        self.keep_until_full(state, now, before.as_ref());
        // A bucket that a larger limit left overdrawn counts as used up.
        BucketState { used: seen.used.min(self.limit), ..seen }
    }

    pub(super) fn spend(&self, state: &mut State, now: Micros, owner: SlotOwner) {
        let before = state.tokens.clone();
        match &self.kind {
            Kind::Tokens(shape) => shape.spend(&mut state.tokens, now, Units(self.cost)),
            Kind::Budget(budget, estimate) => budget.reserve(&mut state.budget, now, owner, *estimate),
            Kind::Limit(algorithm) => state.spend(&self.check(algorithm), now, owner),
        }
        self.keep_until_full(state, now, before.as_ref());
    }

    /// Sets the time at which a token bucket's key expires: after a write, and where the writer's rate is faster than
    /// that of this bucket.
    fn keep_until_full(&self, state: &mut State, now: Micros, before: Option<&TokenState>) {
        let shape = match &self.kind {
            Kind::Tokens(shape) => *shape,
            Kind::Limit(Algorithm::LeasedBucket(leased)) => leased.bucket().shape(),
            Kind::Limit(_) | Kind::Budget(..) => return,
        };
        let Some(tokens) = &state.tokens else { return };
        if before != Some(tokens) {
            state.expires = Some(tokens.expires(now));
        } else if tokens.is_faster_than(&shape) {
            state.expires = state.expires.max(Some(tokens.seen_by(&shape, now).expires(now)));
        }
    }

    /// The check of a bucket whose algorithm can be read back.
    fn check(&self, algorithm: &Algorithm) -> BucketCheck {
        let cost = match algorithm {
            Algorithm::LeasedBucket(leased) if self.cost <= self.limit => {
                self.cost.checked_div(leased.bucket().rate().per_token()).unwrap_or(0)
            }
            Algorithm::LeasedBucket(leased) => leased.bucket().capacity().0.saturating_add(1),
            _ => self.cost,
        };
        let key = self.key.to_vec();
        let enforced = self.group == ENFORCED;
        BucketCheck { limit: 0, window: 0, key, algorithm: *algorithm, cost: Tokens(cost), enforced, applied: None }
    }
}

impl Kind {
    /// Reads an algorithm of the mixed script. `y` is a number, or a string for leases.
    fn read(letter: &str, [cost, limit]: [u64; 2], x: i64, y: &[u8]) -> Option<Self> {
        let micros = || Some(Micros(u64::try_from(x).ok()?));
        Some(Self::Limit(match letter {
            "t" => return Some(Self::Tokens(Shape::of_arguments(x, number(y)?, limit)?)),
            "r" => {
                let (budget, estimate) = Budget::of_arguments(cost, limit, x, core::str::from_utf8(y).ok()?)?;
                return Some(Self::Budget(budget, estimate));
            }
            "b" => {
                let unit = u64::try_from(x).ok()?;
                Algorithm::LeasedBucket(LeasedBucket::of_arguments(unit, limit, core::str::from_utf8(y).ok()?)?)
            }
            "l" => Algorithm::SlidingLog(SlidingLog::new(limit, micros()?).ok()?),
            "s" => Algorithm::SlidingWindow(SlidingWindow::new(limit, micros()?).ok()?),
            "c" => Algorithm::Concurrency(Concurrency::new(limit, micros()?).ok()?),
            "f" if number::<i64>(y)? == 0 => Algorithm::FixedWindow(FixedWindow::new(limit, micros()?).ok()?),
            letter => Algorithm::Quota(Quota::of_arguments(letter, limit, [x, number(y)?])?),
        }))
    }
}

/// Returns the texts of overrides where the caller has applied others: for each bucket the text of its key's override,
/// or nil where the caller has applied it or another bucket of the key has the text. `None` where the caller has applied
/// all of them.
fn texts_not_applied(
    request: &[Bucket<'_>],
    applied: &[Vec<u8>],
    texts: &dyn Fn(&[u8]) -> Option<Vec<u8>>,
) -> Option<Vec<Reply>> {
    let mut of = None;
    let told: Vec<Reply> = (0..)
        .zip(request)
        .map(|(place, bucket): (usize, _)| {
            let key = limit_key(bucket.key);
            if of == Some(key) {
                return Reply::Nil;
            }
            let mut text = texts(key).unwrap_or_default();
            text.truncate(MAX_TEXT);
            of = Some(key);
            if applied.get(place).map_or(&[][..], Vec::as_slice) == text { Reply::Nil } else { Reply::Bulk(text) }
        })
        .collect();
    told.iter().any(|text| *text != Reply::Nil).then_some(told)
}

fn length(reply: &Reply) -> usize {
    if let Reply::Bulk(text) = reply { text.len() } else { 0 }
}

fn integer(reply: &Reply) -> i64 {
    if let Reply::Integer(n) = reply { *n } else { 0 }
}

pub(super) fn number<T: core::str::FromStr>(bytes: &[u8]) -> Option<T> {
    core::str::from_utf8(bytes).ok()?.parse().ok()
}

fn signed(number: u64) -> Option<i64> {
    i64::try_from(number).ok()
}

fn malformed() -> Reply {
    Reply::Error(b"ERR the model of Weir's scripts cannot read these arguments".to_vec())
}
