//! `weir test` on real hosts: the tests of `envoy/tests/`, which pass in virtual time, with a real Redis.
//!
//! The three backends are so held against each other: each must meet the same expectations.

use std::process::ExitCode;

use weir::{HostKind, Mesh};
use weir_provision::checkout;

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
    let head = ["weir", "--log-level", "error", "test", "--on", on].map(Into::into);
    let arguments: Vec<std::ffi::OsString> = head.into_iter().chain(files.into_iter().map(Into::into)).collect();
    let run = tokio::task::spawn_blocking(move || weir_harness::run_from(arguments.into_iter()));
    assert_eq!(run.await.unwrap(), ExitCode::SUCCESS);
}
