//! Error replies of Redis: a missing command, a missing permission, cluster mode. Each error has its own counter and
//! one warning with the remedy, and no log line has a part of a client's key. On both hosts, over both transports.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use redis::Connection;
use serde_json::json;
use tokio::time::sleep;
use weir::{HostKind, Mesh, MeshBuilder};
use weir_provision::checkout;
use weir_provision::redis::{RedisOptions, RedisServer};

const TRANSPORTS: [&str; 2] = ["envoy/quickstart.yaml", "envoy/callout.yaml"];
/// Header value of a client, which becomes part of a key.
const SECRET: &str = "s3cret-API-key";
const SOON: Duration = Duration::from_secs(30);
/// Commands that Redis runs in [`exercise`]: those of the ACL but `ping` and `select`, which begin a connection.
const EXERCISED: &str = "evalsha eval time get set pexpire pttl zcount zadd zrem zremrangebyscore zscore zrevrange \
                         lindex llen ltrim rpush rpop hscan hlen hmget hset hdel xadd";

weir::on_both_hosts! {
    a_missing_command_is_logged_without_the_key
    ignored_overrides_are_logged_without_their_text
    an_error_of_redis_7_0_about_a_scripts_permission_counts_as_auth
    cluster_mode_is_logged_without_the_key
    the_documented_acl_is_sufficient_and_each_command_is_needed
}

async fn a_missing_command_is_logged_without_the_key(host: HostKind) {
    for scenario in TRANSPORTS {
        let args = ["--rename-command", "EVALSHA", ""].map(str::to_owned).to_vec();
        let mesh = Mesh::on(host, scenario).redis(RedisOptions { args, ..RedisOptions::default() });
        let Some(mesh) = allowing(mesh).start().await else { return };
        for _ in 0..3 {
            secret_user(&mesh, SECRET).await;
        }
        let counted = until_counted(&mesh, "weir_redis_refused").await;
        assert!(counted <= 3, "{counted}");
        logged(&mesh, "redis refused: Redis answered an error about EVALSHA: the command is missing").await;
    }
}

async fn ignored_overrides_are_logged_without_their_text(host: HostKind) {
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
    logged(&mesh, "override ignored (field hash ").await;
}

/// Redis 7.0 answers a script that its ACL forbids a command with a text of its own, which names no command. No Redis
/// runs here: this tests how that text is read. The text is Redis 7.0.15's.
async fn an_error_of_redis_7_0_about_a_scripts_permission_counts_as_auth(host: HostKind) {
    const ERROR: &str = "ERR The user executing the script can't run this command or subcommand script: \
                         d3c21d0c2b9ca22f82737626a27bcaf5d288f99f, on @user_script:1.";
    for scenario in TRANSPORTS {
        let server = weir::refusing_scripts(ERROR).await;
        let mesh = allowing(Mesh::on(host, scenario)).asking(server).configure(|filter| {
            filter["overrides"] = json!({"enabled": false});
        });
        let Some(mesh) = mesh.start().await else { return };
        let deadline = Instant::now() + SOON;
        while mesh.counter("weir_redis_auth").await < 3 {
            assert!(Instant::now() < deadline, "{scenario}");
            assert!(!secret_user(&mesh, SECRET).await, "{scenario}");
        }
        mesh.counts("weir_redis_refused", 0).await;
        logged(&mesh, "redis auth: Redis answered an error: the ACL forbids a command or key that Weir needs").await;
    }
}

/// Redis is a node of a cluster with half of the hash slots; another node has the other half.
async fn cluster_mode_is_logged_without_the_key(host: HostKind) {
    for scenario in TRANSPORTS {
        let args = ["--cluster-enabled", "yes", "--cluster-require-full-coverage", "no"].map(str::to_owned).to_vec();
        let options = RedisOptions { args, ..RedisOptions::default() };
        let mesh = allowing(Mesh::on(host, scenario).redis(options.clone())).configure(|filter| {
            // The hash of overrides may be in a slot of the other node and would be refused, too.
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
        assert!(limited > 0 && let_pass > 0, "expected both, found {limited} limited requests and {let_pass} others");
        mesh.counts("weir_redis_cluster_mode", let_pass).await;
        mesh.counts("weir_redis_refused", 0).await;
        logged(&mesh, "redis cluster_mode: Redis answered MOVED: Redis is a cluster: ").await;
    }
}

/// Joins two nodes to a cluster, with half of the hash slots each.
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
        assert!(Instant::now() < deadline, "the cluster is not ready within {SOON:?}: {info}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Runs every feature with the permissions of the documented ACL, then without one of the commands at a time.
async fn the_documented_acl_is_sufficient_and_each_command_is_needed(host: HostKind) {
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
        let charged = mesh.ask("/").method(hyper::Method::POST).header("x-case", "budget").user(SECRET).send().await;
        assert!(charged.admitted().header("x-ratelimit-limit").is_some(), "budget");
        for limit in ["bucket", "leased", "shaped", "exact", "approximate", "fixed", "quota", "slots"] {
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
                assert!(Instant::now() < deadline, "no feature needs {command}");
                exercise(&mesh).await;
            }
            redis::cmd("ACL").arg("SETUSER").arg("weir").arg(format!("+{command}")).exec(&mut redis).unwrap();
        }
        until_counted(&mesh, "weir_redis_auth").await;
        mesh.counts("weir_redis_refused", 0).await;
        logged(&mesh, "the ACL forbids a command or key that Weir needs").await;
    }
}

/// Returns the commands that a description of an error may name.
fn named_commands() -> BTreeSet<String> {
    let source = include_str!("../filter/src/redis/resp/error_reply.rs");
    let (_, names) = source.split_once("const COMMANDS: ").expect("the source has the list");
    let (names, _) = names.split_once("];").expect("the list ends");
    names.split('"').skip(1).step_by(2).map(str::to_lowercase).collect()
}

/// Returns the permissions of the ACL in docs/src/operations.md.
fn permissions() -> Vec<String> {
    let page = include_str!("../docs/src/operations.md");
    let (_, acl) = page.split_once("ACL SETUSER weir ").expect("the page has an ACL");
    let (acl, _) = acl.split_once("```").expect("the ACL is in a code block");
    acl.split_whitespace().filter(|word| word.starts_with('+')).map(str::to_owned).collect()
}

fn is_of_operators(script: &Path) -> bool {
    ["overrides/set.lua", "overrides/announce.lua", "check/reset.lua"].iter().any(|of| script.ends_with(of))
}

/// Scripts of operators, which set overrides and reset buckets, are not the filter's.
#[test]
fn the_documented_acl_lists_the_commands_of_the_scripts_and_the_filter() {
    let mut needed: BTreeSet<String> = ["evalsha", "eval", "ping", "select", "zrem"].map(str::to_owned).into();
    let mut folders = vec![checkout::root().unwrap().join("filter/src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "lua") && !is_of_operators(&path) {
                let script = std::fs::read_to_string(path).unwrap();
                let calls = script.split("redis.call('").skip(1).filter_map(|call| call.split('\'').next());
                needed.extend(calls.map(str::to_lowercase));
            }
        }
    }
    let granted: BTreeSet<String> = permissions().iter().map(|it| it.trim_start_matches('+').to_owned()).collect();
    assert_eq!(granted, needed, "the ACL of docs/src/operations.md must list the commands that Weir needs");
    needed.insert("auth".to_owned());
    assert_eq!(named_commands(), needed, "a description of an error must name each command");
}

