//! Memory of buckets: the last states that a worker knows of its recent buckets, and which of them Redis may have lost.
//!
//! A reply shows less spent than the worker remembers: the bucket is healed at once. A new connection, or a heal that
//! was needed, puts all states in doubt: the next check of each bucket has a heal before it, and the worker sends the
//! others by and by, since other workers may use these buckets. Without any of these, the memory costs no call.
//!
//! A bucket is remembered from the request on that leaves less than 15/16 of its capacity. Others cost no more than a
//! hash of their keys.
//!
//! Buckets are in sets of four by a hash of their keys. A set that is full drops the bucket that was used least
//! recently. A lookup thus takes the same few steps whatever keys clients choose.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::limit::{BucketCheck, BucketState, LastState, Outcome, RESTORED};
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
/// Time by Redis' clock after a loss from which a reply that lacks the lost state is believed: Redis has refused the
/// heal, as after an operator's reset.
const HEALED_WITHIN: Micros = Micros::from_secs(2);
/// Part of its capacity that a bucket must lack to be remembered, as a number of bits: a sixteenth.
const NEARLY_FULL: u32 = 4;
/// 2⁶⁴ divided by the golden ratio: multiples of hashes that differ in few bits fall evenly between 0 and 2⁶⁴.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
/// Most buckets of a set.
const WAYS: usize = 4;

/// Buckets of one call, with their states.
pub(super) type Healed = Vec<(Box<[u8]>, LastState)>;

/// Last states of the recent buckets of one worker.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Sets of buckets whose keys have similar hashes; none before the first bucket.
    #[expect(clippy::vec_box, reason = "a `Vec` has room for four buckets from the first one on")]
    sets: Vec<Vec<Box<Bucket>>>,
    max_sets: u32,
    seed: u64,
    /// States that Redis has lost.
    lost: Healed,
    /// Number of doubts so far. A state is in doubt if it was sent or added before the last one.
    doubts: u32,
    /// Whether states may be in doubt.
    is_in_doubt: bool,
    /// Whether Redis has answered on the present connection.
    is_answered: bool,
    /// Place of the next set whose states in doubt are sent.
    sweep_from: usize,
    /// Time at which the next states in doubt are sent. `None`: a call is in flight, or there are none.
    sweep_at: Option<Micros>,
    /// Time from which a heal that was needed puts states in doubt.
    next_doubt: Micros,
}

#[derive(Debug)]
struct Bucket {
    hash: u64,
    key: Box<[u8]>,
    state: LastState,
    /// Number of doubts at which the state was added, or last sent.
    sent: u32,
    /// Time by Redis' clock at which a reply lacked the state, if Redis has not confirmed it since.
    lost_at: Option<Micros>,
}

impl Memory {
    /// Creates a memory of about `max` buckets. `seed` is different for each worker, and secret.
    #[inline(never)]
    pub(super) fn new(max: usize, seed: u64) -> Self {
        Self { max_sets: u32::try_from(max.div_ceil(WAYS)).unwrap_or(u32::MAX), seed, ..Self::default() }
    }

    /// Notes that Redis has answered on the present connection.
    #[inline]
    pub(super) fn answered(&mut self) {
        self.is_answered = true;
    }

    /// Remembers a bucket from which a request has spent at `redis` by Redis' clock, if its outcome alone shows that
    /// nothing is lost: nearly all requests to token buckets. If it does not, returns the hash for
    /// [`spent`](Self::spent).
    ///
    /// Keys are not compared: two keys that a client has chosen have one hash with a probability of about 2⁻³², and
    /// the one bucket is then healed with the state of the other.
    #[inline]
    pub(super) fn follow_plain(&mut self, redis: Micros, key: &[u8], outcome: &Outcome) -> Option<u64> {
        let (hash, mut is_new) = (self.hash(key), true);
        let place = self.place(hash);
        if let Some(set) = self.sets.get_mut(place) {
            for bucket in set {
                if bucket.hash == hash {
                    if bucket.state.follow_plain(redis, outcome) {
                        return None;
                    }
                    is_new = false;
                }
            }
        }
        let Outcome { remaining, capacity, .. } = outcome;
        let is_nearly_full = remaining.0 >= capacity.0.wrapping_sub(capacity.0 >> NEARLY_FULL);
        (!(is_new && is_nearly_full)).then_some(hash)
    }

    /// Remembers a bucket from which a request has spent at `redis` by Redis' clock, given its state before. If that
    /// lacks spends, the bucket is [lost](Self::take_lost).
    #[inline(never)]
    pub(super) fn spent(
        &mut self,
        hash: u64,
        (redis, check, outcome): (Micros, &BucketCheck, &Outcome),
        state: BucketState,
    ) {
        if self.sets.is_empty() {
            self.sets.resize_with(usize::try_from(self.max_sets).unwrap_or_default(), Vec::new);
        }
        let place = self.place(hash);
        let Some(next) = LastState::after(redis, check, outcome, state) else { return };
        let Some(set) = self.sets.get_mut(place) else { return };
        let Some(bucket) = Bucket::find(set, hash, &check.key) else {
            if set.len() >= WAYS
                && let Some(oldest) = (0..WAYS).min_by_key(|way| set.get(*way).map(|bucket| bucket.state.at()))
            {
                set.swap_remove(oldest);
            }
            let key = check.key.as_slice().into();
            set.push(Box::new(Bucket { hash, key, state: next, sent: self.doubts, lost_at: None }));
            return;
        };
        if bucket.state.is_of_later_reply(redis) {
            return;
        }
        let is_believed = bucket.lost_at.is_some_and(|lost_at| redis >= lost_at.plus(HEALED_WITHIN));
        if is_believed || !bucket.state.exceeds(redis, check, state) {
            (bucket.state, bucket.lost_at) = (next, None);
        } else if bucket.lost_at.is_none() {
            bucket.state.lose(outcome);
            (bucket.lost_at, bucket.sent) = (Some(redis), self.doubts.wrapping_sub(1));
            bucket.send(self.doubts, &mut self.lost);
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
            self.doubt(now, SWEEP);
        }
    }

