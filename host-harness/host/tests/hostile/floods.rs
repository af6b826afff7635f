//! Floods of what a host keeps for a module.

use weir_host::GuestLimits;

use super::ROUTE;
use super::support::{self, Kind, Proxy, Scenario, filter};

const MIB: usize = 1024 * 1024;

/// Starts the embedded host with a limit of 4 MiB, as much as the guest starts with.
fn start(guest: &str, clusters: String) -> Proxy {
    start_with(guest, clusters, GuestLimits { memory: 4 * MIB, ..GuestLimits::default() })
}

fn start_with(guest: &str, clusters: String, limits: GuestLimits) -> Proxy {
    let filters = filter("guest", "failure_policy: FAIL_CLOSED");
    let clusters = [clusters, support::cluster("echo", support::patient_http2_server(), "http2")].join("\n");
    let scenario = Scenario { guest, filters, limits, routes: ROUTE.to_owned(), clusters, ..Scenario::default() };
    scenario.start_on(&Kind::Embedded).unwrap_or_else(|error| panic!("{error:?}"))
}

/// Returns a guest that runs instructions 200,000 times in a callback: local 5 counts them; local 6 is the last status.
fn repeated(callback: &str, data: &str, instructions: &str) -> String {
    format!(
        r#"{data} (func (export "proxy_on_{callback}") (param i32 i32 i32) (result i32) (local i32 i32 i32 i32)
             (loop $again
               (i32.store (i32.const 0x600) (local.get 5))
               (local.set 6 {instructions})
               (local.set 5 (i32.add (local.get 5) (i32.const 1)))
               (br_if $again (i32.and (i32.lt_u (local.get 5) (i32.const 200000)) (i32.ne (local.get 6) (i32.const 10)))))
             (call $note (local.get 6)) (call $reply) (i32.const 1))"#
    )
}

fn answer(proxy: &Proxy) -> (u16, String) {
    let answer = proxy.send(hyper::Request::post("/"), b"body");
    (answer.status().as_u16(), support::text(&answer))
}

#[test]
fn a_callback_that_makes_its_host_keep_too_much_traps() {
    let floods = [
        (
            "request_headers",
            "(call $add_header (i32.const 0) (i32.const 0x600) (i32.const 4) (i32.const 0) (i32.const 100))",
        ),
        ("request_headers", "(call $set_property (i32.const 0x600) (i32.const 4) (i32.const 0) (i32.const 100))"),
        ("request_headers", "(call $continue (i32.const 0))"),
        ("request_headers", "(call $close (i32.const 1))"),
        ("request_headers", "(call $set_tick_period (i32.const 1))"),
        (
            "request_headers",
            "(call $respond (i32.const 200) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 100) (i32.const 0) (i32.const 0) (i32.const -1))",
        ),
        ("request_body", "(call $set_buffer (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 0) (i32.const 100))"),
    ];
    for (callback, flood) in floods {
        let proxy = start(&repeated(callback, "", flood), String::new());
        assert_eq!(answer(&proxy).0, 503, "{flood}");
        assert_eq!(proxy.stat("wasm.vm_trap"), 1, "{flood}");
    }
}

#[test]
fn a_host_keeps_no_more_shared_data_queues_and_metrics_than_its_limit() {
    let floods = [
        "(call $set_shared (i32.const 0x600) (i32.const 4) (i32.const 0) (i32.const 100) (i32.const 0))",
        "(call $register_queue (i32.const 0x600) (i32.const 4) (i32.const 0x604))",
        "(block (result i32) (drop (call $register_queue (i32.const 0) (i32.const 4) (i32.const 0x604)))
           (call $enqueue (i32.load (i32.const 0x604)) (i32.const 0) (i32.const 100)))",
        "(call $define_metric (i32.const 0) (i32.const 0x600) (i32.const 100) (i32.const 0x700))",
    ];
    for flood in floods {
        let proxy = start(&repeated("request_headers", "", flood), String::new());
        // Status 10 is `InternalFailure`; the module goes on.
        for _ in 0..2 {
            assert_eq!(answer(&proxy), (200, ":".to_owned()), "{flood}");
        }
        assert_eq!(proxy.stat("wasm.vm_trap"), 0, "{flood}");
    }
}

