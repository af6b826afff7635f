//! Commands of `weir` as processes: outputs that fail, files that are none, signals, simulations.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a failure fails the test")]

mod files;
mod output;
mod signals;
mod sim;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// Test file that passes in virtual time.
const TESTS: &str = "configuration:
  redis: {cluster: redis}
  limits: [{name: all, descriptor: [], token_bucket: {max_tokens: 2, tokens_per_fill: 2, fill_interval: 60s}}]
tests: [{name: one, steps: [{request: {}, expect: {status: 200}}]}]
";

/// Bootstrap without wasm, whose listener has any port.
const PLAIN: &str = r#"static_resources:
  listeners:
  - name: ingress
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress
          route_config:
            virtual_hosts:
            - {name: all, domains: ["*"], routes: [{match: {prefix: "/"}, direct_response: {status: 200}}]}
          http_filters:
          - {name: r, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
"#;

/// Folder of files. Commands run in it.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.with("envoy.yaml", PLAIN).with("limits.test.yaml", TESTS)
    }

    fn with(self, name: &str, text: &str) -> Self {
        std::fs::write(self.path(name), text).unwrap();
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn weir(&self, words: &[&str]) -> Command {
        let mut weir = Command::new(env!("CARGO_BIN_EXE_weir"));
        weir.args(words).current_dir(self.0.path()).env_remove("REDIS_URL").env_remove("REDIS_PASSWORD");
        weir
    }
}

/// Standard error of a command.
fn log(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The checkout's file of this name.
fn checkout(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}
