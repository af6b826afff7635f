//! Tests of the lease table of one worker, against scripted replies of Redis.

use core::num::NonZeroU64;

use super::*;
use crate::limit::TokenBucket;
use crate::limiter::pending::PendingRequest;
use crate::response::ClientProtocol;

const MS: fn(u64) -> Micros = Micros::from_millis;

/// Check of a bucket of 1,000 tokens, 1,000 a second, leased for 1 s.
fn check(cost: u64) -> BucketCheck {
    let thousand = NonZeroU64::new(1_000).unwrap();
    let bucket = TokenBucket::new(thousand, thousand, Micros::from_secs(1)).unwrap();
    let algorithm = Algorithm::LeasedBucket(LeasedBucket::new(bucket, Micros::from_secs(1)).unwrap());
    BucketCheck {
        limit: 0,
        window: 0,
        key: b"key".to_vec(),
        algorithm,
        cost: Tokens(cost),
        enforced: true,
        applied: None,
    }
}

fn asks(check: &BucketCheck) -> LeaseRequest {
    match check.algorithm {
        Algorithm::LeasedBucket(leased) => leased.request(),
        _ => unreachable!("a leased bucket"),
    }
}

fn granted(check: &BucketCheck, tokens: u64, epoch: u64) -> Outcome {
    let bucket = check.algorithm;
    let Algorithm::LeasedBucket(leased) = bucket else { unreachable!("a leased bucket") };
    let grant = Grant { tokens: Tokens(tokens), ends: Micros(epoch), valid_for: MS(1_500) };
    Outcome {
        granted: (tokens > 0).then_some(grant),
        remaining: Tokens(500),
        ..Lease::new(leased, 0, Tokens(0), MS(0)).outcome(check)
    }
}

/// Requests a lease at `now`, and is granted at most `most` of the wanted tokens.
fn ask(leases: &mut LeaseTable, now: Micros, most: u64, epoch: u64) -> LeaseRequest {
    let mut call = check(1);
    leases.request(now, Tokens(100), &mut call);
    let ask = asks(&call);
    leases.on_outcome(now, &call, Some(&granted(&call, ask.want.0.min(most), epoch)));
    ask
}

fn spends(leases: &mut LeaseTable, now: Micros) -> bool {
    let spent = leases.spend(now, &check(1));
    spent.iter().for_each(|spent| leases.decided(now, &check(1), spent, true));
    spent.is_some()
}

/// Table with 8 leased tokens of epoch 7, valid until 1.501 s.
fn eight() -> LeaseTable {
    let mut leases = LeaseTable::new(false);
    assert_eq!(ask(&mut leases, MS(0), 0, 7).want, Tokens(0), "the key has no rate yet");
    assert_eq!(ask(&mut leases, MS(1), 8, 7).want, Tokens(8));
    leases
}

#[test]
fn leased_tokens_are_spent_and_no_more() {
    let mut leases = eight();
    for left in (0..8).rev() {
        let spent = leases.spend(MS(2), &check(1)).unwrap();
        assert_eq!((spent.outcome.admitted, spent.outcome.remaining), (true, Tokens(500 + left)));
    }
    assert!(!spends(&mut leases, MS(2)));
}

#[test]
fn tokens_that_have_ended_are_not_spent() {
    let mut leases = eight();
    assert!(spends(&mut leases, MS(1_500)));
    assert!(!spends(&mut leases, MS(1_501)), "counted from when the call was sent");
    assert_eq!(
        ask(&mut leases, MS(1_600), 0, 8).settled,
        [Settlement::default(); 2],
        "Redis counts the tokens as used"
    );
}

#[test]
fn each_used_token_is_reported_once() {
    let mut leases = eight();
    (0..3).for_each(|_| assert!(spends(&mut leases, MS(2))));
    let settled = ask(&mut leases, MS(3), 0, 7).settled;
    assert_eq!(settled.map(|settled| (settled.ends.0, settled.used.0, settled.unused.0)), [(0, 0, 0), (7, 3, 0)]);
    assert!(ask(&mut leases, MS(4), 0, 7).settled.iter().all(|settled| settled.used == Tokens(0)));
}

