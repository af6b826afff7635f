//! Memory, tables, stack and time of a module.

use std::time::Duration;

use hyper::Request;
use weir_host::GuestLimits;

use super::same_outcomes;
use super::support::{self, Kind, Scenario, StartError, filter, text};

const REFUSED: &str = "503, 0 bytes, no trailers";

/// Runs instructions in `proxy_on_request_headers` on each host, and returns the texts that they noted.
fn noted(data: &str, instructions: &str) -> Vec<String> {
    let guest = format!(
        r#"{data} (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             {instructions} (call $reply) (i32.const 1))"#
    );
    let on = |kind| Scenario { guest: &guest, ..Scenario::default() }.start_on(&kind);
    support::hosts().into_iter().map(|kind| on(kind).unwrap_or_else(|error| panic!("{error:?}")).text("/")).collect()
}

fn start_embedded(guest: &str, limits: GuestLimits) -> Result<support::Proxy, StartError> {
    let filters = filter("guest", "failure_policy: FAIL_RELOAD");
    Scenario { guest, filters, limits, ..Scenario::default() }.start_on(&Kind::Embedded)
}

const MIB: usize = 1024 * 1024;

#[test]
fn memory_beyond_a_gibibyte_is_not_given() {
    let grow = |pages: u32| format!("(call $note (i32.eq (memory.grow (i32.const {pages})) (i32.const -1)))");
    let seen = noted("", &[grow(16_384), grow(100), grow(16_384)].concat());
    assert!(seen.iter().all(|seen| seen == "101"), "{seen:?}");
}

#[test]
fn the_memory_limit_can_be_set() {
    let guest = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (call $note (i32.eq (memory.grow (i32.const 64)) (i32.const -1)))
        (call $note (i32.eq (memory.grow (i32.const 1)) (i32.const -1)))
        (call $reply) (i32.const 1))"#;
    // The guest starts with 4 MiB.
    let limits = GuestLimits { memory: 8 * MIB, ..GuestLimits::default() };
    let proxy = start_embedded(guest, limits).unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(proxy.text("/"), "01");
    let limits = GuestLimits { memory: 4 * MIB - 1, ..GuestLimits::default() };
    let refused = start_embedded(guest, limits).err();
    assert!(
        matches!(&refused, Some(StartError::Embedded(error)) if error.to_string().contains("memory")),
        "{refused:?}"
    );
}

#[test]
fn several_memories_share_the_limit() {
    let wat = r#"(module (memory (export "memory") 1) (memory $second 1) (memory $third 1)
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 8))
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
          (i32.and (i32.ne (memory.grow $second (i32.const 8)) (i32.const -1))
                   (i32.eq (memory.grow $third (i32.const 8)) (i32.const -1)))))"#;
    let limits = GuestLimits { memory: MIB, ..GuestLimits::default() };
    let scenario = Scenario { module: wat::parse_str(wat).ok(), limits, ..Scenario::default() };
    scenario.start_on(&Kind::Embedded).unwrap_or_else(|error| panic!("{error:?}"));
}

#[test]
fn tables_beyond_ten_million_elements_are_not_given() {
    let grow =
        |count: u32| format!("(call $note (i32.eq (table.grow (ref.null func) (i32.const {count})) (i32.const -1)))");
    let seen = noted("(table 1 funcref)", &[grow(10_000_000), grow(1000), grow(10_000_000)].concat());
    assert!(seen.iter().all(|seen| seen == "101"), "{seen:?}");
}

#[test]
fn a_memory_or_table_that_is_too_large_from_the_start_is_refused() {
    for (memory, table) in [("20000", "1"), ("1", "20000000")] {
        let wat = format!(
            r#"(module (memory (export "memory") {memory}) (table {table} funcref) (func (export "proxy_abi_version_0_2_1"))
               (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 8)))"#
        );
        for kind in support::hosts() {
            let scenario = Scenario { module: wat::parse_str(&wat).ok(), ..Scenario::default() };
            assert!(scenario.start_on(&kind).is_err(), "{kind:?}: {memory} pages, {table} elements");
        }
    }
}

#[test]
fn endless_recursion_is_a_trap() {
    let headers = |body: &str| {
        format!(r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) {body} (i32.const 0))"#)
    };
    let plain = format!(
        "(func $deeper (param i64) (call $deeper (i64.add (local.get 0) (i64.const 1)))) {}",
        headers("(call $deeper (i64.const 0))")
    );
    // Frames of 400 bytes, so that the stack ends within one.
    let locals = "i64 ".repeat(50);
    let wide = format!(
        "(func $deeper (param i64) (result i64) (local {locals})
           (local.set 7 (i64.add (local.get 0) (i64.const 1)))
           (i64.add (call $deeper (local.get 7)) (local.get 7)))
         {}",
        headers("(drop (call $deeper (i64.const 0)))")
    );
    for guest in [plain, wide] {
        assert_eq!(same_outcomes(&guest, "failure_policy: FAIL_CLOSED"), [REFUSED, REFUSED], "{guest}");
    }
}

