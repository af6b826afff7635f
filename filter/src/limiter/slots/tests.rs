#![allow(clippy::arithmetic_side_effects)]

use core::num::NonZeroU64;

use super::*;
use crate::limit::{Algorithm, Algorithms, Concurrency};
use crate::units::Tokens;

const SEC: fn(u64) -> Micros = Micros::from_secs;
const MS: fn(u64) -> Micros = Micros::from_millis;

/// Slot of a request, with a lease of 3 s, renewed each second.
fn holds(request: u64) -> HeldSlots {
    holds_of(b"key", request)
}

fn holds_of(key: &[u8], request: u64) -> HeldSlots {
    let concurrency = Algorithm::Concurrency(Concurrency::new(NonZeroU64::MIN, SEC(3)).unwrap());
    let check = Algorithms::new(&[concurrency]).unwrap().checks(0, key, Tokens(1), true).collect();
    Check::new(check, SlotOwner::new(1, request)).possible_slots().unwrap()
}

#[derive(Default)]
struct Fixture {
    slots: Slots,
    background: BackgroundCalls,
    scripts: Scripts,
}

impl Fixture {
    fn release(&mut self, now: Micros, holds: &HeldSlots, is_guess: bool) -> (Ticket, Call) {
        let mut calls = self.slots.release(now, &mut self.background, holds, is_guess, &self.scripts);
        assert_eq!(calls.len(), 1);
        calls.remove(0)
    }

    fn due(&mut self, now: Micros) -> Vec<(Ticket, Call)> {
        self.slots.due(now, &mut self.background, &self.scripts)
    }

    /// Completes a release: `held` of its slots were held.
    fn released(&mut self, now: Micros, ticket: Ticket, held: i64) {
        self.slots.completed(now, ticket, Ok(Reply::Integer(held)));
    }

    fn fail(&mut self, now: Micros, ticket: Ticket, failure: Failure) {
        self.slots.completed(now, ticket, Err(failure));
    }
}

#[test]
fn a_slot_is_renewed_three_times_a_lease_until_its_request_ends() {
    let mut fixture = Fixture::default();
    fixture.slots.take(SEC(10), RequestId(1), holds(1));
    assert_eq!(fixture.slots.next_due(), Some(SEC(11)));
    assert_eq!(fixture.due(SEC(10)), []);
    let renewals = fixture.due(SEC(11));
    assert_eq!(renewals.iter().map(|(_, call)| call).collect::<Vec<_>>(), [&holds(1).renew_call(&fixture.scripts)]);
    assert_eq!(fixture.slots.next_due(), Some(SEC(12)));
    assert_eq!(fixture.slots.leave(RequestId(1)), Some(holds(1)));
    assert_eq!((fixture.slots.next_due(), fixture.slots.leave(RequestId(1))), (None, None));
}

#[test]
fn slots_taken_later_do_not_put_off_the_renewal_of_earlier_ones() {
    let mut fixture = Fixture::default();
    fixture.slots.take(SEC(10), RequestId(1), holds_of(b"one", 1));
    fixture.slots.take(SEC(10).plus(MS(900)), RequestId(1), holds_of(b"other", 1));
    assert_eq!(fixture.slots.next_due(), Some(SEC(11)));
    assert_eq!(fixture.due(SEC(11)).len(), 1);
    assert_eq!(fixture.slots.leave(RequestId(1)), Some(holds_of(b"one", 1).and(holds_of(b"other", 1))));
}

#[test]
fn all_leases_are_renewed_in_time_however_many_there_are() {
    let mut fixture = Fixture::default();
    for request in 0..8_000 {
        fixture.slots.take(SEC(10), RequestId(request), holds(request.into()));
    }
    let calls = fixture.due(SEC(11));
    assert_eq!(calls.len(), 8_000_usize.div_ceil(PER_CALL));
    assert_eq!(fixture.slots.next_due(), Some(SEC(12)));
}

