//! Refusals of Redis: a missing command, a missing permission, a cluster. Each has its cause and one warning that names
//! the cure, and no line of any log has a part of a client's key. On both hosts, over both transports.

use std::collections::BTreeSet;
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use redis::Connection;
use serde_json::json;
use tokio::time::sleep;
use weir::{HostKind, Mesh, MeshBuilder};
use weir_harness::provision::checkout;
use weir_harness::provision::redis::{RedisOptions, RedisServer};

const TRANSPORTS: [&str; 2] = ["envoy/quickstart.yaml", "envoy/callout.yaml"];
/// A key that a client sent: a header's value.
const SECRET: &str = "s3cret-API-key";
const SOON: Duration = Duration::from_secs(30);
/// Commands that [`exercise`] has Redis run. The others are for after its clock was set back.
const EXERCISED: &str = "evalsha eval time get set pexpire zcount zadd zrem zremrangebyscore zscore lindex llen ltrim \
                         rpush hscan hlen xadd";

weir::on_both_hosts! {
    a_missing_command_is_named_and_nobodys_key_is
    overrides_that_are_ignored_are_not_repeated
    a_cluster_is_named_and_nobodys_key_is
    the_acl_of_the_readme_is_all_that_weir_needs
}

async fn a_missing_command_is_named_and_nobodys_key_is(host: HostKind) {
    for scenario in TRANSPORTS {
        let args = ["--rename-command", "EVALSHA", ""].map(str::to_owned).to_vec();
        let mesh = Mesh::on(host, scenario).redis(RedisOptions { args, ..RedisOptions::default() });
        let Some(mesh) = allowing(mesh).start().await else { return };
        for _ in 0..3 {
            secret_user(&mesh, SECRET).await;
        }
        let counted = until_counted(&mesh, "weir_redis_refused").await;
        assert!(counted <= 3, "{counted}");
        logged(&mesh, "redis refused: Redis answered an error about EVALSHA: it lacks a command").await;
    }
}

