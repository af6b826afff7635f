#![allow(clippy::arithmetic_side_effects)]

mod arguments;
mod times;

use core::num::NonZeroU64;

use proptest::prelude::*;

use super::*;
use crate::limit::charge::{Charge, Charged, Fallback, OnLost, Weights, WhenShort};
use crate::limit::{Algorithm, Budget, FixedWindow, Period, Quota, SlidingLog, SlidingWindow, TokenBucket};
use crate::units::Tokens;

const SECOND: Micros = Micros::from_secs(1);
const LEASE: u64 = 60;
/// 2026-11-20T00:00Z.
const TODAY: u64 = 1_795_132_800;

fn charge(on_lost: OnLost, when_short: WhenShort) -> Charge {
    Charge {
        of: Charged::Tokens(Weights::all(1_000, 1_000)),
        reserve: None,
        when_short,
        lease: Micros::from_secs(LEASE),
        on_lost,
        on_missing_usage: Fallback::Estimate,
        on_disconnect: Fallback::Seen,
        soft_limit: None,
    }
}

fn budget(algorithm: Algorithm) -> Budget {
    Budget::new(algorithm, &charge(OnLost::Estimate, WhenShort::Deny)).unwrap()
}

fn bucket(capacity: u64) -> Algorithm {
    Algorithm::TokenBucket(TokenBucket::new(NonZeroU64::new(capacity).unwrap(), NonZeroU64::MIN, SECOND).unwrap())
}

fn per_minute(limit: u64) -> Algorithm {
    Algorithm::FixedWindow(FixedWindow::of_amounts(limit, Micros::from_secs(60)).unwrap())
}

fn per_month(limit: u64) -> Algorithm {
    Algorithm::Quota(Quota::of_amounts(limit, Period::Month, 0).unwrap())
}

/// Budget in a Redis, `secs` after the start of the day.
struct Kept {
    budget: Budget,
    state: Option<BudgetState>,
}

impl Kept {
    fn new(budget: Budget) -> Self {
        Self { budget, state: None }
    }

    fn ask(&mut self, now: Micros, request: u64, estimate: u64) -> bool {
        let owner = SlotOwner::new(1, request);
        let seen = self.budget.look(&mut self.state, now, owner);
        let decision = self.budget.decide(now, seen, Tokens(estimate));
        if decision.admits {
            self.budget.reserve(&mut self.state, now, owner, Tokens(estimate));
        }
        decision.admits
    }

    fn settle(&mut self, now: Micros, request: u64, cost: u64) -> SettleResult {
        BudgetState::settle(&mut self.state, &self.budget, now, SlotOwner::new(1, request), cost, false)
    }

    fn settle_unknown(&mut self, now: Micros, request: u64, cost: u64) -> SettleResult {
        BudgetState::settle(&mut self.state, &self.budget, now, SlotOwner::new(1, request), cost, true)
    }

    fn renew(&mut self, now: Micros, request: u64) -> bool {
        let owner = SlotOwner::new(1, request);
        self.state.as_mut().is_some_and(|state| state.renew(now, owner, self.budget.lease()))
    }

    /// Amounts settled and reserved in the present window, in tokens.
    fn amounts(&mut self, now: Micros) -> (u64, u64) {
        let (open, _) = BudgetState::open(self.state.as_ref(), &self.budget.base(), now, SlotOwner::new(2, 0));
        let (used, held) = open.amounts();
        (used.div_ceil(self.budget.base().unit()), held)
    }
}

fn at(secs: u64) -> Micros {
    Micros::from_secs(TODAY + secs)
}

