//! Tags of metrics (`stats_config`) in Prometheus' form, on both hosts.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use weir_harness::serving::HostKind;

use crate::hosts::{has_envoy, serving};
use crate::support::{self, exchange};

/// Module that defines counters in its start and adds 1 to each of them in each request.
const MODULE: &str = r#"(module
    (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_increment_metric" (func $add (param i32 i64) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "limit.users.hits.tenant_acmeown_rq_2xxown_rq_404cluster.odd.name\22x")
    (func (export "proxy_abi_version_0_2_1"))
    (func (export "malloc") (param i32) (result i32) (i32.const 4096))
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
      (drop (call $define (i32.const 0) (i32.const 0) (i32.const 28) (i32.const 512)))
      (drop (call $define (i32.const 0) (i32.const 28) (i32.const 10) (i32.const 516)))
      (drop (call $define (i32.const 0) (i32.const 38) (i32.const 10) (i32.const 520)))
      (drop (call $define (i32.const 1) (i32.const 48) (i32.const 18) (i32.const 524)))
      (i32.const 1))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
      (drop (call $add (i32.load (i32.const 512)) (i64.const 1)))
      (drop (call $add (i32.load (i32.const 516)) (i64.const 1)))
      (drop (call $add (i32.load (i32.const 520)) (i64.const 1)))
      (drop (call $add (i32.load (i32.const 524)) (i64.const 7)))
      (i32.const 0)))"#;

const TAGS: &str = r#"
  - {tag_name: limit, regex: "^wasmcustom\\.limit\\.((\\w+)\\.)"}
  - {tag_name: tenant.name, regex: "(\\.tenant_(\\w+))$"}
  - {tag_name: first, regex: "o(d)d"}
  - {tag_name: zone, fixed_value: "e\"u"}
  - {tag_name: perhaps, regex: "hits(none)?"}
"#;

/// Returns the lines about the module's metrics, sorted.
fn lines(host: HostKind, yaml: &str) -> Vec<String> {
    let text = serving(host, yaml, |serving| {
        exchange(serving.listener("ingress").expect("the listener"), "GET / HTTP/1.1\r\nhost: a\r\n");
        let mut admin = TcpStream::connect(serving.admin().expect("admin")).expect("a connection");
        admin
            .write_all(b"GET /stats/prometheus HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .expect("the request");
        let mut text = Vec::new();
        admin.read_to_end(&mut text).expect("the answer");
        String::from_utf8_lossy(&text).into_owned()
    });
    let is_own = |line: &&str| {
        let name = line.strip_prefix("# TYPE ").unwrap_or(line);
        ["limit", "own_rq", "cluster_"].iter().any(|start| name.starts_with(start))
    };
    let mut lines: Vec<String> = text.lines().map(str::trim_end).filter(is_own).map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn metrics_of_modules_have_the_labels_of_envoy() {
    if !has_envoy() {
        return;
    }
    let files = tempfile::tempdir().expect("a folder");
    let module = files.path().join("metrics.wasm");
    std::fs::write(&module, wat::parse_str(MODULE).expect("the module's WAT")).expect("the module");
    let filter = format!(
        "          - name: metrics\n            typed_config:\n              \
         \"@type\": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm\n              \
         config: {{vm_config: {{runtime: envoy.wasm.runtime.v8, code: {{local: {{filename: {}}}}}}}}}\n          \
         - name: router",
        module.display()
    );
    let routes = r#"- {match: {prefix: "/"}, direct_response: {status: 200}}"#;
    let yaml = support::http_file(routes, "", "").replacen("          - name: router", &filter, 1);
    let yaml = yaml.trim_end().trim_end_matches("clusters:").to_owned();
    for more in ["", "  use_all_default_tags: false\n"] {
        let yaml = format!("stats_config:\n  stats_tags:{TAGS}{more}{yaml}");
        let [embedded, envoy] = [HostKind::Embedded, HostKind::Envoy].map(|host| lines(host, &yaml));
        assert_eq!(embedded, envoy, "left: the embedded host, right: Envoy");
        let hits = embedded.iter().find(|line| line.starts_with("limit_hits{"));
        assert_eq!(
            hits.map(String::as_str),
            Some(r#"limit_hits{tenant_name="acme",zone="e\"u",perhaps="",limit="users"} 1"#),
            "{embedded:#?}"
        );
    }
    let plain = [HostKind::Embedded, HostKind::Envoy].map(|host| lines(host, &yaml));
    assert_eq!(plain[0], plain[1], "without stats_config");
}
