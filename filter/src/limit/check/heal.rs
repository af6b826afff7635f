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
use crate::limit::algorithm::{Algorithm, Arguments, BucketState, Units};
use crate::redis::Call;
use crate::units::{Micros, Tokens};

/// Time by which the clock of a reply is behind that of an earlier one if Redis' clock was set back. Replies to
/// callouts that overtake each other are closer.
const SET_BACK: Micros = Micros::from_secs(2);

/// Period of no bucket.
const NEVER: Micros = Micros(u64::MAX);

/// Last state of a bucket that a worker knows: after a request that spent from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastState {
    algorithm: Algorithm,
    /// Time of the state by Redis' clock.
    at: Micros,
    /// Time by Redis' clock at which nothing is left of it.
    until: Micros,
    /// Used part of the limit, but not of a token bucket: `until` has it. Of an approximate sliding window, the tokens
    /// spent in its window.
    used: u64,
    /// Tokens spent in the window before an approximate sliding window.
    before: u64,
    /// Time in which a token bucket fills, whose state follows the outcomes of requests. Of others, which do not: the
    /// largest.
    period: Micros,
    /// Time in which a token of that bucket flows in, rounded down.
    emission: Micros,
    /// The limit.
    capacity: Tokens,
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
        let mut last = Self {
            algorithm: check.algorithm,
            at: now,
            until: now.plus(outcome.reset),
            used: check.cost.0,
            before: 0,
            period: NEVER,
            emission: Micros::ZERO,
            capacity: outcome.capacity,
        };
        match &check.algorithm {
            Algorithm::TokenBucket(bucket) => {
                let (rate, period) = (bucket.rate(), outcome.period.unwrap_or(last.period));
                let emission = rate.per_token().checked_div(rate.per_micro()).unwrap_or_default();
                (last.period, last.emission, last.used) = (period, Micros(emission), 0);
                // The tokens of a request that is held may be refunded.
                if outcome.delay > Micros::ZERO {
                    last.until = now.plus(rate.time_for(Units(state.used)));
                }
            }
            Algorithm::SlidingWindow(_) => {
                let [current, before] = state.more;
                (last.used, last.before) = (last.used.saturating_add(current), before);
            }
            Algorithm::FixedWindow(_) | Algorithm::Quota(_) | Algorithm::SlidingLog(_) => {
                last.used = last.used.saturating_add(state.used);
            }
            Algorithm::LeasedBucket(_) | Algorithm::Budget(_) | Algorithm::Concurrency(_) | Algorithm::NoTokens => {
                return None;
            }
        }
        Some(last)
    }

    /// Follows a request at `now` that has spent, if its outcome alone shows that nothing of this state is lost: nearly
    /// all requests to token buckets. Returns whether it does.
    #[inline]
    pub fn follow_plain(&mut self, now: Micros, outcome: &Outcome) -> bool {
        let until = now.0.wrapping_add(outcome.reset.0);
        let before = until.wrapping_sub(outcome.cost.0.wrapping_mul(self.emission.0));
        let is_plain = before >= self.until.0
            && now >= self.at
            && outcome.delay == Micros::ZERO
            && outcome.period == Some(self.period)
            && outcome.capacity == self.capacity;
        if is_plain {
            (self.at, self.until) = (now, Micros(until));
        }
        is_plain
    }

    /// Whether the state is of a reply that came earlier and is of a later time than a reply of `now`.
    #[must_use]
    pub fn is_of_later_reply(&self, now: Micros) -> bool {
        now < self.at && self.at.minus(now) < SET_BACK
    }

    /// Notes that Redis has lost this state, and that a request has spent since. No outcome shows then that nothing is
    /// lost.
    pub fn lose(&mut self, outcome: &Outcome) {
        if outcome.delay == Micros::ZERO {
            self.used = self.used.saturating_add(outcome.cost.0);
            self.until = Micros(self.until.0.wrapping_add(self.emission.0.wrapping_mul(outcome.cost.0)));
        }
        self.period = NEVER;
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

    /// Whether more is left of this state at `now` than Redis had of its bucket before the request of a reply.
    #[must_use]
    #[inline(never)]
    pub fn exceeds(&self, now: Micros, check: &BucketCheck, state: BucketState) -> bool {
        if self.algorithm != check.algorithm {
            return false;
        }
        let [used, before] = self.left(now);
        match &self.algorithm {
            Algorithm::SlidingWindow(_) => used > state.more[0] || before > state.more[1],
            // Older entries leave the log at any time. The newest is this one, or a later one.
            Algorithm::SlidingLog(log) => {
                let [_, until_empty] = state.more;
                used > 0 && now.plus(Micros(until_empty)) < self.at.min(now).plus(log.window())
            }
            _ => used > state.used,
        }
    }

    /// Returns the least that the bucket has used at `now`, of its window and of the window before.
    #[inline(never)]
    fn left(&self, now: Micros) -> [u64; 2] {
        match &self.algorithm {
            // Units that flow in before `until`, which was rounded up.
            Algorithm::TokenBucket(bucket) => {
                let (left, flows) = (self.until.minus(now.max(self.at)).0, bucket.rate().per_micro());
                // At most 2⁵² units.
                [left.wrapping_mul(flows).saturating_sub(flows.wrapping_sub(1)), 0]
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

/// The call that heals buckets: their keys, and their last states that the worker knows. The reply is a bulk string of
/// a result for each.
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
        [state.at.0, state.left(state.at)[0], limit].into_iter().for_each(|number| call.number(number));
        more.into_iter().for_each(|number| super::call::write_signed(&mut call, number));
        call.number(more_of_window);
    }
    call.finish()
}

/// Model of the script.
#[cfg(not(target_arch = "wasm32"))]
mod model {
    use super::{INTACT, RESTORED, VOID};
    use crate::limit::algorithm::{Algorithm, SlidingLog};
    use crate::limit::check::model::{Model, State};
    use crate::limit::check::script_bucket::{Bucket, Kind};
    use crate::limit::check::script_model::{ScriptCall, number};
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
            let used = Bucket { limit: u64::MAX, ..*bucket }.look(state, now, Default::default()).used;
            let lacks = self.had.saturating_sub(used);
            if lacks > 0 {
                Bucket { cost: lacks, ..*bucket }.spend(state, now, Default::default());
            }
            Some(lacks > 0)
        }
    }
}
