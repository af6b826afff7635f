//! The ACL of an operator in docs/src/operations.md: every command works with its permissions, and needs each of them.

use redis::{Commands, Connection};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use weir_provision::{
    or_skip,
    redis::{RedisOptions, RedisServer},
};

use crate::operator::types;

const HASH: &str = "weir:overrides";
const PAGE: &str = include_str!("../../docs/src/operations.md");
const LOOKS: [&[&str]; 7] = [
    &["list"],
    &["list", "--limited"],
    &["get", "bucket"],
    &["get", "bucket", "alice"],
    &["peek", "bucket", "alice"],
    &["peek", "plan", "alice"],
    &["peek", "exact", "alice"],
];
const CHANGES: [&[&str]; 8] = [
    &["set", "bucket", "--rate", "1/1h"],
    &["set", "bucket", "alice", "blocked", "--for", "10m"],
    &["unset", "bucket", "alice"],
    &["set", "nothing", "alice", "unlimited"],
    &["unset", "bucket"],
    &["migrate"],
    &["reset", "bucket", "alice"],
    &["reset", "plan", "alice"],
];

#[test]
fn every_command_works_with_the_documented_acl_and_each_permission_is_needed() {
    let Some(server) = or_skip(RedisServer::start(RedisOptions::default())) else { return };
    let mut redis = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let file = configuration(server.addr().port());
    let run = |command: &[&str]| types(&[command, &["--config", file.path().to_str().unwrap()]].concat());
    let user = ["operator", "on", ">open-sesame", "~weir:*"];
    redis::cmd("ACL").arg("SETUSER").arg(&user).arg(permissions()).exec(&mut redis).unwrap();
    redis::cmd("SELECT").arg(1).exec(&mut redis).unwrap();

    let of_changes = permissions_between("changes nothing (`get`, `list`, `peek`) does without `", "`.");
    prepare(&mut redis);
    for command in LOOKS.iter().chain(&CHANGES) {
        run(command).unwrap_or_else(|error| panic!("{command:?}: {error}"));
    }
    assert_eq!(redis.exists::<_, bool>("weir:bucket:alice"), Ok(false), "`reset` has deleted the bucket");

    for permission in permissions() {
        let (sign, name) = permission.split_at(1);
        assert_eq!(sign, "+");
        set_user(&mut redis, &format!("-{name}"));
        let fails = |commands: &[&[&str]]| commands.iter().any(|command| run(command).is_err());
        prepare(&mut redis);
        let looks_fail = fails(&LOOKS);
        prepare(&mut redis);
        let changes_fail = fails(&CHANGES);
        assert!(looks_fail || changes_fail, "no command needs {name}");
        assert_eq!(looks_fail, !of_changes.contains(&permission), "{name} of `get`, `list` and `peek`");
        set_user(&mut redis, &permission);
    }
}

/// Adds or removes a permission. Scripts are forgotten, so that EVAL is needed.
fn set_user(redis: &mut Connection, permission: &str) {
    redis::cmd("ACL").arg("SETUSER").arg("operator").arg(permission).exec(redis).unwrap();
    redis::cmd("SCRIPT").arg("FLUSH").exec(redis).unwrap();
}

/// Sets the state that makes commands call all that they may call: a bucket written at a faster rate than the operator's
/// file has, entries of a log from before the clock was set back, overrides of earlier versions and an expired one.
fn prepare(redis: &mut Connection) {
    redis::cmd("FLUSHDB").exec(redis).unwrap();
    let (now, _): (u64, u64) = redis::cmd("TIME").query(redis).unwrap();
    let number = |number: u64| number.to_be_bytes();
    // Written now: one token of 1 µs is spent. The speed is negated: the writer has read that there is no override.
    let bucket = [number(now * 1_000_000), number(1_000), number(1_000), (-1_i64).to_be_bytes()].concat();
    let _: () = redis.pset_ex("weir:bucket:alice", bucket, 60_000).unwrap();
    let log: [(u64, u64); 3] = [(1_000_000, 1), (now * 1_000_000, 2), (now * 1_000_000 + 60_000_000, 3)];
    for (time, sum) in log {
        let _: () = redis.rpush("weir:exact:alice#log3600000000", format!("{time} {sum} 1")).unwrap();
    }
    let fields = [("bucket:bob", "blocked"), ("plan", r#"{"is": "blocked", "until": 1000}"#)];
    let _: () = redis.hset_multiple(HASH, &fields).unwrap();
    let _: () = redis.set("weir:bucket:carol#override", "blocked").unwrap();
}

/// A bootstrap with limits of all kinds, and a cluster of two endpoints.
fn configuration(port: u16) -> NamedTempFile {
    let limit = |name: &str, windows: Value| json!({"name": name, "descriptor": [{"request_header": {"name": "x-user-id"}}], "windows": windows});
    let bucket = json!({"token_bucket": {"max_tokens": 20, "tokens_per_fill": 20, "fill_interval": "1h"}});
    let limits = json!([
        limit("bucket", json!([bucket])),
        limit("nothing", json!([{"token_bucket": {"max_tokens": 0, "fill_interval": "1h"}}])),
        limit("exact", json!([{"sliding_window": {"max_requests": 3, "window": "1h", "mode": "exact"}}])),
        limit(
            "plan",
            json!([
                bucket,
                {"quota": {"max_requests": 50, "unit": "year"}},
                {"fixed_window": {"max_requests": 50, "window": "1h"}},
                {"sliding_window": {"max_requests": 50, "window": "1h"}},
                {"concurrency": {"max_requests": 3}},
            ])
        ),
    ]);
    let limiter = json!({
        "redis": {
            "cluster": "redis", "database": 1, "username": "operator", "password": {"inline": "open-sesame"},
        },
        "limits": limits,
    });
    let endpoint = json!({"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}});
    let bootstrap = json!({"static_resources": {
        "listeners": [{"config": {"root_id": "limiter", "configuration": {
            "@type": "type.googleapis.com/google.protobuf.Struct", "value": limiter,
        }}}],
        "clusters": [{"name": "redis", "load_assignment": {"endpoints": [{"lb_endpoints": [endpoint, endpoint]}]}}],
    }});
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bootstrap.to_string()).unwrap();
    file
}

/// The permissions of the operator's ACL in docs/src/operations.md.
fn permissions() -> Vec<String> {
    permissions_between("ACL SETUSER operator ", "```")
}

/// The permissions in the page between these texts.
fn permissions_between(start: &str, end: &str) -> Vec<String> {
    let (_, rest) = PAGE.split_once(start).expect("the page has this text");
    let (list, _) = rest.split_once(end).expect("the list ends");
    list.split_whitespace().filter(|word| word.starts_with('+')).map(str::to_owned).collect()
}
