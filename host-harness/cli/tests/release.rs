//! Smoke test of a release: its files work in a folder outside of the checkout, with a real Redis and a real Envoy.
//!
//! `.ci/release` runs it with `WEIR_RELEASE`, the folder of the release.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a failure fails the test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use hyper::Method;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use tempfile::TempDir;
use weir_provision::client::Client;
use weir_provision::envoy::{EnvoyOptions, EnvoyServer};
use weir_provision::redis::{RedisOptions, RedisServer};

/// Copies of some files of the release, in a folder of their own.
struct Folder(TempDir);

impl Folder {
    fn with(names: &[&str]) -> Self {
        let release = PathBuf::from(std::env::var_os("WEIR_RELEASE").expect("WEIR_RELEASE: the folder of a release"));
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            fs::copy(release.join(name), folder.path().join(name)).unwrap();
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs a program in the folder with an empty environment.
    fn run(&self, program: impl AsRef<Path>, arguments: &[&str]) -> String {
        let mut command = Command::new(program.as_ref());
        said(command.env_clear().current_dir(self.0.path()).args(arguments).output().unwrap())
    }

    fn weir(&self, arguments: &[&str]) -> String {
        self.run(self.path("weir"), arguments)
    }

    fn replace(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(name)).unwrap();
        assert!(text.contains(from), "{name} has no {from}");
        fs::write(self.path(name), text.replace(from, to)).unwrap();
    }
}

fn said(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
#[ignore = "needs a release: .ci/release runs it"]
fn weir_checks_and_tests_without_a_checkout() {
    let folder = Folder::with(&["weir", "weir_filter.wasm", "envoy.yaml", "envoy.test.yaml"]);
    assert!(folder.weir(&["check", "--strict", "envoy.yaml"]).contains("envoy.yaml"));
    assert!(folder.weir(&["test", "envoy.test.yaml"]).contains("envoy.test.yaml: "));
    let packaged = folder.weir(&["package", "out"]);
    let sums = fs::read_to_string(PathBuf::from(std::env::var_os("WEIR_RELEASE").unwrap()).join("SHA256SUMS")).unwrap();
    let digest = packaged.lines().next().unwrap().trim_start_matches("sha256:");
    assert!(sums.contains(digest), "{sums}\n{digest}");
}

/// `chroot` into a folder without libraries, like an empty container.
#[test]
#[ignore = "needs a release and root: .ci/release runs it"]
fn weir_is_the_only_file_that_it_needs() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: chroot needs root");
        return;
    }
    let folder = Folder::with(&["weir", "envoy.test.yaml", "envoy.yaml"]);
    let root = folder.0.path().to_str().unwrap().to_owned();
    assert!(folder.run("/usr/sbin/chroot", &[&root, "/weir", "--version"]).starts_with("weir "));
    assert!(folder.run("/usr/sbin/chroot", &[&root, "/weir", "test", "/envoy.test.yaml"]).contains(" passed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a release: .ci/release runs it"]
async fn the_module_limits_in_envoy_and_weir_operates_its_limits() {
    let folder = Folder::with(&["weir", "weir_filter.wasm", "envoy.yaml"]);
    let redis = RedisServer::start(RedisOptions::default()).unwrap();
    let address = format!("address: {}, port_value: {}", redis.addr().ip(), redis.addr().port());
    folder.replace("envoy.yaml", "address: redis, port_value: 6379", &address);
    folder.replace("envoy.yaml", "address: 0.0.0.0, port_value: 10000", "address: 127.0.0.1, port_value: 0");
    folder.replace("envoy.yaml", "port_value: 9901", "port_value: 0");
    // Envoys of these tests start in the root of the checkout.
    let module = folder.path("weir_filter.wasm");
    folder.replace("envoy.yaml", "weir_filter.wasm", module.to_str().unwrap());

    let config = fs::read_to_string(folder.path("envoy.yaml")).unwrap();
    let envoy = tokio::task::block_in_place(|| EnvoyServer::start(EnvoyOptions::new(config))).unwrap();
    let listener = tokio::task::block_in_place(|| envoy.listener("ingress")).unwrap();
    let mut client = Client::new(listener, Duration::from_secs(10));
    let mut statuses = async |user: &'static str, count: usize| {
        let header = (HeaderName::from_static("x-user-id"), HeaderValue::from_static(user));
        let headers = HeaderMap::from_iter([header]);
        let mut statuses = Vec::new();
        for _ in 0..count {
            statuses.push(client.send(&Method::GET, "/", &headers, Vec::new().into()).await.unwrap().status);
        }
        statuses
    };
    let alice = statuses("alice", 22).await;
    assert_eq!(alice[..20], [200; 20]);
    assert_eq!(alice[21], 429);

    let url = format!("redis://{}", redis.addr());
    let limits = |arguments: &[&str]| {
        let options = ["--config", "envoy.yaml", "--redis", &url];
        folder.weir(&[&["limits", arguments[0]], &options[..], &arguments[1..]].concat())
    };
    assert!(limits(&["list", "--limited"]).contains("alice"));
    assert_eq!(limits(&["set", "per_user", "bob", "blocked"]), "per_user bob: blocked\n");
    assert_eq!(statuses("bob", 1).await, [429]);
}
