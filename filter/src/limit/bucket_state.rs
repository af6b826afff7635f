//! What Redis keeps of a token bucket, and how it is read by buckets of other sizes and rates.
//!
//! State outlives its parameters: a limit is changed while its buckets live, or two proxies differ about it for a time.
//! So a bucket's state is the tokens that are *spent* and have not flowed back, whatever the rate is: where that
//! changes, what is spent stays spent. A token that is leased is spent until its lease ends or it comes back.
//!
//! A bucket that holds less than is spent was empty at the last write, and no worse, and has filled since at its own
//! rate. But it does not make room for a larger one, of which all stays spent: a denied request changes nothing, and
//! where one is admitted, two levels are kept from then on: all that is spent, and what is spent of the smaller bucket
//! (*narrow*). A bucket of a third size takes the higher of the two levels that these allow it.
//!
//! So what is admitted within a window is at most the largest capacity and what flows in at the fastest rate of those
//! in force: each request that is admitted adds its cost to what is spent; no bucket admits beyond its capacity; what
//! the largest lacks is never less than what any other lacks, and never more than that and what it is larger by.
//!
//! This is the specification; `token_state.lua` beside it is what Redis runs.

use alloc::vec::Vec;

use super::leased_bucket::Settled;
use super::rate::{MOST_UNITS, Rate, Units};
use super::token_bucket::TokenBucket;
use crate::units::{Micros, Tokens};

/// What Redis keeps of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BucketState {
    /// When it was written.
    at: Micros,
    /// The writer's, by which units are counted.
    rate: Rate,
    /// Whether requests wait for tokens: these are theirs, whatever the capacity.
    delays: bool,
    /// Units that were spent then and had not flowed back, beside those that are leased.
    spent: u64,
    narrow: Option<Narrow>,
    /// In the order of their ends.
    leases: Vec<Lease>,
}

/// What is spent of a bucket that is smaller than what is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Narrow {
    room: u64,
    spent: u64,
}

/// Units that are spent until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lease {
    ends: Micros,
    units: u64,
}

/// A state as a bucket reads it at some time, to spend from it.
#[derive(Debug)]
pub(super) struct OpenBucket {
    state: BucketState,
    /// What this bucket lacks of being full, beside what is leased.
    lack: u64,
    room: u64,
    delays: bool,
    is_changed: bool,
}

impl BucketState {
    /// Reads the state of a bucket, and settles leases that come back. `None` is a full one.
    pub(super) fn open(kept: Option<&Self>, now: Micros, bucket: &TokenBucket, settled: &[Settled]) -> OpenBucket {
        let (rate, room) = (bucket.rate(), bucket.room().0);
        let empty = Self { at: now, rate, delays: false, spent: 0, narrow: None, leases: Vec::new() };
        let mut state = kept.map_or(empty, |kept| kept.converted(rate));
        let ahead = state.at.minus(now);
        state.at = state.at.minus(ahead);
        state.leases.iter_mut().for_each(|lease| lease.ends = lease.ends.minus(ahead));

        let (lack, delays) = (state.lack_of(room), bucket.max_delay() > Micros::ZERO);
        let mut open = OpenBucket { state, lack, room, delays, is_changed: ahead > Micros::ZERO };
        open.age(now);
        if !open.state.delays {
            open.lack = open.lack.min(room.saturating_sub(open.state.out()));
        }
        settled.iter().for_each(|settled| open.settle(settled));
        open
    }

    /// Gives back what a request spent then, if it was the last to do so of a bucket like that, and left it as long from
    /// full. Not where buckets of other sizes, or leases, have a part in it.
    pub(super) fn refund(&mut self, at: Micros, bucket: &TokenBucket, full_in: Micros, price: Units) -> bool {
        let is_plain = self.narrow.is_none() && self.leases.is_empty();
        let is_its = self.rate == bucket.rate() && self.delays == (bucket.max_delay() > Micros::ZERO);
        let is_last = self.at == at && self.rate.time_for(Units(self.spent)) == full_in;
        if is_plain && is_its && is_last {
            self.spent = self.spent.saturating_sub(price.0);
        }
        is_plain && is_its && is_last
    }