#[test]
fn a_denied_request_gives_its_leased_tokens_back() {
    let mut leases = eight();
    let spent = leases.spend(MS(2), &check(8)).unwrap();
    assert!(!spends(&mut leases, MS(2)));
    let settled = ask(&mut leases, MS(3), 0, 7).settled;
    assert!(settled.iter().all(|settled| settled.used == Tokens(0)), "the request is not decided yet: {settled:?}");
    leases.decided(MS(4), &check(8), &spent, false);
    assert!(leases.spend(MS(5), &check(8)).is_some());
}

#[test]
fn tokens_of_a_waiting_request_are_reported_once_it_is_admitted() {
    let mut leases = eight();
    let spent = leases.spend(MS(2), &check(5)).unwrap();
    assert!(spends(&mut leases, MS(3)));
    assert_eq!(ask(&mut leases, MS(3), 0, 7).settled[1].used, Tokens(1));
    leases.decided(MS(4), &check(5), &spent, true);
    assert_eq!(ask(&mut leases, MS(5), 0, 7).settled[1].used, Tokens(5));
}

#[test]
fn tokens_given_back_late_are_returned_to_redis() {
    let mut leases = eight();
    let spent = leases.spend(MS(2), &check(8)).unwrap();
    assert_eq!((leases.due_returns(MS(900)), leases.next_sweep()), (vec![], None), "no token is left");
    leases.decided(MS(1_000), &check(8), &spent, false);
    let idle = leases.due_returns(leases.next_sweep().unwrap().max(MS(1_000)));
    assert_eq!(asks(&idle[0]).settled[1], Settlement { ends: Micros(7), used: Tokens(0), unused: Tokens(8) });
}

#[test]
fn a_token_of_one_epoch_is_not_given_back_to_another() {
    let mut leases = eight();
    let old = leases.spend(MS(2), &check(1)).unwrap();
    ask(&mut leases, MS(1_600), 0, 9);
    assert!(ask(&mut leases, MS(1_601), 8, 9).want > Tokens(0));
    while spends(&mut leases, MS(1_700)) {}
    leases.decided(MS(1_700), &check(1), &old, false);
    assert!(!spends(&mut leases, MS(1_700)));
}

#[test]
fn a_lease_is_refilled_before_its_last_token_is_spent_by_one_call_at_a_time() {
    let mut leases = eight();
    (0..5).for_each(|_| assert!(spends(&mut leases, MS(2))));
    assert_eq!(leases.refill(MS(3), &check(1)), None);
    assert!(spends(&mut leases, MS(3)));
    let ahead = leases.refill(MS(3), &check(1)).unwrap();
    assert_eq!((ahead.cost, asks(&ahead).want), (Tokens(0), Tokens(16)), "twice as many");
    assert_eq!(leases.refill(MS(3), &check(1)), None);
    leases.on_outcome(MS(3), &ahead, Some(&granted(&ahead, 16, 7)));
    (0..18).for_each(|_| assert!(spends(&mut leases, MS(4))));
}

#[test]
fn a_slow_key_leases_nothing_and_a_fast_key_only_its_share() {
    let mut leases = LeaseTable::new(false);
    ask(&mut leases, MS(0), 0, 1);
    assert_eq!(ask(&mut leases, MS(900), 0, 1).want, Tokens(0), "one a second");
    let mut leases = eight();
    for round in 2..20 {
        while spends(&mut leases, MS(round)) {}
        let want = ask(&mut leases, MS(round), 1_000, 7).want;
        assert!(want <= Tokens(100), "{want:?}");
    }
}

#[test]
fn unused_tokens_are_returned() {
    let mut leases = eight();
    assert!(spends(&mut leases, MS(2)));
    assert_eq!(leases.next_sweep(), Some(MS(501)));
    assert_eq!(leases.due_returns(MS(501)), [], "used since");
    let idle = leases.due_returns(MS(511));
    assert_eq!(asks(&idle[0]).settled[1], Settlement { ends: Micros(7), used: Tokens(1), unused: Tokens(7) });
    assert!(!spends(&mut leases, MS(511)));
    assert_eq!((leases.due_returns(MS(600)), leases.next_sweep()), (vec![], None));
}