async fn overrides_that_are_ignored_are_not_repeated(host: HostKind) {
    let mesh = allowing(Mesh::on(host, TRANSPORTS[0])).configure(|filter| {
        filter["overrides"] = json!({"refresh_interval": "1s"});
    });
    let Some(mesh) = mesh.start().await else { return };
    let mut redis = mesh.redis_connection();
    for (field, value) in [
        (format!("per_user:{SECRET}"), "blokced".to_owned()),
        (SECRET.repeat(30), "off".to_owned()),
        ("per_user".to_owned(), format!(r#"{{"is": "{SECRET}", "{SECRET}": 1}}"#)),
        (
            "per_user:bob".to_owned(),
            format!(r#"{{"token_bucket": {{"max_tokens": "{SECRET}", "fill_interval": "{SECRET}"}}}}"#),
        ),
    ] {
        let key = format!("{}overrides", mesh.key_prefix());
        redis::cmd("HSET").arg(key).arg(field).arg(value).exec(&mut redis).unwrap();
    }
    secret_user(&mesh, SECRET).await;
    until_counted(&mesh, "weir_overrides_ignored").await;
    logged(&mesh, "an override is ignored, of a field whose hash is").await;
}

/// A node of a cluster that serves half of the slots, and knows of another that has the rest.
async fn a_cluster_is_named_and_nobodys_key_is(host: HostKind) {
    for scenario in TRANSPORTS {
        let args = ["--cluster-enabled", "yes", "--cluster-require-full-coverage", "no"].map(str::to_owned).to_vec();
        let options = RedisOptions { args, ..RedisOptions::default() };
        let mesh = allowing(Mesh::on(host, scenario).redis(options.clone())).configure(|filter| {
            // A hash in another node's slot would be refused, too.
            filter["overrides"] = json!({"enabled": false});
        });
        let Some(mesh) = mesh.start().await else { return };
        let Some(other) = weir::or_skip(RedisServer::start(options)) else { return };
        joined(&mut mesh.redis_connection(), &other).await;
        let (mut limited, mut let_pass) = (0, 0);
        for user in 0..40 {
            match secret_user(&mesh, &format!("{SECRET}-{user}")).await {
                true => limited += 1,
                false => let_pass += 1,
            }
        }
        assert!(limited > 0 && let_pass > 0, "{limited} and {let_pass}");
        mesh.counts("weir_redis_cluster_mode", let_pass).await;
        mesh.counts("weir_redis_refused", 0).await;
        logged(&mesh, "redis cluster_mode: Redis answered MOVED: Redis is a cluster: ").await;
    }
}

/// Has two nodes share the slots.
async fn joined(here: &mut Connection, other: &RedisServer) {
    let mut there = redis::Client::open(other.url()).unwrap().get_connection().unwrap();
    let slots = |from: u16, to: u16| (from..=to).map(|slot| slot.to_string()).collect::<Vec<_>>();
    redis::cmd("CLUSTER").arg("ADDSLOTS").arg(slots(0, 8191)).exec(here).unwrap();
    redis::cmd("CLUSTER").arg("ADDSLOTS").arg(slots(8192, 16383)).exec(&mut there).unwrap();
    redis::cmd("CLUSTER").arg("SET-CONFIG-EPOCH").arg(2).exec(&mut there).unwrap();
    redis::cmd("CLUSTER").arg("MEET").arg("127.0.0.1").arg(other.addr().port()).exec(here).unwrap();
    let deadline = Instant::now() + SOON;
    loop {
        let info: String = redis::cmd("CLUSTER").arg("INFO").query(here).unwrap();
        if info.contains("cluster_slots_assigned:16384") && info.contains("cluster_state:ok") {
            return;
        }
        assert!(Instant::now() < deadline, "no cluster came to be: {info}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Every feature, with the permissions of the README and then with one less.
async fn the_acl_of_the_readme_is_all_that_weir_needs(host: HostKind) {
    for scenario in TRANSPORTS {
        let Some(mesh) = every_feature(Mesh::on(host, scenario)).start().await else { return };
        let mut redis = mesh.redis_connection();
        let keys = format!("~{}*", mesh.key_prefix());
        let user = ["weir", "on", ">open-sesame", keys.as_str()];
        redis::cmd("ACL").arg("SETUSER").arg(&user).arg(permissions()).exec(&mut redis).unwrap();
        let key = format!("{}overrides", mesh.key_prefix());
        for (field, value) in [("ruled:bob", "blocked"), ("ruled:carol", "blokced")] {
            redis::cmd("SELECT").arg(1).exec(&mut redis).unwrap();
            redis::cmd("HSET").arg(&key).arg(field).arg(value).exec(&mut redis).unwrap();
        }

        until_denied(&mesh).await;
        for limit in ["bucket", "leased", "shaped", "exact", "approximate", "fixed", "quota", "places"] {
            let answer = mesh.ask("/").header("x-case", limit).user(SECRET).send().await;
            assert!(answer.admitted().header("x-ratelimit-limit").is_some(), "{limit}");
        }
        exercise(&mesh).await;
        let denied: Vec<redis::Value> = redis::cmd("ACL").arg("LOG").query(&mut redis).unwrap();
        assert!(denied.is_empty(), "{denied:?}");
        for cause in ["auth", "refused", "protocol"] {
            mesh.counts(&format!("weir_redis_{cause}"), 0).await;
        }

        for command in EXERCISED.split_whitespace() {
            redis::cmd("ACL").arg("LOG").arg("RESET").exec(&mut redis).unwrap();
            redis::cmd("ACL").arg("SETUSER").arg("weir").arg(format!("-{command}")).exec(&mut redis).unwrap();
            if command == "eval" {
                redis::cmd("SCRIPT").arg("FLUSH").exec(&mut redis).unwrap();
            }
            let deadline = Instant::now() + SOON;
            while !is_denied(&mut redis, command) {
                assert!(Instant::now() < deadline, "nothing needs {command}");
                exercise(&mesh).await;
            }
            redis::cmd("ACL").arg("SETUSER").arg("weir").arg(format!("+{command}")).exec(&mut redis).unwrap();
        }
        until_counted(&mesh, "weir_redis_auth").await;
        mesh.counts("weir_redis_refused", 0).await;
        logged(&mesh, "its ACL forbids what Weir needs").await;
    }
}

/// The permissions of the README's ACL line.
fn permissions() -> Vec<String> {
    let readme = include_str!("../README.md");
    let line = readme.lines().find(|line| line.starts_with("ACL SETUSER weir ")).expect("the README has an ACL");
    line.split_whitespace().filter(|word| word.starts_with('+')).map(str::to_owned).collect()
}

#[test]
fn the_readme_grants_the_commands_of_the_scripts_and_of_the_filter() {
    let mut needed: BTreeSet<String> = ["evalsha", "eval", "ping", "select", "zrem"].map(str::to_owned).into();
    let mut folders = vec![checkout::root().unwrap().join("filter/src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "lua") {
                let script = std::fs::read_to_string(path).unwrap();
                let calls = script.split("redis.call('").skip(1).filter_map(|call| call.split('\'').next());
                needed.extend(calls.map(str::to_lowercase));
            }
        }
    }
    let granted: BTreeSet<String> = permissions().iter().map(|it| it.trim_start_matches('+').to_owned()).collect();
    assert_eq!(granted, needed, "the README's ACL line, and what is needed");
}

/// Whether Redis has refused this user a command, by itself or in a script.
fn is_denied(redis: &mut Connection, command: &str) -> bool {
    let log: Vec<redis::Value> = redis::cmd("ACL").arg("LOG").query(redis).unwrap();
    log.iter().any(|entry| format!("{entry:?}").to_lowercase().contains(&format!("{command:?}")))
}

fn every_feature(mesh: MeshBuilder) -> MeshBuilder {
    let limit = |name: &str, fields: serde_json::Value| {
        let mut limit = json!({
            "name": name, "when": [{"header": {"name": "x-case", "exact": name}}],
            "descriptor": [{"request_header": {"name": "x-user-id"}}],
        });
        limit.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        limit
    };
    let bucket = json!({"max_tokens": 1_000_000, "tokens_per_fill": 1_000_000, "fill_interval": "1s"});
    let slow = json!({"max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "1s"});
    allowing(mesh).workers(1).configure(|filter| {
        filter["redis"]["username"] = "weir".into();
        filter["redis"]["password"] = json!({"inline": "open-sesame"});
        filter["redis"]["database"] = 1.into();
        filter["overrides"] = json!({"refresh_interval": "1s"});
        filter["events"] = json!({"only": "all"});
        filter["limits"] = json!([
            limit("bucket", json!({"token_bucket": bucket})),
            limit("leased", json!({"token_bucket": bucket, "lease": {"max": 10, "ttl": "0.5s"}})),
            limit("shaped", json!({"token_bucket": slow, "max_delay": "5s"})),
            limit("exact", json!({"sliding_window": {"max_requests": 3, "window": "1s", "mode": "exact"}})),
            limit("approximate", json!({"sliding_window": {"max_requests": 1_000_000, "window": "1s"}})),
            limit("fixed", json!({"fixed_window": {"max_requests": 1_000_000, "window": "1s"}})),
            limit("quota", json!({"quota": {"max_requests": 1_000_000, "unit": "minute"}})),
            limit(
                "places",
                json!({"windows": [
                {"concurrency": {"max_requests": 100, "lease": "1s"}}, {"token_bucket": slow},
            ], "max_delay": "5s"})
            ),
            limit("ruled", json!({"token_bucket": bucket})),
        ]);
    })
}

/// Something of all that Redis is asked for: among it a held request whose place is renewed, and one that leaves.
async fn exercise(mesh: &Mesh) {
    let ask = |limit: &'static str, user: &'static str| mesh.ask("/").header("x-case", limit).user(user).send();
    let leaves = tokio::time::timeout(Duration::from_millis(300), ask("shaped", "dave"));
    let all = async {
        for limit in ["bucket", "leased", "exact", "approximate", "fixed", "quota", "ruled", "exact", "exact", "exact"]
        {
            ask(limit, SECRET).await;
        }
    };
    // So that of a window some has ended and some has not.
    let spread = async {
        for _ in 0..4 {
            ask("exact", "frank").await;
            sleep(Duration::from_millis(400)).await;
        }
    };
    let (..) = tokio::join!(ask("places", "erin"), ask("places", "erin"), ask("shaped", "dave"), leaves, all, spread);
}

/// Waits until an override is in force.
async fn until_denied(mesh: &Mesh) {
    let deadline = Instant::now() + SOON;
    while mesh.ask("/").header("x-case", "ruled").user("bob").send().await.status != 429 {
        assert!(Instant::now() < deadline, "the override is not in force");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Where Redis cannot be asked, requests pass, so that what was limited tells itself by its headers.
fn allowing(mesh: MeshBuilder) -> MeshBuilder {
    listen();
    mesh.configure(|filter| {
        filter["redis"]["timeout"] = "5s".into();
        filter["failure_mode"] = "allow".into();
    })
}

/// A request of this user; whether it was limited.
async fn secret_user(mesh: &Mesh, user: &str) -> bool {
    mesh.get(user).await.admitted().header("x-ratelimit-limit").is_some()
}

async fn until_counted(mesh: &Mesh, counter: &str) -> u64 {
    let deadline = Instant::now() + SOON;
    loop {
        match mesh.counter(counter).await {
            0 => assert!(Instant::now() < deadline, "{counter} is 0"),
            counted => return counted,
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits for a line in the host's log. No line has a part of the secret.
async fn logged(mesh: &Mesh, line: &str) {
    let deadline = Instant::now() + SOON;
    loop {
        let lines = match mesh.hosts()[0].envoy() {
            Some(envoy) => envoy.log(),
            None => LINES.lock().unwrap().join("\n"),
        };
        for part in [SECRET, "s3cret", "blokced"] {
            let leak = lines.lines().find(|line| line.contains(part));
            assert_eq!(leak, None, "{part}");
        }
        if lines.contains(line) {
            return;
        }
        assert!(Instant::now() < deadline, "expected {line:?} in:\n{lines}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Lines that embedded hosts log, of all tests of this file.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Lines;

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LINES.lock().unwrap().push(format!("{}", record.args()));
    }

    fn flush(&self) {}
}

fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Lines).unwrap();
        log::set_max_level(log::LevelFilter::Debug);
    });
}
