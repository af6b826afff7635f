//! Concurrency: a limit on requests in flight. Each request takes a slot and releases it when it ends, in whatever way.
//!
//! A slot has a lease: if the proxy crashes, the slot is free again when the lease ends, by Redis' clock. A worker
//! renews the lease of a request that outlasts a third of it. Redis keeps a sorted set of slots by the ends of their
//! leases. A slot's name contains its lease, so that another proxy, or a later configuration, may have another lease
//! without ending the slot. A slot that ends later than its own lease from now was taken before the clock was set back.
//!
//! This is the specification; Redis runs `concurrency.lua` beside it. [`HeldSlots`](crate::limit::HeldSlots) releases
//! slots.

use super::arguments::Arguments;
use super::bounds::{AlgorithmError, MAX_LIMIT, MAX_SLOT_LEASE, MIN_SLOT_LEASE, limit_within};
use super::decision::{BucketDecision, Level};
use super::slot_owner::SlotOwner;
use crate::units::{Micros, Tokens};
use alloc::collections::BTreeMap;

/// Retry-after of a denial. Slots are released when requests end, at an unknown time; the ends of the leases, by which
/// all slots are free, would be far too late.
const RETRY_AFTER: Micros = Micros::from_secs(1);

/// Limit on requests in flight. A request takes one slot, whatever it costs, and no slot if it costs nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Concurrency {
    max: u64,
    lease: Micros,
}

/// State of a bucket in Redis: the end of the lease of each slot, by owner and lease.
pub(in crate::limit) type Leases = BTreeMap<(SlotOwner, Micros), Micros>;

impl Concurrency {
    /// Returns a limit of `max` requests in flight, with leases of `lease`; 0 blocks every request.
    ///
    /// # Errors
    /// Where `max` is over 2³², or `lease` under a second or over a day.
    pub fn new(max: impl Into<u64>, lease: Micros) -> Result<Self, AlgorithmError> {
        if !(MIN_SLOT_LEASE..=MAX_SLOT_LEASE).contains(&lease) {
            return Err(AlgorithmError::Lease { min: MIN_SLOT_LEASE, max: MAX_SLOT_LEASE, found: lease });
        }
        Ok(Self { max: limit_within(max.into(), MAX_LIMIT)?, lease })
    }

    /// Most requests in flight.
    #[must_use]
    pub fn max(&self) -> Tokens {
        Tokens(self.max)
    }

    /// Time for which a slot is held unless its owner renews it.
    #[must_use]
    pub fn lease(&self) -> Micros {
        self.lease
    }

    /// Reads the state before the decision, as Redis does. Returns the number of slots held.
    pub(in crate::limit) fn look(&self, leases: &mut Leases, now: Micros, cost: Tokens) -> u64 {
        let held = leases.values().filter(|end| **end > now).count();
        let held = u64::try_from(held).unwrap_or(u64::MAX);
        if held.saturating_add(slots(cost)) > self.max {
            clamp_leases(leases, now);
        }
        held
    }

    /// Takes a slot, as Redis does after [`look`](Self::look).
    pub(in crate::limit) fn spend(&self, leases: &mut Leases, now: Micros, owner: SlotOwner) {
        leases.retain(|_, end| *end > now);
        leases.insert((owner, self.lease), now.plus(self.lease));
    }

    pub(super) fn arguments(&self, cost: Tokens) -> Arguments {
        Arguments::of_count("c", Tokens(slots(cost)), self.max(), [self.lease, Micros::ZERO])
    }

    pub(super) fn decide(&self, held: u64, cost: Tokens) -> BucketDecision {
        // A bucket that a larger limit left overdrawn counts as used up.
        let held = held.min(self.max);
        let held_after = held.saturating_add(slots(cost));
        let admits = held_after <= self.max;
        let level = |held: u64| Level {
            remaining: Tokens(self.max.saturating_sub(held)),
            reset: if held > 0 { RETRY_AFTER } else { Micros::ZERO },
        };
        BucketDecision {
            capacity: self.max(),
            period: None,
            admits,
            retry_after: Some(if admits { Micros::ZERO } else { RETRY_AFTER }),
            delay: Micros::ZERO,
            before: level(held),
            after: level(held_after),
            granted: None,
            held: Tokens(0),
        }
    }
}

