//! State of a token bucket in Redis, and how buckets of other sizes and rates read it.
//!
//! State outlives its parameters: a limit changes while its buckets live, or two proxies have different limits for a
//! time. So a bucket's state is the tokens that are *spent* and have not flowed back, whatever the rate: if the rate
//! changes, spent tokens stay spent. A leased token is spent until its lease ends or the worker returns it.
//!
//! A bucket whose capacity is less than the tokens spent counts as empty at the last write, not as overdrawn, and fills
//! from then on at its own rate. It makes no room in a larger bucket, for which all tokens stay spent: a denied request
//! changes nothing, and after an admitted request the state has two levels: all tokens spent, and the tokens spent of
//! the smaller bucket (*narrow*). A bucket of a third size takes the higher of the two levels that these give for it.
//!
//! So the tokens admitted within a window are at most the largest capacity plus the tokens that flow in at the fastest
//! rate in force: each admitted request adds its cost to the tokens spent; no bucket admits beyond its capacity; the
//! largest bucket never lacks less than any other bucket, and never more than that plus the difference in capacity.
//!
//! This is the specification; Redis runs `token_state.lua` beside it.

use alloc::vec::Vec;

use super::leased_bucket::Settled;
use super::rate::{MOST_UNITS, Rate, Units};
use super::token_bucket::TokenBucket;
use crate::units::{Micros, Tokens};

/// State of a token bucket in Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TokenState {
    /// Time of the last write.
    at: Micros,
    /// The writer's rate, in whose units the state counts.
    rate: Rate,
    /// Whether held requests wait for tokens, which are reserved for them, whatever the capacity.
    delays: bool,
    /// Units that were spent at the last write and had not flowed back, without leased units.
    spent: u64,
    narrow: Option<Narrow>,
    /// Leases in the order of their ends.
    leases: Vec<Lease>,
}

/// Level of a bucket whose room is less than the units spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Narrow {
    room: u64,
    spent: u64,
}

/// Units that are leased until `ends`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lease {
    ends: Micros,
    units: u64,
}

/// State as a bucket reads it at a given time, to spend from it.
#[derive(Debug)]
pub(super) struct OpenBucket {
    state: TokenState,
    /// Units that this bucket lacks of being full, without leased units.
    lack: u64,
    room: u64,
    delays: bool,
    is_changed: bool,
}

impl TokenState {
    /// Reads the state of a bucket, and settles leases. `None` is a full bucket.
    pub(super) fn open(state: Option<&Self>, now: Micros, bucket: &TokenBucket, settled: &[Settled]) -> OpenBucket {
        let (rate, room) = (bucket.rate(), bucket.room().0);
        let full = Self { at: now, rate, delays: false, spent: 0, narrow: None, leases: Vec::new() };
        let mut state = state.map_or(full, |state| state.converted(rate));
        let ahead = state.at.minus(now);
        state.at = state.at.minus(ahead);
        state.leases.iter_mut().for_each(|lease| lease.ends = lease.ends.minus(ahead));

        let (lack, delays) = (state.lack_of(room), bucket.max_delay() > Micros::ZERO);
        let mut open = OpenBucket { state, lack, room, delays, is_changed: ahead > Micros::ZERO };
        open.age(now);
        if !open.state.delays {
            open.lack = open.lack.min(room.saturating_sub(open.state.leased()));
        }
        settled.iter().for_each(|settled| open.settle(settled));
        open
    }

    /// Refunds `price`, which a request spent at `at`, and returns whether it did.
    ///
    /// Only if that request was the last that spent, from a bucket of the same rate, and left the bucket `full_in` from
    /// full; and only if no bucket of another size and no lease has a part in the state.
    pub(super) fn refund(&mut self, at: Micros, bucket: &TokenBucket, full_in: Micros, price: Units) -> bool {
        let is_plain = self.narrow.is_none() && self.leases.is_empty();
        let is_same_shape = self.rate == bucket.rate() && self.delays == (bucket.max_delay() > Micros::ZERO);
        let is_last = self.at == at && self.rate.time_for(Units(self.spent)) == full_in;
        if is_plain && is_same_shape && is_last {
            self.spent = self.spent.saturating_sub(price.0);
        }
        is_plain && is_same_shape && is_last
    }