    /// The same in units of another rate. A token stays a token; what is no whole unit is rounded up.
    fn converted(&self, rate: Rate) -> Self {
        let [from, to] = [&self.rate, &rate].map(|rate| u128::from(rate.per_token()));
        let bounded = |units: u128| u64::try_from(units).unwrap_or(u64::MAX).min(MOST_UNITS);
        let product = |units: u64| u128::from(units).saturating_mul(to);
        let up = |units: u64| bounded(product(units).div_ceil(from));
        let down = |units: u64| bounded(product(units).checked_div(from).unwrap_or(0));
        Self {
            rate,
            spent: up(self.spent),
            narrow: self.narrow.map(|narrow| Narrow { room: down(narrow.room), spent: up(narrow.spent) }),
            leases: self.leases.iter().map(|lease| Lease { units: up(lease.units), ..*lease }).collect(),
            ..*self
        }
    }

    /// All that is leased.
    fn out(&self) -> u64 {
        self.leases.iter().fold(0, |sum, lease| sum.saturating_add(lease.units))
    }

    /// What a bucket of that room lacked at the last write, beside what is leased.
    fn lack_of(&self, room: u64) -> u64 {
        if self.delays {
            return self.spent;
        }
        let lack = self.spent.min(room.saturating_sub(self.out()));
        self.narrow.map_or(lack, |narrow| lack.min(narrow.spent.saturating_add(room.saturating_sub(narrow.room))))
    }

    /// That many units, spent at the last write, have aged until `now`, of a bucket of that room: leases that have ended
    /// meanwhile ended as if used up just then.
    fn aged(&self, now: Micros, units: u64, room: u64) -> u64 {
        let flowed = |units: u64, from: Micros, to: Micros| {
            units.saturating_sub(to.minus(from).0.saturating_mul(self.rate.per_micro()))
        };
        let ended = self.leases.iter().filter(|lease| lease.ends <= now);
        let (since, units) = ended.fold((self.at, units), |(since, units), lease| {
            let rest = flowed(units, since, lease.ends);
            (since.max(lease.ends), rest.saturating_add(lease.units).min(room))
        });
        flowed(units, since, now)
    }
}

impl OpenBucket {
    /// Units that it lacks of being full: all of them where that is more than it holds.
    pub(super) fn lack(&self) -> Units {
        Units(self.lack.saturating_add(self.state.out()).min(self.room))
    }

    /// How many leases there are.
    pub(super) fn leases(&self) -> usize {
        self.state.leases.len()
    }

    /// What is to be kept even where the request is denied.
    pub(super) fn changed(self) -> Option<BucketState> {
        let delays = self.state.delays || self.delays;
        self.is_changed.then(|| BucketState { delays, ..self.spend(Units(0), None) })
    }

    /// What is kept once so much is spent, and so many units are leased until then.
    pub(super) fn spend(mut self, price: Units, leased: Option<(Micros, Units)>) -> BucketState {
        self.take(price.0);
        if let Some((ends, Units(units))) = leased {
            let leases = &mut self.state.leases;
            let at = leases.partition_point(|lease| lease.ends < ends);
            match leases.get_mut(at).filter(|lease| lease.ends == ends) {
                Some(lease) => lease.units = lease.units.saturating_add(units),
                None => leases.insert(at, Lease { ends, units }),
            }
        }
        if self.lack < self.state.spent {
            self.state.narrow = Some(Narrow { room: self.room, spent: self.lack });
        }
        let spent = self.state.spent;
        self.state.narrow = self.state.narrow.filter(|narrow| narrow.spent < spent);
        let still_delays = self.state.delays && spent.saturating_add(self.state.out()) > self.room;
        self.state.delays = self.delays || still_delays;
        self.state
    }

    fn take(&mut self, units: u64) {
        self.state.spent = self.state.spent.saturating_add(units).min(MOST_UNITS);
        self.lack = self.lack.saturating_add(units);
        if let Some(narrow) = &mut self.state.narrow {
            narrow.spent = narrow.spent.saturating_add(units).min(narrow.room);
        }
    }

