//! Requests that one command tells of: Redis decides them as it would one after the other.

use std::cell::RefCell;
use std::num::NonZeroU64;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use weir_filter::limit::{Algorithm, Check, Holder, Model, TokenBucket, Windows};
use weir_filter::redis::Reply;
use weir_filter::units::{Micros, Tokens};

use crate::store::Store;

/// 2026-11-21.
const TODAY: u64 = 1_795_219_200_000_000;

/// Limits of three users, who share one.
const LIMITS: usize = 4;

/// Which limits apply, what they cost, and whether they are enforced.
type Request = Vec<(usize, u64, bool)>;

fn bucket(capacity: u64, emission: u64) -> Windows {
    let bucket = TokenBucket::new(NonZeroU64::new(capacity).unwrap(), NonZeroU64::MIN, Micros(emission)).unwrap();
    Windows::new(&[Algorithm::TokenBucket(bucket)]).unwrap()
}

fn check(limits: &[Windows], request: &Request) -> Check {
    let asked = request.iter().flat_map(|(limit, cost, enforced)| {
        let key = format!("limit{limit}");
        limits[*limit].asked(*limit, key.as_bytes(), Tokens(*cost), *enforced).collect::<Vec<_>>()
    });
    Check::new(asked.collect(), Holder::default())
}

fn request() -> impl Strategy<Value = Request> {
    let asked = (0..LIMITS, prop_oneof![1 => Just(0), 5 => 1_u64..8], proptest::bool::weighted(0.8));
    proptest::collection::vec(asked, 1..=LIMITS).prop_map(|mut asked| {
        asked.sort_unstable_by_key(|&(limit, ..)| limit);
        asked.dedup_by_key(|&mut (limit, ..)| limit);
        asked
    })
}

#[test]
fn requests_of_one_command_are_decided_as_if_one_came_after_the_other() {
    let Some(store) = Store::with_settable_clock() else { return };
    let store = RefCell::new(store);
    let limits = proptest::collection::vec((1_u64..20, 1_u64..2_000_000), LIMITS);
    let turns = proptest::collection::vec((0_u64..3_000_000, proptest::collection::vec(request(), 1..9)), 1..20);
    TestRunner::new(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })
        .run(&(limits, turns), |(limits, turns)| {
            let store = &mut *store.borrow_mut();
            store.clear();
            let limits: Vec<_> = limits.into_iter().map(|(capacity, emission)| bucket(capacity, emission)).collect();
            let (mut model, mut now) = (Model::default(), TODAY);
            for (pause, requests) in turns {
                now += pause;
                store.set_clock(Micros(now));
                let checks: Vec<_> = requests.iter().map(|request| check(&limits, request)).collect();
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
    let limits: Vec<_> = (0..LIMITS).map(|_| bucket(5, 600_000_000)).collect();
    store.command(&["RPUSH", "limit1", "no bucket"]);
    let requests = [vec![(0, 1, true)], vec![(0, 1, true), (1, 1, true)], vec![(2, 5, true)], vec![(2, 1, true)]];
    let checks: Vec<_> = requests.iter().map(|request| check(&limits, request)).collect();
    let replies = store.run_joined(&checks);
    let admitted = |nth: usize| checks[nth].read(&replies[nth]).unwrap().admitted;
    assert!(admitted(0) && admitted(2) && !admitted(3));
    let Reply::Error(error) = &replies[1] else { panic!("expected an error, found {:?}", replies[1]) };
    assert!(error.starts_with(b"WRONGTYPE "), "{}", error.escape_ascii());
    store.command(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    for reply in store.run_joined(&[check(&limits, &requests[0]), check(&limits, &requests[0])]) {
        let Reply::Error(error) = reply else { panic!("expected an error, found {reply:?}") };
        assert!(error.escape_ascii().to_string().contains("NOREPLICAS"), "{}", error.escape_ascii());
    }
    store.command(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    assert_eq!(store.decide(&checks[0]).unwrap().outcomes[0].remaining, Tokens(3), "two have spent, not three");
}
