//! Requests joined in one command: Redis decides them as if each were a command of its own.

use std::cell::RefCell;
use std::num::NonZeroU64;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use weir_filter::limit::{Algorithm, Algorithms, Check, Concurrency, FixedWindow, Model, SlotOwner, TokenBucket};
use weir_filter::redis::Reply;
use weir_filter::units::{Micros, Tokens};

use crate::histories::{any_algorithm, token_bucket};
use crate::store::Store;

/// 2026-11-21T00:00Z, in µs.
const TODAY: u64 = 1_795_219_200_000_000;

/// Number of limits: those of three users, and one that they share.
const LIMITS: usize = 4;

/// A request: the limits that apply, with the cost, and whether the limit is enforced.
type Request = Vec<(usize, u64, bool)>;

fn bucket(capacity: u64, emission: u64) -> Algorithm {
    let bucket = TokenBucket::new(NonZeroU64::new(capacity).unwrap(), NonZeroU64::MIN, Micros(emission)).unwrap();
    Algorithm::TokenBucket(bucket)
}

fn windows(algorithm: Algorithm) -> Algorithms {
    Algorithms::new(&[algorithm]).unwrap()
}

fn check(limits: &[Algorithms], owner: u64, request: &Request) -> Check {
    let check = request.iter().flat_map(|(limit, cost, enforced)| {
        let key = format!("limit{limit}");
        limits[*limit].checks(*limit, key.as_bytes(), Tokens(*cost), *enforced).collect::<Vec<_>>()
    });
    Check::new(check.collect(), SlotOwner::new(7, owner))
}

fn request() -> impl Strategy<Value = Request> {
    let check = (0..LIMITS, prop_oneof![1 => Just(0), 5 => 1_u64..8], proptest::bool::weighted(0.8));
    proptest::collection::vec(check, 1..=LIMITS).prop_map(|mut check| {
        check.sort_unstable_by_key(|&(limit, ..)| limit);
        check.dedup_by_key(|&mut (limit, ..)| limit);
        check
    })
}

#[test]
fn requests_joined_in_one_command_are_decided_one_after_the_other_by_token_buckets() {
    any_requests_are_decided_one_after_the_other(300, || token_bucket().boxed());
}

#[test]
fn requests_joined_in_one_command_are_decided_one_after_the_other_by_all_algorithms() {
    any_requests_are_decided_one_after_the_other(500, any_algorithm);
}

fn any_requests_are_decided_one_after_the_other(cases: u32, algorithm: impl Fn() -> BoxedStrategy<Algorithm>) {
    let Some(store) = Store::with_settable_clock() else { return };
    let store = RefCell::new(store);
    let limits = proptest::collection::vec(algorithm(), LIMITS);
    let turns = proptest::collection::vec((0_u64..3_000_000, proptest::collection::vec(request(), 1..9)), 1..20);
    TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() })
        .run(&(limits, turns), |(limits, turns)| {
            let store = &mut *store.borrow_mut();
            store.clear();
            let limits: Vec<_> = limits.into_iter().map(windows).collect();
            let (mut model, mut now, mut holders) = (Model::default(), TODAY, 0..);
            for (pause, requests) in turns {
                now += pause;
                store.set_clock(Micros(now));
                let named = requests.iter().zip(&mut holders);
                let checks: Vec<_> = named.map(|(request, owner)| check(&limits, owner, request)).collect();
                for (check, reply) in checks.iter().zip(store.run_joined(&checks)) {
                    let expected = model.decide(Micros(now), check);
                    prop_assert_eq!(check.read(&reply).map_err(|malformed| malformed.to_string()), Ok(expected));
                }
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_request_that_fails_spends_nothing_and_the_others_are_decided() {
    let Some(mut store) = Store::start() else { return };
    let slots = Algorithm::Concurrency(Concurrency::new(NonZeroU64::new(100).unwrap(), Micros::from_secs(60)).unwrap());
    for more in [None, Some(slots)] {
        store.clear();
        store.command(&["RPUSH", "limit1", "no bucket"]);
        let limits: Vec<_> = (0..3).map(|_| bucket(5, 600_000_000)).chain(more).map(windows).collect();
        let asking = |wanted: &[(usize, u64)]| {
            // If there is a limit of another algorithm, the script for all algorithms decides all requests.
            let others = more.iter().map(|_| (3, 1));
            let asked = wanted.iter().copied().chain(others).map(|(limit, cost)| (limit, cost, true));
            check(&limits, 1, &asked.collect())
        };
        let checks = [asking(&[(0, 1)]), asking(&[(0, 1), (1, 1)]), asking(&[(2, 5)]), asking(&[(2, 1)])];
        let replies = store.run_joined(&checks);
        let admitted = |nth: usize| checks[nth].read(&replies[nth]).unwrap().admitted;
        assert!(admitted(0) && admitted(2) && !admitted(3));
        assert!(error(&replies[1]).starts_with("WRONGTYPE "), "{}", error(&replies[1]));
        store.command(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
        for reply in store.run_joined(&[asking(&[(0, 1)]), asking(&[(0, 1)])]) {
            assert!(error(&reply).contains("NOREPLICAS"), "{}", error(&reply));
        }
        store.command(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
        assert_eq!(
            store.decide(&checks[0]).unwrap().outcomes[0].remaining,
            Tokens(3),
            "two requests have spent, not three"
        );
    }
}

#[test]
fn a_request_with_the_maximum_of_256_buckets_is_decided() {
    let Some(mut store) = Store::start() else { return };
    let hours = |hours: u64| FixedWindow::new(NonZeroU64::new(10).unwrap(), Micros::from_secs(3600 * hours)).unwrap();
    let eight: Vec<_> = (1..=8).map(|length| Algorithm::FixedWindow(hours(length))).collect();
    let limits = vec![Algorithms::new(&eight).unwrap(); 32];
    let request: Request = (0..32).map(|limit| (limit, 1, true)).collect();
    let verdict = store.decide(&check(&limits, 1, &request)).unwrap();
    assert!(verdict.admitted && verdict.outcomes.len() == 256);
    assert!(verdict.outcomes.iter().all(|outcome| outcome.remaining == Tokens(9)), "{verdict:?}");
}

fn error(reply: &Reply) -> String {
    match reply {
        Reply::Error(error) => error.escape_ascii().to_string(),
        other => panic!("expected an error, found {other:?}"),
    }
}