/// A charge at the admission and a refund at the end would admit 151 tokens within a second.
#[test]
fn what_has_drained_is_not_given_back() {
    let mut kept = Kept::new(budget(bucket(100)));
    assert!(kept.ask(at(0), 1, 100));
    for secs in [20, 40, 60, 80, 100] {
        assert!(kept.renew(at(secs), 1));
        assert!(!kept.ask(at(secs), 2, 100), "what is reserved does not drain");
    }
    assert_eq!(kept.settle(at(101), 1, 50), SettleResult::Within);
    assert!(!kept.ask(at(101), 3, 51));
    assert!(kept.ask(at(101), 3, 50));
    assert_eq!(kept.amounts(at(101)), (50, 50));
}

#[test]
fn a_settlement_counts_once_however_often_it_is_sent() {
    for algorithm in [bucket(100), per_minute(100), per_month(100)] {
        let mut kept = Kept::new(budget(algorithm));
        assert!(kept.ask(at(0), 1, 60) && kept.ask(at(0), 2, 40) && !kept.ask(at(0), 3, 1));
        assert_eq!(kept.settle(at(0), 1, 10), SettleResult::Within);
        assert_eq!(
            (kept.settle(at(0), 1, 10), kept.settle_unknown(at(0), 2, 40)),
            (SettleResult::Nothing, SettleResult::Within)
        );
        assert_eq!(kept.settle_unknown(at(0), 2, 40), SettleResult::Nothing, "it is not charged in full");
        assert_eq!((kept.settle(at(0), 9, 10), kept.amounts(at(0))), (SettleResult::Nothing, (50, 0)));
    }
}

#[test]
fn a_request_whose_outcome_is_unknown_is_charged_once_and_reserves_no_more() {
    for algorithm in [bucket(100), per_minute(100), per_month(100)] {
        let mut kept = Kept::new(budget(algorithm));
        assert_eq!(kept.settle_unknown(at(0), 1, 30), SettleResult::Unreserved);
        assert_eq!(kept.settle_unknown(at(0), 1, 30), SettleResult::Nothing);
        assert!(kept.ask(at(0), 1, 70), "the check comes after the settlement");
        assert_eq!(kept.amounts(at(0)), (30, 0));
    }
}

#[test]
fn a_stream_over_the_turn_of_the_month_counts_in_its_own_month() {
    let december = (1_796_083_200_u64 - TODAY) + TODAY;
    let at = |secs: i64| Micros::from_secs(december.saturating_add_signed(secs));
    let mut kept = Kept::new(budget(per_month(100)));
    assert!(kept.ask(at(-9), 1, 80) && kept.ask(at(-8), 2, 20));
    assert!(!kept.ask(at(-1), 3, 1) && kept.ask(at(0), 3, 90), "the new month begins at 0");
    assert_eq!(kept.settle(at(1), 1, 95), SettleResult::Overrun);
    assert_eq!((kept.settle(at(2), 2, 5), kept.amounts(at(2))), (SettleResult::Within, (0, 90)));
    let before = kept.state.as_ref().and_then(|state| state.before).unwrap();
    assert_eq!((before.used, before.held), (100, 0));
}

#[test]
fn what_exceeds_an_estimate_counts_now_in_windows_of_a_rate() {
    let mut kept = Kept::new(budget(per_minute(100)));
    assert!(kept.ask(at(0), 1, 10) && kept.ask(at(1), 2, 0));
    for secs in [50, 100, 150, 185] {
        assert!(kept.renew(at(secs), 1) && kept.renew(at(secs), 2));
    }
    assert_eq!(kept.settle(at(190), 1, 40), SettleResult::Overrun);
    assert_eq!(kept.settle(at(190), 2, 30), SettleResult::Overrun);
    assert_eq!(kept.amounts(at(190)), (60, 0));
    assert!(!kept.ask(at(190), 3, 41) && kept.ask(at(240), 3, 41));
}

#[test]
fn a_request_without_an_estimate_is_denied_once_the_limit_is_used_up() {
    let mut kept = Kept::new(budget(per_month(100)));
    assert!(kept.ask(at(0), 1, 0) && kept.ask(at(0), 2, 99));
    assert!(kept.ask(at(0), 3, 0), "one is left");
    kept.settle(at(1), 1, 1);
    assert!(!kept.ask(at(1), 4, 0));
}

