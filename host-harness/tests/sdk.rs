//! A filter that is not Weir's, written with the Rust SDK: the harness runs it like any other proxy.

#![allow(clippy::expect_used, reason = "a fixture that cannot do its work fails the test")]

mod support;

use std::path::PathBuf;
use std::process::Command;

use support::{Proxy, Scenario, cluster, eventually, filter, header, mirror_server, nobody};
use weir_harness::provision::{checkout, wasm_target};

#[test]
fn a_filter_adds_what_it_was_configured_with_to_each_response() {
    let proxy = served("");
    for path in ["/", "/elsewhere"] {
        let answer = proxy.get(path);
        assert_eq!((answer.status().as_u16(), header(&answer, "x-greeting")), (200, Some("good day")));
        assert_eq!(header(&answer, "x-answer"), None);
    }
}

#[test]
fn a_filter_ticks_and_shares_what_it_counts() {
    let proxy = served("");
    let ticks = || header(&proxy.get("/"), "x-ticks").and_then(|ticks| ticks.parse::<u64>().ok()).unwrap_or(0);
    eventually("the filter has ticked thrice", || ticks() >= 3);
    let before = ticks();
    eventually("it goes on ticking", || ticks() > before);
}

#[test]
fn a_filter_holds_a_request_until_another_server_has_answered() {
    let proxy = served(&cluster("oracle", mirror_server(), "http1"));
    for path in ["/ask/one", "/ask/two"] {
        let answer = proxy.get(path);
        assert_eq!(answer.status().as_u16(), 200);
        assert_eq!(header(&answer, "x-answer"), Some(format!("GET {path} HTTP/1.1").as_str()));
    }
    assert_eq!(header(&proxy.get("/"), "x-answer"), None);
    proxy.metric_becomes("guest.asked", 2);
}

#[test]
fn a_filter_is_told_of_a_server_that_does_not_answer_and_of_one_that_is_not_there() {
    let unreachable = served(&cluster("oracle", nobody(), "http1"));
    assert!(
        header(&unreachable.get("/ask"), "x-answer").is_none_or(|answer| answer.contains("upstream connect error"))
    );
    let unknown = served("");
    let answer = unknown.get("/ask");
    assert_eq!((answer.status().as_u16(), header(&answer, "x-why")), (502, Some("no oracle")));
    assert_eq!(header(&answer, "x-greeting"), Some("good day"));
}

fn served(clusters: &str) -> Proxy {
    let configuration =
        "configuration:\n  \"@type\": type.googleapis.com/google.protobuf.StringValue\n  value: good day";
    let filters = filter("guest", configuration).replace("GUEST", &guest().display().to_string());
    Scenario { filters, clusters: clusters.to_owned(), ..Scenario::default() }.start()
}

/// The guest, built if it is not up to date.
fn guest() -> PathBuf {
    wasm_target::ensure().expect("the wasm target");
    let args = ["build", "--release", "--quiet", "-p", "weir-guest-sdk", "--target", wasm_target::TARGET];
    let root = checkout::root().expect("the checkout");
    let built = Command::new(env!("CARGO")).current_dir(root).args(args).status().expect("cargo runs");
    assert!(built.success(), "the guest is built");
    let target = checkout::target_dir().expect("the target folder");
    target.join(wasm_target::TARGET).join("release/weir_guest_sdk.wasm")
}
