//! Modules of ABI 0.1.0, 0.2.0 and 0.2.1 that differ in the names of imports and in the types of callbacks.

use super::support::{self, Scenario};

/// Returns a module of a version: `more` are its imports, then its functions.
fn module(version: &str, imports: &str, functions: &str) -> Option<Vec<u8>> {
    let wat = format!(
        r#"(module
        (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
        (import "env" "proxy_get_header_map_value" (func $get_header (param i32 i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_add_header_map_value" (func $add_header (param i32 i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_set_tick_period_milliseconds" (func $tick (param i32) (result i32)))
        (import "env" "proxy_set_effective_context" (func $context (param i32) (result i32)))
        {imports}
        (memory (export "memory") 2)
        (data (i32.const 0) "x-status0123456789missing")
        (global $heap (mut i32) (i32.const 1024))
        (global $waiting (mut i32) (i32.const 0))
        (func (export "proxy_abi_version_{version}"))
        (func (export "malloc") (param $size i32) (result i32)
          (local $at i32)
          (local.set $at (global.get $heap))
          (global.set $heap (i32.add (global.get $heap) (local.get $size)))
          (local.get $at))
        ;; Adds a response header with one digit.
        (func $show (param $digit i32)
          (drop (call $add_header (i32.const 2) (i32.const 0) (i32.const 8)
                                  (i32.add (i32.const 8) (local.get $digit)) (i32.const 1))))
        {functions})"#
    );
    Some(wat::parse_str(wat).expect("the module's WAT"))
}

/// Returns the statuses and `x-status` headers of a GET request on each host, which have to be equal.
fn answers(module: &Option<Vec<u8>>) -> (u16, Vec<String>) {
    let mut answers = support::hosts().into_iter().map(|kind| {
        let configuration =
            "configuration:\n  \"@type\": type.googleapis.com/google.protobuf.StringValue\n  value: plugin";
        let filters = support::filter("guest", configuration);
        let scenario = Scenario { module: module.clone(), filters, ..Scenario::default() };
        let proxy = scenario.start_on(&kind).unwrap_or_else(|error| panic!("{error:?}"));
        let answer = proxy.get("/");
        let shown = answer.headers().get_all("x-status").iter();
        (answer.status().as_u16(), shown.filter_map(|value| Some(value.to_str().ok()?.to_owned())).collect())
    });
    let embedded = answers.next().expect("the embedded host");
    answers.for_each(|envoy| assert_eq!(embedded, envoy, "embedded, then Envoy"));
    embedded
}

#[test]
fn a_module_of_abi_0_1_0_has_its_own_imports_and_callbacks() {
    let imports = r#"
        (import "env" "proxy_get_configuration" (func $configuration (param i32 i32) (result i32)))
        (import "env" "proxy_continue_request" (func $continue_request (result i32)))
        (import "env" "proxy_continue_response" (func $continue_response (result i32)))
        (import "env" "proxy_clear_route_cache" (func $clear_route_cache (result i32)))"#;
    let functions = r#"
        (global $length (mut i32) (i32.const 0))
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
          (drop (call $configuration (i32.const 512) (i32.const 516)))
          (global.set $length (i32.load (i32.const 516)))
          (i32.const 1))
        (func (export "proxy_on_request_headers") (param $context i32) (param i32) (result i32)
          (global.set $waiting (local.get $context))
          (drop (call $clear_route_cache))
          (drop (call $tick (i32.const 10)))
          (i32.const 1))
        (func (export "proxy_on_tick") (param i32)
          (drop (call $context (global.get $waiting)))
          (drop (call $continue_request)))
        (func (export "proxy_on_response_headers") (param i32 i32) (result i32)
          ;; A missing header is an empty one.
          (call $show (call $get_header (i32.const 2) (i32.const 18) (i32.const 7) (i32.const 512) (i32.const 516)))
          (call $show (i32.load (i32.const 516)))
          (call $show (global.get $length))
          ;; Outside `proxy_on_configure`, the configuration is the VM's.
          (call $show (call $configuration (i32.const 512) (i32.const 516)))
          (call $show (i32.load (i32.const 516)))
          (i32.const 0))"#;
    assert_eq!(
        answers(&module("0_1_0", imports, functions)),
        (200, ["0", "0", "6", "0", "0"].map(str::to_owned).into())
    );
}

#[test]
fn a_module_of_abi_0_2_0_is_served_like_one_of_0_2_1() {
    let imports = r#"(import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))"#;
    let functions = r#"
        (func (export "proxy_on_request_headers") (param $context i32) (param i32 i32) (result i32)
          (global.set $waiting (local.get $context))
          (drop (call $tick (i32.const 10)))
          (i32.const 1))
        (func (export "proxy_on_tick") (param i32)
          (drop (call $context (global.get $waiting)))
          (drop (call $continue (i32.const 0))))
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
          (call $show (call $get_header (i32.const 2) (i32.const 18) (i32.const 7) (i32.const 512) (i32.const 516)))
          (i32.const 0))"#;
    for version in ["0_2_0", "0_2_1"] {
        assert_eq!(answers(&module(version, imports, functions)), (200, vec!["1".to_owned()]), "{version}");
    }
}

#[test]
fn a_reactor_runs_main_after_its_initialisation() {
    let main = |export: &str, parameters: &str| {
        format!(
            r#"(global $started (mut i32) (i32.const 0))
            (func (export "_initialize") (global.set $started (i32.const 1)))
            (func (export "{export}") {parameters} (result i32)
              (global.set $started (i32.add (global.get $started) (i32.const 1))) (i32.const 0))
            (func (export "_start") (unreachable))
            (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
              (call $show (global.get $started)) (i32.const 0))"#
        )
    };
    for functions in [main("main", "(param i32 i32)"), main("__main_void", "")] {
        assert_eq!(answers(&module("0_2_1", "", &functions)), (200, vec!["2".to_owned()]), "{functions}");
    }
}
