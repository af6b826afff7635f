//! Failures of modules: the failure policies after a trap, and errors of a start that a module refuses.

mod support;

use std::time::{Duration, Instant};

use hyper::Request;
use support::{Scenario, StartError, filter, text};
use weir_host::{GuestLimits, HostError, VmError};

/// Guest that traps on `/trap`, loops on `/loop`, and continues otherwise.
const FRAGILE: &str = r#"(data (i32.const 0) ":path")
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
      (local $letter i32)
      (drop (call $get_header (i32.const 0) (i32.const 0) (i32.const 5) (i32.const 0x700) (i32.const 0x704)))
      (local.set $letter (i32.load8_u (i32.add (i32.load (i32.const 0x700)) (i32.const 1))))
      (if (i32.eq (local.get $letter) (i32.const 116)) (then (unreachable)))
      (if (i32.eq (local.get $letter) (i32.const 108)) (then (loop $forever (br $forever))))
      (i32.const 0))"#;

fn fragile(policy: &str) -> support::Proxy {
    let filters = filter("guest", policy);
    Scenario { guest: FRAGILE, filters, ..Scenario::default() }.start()
}

fn status(proxy: &support::Proxy, path: &str) -> u16 {
    proxy.get(path).status().as_u16()
}

#[test]
fn after_a_trap_fail_closed_refuses_every_request() {
    let proxy = fragile("failure_policy: FAIL_CLOSED");
    assert_eq!([status(&proxy, "/"), status(&proxy, "/trap"), status(&proxy, "/")], [200, 503, 503]);
}

#[test]
fn after_a_trap_fail_open_bypasses_the_filter() {
    let proxy = fragile("failure_policy: FAIL_OPEN");
    assert_eq!([status(&proxy, "/"), status(&proxy, "/trap"), status(&proxy, "/trap")], [200, 503, 200]);
    let proxy = fragile("fail_open: true");
    assert_eq!([status(&proxy, "/"), status(&proxy, "/trap"), status(&proxy, "/trap")], [200, 200, 200]);
}

#[test]
fn a_trap_in_a_response_follows_the_failure_policy() {
    let guest = r#"(func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (unreachable))"#;
    let answers = |more: &str| {
        let proxy = Scenario { guest, filters: filter("guest", more), ..Scenario::default() }.start();
        [status(&proxy, "/"), status(&proxy, "/")]
    };
    assert_eq!(answers("failure_policy: FAIL_CLOSED"), [503, 503]);
    assert_eq!(answers("failure_policy: FAIL_OPEN"), [503, 200]);
    assert_eq!(answers("fail_open: true"), [200, 200]);
}

#[test]
fn after_a_trap_the_vm_is_reloaded_but_not_within_a_second() {
    let since = Instant::now();
    let proxy = fragile("failure_policy: FAIL_RELOAD");
    let trapped = Instant::now();
    assert_eq!(status(&proxy, "/trap"), 503);
    let next = status(&proxy, "/");
    assert!(next == 503 || trapped.elapsed() > Duration::from_secs(1), "{next}");
    support::eventually("a new VM serves", || status(&proxy, "/") == 200);
    assert!(since.elapsed() > Duration::from_secs(1), "{:?}", since.elapsed());
}

#[test]
fn a_module_that_never_returns_is_stopped() {
    if support::envoy::asked_for().is_some() {
        return eprintln!("skipped: Envoy does not stop a module that never returns");
    }
    let filters = filter("guest", "failure_policy: FAIL_RELOAD");
    let limits = GuestLimits { callback: Duration::from_millis(100), ..GuestLimits::default() };
    let proxy = Scenario { guest: FRAGILE, filters, limits, ..Scenario::default() }.start();
    assert_eq!(status(&proxy, "/loop"), 503);
    support::eventually("a new VM serves", || status(&proxy, "/") == 200);
}

#[test]
fn a_refused_configuration_is_an_error_with_the_log_of_the_module() {
    if support::envoy::asked_for().is_some() {
        return eprintln!("skipped: Envoy has its own error text");
    }
    let guest = r#"(data (i32.const 0) "limits[0].name: missing")
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
          (drop (call $log (i32.const 4) (i32.const 0) (i32.const 23))) (i32.const 0))"#;
    let refused = Scenario { guest, ..Scenario::default() }.try_start().err();
    let Some(StartError::Embedded(HostError::Plugin { error, .. })) = refused else { panic!("{refused:?}") };
    assert!(matches!(*error, VmError::Plugin { .. }), "{error:?}");
    let expected = "plugin `` (root_id `guest`) refused its configuration\n  limits[0].name: missing";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_module_of_another_abi_is_refused_by_its_path() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("other.wasm");
    std::fs::write(&path, wat::parse_str("(module (func (export \"_start\")))").unwrap()).unwrap();
    let yaml = Scenario::default().yaml().replace("GUEST", &path.display().to_string());
    let bootstrap = weir_host::Bootstrap::parse(&yaml, "test.yaml").unwrap();
    let error = weir_host::Host::start(bootstrap, Default::default()).err().map(|error| error.to_string());
    assert!(
        error.as_deref().is_some_and(|error| error.contains("other.wasm: expected a module of proxy-wasm ABI")),
        "{error:?}"
    );
}

#[test]
fn the_admin_listener_shows_the_metrics_of_a_module() {
    let guest = r#"(data (i32.const 0) "weir.limit.a-b.denied")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (call $count (i32.const 0) (i32.const 21)) (i32.const 0))"#;
    let proxy = Scenario { guest, ..Scenario::default() }.start();
    proxy.get("/");
    let ask = |path: &str| text(&support::send(proxy.admin(), Request::get(path), b""));
    assert_eq!(ask("/ready"), "LIVE\n");
    assert!(ask("/stats").contains("wasmcustom.weir.limit.a-b.denied: 1\n"));
    assert!(ask("/stats/prometheus").contains("\nweir_limit_a_b_denied{} 1\n"), "{}", ask("/stats/prometheus"));
    assert!(ask("/stats/prometheus").contains("envoy_http_downstream_rq_total"));
}
