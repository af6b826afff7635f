//! Foreign filter on the harness: written with the Rust SDK, without any code of Weir.

#![allow(clippy::expect_used, reason = "a fixture that cannot do its work fails the test")]

mod support;

use std::path::PathBuf;
use std::process::Command;

use support::{Proxy, Scenario, cluster, eventually, filter, header, mirror_server, nobody};
use weir_provision::{checkout, wasm_target};

#[test]
fn a_filter_adds_its_configuration_to_each_response() {
    let proxy = served("");
    for path in ["/", "/elsewhere"] {
        let answer = proxy.get(path);
        assert_eq!((answer.status().as_u16(), header(&answer, "x-greeting")), (200, Some("good day")));
        assert_eq!(header(&answer, "x-answer"), None);
    }
}

#[test]
fn a_filter_counts_its_ticks_in_shared_data() {
    let proxy = served("");
    let ticks = || header(&proxy.get("/"), "x-ticks").and_then(|ticks| ticks.parse::<u64>().ok()).unwrap_or(0);
    eventually("the filter has ticked three times", || ticks() >= 3);
    let before = ticks();
    eventually("the filter keeps ticking", || ticks() > before);
}

#[test]
fn a_filter_holds_a_request_until_its_callout_has_a_response() {
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
fn a_callout_to_an_unreachable_cluster_gets_an_error_and_to_an_unknown_cluster_fails() {
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

/// Builds the guest module, if it is not up to date, and returns its path.
fn guest() -> PathBuf {
    wasm_target::ensure().expect("the wasm target");
    let args = ["build", "--release", "--quiet", "-p", "weir-guest-sdk", "--target", wasm_target::TARGET];
    let root = checkout::root().expect("the checkout");
    let built = Command::new(env!("CARGO")).current_dir(root).args(args).status().expect("cargo runs");
    assert!(built.success(), "the guest is built");
    let target = checkout::target_dir().expect("the target folder");
    target.join(wasm_target::TARGET).join("release/weir_guest_sdk.wasm")
}
