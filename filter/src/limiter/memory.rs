//! Memory of buckets: the last states that a worker knows of its recent buckets, and the heals of those that Redis may
//! have lost.
//!
//! A reply shows less spent than the worker remembers: the next check of any bucket, or the next tick, has a heal of what
//! is lost before it. A new connection, or a heal that was needed, puts all states in doubt: the next check of each bucket
//! has a heal before it, and the worker sends the others by and by, since other workers may use these buckets. Without
//! any of these, the memory costs no call.
//!
//! A bucket is remembered from the request on that leaves less than 15/16 of its capacity. Others cost no more than a
//! hash of their keys.
//!
//! Buckets are in sets of four by a hash of their keys. A set that is full drops the bucket that was used least
//! recently. A lookup thus takes the same few steps whatever keys clients choose, without the cost of SipHash.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::limit::{BucketCheck, BucketState, LastState, Outcome, RESTORED};
use crate::redis::Ticket;
use crate::table::is_same;
use crate::units::Micros;

/// Maximum number of buckets in one call.
pub(super) const MAX_HEALED: usize = 64;
/// Time between two calls that send states in doubt which no request uses.
const SWEEP: Micros = Micros::from_millis(100);
/// The same after a failure.
const SWEEP_AGAIN: Micros = Micros::from_secs(1);
/// Least time between two doubts for which heals are the reason.
const DOUBT: Micros = Micros::from_secs(60);
/// Part of its capacity that a bucket must lack to be remembered, as a number of bits: a sixteenth.
const NEARLY_FULL: u32 = 4;
/// Buckets of a set.
const WAYS: usize = 4;
/// Odd factor of the hash: 2⁶⁴ divided by the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Buckets of one call, with their states.
pub(super) type Healed = Vec<(Box<[u8]>, LastState)>;

/// Last states of the recent buckets of one worker.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Sets of buckets; none before the first bucket.
    sets: Vec<Set>,
    max_sets: u32,
    seed: u64,
    /// Number of doubts so far. A state is in doubt if it was sent or added before the last one.
    doubts: u32,
    /// Whether states may be in doubt.
    is_in_doubt: bool,
    /// Place of the next set whose states in doubt are sent.
    sweep_from: usize,
    /// Time at which lost states, and the next states in doubt, are sent. `None`: a call is in flight, or there are none.
    sweep_at: Option<Micros>,
    /// States that Redis has lost, and states of calls that have failed.
    lost: Healed,
    /// Time from which a heal that was needed puts states in doubt.
    next_doubt: Micros,
    /// Whether Redis has answered on the present connection.
    is_answered: bool,
    /// Calls without a reply.
    calls: Vec<(Ticket, Healed)>,
}

/// Buckets whose keys have similar hashes.
#[derive(Debug, Default)]
struct Set {
    /// Time by Redis' clock at which nothing is left of any of their states.
    until: Micros,
    ways: [Option<Box<Bucket>>; WAYS],
}

#[derive(Debug)]
struct Bucket {
    hash: u64,
    key: Box<[u8]>,
    state: LastState,
    /// Number of doubts at which the state was added, or last sent.
    sent: u32,
}

impl Memory {
    /// Creates a memory of about `max` buckets. `seed` is different for each worker.
    pub(super) fn new(max: usize, seed: u64) -> Self {
        Self { max_sets: u32::try_from(max.div_ceil(WAYS)).unwrap_or(u32::MAX), seed, ..Self::default() }
    }

    /// Notes that Redis has answered on the present connection.
    #[inline]
    pub(super) fn answered(&mut self) {
        self.is_answered = true;
    }

    /// Returns the hash of a bucket that is to be [remembered](Self::spent) after a request that spent from it. `None`
    /// where the bucket is nearly full, and no state is remembered to which that may be a contradiction.
    #[inline]
    pub(super) fn regards(&self, redis: Micros, key: &[u8], outcome: &Outcome) -> Option<u64> {
        let hash = self.hash(key);
        let Outcome { remaining, capacity, .. } = outcome;
        let is_nearly_full = remaining.0 >= capacity.0.wrapping_sub(capacity.0 >> NEARLY_FULL);
        let is_free = is_nearly_full && self.sets.get(self.place(hash)).is_none_or(|set| set.until <= redis);
        (!is_free).then_some(hash)
    }

