//! Heals: tell Redis the last states of buckets that a worker remembers, where Redis may have lost them.
//!
//! Of two states of a bucket, the one in which less is left counts: healing admits less than no healing, never more.
//!
//! | algorithm | heals |
//! |---|---|
//! | token bucket, fixed window, quota, approximate sliding window | exactly |
//! | exact sliding window | as if all tokens of the window had been spent at the last request |
//! | token bucket with leases, concurrency | not: leases and slots that were returned since would be taken again |

use alloc::boxed::Box;

use super::bucket::BucketCheck;
use super::scripts::Scripts;
use super::verdict::Outcome;
use crate::limit::algorithm::{Algorithm, Arguments, BucketState};
use crate::redis::{Call, Reply};
use crate::units::{Micros, Tokens};

/// Time by which the clock of a reply is behind that of an earlier one if Redis' clock was set back. Replies to
/// callouts that overtake each other are closer.
const SET_BACK: Micros = Micros::from_secs(2);

/// Last state of a bucket that a worker knows: after a request that spent from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastState {
    algorithm: Algorithm,
    /// Time of the state by Redis' clock.
    at: Micros,
    /// Time by Redis' clock at which nothing is left of it.
    until: Micros,
    /// Used part of the limit; of an approximate sliding window, the tokens spent in its window.
    used: u64,
    /// Tokens spent in the window before an approximate sliding window.
    before: u64,
}

/// Result of a heal for one bucket: Redis' state is as large.
pub const INTACT: u8 = b'0';
/// Result of a heal for one bucket: Redis' state was smaller, and is as large now.
pub const RESTORED: u8 = b'1';
/// Result of a heal for one bucket: the remembered state counts no more. The bucket was reset or given back to, its
/// window is over, or other configurations or leases have parts in Redis' state.
pub const VOID: u8 = b'2';

impl LastState {
    /// The state of a bucket after a request at `now` that spent the cost of `check`, given its state before. `None`
    /// where the algorithm does not heal.
    #[must_use]
    pub fn after(now: Micros, check: &BucketCheck, outcome: &Outcome, state: BucketState) -> Option<Self> {
        let ([used, before], price) = counts(check, outcome, state)?;
        let until = now.plus(outcome.reset);
        Some(Self { algorithm: check.algorithm, at: now, until, used: used.saturating_add(price), before })
    }

    /// Follows a request at `now` that spent the cost of `check`, if its outcome alone shows that nothing of this state is
    /// lost: nearly all requests to token buckets. Returns whether it does.
    #[inline]
    pub fn follow_plain(&mut self, now: Micros, check: &BucketCheck, outcome: &Outcome) -> bool {
        let (Algorithm::TokenBucket(own), Algorithm::TokenBucket(bucket)) = (&self.algorithm, &check.algorithm) else {
            return false;
        };
        // Where one unit flows in per µs, the bucket lacks as many units as there are µs until it is full.
        let (until, price) = (now.plus(outcome.reset), Micros(bucket.price(check.cost).0));
        let is_plain = own == bucket
            && bucket.rate().per_micro() == 1
            && outcome.delay == Micros::ZERO
            && now >= self.at
            && until.minus(price) >= self.until;
        if is_plain {
            (self.at, self.until, self.used) = (now, until, outcome.reset.0);
        }
        is_plain
    }

    /// Follows a request at `now` that spent the cost of `check`, given the bucket's state before. If that lacks spends
    /// of this state, returns the state that was lost, with the cost.
    #[inline(never)]
    pub fn follow(&mut self, now: Micros, check: &BucketCheck, outcome: &Outcome, state: BucketState) -> Option<Self> {
        let (counts, price) = counts(check, outcome, state)?;
        if now < self.at && self.at.minus(now) < SET_BACK {
            return None;
        }
        let is_lost = self.algorithm == check.algorithm && self.exceeds(now, counts, state);
        let ([used, before], until) = (counts, now.plus(outcome.reset));
        let next = Self { algorithm: check.algorithm, at: now, until, used: used.saturating_add(price), before };
        let lost = core::mem::replace(self, next);
        is_lost.then_some(Self { used: lost.used.saturating_add(price), ..lost })
    }