    fn age(&mut self, now: Micros) {
        let state = &self.state;
        let room = if state.delays { MOST_UNITS } else { self.room };
        let lack = state.aged(now, self.lack, room);
        let spent = state.aged(now, state.spent, MOST_UNITS);
        let narrow = state.narrow.map(|narrow| Narrow { spent: state.aged(now, narrow.spent, narrow.room), ..narrow });
        self.lack = lack;
        (self.state.at, self.state.spent, self.state.narrow) = (now, spent, narrow);
        self.state.leases.retain(|lease| lease.ends > now);
    }

    /// What is more than the lease is taken for used first. A lease that has ended is beyond that.
    fn settle(&mut self, settled: &Settled) {
        if settled.used.max(settled.unused) == Tokens(0) {
            return;
        }
        let leases = &mut self.state.leases;
        let Some(index) = leases.iter().position(|lease| lease.ends == settled.ends) else { return };
        let Some(lease) = leases.get_mut(index) else { return };
        let used = self.state.rate.units(settled.used).0.min(lease.units);
        let unused = self.state.rate.units(settled.unused).0;
        lease.units = lease.units.saturating_sub(used).saturating_sub(unused);
        if lease.units == 0 {
            leases.remove(index);
        }
        self.is_changed = true;
        self.take(used);
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use core::num::NonZeroU64;

    use proptest::prelude::*;

    use super::*;

    fn bucket(capacity: u64, tokens: u64, interval: Micros) -> TokenBucket {
        let [capacity, tokens] = [capacity, tokens].map(|n| NonZeroU64::new(n).unwrap());
        TokenBucket::new(capacity, tokens, interval).unwrap()
    }

    /// One bucket in Redis.
    #[derive(Default)]
    struct Kept(Option<BucketState>);

    impl Kept {
        fn admits(&mut self, bucket: &TokenBucket, now: Micros, cost: u64) -> bool {
            let lack = bucket.look(&mut self.0, now);
            let admits = bucket.admits(lack, Tokens(cost));
            if admits {
                bucket.spend(&mut self.0, now, Tokens(cost));
            }
            admits
        }

        fn crowd(&mut self, bucket: &TokenBucket, secs: u64) -> usize {
            (0..100).filter(|_| self.admits(bucket, Micros::from_secs(1_000_000 + secs), 1)).count()
        }
    }

    const MINUTE: Micros = Micros::from_secs(60);

    #[test]
    fn a_smaller_bucket_makes_no_room_in_a_larger_one_and_is_empty_and_no_worse() {
        let (large, small) = (bucket(50, 1, MINUTE), bucket(5, 1, MINUTE));
        let mut kept = Kept::default();
        assert_eq!(kept.crowd(&large, 0), 50);
        assert_eq!((kept.crowd(&small, 0), kept.crowd(&large, 0)), (0, 0));
        assert_eq!((kept.crowd(&small, 180), kept.crowd(&small, 240), kept.crowd(&large, 240)), (3, 1, 0));
        assert_eq!((kept.crowd(&small, 900), kept.crowd(&large, 900)), (5, 6));
    }

    #[test]
    fn what_is_spent_stays_spent_at_another_rate() {
        let (quick, slow) = (bucket(10, 10, MINUTE), bucket(10, 10, MINUTE.times(60)));
        let mut kept = Kept::default();
        assert_eq!((kept.crowd(&quick, 0), kept.crowd(&slow, 1), kept.crowd(&slow, 361)), (10, 0, 1));
        assert_eq!((kept.crowd(&quick, 361), kept.crowd(&quick, 373)), (0, 2));
    }

    #[test]
    fn what_is_no_whole_unit_at_another_rate_is_rounded_up() {
        let (in_threes, in_twos) = (bucket(2, 1, Micros(3)), bucket(2, 1, Micros(2)));
        let mut kept = Kept::default();
        assert!(kept.admits(&in_threes, Micros(10), 1) && kept.admits(&in_threes, Micros(11), 1));
        // 5 units of 3 a token are spent, which are 10/3 units of 2.
        assert_eq!([12, 13].map(|micros| kept.admits(&in_twos, Micros(micros), 1)), [false, true]);
    }

    #[test]
    fn a_smaller_bucket_has_as_many_tokens_at_another_rate() {
        let (large, small, faster) = (bucket(50, 1, MINUTE), bucket(5, 1, MINUTE), bucket(5, 2, MINUTE));
        let mut kept = Kept::default();
        assert_eq!(kept.crowd(&large, 0), 50);
        assert!(kept.admits(&small, Micros::from_secs(1_000_180), 1));
        assert_eq!(kept.crowd(&faster, 180), 2);
    }

    #[test]
    fn what_a_larger_bucket_spends_leaves_a_smaller_one_empty_and_no_worse() {
        let (large, small) = (bucket(50, 1, MINUTE), bucket(5, 1, MINUTE));
        let mut kept = Kept::default();
        let at = |secs: u64| Micros::from_secs(1_000_000 + secs);
        assert!(kept.admits(&large, at(0), 45) && kept.admits(&small, at(180), 1));
        assert!(kept.admits(&large, at(180), 5) && kept.admits(&large, at(360), 1));
        assert_eq!(kept.crowd(&small, 360), 2);
    }

    #[test]
    fn tokens_that_requests_wait_for_are_not_handed_out_where_none_may_wait() {
        let plain = bucket(10, 10, MINUTE);
        let shaped = plain.with_max_delay(MINUTE).unwrap();
        let mut kept = Kept::default();
        assert_eq!(kept.crowd(&shaped, 0), 20);
        assert_eq!([30, 60, 66].map(|secs| kept.crowd(&plain, secs)), [0, 0, 1]);
    }

    #[test]
    fn what_the_last_request_spent_of_a_plain_bucket_is_refunded_and_nothing_else() {
        let (ten, faster) = (bucket(10, 10, MINUTE), bucket(10, 20, MINUTE));
        let (at, price, full_in) = (Micros::from_secs(100), ten.price(Tokens(1)), ten.time_for(Tokens(1)));
        let spend = |state: Option<&BucketState>, leased| BucketState::open(state, at, &ten, &[]).spend(price, leased);
        let once = spend(None, None);
        let mut refunded = once.clone();
        assert!(refunded.refund(at, &ten, full_in, price));
        assert_eq!(refunded, BucketState { spent: 0, ..once.clone() });
        let leased = spend(None, Some((at.plus(MINUTE), price)));
        for (state, bucket) in [(spend(Some(&once), None), &ten), (once, &faster), (leased, &ten)] {
            let mut kept = state.clone();
            assert!(!kept.refund(at, bucket, full_in, price));
            assert_eq!(kept, state);
        }
    }

    #[test]
    fn a_clock_that_is_set_back_hands_out_nothing_and_the_bucket_fills_from_then() {
        let ten = bucket(10, 10, MINUTE);
        let mut kept = Kept::default();
        assert_eq!(kept.crowd(&ten, 3_600), 10);
        assert_eq!([0, 12].map(|secs| kept.crowd(&ten, secs)), [0, 2]);
    }

    proptest! {
        #[test]
        fn no_window_admits_more_than_the_largest_and_fastest(
            shapes in proptest::collection::vec((1_u64..40, 1_u64..9, 1_u64..300_000), 1..5),
            history in proptest::collection::vec((0_usize..4, 0_u64..500_000, 1_u64..9), 1..100),
        ) {
            let (mut kept, mut now, mut admitted) = (Kept::default(), Micros(1 << 50), Vec::new());
            for (which, pause, cost) in history {
                now = now.plus(Micros(if pause > 300_000 { 0 } else { pause }));
                let (capacity, tokens, interval) = shapes[which % shapes.len()];
                if kept.admits(&bucket(capacity, tokens, Micros(interval)), now, cost) {
                    admitted.push((now.0, cost));
                }
            }
            let capacity = shapes.iter().map(|shape| shape.0).max().unwrap();
            let fastest = shapes.iter().max_by(|one, other| (one.1 * other.2).cmp(&(other.1 * one.2))).unwrap();
            for (i, &(since, _)) in admitted.iter().enumerate() {
                let mut spent = 0;
                for &(until, cost) in &admitted[i..] {
                    spent += cost;
                    prop_assert!(spent * fastest.2 <= capacity * fastest.2 + (until - since) * fastest.1);
                }
            }
        }
    }
}