/// Returns whether Redis has refused this command, by itself or in a script.
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
                "slots",
                json!({"windows": [
                {"concurrency": {"max_requests": 100, "lease": "1s"}}, {"token_bucket": slow},
            ], "max_delay": "5s"})
            ),
            limit("ruled", json!({"token_bucket": bucket})),
            limit(
                "budget",
                json!({"charge": "total_tokens", "fixed_window": {"max_tokens": 1_000_000, "window": "1s"}})
            ),
        ]);
    })
}

/// Sends requests to every limit, among them a held request whose slot is renewed, a held request whose client
/// disconnects, and requests whose state is another proxy's.
async fn exercise(mesh: &Mesh) {
    find_states_of_another_proxy(mesh).await;
    let ask = |limit: &'static str, user: &'static str| mesh.ask("/").header("x-case", limit).user(user).send();
    let leaves = tokio::time::timeout(Duration::from_millis(300), ask("shaped", "dave"));
    let all = async {
        for limit in ["bucket", "leased", "exact", "approximate", "fixed", "quota", "ruled", "exact", "exact", "exact"]
        {
            ask(limit, SECRET).await;
        }
        mesh.ask("/").method(hyper::Method::POST).header("x-case", "budget").user(SECRET).send().await;
    };
    // Requests 400 ms apart: some have left the window of 1 s, and some have not.
    let spread = async {
        for _ in 0..4 {
            ask("exact", "frank").await;
            sleep(Duration::from_millis(400)).await;
        }
    };
    let (..) = tokio::join!(ask("slots", "erin"), ask("slots", "erin"), ask("shaped", "dave"), leaves, all, spread);
}

/// Sends requests whose state another proxy has left: a bucket that fills a thousand times as fast as here, and so
/// expires sooner; and a log with a request of a time to come, since the clock was set back after it.
async fn find_states_of_another_proxy(mesh: &Mesh) {
    let mut redis = mesh.redis_connection();
    redis::cmd("SELECT").arg(1).exec(&mut redis).unwrap();
    let (seconds, _): (i64, i64) = redis::cmd("TIME").query(&mut redis).unwrap();
    let [at, spent, token, speed] = [seconds * 1_000_000, 1_000_000_000_i64, 1, 1_000].map(i64::to_be_bytes);
    let state = [at, spent, token, speed].concat();
    let bucket = format!("{}bucket:grace", mesh.key_prefix());
    let log = format!("{}exact:grace#log1000000", mesh.key_prefix());
    redis::cmd("SET").arg(bucket).arg(state).arg("PX").arg(60_000).exec(&mut redis).unwrap();
    let later = (seconds + 3_600) * 1_000_000;
    redis::cmd("RPUSH").arg(log).arg(format!("{later} 9 1")).exec(&mut redis).unwrap();
    for limit in ["bucket", "exact"] {
        mesh.ask("/").header("x-case", limit).user("grace").send().await;
    }
}

/// Waits until an override is in force.
async fn until_denied(mesh: &Mesh) {
    let deadline = Instant::now() + SOON;
    while mesh.ask("/").header("x-case", "ruled").user("bob").send().await.status != 429 {
        assert!(Instant::now() < deadline, "the override is not in force");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Sets failure mode `allow`: requests that Redis has not decided pass without rate-limit headers.
fn allowing(mesh: MeshBuilder) -> MeshBuilder {
    listen();
    mesh.configure(|filter| {
        filter["redis"]["timeout"] = "5s".into();
        filter["failure_mode"] = "allow".into();
    })
}

/// Sends a request of this user, and returns whether a limit applied to it.
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

/// Waits for a line in the log of the host. Asserts that no line has a part of the secret.
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

/// Log lines of the embedded hosts of all tests in this file.
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
