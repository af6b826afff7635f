//! `weir limits` as a command, in an empty folder and without the environment of the tests.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod places;
mod tls;

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use weir_provision::redis::{RedisOptions, RedisServer};

/// A limiter's configuration, as JSON, which is YAML as well. Its Redis has the fields `{REDIS}`.
const LIMITER: &str = "{\"redis\": {\"cluster\": \"redis\", \"key_prefix\": \"test:\"{REDIS}}, \
                       \"limits\": [{\"name\": \"per_user\", \"descriptor\": [{\"request_header\": {\"name\": \
                       \"x-user-id\"}}], \"quota\": {\"max_requests\": 50, \"unit\": \"year\"}}]}";

/// A folder with nothing in it but the files of the test, where commands run.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    /// Runs `weir limits` with these words and variables; the error is what it writes to standard error.
    fn limits(&self, words: &[&str], variables: &[(&str, &str)]) -> Result<String, String> {
        self.both(words, variables).map(|(out, _)| out)
    }

    /// Runs `weir limits` with words that it accepts, and returns what it writes to standard error.
    fn notes(&self, words: &[&str], variables: &[(&str, &str)]) -> String {
        self.both(words, variables).unwrap_or_else(|error| panic!("{words:?}: {error}")).1
    }

    fn both(&self, words: &[&str], variables: &[(&str, &str)]) -> Result<(String, String), String> {
        let mut weir = Command::new(env!("CARGO_BIN_EXE_weir"));
        weir.arg("limits").args(words).current_dir(self.path()).env_clear().envs(variables.iter().copied());
        let done = weir.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let (out, errors) = (text(done.stdout), text(done.stderr));
        if done.status.success() { Ok((out, errors)) } else { Err(errors) }
    }
}

fn redis(password: Option<&str>) -> Option<RedisServer> {
    let options = RedisOptions { password: password.map(str::to_owned), ..RedisOptions::default() };
    weir_provision::or_skip(RedisServer::start(options))
}

fn limiter(redis: &str) -> String {
    LIMITER.replace("{REDIS}", redis)
}

/// A cluster in Envoy's YAML, as JSON.
fn cluster(port: u16, more: &str) -> String {
    let address = format!(r#"{{"socket_address": {{"address": "127.0.0.1", "port_value": {port}}}}}"#);
    let endpoints = format!(r#"[{{"lb_endpoints": [{{"endpoint": {{"address": {address}}}}}]}}]"#);
    format!(r#"{{"name": "redis", "load_assignment": {{"cluster_name": "redis", "endpoints": {endpoints}}}{more}}}"#)
}

/// A bootstrap with a limiter and its cluster.
fn bootstrap(limiter: &str, cluster: &str) -> String {
    let wasm = r#""@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm""#;
    let structure = r#""@type": "type.googleapis.com/google.protobuf.Struct""#;
    format!(
        r#"
static_resources:
  listeners:
  - filter_chains:
    - filters:
      - typed_config:
          http_filters:
          - typed_config: {{{wasm}, config: {{root_id: limiter, configuration: {{{structure}, value: {limiter}}}}}}}
  clusters:
  - {cluster}
"#
    )
}

#[test]
fn numbers_of_another_unit_than_the_limits_are_refused() {
    let Some(server) = redis(None) else { return };
    let folder = Folder::new();
    let limit = |name: &str, charge: &str, window: &str| {
        format!(
            r#"{{"name": "{name}", "descriptor": [{{"request_header": {{"name": "x-user-id"}}}}], {charge} "quota": {{{window},
            "unit": "year"}}}}"#
        )
    };
    let limits = [
        limit("requests", "", r#""max_requests": 50"#),
        limit("tokens", r#""charge": "total_tokens","#, r#""max_tokens": 5000"#),
        limit("money", r#""charge": "cost","#, r#""max_usd": 50"#),
    ];
    let usage = r#""usage": {"prices": [{"model": {"prefix": "gpt-"}, "input": 1}]}"#;
    let config = format!(r#"{{"redis": {{"cluster": "redis"}}, {usage}, "limits": [{}]}}"#, limits.join(", "));
    folder.write("limiter.yaml", config);
    let url = server.url();
    let set = |limit: &str, words: &[&str]| {
        let words = [&["set", limit, "alice"], words, &["--config", "limiter.yaml", "--redis", &url]].concat();
        folder.limits(&words, &[])
    };
    let quota = |unit: &str| format!(r#"{{"quota": {{"{unit}": 70, "unit": "year"}}}}"#);
    for (limit, words, expected) in [
        (
            "money",
            &["--quota", "70/year"][..],
            Some("a window with max_usd, for a limit with charge: cost, found max_requests"),
        ),
        ("money", &["--max", "70"], Some("a window with max_usd, for a limit with charge: cost, found max")),
        (
            "money",
            &[&quota("max_tokens")],
            Some("a window with max_usd, for a limit with charge: cost, found max_tokens"),
        ),
        ("money", &[&quota("max_usd")], None),
        ("money", &["--times", "2"], None),
        ("tokens", &[&quota("max_usd")], Some("max_tokens for a limit that charges tokens, found max_usd")),
        ("tokens", &[&quota("max_tokens")], None),
        ("tokens", &["--max", "7000"], None),
        ("requests", &[&quota("max_usd")], Some("max_requests for a limit without a charge, found max_usd")),
        ("requests", &["--quota", "70/year"], None),
    ] {
        match (set(limit, words), expected) {
            (Ok(_), None) => {}
            (Err(error), Some(expected)) if error.contains(expected) => {}
            (found, _) => panic!("{limit} {words:?}: expected {expected:?}, found {found:?}"),
        }
    }
}