    /// Remembers a bucket from which a request has spent at `redis` by Redis' clock, as [`spent`](Self::spent) does, if
    /// the outcome alone shows that nothing is lost. Returns whether it does.
    #[inline]
    pub(super) fn follows(&mut self, hash: u64, redis: Micros, check: &BucketCheck, outcome: &Outcome) -> bool {
        let place = self.place(hash);
        let Some(set) = self.sets.get_mut(place) else { return false };
        let Some(bucket) = set.find(hash, &check.key) else { return false };
        let follows = bucket.state.follow_plain(redis, check, outcome);
        if follows {
            let until = bucket.state.until();
            set.until = set.until.max(until);
        }
        follows
    }

    /// Remembers a bucket from which a request has spent at `redis` by Redis' clock, given its state before.
    #[inline(never)]
    pub(super) fn spent(
        &mut self,
        hash: u64,
        redis: Micros,
        check: &BucketCheck,
        outcome: &Outcome,
        state: BucketState,
    ) {
        if self.sets.is_empty() {
            self.sets.resize_with(usize::try_from(self.max_sets).unwrap_or_default(), Set::default);
        }
        let place = self.place(hash);
        let Some(set) = self.sets.get_mut(place) else { return };
        set.until = set.until.max(redis.plus(outcome.reset));
        let lost = match set.find(hash, &check.key) {
            Some(bucket) => bucket.state.follow(redis, check, outcome, state),
            None => {
                if let Some(state) = LastState::after(redis, check, outcome, state) {
                    set.add(Bucket { hash, key: check.key.as_slice().into(), state, sent: self.doubts });
                }
                return;
            }
        };
        if let Some(lost) = lost {
            self.lost.push((check.key.as_slice().into(), lost));
            self.sweep_at = Some(Micros::ZERO);
        }
    }

    /// Forgets a bucket: this worker gives back what it has spent.
    pub(super) fn forget(&mut self, key: &[u8]) {
        if let Some(bucket) = self.find(key) {
            bucket.state.empty();
        }
    }

    /// Puts all states in doubt, once for each connection: another Redis may answer.
    #[inline(never)]
    pub(super) fn disconnected(&mut self, now: Micros) {
        if core::mem::take(&mut self.is_answered) {
            self.doubt(now);
        }
    }

    /// Whether states are lost, or in doubt.
    #[inline]
    pub(super) fn is_in_doubt(&self) -> bool {
        self.is_in_doubt || !self.lost.is_empty()
    }

    /// Takes lost states that are due, and the states in doubt of these buckets.
    #[inline(never)]
    pub(super) fn take_doubtful(&mut self, now: Micros, checks: &[BucketCheck]) -> Healed {
        let mut healed = Vec::new();
        if self.sweep_at.is_some_and(|at| at <= now) {
            core::mem::swap(&mut healed, &mut self.lost);
        }
        let doubts = self.doubts;
        for check in checks {
            if let Some(bucket) = self.find(&check.key) {
                bucket.send(doubts, &mut healed);
            }
        }
        healed
    }

    /// Takes lost states, and about `most` states in doubt, at a tick. `redis` is the present time by Redis' clock, if it
    /// is known.
    #[inline(never)]
    pub(super) fn take_due(&mut self, now: Micros, redis: Option<Micros>, most: usize) -> Option<Healed> {
        self.sweep_at.take_if(|at| *at <= now)?;
        let (mut healed, redis) = (core::mem::take(&mut self.lost), redis.unwrap_or_default());
        while healed.len().saturating_add(WAYS) <= most
            && let Some(set) = self.sets.get_mut(self.sweep_from)
        {
            for bucket in set.ways.iter_mut().flatten().filter(|bucket| redis < bucket.state.until()) {
                bucket.send(self.doubts, &mut healed);
            }
            self.sweep_from = self.sweep_from.saturating_add(1);
        }
        self.is_in_doubt &= !healed.is_empty();
        (!healed.is_empty()).then_some(healed)
    }