    /// Takes the states that Redis has lost, by its replies.
    #[inline]
    pub(super) fn take_lost(&mut self) -> Option<Healed> {
        if self.lost.is_empty() { None } else { Some(core::mem::take(&mut self.lost)) }
    }

    /// Whether states may be in doubt.
    #[inline]
    pub(super) fn is_in_doubt(&self) -> bool {
        self.is_in_doubt
    }

    /// Takes the states in doubt of these buckets.
    #[inline(never)]
    pub(super) fn take_doubtful(&mut self, checks: &[BucketCheck]) -> Healed {
        let (mut healed, doubts) = (Vec::new(), self.doubts);
        for check in checks {
            if self.is_in_doubt
                && let Some(bucket) = self.find(&check.key)
            {
                bucket.send(doubts, &mut healed);
            }
        }
        healed
    }

    /// Takes about `most` states in doubt, which are due. `redis` is the present time by Redis' clock, if it is known.
    #[inline(never)]
    pub(super) fn take_due(&mut self, redis: Option<Micros>, most: usize) -> Healed {
        self.sweep_at = None;
        let (mut healed, redis) = (Vec::new(), redis.unwrap_or_default());
        while healed.len().saturating_add(WAYS) <= most
            && let Some(set) = self.sets.get_mut(self.sweep_from)
        {
            for bucket in set.iter_mut().filter(|bucket| redis < bucket.state.until()) {
                bucket.send(self.doubts, &mut healed);
            }
            self.sweep_from = self.sweep_from.saturating_add(1);
        }
        self.is_in_doubt = !healed.is_empty();
        healed
    }

    /// Time of the next [`take_due`](Self::take_due).
    pub(super) fn next_due(&self) -> Option<Micros> {
        self.sweep_at
    }

    /// Handles the results of a call, one for each bucket. Returns the number of buckets that Redis had lost.
    #[inline]
    pub(super) fn healed(&mut self, now: Micros, results: &[u8]) -> usize {
        let restored = results.iter().filter(|result| **result == RESTORED).count();
        if restored > 0 && now >= self.next_doubt {
            self.doubt(now, SWEEP);
        } else if self.is_in_doubt {
            self.sweep_at.get_or_insert(now.plus(SWEEP));
        }
        restored
    }

    /// Handles a call that has failed: all states are in doubt.
    pub(super) fn failed(&mut self, now: Micros) {
        self.doubt(now, SWEEP_AGAIN);
    }

    #[inline(never)]
    fn doubt(&mut self, now: Micros, wait: Micros) {
        self.doubts = self.doubts.wrapping_add(1);
        (self.is_in_doubt, self.sweep_from, self.sweep_at) = (true, 0, Some(now.plus(wait)));
        self.next_doubt = now.plus(DOUBT);
    }

    #[inline(never)]
    fn find(&mut self, key: &[u8]) -> Option<&mut Bucket> {
        let hash = self.hash(key);
        let place = self.place(hash);
        Bucket::find(self.sets.get_mut(place)?, hash, key)
    }

    /// Place of the set of a hash.
    #[inline]
    fn place(&self, hash: u64) -> usize {
        let place = (hash.wrapping_mul(SPREAD) >> 32).wrapping_mul(u64::from(self.max_sets)) >> 32;
        usize::try_from(place).unwrap_or_default()
    }

    /// Hash of a key: for each eight bytes the product of their halves, after a secret was added. SipHash would cost
    /// six times the instructions.
    #[inline(never)]
    fn hash(&self, key: &[u8]) -> u64 {
        let next = |hash: u64, word: u64| {
            let word = word.wrapping_add(hash);
            hash.rotate_left(29).wrapping_add((word & u64::from(u32::MAX)).wrapping_mul(word >> 32))
        };
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

impl Bucket {
    #[inline(never)]
    fn find<'a>(set: &'a mut [Box<Self>], hash: u64, key: &[u8]) -> Option<&'a mut Self> {
        set.iter_mut().map(Box::as_mut).find(|bucket| bucket.hash == hash && is_same(&bucket.key, key))
    }

    /// Adds the bucket to a call if its state is in doubt.
    #[inline(never)]
    fn send(&mut self, doubts: u32, healed: &mut Healed) {
        if core::mem::replace(&mut self.sent, doubts) != doubts {
            healed.push((self.key.clone(), self.state));
        }
    }
}
