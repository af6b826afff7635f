//! `weir test` on real hosts: the tests of `envoy/tests/`, which pass in virtual time, with a real Redis.
//!
//! The three backends are so held against each other: each must meet the same expectations.

use std::ffi::OsString;
use std::process::ExitCode;

use weir::{HostKind, Mesh};
use weir_provision::checkout;

/// Number of attempts.
const ATTEMPTS: usize = 3;

weir::on_both_hosts! {
    the_tests_of_every_scenario_pass
}

async fn the_tests_of_every_scenario_pass(host: HostKind) {
    // Skips the test where a component is missing.
    let Some(mesh) = Mesh::on(host, "envoy/quickstart.yaml").start().await else { return };
    drop(mesh);
    let folder = checkout::root().unwrap().join("envoy/tests");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 10, "{files:?}");
    let on = if host == HostKind::Envoy { "envoy" } else { "redis" };
    // In real time, tokens flow in while a machine stalls between two requests. A mistake fails each attempt.
    for _ in 0..ATTEMPTS {
        let mut failed = Vec::new();
        for file in files {
            let words = ["weir", "--log-level", "error", "test", "--on", on].map(OsString::from);
            let arguments: Vec<OsString> = words.into_iter().chain([file.clone().into()]).collect();
            let run = tokio::task::spawn_blocking(move || weir_harness::run_from(arguments.into_iter()));
            if run.await.unwrap() != ExitCode::SUCCESS {
                failed.push(file);
            }
        }
        files = failed;
    }
    assert!(files.is_empty(), "failed {ATTEMPTS} times: {files:?}");
}