#[test]
fn a_lost_reservation_is_charged_as_configured_and_settled_exactly_within_an_hour() {
    for (on_lost, charged) in [(OnLost::Estimate, 60), (OnLost::Input, 20), (OnLost::Refund, 0)] {
        let lost = Budget::new(per_month(100), &charge(on_lost, WhenShort::Deny)).unwrap().with_floor(20);
        let mut kept = Kept::new(lost);
        assert!(kept.ask(at(0), 1, 60));
        assert!(kept.ask(at(LEASE - 1), 2, 1));
        assert_eq!(kept.amounts(at(LEASE - 1)), (0, 61));
        assert_eq!(kept.amounts(at(LEASE)), (charged, 1), "{on_lost:?}");
        kept.ask(at(LEASE), 3, 100);
        assert!(!kept.renew(at(LEASE), 1), "it is charged already");
        let mut late = Kept { state: kept.state.clone(), ..kept };
        late.ask(at(LEASE + 10), 5, 0);
        assert_eq!(late.settle(at(LEASE + 3_599), 1, 45), SettleResult::Late);
        // With the second request, which is lost as well.
        let second = if on_lost == OnLost::Refund { 0 } else { 1 };
        assert_eq!(late.amounts(at(LEASE + 3_599)), (45 + second, 0), "{on_lost:?}");
        kept.ask(at(LEASE + 3_600), 4, 0);
        assert_eq!(kept.settle(at(LEASE + 3_600), 1, 45), SettleResult::Nothing);
    }
}

#[test]
fn a_request_takes_the_rest_where_its_estimate_is_larger() {
    for algorithm in [bucket(100), per_month(100)] {
        let mut kept = Kept::new(Budget::new(algorithm, &charge(OnLost::Estimate, WhenShort::TakeRest)).unwrap());
        assert!(kept.ask(at(0), 1, 70) && kept.ask(at(0), 2, 70));
        assert_eq!(kept.amounts(at(0)), (0, 100));
        assert!(!kept.ask(at(0), 3, 1));
        assert_eq!(kept.settle(at(0), 2, 70), SettleResult::Overrun);
        assert_eq!(kept.amounts(at(0)), (70, 70), "the overrun of one request");
    }
}

#[test]
fn a_denial_tells_whether_only_open_requests_are_in_the_way() {
    let mut kept = Kept::new(budget(per_month(100)));
    kept.ask(at(0), 1, 60);
    let denied = |kept: &mut Kept, estimate| {
        let seen = kept.budget.look(&mut kept.state, at(0), SlotOwner::new(1, 9));
        let decision = kept.budget.decide(at(0), seen, Tokens(estimate));
        assert!(!decision.admits);
        (decision.held.0, decision.retry_after.map(|wait| wait <= SECOND))
    };
    assert_eq!(denied(&mut kept, 41), (60, Some(true)));
    assert_eq!(denied(&mut kept, 101), (60, None));
    kept.settle(at(0), 1, 60);
    assert_eq!(denied(&mut kept, 41), (0, Some(false)));
}

#[test]
fn what_was_spent_before_the_clock_was_set_back_counts_in_one_window() {
    let mut kept = Kept::new(budget(per_minute(100)));
    assert!(kept.ask(at(3_600), 1, 100));
    assert!(!kept.ask(at(5), 2, 1));
    assert!(kept.ask(at(60), 2, 100));
}

#[test]
fn a_sliding_window_counts_the_window_before_it_and_none_earlier() {
    let sliding = Algorithm::SlidingWindow(SlidingWindow::of_amounts(100, Micros::from_secs(60)).unwrap());
    for (secs, admits) in [(61, false), (121, true)] {
        let mut kept = Kept::new(budget(sliding));
        assert!(kept.ask(at(0), 1, 100));
        assert_eq!(kept.ask(at(secs), 2, 100), admits, "{secs} s");
    }
}

