//! Failures of the start: no host starts with a module that traps or refuses before it serves.

use super::POLICIES;
use super::roots::hosts;
use super::support::{self, Kind, Scenario, StartError};

/// Starts a whole module; returns the errors of the embedded host and of Envoy, if there is one.
fn refusals(kinds: Vec<Kind>, wat: &str, policy: &str) -> Vec<String> {
    let module = wat::parse_str(wat).expect("the module's WAT");
    let refusal = |kind: Kind| {
        let filters = support::filter("guest", policy);
        let scenario = Scenario { module: Some(module.clone()), filters, ..Scenario::default() };
        match scenario.start_on(&kind) {
            Ok(_) => panic!("{kind:?} has started with {policy} and {wat}"),
            Err(StartError::Embedded(error)) => error.to_string(),
            Err(StartError::Envoy(log)) => log,
        }
    };
    kinds.into_iter().map(refusal).collect()
}

/// Asserts that both hosts refuse a module, and that the error of the embedded host has a text.
fn assert_refused(wat: &str, reason: &str) {
    assert_refused_by(&hosts(), wat, reason);
}

/// Asserts that some hosts, the embedded one first, refuse a module.
fn assert_refused_by(kinds: &[Kind], wat: &str, reason: &str) {
    for policy in POLICIES {
        let refusals = refusals(kinds.to_vec(), wat, policy);
        assert!(refusals[0].contains(reason), "{reason:?} is not in {}", refusals[0]);
        assert!(refusals.iter().skip(1).all(|log| log.contains("Unable to create Wasm")), "{refusals:?}");
    }
}

/// Exports that each module of ABI 0.2.1 has.
const REQUIRED: &str = r#"(memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1"))
    (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 8))"#;

fn with(more: &str) -> String {
    format!("(module {REQUIRED} {more})")
}

#[test]
fn a_module_that_traps_while_it_is_initialised_is_refused() {
    for name in ["_start", "_initialize"] {
        assert_refused(&with(&format!(r#"(func (export "{name}") (unreachable))"#)), "unreachable");
    }
    assert_refused(&with("(func $start (unreachable)) (start $start)"), "unreachable");
    let main = r#"(func (export "_initialize")) (func (export "main") (param i32 i32) (result i32) (unreachable))"#;
    assert_refused(&with(main), "unreachable");
    let main = r#"(func (export "_initialize")) (func (export "__main_void") (result i32) (unreachable))"#;
    // Envoy 1.36 does not know this export.
    assert_refused_by(&support::hosts(), &with(main), "unreachable");
}

#[test]
fn a_module_that_needs_a_context_while_it_is_initialised_is_refused() {
    let early = format!(
        r#"(module (import "env" "proxy_set_tick_period_milliseconds" (func $tick (param i32) (result i32)))
           {REQUIRED} (func (export "_initialize") (drop (call $tick (i32.const 1)))))"#
    );
    assert_refused(&early, "while it was initialised");
}

#[test]
fn a_plugin_that_traps_while_it_starts_is_refused() {
    let trap = |name: &str, result: &str| {
        with(&format!(r#"(func (export "proxy_on_{name}") (param i32 i32) {result} (unreachable))"#))
    };
    assert_refused(&trap("vm_start", "(result i32)"), "trapped in proxy_on_vm_start");
    assert_refused(&trap("configure", "(result i32)"), "trapped in proxy_on_configure");
}

#[test]
fn a_plugin_that_refuses_its_start_is_refused() {
    let no =
        |name: &str| with(&format!(r#"(func (export "proxy_on_{name}") (param i32 i32) (result i32) (i32.const 0))"#));
    assert_refused(&no("vm_start"), "refused its VM's configuration");
    let trap = r#"(func (export "proxy_on_context_create") (param i32 i32) (unreachable))"#;
    let vm_start = r#"(func (export "proxy_on_vm_start") (param i32 i32) (result i32) (i32.const 0))"#;
    assert_refused(&with(&format!("{trap} {vm_start}")), "refused its VM's configuration");
    assert_refused(&no("configure"), "refused its configuration");
}

#[test]
fn a_module_without_what_the_abi_requires_is_refused() {
    assert_refused(r#"(module (memory (export "memory") 1))"#, "expected a module of proxy-wasm ABI");
    assert_refused(r#"(module (func (export "proxy_abi_version_0_3_0")))"#, "expected a module of proxy-wasm ABI");
    let no_allocator = r#"(module (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1")))"#;
    assert_refused(no_allocator, "expected an export `malloc` or `proxy_on_memory_allocate`");
    let unknown = format!(r#"(module (import "env" "proxy_no_such_function" (func)) {REQUIRED})"#);
    assert_refused(&unknown, "proxy_no_such_function");
    let wrong_import = format!(r#"(module (import "env" "proxy_log" (func (param i64))) {REQUIRED})"#);
    assert_refused(&wrong_import, "proxy_log");
    let wrong_export = with(r#"(func (export "proxy_on_request_headers") (param i64) (result i32) (i32.const 0))"#);
    assert_refused(&wrong_export, "proxy_on_request_headers");
}

#[test]
fn imports_of_another_abi_version_are_refused() {
    let module = |abi: &str, import: &str, signature: &str| {
        let required = REQUIRED.replace("0_2_1", abi);
        format!(r#"(module (import "env" "{import}" (func {signature})) {required})"#)
    };
    assert_refused(&module("0_2_1", "proxy_continue_request", "(result i32)"), "proxy_continue_request");
    assert_refused(&module("0_2_0", "proxy_get_log_level", "(param i32) (result i32)"), "proxy_get_log_level");
    assert_refused(&module("0_1_0", "proxy_continue_stream", "(param i32) (result i32)"), "proxy_continue_stream");
}

#[test]
fn bytes_that_are_no_module_are_refused() {
    for bytes in [&b""[..], b"\0asm", b"\0asm\x01\0\0\0\xff\xff\xff\xff", b"not wasm at all"] {
        for kind in support::hosts() {
            let scenario = Scenario { module: Some(bytes.to_vec()), ..Scenario::default() };
            assert!(scenario.start_on(&kind).is_err(), "{kind:?}: {bytes:?}");
        }
    }
}
