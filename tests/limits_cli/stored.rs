//! Where overrides of keys are stored: a string beside each bucket, of which the bucket's state tells.

use redis::Commands;
use weir_filter::overrides::Ruling;
use weir_provision::redis::RedisOptions;

use crate::operator::Operator;
use crate::{CONFIGURATION, HASH};

const STRING: &str = "we*ir:per_user:alice#override";
const ALICE: (u64, u64) = (20, 600_000);

fn operator() -> Option<Operator> {
    Operator::of(CONFIGURATION, RedisOptions::default())
}

#[test]
fn setting_and_removing_an_override_makes_the_buckets_speed_positive_and_keeps_its_end() {
    let Some(mut operator) = operator() else { return };
    operator.spends("we*ir:per_user:alice", ALICE, 20);
    let before: Vec<u8> = operator.redis.get("we*ir:per_user:alice").unwrap();
    let ends: i64 = operator.redis.pttl("we*ir:per_user:alice").unwrap();
    let speed = |state: &[u8]| i64::from_be_bytes(state[24..].try_into().unwrap());
    assert_eq!(
        (before.len(), speed(&before)),
        (32, -1),
        "the bucket's last request has read that there is no override"
    );
    for command in [
        &["set", "per_user", "alice", "blocked"][..],
        &["set", "per_user", "alice", "off"],
        &["unset", "per_user", "alice"],
    ] {
        operator.types(command);
        let after: Vec<u8> = operator.redis.get("we*ir:per_user:alice").unwrap();
        assert_eq!((&after[..24], speed(&after)), (&before[..24], 1), "{command:?}");
    }
    let peek = &operator.reads(&["peek", "per_user", "alice"])[0];
    assert!(peek["windows"][0]["remaining"].as_u64().unwrap() < 5, "the bucket is as empty as before: {peek}");
    let then: i64 = operator.redis.pttl("we*ir:per_user:alice").unwrap();
    assert!(then > 0 && then <= ends && ends - then < 5_000, "{ends} ms, then {then} ms");
}

#[test]
fn other_values_at_the_buckets_key_are_left_alone() {
    let Some(mut operator) = operator() else { return };
    operator.types(&["set", "per_user", "alice", "blocked"]);
    assert!(!operator.redis.exists::<_, bool>("we*ir:per_user:alice").unwrap(), "no bucket is made");
    for state in [&b"9999999999999999"[..], b"x".repeat(48).as_slice(), &[0; 31]] {
        let _: () = operator.redis.set("we*ir:per_user:alice", state).unwrap();
        operator.types(&["set", "per_user", "alice", "blocked"]);
        assert_eq!(operator.redis.get::<_, Vec<u8>>("we*ir:per_user:alice").unwrap(), state);
    }
    let _: () = operator.redis.del("we*ir:per_user:alice").unwrap();
    let _: () = operator.redis.rpush("we*ir:per_user:alice", "x").unwrap();
    operator.types(&["unset", "per_user", "alice"]);
    assert_eq!(operator.redis.llen::<_, u64>("we*ir:per_user:alice").unwrap(), 1);
}

#[test]
fn an_older_field_of_the_hash_is_read_and_removed_by_the_next_change() {
    let Some(mut operator) = operator() else { return };
    let _: () = operator.redis.hset(HASH, "per_user:alice", "blocked").unwrap();
    assert_eq!(operator.types(&["get", "per_user", "alice"]), "per_user alice: blocked\n");
    let _: () = operator.redis.set(STRING, "off").unwrap();
    assert_eq!(operator.types(&["get", "per_user", "alice"]), "per_user alice: off\n", "the string goes before it");
    operator.types(&["set", "per_user", "alice", "shadow"]);
    assert!(!operator.redis.hexists::<_, _, bool>(HASH, "per_user:alice").unwrap());
    let _: () = operator.redis.del(STRING).unwrap();
    let _: () = operator.redis.hset(HASH, "per_user:alice", "blocked").unwrap();
    assert_eq!(operator.types(&["unset", "per_user", "alice"]), "per_user alice: no override any more\n");
    assert!(!operator.redis.hexists::<_, _, bool>(HASH, "per_user:alice").unwrap());
}