#[test]
fn a_token_bucket_that_holds_requests_has_no_budget() {
    let Algorithm::TokenBucket(plain) = bucket(100) else { unreachable!("a token bucket") };
    let shaped = Algorithm::TokenBucket(plain.with_max_delay(SECOND).unwrap());
    assert_eq!(Budget::new(shaped, &charge(OnLost::Estimate, WhenShort::Deny)), None);
    assert_eq!(budget(bucket(100)).with(shaped), None);
}

/// Event of a random history: a request with its estimate and its cost in percent, the end of an open request, or its
/// renewal.
#[derive(Debug, Clone)]
enum Event {
    Ask(u64, u64),
    End(usize),
    Renew(usize),
}

fn events(of: u64) -> impl Strategy<Value = Vec<(u64, Event)>> {
    let event = prop_oneof![
        4 => (1..of, 0_u64..=100).prop_map(|(estimate, percent)| Event::Ask(estimate, percent)),
        3 => (0_usize..9).prop_map(Event::End),
        2 => (0_usize..9).prop_map(Event::Renew),
    ];
    proptest::collection::vec((prop_oneof![Just(0_u64), 0_u64..9_000_000], event), 1..120)
}

proptest! {
    /// A window's amounts, settled and reserved, never exceed its limit, as long as no request costs more than its
    /// estimate. What is settled is exactly what its requests have cost.
    #[test]
    fn no_window_is_overspent(limit in 1_u64..60, window in 1_u64..120, events in events(40)) {
        let window = Micros::from_secs(window);
        let sliding = Algorithm::SlidingWindow(SlidingWindow::of_amounts(limit, window).unwrap());
        let fixed = Algorithm::FixedWindow(FixedWindow::of_amounts(limit, window).unwrap());
        for algorithm in [fixed, sliding] {
            let mut kept = Kept::new(budget(algorithm));
            let mut now = at(0);
            let mut of_windows = BTreeMap::<Micros, u64>::new();
            // Request, start of its window, cost, estimate, end of the lease.
            let mut open: Vec<(u64, Micros, u64, u64, Micros)> = Vec::new();
            for (nth, (pause, event)) in (0_u64..).zip(events.clone()) {
                now = now.plus(Micros(pause));
                let start = now.minus(Micros(now.0 % window.0));
                for (.., ends) in &open {
                    prop_assume!(*ends > now);
                }
                match event {
                    Event::Ask(estimate, percent) if kept.ask(now, nth, estimate) => {
                        open.push((nth, start, estimate * percent / 100, estimate, now.plus(kept.budget.lease())));
                    }
                    Event::Ask(..) => {}
                    Event::End(which) if which < open.len() => {
                        let (request, its, cost, ..) = open.remove(which);
                        prop_assert_eq!(kept.settle(now, request, cost), SettleResult::Within);
                        *of_windows.entry(its).or_default() += cost;
                    }
                    Event::Renew(which) if which < open.len() => {
                        prop_assert!(kept.renew(now, open[which].0));
                        open[which].4 = now.plus(kept.budget.lease());
                    }
                    _ => {}
                }
                let held = |start| open.iter().filter(|(_, its, ..)| *its == start).map(|(.., estimate, _)| estimate).sum::<u64>();
                let settled = of_windows.get(&start).copied().unwrap_or(0);
                prop_assert_eq!(kept.amounts(now), (settled, held(start)));
                prop_assert!(settled + held(start) <= limit);
            }
        }
    }

    /// A token bucket: what is settled between any two instants is at most the capacity plus what flows in meanwhile.
    /// Reservations may be lost, and are then charged in full.
    #[test]
    fn a_bucket_settles_no_more_than_its_rate_allows(capacity in 2_u64..60, events in events(40)) {
        let mut kept = Kept::new(budget(bucket(capacity)));
        let mut now = at(0);
        let mut settled: Vec<(Micros, u64)> = Vec::new();
        let mut open: Vec<(u64, u64, u64, Micros)> = Vec::new();
        for (nth, (pause, event)) in (0_u64..).zip(events) {
            now = now.plus(Micros(pause));
            open.retain(|(_, _, estimate, ends)| {
                if *ends <= now {
                    settled.push((now, *estimate));
                }
                *ends > now
            });
            match event {
                Event::Ask(estimate, percent) if kept.ask(now, nth, estimate) => {
                    open.push((nth, estimate * percent / 100, estimate, now.plus(kept.budget.lease())));
                }
                Event::Ask(..) => {}
                Event::End(which) if which < open.len() => {
                    let (request, cost, ..) = open.remove(which);
                    prop_assert_eq!(kept.settle(now, request, cost), SettleResult::Within);
                    settled.push((now, cost));
                }
                Event::Renew(which) if which < open.len() => {
                    prop_assert!(kept.renew(now, open[which].0));
                    open[which].3 = now.plus(kept.budget.lease());
                }
                _ => {
                    // Lost reservations are charged by whichever call comes next.
                    kept.settle(now, u64::MAX, 0);
                }
            }
        }
        for (first, (since, _)) in settled.iter().enumerate() {
            let mut sum = 0;
            for (until, cost) in &settled[first..] {
                sum += cost;
                let flowed = until.minus(*since).0.div_ceil(1_000_000);
                prop_assert!(sum <= capacity + flowed, "{sum} from {since:?} to {until:?}");
            }
        }
    }
}

