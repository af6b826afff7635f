//! Hostile modules: none harms the host, and each has the outcome that it has on Envoy.
//!
//! A module fails in one callback or at the start, loops, recurses, allocates without end, or floods what its host keeps
//! for it. What Envoy survives runs on a real Envoy too, and both outcomes have to be equal.

#![allow(clippy::expect_used, clippy::panic, reason = "a fixture that cannot do its work fails the test")]

#[path = "../support/mod.rs"]
mod support;

mod floods;
mod held;
mod in_flight;
mod limits;
mod log_lines;
mod roots;
mod start;
mod traps;

use hyper::Request;
use support::{Exchange, Kind, Proxy, Scenario, StartError, cluster, filter, patient_http2_server};

/// Failure policies, as lines of a plugin's configuration.
const POLICIES: [&str; 4] =
    ["failure_policy: FAIL_CLOSED", "failure_policy: FAIL_OPEN", "fail_open: true", "failure_policy: FAIL_RELOAD"];

/// Route to an HTTP/2 upstream that echoes bodies and adds trailers.
const ROUTE: &str = r#"- {name: echo, match: {prefix: "/"}, route: {cluster: echo, timeout: 3s}}"#;

/// Starts a host with a hostile module in front of the echoing upstream.
fn try_start(kind: &Kind, guest: &str, policy: &str) -> Result<Proxy, StartError> {
    let scenario = Scenario {
        guest,
        filters: filter("guest", policy),
        routes: ROUTE.to_owned(),
        clusters: cluster("echo", patient_http2_server(), "http2"),
        ..Scenario::default()
    };
    scenario.start_on(kind)
}

fn start(kind: &Kind, guest: &str, policy: &str) -> Proxy {
    try_start(kind, guest, policy).unwrap_or_else(|error| panic!("{policy}: {error:?}"))
}

/// Sends a request with a body and trailers, and returns the outcome in words.
fn outcome(proxy: &Proxy) -> String {
    let request = Request::post(format!("http://{}/", proxy.address()));
    match support::send_http2(proxy.address(), request, b"body", &[("x-last", "yes")]) {
        Err(why) => why.to_owned(),
        Ok(Exchange { status, body, trailers, .. }) => {
            let trailers =
                if trailers.is_some_and(|trailers| !trailers.is_empty()) { "trailers" } else { "no trailers" };
            format!("{status}, {} bytes, {trailers}", body.len())
        }
    }
}

/// Asserts that a guest has the same outcomes on the embedded host as on Envoy, and returns those of the embedded host.
fn same_outcomes(guest: &str, policy: &str) -> Vec<String> {
    let mut outcomes = support::hosts().into_iter().map(|kind| {
        let mut proxy = start(&kind, guest, policy);
        let both = vec![outcome(&proxy), outcome(&proxy)];
        assert!(proxy.is_alive(), "{policy}: Envoy has crashed: {guest}");
        both
    });
    let embedded = outcomes.next().expect("the embedded host");
    if let Some(envoy) = outcomes.next() {
        assert_eq!(embedded, envoy, "embedded, then Envoy; {policy}: {guest}");
    }
    embedded
}