#[test]
fn remaining_tokens_are_returned_before_the_lease_ends_though_the_key_is_in_use() {
    let mut leases = eight();
    for at in [300, 600, 900, 1_200] {
        assert!(spends(&mut leases, MS(at)));
        assert_eq!(leases.due_returns(MS(at)), []);
    }
    // The lease ends at 1.501 s; its tokens are returned an eighth of its time earlier.
    assert_eq!(leases.next_sweep(), Some(MS(1_376)));
    let ends = leases.due_returns(MS(1_376));
    assert_eq!(asks(&ends[0]).settled[1], Settlement { ends: Micros(7), used: Tokens(4), unused: Tokens(4) });
    assert!(!spends(&mut leases, MS(1_376)));
}

#[test]
fn at_most_one_lease_is_held_and_the_tokens_left_at_its_refill() {
    let mut leases = LeaseTable::new(false);
    for cost in 1..40 {
        let mut call = check(cost);
        if leases.spend(MS(cost), &call).is_none() {
            leases.request(MS(cost), Tokens(20), &mut call);
            leases.on_outcome(MS(cost), &call, Some(&granted(&call, asks(&call).want.0, 7)));
        }
        let left = leases.keys.get_mut(b"key").unwrap().left();
        assert!(left <= 25, "{left} after {cost}");
    }
}

#[test]
fn a_bucket_changed_by_an_override_is_checked_by_redis_and_its_leased_tokens_are_returned() {
    let mut leases = eight();
    assert!(spends(&mut leases, MS(2)));
    let twenty = NonZeroU64::new(20).unwrap();
    let smaller = TokenBucket::new(twenty, twenty, Micros::from_secs(1)).unwrap();
    let smaller = Algorithm::LeasedBucket(LeasedBucket::new(smaller, Micros::from_secs(1)).unwrap());
    let mut call = BucketCheck { algorithm: smaller, ..check(1) };
    assert!(leases.spend(MS(3), &call).is_none(), "the leased tokens are of the larger bucket");
    leases.request(MS(3), Tokens(100), &mut call);
    let returned = Settlement { ends: Micros(7), used: Tokens(1), unused: Tokens(7) };
    assert!(asks(&call).settled.contains(&returned), "{:?}", asks(&call));
    leases.on_outcome(MS(3), &call, Some(&granted(&call, 2, 7)));
    let spent = leases.spend(MS(4), &BucketCheck { algorithm: smaller, ..check(1) }).unwrap();
    assert_eq!(spent.outcome.capacity, Tokens(20));
    assert!(leases.spend(MS(4), &check(1)).is_none());
}

/// Requests carry different numbers: a grant to one of them may arrive after another has replaced the bucket.
#[test]
fn tokens_granted_to_a_bucket_with_other_numbers_are_not_spent() {
    let mut leases = eight();
    let mut large = check(1);
    leases.request(MS(2), Tokens(100), &mut large);
    let twenty = NonZeroU64::new(20).unwrap();
    let smaller = TokenBucket::new(twenty, twenty, Micros::from_secs(1)).unwrap();
    let smaller = Algorithm::LeasedBucket(LeasedBucket::new(smaller, Micros::from_secs(1)).unwrap());
    let mut small = BucketCheck { algorithm: smaller, ..check(1) };
    leases.request(MS(3), Tokens(100), &mut small);
    leases.on_outcome(MS(2), &large, Some(&granted(&large, 8, 7)));
    assert!(leases.spend(MS(4), &BucketCheck { algorithm: smaller, ..check(1) }).is_none());
    assert!(leases.spend(MS(4), &check(1)).is_none());
}

#[test]
fn a_lease_whose_bucket_an_override_replaces_still_waits_for_its_refill() {
    let Algorithm::LeasedBucket(leased) = check(1).algorithm else { unreachable!("a leased bucket") };
    for is_refilling in [true, false] {
        let mut lease = Lease { is_refilling, ..Lease::new(leased, 0, Tokens(9), MS(0)) };
        lease.replace(MS(1), leased, Tokens(9));
        assert_eq!(lease.is_refilling, is_refilling);
    }
}

#[test]
fn an_outcome_of_a_lease_belongs_to_the_check_of_its_limit() {
    let mut leases = eight();
    let checks = [0, 1].map(|limit| BucketCheck { limit, ..check(1) });
    let mut pending = PendingRequest::new(MS(2), ClientProtocol::Http);
    for check in &checks {
        let spent = leases.spend(MS(2), check).unwrap();
        pending.lease_spends.push(LeaseSpend { check: check.clone(), spent });
    }
    for (check, spend) in checks.iter().zip(&pending.lease_spends) {
        assert_eq!(pending.bucket(&spend.spent.outcome), Some(check));
    }
}