/// Arguments of the check of a request, and what the model of the scripts reads from them.
fn carried(algorithm: Algorithm, when_short: WhenShort, estimate: u64) -> (String, Option<(Algorithm, u64)>) {
    let budget = Budget::new(algorithm, &charge(OnLost::Estimate, when_short)).unwrap();
    let (arguments, more) = (budget.arguments(Tokens(estimate)), budget.argument(Tokens(estimate)));
    let read = Budget::of_arguments(arguments.cost, arguments.limit, arguments.more[0], &more);
    let same =
        read.filter(|(read, _)| read.lease() == budget.lease() && read.argument(Tokens(0)).starts_with(&more[..2]));
    (more, same.map(|(read, estimate)| (read.algorithm(), estimate.0)))
}

#[test]
fn the_scripts_are_told_the_kind_of_a_budget_and_all_of_its_numbers() {
    let per_day = Algorithm::Quota(Quota::of_amounts(100, Period::Day, 60).unwrap());
    let sliding = Algorithm::SlidingWindow(SlidingWindow::of_amounts(100, SECOND).unwrap());
    for (algorithm, kind) in
        [(bucket(100), 't'), (per_minute(100), 'f'), (sliding, 's'), (per_month(100), 'q'), (per_day, 'd')]
    {
        for when_short in [WhenShort::Deny, WhenShort::TakeRest] {
            let (argument, read) = carried(algorithm, when_short, 7);
            assert!(argument.starts_with(kind) && argument.ends_with(" 60000000 7 7"), "{argument}");
            assert_eq!(read, Some((algorithm, 7)), "{argument}");
        }
    }
    assert!(Budget::of_arguments(1, 100, 60, "f 0 60000000 7").is_none(), "a number is missing");
}

#[test]
fn a_budget_with_another_algorithm_keeps_its_reservations() {
    let own = budget(per_minute(100)).with_floor(5);
    let other = own.with(per_month(70)).unwrap();
    assert_eq!((other.algorithm(), other.lease(), other.floor()), (per_month(70), own.lease(), 5));
    let exact = Algorithm::SlidingLog(SlidingLog::new(70_u64, SECOND).unwrap());
    let estimated = Algorithm::SlidingWindow(SlidingWindow::of_amounts(70, SECOND).unwrap());
    assert_eq!(own.with(exact).map(|budget| budget.algorithm()), Some(estimated));
    assert!(own.with(Algorithm::NoTokens).is_none());
}