    /// The same state in units of another rate. A token stays a token; parts of a unit are rounded up.
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

    /// Units that are leased.
    fn leased(&self) -> u64 {
        self.leases.iter().fold(0, |sum, lease| sum.saturating_add(lease.units))
    }

    /// Units that a bucket of `room` lacked at the last write, without leased units.
    fn lack_of(&self, room: u64) -> u64 {
        if self.delays {
            return self.spent;
        }
        let lack = self.spent.min(room.saturating_sub(self.leased()));
        self.narrow.map_or(lack, |narrow| lack.min(narrow.spent.saturating_add(room.saturating_sub(narrow.room))))
    }

    /// Units of a bucket of `room` that are still spent at `now`, of `units` spent at the last write. Leases that have
    /// ended since count as used at their ends.
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
    /// Units that the bucket lacks of being full, leased units included, at most its room.
    pub(super) fn lack(&self) -> Units {
        Units(self.lack.saturating_add(self.state.leased()).min(self.room))
    }

    /// Number of leases.
    pub(super) fn leases(&self) -> usize {
        self.state.leases.len()
    }

    /// State to write even if the request is denied. `None` where nothing changed.
    pub(super) fn changed(self) -> Option<TokenState> {
        let delays = self.state.delays || self.delays;
        self.is_changed.then(|| TokenState { delays, ..self.spend(Units(0), None) })
    }