    /// Time of the next [`take_due`](Self::take_due).
    pub(super) fn next_due(&self) -> Option<Micros> {
        self.sweep_at
    }

    /// Notes that a call is in flight.
    pub(super) fn sent(&mut self, ticket: Ticket, healed: Healed) {
        self.calls.push((ticket, healed));
    }

    /// Handles the reply to a call: `results` has one for each bucket, given their number; `None`: the call has failed.
    /// Returns the number of buckets that Redis had lost. `None`: the ticket is of another call.
    #[inline]
    pub(super) fn ended<'a>(
        &mut self,
        now: Micros,
        ticket: Ticket,
        results: impl FnOnce(usize) -> Option<&'a [u8]>,
    ) -> Option<usize> {
        let place = self.calls.iter().position(|(its, _)| *its == ticket)?;
        let (_, healed) = self.calls.swap_remove(place);
        let Some(results) = results(healed.len()) else {
            self.failed(now, healed);
            return Some(0);
        };
        let restored = results.iter().filter(|result| **result == RESTORED).count();
        if self.is_in_doubt {
            self.sweep_at.get_or_insert(now.plus(SWEEP));
        } else if restored > 0 && now >= self.next_doubt {
            self.next_doubt = now.plus(DOUBT);
            self.doubt(now);
        }
        Some(restored)
    }

    /// Keeps the states of a call that has failed, for another.
    pub(super) fn failed(&mut self, now: Micros, mut healed: Healed) {
        self.lost.append(&mut healed);
        self.sweep_at = Some(now.plus(SWEEP_AGAIN));
    }

    fn doubt(&mut self, now: Micros) {
        self.doubts = self.doubts.wrapping_add(1);
        (self.is_in_doubt, self.sweep_from, self.sweep_at) = (true, 0, Some(now.plus(SWEEP)));
    }

    #[inline(never)]
    fn find(&mut self, key: &[u8]) -> Option<&mut Bucket> {
        let hash = self.hash(key);
        let place = self.place(hash);
        self.sets.get_mut(place)?.find(hash, key)
    }

    /// Place of the set of a hash.
    #[inline]
    fn place(&self, hash: u64) -> usize {
        let place = (hash >> 32).wrapping_mul(u64::from(self.max_sets)) >> 32;
        usize::try_from(place).unwrap_or_default()
    }

    #[inline(never)]
    fn hash(&self, key: &[u8]) -> u64 {
        let next = |hash: u64, more: u64| (hash.rotate_left(29) ^ more).wrapping_mul(FACTOR);
        let (chunks, rest) = key.as_chunks::<8>();
        let mut hash = self.seed;
        for chunk in chunks {
            hash = next(hash, u64::from_le_bytes(*chunk));
        }
        match key.last_chunk() {
            Some(last) => next(hash, u64::from_le_bytes(*last)),
            None => rest.iter().fold(hash, |hash, byte| next(hash, u64::from(*byte))),
        }
    }
}

impl Set {
    #[inline(never)]
    fn find(&mut self, hash: u64, key: &[u8]) -> Option<&mut Bucket> {
        let ways = self.ways.iter_mut().flatten().map(Box::as_mut);
        ways.into_iter().find(|bucket| bucket.hash == hash && is_same(&bucket.key, key))
    }

    /// Adds a bucket in the place of the one that was used least recently.
    #[inline(never)]
    fn add(&mut self, bucket: Bucket) {
        let used = |way: &&mut Option<Box<Bucket>>| way.as_ref().map(|bucket| bucket.state.at());
        if let Some(way) = self.ways.iter_mut().min_by_key(used) {
            *way = Some(Box::new(bucket));
        }
    }
}

impl Bucket {
    /// Adds the bucket to a call if its state is in doubt.
    #[inline(never)]
    fn send(&mut self, doubts: u32, healed: &mut Healed) {
        if core::mem::replace(&mut self.sent, doubts) != doubts {
            healed.push((self.key.clone(), self.state));
        }
    }
}
