//! Gauge of connected workers, and histogram of round trips.

use super::*;
use crate::host::fake::{metric, take_recorded};

const CONNECTED: &str = "weir.redis.connected";
const ROUND_TRIP: &str = "weir.redis.round_trip_us";

#[test]
fn a_worker_is_in_the_gauge_from_its_connection_to_its_loss() {
    let proxy = Proxy::start(PER_USER);
    proxy.tick();
    assert_eq!(metric(CONNECTED), 0);
    let proxy = connected(PER_USER);
    proxy.tick();
    proxy.tick();
    assert_eq!(metric(CONNECTED), 1);
    proxy.redis_closes();
    assert_eq!(metric(CONNECTED), 0, "without a tick: an idle worker does not tick");
    proxy.tick();
    assert_eq!(metric(CONNECTED), 0);
}

#[test]
fn a_worker_that_ends_leaves_the_gauge() {
    let proxy = connected(PER_USER);
    proxy.tick();
    assert_eq!(metric(CONNECTED), 1);
    proxy.done(LIMITER);
    assert_eq!(metric(CONNECTED), 0);
}

#[test]
fn over_callouts_a_worker_is_connected_while_callouts_are_answered() {
    let proxy = Proxy::start(&callouts());
    for (response, is_connected) in [(Some(ADMITTED), 1), (None, 0), (Some(ADMITTED), 1)] {
        proxy.request(4, &by("alice"), true);
        proxy.turn();
        proxy.callout_ends(response);
        assert_eq!(metric(CONNECTED), is_connected);
        proxy.turn();
        proxy.done(4);
    }
}

#[test]
fn each_command_is_one_round_trip_though_it_carries_several_checks() {
    let proxy = connected(PER_USER);
    take_recorded(ROUND_TRIP);
    proxy.request(4, &by("alice"), true);
    proxy.turn();
    proxy.passes(3);
    proxy.redis_says(ADMITTED);
    assert_eq!(take_recorded(ROUND_TRIP), [3_000]);
    take_calls();
    for context in 20..40 {
        proxy.request(context, &by("alice"), true);
    }
    proxy.turn();
    let commands: usize = sends(&take_calls()).iter().map(|(_, sent)| sent.matches("EVALSHA").count()).sum();
    proxy.passes(2);
    proxy.redis_says(&[ADMITTED.to_vec(), joined(19)].concat());
    assert_eq!(take_recorded(ROUND_TRIP), vec![2_000; commands]);
    assert!(commands < 20, "{commands}");
}

#[test]
fn a_callout_is_one_round_trip_if_it_is_answered() {
    let proxy = Proxy::start(&callouts());
    for (response, recorded) in [(Some(ADMITTED), vec![5_000]), (None, Vec::new())] {
        proxy.request(4, &by("alice"), true);
        proxy.turn();
        proxy.passes(5);
        proxy.callout_ends(response);
        assert_eq!(take_recorded(ROUND_TRIP), recorded);
        proxy.turn();
        proxy.done(4);
    }
}
