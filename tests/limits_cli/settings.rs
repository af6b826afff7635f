//! What `weir limits set` accepts, writes and shows.

use std::time::{Duration, Instant};

use redis::Commands;
use serde_json::json;
use weir_provision::redis::RedisOptions;

use crate::operator::Operator;

const CONFIGURATION: &str = r#"
redis: {cluster: redis, key_prefix: "we*ir:"}
limits:
- name: per_user
  descriptor: [{request_header: {name: x-user-id}}]
  token_bucket: {max_tokens: 20, tokens_per_fill: 100, fill_interval: 1m}
- name: quota
  descriptor: [{request_header: {name: x-user-id}}]
  quota: {max_requests: 50, unit: year}
- name: slots
  descriptor: [{request_header: {name: x-user-id}}]
  concurrency: {max_requests: 3}
- name: plan
  descriptor: [{request_header: {name: x-user-id}}]
  windows:
  - token_bucket: {max_tokens: 10, tokens_per_fill: 1, fill_interval: 1h}
  - quota: {max_requests: 100, unit: year}
- name: slow
  descriptor: []
  token_bucket: {max_tokens: 1, tokens_per_fill: 1, fill_interval: 4000000000s}
- name: exact
  descriptor: []
  sliding_window: {max_requests: 50, window: 1h, mode: exact}
- name: nothing
  descriptor: []
  token_bucket: {max_tokens: 0, fill_interval: 60s}
"#;

fn operator() -> Option<Operator> {
    Operator::of(CONFIGURATION, RedisOptions::default())
}

/// Arguments after `set LIMIT`, the value in Redis, and the text that is shown.
#[test]
fn each_option_writes_its_value_and_shows_its_effect() {
    let Some(mut operator) = operator() else { return };
    let bucket = |tokens: u64, rate: u64, interval: &str| json!({"token_bucket": {"max_tokens": tokens, "tokens_per_fill": rate, "fill_interval": interval}});
    let quota = |requests: u64, unit: &str| json!({"quota": {"max_requests": requests, "unit": unit}});
    let table: [(&str, &[&str], serde_json::Value, &str); 18] = [
        ("per_user", &["blocked"], json!({"is": "blocked"}), "blocked"),
        ("per_user", &["--rate", "100/60s"], bucket(100, 100, "60s"), "100 at once, then 1 per 600ms"),
        ("per_user", &["--rate", "30/1h30m", "--burst", "5"], bucket(5, 30, "5400s"), "5 at once, then 1 per 3m"),
        ("per_user", &["--max", "10"], json!({"max": 10}), "10 at once, then 1 per 600ms"),
        ("per_user", &["--max", "0"], json!({"max": 0}), "0 at once"),
        ("per_user", &["--times", "2"], json!({"times": 2}), "40 at once, then 1 per 300ms (times 2)"),
        ("per_user", &["--times", "0.5"], json!({"times": 0.5}), "10 at once, then 1 per 1.2s (times 0.5)"),
        ("per_user", &["--times", "0.001"], json!({"times": 0.001}), "1 at once, then 1 per 10m (times 0.001)"),
        ("per_user", &["--times", "0"], json!({"times": 0}), "0 at once (times 0)"),
        ("quota", &["--max", "10"], json!({"max": 10}), "10 a year (UTC)"),
        ("quota", &["--quota", "10/month"], quota(10, "month"), "10 a month"),
        ("quota", &["--times", "1.5"], json!({"times": 1.5}), "75 a year (UTC) (times 1.5)"),
        ("slots", &["--max", "10"], json!({"max": 10}), "10 in flight, lease 1m"),
        ("slots", &["--times", "0.1"], json!({"times": 0.1}), "1 in flight, lease 1m (times 0.1)"),
        ("plan", &["--times", "2"], json!({"times": 2}), "20 at once, then 1 per 30m; 200 a year (UTC) (times 2)"),
        ("plan", &[r#"{"max": 7}"#], json!({"max": 7}), "7 at once, then 1 per 1h; 7 a year (UTC)"),
        ("plan", &["--quota", "7/day"], quota(7, "day"), "7 a day"),
        (
            "quota",
            &["off", "--reason", "load test", "--by", "carol"],
            json!({"is": "off", "reason": "load test", "by": "carol"}),
            "off; reason: load test; by carol",
        ),
    ];
    for (limit, arguments, value, shown) in table {
        let set = [&["set", limit, "alice"], arguments].concat();
        assert_eq!(operator.types(&set), format!("{limit} alice: {shown}\n"));
        let key = format!("we*ir:{limit}:alice#override");
        let stored: String = operator.redis.get(&key).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&stored).unwrap(), value, "{set:?}");
        assert_eq!(operator.types(&["get", limit, "alice"]), format!("{limit} alice: {shown}\n"));
        let of_limit = [&["set", limit], arguments].concat();
        assert_eq!(operator.types(&of_limit), format!("{limit} (every key): {shown}\n"));
        let stored: String = operator.redis.hget("we*ir:overrides", limit).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&stored).unwrap(), value, "{of_limit:?}");
    }
}

