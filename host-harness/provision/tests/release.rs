//! Smoke test of a release: its files work in a folder outside of the checkout, with a real Redis and a real Envoy.
//!
//! `.ci/release` runs it with `WEIR_RELEASE`, the folder of the release.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a failure fails the test")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use hyper::{
    Method,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use serde_json::Value;
use tempfile::TempDir;
use weir_provision::{
    client::Client,
    docker_compose,
    envoy::{self, EnvoyOptions, EnvoyServer},
    redis::{RELEASES, RedisOptions, RedisServer},
};

/// Requests of a user: 20 are admitted at once, and the last is denied unless all take 12 s.
const REQUESTS: usize = 40;

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

#[test]
#[ignore = "needs a release: .ci/release runs it"]
fn weir_is_linked_statically() {
    let folder = Folder::with(&["weir"]);
    let ldd = Command::new("ldd").arg(folder.path("weir")).output().unwrap();
    let printed = String::from_utf8([ldd.stdout, ldd.stderr].concat()).unwrap();
    // The first text is for programs at any address, the second for those at a fixed one.
    let texts = ["statically linked", "not a dynamic executable"];
    assert!(texts.iter().any(|text| printed.contains(text)), "{printed}");
}

/// A Redis without TLS is enough: `weir` has read the authorities when the handshake fails.
#[test]
#[ignore = "needs a release: .ci/release runs it"]
fn weir_finds_the_authorities_of_certificates_of_the_system() {
    let folder = Folder::with(&["weir"]);
    let redis = RedisServer::start(RedisOptions::default()).unwrap();
    let url = format!("rediss://localhost:{}", redis.addr().port());
    let error = |variables: &[(&str, &Path)]| {
        let mut command = Command::new(folder.path("weir"));
        command.env_clear().envs(variables.iter().copied()).args(["limits", "list", "--redis", &url]);
        String::from_utf8(command.output().unwrap().stderr).unwrap()
    };
    let found = error(&[]);
    assert!(found.contains("handshake: "), "{found}");
    let empty = folder.path("");
    let missing = error(&[("SSL_CERT_DIR", &empty), ("SSL_CERT_FILE", &empty.join("none"))]);
    assert!(missing.contains("no authorities of certificates on this system"), "{missing}");
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
    let alice = statuses("alice", REQUESTS).await;
    assert_eq!(alice[..20], [200; 20]);
    assert_eq!(alice[REQUESTS - 1], 429);

    // A name, which a static program resolves without the C library's modules.
    let url = format!("redis://localhost:{}", redis.addr().port());
    let limits = |arguments: &[&str]| {
        let options = ["--config", "envoy.yaml", "--redis", &url];
        folder.weir(&[&["limits", arguments[0]], &options[..], &arguments[1..]].concat())
    };
    assert!(limits(&["list", "--limited"]).contains("alice"));
    assert_eq!(limits(&["set", "per_user", "bob", "blocked"]), "per_user bob: blocked\n");
    assert_eq!(statuses("bob", 1).await, [429]);
}

/// Services of `compose.yaml` without their containers: the commands that it names, with the files that it mounts, in
/// namespaces of their own. Envoy and Redis are of the versions of its images, and not these images.
#[test]
#[ignore = "needs a release and root: .ci/release runs it"]
fn the_services_of_compose_yaml_work_together() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: namespaces need root");
        return;
    }
    let folder = Folder::with(&["compose.yaml", "envoy.yaml", "weir", "weir_filter.wasm"]);
    // The image of `weir` runs as another user.
    fs::set_permissions(folder.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let compose = docker_compose::binary().unwrap();
    let described = folder.run(compose, &["--profile", "tools", "config", "--format", "json"]);
    let services = serde_json::from_str::<Value>(&described).unwrap()["services"].take();

    let redis = RELEASES.iter().find(|release| release.name == "Redis 7.4").unwrap().binary().unwrap();
    assert_eq!(services["redis"]["image"], "redis:7.4");
    assert_eq!(services["envoy"]["image"], format!("envoyproxy/envoy:v{}", envoy::VERSION));
    assert_eq!(services["envoy"]["ports"][0]["published"], "10000");
    for (service, mounted_at) in [("envoy", "/weir"), ("weir", "/work")] {
        assert_eq!(services[service]["working_dir"], mounted_at);
        assert_eq!(services[service]["volumes"][0]["target"], mounted_at);
        assert_eq!(services[service]["volumes"][0]["source"], folder.0.path().to_str().unwrap());
    }
    let commands = fs::read_to_string(folder.path("compose.yaml")).unwrap();
    let after = |start: &str| {
        let line = commands.lines().find_map(|line| line.strip_prefix("#   ")?.strip_prefix(start));
        line.unwrap_or_else(|| panic!("compose.yaml has no command {start}")).to_owned()
    };
    let script = SERVICES
        .replace("REDIS", &command_of(&services["redis"], &redis))
        .replace("ENVOY", &command_of(&services["envoy"], &envoy::binary_of(envoy::VERSION).unwrap()))
        .replace("REQUESTS", &format!("{}{}", after("curl "), " http://127.0.0.1:10000/".repeat(REQUESTS - 1)))
        .replace("OPERATE", &after("docker compose run --rm weir "));
    let elsewhere = ["--net", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child", "sh", "-euc", &script];
    let scratch = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.args(elsewhere).current_dir(scratch.path()).env("RELEASE", folder.0.path());
    let printed = said(command.output().unwrap());
    let answers: Vec<&str> = printed.lines().filter_map(|line| line.strip_prefix("HTTP/1.1 ")).collect();
    assert_eq!(answers.len(), REQUESTS, "{printed}");
    assert!(answers[..20].iter().all(|answer| answer.starts_with("200 ")), "{printed}");
    assert!(answers[REQUESTS - 1].starts_with("429 "), "{printed}");
    assert!(printed.contains("per_user"), "{printed}");
}

/// Starts the services, sends requests over one connection, and lists the limits in a root folder that has nothing but the files of the
/// image.
const SERVICES: &str = r#"
ip link set lo up
mkdir data root root/work root/etc
printf '127.0.0.1 localhost redis\n' >hosts
mount --bind hosts /etc/hosts
(cd data && exec REDIS) >redis.log 2>&1 &
(cd $RELEASE && exec ENVOY) >envoy.log 2>&1 &
until curl -sf http://127.0.0.1:9901/ready >/dev/null && grep -q 'Ready to accept' redis.log; do sleep 0.1; done
curl -s REQUESTS
test -n "$(ls -A data)"
cp $RELEASE/weir $RELEASE/weir_filter.wasm root
cp hosts root/etc
mount --bind -o ro $RELEASE root/work
unshare --root root --wd /work --setgid 65532 --setuid 65532 /weir OPERATE
"#;

/// Returns the command of a service, with another executable, for a shell.
fn command_of(service: &Value, executable: &Path) -> String {
    let words = service["command"].as_array().unwrap()[1..].iter().map(|word| format!("'{}'", word.as_str().unwrap()));
    [vec![format!("'{}'", executable.display())], words.collect()].concat().join(" ")
}
