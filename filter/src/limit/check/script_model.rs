//! Model of the scripts at the level of commands: the keys and arguments of a call in, Redis' reply out.
//!
//! [`Model`] decides a [`Check`](super::Check) that a test has at hand. A worker sends commands instead: this module
//! reads their arguments back, runs the specification of each algorithm, and encodes the reply as the Lua scripts do. The
//! worker decides the request a second time, from the reply.

use alloc::vec::Vec;

use super::bucket::limit_key;
use super::heartbeat::Heartbeat;
use super::model::Model;
use super::script_bucket::{Bucket, ENFORCED, Kind};
use super::scripts::Scripts;
use crate::limit::algorithm::{Algorithm, BucketState, Shape, SlotOwner, Units};
use crate::redis::{Reply, Script};
use crate::units::Micros;

/// Longest text of an override that the scripts tell, in bytes.
const MAX_TEXT: usize = 1_025;
/// Bytes of texts in the reply to several requests, at most.
const MAX_TEXTS: usize = 16_384;

/// Script of Weir that decides or ends requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KnownScript {
    /// Decides requests whose buckets are all token buckets.
    TokenBuckets {
        /// Whether the script reads the overrides of keys.
        per_key: bool,
    },
    /// Decides any requests.
    Mixed {
        /// Whether the script reads the overrides of keys.
        per_key: bool,
    },
    /// Refunds tokens.
    Refund,
    /// Releases slots.
    Release,
    /// Renews leases of slots.
    Renew,
    /// Gives back what a request spent that other buckets denied.
    GiveBack,
    /// Spends what workers have admitted by themselves.
    Post,
    /// Grants a worker shares of limits.
    Heartbeat,
    /// Settles reservations of budgets.
    Settle,
    /// Renews leases of reservations.
    RenewBudgets,
}

impl KnownScript {
    /// Returns the script with this SHA-1, in lowercase hexadecimal digits.
    #[must_use]
    pub fn by_sha1(sha1_hex: &str) -> Option<Self> {
        [true, false]
            .into_iter()
            .find_map(|per_key| {
                let scripts = Scripts::new(per_key);
                let all: [(&Script, Self); 9] = [
                    (scripts.token_buckets(), Self::TokenBuckets { per_key }),
                    (scripts.mixed(), Self::Mixed { per_key }),
                    (scripts.refund(), Self::Refund),
                    (scripts.release(), Self::Release),
                    (scripts.renew(), Self::Renew),
                    (scripts.give_back(), Self::GiveBack),
                    (scripts.post(), Self::Post),
                    (scripts.settle(), Self::Settle),
                    (scripts.renew_budgets(), Self::RenewBudgets),
                ];
                all.into_iter().find(|(script, _)| script.sha1_hex() == sha1_hex).map(|(_, known)| known)
            })
            .or_else(|| (Heartbeat::default().script().sha1_hex() == sha1_hex).then_some(Self::Heartbeat))
    }
}

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