#[test]
fn older_fields_are_moved_once_and_malformed_ones_are_reported_and_left() {
    let Some(mut operator) = operator() else { return };
    let (now, _): (u64, u64) = redis::cmd("TIME").query(&mut operator.redis).unwrap();
    let lasting = format!(r#"{{"is": "blocked", "until": {}}}"#, now + 100);
    let fields = [
        ("per_user", "shadow"),
        ("per_user:alice", &lasting),
        ("per_user:bob", "off"),
        ("per_user:carol", "blokced"),
        ("per_user:dave", r#"{"is": "off", "until": 1}"#),
        ("gone:erin", "unlimited"),
        ("per_user:both", "blocked"),
    ];
    let _: () = operator.redis.hset_multiple(HASH, &fields).unwrap();
    let _: () = operator.redis.set("we*ir:per_user:both#override", "off").unwrap();
    let malformed = "left per_user carol: expected unlimited, blocked, shadow, off, or a JSON object, found blokced\n";
    let told = operator.types(&["migrate"]);
    assert_eq!(told, format!("{malformed}4 overrides of keys moved, 1 expired ones removed, 1 malformed ones left\n"));
    let mut left: Vec<String> = operator.redis.hkeys(HASH).unwrap();
    left.sort();
    assert_eq!(left, ["per_user", "per_user:carol"]);
    assert_eq!(operator.override_of("per_user:alice").unwrap().until, Some(now + 100));
    let lasts: i64 = operator.redis.pttl(STRING).unwrap();
    assert!((90_000..=100_000).contains(&lasts), "{lasts} ms");
    assert_eq!(operator.override_of("per_user:both").unwrap().ruling, Ruling::Off, "the string is newer");
    assert_eq!(operator.override_of("gone:erin").unwrap().ruling, Ruling::Unlimited);
    let told = operator.types(&["migrate"]);
    assert_eq!(told, format!("{malformed}0 overrides of keys moved, 0 expired ones removed, 1 malformed ones left\n"));
}

#[test]
fn few_overrides_are_sorted_and_at_most_top_are_shown() {
    let Some(mut operator) = operator() else { return };
    for n in [3, 1, 2] {
        operator.types(&["set", "per_user", &format!("user-{n}"), "--max", &n.to_string()]);
    }
    let _: () = operator.redis.hset(HASH, "per_user:user-0", "off").unwrap();
    let _: () = operator.redis.set("weXir:per_user:mallory#override", "off").unwrap();
    let listed = operator.types(&["list"]);
    let places = ["user-0", "user-1", "user-2", "user-3"].map(|user| listed.find(user).unwrap());
    assert!(places.is_sorted() && !listed.contains("mallory"), "{listed}");
    assert!(listed.contains("┆ 3 at once"), "a table: {listed}");
    assert!(listed.contains("3 at once, then 1 per 600ms"), "{listed}");
    let listed = operator.types(&["list", "per_user", "--top", "2"]);
    assert!(listed.contains("user-1") && !listed.contains("user-2"), "{listed}");
    assert!(listed.ends_with("and 2 more overrides of keys; --top shows more\n"), "{listed}");
    assert!(!operator.types(&["list", "all"]).contains("user-"));
}

#[test]
fn many_overrides_are_listed_line_by_line() {
    let Some(mut operator) = operator() else { return };
    let all: Vec<(String, &str)> =
        (0..25_000).map(|n| (format!("we*ir:per_user:user-{n}#override"), r#"{"max": 7}"#)).collect();
    for some in all.chunks(5_000) {
        let _: () = operator.redis.mset(some).unwrap();
    }
    let _: () = operator.redis.hset(HASH, "per_user", "shadow").unwrap();
    let lines = operator.reads(&["list"]);
    let keys: std::collections::BTreeSet<&str> = lines.iter().filter_map(|line| line["key"].as_str()).collect();
    assert_eq!(keys.len(), 25_000);
    assert_eq!(lines[0]["override"]["value"]["is"], "shadow");
    let listed = operator.types(&["list", "--top", "3"]);
    assert!(listed.contains("shadow") && listed.contains("and 24997 more overrides of keys"), "{listed}");
    let rows: Vec<&str> = listed.lines().filter(|line| line.starts_with("per_user\tuser-")).collect();
    assert_eq!(rows.len(), 3, "{listed}");
    assert!(rows[0].ends_with("\t7 at once, then 1 per 600ms"), "{rows:?}");
}

#[test]
fn an_override_of_a_key_of_a_limit_of_zero_is_a_field_of_the_hash_since_no_request_asks_redis() {
    let zero = r#"{"redis": {"cluster": "redis", "key_prefix": "we*ir:"}, "limits": [{"name": "per_user",
        "descriptor": [{"request_header": {"name": "x-user-id"}}], "token_bucket": {"max_tokens": 0, "fill_interval": "1s"}}]}"#;
    let Some(mut operator) = Operator::of(zero, RedisOptions::default()) else { return };
    let _: () = operator.redis.set(STRING, "off").unwrap();
    operator.types(&["set", "per_user", "alice", "--rate", "5/1h"]);
    assert!(operator.redis.hexists::<_, _, bool>(HASH, "per_user:alice").unwrap());
    assert!(!operator.redis.exists::<_, bool>(STRING).unwrap());
    operator.types(&["unset", "per_user", "alice"]);
    assert!(!operator.redis.hexists::<_, _, bool>(HASH, "per_user:alice").unwrap());
}