    /// Forgets what the bucket has used.
    pub fn empty(&mut self) {
        (self.used, self.before, self.until) = (0, 0, Micros::ZERO);
    }

    /// Time of the state by Redis' clock.
    #[must_use]
    pub fn at(&self) -> Micros {
        self.at
    }

    /// Time by Redis' clock at which nothing is left of the state.
    #[must_use]
    pub fn until(&self) -> Micros {
        self.until
    }

    fn exceeds(&self, now: Micros, counts: [u64; 2], state: BucketState) -> bool {
        let [used, before] = self.left(now);
        match &self.algorithm {
            // Older entries leave the log at any time. The newest is this one, or a later one.
            Algorithm::SlidingLog(log) => {
                let [_, until_empty] = state.more;
                used > 0 && now.plus(Micros(until_empty)) < self.at.min(now).plus(log.window())
            }
            _ => used > counts[0] || before > counts[1],
        }
    }

    /// Returns the least that the bucket has used at `now`, of its window and of the window before.
    #[inline(never)]
    fn left(&self, now: Micros) -> [u64; 2] {
        match &self.algorithm {
            Algorithm::TokenBucket(bucket) => {
                let flown = now.minus(self.at).0.saturating_mul(bucket.rate().per_micro());
                [self.used.saturating_sub(flown), 0]
            }
            Algorithm::SlidingWindow(sliding) => {
                let start = |at: Micros| at.minus(Micros(at.0.checked_rem(sliding.window().0).unwrap_or(0)));
                let (own, start) = (start(self.at), start(now));
                if own >= start {
                    [self.used, self.before]
                } else if own.plus(sliding.window()) == start {
                    [0, self.used]
                } else {
                    [0, 0]
                }
            }
            _ if now < self.until => [self.used, 0],
            _ => [0, 0],
        }
    }
}

/// Returns what a bucket had used before a request, of its window and of the window before, and the price of the cost of
/// `check`. `None` where the algorithm does not heal.
#[inline(never)]
fn counts(check: &BucketCheck, outcome: &Outcome, state: BucketState) -> Option<([u64; 2], u64)> {
    Some(match &check.algorithm {
        // The tokens of a request that is held may be refunded.
        Algorithm::TokenBucket(_) if outcome.delay > Micros::ZERO => ([state.used, 0], 0),
        Algorithm::TokenBucket(bucket) => ([state.used, 0], bucket.price(check.cost).0),
        Algorithm::SlidingWindow(_) => (state.more, check.cost.0),
        Algorithm::FixedWindow(_) | Algorithm::Quota(_) | Algorithm::SlidingLog(_) => ([state.used, 0], check.cost.0),
        Algorithm::LeasedBucket(_) | Algorithm::Concurrency(_) | Algorithm::NoTokens => return None,
    })
}

/// The call that heals buckets: their keys, and their last states that the worker knows.
#[must_use]
#[inline(never)]
pub fn heal_call(states: &[(Box<[u8]>, LastState)], scripts: &Scripts) -> Call {
    let number = states.len();
    let mut call = Call::write_script(scripts.heal(), number, number.saturating_mul(7), number.saturating_mul(128));
    states.iter().for_each(|(key, _)| call.bytes(key));
    for (_, state) in states {
        let Arguments { letter, limit, more, .. } = state.algorithm.arguments(Tokens(0));
        let more_of_window = match &state.algorithm {
            Algorithm::SlidingWindow(_) => state.before,
            _ => state.until.0,
        };
        call.bytes(letter.as_bytes());
        [state.at.0, state.used, limit].into_iter().for_each(|number| call.number(number));
        more.into_iter().for_each(|number| super::call::write_signed(&mut call, number));
        call.number(more_of_window);
    }
    call.finish()
}

/// Reads the results of a [`heal_call`] of this number of buckets in its reply. `None` where it is malformed.
#[must_use]
pub fn read_healed(reply: &Reply, number: usize) -> Option<&[u8]> {
    let Reply::Bulk(results) = reply else { return None };
    let is_valid = results.len() == number && results.iter().all(|result| (INTACT..=VOID).contains(result));
    is_valid.then_some(results)
}