    /// State after `price` is spent, and the units of `leased` are leased until its time.
    pub(super) fn spend(mut self, price: Units, leased: Option<(Micros, Units)>) -> TokenState {
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
        let still_delays = self.state.delays && spent.saturating_add(self.state.leased()) > self.room;
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

    /// Applies a settlement. Where it exceeds the lease, used tokens count first; where the lease has ended, it is
    /// ignored.
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

    /// State of one bucket in Redis.
    #[derive(Default)]
    struct Bucket(Option<TokenState>);

    impl Bucket {
        fn admits(&mut self, bucket: &TokenBucket, now: Micros, cost: u64) -> bool {
            let lack = bucket.look(&mut self.0, now);
            let admits = bucket.admits(lack, Tokens(cost));
            if admits {
                bucket.spend(&mut self.0, now, Tokens(cost));
            }
            admits
        }

        /// Tokens admitted of 100 requests for one token each.
        fn admitted_of_100(&mut self, bucket: &TokenBucket, secs: u64) -> usize {
            (0..100).filter(|_| self.admits(bucket, Micros::from_secs(1_000_000 + secs), 1)).count()
        }
    }

    const MINUTE: Micros = Micros::from_secs(60);

    #[test]
    fn a_smaller_bucket_makes_no_room_in_a_larger_one_and_counts_as_empty() {
        let (large, small) = (bucket(50, 1, MINUTE), bucket(5, 1, MINUTE));
        let mut stored = Bucket::default();
        assert_eq!(stored.admitted_of_100(&large, 0), 50);
        assert_eq!((stored.admitted_of_100(&small, 0), stored.admitted_of_100(&large, 0)), (0, 0));
        assert_eq!(
            (
                stored.admitted_of_100(&small, 180),
                stored.admitted_of_100(&small, 240),
                stored.admitted_of_100(&large, 240)
            ),
            (3, 1, 0)
        );
        assert_eq!((stored.admitted_of_100(&small, 900), stored.admitted_of_100(&large, 900)), (5, 6));
    }

    #[test]
    fn spent_tokens_stay_spent_at_another_rate() {
        let (quick, slow) = (bucket(10, 10, MINUTE), bucket(10, 10, MINUTE.times(60)));
        let mut stored = Bucket::default();
        assert_eq!(
            (stored.admitted_of_100(&quick, 0), stored.admitted_of_100(&slow, 1), stored.admitted_of_100(&slow, 361)),
            (10, 0, 1)
        );
        assert_eq!((stored.admitted_of_100(&quick, 361), stored.admitted_of_100(&quick, 373)), (0, 2));
    }

    #[test]
    fn what_is_no_whole_unit_at_another_rate_is_rounded_up() {
        let (in_threes, in_twos) = (bucket(2, 1, Micros(3)), bucket(2, 1, Micros(2)));
        let mut kept = Bucket::default();
        assert!(kept.admits(&in_threes, Micros(10), 1) && kept.admits(&in_threes, Micros(11), 1));
        // 5 units of 3 a token are spent, which are 10/3 units of 2.
        assert_eq!([12, 13].map(|micros| kept.admits(&in_twos, Micros(micros), 1)), [false, true]);
    }

    #[test]
    fn a_smaller_bucket_has_as_many_tokens_at_another_rate() {
        let (large, small, faster) = (bucket(50, 1, MINUTE), bucket(5, 1, MINUTE), bucket(5, 2, MINUTE));
        let mut kept = Bucket::default();
        assert_eq!(kept.admitted_of_100(&large, 0), 50);
        assert!(kept.admits(&small, Micros::from_secs(1_000_180), 1));
        assert_eq!(kept.admitted_of_100(&faster, 180), 2);
    }

    #[test]
    fn what_a_larger_bucket_spends_leaves_a_smaller_one_empty_and_no_worse() {
        let (large, small) = (bucket(50, 1, MINUTE), bucket(5, 1, MINUTE));
        let mut kept = Bucket::default();
        let at = |secs: u64| Micros::from_secs(1_000_000 + secs);
        assert!(kept.admits(&large, at(0), 45) && kept.admits(&small, at(180), 1));
        assert!(kept.admits(&large, at(180), 5) && kept.admits(&large, at(360), 1));
        assert_eq!(kept.admitted_of_100(&small, 360), 2);
    }

    #[test]
    fn tokens_reserved_for_held_requests_stay_reserved_without_a_delay() {
        let plain = bucket(10, 10, MINUTE);
        let shaped = plain.with_max_delay(MINUTE).unwrap();
        let mut stored = Bucket::default();
        assert_eq!(stored.admitted_of_100(&shaped, 0), 20);
        assert_eq!([30, 60, 66].map(|secs| stored.admitted_of_100(&plain, secs)), [0, 0, 1]);
    }

    #[test]
    fn what_the_last_request_spent_of_a_plain_bucket_is_refunded_and_nothing_else() {
        let (ten, faster) = (bucket(10, 10, MINUTE), bucket(10, 20, MINUTE));
        let (at, price, full_in) = (Micros::from_secs(100), ten.price(Tokens(1)), ten.time_for(Tokens(1)));
        let spend = |state: Option<&TokenState>, leased| TokenState::open(state, at, &ten, &[]).spend(price, leased);
        let once = spend(None, None);
        let mut refunded = once.clone();
        assert!(refunded.refund(at, &ten, full_in, price));
        assert_eq!(refunded, TokenState { spent: 0, ..once.clone() });
        let leased = spend(None, Some((at.plus(MINUTE), price)));
        for (state, bucket) in [(spend(Some(&once), None), &ten), (once, &faster), (leased, &ten)] {
            let mut kept = state.clone();
            assert!(!kept.refund(at, bucket, full_in, price));
            assert_eq!(kept, state);
        }
    }

    #[test]
    fn a_clock_that_is_set_back_frees_no_token_and_the_bucket_fills_from_then() {
        let ten = bucket(10, 10, MINUTE);
        let mut stored = Bucket::default();
        assert_eq!(stored.admitted_of_100(&ten, 3_600), 10);
        assert_eq!([0, 12].map(|secs| stored.admitted_of_100(&ten, secs)), [0, 2]);
    }

    proptest! {
        #[test]
        fn no_window_admits_more_than_the_largest_and_fastest(
            shapes in proptest::collection::vec((1_u64..40, 1_u64..9, 1_u64..300_000), 1..5),
            history in proptest::collection::vec((0_usize..4, 0_u64..500_000, 1_u64..9), 1..100),
        ) {
            let (mut stored, mut now, mut admitted) = (Bucket::default(), Micros(1 << 50), Vec::new());
            for (shape, pause, cost) in history {
                now = now.plus(Micros(if pause > 300_000 { 0 } else { pause }));
                let (capacity, tokens, interval) = shapes[shape % shapes.len()];
                if stored.admits(&bucket(capacity, tokens, Micros(interval)), now, cost) {
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
