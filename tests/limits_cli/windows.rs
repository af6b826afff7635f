//! The same of limits that are no token bucket, or several.

use redis::Commands;
use weir_filter::config::{self, Config};
use weir_filter::descriptor::bucket_key;
use weir_filter::limit::{Check, Holder};
use weir_filter::units::Tokens;
use weir_harness::provision::redis::RedisOptions;

use crate::operator::Operator;

/// Windows that nobody sees the end of.
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
    {"name": "places", "descriptor": [],
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

/// The operator, and what the proxies are configured with.
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

    /// A request that stays in flight; whether it is admitted.
    fn asks(&mut self, limit: &str, key: &[&str], cost: u64) -> bool {
        self.requests += 1;
        let limit = self.config.limits.iter().find(|known| known.name == limit).unwrap();
        let key = bucket_key("we*ir:", &limit.name, key);
        let asked = limit.windows.asked(0, key.as_slice(), Tokens(cost), true).collect();
        self.operator.decides(&Check::new(asked, Holder::new(1, self.requests))).admitted
    }

    fn spends(&mut self, limit: &str, key: &[&str], cost: u64) {
        assert!(self.asks(limit, key, cost), "{limit} {key:?} {cost}");
    }

    /// All that Redis keeps.
    fn kept(&mut self) -> Vec<(String, Vec<u8>)> {
        let mut keys: Vec<String> = self.operator.redis.keys("*").unwrap();
        keys.sort();
        let dump = |key: String| {
            let value = redis::cmd("DUMP").arg(&key).query(&mut self.operator.redis).unwrap();
            (key, value)
        };
        keys.into_iter().map(dump).collect()
    }

    /// What the operator sees, for which nothing has changed.
    #[track_caller]
    fn sees(&mut self, command: &[&str], lines: &[&str]) -> String {
        let before = self.kept();
        let seen = self.operator.types(command);
        assert_eq!(self.kept(), before, "nothing is spent by {command:?}");
        for line in lines {
            assert!(seen.contains(line), "{line} in\n{seen}");
        }
        seen
    }
}

#[test]
fn the_list_tells_each_way_of_admitting_in_words() {
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
fn what_is_left_is_seen_whatever_counts_it() {
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
fn requests_in_flight_are_counted_and_nobody_knows_when_they_end() {
    let Some(mut shop) = Shop::open() else { return };
    shop.sees(&["peek", "places"], &["in flight  0 of 3", "1 token    now"]);
    for _ in 0..3 {
        shop.spends("places", &[], 1);
    }
    assert!(!shop.asks("places", &[], 1));
    shop.sees(&["peek", "places"], &["key        (all) (we*ir:places:)", "in flight  3 of 3", "when a request ends"]);
    shop.sees(&["list", "places", "--limited"], &["0 of 3", "when a request ends", "1 of 1 buckets"]);
}

#[test]
fn each_window_is_seen_and_a_request_waits_for_all() {
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
fn a_shaped_bucket_tells_how_long_a_request_would_be_held() {
    let Some(mut shop) = Shop::open() else { return };
    shop.spends("shaped", &[], 1);
    shop.sees(&["peek", "shaped"], &["tokens     0 of 1", "full in    40s", "1 token    now, held for 40s"]);
    shop.spends("shaped", &[], 1);
    shop.sees(&["peek", "shaped"], &["queue      40s", "full in    1m 20s", "1 token    in 20s"]);
}

#[test]
fn while_a_rate_is_set_its_own_bucket_is_seen() {
    let Some(mut shop) = Shop::open() else { return };
    shop.spends("plan", &["acme"], 8);
    shop.operator.types(&["set", "plan", "acme", "--rate", "4/1h"]);
    shop.operator.spends("we*ir:plan:acme", (4, 900_000_000), 3);
    let seen = shop.sees(&["peek", "plan", "acme"], &["override   4 at once, then 1 per 15m", "tokens     1 of 4"]);
    assert!(!seen.contains("92 of 100") && !seen.contains("in flight  "), "{seen}");
    let listed = shop.sees(&["list", "--limited"], &["1 of 4", "0 of 1 buckets"]);
    assert!(!listed.contains("92 of 100"), "nobody asks there for now: {listed}");

    shop.operator.types(&["unset", "plan", "acme"]);
    shop.sees(&["peek", "plan", "acme"], &["left       92 of 100", "tokens     2 of 10"]);
    let listed = shop.sees(&["list", "--limited"], &["92 of 100", "2 of 10", "4 of 5", "0 of 3 buckets"]);
    assert!(!listed.contains("1 of 4"), "nobody asks there any more: {listed}");
}

#[test]
fn a_reset_deletes_whatever_is_kept_of_a_key() {
    let Some(mut shop) = Shop::open() else { return };
    shop.spends("plan", &["acme"], 8);
    shop.spends("plan", &["zenith"], 8);
    shop.operator.spends("we*ir:plan:acme", (4, 900_000_000), 3);
    assert_eq!(shop.kept().len(), 7);
    assert_eq!(shop.operator.types(&["reset", "plan", "acme"]), "plan acme: deleted, so it is full\n");
    let kept = shop.kept();
    assert!(kept.len() == 3 && kept.iter().all(|(key, _)| key.starts_with("we*ir:plan:zenith#")), "{kept:?}");
    let nothing = "plan acme: there is no such bucket: it is full\n";
    assert_eq!(shop.operator.types(&["reset", "plan", "acme"]), nothing);
}

#[test]
fn buckets_of_all_kinds_are_listed_the_emptiest_first_and_others_pass() {
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
