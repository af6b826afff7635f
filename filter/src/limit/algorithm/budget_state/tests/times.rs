//! Budgets as time passes, is set back, or passes at another rate.

use super::*;

fn sliding(limit: u64) -> Algorithm {
    Algorithm::SlidingWindow(SlidingWindow::of_amounts(limit, Micros::from_secs(60)).unwrap())
}

/// Budget of which so many tokens are settled at the start of the day.
fn used(algorithm: Algorithm, tokens: u64) -> Kept {
    let mut kept = Kept::new(budget(algorithm));
    assert!(kept.ask(at(0), 1, tokens));
    assert_eq!(kept.settle(at(0), 1, tokens), SettleResult::Within);
    kept
}

#[test]
fn what_is_settled_of_a_token_bucket_drains() {
    let mut kept = used(bucket(100), 100);
    assert!(!kept.ask(at(50), 2, 51) && kept.ask(at(50), 2, 50));
}

#[test]
fn what_is_settled_drains_at_the_rate_in_force() {
    let two_a_second = TokenBucket::new(NonZeroU64::new(100).unwrap(), NonZeroU64::new(2).unwrap(), SECOND).unwrap();
    let mut kept = Kept { budget: budget(Algorithm::TokenBucket(two_a_second)), ..used(bucket(100), 100) };
    assert!(!kept.ask(at(10), 2, 21) && kept.ask(at(10), 2, 20));
    assert_eq!(kept.settle(at(10), 2, 20), SettleResult::Within);
    assert!(!kept.ask(at(20), 3, 21) && kept.ask(at(20), 3, 20));
}

#[test]
fn a_sliding_window_keeps_the_window_before_it_when_the_clock_is_set_back() {
    let mut kept = used(sliding(100), 100);
    assert!(kept.ask(at(119), 2, 1));
    assert!(!kept.ask(at(1), 3, 10));
}

#[test]
fn a_settlement_of_an_earlier_window_than_the_last_counts_in_none() {
    let mut kept = Kept::new(budget(sliding(100)));
    assert!(kept.ask(at(0), 1, 80));
    for secs in [50, 100, 150] {
        assert!(kept.renew(at(secs), 1));
    }
    assert!(kept.ask(at(70), 2, 1) && kept.ask(at(130), 3, 1));
    assert_eq!(kept.settle(at(185), 1, 80), SettleResult::Within);
    assert!(kept.ask(at(186), 4, 97));
}

#[test]
fn a_denied_request_changes_nothing_unless_the_clock_was_set_back() {
    let mut kept = used(bucket(100), 100);
    let before = kept.state.clone();
    assert!(!kept.ask(at(10), 2, 50));
    assert_eq!(kept.state, before);
    assert!(!kept.ask(Micros::from_secs(TODAY - 10), 2, 50));
    assert_ne!(kept.state, before);
}

#[test]
fn redis_keeps_a_budget_for_an_hour_after_its_lease_and_until_it_has_drained() {
    let kept = |algorithm| budget(algorithm).kept();
    assert_eq!(kept(per_month(100)), Micros::from_secs(LEASE + 3_600));
    assert_eq!(kept(bucket(100)), Micros::from_secs(LEASE + 3_600 + 100));
}

#[test]
fn a_token_bucket_that_is_spent_tells_when_its_tokens_exist() {
    let mut kept = used(bucket(100), 60);
    let seen = kept.budget.look(&mut kept.state, at(0), SlotOwner::new(1, 9));
    let decision = kept.budget.decide(at(0), seen, Tokens(50));
    assert_eq!((decision.admits, decision.retry_after), (false, Some(SECOND.times(10))));
}

#[test]
fn a_request_that_takes_the_rest_leaves_nothing() {
    let mut kept = Kept::new(Budget::new(per_month(100), &charge(OnLost::Estimate, WhenShort::TakeRest)).unwrap());
    assert!(kept.ask(at(0), 1, 50));
    let seen = kept.budget.look(&mut kept.state, at(0), SlotOwner::new(1, 9));
    let decision = kept.budget.decide(at(0), seen, Tokens(70));
    assert_eq!((decision.before.remaining, decision.after.remaining), (Tokens(50), Tokens(0)));
}

#[test]
fn a_request_that_is_settled_for_sure_may_reserve_again() {
    let mut kept = Kept::new(budget(per_month(100)));
    assert!(kept.ask(at(0), 1, 60));
    assert_eq!(kept.settle(at(0), 1, 10), SettleResult::Within);
    assert!(kept.ask(at(0), 1, 40));
    assert_eq!(kept.amounts(at(0)), (10, 40));
}
