//! The tables of metrics and of causes have every metric that the filter defines, and no other.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use weir_filter::config;
use weir_filter::limiter::MetricNames;
use weir_filter::redis::Failure;

use crate::page::{Page, code};

/// First cells of the rows of all tables below a heading that are code.
fn listed(page: &str, heading: &str) -> BTreeSet<String> {
    let page = Page::read(page);
    let rows = page.rows().into_iter().filter(|row| row.heading == heading);
    rows.filter_map(|row| code(row.cells[0]).map(str::to_owned)).collect()
}

#[test]
fn the_table_of_metrics_has_all_metrics_of_the_filter_and_no_others() {
    let bucket = json!({"max_tokens": 5_000, "fill_interval": "1s"});
    let of = |limit: Value| {
        let usage = json!({"prices": [{"model": {"prefix": "gpt-"}, "input": 1}]});
        let json = json!({"redis": {"cluster": "redis"}, "usage": usage, "limits": [limit]}).to_string();
        MetricNames::of(&config::parse(json.as_bytes(), &|_| None).unwrap())
    };
    let quota = json!({"max_usd": 100, "unit": "month"});
    let of_money = of(json!({"name": "NAME", "descriptor": [], "charge": "cost", "quota": quota}));
    let MetricNames { mut counters, connected, round_trip } =
        of(json!({"name": "NAME", "descriptor": [], "charge": "total_tokens", "token_bucket": bucket}));
    counters.extend(of_money.counters);
    let causes = Failure::ALL.map(|cause| format!("weir.redis.{}", cause.name()));
    let others = counters.iter().cloned().chain([connected, round_trip]).filter(|name| !causes.contains(name));
    let defined: BTreeSet<String> = others.chain(["weir.redis.CAUSE".to_owned()]).collect();
    assert_eq!(listed("docs/src/operations.md", "Metrics"), defined);
    assert!(causes.iter().all(|cause| counters.contains(cause)), "each cause has a counter");
}

#[test]
fn the_table_of_failures_has_all_causes_of_the_filter_and_no_others() {
    let defined: BTreeSet<String> = Failure::ALL.map(|cause| format!("redis.{}", cause.name())).into();
    assert_eq!(listed("docs/src/guarantees.md", "Failures"), defined);
}