/// Returns a module with an allocator of its own; its `proxy_on_request_headers` reads a header.
fn with_allocator(allocate: &str) -> Option<Vec<u8>> {
    let wat = format!(
        r#"(module
        (import "env" "proxy_get_header_map_value" (func $get_header (param i32 i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_send_local_response" (func $respond (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1) (data (i32.const 0) ":path")
        (func (export "proxy_abi_version_0_2_1"))
        (func $read (result i32)
          (call $get_header (i32.const 0) (i32.const 0) (i32.const 5) (i32.const 64) (i32.const 68)))
        (func (export "proxy_on_memory_allocate") (param i32) (result i32) {allocate})
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (drop (call $respond (i32.add (i32.const 400) (call $read)) (i32.const 0) (i32.const 0) (i32.const 0)
                               (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1)))
          (i32.const 1)))"#
    );
    Some(wat::parse_str(wat).expect("the module's WAT"))
}

#[test]
fn an_allocator_that_fails_harms_its_module_only() {
    // 406: status 6, invalid memory access; 503: a trap.
    let allocators = [
        ("(i32.const 0)", 406),
        ("(i32.const -8)", 406),
        ("(i32.const 65536)", 406),
        ("(i32.const 128)", 400),
        ("(unreachable)", 503),
        // Host and module call each other without end.
        ("(call $read)", 503),
    ];
    for (allocate, expected) in allocators {
        for kind in support::hosts() {
            let scenario = Scenario { module: with_allocator(allocate), ..Scenario::default() };
            let proxy = scenario.start_on(&kind).unwrap_or_else(|error| panic!("{error:?}"));
            assert_eq!(proxy.get("/").status().as_u16(), expected, "{kind:?}: {allocate}");
        }
    }
}

#[test]
fn an_endless_loop_ends_after_the_time_limit() {
    let endless = "(loop $forever (br $forever))";
    let limits = GuestLimits { callback: Duration::from_millis(300), ..GuestLimits::default() };
    let in_headers = format!(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) {endless} (i32.const 0))"#
    );
    let proxy = start_embedded(&in_headers, limits).unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(proxy.get("/").status().as_u16(), 503);
    let in_log = format!(r#"(func (export "proxy_on_log") (param i32) {endless})"#);
    let proxy = start_embedded(&in_log, limits).unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(proxy.get("/").status().as_u16(), 200);
    support::eventually("the loop has been stopped", || proxy.stat("wasm.vm_trap") >= 1);
    let allocator =
        Scenario { module: with_allocator(&format!("{endless} (i32.const 0)")), limits, ..Scenario::default() };
    let proxy = allocator.start_on(&Kind::Embedded).unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(proxy.get("/").status().as_u16(), 503);
}

#[test]
fn an_endless_loop_in_the_start_is_an_error() {
    let endless = "(loop $forever (br $forever))";
    let limits = GuestLimits { callback: Duration::from_millis(300), ..GuestLimits::default() };
    for guest in [
        format!(r#"(func (export "_start") {endless})"#),
        format!("(func $start {endless}) (start $start)"),
        format!(r#"(func (export "proxy_on_vm_start") (param i32 i32) (result i32) {endless} (i32.const 1))"#),
        format!(r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) {endless} (i32.const 1))"#),
    ] {
        assert!(start_embedded(&guest, limits).is_err(), "{guest}");
    }
}

#[test]
fn other_requests_are_served_while_a_module_loops() {
    let guest = r#"(data (i32.const 0) ":path")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (drop (call $get_header (i32.const 0) (i32.const 0) (i32.const 5) (i32.const 0x700) (i32.const 0x704)))
          (if (i32.gt_u (i32.load (i32.const 0x704)) (i32.const 1)) (then (loop $forever (br $forever))))
          (i32.const 0))"#;
    let filters = filter("guest", "failure_policy: FAIL_CLOSED");
    // Longer than the other worker stalls.
    let limits = GuestLimits { callback: Duration::from_secs(8), ..GuestLimits::default() };
    let scenario = Scenario { guest, filters, limits, workers: 2, ..Scenario::default() };
    let proxy = scenario.start_on(&Kind::Embedded).unwrap_or_else(|error| panic!("{error:?}"));
    let address = proxy.address();
    let looping = std::thread::spawn(move || support::send(address, Request::get("/loop"), b"").status().as_u16());
    // The other worker has a VM of its own: it answers before the loop is stopped.
    support::eventually("the other worker answers", || {
        let answer = support::try_send_within(address, Duration::from_millis(200));
        answer.is_some_and(|answer| answer.status() == 200 && text(&answer) == "hello") && !looping.is_finished()
    });
    assert_eq!(looping.join().ok(), Some(503));
}
