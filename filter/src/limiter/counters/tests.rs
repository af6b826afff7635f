//! Tests of the names of counters, and of what counts under them.

use super::*;
use crate::config;

#[test]
fn every_counter_counts_under_its_own_name() {
    let json = r#"{"redis": {"cluster": "redis"}, "limits": [{"name": "one",
        "token_bucket": {"max_tokens": 1, "fill_interval": "1s"}, "descriptor": []}]}"#;
    let config = config::parse(json.as_bytes(), &|_| None).unwrap();
    type Count = fn(&mut Counters);
    let count: [(&str, Count); 9] = [
        ("weir.crowd.denied", Counters::crowd_denied),
        ("weir.deny_cache.hits", Counters::deny_cache_hit),
        ("weir.leases.hits", Counters::lease_hit),
        ("weir.overrides.ignored", Counters::override_ignored),
        ("weir.events.dropped", |counters| counters.events_dropped(1)),
        ("weir.body.unreadable", Counters::body_unreadable),
        ("weir.local.admitted", |counters| counters.decided_locally(None, true)),
        ("weir.local.denied", |counters| counters.decided_locally(None, false)),
        ("weir.heal.buckets", |counters| counters.healed(1)),
    ];
    let names = Counters::names(&config);
    for (name, count) in count {
        let mut counters = Counters::new(&config);
        count(&mut counters);
        let gained: Vec<_> = counters.take().map(|(index, gained)| (names[index].as_str(), gained)).collect();
        assert_eq!(gained, [(name, 1)]);
    }
}

#[test]
fn each_limit_that_charges_counts_its_amounts() {
    let json = r#"{"redis": {"cluster": "redis"}, "usage": {"prices": [{"model": {"prefix": "a"}, "input": 1}]},
        "limits": [
        {"name": "one", "descriptor": [], "charge": "cost", "fixed_window": {"max_usd": 9, "window": "1s"}},
        {"name": "two", "descriptor": [], "fixed_window": {"max_requests": 9, "window": "1s"}},
        {"name": "three", "descriptor": [], "charge": "output_tokens",
            "fixed_window": {"max_tokens": 9000, "window": "1s"}}]}"#;
    let config = config::parse(json.as_bytes(), &|_| None).unwrap();
    let (names, mut counters) = (Counters::names(&config), Counters::new(&config));
    (0..4).for_each(|limit| counters.charged(limit, 5 + limit as u64));
    let gained: Vec<_> = counters.take().map(|(index, gained)| (names[index].as_str(), gained)).collect();
    assert_eq!(gained, [("weir.limit.one.cost_nano_usd", 5), ("weir.limit.three.tokens", 7)]);
}

#[test]
fn counters_of_usage_are_only_those_of_limits_that_charge() {
    let names = |window: &str| {
        let json = format!(
            r#"{{"redis": {{"cluster": "redis"}}, "limits": [{{"name": "one", "descriptor": [], {window}}}]}}"#
        );
        let names = Counters::names(&config::parse(json.as_bytes(), &|_| None).unwrap());
        assert!(names.iter().all(|name| !name.ends_with('.')), "{names:?}");
        names.iter().filter(|name| name.starts_with("weir.usage.")).count()
    };
    assert_eq!(names(r#""fixed_window": {"max_requests": 9, "window": "1s"}"#), 0);
    let charge = r#""charge": "output_tokens", "fixed_window": {"max_tokens": 9000, "window": "1s"}"#;
    assert_eq!(names(charge), USAGES.len());
}

#[test]
fn nothing_is_reported_where_nothing_was_counted() {
    let json = r#"{"redis": {"cluster": "redis"}, "limits": [{"name": "one", "descriptor": [],
        "token_bucket": {"max_tokens": 1, "fill_interval": "1s"}}]}"#;
    let mut counters = Counters::new(&config::parse(json.as_bytes(), &|_| None).unwrap());
    assert!(!counters.has_marks() && !counters.has_near_limits());
    counters.events_dropped(0);
    assert!(!counters.is_dirty() && counters.take().next().is_none());
    counters.events_dropped(1);
    assert!(counters.is_dirty() && counters.take().next().is_some() && !counters.is_dirty());
}