#[test]
fn a_failed_release_is_retried_until_the_lease_ends() {
    let mut fixture = Fixture::default();
    let (ticket, call) = fixture.release(SEC(10), &holds(1), false);
    assert_eq!(call, holds(1).release_call(&fixture.scripts));
    fixture.fail(SEC(10), ticket, Failure::Unavailable);
    assert_eq!((fixture.due(SEC(10)), fixture.slots.next_due()), (vec![], Some(SEC(10).plus(MS(250)))));
    let again = fixture.due(SEC(11));
    assert_eq!(again.iter().map(|(_, call)| call).collect::<Vec<_>>(), [&call]);
    fixture.fail(SEC(12), again[0].0, Failure::Timeout);
    assert_eq!(fixture.due(SEC(13)), [], "Redis has freed it");
    assert_eq!(fixture.slots.next_due(), None);
}

#[test]
fn a_released_slot_is_not_pending() {
    for is_held in [0, 1] {
        let mut fixture = Fixture::default();
        let (ticket, _) = fixture.release(SEC(10), &holds(1), false);
        fixture.released(SEC(10), ticket, is_held);
        assert_eq!((fixture.slots.next_due(), fixture.slots.returning.len()), (None, 0));
    }
}

#[test]
fn all_failed_releases_are_kept_and_retried_in_few_calls() {
    let mut fixture = Fixture::default();
    for request in 0..20_000 {
        let (ticket, _) = fixture.release(SEC(10), &holds(request), false);
        fixture.fail(SEC(10), ticket, Failure::Unavailable);
    }
    assert_eq!((fixture.slots.pending_releases.len(), fixture.slots.returning.len()), (20_000, 0));
    let (mut now, mut calls) = (SEC(11), 0);
    while let Some(at) = fixture.slots.next_due() {
        now = now.max(at);
        let due = fixture.due(now);
        assert!(due.len() <= PER_TICK / PER_CALL);
        calls += due.len();
        due.into_iter().for_each(|(ticket, _)| fixture.released(now, ticket, 1));
    }
    assert_eq!((calls, fixture.slots.pending_releases.len(), now), (20_000_usize.div_ceil(PER_CALL), 0, SEC(11)));
}

#[test]
fn slots_of_several_keys_are_released_in_one_call_unless_redis_refuses_that() {
    let mut fixture = Fixture::default();
    let fail_releases = |fixture: &mut Fixture| {
        for key in [b"a", b"b"] {
            for request in 0..10 {
                let (ticket, _) = fixture.release(SEC(10), &holds_of(key, request), false);
                fixture.fail(SEC(10), ticket, Failure::Reset);
            }
        }
    };
    fail_releases(&mut fixture);
    let calls = fixture.due(SEC(11));
    assert_eq!(calls.len(), 1);
    fixture.fail(SEC(11), calls[0].0, Failure::ClusterMode);
    let calls = fixture.due(SEC(12));
    assert_eq!(calls.len(), 2, "one of each key");
    calls.into_iter().for_each(|(ticket, _)| fixture.released(SEC(12), ticket, 10));
    assert_eq!((fixture.slots.pending_releases.len(), fixture.slots.returning.len()), (0, 0));
}

#[test]
fn a_guess_is_released_until_it_was_held_or_its_lease_has_ended() {
    let mut fixture = Fixture::default();
    let (ticket, _) = fixture.release(SEC(10), &holds(1), true);
    fixture.released(SEC(10), ticket, 0);
    let again = fixture.due(SEC(10).plus(MS(250)));
    assert_eq!(again.len(), 1);
    fixture.released(SEC(10), again[0].0, 1);
    assert_eq!((fixture.slots.next_due(), fixture.slots.pending_releases.len()), (None, 0), "it was held");

    let (ticket, _) = fixture.release(SEC(10), &holds(2), true);
    fixture.released(SEC(10), ticket, 0);
    let mut times = 1;
    while let Some(at) = fixture.slots.next_due() {
        fixture.due(at).into_iter().for_each(|(ticket, _)| {
            times += 1;
            fixture.released(at, ticket, 0);
        });
    }
    assert_eq!(times, 4, "after 0, 250, 750 and 1,750 ms; then its lease has ended");
}

#[test]
fn guesses_are_bounded_and_do_not_displace_held_slots() {
    let mut fixture = Fixture::default();
    for request in 0..40_000 {
        let (ticket, _) = fixture.release(SEC(10), &holds(request), request >= 1_000);
        fixture.fail(SEC(10), ticket, Failure::Unavailable);
    }
    assert_eq!(fixture.slots.pending_releases.len(), 1_000 + 16_384);
}
