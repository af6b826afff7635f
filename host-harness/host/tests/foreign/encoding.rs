//! Files in Latin-1: Envoy reads another value than the one written, and the harness refuses the file.

use std::path::Path;

use hyper::Request;
use weir_host::documents::Source;

use super::support::envoy::Envoy;
use super::support::{Kind, Scenario, envoys, filter, module, send, text};

/// Guest that answers with its configuration.
const GUEST: &str = r#"
    (global $size (mut i32) (i32.const 0))
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
      (drop (call $get_buffer (i32.const 7) (i32.const 0) (i32.const 99) (i32.const 0x700) (i32.const 0x704)))
      (global.set $size (i32.load (i32.const 0x704)))
      (memory.copy (i32.const 0x1000) (i32.load (i32.const 0x700)) (global.get $size))
      (i32.const 1))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
      (drop (call $respond (i32.const 200) (i32.const 0) (i32.const 0) (i32.const 0x1000) (global.get $size)
                           (i32.const 0) (i32.const 0) (i32.const -1)))
      (i32.const 1))"#;

/// Returns a bootstrap whose plugin has a configuration in Latin-1.
fn latin_1(scenario: &Scenario<'_>, module: &Path) -> Vec<u8> {
    let yaml = scenario.yaml().replace("GUEST", &module.display().to_string());
    yaml.chars().map(|char| u8::try_from(char).expect("a character of Latin-1")).collect()
}

#[test]
fn envoy_replaces_what_is_not_utf_8_and_the_harness_refuses_the_file() {
    let value = r#"{"@type": type.googleapis.com/google.protobuf.StringValue, value: "café naïve"}"#;
    let configuration = &format!("configuration: {value}");
    let scenario = Scenario { filters: filter("guest", configuration), ..Scenario::default() };
    let files = tempfile::tempdir().expect("a folder");
    let path = files.path().join("guest.wasm");
    std::fs::write(&path, module(GUEST)).expect("the guest's file");
    let yaml = latin_1(&scenario, &path);
    for (version, kind) in envoys() {
        let Kind::Envoy(binary) = kind else { continue };
        let envoy = Envoy::start(&binary, &yaml, files.path(), 1).unwrap_or_else(|log| panic!("{version}: {log}"));
        // The byte after the one that is not UTF-8 is lost, too.
        assert_eq!(text(&send(envoy.ingress, Request::get("/"), b"")), "caf na e", "{version}");
    }
    let file = files.path().join("latin-1.yaml");
    std::fs::write(&file, &yaml).expect("the file");
    let refused = Source::load(&file).error.map(|error| error.to_string());
    assert_eq!(refused.as_deref(), Some("has another encoding than UTF-8"));
}