#[test]
fn options_that_do_not_fit_are_refused_with_the_reason() {
    let Some(operator) = operator() else { return };
    let table: [(&[&str], &str); 22] = [
        (
            &["per_user", "a", "--times", "2", "--burst", "5"],
            "--burst needs --rate, such as --rate 5/s --burst 20; --max sets the size of a token bucket alone",
        ),
        (
            &["per_user", "a", "--burst", "5"],
            "--burst needs --rate, such as --rate 5/s --burst 20; --max sets the size of a token bucket alone",
        ),
        (&["per_user", "a", "blocked", "--rate", "5/s"], "`blocked` and --rate exclude each other"),
        (&["per_user", "off", "--max", "5"], "`off` and --max exclude each other"),
        (&["per_user", "a", r#"{"max": 5}"#, "--times", "2"], "JSON and --times exclude each other"),
        (
            &["per_user", "a", r#"{"max": 5, "until": 4102444800}"#, "--for", "1h"],
            "`until` in JSON and --for exclude each other",
        ),
        (
            &["per_user", "a", r#"{"is": "blocked", "until": 5}"#],
            "until: expected an instant after now by Redis' clock, found an earlier one",
        ),
        (
            &["quota", "a", "--quota", "5/days"],
            "--quota: expected requests per minute, hour, day, week, month or year, such as 10/month or 500/day, found \
             5/days",
        ),
        (
            &["quota", "a", "--rate", "5/s"],
            "limit `quota`: expected --quota or --max, found --rate: the limit has 50 a year (UTC)",
        ),
        (
            &["slots", "a", "--rate", "5/s"],
            "limit `slots`: expected --max, found --rate: the limit has 3 in flight, lease 1m",
        ),
        (
            &["plan", "a", "--max", "5"],
            "limit `plan`: expected --quota, --rate or --times, found --max: the limit has 10 at once, then 1 per 1h; \
             100 a year (UTC)",
        ),
        (
            &["per_user", "a", "--max", "4294967296"],
            "limit `per_user`: --max: expected at most 4294967295, found 4294967296: the limit has 20 at once, then 1 \
             per 600ms",
        ),
        (
            &["slow", "--max", "10"],
            "limit `slow`: --max: expected a bucket that fills within 142 years: the limit has 1 at once, then 1 per \
             46296d 8h",
        ),
        (
            &["exact", "--times", "201"],
            "limit `exact`: --times: expected at most 10000, found 10050: the limit has 50 in any 1h, exact",
        ),
        (
            &["nothing", "--max", "10"],
            "limit `nothing`: expected --rate or --times, found --max: the limit has 0 at once",
        ),
        (
            &["quota", "a", "--times", "x"],
            "--times: expected a number from 0 to 1000 with at most six decimals, such as 2 or 0.5, found x",
        ),
        (
            &["quota", "a", "--times", "1001"],
            "--times: expected a number from 0 to 1000 with at most six decimals, such as 2 or 0.5, found 1001",
        ),
        (
            &["quota", "a", "off", "--until", "tomorrow"],
            "--until: expected an instant with its offset from UTC, such as 2026-12-01T00:00Z, found tomorrow",
        ),
        (
            &["quota", "a", "off", "--until", "2026-12-01T00:00"],
            "--until: expected an instant with its offset from UTC, such as 2026-12-01T00:00Z, found 2026-12-01T00:00",
        ),
        (
            &["quota", "a", "off", "--until", "2020-12-01T00:00Z"],
            "--until: expected an instant after now by Redis' clock, found an earlier one",
        ),
        (
            &["quota", "a", r#"{"max": 1, "times": 2}"#],
            "expected one of is, max, times, and windows such as token_bucket, found several",
        ),
        (&["quota", "a", r#"{"max": -1}"#], "max: expected an integer from 0 to 4294967296, found -1"),
    ];
    for (arguments, error) in table {
        assert_eq!(operator.is_told(&[&["set"], arguments].concat()), error, "{arguments:?}");
    }
    let long = "x".repeat(1_100);
    let too_long = operator.is_told(&["set", "quota", "a", "off", "--reason", &long]);
    assert_eq!(too_long, "expected a value of at most 1024 bytes, found a longer one");
    for conflict in [["--max=1", "--times=2"], ["--max=1", "--rate=1/s"], ["--for=1h", "--until=2099-01-01T00:00Z"]] {
        let told = operator.is_told(&[&["set", "per_user", "a"][..], &conflict].concat());
        assert!(told.contains("cannot be used with"), "{told}");
    }
}

#[test]
fn notes_say_where_for_whom_and_in_place_of_which_override() {
    let Some(operator) = operator() else { return };
    let place = format!("redis: {}/0\n", operator.url.trim_start_matches("redis://"));
    let when = "workers read it within overrides.refresh_interval\n";
    let reach = format!("for every key of the limit but those with overrides of their own; {when}");
    assert_eq!(operator.is_noted(&["set", "per_user", "blocked"]), format!("{reach}{place}"));
    assert_eq!(operator.is_noted(&["set", "slow", "blocked"]), format!("{when}{place}"));
    assert_eq!(operator.is_noted(&["set", "nothing", "blocked"]), format!("{when}{place}"));
    assert_eq!(operator.is_noted(&["set", "quota", "a", "--quota", "5/day", "--reason", "billing"]), place);
    let replaced = operator.is_noted(&["set", "quota", "a", "blocked"]);
    assert_eq!(replaced, format!("replaced: 5 a day; reason: billing\n{place}"));
    assert_eq!(operator.is_noted(&["unset", "per_user"]), format!("{reach}{place}"));
    for change in [&["unset", "quota", "a"][..], &["reset", "quota", "a"], &["migrate"]] {
        assert_eq!(operator.is_noted(change), place, "{change:?}");
    }
    assert_eq!(operator.is_noted(&["get", "quota", "a"]), "");
}

#[test]
fn a_key_that_reads_like_a_word_can_be_given_as_list_shows_it() {
    let Some(operator) = operator() else { return };
    let set = ["set", "per_user", "off", "--encoded", "--max", "5"];
    assert_eq!(operator.types(&set), "per_user off: 5 at once, then 1 per 600ms\n");
}

#[test]
fn an_empty_value_is_shown() {
    let Some(operator) = operator() else { return };
    assert_eq!(operator.types(&["set", "per_user", "", "blocked"]), "per_user \"\": blocked\n");
    assert_eq!(operator.types(&["get", "per_user", "%", "--encoded"]), "per_user \"\": blocked\n");
    assert!(operator.types(&["peek", "per_user", ""]).contains("key        \"\" (we*ir:per_user:%)"));
}

#[test]
fn an_override_that_no_proxy_would_read_is_refused() {
    let switched_off = format!("{CONFIGURATION}overrides: {{enabled: false}}\n");
    let Some(operator) = Operator::of(&switched_off, RedisOptions::default()) else { return };
    let told = operator.is_told(&["set", "quota", "alice", "off"]);
    let expected = "limit `quota`: expected overrides to be read, found them switched off by overrides.enabled: false";
    assert_eq!(told, expected);
    assert_eq!(operator.types(&["unset", "quota", "alice"]), "quota alice: there was no override\n");
}

#[test]
fn an_override_ends_at_an_instant() {
    let Some(mut operator) = operator() else { return };
    operator.types(&["set", "per_user", "alice", "--max", "5", "--until", "2099-12-01T01:00+01:00"]);
    let until = 4_099_766_400_u64;
    assert_eq!(operator.override_of("per_user:alice").unwrap().until, Some(until));
    let expires: u64 = redis::cmd("PTTL").arg("we*ir:per_user:alice#override").query(&mut operator.redis).unwrap();
    let (now, _): (u64, u64) = redis::cmd("TIME").query(&mut operator.redis).unwrap();
    assert!((until - now) * 1_000 - expires < 5_000, "{expires} ms");
    operator.types(&["set", "per_user", "alice", "--max", "5"]);
    let expires: i64 = redis::cmd("PTTL").arg("we*ir:per_user:alice#override").query(&mut operator.redis).unwrap();
    assert_eq!(expires, -1, "a new override without an end has none");
}

#[test]
fn peek_keeps_what_was_spent_under_an_override_of_the_numbers() {
    let Some(mut operator) = operator() else { return };
    let start = Instant::now();
    operator.spends("we*ir:per_user:alice", (20, 600_000), 20);
    operator.types(&["set", "per_user", "alice", "--times", "2"]);
    let peek = &operator.reads(&["peek", "per_user", "alice"])[0];
    assert_eq!(peek["windows"][0]["capacity"], 40, "{peek}");
    let remaining = peek["windows"][0]["remaining"].as_u64().unwrap();
    // At most a token in 300 ms flows in.
    let most = 21 + start.elapsed().as_millis() as u64 / 300;
    assert!((20..=most).contains(&remaining), "20 of 40 are spent: {peek}");
}

#[test]
fn get_list_and_peek_have_a_form_for_programs() {
    let Some(mut operator) = operator() else { return };
    let set = ["set", "per_user", "al:ice", "blocked", "--for", "10m", "--reason", "abuse", "--by", "carol"];
    operator.types(&set);
    operator.types(&["set", "quota", "shadow"]);
    let _: () = operator.redis.hset("we*ir:overrides", "gone:bob", "off").unwrap();

    let get = &operator.reads(&["get", "per_user", "al:ice"])[0];
    assert_eq!(
        (&get["limit"], &get["key"], &get["inherited"]),
        (&json!("per_user"), &json!("al%3Aice"), &json!(false))
    );
    let set = &get["override"];
    assert_eq!((&set["state"], &set["reason"], &set["by"]), (&json!("in_force"), &json!("abuse"), &json!("carol")));
    assert_eq!(set["value"]["is"], "blocked");
    assert_eq!(set["until"], set["value"]["until"]);
    let left = set["left_seconds"].as_u64().unwrap();
    assert!((595..=600).contains(&left), "{left} s");
    let inherited = &operator.reads(&["get", "quota", "bob"])[0];
    assert_eq!((&inherited["inherited"], &inherited["override"]["value"]), (&json!(true), &json!({"is": "shadow"})));
    assert_eq!(operator.reads(&["get", "slots", "bob"])[0]["override"], json!(null));

    let list = operator.reads(&["list"]);
    let kinds: Vec<&str> = list.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["limit", "limit", "limit", "limit", "limit", "limit", "limit", "key", "key"]);
    assert_eq!(
        (&list[0]["limit"], &list[0]["configured"]),
        (&json!("per_user"), &json!("20 at once, then 1 per 600ms"))
    );
    assert_eq!(
        (&list[7]["limit"], &list[7]["key"], &list[7]["exists"]),
        (&json!("gone"), &json!("bob"), &json!(false))
    );
    assert_eq!(
        (&list[8]["limit"], &list[8]["key"], &list[8]["exists"]),
        (&json!("per_user"), &json!("al%3Aice"), &json!(true))
    );
    assert_eq!(list[8]["override"]["by"], "carol");

    let peek = &operator.reads(&["peek", "plan", "bob", "--cost", "11"])[0];
    assert_eq!((&peek["cost"], &peek["admitted"], &peek["override"]), (&json!(11), &json!(false), &json!(null)));
    assert_eq!(peek["windows"][0]["retry_after_us"], json!(null), "more than it holds: {peek}");
    assert_eq!((&peek["windows"][1]["remaining"], &peek["windows"][1]["admits"]), (&json!(100), &json!(true)));

    let mut daves = (0..20).map(|nth| format!("dave-{nth}"));
    let (dave, bucket) = loop {
        let dave = daves.next().expect("two commands within 600 ms");
        let start = Instant::now();
        operator.spends(&format!("we*ir:per_user:{dave}"), (20, 600_000), 20);
        let limited = operator.reads(&["list", "per_user", "--limited"]);
        let bucket = limited.into_iter().find(|line| line["key"] == *dave);
        // On a stalled machine, a token has flowed in.
        if start.elapsed() < Duration::from_millis(600) {
            break (dave, bucket.unwrap());
        }
    };
    assert_eq!((&bucket["kind"], &bucket["key"]), (&json!("bucket"), &json!(dave)));
    assert_eq!((&bucket["capacity"], &bucket["admits"]), (&json!(20), &json!(false)));
}

#[test]
fn overrides_of_limits_that_are_not_configured_are_shown_and_can_be_removed() {
    let Some(mut operator) = operator() else { return };
    let _: () = operator.redis.hset("we*ir:overrides", "old_limit", "blocked").unwrap();
    let _: () = operator.redis.set("we*ir:old_limit:alice#override", r#"{"max": 5}"#).unwrap();
    let listed = operator.types(&["list"]);
    let row = listed.lines().find(|line| line.contains("old_limit")).unwrap();
    assert!(row.contains("no such limit") && row.contains("blocked"), "{listed}");
    assert!(listed.contains("max 5"), "{listed}");
    assert_eq!(operator.types(&["get", "old_limit", "alice"]), "old_limit alice: max 5\n");
    assert_eq!(operator.types(&["unset", "old_limit", "alice"]), "old_limit alice: no override any more\n");
    assert_eq!(operator.types(&["unset", "old_limit"]), "old_limit (every key): no override any more\n");
    let unknown = "no limit `old_limit`; expected one of per_user, quota, slots, plan, slow, exact, nothing";
    assert_eq!(operator.is_told(&["unset", "old_limit"]), unknown);
    assert_eq!(operator.is_told(&["set", "old_limit", "off"]), unknown);
}