#[test]
fn replaced_and_taken_values_are_not_counted_twice() {
    let loops = [
        "(call $set_shared (i32.const 0) (i32.const 4) (i32.const 0) (i32.const 1000) (i32.const 0))",
        "(block (result i32) (drop (call $register_queue (i32.const 0) (i32.const 4) (i32.const 0x604)))
           (drop (call $enqueue (i32.load (i32.const 0x604)) (i32.const 0) (i32.const 100)))
           (call $dequeue (i32.load (i32.const 0x604)) (i32.const 0x700) (i32.const 0x704)))",
    ];
    for instructions in loops {
        let proxy = start(&repeated("request_headers", "", instructions), String::new());
        assert_eq!(answer(&proxy), (200, "0".to_owned()), "{instructions}");
    }
}

#[test]
fn a_plugin_has_a_limited_number_of_callouts_in_flight() {
    let data = r#"(data (i32.const 0) "\03\00\00\00\07\00\00\00\04\00\00\00\05\00\00\00\05\00\00\00\0a\00\00\00\04\00\00\00:method\00POST\00:path\00/call\00:authority\00peer\00")
        (data (i32.const 128) "backend")"#;
    let call = "(call $http_call (i32.const 128) (i32.const 7) (i32.const 0) (i32.const 69)
        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1000) (i32.const 0x700))";
    let limits = GuestLimits { memory: 64 * MIB, ..GuestLimits::default() };
    let guest = repeated("request_headers", data, call);
    let clusters = support::cluster("backend", support::nobody(), "http1");
    let scenario = Scenario { guest: &guest, limits, clusters, ..Scenario::default() };
    let proxy = scenario.start_on(&Kind::Embedded).unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(answer(&proxy), (200, ":".to_owned()));
    assert!(proxy.stat("cluster.backend.upstream_rq_total") <= 16_384);
    support::eventually("the callouts have ended, and there is room for others", || answer(&proxy).0 == 200);
}

#[test]
fn log_lines_of_a_callback_are_limited_and_the_request_goes_on() {
    let flood = "(call $log (i32.const 2) (i32.const 0) (i32.const 100))";
    for kind in support::hosts() {
        let guest = repeated("request_headers", "", flood);
        let proxy = Scenario { guest: &guest, ..Scenario::default() }.start_on(&kind);
        assert_eq!(answer(&proxy.unwrap_or_else(|error| panic!("{error:?}"))), (200, "0".to_owned()), "{kind:?}");
    }
}

#[test]
fn absurd_sizes_are_refused_at_once() {
    let guest = r#"
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          ;; A path of a property with three million parts.
          (memory.fill (i32.const 0x10000) (i32.const 0) (i32.const 0x300000))
          (call $note (call $get_property (i32.const 0x10000) (i32.const 0x300000) (i32.const 0x700) (i32.const 0x704)))
          ;; Pairs of three megabytes.
          (call $note (call $set_pairs (i32.const 0) (i32.const 0x10000) (i32.const 0x300000)))
          (call $note (call $get_header (i32.const 0) (i32.const 0x10000) (i32.const 0x300000)
                            (i32.const 0x700) (i32.const 0x704)))
          (call $reply) (i32.const 1))"#;
    for kind in support::hosts() {
        let proxy = Scenario { guest, ..Scenario::default() }.start_on(&kind);
        let proxy = proxy.unwrap_or_else(|error| panic!("{error:?}"));
        assert_eq!(proxy.text("/"), "101", "{kind:?}");
    }
}

#[test]
fn a_write_of_too_many_parts_is_refused() {
    let wat = r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_send_local_response" (func $respond (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 32)
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 8))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          ;; Two parts of 1 MiB each.
          (i32.store (i32.const 4) (i32.const 0x100000))
          (i32.store (i32.const 12) (i32.const 0x100000))
          (drop (call $respond
            (i32.add (i32.const 400) (i32.add (call $write (i32.const 1) (i32.const 0) (i32.const 2) (i32.const 64))
                                              (call $write (i32.const 1) (i32.const 0) (i32.const -1) (i32.const 64))))
            (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1)))
          (i32.const 1)))"#;
    let scenario = Scenario { module: wat::parse_str(wat).ok(), ..Scenario::default() };
    let proxy = scenario.start_on(&Kind::Embedded).unwrap_or_else(|error| panic!("{error:?}"));
    // Twice 28, `EINVAL`.
    assert_eq!(proxy.get("/").status().as_u16(), 456);
}

