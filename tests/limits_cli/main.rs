//! `weir limits` against a real Redis, and with buckets that real requests have spent from.

mod operator;
mod permissions;
mod settings;
mod stored;
mod topologies;
mod unenforced;
mod units;
mod windows;

use std::time::{Duration, Instant};

use redis::Commands;
use serde_json::json;
use tempfile::NamedTempFile;
use weir::{HostKind, Mesh};
use weir_filter::limit::Algorithm;
use weir_filter::overrides::{Ruling, Setting};
use weir_filter::units::{Micros, Tokens};
use weir_provision::redis::RedisOptions;

use crate::operator::{Operator, types};

const CONFIGURATION: &str = r#"
redis: {cluster: redis, key_prefix: "we*ir:", username: weir, password: {env: SET_WHERE_THE_PROXY_RUNS}}
limits:
- name: per_user
  descriptor: [{request_header: {name: x-user-id}}]
  token_bucket: {max_tokens: 20, tokens_per_fill: 100, fill_interval: 60s}
- name: per_route
  descriptor: [{method: {}}, {path: {}}]
  token_bucket: {max_tokens: 10, tokens_per_fill: 1, fill_interval: 3600s}
- name: all
  descriptor: []
  shadow_mode: true
  token_bucket: {max_tokens: 1000, tokens_per_fill: 1000, fill_interval: 60s}
"#;
const PREFIX: &str = "we*ir:";
const HASH: &str = "we*ir:overrides";

const ALICE: (u64, u64) = (20, 600_000);
const A_ROUTE: (u64, u64) = (10, 3_600_000_000);

#[test]
fn an_override_is_set_shown_and_unset() {
    let Some(mut operator) = Operator::of(CONFIGURATION, RedisOptions::default()) else { return };
    assert_eq!(operator.types(&["get", "per_user", "alice"]), "per_user alice: no override\n");
    assert_eq!(operator.types(&["set", "per_user", "alice", "blocked"]), "per_user alice: blocked\n");
    assert_eq!(operator.override_of("per_user:alice"), Some(Setting { ruling: Ruling::Blocked, until: None }));
    assert_eq!(operator.types(&["get", "per_user", "alice"]), "per_user alice: blocked\n");
    assert_eq!(operator.types(&["get", "per_user", "bob"]), "per_user bob: no override\n");

    operator.types(&["set", "per_user", "shadow"]);
    assert_eq!(operator.types(&["get", "per_user"]), "per_user (every key): shadow\n");
    assert_eq!(operator.types(&["get", "per_user", "bob"]), "per_user bob: shadow, as all of the limit\n");
    assert_eq!(operator.types(&["get", "per_user", "alice"]), "per_user alice: blocked\n");

    assert_eq!(operator.types(&["unset", "per_user", "alice"]), "per_user alice: no override any more\n");
    assert_eq!(operator.types(&["unset", "per_user", "alice"]), "per_user alice: there was no override\n");
    assert_eq!(operator.override_of("per_user:alice"), None);
}

#[test]
fn no_command_guesses_the_key_of_hashes() {
    let hashed = "hash_key: {env: SET_WHERE_THE_PROXY_RUNS}\nredis: {cluster: redis}\nlimits:\n- name: per_key\n  \
        descriptor: [{request_header: {name: x-api-key, hash: true}}]\n  token_bucket: {max_tokens: 1, fill_interval: 1s}\n";
    let Some(operator) = Operator::of(hashed, RedisOptions::default()) else { return };
    let refused = "limit `per_key` hashes its keys: expected hash_key in SET_WHERE_THE_PROXY_RUNS, found it empty or not \
                   set in this shell; or give the key as `list` shows it, with --encoded";
    for command in [&["set", "per_key", "sk-alice", "blocked"][..], &["get", "per_key", "sk-alice"]] {
        assert_eq!(operator.is_told(command), refused);
    }
    let hash = "0ec9eb33e74510bcdd1f2ea55206e82f";
    operator.types(&["set", "per_key", hash, "--encoded", "blocked"]);
    assert_eq!(operator.types(&["get", "per_key", hash, "--encoded"]), format!("per_key {hash}: blocked\n"));
    operator.types(&["set", "per_key", "shadow"]);
    let listed = operator.types(&["list"]);
    assert!(listed.contains(hash) && listed.contains("shadow"), "{listed}");
}

