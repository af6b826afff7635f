//! Traps in each callback, under each failure policy.

use super::support::{self, eventually};
use super::{POLICIES, outcome, same_outcomes, start};

const PASSED: &str = "200, 4 bytes, trailers";
pub(super) const REFUSED: &str = "503, 0 bytes, no trailers";
/// Outcome of a trap after the response's headers were sent.
const RESET: &str = "reset";

/// Returns a guest that traps in a callback.
pub(super) fn trap_in(callback: &str, parameters: usize, result: &str) -> String {
    let parameters = "i32 ".repeat(parameters);
    format!(r#"(func (export "proxy_on_{callback}") (param {parameters}) {result} (unreachable))"#)
}

/// Asserts the outcomes of two requests with each of [`POLICIES`], in their order.
fn assert_outcomes(guest: &str, first: [&str; 4], second: [&str; 4]) {
    for ((policy, first), second) in POLICIES.iter().zip(first).zip(second) {
        assert_eq!(same_outcomes(guest, policy), [first, second], "{policy}: {guest}");
    }
}

#[test]
fn a_trap_before_the_response_refuses_the_request_unless_it_fails_open() {
    let http_context =
        r#"(func (export "proxy_on_context_create") (param i32 i32) (if (local.get 1) (then (unreachable))))"#;
    let status = "(result i32)";
    let guests = [
        http_context.to_owned(),
        trap_in("request_headers", 3, status),
        trap_in("request_body", 3, status),
        trap_in("request_trailers", 2, status),
        trap_in("response_headers", 3, status),
    ];
    for guest in guests {
        assert_outcomes(&guest, [REFUSED, REFUSED, PASSED, REFUSED], [REFUSED, PASSED, PASSED, REFUSED]);
    }
}

#[test]
fn a_trap_within_the_response_resets_the_stream_unless_it_fails_open() {
    for guest in [trap_in("response_body", 3, "(result i32)"), trap_in("response_trailers", 2, "(result i32)")] {
        assert_outcomes(&guest, [RESET, RESET, PASSED, RESET], [REFUSED, PASSED, PASSED, REFUSED]);
    }
}

#[test]
fn a_trap_after_the_response_meets_the_next_request() {
    for guest in [trap_in("log", 1, ""), trap_in("done", 1, "(result i32)"), trap_in("delete", 1, "")] {
        assert_outcomes(&guest, [PASSED; 4], [REFUSED, PASSED, PASSED, REFUSED]);
    }
}

#[test]
fn a_failed_plugin_is_reloaded_after_its_interval() {
    let guest = r#"
        (data (i32.const 0) ":path")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (drop (call $get_header (i32.const 0) (i32.const 0) (i32.const 5) (i32.const 0x700) (i32.const 0x704)))
          (if (i32.gt_u (i32.load (i32.const 0x704)) (i32.const 1)) (then (unreachable)))
          (i32.const 0))"#;
    let policy = "failure_policy: FAIL_RELOAD\nreload_config: {backoff: {base_interval: 0.2s}}";
    for kind in support::hosts() {
        let proxy = start(&kind, guest, policy);
        eventually("the interval since the start is over", || {
            let trapped = proxy.get("/trap").status().as_u16();
            assert_eq!(trapped, 503, "{kind:?}");
            outcome(&proxy) == PASSED
        });
        assert!(proxy.stat("wasm.vm_reload_success") >= 1, "{kind:?}");
        assert_eq!(proxy.stat("wasm.vm_reload_failure"), 0, "{kind:?}");
    }
}

#[test]
fn other_plugins_and_workers_go_on() {
    let trap = trap_in("request_headers", 3, "(result i32)");
    let scenario = support::Scenario { guest: &trap, workers: 2, ..Default::default() };
    let proxy = scenario.start_on(&support::Kind::Embedded).unwrap_or_else(|error| panic!("{error:?}"));
    // Each worker has a VM of its own: each traps once, and refuses afterwards.
    for _ in 0..20 {
        assert_eq!(proxy.get("/").status().as_u16(), 503);
    }
    assert!((1..=2).contains(&proxy.stat("wasm.vm_trap")));
    let healthy = r#"(func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
        (if (i32.eqz (local.get 2)) (then (drop (call $add_header (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1)))))
        (i32.const 0)) (data (i32.const 0) "x")"#;
    let scenario = support::Scenario { guest: healthy, workers: 2, ..Default::default() };
    let other = scenario.start_on(&support::Kind::Embedded).unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(support::header(&other.get("/"), "x"), Some("x"));
}