#[test]
fn leased_tokens_are_spent_only_until_redis_could_have_another_override_of_their_key() {
    let mut leases = LeaseTable::new(true);
    ask(&mut leases, MS(0), 0, 7);
    ask(&mut leases, MS(1), 8, 7);
    let confirmed_until = MS(1).plus(CONFIRM_WITHIN);
    assert!(spends(&mut leases, confirmed_until.minus(Micros(1))));
    assert!(!spends(&mut leases, confirmed_until));
    assert!(spends(&mut eight(), confirmed_until), "no key has an override");
}

#[test]
fn one_call_at_a_time_asks_for_tokens() {
    let mut leases = LeaseTable::new(false);
    ask(&mut leases, MS(0), 0, 7);
    let [mut first, mut second, mut third] = [check(1), check(1), check(1)];
    leases.request(MS(10), Tokens(100), &mut first);
    leases.request(MS(20), Tokens(100), &mut second);
    assert_eq!([&first, &second].map(|call| asks(call).want), [Tokens(8), Tokens(0)]);
    leases.on_outcome(MS(20), &second, Some(&granted(&second, 0, 7)));
    leases.request(MS(30), Tokens(100), &mut third);
    assert_eq!(asks(&third).want, Tokens(0), "the first has no reply yet");
    leases.on_outcome(MS(10), &first, Some(&granted(&first, 8, 7)));
    assert_eq!(ask(&mut leases, MS(40), 8, 7).want, Tokens(16));
}

#[test]
fn a_low_lease_whose_rate_is_not_known_asks_for_nothing() {
    let mut leases = eight();
    (0..8).for_each(|_| assert!(spends(&mut leases, MS(1))));
    assert!(leases.refill(MS(1), &check(1)).is_none());
    assert!(leases.refill(MS(2), &check(1)).is_some());
}

#[test]
fn a_request_without_cost_is_served_by_a_lease_with_tokens_alone() {
    let mut leases = eight();
    assert!(leases.spend(MS(2), &check(0)).is_some());
    assert!(leases.spend(MS(2), &check(8)).is_some() && leases.spend(MS(2), &check(0)).is_none());
}

#[test]
fn a_lease_of_the_maximum_is_refilled_with_the_maximum() {
    let (mut leases, mut now) = (eight(), MS(1));
    for want in [16, 32, 64, 100] {
        now = now.plus(MS(1));
        while spends(&mut leases, now) {}
        assert_eq!(ask(&mut leases, now, 100, 7).want, Tokens(want));
    }
    (0..75).for_each(|_| assert!(spends(&mut leases, now)));
    let refill = leases.refill(now.plus(MS(1)), &check(1)).unwrap();
    assert_eq!(asks(&refill).want, Tokens(100), "a quarter is left");
}

#[test]
fn a_key_of_two_requests_in_half_a_lease_leases_two_tokens_and_one_of_fewer_none() {
    for (at, want) in [(500, 2), (501, 0)] {
        let mut leases = LeaseTable::new(false);
        ask(&mut leases, MS(0), 0, 7);
        assert_eq!(ask(&mut leases, MS(at), 0, 7).want, Tokens(want), "{at} ms");
    }
}

#[test]
fn tokens_that_are_about_to_end_are_returned_and_later_ones_are_kept() {
    let mut leases = eight();
    (0..6).for_each(|_| assert!(spends(&mut leases, MS(1_000))));
    assert_eq!(ask(&mut leases, MS(1_000), 3, 8).want, Tokens(3));
    assert!(spends(&mut leases, MS(1_300)));
    let returned = leases.due_returns(MS(1_376));
    let settled: Vec<_> = returned.iter().flat_map(|call| asks(call).settled).collect();
    let of = |settled: &Settlement| (settled.ends.0, settled.used.0, settled.unused.0);
    assert_eq!(settled.iter().map(of).collect::<Vec<_>>(), [(7, 1, 1), (0, 0, 0)]);
    assert!(leases.spend(MS(1_377), &check(3)).is_some());
}
