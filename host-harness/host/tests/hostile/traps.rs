//! Traps in each callback, under each failure policy.

use super::support::{self, Kind, eventually};
use super::{POLICIES, outcome, same_outcomes, start};

const PASSED: &str = "200, 4 bytes, trailers";
const REFUSED: &str = "503, 0 bytes, no trailers";
/// Outcome of a trap after the response's headers were sent.
const RESET: &str = "reset";

/// Returns a guest that traps in a callback.
fn trap_in(callback: &str, parameters: usize, result: &str) -> String {
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

/// Causes of callbacks on the root context: the first request opens a stream, sends a callout and fills a queue.
const CAUSES: &str = r#"
    (data (i32.const 0) "\03\00\00\00\07\00\00\00\04\00\00\00\05\00\00\00\05\00\00\00\0a\00\00\00\04\00\00\00:method\00POST\00:path\00/call\00:authority\00peer\00")
    (data (i32.const 128) "echoqueue")
    (global $asked (mut i32) (i32.const 0))
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
      (drop (call $register_queue (i32.const 132) (i32.const 5) (i32.const 0x708)))
      (drop (call $set_tick_period (i32.const 20)))
      (i32.const 1))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
      (if (global.get $asked) (then (return (i32.const 0))))
      (global.set $asked (i32.const 1))
      (drop (call $enqueue (i32.load (i32.const 0x708)) (i32.const 0) (i32.const 4)))
      (drop (call $http_call (i32.const 128) (i32.const 4) (i32.const 0) (i32.const 69)
            (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 2000) (i32.const 0x700)))
      (drop (call $grpc_stream (i32.const 128) (i32.const 4) (i32.const 128) (i32.const 4) (i32.const 128) (i32.const 4)
                               (i32.const 0) (i32.const 0) (i32.const 0x700)))
      (drop (call $grpc_send (i32.load (i32.const 0x700)) (i32.const 128) (i32.const 4) (i32.const 1)))
      (i32.const 0))"#;

#[test]
fn a_trap_of_a_root_context_meets_the_next_requests() {
    let callbacks = [
        ("tick", 1),
        ("queue_ready", 2),
        ("http_call_response", 5),
        ("grpc_receive_initial_metadata", 3),
        ("grpc_receive", 3),
        ("grpc_receive_trailing_metadata", 3),
        ("grpc_close", 3),
    ];
    for (callback, parameters) in callbacks {
        let guest = format!("{CAUSES} {}", trap_in(callback, parameters, ""));
        for kind in support::hosts() {
            let mut proxy = start(&kind, &guest, "failure_policy: FAIL_CLOSED");
            eventually(&format!("{kind:?}: after {callback} trapped, requests are refused"), || {
                outcome(&proxy) == REFUSED
            });
            assert!(proxy.is_alive(), "{callback}");
        }
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
fn a_plugin_that_does_not_start_again_is_tried_once_per_interval() {
    // The first start writes shared data, by which later starts know that they are not the first.
    let guest = r#"
        (data (i32.const 0) "key")
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
          (local $starts i32)
          (if (call $get_shared (i32.const 0) (i32.const 3) (i32.const 0x700) (i32.const 0x704) (i32.const 0x708))
            (then (i32.store (i32.const 0x704) (i32.const 0))))
          (local.set $starts (i32.load (i32.const 0x704)))
          (drop (call $set_shared (i32.const 0) (i32.const 3) (i32.const 0)
                                  (i32.add (local.get $starts) (i32.const 1)) (i32.const 0)))
          (i32.lt_u (local.get $starts) (i32.const STARTS)))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (unreachable))"#;
    let policy = "failure_policy: FAIL_RELOAD\nreload_config: {backoff: {base_interval: 0.2s}}";
    for kind in support::hosts() {
        // Before it serves, the embedded host starts a plugin twice, and Envoy three times.
        let starts = if kind == Kind::Embedded { "2" } else { "3" };
        let proxy = start(&kind, &guest.replace("STARTS", starts), policy);
        eventually("two reloads have failed", || {
            assert_eq!(outcome(&proxy), REFUSED, "{kind:?}");
            proxy.stat("wasm.vm_reload_failure") >= 2
        });
        assert!(proxy.stat("wasm.vm_reload_backoff") >= 1, "{kind:?}");
        assert_eq!(proxy.stat("wasm.vm_reload_success"), 0, "{kind:?}");
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
