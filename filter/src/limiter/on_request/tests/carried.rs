//! Tests of limits whose numbers requests carry, with overrides.

use super::*;
use crate::limit::Kind;
use crate::limiter::pending::CheckSeries;

const NOW: Micros = Micros::from_secs(9);

fn config() -> Config {
    let number = |name: &str| format!(r#"{{"request_header": {{"name": "{name}", "default": 10, "max": 100}}}}"#);
    let json = format!(
        r#"{{"redis": {{"cluster": "redis", "key_prefix": ""}}, "limits": [
            {{"name": "fixed", "descriptor": [], "quota": {{"max_requests": 3, "unit": "day"}}}},
            {{"name": "plan", "descriptor": [],
              "token_bucket": {{"max_tokens": {}, "tokens_per_fill": {}, "fill_interval": "60s"}}}}]}}"#,
        number("x-max"),
        number("x-fill")
    );
    config::parse(json.as_bytes(), &|_| None).unwrap()
}

fn known(of_keys: &mut KeyOverrides, probes: bool) -> KnownOverrides<'_> {
    KnownOverrides { of_limits: None, of_keys: Some(of_keys), probes }
}

/// Capacity of the limit `plan` while Redis has told this override of its key, and whether a request with `max` in its
/// header is blocked or Redis is asked first.
fn plan(told: Option<&str>, max: &str, probes: bool) -> String {
    let (config, mut of_keys) = (config(), KeyOverrides::new(""));
    if let Some(text) = told {
        of_keys.tell(NOW, None, b"plan:", text.as_bytes()).unwrap();
    }
    let request = Request::default().header("x-max", max);
    let mut carried = Vec::new();
    let checks =
        checks_of(&config, known(&mut of_keys, probes), NOW, &request, &mut carried, &mut Estimates::default())
            .unwrap();
    assert_eq!(carried.iter().map(|numbers| numbers.limit).collect::<Vec<_>>(), [1]);
    let shown = |checks: &RequestChecks| match checks {
        RequestChecks::Buckets(buckets, _) => {
            let own = buckets.iter().find(|check| check.limit == 1);
            own.map_or("none".to_owned(), |check| {
                assert_eq!((check.key.as_slice(), check.algorithm.kind()), (&b"plan:"[..], Kind::TokenBucket));
                check.algorithm.limit().0.to_string()
            })
        }
        RequestChecks::Blocked(denial) => format!("blocked by {}", denial.outcome.capacity.0),
        RequestChecks::Probe { asks, rest, .. } => format!("asks about {}, not about {}", asks.len(), rest.len()),
    };
    // A check after Redis has told other overrides has the numbers of the same request.
    if let RequestChecks::Buckets(buckets, _) = &checks
        && buckets.len() == 2
    {
        let again = checks_again(&config, known(&mut of_keys, probes), NOW, buckets.iter(), &carried);
        assert_eq!(again, checks);
    }
    shown(&checks)
}

#[test]
fn a_request_has_the_number_that_it_carries() {
    assert_eq!(plan(None, "42", true), "42");
    assert_eq!(plan(None, "-1", true), "10");
    assert_eq!(plan(None, "4200", true), "100");
}

#[test]
fn an_override_goes_before_the_number_of_a_request() {
    assert_eq!(plan(Some(r#"{"max": 7}"#), "42", true), "7");
    assert_eq!(plan(Some(r#"{"times": 2}"#), "42", true), "84");
    let bucket = r#"{"token_bucket": {"max_tokens": 8, "fill_interval": "1s"}}"#;
    assert_eq!(plan(Some(bucket), "42", true), "8");
    assert_eq!(plan(Some("unlimited"), "42", true), "none");
    assert_eq!(plan(Some("blocked"), "42", true), "blocked by 42");
}

#[test]
fn an_override_replaces_a_zero_that_a_request_carries() {
    assert_eq!(plan(Some(r#"{"max": 7}"#), "0", true), "7");
    let bucket = r#"{"token_bucket": {"max_tokens": 8, "fill_interval": "1s"}}"#;
    assert_eq!(plan(Some(bucket), "0", true), "8");
    assert_eq!(plan(Some(r#"{"times": 2}"#), "0", true), "blocked by 0");
    assert_eq!(plan(Some(r#"{"quota": {"max_requests": 5, "unit": "day"}}"#), "0", true), "blocked by 0");
}

/// The key may have an override that the worker does not know.
#[test]
fn redis_is_asked_about_a_key_before_a_zero_blocks_it() {
    assert_eq!(plan(None, "0", true), "asks about 1, not about 1");
    assert_eq!(plan(None, "0", false), "blocked by 0");
    assert_eq!(plan(Some(""), "0", true), "blocked by 0", "Redis has told that there is none");
}

#[test]
fn where_keys_have_no_overrides_a_zero_blocks_without_a_question_to_redis() {
    let known = KnownOverrides { of_limits: None, of_keys: None, probes: true };
    let request = Request::default().header("x-max", "0");
    let checks = checks_of(&config(), known, NOW, &request, &mut Vec::new(), &mut Estimates::default());
    assert!(matches!(checks, Ok(RequestChecks::Blocked(_))), "{checks:?}");
}

#[test]
fn a_configured_zero_blocks_a_key_without_a_question_to_redis() {
    let json = r#"{"redis": {"cluster": "redis", "key_prefix": ""}, "limits": [
        {"name": "none", "descriptor": [], "quota": {"max_requests": 0, "unit": "day"}}]}"#;
    let config = config::parse(json.as_bytes(), &|_| None).unwrap();
    let mut of_keys = KeyOverrides::new("");
    let checks = checks_of(
        &config,
        known(&mut of_keys, true),
        NOW,
        &Request::default(),
        &mut Vec::new(),
        &mut Estimates::default(),
    );
    assert!(matches!(checks, Ok(RequestChecks::Blocked(_))), "{checks:?}");
}

#[test]
fn the_numbers_of_a_request_are_kept_for_its_next_check() {
    let (config, mut of_keys, mut carried) = (config(), KeyOverrides::new(""), Vec::new());
    let request = Request::default().header("x-max", "42");
    assert!(
        checks_of(&config, known(&mut of_keys, true), NOW, &request, &mut carried, &mut Estimates::default()).is_ok()
    );
    let series = CheckSeries::of(carried);
    assert_eq!(series.carried.iter().map(|numbers| numbers.limit).collect::<Vec<_>>(), [1]);
}
