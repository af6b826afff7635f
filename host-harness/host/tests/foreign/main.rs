//! Filters that are not Weir's: the same modules, YAML and requests on the harness and on real Envoys.
//!
//! The guest `script` makes the host calls that its configuration and its requests name, in every callback, and logs
//! their outcomes. Responses, log lines and metrics are compared line by line. The test prints how many exchanges and
//! lines were compared and equal.

#![allow(clippy::expect_used, clippy::panic, reason = "a fixture that cannot do its work fails the test")]

#[path = "../support/mod.rs"]
mod support;

mod connections;
mod encoding;
mod exchanges;
mod hosts;
mod http1;
mod log;
mod versions;

use exchanges::{CHANGED_SINCE_1_36, EXCHANGES, ROOT_SCRIPTS};
use hosts::{Observed, observe};

#[test]
fn every_callback_and_host_function_does_what_it_does_in_envoy() {
    let envoys = support::envoys();
    if envoys.is_empty() {
        return;
    }
    let runs = ROOT_SCRIPTS.iter().copied().chain([("", EXCHANGES)]);
    let (mut exchanges, mut lines, mut different) = (0, 0, Vec::new());
    for (script, requests) in runs {
        let embedded = observe(&support::Kind::Embedded, script, requests);
        for (version, kind) in &envoys {
            let envoy = observe(kind, script, requests);
            assert_eq!(embedded.len(), envoy.len());
            let is_equal =
                |ours: &Observed| *version == "1.40" || !CHANGED_SINCE_1_36.iter().any(|it| ours.name.contains(it));
            for (ours, theirs) in embedded.iter().zip(&envoy).filter(|(ours, _)| is_equal(ours)) {
                exchanges += 1;
                lines += ours.lines.len().max(theirs.lines.len());
                different.extend(differences(version, ours, theirs));
            }
        }
    }
    println!("{exchanges} exchanges with {lines} lines compared, {} lines differ", different.len());
    assert!(different.is_empty(), "{}", different.join("\n"));
}

/// Returns the lines that differ, with their exchange.
fn differences(version: &str, ours: &Observed, theirs: &Observed) -> Vec<String> {
    let missing = "(no line)".to_owned();
    let longest = ours.lines.len().max(theirs.lines.len());
    let line = |observed: &Observed, place| observed.lines.get(place).unwrap_or(&missing).clone();
    let name: String = ours.name.chars().take(200).collect();
    (0..longest)
        .filter(|place| ours.lines.get(*place) != theirs.lines.get(*place))
        .map(|place| format!("{name}\n  harness     {}\n  Envoy {version}  {}", line(ours, place), line(theirs, place)))
        .collect()
}
