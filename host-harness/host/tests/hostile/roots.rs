//! Traps in callbacks of root contexts, under each failure policy, on the embedded host and on both Envoys.

use super::support::{self, Exchange, Kind, Proxy, becomes_true, envoys};
use super::traps::{REFUSED, trap_in};
use super::{POLICIES, start};

/// Outcome of a request that has passed without the filter.
const PASSED: &str = "200, 4 bytes, trailers";

/// Causes of callbacks on the root context: the first request starts ticks, opens a stream, sends a callout and fills a
/// queue. The filter marks responses.
const CAUSES: &str = r#"
    (data (i32.const 0) "\03\00\00\00\07\00\00\00\04\00\00\00\05\00\00\00\05\00\00\00\0a\00\00\00\04\00\00\00:method\00POST\00:path\00/call\00:authority\00peer\00")
    (data (i32.const 128) "echoqueuex-seen")
    (global $asked (mut i32) (i32.const 0))
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
      (drop (call $register_queue (i32.const 132) (i32.const 5) (i32.const 0x708)))
      (i32.const 1))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
      (if (global.get $asked) (then (return (i32.const 0))))
      (global.set $asked (i32.const 1))
      (drop (call $set_tick_period (i32.const 200)))
      (drop (call $enqueue (i32.load (i32.const 0x708)) (i32.const 0) (i32.const 4)))
      (drop (call $http_call (i32.const 128) (i32.const 4) (i32.const 0) (i32.const 69)
            (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 2000) (i32.const 0x700)))
      (drop (call $grpc_stream (i32.const 128) (i32.const 4) (i32.const 128) (i32.const 4) (i32.const 128) (i32.const 4)
                               (i32.const 0) (i32.const 0) (i32.const 0x700)))
      (drop (call $grpc_send (i32.load (i32.const 0x700)) (i32.const 128) (i32.const 4) (i32.const 1)))
      (i32.const 0))
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
      (drop (call $add_header (i32.const 2) (i32.const 137) (i32.const 6) (i32.const 0) (i32.const 1)))
      (i32.const 0))"#;

/// Callbacks of the root context with the numbers of their parameters.
const CALLBACKS: [(&str, usize); 7] = [
    ("tick", 1),
    ("queue_ready", 2),
    ("http_call_response", 5),
    ("grpc_receive_initial_metadata", 3),
    ("grpc_receive", 3),
    ("grpc_receive_trailing_metadata", 3),
    ("grpc_close", 3),
];

/// Returns the hosts to compare: the embedded one, and both Envoys.
pub(super) fn hosts() -> Vec<Kind> {
    std::iter::once(Kind::Embedded).chain(envoys().into_iter().map(|(_, kind)| kind)).collect()
}

/// Sends a request with a body and trailers, and returns the outcome in words.
fn outcome(proxy: &Proxy) -> String {
    let request = hyper::Request::post(format!("http://{}/", proxy.address()));
    match support::send_http2(proxy.address(), request, b"body", &[("x-last", "yes")]) {
        Err(why) => why.to_owned(),
        Ok(Exchange { status, headers, body, trailers }) => {
            let has_trailers = trailers.is_some_and(|trailers| !trailers.is_empty());
            let trailers = if has_trailers { "trailers" } else { "no trailers" };
            let seen = if headers.contains_key("x-seen") { ", seen" } else { "" };
            format!("{status}, {} bytes, {trailers}{seen}", body.len())
        }
    }
}

#[test]
fn a_trap_of_a_root_context_meets_the_next_requests() {
    for (callback, parameters) in CALLBACKS {
        let guest = format!("{CAUSES} {}", trap_in(callback, parameters, ""));
        for (policy, expected) in POLICIES.iter().zip([REFUSED, PASSED, PASSED, REFUSED]) {
            for kind in hosts() {
                let mut proxy = start(&kind, &guest, policy);
                // A request that is in flight when the VM fails may have another outcome.
                let meets = becomes_true(|| outcome(&proxy) == expected);
                assert!(meets, "{kind:?}: {policy}: {callback}: the outcome is not {expected}");
                assert!(proxy.is_alive(), "{kind:?}: {policy}: {callback}");
            }
        }
    }
}

#[test]
fn a_trap_in_the_creation_of_the_root_context_meets_every_request() {
    let guest = r#"
        (func (export "proxy_on_context_create") (param i32 i32) (if (i32.eqz (local.get 1)) (then (unreachable))))
        (func (export "proxy_on_vm_start") (param i32 i32) (result i32) (i32.const 1))
        (func (export "proxy_on_configure") (param i32 i32) (result i32) (i32.const 0))"#;
    for (policy, expected) in POLICIES.iter().zip([REFUSED, PASSED, PASSED, REFUSED]) {
        let policy = format!("{policy}\nreload_config: {{backoff: {{base_interval: 0.2s}}}}");
        for kind in hosts() {
            let mut proxy = start(&kind, guest, &policy);
            let reloads = becomes_true(|| {
                assert_eq!(outcome(&proxy), expected, "{kind:?}: {policy}");
                !policy.contains("RELOAD") || proxy.stat("wasm.vm_reload_failure") >= 2
            });
            assert!(reloads, "{kind:?}: {policy}");
            assert_eq!(proxy.stat("wasm.vm_reload_success"), 0, "{kind:?}: {policy}");
            assert!(proxy.is_alive(), "{kind:?}: {policy}");
        }
    }
}

#[test]
fn a_plugin_that_does_not_start_again_is_tried_once_per_interval() {
    // Each start writes shared data, by which later starts know that they are not the first.
    let guest = r#"
        (data (i32.const 0) "key")
        (func (export "proxy_on_CALLBACK") (param i32 i32) (result i32)
          (local $starts i32)
          (if (call $get_shared (i32.const 0) (i32.const 3) (i32.const 0x700) (i32.const 0x704) (i32.const 0x708))
            (then (i32.store (i32.const 0x704) (i32.const 0))))
          (local.set $starts (i32.load (i32.const 0x704)))
          (drop (call $set_shared (i32.const 0) (i32.const 3) (i32.const 0)
                                  (i32.add (local.get $starts) (i32.const 1)) (i32.const 0)))
          (if (i32.lt_u (local.get $starts) (i32.const STARTS)) (then (return (i32.const 1))))
          FAILURE)
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (unreachable))"#;
    let policy = "failure_policy: FAIL_RELOAD\nreload_config: {backoff: {base_interval: 0.2s}}";
    for (callback, failure) in [
        ("configure", "(i32.const 0)"),
        ("configure", "(unreachable)"),
        ("vm_start", "(i32.const 0)"),
        ("vm_start", "(unreachable)"),
    ] {
        let guest = guest.replace("CALLBACK", callback).replace("FAILURE", failure);
        for kind in hosts() {
            // Before it serves, the embedded host starts a plugin twice, and Envoy three times.
            let starts = if kind == Kind::Embedded { "2" } else { "3" };
            let proxy = start(&kind, &guest.replace("STARTS", starts), policy);
            let failed = becomes_true(|| {
                assert_eq!(outcome(&proxy), REFUSED, "{kind:?}: {callback} {failure}");
                proxy.stat("wasm.vm_reload_failure") >= 2
            });
            assert!(failed, "{kind:?}: {callback} {failure}");
            assert!(proxy.stat("wasm.vm_reload_backoff") >= 1, "{kind:?}: {callback} {failure}");
            assert_eq!(proxy.stat("wasm.vm_reload_success"), 0, "{kind:?}: {callback} {failure}");
        }
    }
}