/// Moves ends of leases back after the clock was set back: while the slot that ends last ends later than its own lease
/// from now, it counts as taken now. Other earlier slots stay as they are behind a longer lease, and end before it.
fn clamp_leases(leases: &mut Leases, now: Micros) {
    let last = |leases: &Leases| {
        let (slot, end) = leases.iter().max_by_key(|((owner, _), end)| (**end, *owner))?;
        Some((*slot, *end))
    };
    while let Some((slot, end)) = last(leases) {
        let latest = now.plus(slot.1);
        if end <= latest {
            return;
        }
        leases.insert(slot, latest);
    }
}

fn slots(cost: Tokens) -> u64 {
    cost.0.min(1)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_more_than_the_maximum_are_ever_in_flight(
            max in 1_u64..6,
            history in proptest::collection::vec((0_u64..400_000, any::<bool>(), 0_usize..8), 1..200),
        ) {
            let concurrency = Concurrency::new(max, Micros::from_secs(1)).unwrap();
            let (mut now, mut leases) = (Micros(1 << 40), Leases::new());
            let mut in_flight: Vec<(SlotOwner, Micros)> = Vec::new();
            for (i, (pause, ends, which)) in history.into_iter().enumerate() {
                now = now.plus(Micros(pause));
                in_flight.retain(|(_, since)| since.plus(Micros::from_secs(1)) > now);
                if ends && which < in_flight.len() {
                    leases.remove(&(in_flight.remove(which).0, Micros::from_secs(1)));
                    continue;
                }
                let held = concurrency.look(&mut leases, now, Tokens(5));
                prop_assert_eq!(held, u64::try_from(in_flight.len()).unwrap());
                let admits = concurrency.decide(held, Tokens(5)).admits;
                prop_assert_eq!(admits, held < max);
                if admits {
                    let owner = SlotOwner::new(1, u64::try_from(i).unwrap());
                    concurrency.spend(&mut leases, now, owner);
                    in_flight.push((owner, now));
                }
            }
        }
    }

    #[test]
    fn a_request_that_costs_nothing_takes_no_slot() {
        let one = Concurrency::new(1_u64, Micros::from_secs(1)).unwrap();
        assert!(one.decide(1, Tokens(0)).admits);
        assert!(!one.decide(1, Tokens(1)).admits);
    }

    #[test]
    fn slots_beyond_the_maximum_count_as_taken_now_once_the_clock_was_set_back() {
        let second = Micros::from_secs(1);
        let (larger, one) = (Concurrency::new(9_u64, second).unwrap(), Concurrency::new(1_u64, second).unwrap());
        let mut leases = Leases::new();
        (0..3).for_each(|request| larger.spend(&mut leases, Micros::from_secs(100), SlotOwner::new(1, request)));
        let back = Micros::from_secs(50);
        let held = |leases: &mut Leases, of: &Concurrency, at| of.look(leases, at, Tokens(1));
        assert_eq!(held(&mut leases.clone(), &larger, back), 3);
        assert_eq!(held(&mut leases, &one, back), 3);
        assert_eq!([back.plus(Micros(999_999)), back.plus(second)].map(|at| held(&mut leases, &one, at)), [3, 0]);
    }

    #[test]
    fn slots_within_the_maximum_keep_their_ends() {
        let second = Micros::from_secs(1);
        let two = Concurrency::new(2_u64, second).unwrap();
        let mut leases = Leases::new();
        two.spend(&mut leases, Micros::from_secs(100), SlotOwner::new(1, 1));
        assert_eq!(two.look(&mut leases, Micros::from_secs(50), Tokens(1)), 1);
        assert_eq!(leases.values().next(), Some(&Micros::from_secs(101)));
    }

    #[test]
    fn a_limit_without_requests_in_flight_needs_no_time_to_be_whole() {
        let two = Concurrency::new(2_u64, Micros::from_secs(1)).unwrap();
        let [before, after] = [two.decide(0, Tokens(1)).before, two.decide(0, Tokens(1)).after];
        assert_eq!((before.remaining, before.reset), (Tokens(2), Micros::ZERO));
        assert_eq!((after.remaining, after.reset), (Tokens(1), RETRY_AFTER));
    }
}