#[test]
fn callouts_that_cause_callouts_without_end_leave_room_for_requests() {
    let guest = r#"
        (data (i32.const 0) "\03\00\00\00\07\00\00\00\04\00\00\00\05\00\00\00\05\00\00\00\0a\00\00\00\04\00\00\00:method\00POST\00:path\00/call\00:authority\00peer\00")
        (data (i32.const 128) "backendplugin_root_idbridge")
        (func $call
          (drop (call $http_call (i32.const 128) (i32.const 7) (i32.const 0) (i32.const 69)
            (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0x720))))
        (func $is_bridge (result i32)
          (drop (call $get_property (i32.const 135) (i32.const 14) (i32.const 0x700) (i32.const 0x704)))
          (i32.eq (i32.load8_u (i32.load (i32.const 0x700))) (i32.const 98)))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (if (result i32) (call $is_bridge)
            (then (call $reply) (i32.const 1))
            (else (call $call) (i32.const 0))))
        (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32) (call $call))"#;
    // The upstream filter of the cluster answers each callout at once, within the callout.
    let proxy = start(guest, support::cluster("backend", support::nobody(), "bridged"));
    for _ in 0..3 {
        assert_eq!(proxy.get("/").status().as_u16(), 200);
    }
}

/// Requests a callout and a gRPC stream, and counts their ends by status in metrics.
const CALLER: &str = r#"
    (data (i32.const 0) "\03\00\00\00\07\00\00\00\03\00\00\00\05\00\00\00\05\00\00\00\0a\00\00\00\04\00\00\00:method\00GET\00:path\00/call\00:authority\00peer\00")
    (data (i32.const 128) "backendreset8")
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
      (drop (call $http_call (i32.const 128) (i32.const 7) (i32.const 0) (i32.const 68)
        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0x700)))
      (call $reply) (i32.const 1))
    (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
      (if (i32.eqz (local.get 2)) (then (call $count (i32.const 135) (i32.const 5)))))"#;

#[test]
fn a_callout_with_an_endless_response_ends() {
    let endless = support::tcp_server(|mut stream| {
        use std::io::{Read, Write};
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b'x'; 65_536]).is_ok() {}
    });
    let clusters = support::cluster("backend", endless, "http1");
    let proxy = start_with(CALLER, clusters, GuestLimits::default());
    assert_eq!(proxy.get("/").status().as_u16(), 200);
    proxy.metric_becomes("reset", 1);
}

#[test]
fn a_grpc_stream_to_an_upstream_that_does_not_read_ends() {
    let deaf = support::tcp_server(|stream| {
        std::thread::sleep(std::time::Duration::from_secs(20));
        drop(stream);
    });
    // Each tick sends 2 MiB.
    let guest = r#"
        (data (i32.const 128) "backend8")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (drop (call $grpc_stream (i32.const 128) (i32.const 7) (i32.const 128) (i32.const 7) (i32.const 128) (i32.const 7)
                                   (i32.const 0) (i32.const 0) (i32.const 0x70c)))
          (drop (call $set_tick_period (i32.const 1)))
          (call $reply) (i32.const 1))
        (func (export "proxy_on_tick") (param i32)
          (drop (call $grpc_send (i32.load (i32.const 0x70c)) (i32.const 0x10000) (i32.const 0x200000) (i32.const 0))))
        (func (export "proxy_on_grpc_close") (param i32 i32 i32)
          (drop (call $set_tick_period (i32.const 0)))
          (if (i32.eq (local.get 2) (i32.const 8)) (then (call $count (i32.const 135) (i32.const 1)))))"#;
    let proxy = start_with(guest, support::cluster("backend", deaf, "tcp"), GuestLimits::default());
    assert_eq!(proxy.get("/").status().as_u16(), 200);
    proxy.metric_becomes("8", 1);
}