#[test]
fn a_rate_is_set_for_a_time_by_redis_clock() {
    let Some(mut operator) = Operator::of(CONFIGURATION, RedisOptions::default()) else { return };
    let (now, _): (u64, u64) = redis::cmd("TIME").query(&mut operator.redis).unwrap();
    let said = operator.types(&["set", "per_user", "alice", "--rate", "100/60s", "--burst", "5", "--for", "10m"]);
    assert_eq!(said, "per_user alice: 5 at once, then 1 per 600ms, for 10m\n");
    let Some(Setting { ruling: Ruling::Algorithms(windows), until }) = operator.override_of("per_user:alice") else {
        panic!("no rate")
    };
    let Algorithm::TokenBucket(bucket) = windows[0].algorithm else { panic!("no rate") };
    assert_eq!((bucket.capacity(), bucket.fill_time(), windows.len()), (Tokens(5), Micros::from_secs(3), 1));
    let left = until.unwrap() - now;
    assert!((600..=605).contains(&left), "{left} s");
}

#[test]
fn expired_overrides_do_not_apply_and_are_deleted_by_the_next_change() {
    let Some(mut operator) = Operator::of(CONFIGURATION, RedisOptions::default()) else { return };
    let _: () = operator.redis.hset(HASH, "per_user:alice", r#"{"is": "blocked", "until": 1000}"#).unwrap();
    assert_eq!(operator.types(&["get", "per_user", "alice"]), "per_user alice: no override\n");
    assert!(operator.types(&["list"]).contains("expired"));
    let _: () = operator.redis.hset(HASH, "all", r#"{"is": "blocked", "until": 1000}"#).unwrap();
    operator.types(&["set", "per_user", "off"]);
    let fields: Vec<String> = operator.redis.hkeys(HASH).unwrap();
    assert_eq!(fields, ["per_user"]);
}

#[test]
fn a_malformed_override_is_reported_with_the_override_that_applies() {
    let Some(mut operator) = Operator::of(CONFIGURATION, RedisOptions::default()) else { return };
    operator.types(&["set", "per_user", "shadow"]);
    let _: () = operator.redis.hset(HASH, "per_user:alice", "blokced").unwrap();
    let ignored = "ignored: expected unlimited, blocked, shadow, off, or a JSON object, found blokced";
    let said = operator.types(&["get", "per_user", "alice"]);
    assert_eq!(said, format!("per_user alice: {ignored}\nper_user alice: shadow, as all of the limit\n"));
    assert!(operator.types(&["list"]).contains(ignored));
}

#[test]
fn peek_spends_nothing_and_reset_refills_a_bucket() {
    let Some(mut operator) = Operator::of(CONFIGURATION, RedisOptions::default()) else { return };
    operator.spends("we*ir:per_route:GET:/a%20b", A_ROUTE, 10);
    let peek = ["peek", "per_route", "GET", "/a b"];
    for _ in 0..2 {
        let seen = operator.types(&peek);
        for line in ["override   none", "tokens     0 of 10", "full in    10h", "1 token    in 1h"] {
            assert!(seen.contains(line), "{line} in\n{seen}");
        }
        assert!(seen.contains("GET:/a%20b (we*ir:per_route:GET:/a%20b)"), "{seen}");
    }
    assert!(operator.types(&["peek", "per_route", "GET:/a%20b", "--encoded"]).contains("0 of 10"));
    assert!(
        operator.types(&[&peek[..], &["--cost", "11"]].concat()).contains("never: 11 tokens are more than it holds")
    );

    let reset = ["reset", "per_route", "GET", "/a b"];
    assert_eq!(operator.types(&reset), "per_route GET:/a%20b: deleted, so it is full\n");
    assert_eq!(operator.types(&reset), "per_route GET:/a%20b: there is no such bucket: it is full\n");
    let seen = operator.types(&peek);
    assert!(seen.contains("10 of 10") && seen.contains("1 token    now"), "{seen}");
}

#[test]
fn peek_shows_a_bucket_under_the_override_in_force() {
    let Some(mut operator) = Operator::of(CONFIGURATION, RedisOptions::default()) else { return };
    operator.spends("we*ir:per_user:alice", ALICE, 20);
    operator.types(&["set", "per_user", "--rate", "2/1h"]);
    let seen = operator.types(&["peek", "per_user", "alice"]);
    assert!(seen.contains("override   2 at once, then 1 per 30m") && seen.contains("0 of 2"), "{seen}");
    operator.types(&["set", "per_user", "alice", "blocked"]);
    let seen = operator.types(&["peek", "per_user", "alice"]);
    assert!(seen.ends_with("1 token    never: the override denies every request\n"), "{seen}");
    let blocked = &operator.reads(&["peek", "per_user", "bob"])[0];
    assert_eq!((&blocked["admitted"], &blocked["windows"][0]["admits"]), (&json!(true), &json!(true)), "{blocked}");
    let blocked = &operator.reads(&["peek", "per_user", "alice"])[0];
    assert_eq!(blocked["answer"], "never: the override denies every request");
    operator.types(&["set", "per_user", "bob", "blocked"]);
    let full = &operator.reads(&["peek", "per_user", "bob"])[0];
    assert_eq!((&full["windows"][0]["admits"], &full["windows"][0]["retry_after_us"]), (&json!(false), &json!(null)));
    operator.types(&["set", "per_user", "alice", "unlimited"]);
    let seen = operator.types(&["peek", "per_user", "alice"]);
    assert!(seen.ends_with("1 token    now: the override admits every request\n"), "{seen}");
    assert_eq!(operator.reads(&["peek", "per_user", "alice"])[0]["windows"][0]["admits"], true);
}

#[test]
fn the_list_shows_the_emptiest_buckets_first_and_at_most_top() {
    let Some(mut operator) = Operator::of(CONFIGURATION, RedisOptions::default()) else { return };
    for n in 0..3_000 {
        operator.spends(&format!("we*ir:per_route:GET:/{n}"), A_ROUTE, 1);
    }
    operator.spends("we*ir:per_route:GET:/busy", A_ROUTE, 10);
    // The state of an earlier version: the time at which the bucket is full.
    let _: () = operator.redis.set("we*ir:per_user:alice", "9999999999999999").unwrap();
    let _: () = operator.redis.set("weXir:per_user:mallory", "9999999999999999").unwrap();
    let _: () = operator.redis.set("we*ir:per_user:no-number", "x").unwrap();
    let _: () = operator.redis.lpush("we*ir:per_user:a-list", "x").unwrap();
    operator.types(&["set", "per_user", "carol", "unlimited"]);

    let listed = operator.types(&["list", "--limited", "--top", "3"]);
    assert!(listed.contains("20 at once, then 1 per 600ms") && listed.contains("in shadow mode"), "{listed}");
    assert!(listed.contains("carol") && listed.contains("unlimited"), "{listed}");
    let place = |text: &str| listed.find(text).unwrap_or_else(|| panic!("{text} in\n{listed}"));
    assert!(place("alice") < place("GET:/busy"), "the bucket of the route has refilled for a moment");
    assert!(listed.contains("0 of 10") && !listed.contains("mallory"), "{listed}");
    // Alice's bucket is full later than its rate allows, so that it counts as empty.
    assert!(listed.contains("2 of 3002 buckets that are not full admit nothing now"), "{listed}");
    assert_eq!(listed.matches("9 of 10").count(), 1, "{listed}");

    let of_one = operator.types(&["list", "per_user", "--limited"]);
    assert!(of_one.contains("alice") && !of_one.contains("per_route"), "{of_one}");
}

#[test]
fn errors_say_what_was_expected() {
    let Some(mut operator) = Operator::of(CONFIGURATION, RedisOptions::default()) else { return };
    let unknown = "no limit `per_usr`; expected one of per_user, per_route, all";
    assert_eq!(operator.is_told(&["get", "per_usr"]), unknown);
    let values = "limit `per_route`: expected a key of as many values as its descriptor has entries, 2, found 1";
    assert_eq!(operator.is_told(&["peek", "per_route", "GET:/"]), values);
    assert!(operator.is_told(&["reset", "per_user"]).ends_with("entries, 1, found 0"), "reset needs a key");
    assert!(operator.is_told(&["set", "per_user", "alice", "blokced"]).contains("found `blokced`"));
    for text in ["many", "100", "100/", "x/s", "-1/s", "1/60"] {
        let rate = format!("--rate: expected tokens per time, such as 100/60s, 5/s or 1000/1d, found {text}");
        assert_eq!(operator.is_told(&["set", "per_user", &format!("--rate={text}")]), rate);
    }
    assert!(operator.is_told(&["set", "per_user"]).ends_with("or --rate, --quota, --max or --times, found nothing"));
    let endless = operator.is_told(&["set", "per_user", "--rate", "0/s", "--burst", "5"]);
    assert!(endless.starts_with("token_bucket.tokens_per_fill: expected an integer from 1"), "{endless}");
    let lasting = "--for: expected a time such as 90s, 10m, 1h30m or 7d, found forever";
    assert_eq!(operator.is_told(&["set", "per_user", "off", "--for", "forever"]), lasting);
    assert!(operator.is_told(&["set", "per_user", "off", "--for", "3000000d"]).starts_with("until: expected"));
    assert!(operator.is_told(&["set", "per_user", "{\"quota\""]).ends_with("which is no JSON"));
    let numberless = operator.is_told(&["set", "per_user", "{\"quota\": {}}"]);
    assert!(numberless.starts_with("quota: expected exactly one of max_requests, "), "{numberless}");
    assert!(operator.is_told(&["reset", "per_user", "a b", "--encoded"]).contains("found a b"));
    let _: () = operator.redis.lpush("we*ir:per_user:list", "x").unwrap();
    let no_bucket = "we*ir:per_user:list: expected a bucket of this limit, found another kind of value under its key";
    assert_eq!(operator.is_told(&["peek", "per_user", "list"]), no_bucket);

    let missing = types(&["list", "--config", "/nowhere/x.yaml", "--redis", &operator.url]).unwrap_err();
    assert!(missing.starts_with("/nowhere/x.yaml: "), "{missing}");
    let wrong = NamedTempFile::new().unwrap();
    std::fs::write(wrong.path(), "{redis: {cluster: redis}, limits: 7}").unwrap();
    let wrong = types(&["list", "--config", wrong.path().to_str().unwrap(), "--redis", &operator.url]).unwrap_err();
    assert!(wrong.contains("limits: expected a list of 1 to 32 items, found 7"), "{wrong}");
}

#[test]
fn errors_of_redis_name_its_address_without_the_password() {
    let options = RedisOptions { password: Some("s3cret".into()), ..RedisOptions::default() };
    let Some(mut operator) = Operator::of(CONFIGURATION, options) else { return };
    assert!(operator.url.contains("s3cret"));
    operator.types(&["set", "all", "off"]);
    assert_eq!(operator.override_of("all").map(|setting| setting.ruling), Some(Ruling::Off));

    let _: () = redis::cmd("ACL")
        .arg(&["SETUSER", "ops", "on", ">0perator", "~we*", "+@all", "-@dangerous"])
        .query(&mut operator.redis)
        .unwrap();
    let by_name = operator.url.replace("://:s3cret@", "://ops:0perator@") + "/3";
    operator.url.clone_from(&by_name);
    assert_eq!(operator.types(&["get", "all"]), "all: no override\n", "the override is in another database");
    assert!(operator.types(&["list", "--limited"]).contains("0 of 0 buckets"));

    operator.url = by_name.replace("0perator", "wr0ng");
    let refused = operator.is_told(&["list"]);
    assert!(refused.starts_with("redis at 127.0.0.1:") && !refused.contains("wr0ng"), "{refused}");
    assert!(refused.ends_with(": WRONGPASS invalid username-password pair or user is disabled."), "{refused}");
    operator.url = "redis://:s3cret@127.0.0.1:1".into();
    let refused = operator.is_told(&["list"]);
    assert!(refused.starts_with("redis at 127.0.0.1:1: ") && !refused.contains("s3cret"), "{refused}");
    let schemes = "scheme: expected redis, rediss, redis-sentinel, rediss-sentinel, redis+cluster, rediss+cluster, unix \
                   or redis+unix, and ://, found ";
    for (url, expected) in [
        ("http://s3cret", format!("{schemes}http")),
        ("127.0.0.1:6379", format!("{schemes}a text without ://")),
        (":s3cret@127.0.0.1:6379", format!("{schemes}a text without ://")),
        (
            "redis://:s3cret@127.0.0.1:port",
            "port of host: expected a number from 1 to 65535, found a text of 4 bytes".to_owned(),
        ),
    ] {
        operator.url = url.into();
        assert_eq!(operator.is_told(&["list"]), format!("--redis: {expected}"));
    }
}

#[test]
fn commands_that_redis_denies_are_named_with_the_place_that_lists_all() {
    let Some(mut operator) = Operator::of(CONFIGURATION, RedisOptions::default()) else { return };
    let _: () = redis::cmd("ACL")
        .arg(&["SETUSER", "ops", "on", ">0perator", "~we*", "+@all", "-ping", "-time", "-hscan", "-hget", "-scan"])
        .query(&mut operator.redis)
        .unwrap();
    operator.url = operator.url.replace("redis://", "redis://ops:0perator@");
    let address = operator.url.rsplit('@').next().unwrap().to_owned();
    let denied = |commands: &str| {
        format!("redis at {address}: this Redis user needs also: {commands}; see Redis ACL in docs/src/operations.md")
    };
    assert_eq!(operator.is_told(&["get", "per_user"]), denied("+hget +time"));
    assert_eq!(operator.is_told(&["set", "per_user", "off"]), denied("+time"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peek_shows_what_requests_spent_and_reset_admits_the_user_again() {
    let mesh = Mesh::on(HostKind::Embedded, "envoy/quickstart.yaml").patient().bucket(3, 1, "3600s");
    let Some(mesh) = mesh.start().await else { return };
    let config = NamedTempFile::new().unwrap();
    let configuration = serde_json::json!({
        "redis": {"cluster": "redis", "key_prefix": mesh.key_prefix()},
        "limits": [{
            "name": "per_user",
            "descriptor": [{"request_header": {"name": "x-user-id"}}],
            "token_bucket": {"max_tokens": 3, "fill_interval": "3600s"},
        }],
    });
    std::fs::write(config.path(), configuration.to_string()).unwrap();
    let (url, file) = (mesh.redis().url(), config.path().to_str().unwrap());
    let operator = |command: &[&str]| types(&[command, &["--redis", &url, "--config", file]].concat()).unwrap();

    let strange = "al:ice/ü";
    for remaining in [2, 1, 0] {
        mesh.get(strange).await.admitted().remaining(remaining);
    }
    mesh.get(strange).await.denied();
    let seen = operator(&["peek", "per_user", strange]);
    assert!(seen.contains("0 of 3"), "{seen}");
    assert!(operator(&["list", "--limited"]).contains("1 of 1 buckets that are not full admit nothing now"));
    operator(&["reset", "per_user", strange]);
    // The worker that denied the request caches the denial for 1 s.
    tokio::time::sleep(Duration::from_secs(1)).await;
    mesh.get(strange).await.admitted().remaining(2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_with_twice_its_numbers_admits_twice_as_many_and_what_was_spent_stays_spent() {
    let mesh = Mesh::on(HostKind::Embedded, "envoy/quickstart.yaml").patient().bucket(3, 1, "3600s");
    let mesh = mesh.configure(|filter| filter["overrides"] = serde_json::json!({"refresh_interval": "100ms"}));
    let Some(mesh) = mesh.start().await else { return };
    let url = mesh.redis().url();
    let operator = |words: &[&str]| {
        types(&[words, &["--redis", &url, "--key-prefix", mesh.key_prefix()]].concat()).unwrap();
    };
    // Both workers read the override by themselves.
    let until_limit_is = async |limit: &str| {
        let (mut in_a_row, mut nth) = (0, 0);
        let deadline = Instant::now() + Duration::from_secs(60);
        while in_a_row < 12 {
            nth += 1;
            let answer = mesh.get(&format!("{limit}-{nth}")).await;
            in_a_row = if answer.header("x-ratelimit-limit") == Some(limit) { in_a_row + 1 } else { 0 };
            assert!(Instant::now() < deadline, "the override is not in force: {answer:?}");
        }
    };
    for remaining in [2, 1, 0] {
        mesh.get("alice").await.admitted().remaining(remaining);
    }
    mesh.get("alice").await.denied();
    operator(&["set", "per_user", "--times", "2"]);
    until_limit_is("6").await;
    for remaining in [2, 1, 0] {
        mesh.get("alice").await.admitted().remaining(remaining);
    }
    mesh.get("alice").await.denied();
    operator(&["set", "per_user", "--max", "7"]);
    until_limit_is("7").await;
    mesh.get("alice").await.admitted().remaining(0);
    mesh.get("alice").await.denied();
}
