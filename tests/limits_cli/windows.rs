//! `weir limits` for other algorithms than the token bucket, and for limits of several windows.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use redis::Commands;
use weir_filter::config::{self, Config};
use weir_filter::descriptor::bucket_key;
use weir_filter::limit::{Check, SlotOwner};
use weir_filter::units::Tokens;
use weir_provision::redis::RedisOptions;

use crate::operator::Operator;

/// Limits whose windows do not end during a test.
const CONFIGURATION: &str = r#"{
  "redis": {"cluster": "redis", "key_prefix": "we*ir:"},
  "limits": [
    {"name": "exact", "descriptor": [{"request_header": {"name": "x-user-id"}}],
     "sliding_window": {"max_requests": 50, "window": "36000s", "mode": "exact"}},
    {"name": "approximate", "descriptor": [{"request_header": {"name": "x-user-id"}}],
     "sliding_window": {"max_requests": 50, "window": "315360000s"}},
    {"name": "fixed", "descriptor": [{"request_header": {"name": "x-user-id"}}],
     "fixed_window": {"max_requests": 50, "window": "315360000s"}},
    {"name": "quota", "descriptor": [{"request_header": {"name": "x-user-id"}}],
     "quota": {"max_requests": 50, "unit": "year", "utc_offset": "+05:30"}},
    {"name": "slots", "descriptor": [],
     "concurrency": {"max_requests": 3}},
    {"name": "plan", "descriptor": [{"request_header": {"name": "x-user-id"}}],
     "windows": [
       {"token_bucket": {"max_tokens": 10, "tokens_per_fill": 1, "fill_interval": "3600s"}},
       {"quota": {"max_requests": 100, "unit": "year"}},
       {"concurrency": {"max_requests": 5, "lease": "3600s"}}]},
    {"name": "shaped", "descriptor": [], "max_delay": "60s",
     "token_bucket": {"max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "40s"}}
  ]
}"#;

/// An operator, and the configuration of the proxies.
struct Shop {
    operator: Operator,
    config: Config,
    requests: u64,
}

impl Shop {
    fn open() -> Option<Self> {
        let operator = Operator::of(CONFIGURATION, RedisOptions::default())?;
        let config = config::parse(CONFIGURATION.as_bytes(), &|_| None).unwrap();
        Some(Self { operator, config, requests: 0 })
    }

    /// Sends a request that stays in flight, and returns whether it is admitted.
    fn asks(&mut self, limit: &str, key: &[&str], cost: u64) -> bool {
        self.requests += 1;
        let limit = self.config.limits.iter().find(|known| known.name == limit).unwrap();
        let key = bucket_key("we*ir:", &limit.name, key);
        let check = limit.windows.checks(0, key.as_slice(), Tokens(cost), true).collect();
        self.operator.decides(&Check::new(check, SlotOwner::new(1, self.requests))).admitted
    }

    fn spends(&mut self, limit: &str, key: &[&str], cost: u64) {
        assert!(self.asks(limit, key, cost), "{limit} {key:?} {cost}");
    }

    /// Returns all keys and values in Redis.
    fn kept(&mut self) -> Vec<(String, Vec<u8>)> {
        let mut keys: Vec<String> = self.operator.redis.keys("*").unwrap();
        keys.sort();
        let dump = |key: String| {
            // A hash that grows is dumped in another order each time.
            let value = match key.ends_with("overrides") {
                true => {
                    let fields: BTreeMap<String, String> = self.operator.redis.hgetall(&key).unwrap();
                    format!("{fields:?}").into_bytes()
                }
                false => redis::cmd("DUMP").arg(&key).query(&mut self.operator.redis).unwrap(),
            };
            (key, value)
        };
        keys.into_iter().map(dump).collect()
    }

    /// Runs a command and returns its output. Asserts that the output has `lines` and that Redis is unchanged.
    #[track_caller]
    fn sees(&mut self, command: &[&str], lines: &[&str]) -> String {
        let before = self.kept();
        let seen = self.operator.types(command);
        assert_eq!(self.kept(), before, "{command:?} must not write");
        for line in lines {
            assert!(seen.contains(line), "{line} in\n{seen}");
        }
        seen
    }
}

#[test]
fn the_list_describes_each_algorithm_in_words() {
    let Some(mut shop) = Shop::open() else { return };
    shop.operator.types(&["set", "plan", "acme", "unlimited"]);
    let ways = [
        "50 in any 10h, exact",
        "50 in any 3650d, approximate",
        "50 in each 3650d",
        "50 a year (UTC+05:30)",
        "3 in flight, lease 1m",
        "100 a year (UTC),",
        "10 at once, then 1 per 1h,",
        "5 in flight, lease 1h",
        "1 at once, then 1 per 40s, held up to 1m",
        "unlimited",
    ];
    shop.sees(&["list"], &ways);
}

#[test]
fn peek_shows_the_remainder_for_each_window_algorithm() {
    let Some(mut shop) = Shop::open() else { return };
    for limit in ["exact", "approximate", "fixed", "quota"] {
        shop.sees(&["peek", limit, "alice"], &["left       50 of 50", "full in    0s", "1 token    now"]);
        for cost in [1, 40] {
            shop.spends(limit, &["alice"], cost);
        }
        shop.sees(&["peek", limit, "alice"], &["left       9 of 50", "1 token    now", "override   none"]);
        shop.sees(&["peek", limit, "alice", "--cost", "9"], &["9 tokens   now"]);
        let later = shop.sees(&["peek", limit, "alice", "--cost", "10"], &["10 tokens  in "]);
        assert!(!later.contains("full in    0s"), "{later}");
        shop.sees(&["peek", limit, "alice", "--cost", "51"], &["51 tokens  never: 51 tokens are more than it holds"]);
        shop.sees(&["peek", limit, "bob"], &["left       50 of 50"]);
    }
    shop.sees(&["peek", "exact", "alice", "--cost", "10"], &["full in    10h", "10 tokens  in 10h"]);
    let kept = shop.kept();
    assert!(kept.iter().any(|(key, _)| key == "we*ir:quota:alice#year330"), "{kept:?}");
}

#[test]
fn peek_shows_requests_in_flight_and_when_a_slot_becomes_free() {
    let Some(mut shop) = Shop::open() else { return };
    shop.sees(&["peek", "slots"], &["in flight  0 of 3", "1 token    now"]);
    for _ in 0..3 {
        shop.spends("slots", &[], 1);
    }
    assert!(!shop.asks("slots", &[], 1));
    shop.sees(&["peek", "slots"], &["key        (all) (we*ir:slots:)", "in flight  3 of 3", "when a request ends"]);
    shop.sees(&["list", "slots", "--limited"], &["0 of 3", "when a request ends", "1 of 1 buckets"]);
}

#[test]
fn peek_shows_each_window_and_the_longest_wait() {
    let Some(mut shop) = Shop::open() else { return };
    shop.spends("plan", &["acme"], 8);
    let told = [
        "window     100 a year (UTC)",
        "left       92 of 100",
        "tokens     2 of 10",
        "in flight  1 of 5",
        "3 tokens   in 1h",
    ];
    shop.sees(&["peek", "plan", "acme", "--cost", "3"], &told);
    shop.spends("plan", &["acme"], 2);
    shop.sees(&["peek", "plan", "acme"], &["left       90 of 100", "tokens     0 of 10", "in flight  2 of 5", "in 1h"]);
    for _ in 0..3 {
        shop.spends("plan", &["zenith"], 2);
    }
    shop.spends("plan", &["zenith"], 3);
    shop.spends("plan", &["zenith"], 1);
    shop.sees(&["peek", "plan", "zenith"], &["in flight  5 of 5", "1 token    when a request ends, and not within 1h"]);
    shop.sees(&["peek", "plan", "acme", "--cost", "11"], &["never: 11 tokens"]);
}

#[test]
fn peek_shows_how_long_a_shaped_request_would_be_held() {
    let Some(mut shop) = Shop::open() else { return };
    let mut attempts = 0..50;
    let (one, two) = loop {
        attempts.next().expect("two commands within 100 ms");
        shop.operator.types(&["reset", "shaped"]);
        let start = Instant::now();
        shop.spends("shaped", &[], 1);
        let one = shop.sees(&["peek", "shaped"], &[]);
        shop.spends("shaped", &[], 1);
        let two = shop.sees(&["peek", "shaped"], &[]);
        // Times are shown in tenths of seconds, rounded up.
        if start.elapsed() < Duration::from_millis(100) {
            break (one, two);
        }
    };
    for line in ["tokens     0 of 1", "full in    40s", "1 token    now, held for 40s"] {
        assert!(one.contains(line), "{line} in\n{one}");
    }
    for line in ["queue      40s", "full in    1m 20s", "1 token    in 20s"] {
        assert!(two.contains(line), "{line} in\n{two}");
    }
}

#[test]
fn an_override_of_the_rate_leaves_the_other_windows_in_force() {
    let Some(mut shop) = Shop::open() else { return };
    shop.spends("plan", &["acme"], 8);
    let told = shop.operator.types(&["set", "plan", "acme", "--rate", "1/1h", "--burst", "40"]);
    assert_eq!(told, "plan acme: 40 at once, then 1 per 1h\n");
    let seen = shop.sees(&["peek", "plan", "acme"], &["override   40 at once, then 1 per 1h", "left       92 of 100"]);
    assert!(
        seen.contains("in flight  1 of 5") && seen.contains("tokens     32 of 40") && !seen.contains(" of 10\n"),
        "{seen}"
    );
    let listed = shop.sees(&["list", "--limited"], &["92 of 100", " of 40", "4 of 5", "0 of 3 buckets"]);
    assert!(!listed.contains("2 of 10 "), "the bucket of the former rate is not in use: {listed}");

    shop.operator.types(&["unset", "plan", "acme"]);
    shop.sees(&["peek", "plan", "acme"], &["left       92 of 100", " of 10\n", "in flight  1 of 5"]);
}

#[test]
fn an_override_of_the_quota_keeps_the_time_zone_and_the_count() {
    let Some(mut shop) = Shop::open() else { return };
    shop.spends("quota", &["alice"], 40);
    assert_eq!(shop.operator.types(&["set", "quota", "alice", "--quota", "45/year"]), "quota alice: 45 a year\n");
    shop.sees(
        &["peek", "quota", "alice"],
        &["override   45 a year", "left       5 of 45", "limit      quota (50 a year"],
    );
    shop.operator.types(&["set", "quota", "alice", "--max", "41", "--for", "10h"]);
    shop.sees(&["peek", "quota", "alice"], &["override   41 a year (UTC+05:30), for 10h", "left       1 of 41"]);
    shop.sees(&["list", "--limited"], &["1 of 41"]);
    shop.operator.types(&["set", "quota", "alice", "--quota", "5/year"]);
    shop.sees(&["peek", "quota", "alice"], &["left       0 of 5", "1 token    in "]);
    assert_eq!(shop.operator.types(&["reset", "quota", "alice"]), "quota alice: deleted, so it is full\n");
    assert_eq!(shop.kept().len(), 3, "the override, its announcement, and the mark of the reset");
}

#[test]
fn max_sets_the_number_of_any_algorithm_and_one_command_sets_several_windows() {
    let Some(mut shop) = Shop::open() else { return };
    for (limit, key, own, told) in [
        ("exact", "alice", "of 50", "7 in any 10h, exact"),
        ("approximate", "alice", "of 50", "7 in any 3650d, approximate"),
        ("fixed", "alice", "of 50", "7 in each 3650d"),
        ("quota", "alice", "of 50", "7 a year (UTC+05:30)"),
    ] {
        shop.spends(limit, &[key], 3);
        shop.sees(&["peek", limit, key], &[own]);
        assert_eq!(shop.operator.types(&["set", limit, key, "--max", "7"]), format!("{limit} {key}: {told}\n"));
        shop.sees(&["peek", limit, key], &["left       4 of 7"]);
        shop.operator.types(&["unset", limit, key]);
    }
    assert_eq!(shop.operator.types(&["set", "slots", "--max", "9"]), "slots: 9 in flight, lease 1m\n");
    shop.sees(&["peek", "slots"], &["in flight  0 of 9"]);
    let both = ["set", "plan", "acme", "--rate", "20/1h", "--quota", "7/year"];
    assert_eq!(shop.operator.types(&both), "plan acme: 20 at once, then 1 per 3m; 7 a year\n");
    shop.sees(&["peek", "plan", "acme"], &["tokens     20 of 20", "left       7 of 7", "in flight  0 of 5"]);
    let json = r#"{"fixed_window": {"max_requests": 2, "window": "315360000s"}}"#;
    assert_eq!(shop.operator.types(&["set", "plan", "acme", json]), "plan acme: 2 in each 3650d\n");
    shop.sees(&["peek", "plan", "acme"], &["tokens     10 of 10", "left       100 of 100", "left       2 of 2"]);
}

#[test]
fn an_option_that_does_not_fit_the_limit_is_refused_with_the_options_that_do() {
    let Some(shop) = Shop::open() else { return };
    let told = |command: &[&str]| shop.operator.is_told(command);
    assert_eq!(
        told(&["set", "quota", "alice", "--rate", "5/s"]),
        "limit `quota`: expected --quota or --max, found --rate: the limit has 50 a year (UTC+05:30)"
    );
    assert_eq!(
        told(&["set", "slots", "--rate", "5/s", "--burst", "9"]),
        "limit `slots`: expected --max, found --rate: the limit has 3 in flight, lease 1m"
    );
    let ambiguous = told(&["set", "plan", "acme", "--max", "5"]);
    assert!(
        ambiguous
            .starts_with("limit `plan`: expected --quota, --rate or --times, found --max: the limit has 10 at once"),
        "{ambiguous}"
    );
    for text in ["10", "x/month", "-1/month", "10/fortnight"] {
        let quota = format!(
            "--quota: expected requests per minute, hour, day, week, month or year, such as 10/month or 500/day, found {text}"
        );
        assert_eq!(told(&["set", "quota", "alice", &format!("--quota={text}")]), quota);
    }
    let too_many = "limit `exact`: --max: expected at most 10000, found 10001: the limit has 50 in any 10h, exact";
    assert_eq!(told(&["set", "exact", "alice", "--max", "10001"]), too_many);
}

#[test]
fn an_override_of_zero_denies_every_request_and_is_shown() {
    let Some(mut shop) = Shop::open() else { return };
    shop.spends("quota", &["alice"], 40);
    shop.spends("plan", &["acme"], 8);
    let denied = "1 token    never: a limit of 0 denies every request";
    assert_eq!(shop.operator.types(&["set", "quota", "alice", "--quota", "0/year"]), "quota alice: 0 a year\n");
    shop.sees(&["peek", "quota", "alice"], &["override   0 a year", "left       0 of 0", denied]);
    assert_eq!(shop.operator.types(&["set", "plan", "acme", "--rate", "0/60s"]), "plan acme: 0 at once\n");
    shop.sees(&["peek", "plan", "acme"], &["left       0 of 0", "left       92 of 100", "in flight  1 of 5", denied]);
    let listed = shop.sees(&["list", "--limited"], &["92 of 100", "4 of 5"]);
    assert!(!listed.contains("10 of 50") && !listed.contains("NaN"), "{listed}");
    shop.operator.types(&["set", "slots", "--max", "0"]);
    shop.sees(&["peek", "slots"], &["left       0 of 0", denied]);
    shop.operator.types(&["unset", "quota", "alice"]);
    shop.sees(&["peek", "quota", "alice"], &["left       10 of 50", "1 token    now"]);
}

#[test]
fn reset_deletes_all_windows_of_a_key() {
    let Some(mut shop) = Shop::open() else { return };
    shop.spends("plan", &["acme"], 8);
    shop.spends("plan", &["zenith"], 8);
    assert_eq!(shop.kept().len(), 6);
    assert_eq!(shop.operator.types(&["reset", "plan", "acme"]), "plan acme: deleted, so it is full\n");
    let (marks, kept): (Vec<_>, Vec<_>) = shop.kept().into_iter().partition(|(key, _)| key.ends_with("#reset"));
    assert_eq!(marks.len(), 3, "workers do not heal what an operator has reset: {marks:?}");
    assert!(kept.len() == 3 && kept.iter().all(|(key, _)| key.starts_with("we*ir:plan:zenith#")), "{kept:?}");
    let nothing = "plan acme: there is no such bucket: it is full\n";
    assert_eq!(shop.operator.types(&["reset", "plan", "acme"]), nothing);
}

#[test]
fn the_list_shows_buckets_of_all_algorithms_and_skips_malformed_ones() {
    let Some(mut shop) = Shop::open() else { return };
    let long = "x".repeat(200);
    shop.spends("exact", &["a"], 10);
    shop.spends("quota", &["b"], 20);
    shop.spends("fixed", &[&long], 30);
    shop.spends("approximate", &["d"], 50);
    for n in 0..1_500 {
        shop.spends("quota", &[&format!("many-{n}")], 1);
    }
    let _: () = shop.operator.redis.set("we*ir:exact:strange#log36000000000", "x").unwrap();
    let _: () = shop.operator.redis.lpush("we*ir:quota:strange#year330", "x").unwrap();
    let _: () = shop.operator.redis.set("we*ir:quota:of-another-zone#year0", "0 50").unwrap();
    let _: () = shop.operator.redis.set("we*ir:quota:plain", "9999999999999999").unwrap();
    let _: () = shop.operator.redis.hset("we*ir:overrides", "quota", "shadow").unwrap();

    let listed =
        shop.sees(&["list", "--limited", "--top", "4"], &["1 of 1504 buckets that are not full admit nothing now"]);
    let place = |text: &str| listed.find(text).unwrap_or_else(|| panic!("{text} in\n{listed}"));
    let order = ["0 of 50", "20 of 50", "30 of 50", "40 of 50"].map(place);
    assert!(order.is_sorted(), "{listed}");
    assert!(listed.contains("#") && !listed.contains("many-") && !listed.contains("strange"), "{listed}");

    let strange = shop.operator.is_told(&["peek", "quota", "strange"]);
    assert!(
        strange.starts_with("we*ir:quota:strange: expected a bucket of this limit, found another kind"),
        "{strange}"
    );
}
