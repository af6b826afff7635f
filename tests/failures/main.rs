//! Every fault of Redis and every change of the proxy under load, on both hosts: each request is decided or answered by
//! the failure mode, none waits for ever, no bucket admits too much, and limits apply again by themselves.
//!
//! `cargo test -p weir --test failures -- --ignored --nocapture` runs each fault for longer, and writes the table of
//! docs/src/failures.md.

mod catalogue;
mod changes;
mod clocks;
mod dns;
mod durability;
mod fleet;
mod healing;
mod names;
mod stage;
mod table;
mod tls;

use std::time::Duration;

use weir::trial::{mostly_decided, over_admitted};
use weir::{HostKind, Load};

use crate::catalogue::entries;
use crate::stage::{Row, Stage};

weir::on_both_hosts! {
    every_fault_is_answered_as_asked
}

async fn every_fault_is_answered_as_asked(host: HostKind) {
    let Some(stage) = Stage::start(host, 2, Load::STEADY).await else { return };
    for entry in entries() {
        let row = stage.run(&entry).await;
        println!("{host:?}: {row}");
        let Row { trial, .. } = &row;
        trial.as_asked();
        assert!(if entry.bites { trial.failed > 0 } else { trial.failed < trial.decided }, "{row}");
        assert_eq!(trial.over_admitted, 0, "{row}");
        assert!(trial.mostly_decided_after <= entry.recovers_within, "{row}");
    }
}

/// A bucket of two requests, and one more each second.
#[test]
fn the_measure_counts_admissions_beyond_the_promise_in_any_window() {
    for (admitted, beyond) in [
        (vec![(0, 1), (0, 1), (0, 1)], 1),
        (vec![(0, 1), (0, 1), (1_000, 1_001)], 0),
        (vec![(0, 1), (0, 1), (998, 999)], 1),
        // Each may have been admitted at the end of its second.
        (vec![(0, 1_000), (0, 1_000), (0, 1_000)], 0),
        // The second half of a minute in which the first half was idle.
        (vec![(0, 1), (30_000, 30_001), (30_000, 30_001), (30_000, 30_001), (30_000, 30_001)], 2),
    ] {
        let times = admitted.iter().map(|(sent, done)| (Duration::from_millis(*sent), Duration::from_millis(*done)));
        assert_eq!(over_admitted(times.collect(), 2, 1), beyond, "{admitted:?}");
    }
}

/// Answers every 10 ms from 0.5 s to 3 s: all until 1 s are of the failure mode, and every n-th later.
#[test]
fn the_measure_takes_a_quarter_of_failures_for_no_recovery() {
    let millis = Duration::from_millis;
    let every = |nth: u64| (50..300).map(|at| (millis(10 * at), at < 100 || at % nth == 0)).collect();
    assert_eq!(mostly_decided(every(5), millis(400)), millis(1_450));
    assert_eq!(mostly_decided(every(2), millis(400)), millis(2_980), "one of two workers does not recover");
    assert_eq!(mostly_decided(every(5), millis(2_000)), millis(2_000), "the fault ends later");
}