/// Model of the script.
#[cfg(not(target_arch = "wasm32"))]
mod model {
    use super::{INTACT, RESTORED, VOID};
    use crate::limit::algorithm::{Algorithm, SlidingLog};
    use crate::limit::check::model::{Model, State};
    use crate::limit::check::script_model::{Bucket, Kind, ScriptCall, number};
    use crate::redis::Reply;
    use crate::units::Micros;

    /// Entries of a sliding log that are searched, from the newest on.
    const MAX_ENTRIES: usize = 128;

    impl Model {
        /// Returns the reply to a call of the script: a digit for each bucket.
        pub(in crate::limit::check) fn heal_all(&mut self, now: Micros, call: ScriptCall<'_>) -> Option<Reply> {
            let mut reply = Vec::new();
            for (place, (key, arguments)) in call.keys.iter().zip(call.arguments.chunks(7)).enumerate() {
                let [letter, when, had, limit, x, y, z] = arguments else { return None };
                let (when, had, z) = (Micros(number(when)?), number(had)?, number(z)?);
                let zero = b"0".to_vec();
                let plain = [letter, &zero, &zero, limit, x, y].map(Clone::clone);
                let bucket = Bucket::read(place, key, &[&plain[..], &[Vec::new()]].concat())?;
                let is_reset = self.resets.get(key).is_some_and(|at| *at >= when);
                let remembered = Remembered { when, had, z };
                reply.push(if is_reset { VOID } else { remembered.heal(&bucket, self.bucket(key), now) });
            }
            Some(Reply::Bulk(reply))
        }
    }

    /// State that a worker remembers, as in the arguments of the script.
    struct Remembered {
        when: Micros,
        had: u64,
        z: u64,
    }

    impl Remembered {
        fn heal(mut self, bucket: &Bucket<'_>, state: &mut State, now: Micros) -> u8 {
            let amounts = state.given.iter().filter(|(at, _)| *at > self.when).map(|(_, amount)| amount.0);
            let given: u64 = amounts.sum();
            self.had = self.had.saturating_sub(given);
            let status = match &bucket.kind {
                Kind::Limit(Algorithm::SlidingWindow(sliding)) => {
                    sliding.keep_larger(&mut state.sliding, now, self.when, [self.had, self.z])
                }
                Kind::Limit(Algorithm::SlidingLog(log)) if now.0 < self.z && self.had > 0 => {
                    log.look(&mut state.log, now, crate::units::Tokens(0));
                    let has_own = SlidingLog::has_entry(&state.log, self.when.min(now), MAX_ENTRIES);
                    if has_own { Some(false) } else { self.raise(bucket, state, now) }
                }
                Kind::Limit(Algorithm::FixedWindow(_) | Algorithm::Quota(_)) if now.0 < self.z => {
                    self.raise(bucket, state, now)
                }
                Kind::Tokens(shape) if state.tokens.as_ref().is_none_or(|tokens| tokens.is_plain()) => {
                    let flown = now.minus(self.when).0.saturating_mul(shape.per_micro());
                    self.had = self.had.min(bucket.limit).saturating_sub(flown);
                    self.raise(bucket, state, now)
                }
                _ => None,
            };
            match status {
                Some(true) => RESTORED,
                Some(false) if given == 0 => INTACT,
                _ => VOID,
            }
        }

        /// Spends what a bucket lacks of the remembered state. `None` where nothing of that is left.
        fn raise(&self, bucket: &Bucket<'_>, state: &mut State, now: Micros) -> Option<bool> {
            if self.had == 0 {
                return None;
            }
            // The used part of a window may be above this limit.
            let used = Bucket { limit: u64::MAX, ..*bucket }.look(state, now).used;
            let lacks = self.had.saturating_sub(used);
            if lacks > 0 {
                Bucket { cost: lacks, ..*bucket }.spend(state, now, Default::default());
            }
            Some(lacks > 0)
        }
    }
}
