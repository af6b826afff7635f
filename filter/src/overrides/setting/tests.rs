//! Tests of settings, as operators write them.

use core::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::json;

use super::*;
use crate::limit::Algorithm;

fn parse(value: &str) -> Result<Setting, String> {
    Setting::parse(value.as_bytes()).map_err(|error| error.to_string())
}

#[test]
fn a_bare_word_is_enough() {
    let blocked = Setting { ruling: Ruling::Blocked, until: None };
    for value in ["blocked", " blocked\n", "\"blocked\"", r#"{"is": "blocked"}"#] {
        assert_eq!(parse(value), Ok(blocked.clone()), "{value}");
    }
    for (word, ruling) in [("unlimited", Ruling::Unlimited), ("shadow", Ruling::Shadow), ("off", Ruling::Off)] {
        assert_eq!(parse(word).unwrap().ruling, ruling);
        assert_eq!(ruling.name(), word);
    }
}

/// Returns the windows of an override.
fn windows(value: &str) -> Vec<Replacement> {
    match parse(value).unwrap().ruling {
        Ruling::Algorithms(windows) => windows.to_vec(),
        other => panic!("{other}"),
    }
}

/// Returns the algorithms of a configured limit with this window.
fn configured(window: &str) -> Result<Vec<Algorithm>, String> {
    let limit = format!(r#"{{"name": "a", "descriptor": [], "windows": [{window}]}}"#);
    let config = format!(r#"{{"redis": {{"cluster": "redis"}}, "limits": [{limit}]}}"#);
    let parsed = config::parse(config.as_bytes(), &|_| None).map_err(|errors| errors.to_string())?;
    Ok(parsed.limits.iter().flat_map(|limit| limit.windows.algorithms().copied()).collect())
}

#[test]
fn a_rate_is_set_until_a_date() {
    let value =
        r#"{"token_bucket": {"max_tokens": 20, "tokens_per_fill": 100, "fill_interval": "60s"}, "until": 1795132800}"#;
    assert_eq!(parse(value).unwrap().until, Some(1_795_132_800));
    let Algorithm::TokenBucket(bucket) = windows(value)[0].algorithm else { panic!("no rate") };
    assert_eq!((bucket.capacity().0, bucket.fill_time()), (20, Micros::from_secs(12)));
}

#[test]
fn a_rate_has_the_bounds_of_a_configured_rate() {
    for (value, fill_time) in [
        (r#"{"token_bucket": {"max_tokens": 1, "fill_interval": "0.05s"}}"#, Micros(50_000)),
        (
            r#"{"token_bucket": {"max_tokens": 60000000, "tokens_per_fill": 50000000, "fill_interval": "60s"}}"#,
            Micros::from_secs(72),
        ),
        (r#"{"token_bucket": {"max_tokens": 10, "tokens_per_fill": 5, "fill_interval": "0.000001s"}}"#, Micros(2)),
    ] {
        let Algorithm::TokenBucket(bucket) = windows(value)[0].algorithm else { panic!("no rate") };
        assert_eq!(bucket.fill_time(), fill_time, "{value}");
    }
}

#[test]
fn several_windows_are_set_at_once() {
    let set = windows(
        r#"{"quota": {"max_requests": 10, "unit": "month"}, "concurrency": {"max_requests": 3, "lease": "5s"},
            "token_bucket": {"max_tokens": 1, "fill_interval": "60s"}}"#,
    );
    let kinds: Vec<_> = set.iter().map(|window| (window.algorithm.kind().name(), window.inherits)).collect();
    assert_eq!(kinds, [("token_bucket", false), ("quota", true), ("concurrency", false)]);
}

/// JSON of a token bucket, often valid: any of its fields may be absent, of another type or out of bounds.
fn token_buckets() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        8 => (1_u64..100_000).prop_map(Value::from),
        2 => (0_u32..1_000).prop_map(|whole| Value::from(f64::from(whole))),
        2 => (4_294_967_293_u64..=4_294_967_297).prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => prop_oneof![Just(Value::Null), Just("5".into()), Just(json!([1]))],
    ];
    let time = prop_oneof![
        8 => r"[0-9]{1,4}(\.[0-9]{1,9})?s",
        4 => r"[0-9]{1,3}\.[0-9]{1,6}0{0,3}s",
        2 => r"[+-]?[0-9]{0,12}\.?[0-9]{0,11}(s|ms|m| s)?",
        1 => Just("4503599627s".to_owned()),
        1 => Just("4503599628s".to_owned()),
    ];
    let field = |strategy: BoxedStrategy<Value>| proptest::option::weighted(0.95, strategy);
    let unknown = proptest::option::weighted(0.05, Just(Value::Bool(true)));
    let per_fill = proptest::option::of(number.clone());
    (field(number.boxed()), per_fill, field(time.prop_map(Value::from).boxed()), unknown).prop_map(
        |(max_tokens, tokens_per_fill, fill_interval, burst)| {
            let fields = [
                ("max_tokens", max_tokens),
                ("tokens_per_fill", tokens_per_fill),
                ("fill_interval", fill_interval),
                ("burst", burst),
            ];
            fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect::<Map<_, _>>().into()
        },
    )
}

#[test]
fn an_override_accepts_exactly_the_token_buckets_that_a_limit_accepts() {
    let (accepted, refused) = (Cell::new(0), Cell::new(0));
    let mut runner = TestRunner::deterministic();
    let compared = runner.run(&token_buckets(), |bucket| {
        let limit = json!({"name": "a", "descriptor": [], "token_bucket": bucket});
        let config = json!({"redis": {"cluster": "redis"}, "limits": [limit]});
        let setting = json!({"token_bucket": bucket}).to_string();
        match (config::parse(config.to_string().as_bytes(), &|_| None), parse(&setting)) {
            (Ok(config), Ok(_)) => {
                let own: Vec<_> = config.limits[0].windows.algorithms().copied().collect();
                let set: Vec<_> = windows(&setting).iter().map(|window| window.algorithm).collect();
                prop_assert_eq!(own, set);
                accepted.set(accepted.get() + 1);
            }
            (Err(errors), Err(error)) => {
                prop_assert_eq!(errors.first().to_string(), format!("limits[0].{error}"));
                refused.set(refused.get() + 1);
            }
            (own, set) => prop_assert!(false, "limit: {:?}, override: {:?}", own, set),
        }
        Ok(())
    });
    compared.unwrap();
    assert!(accepted.get() > 50 && refused.get() > 50, "{} accepted, {} refused", accepted.get(), refused.get());
}

/// Compares overrides with configured limits, for some hundred valid and invalid windows.
#[test]
fn an_override_accepts_exactly_the_windows_that_a_configured_limit_accepts() {
    let numbers = ["0", "1", "20.0", "4294967295", "4294967296", "4294967297", "-1", "1.5", "\"5\"", "null"];
    let times = ["60s", "0.05s", "0.000001s", "0.0000001s", "1.000001000s", "0s", "1m", "2251799813s", "9999999999s"];
    let mut windows_of_all = Vec::new();
    for number in numbers {
        for time in times {
            windows_of_all.extend([
                format!(r#"{{"token_bucket": {{"max_tokens": {number}, "fill_interval": "{time}"}}}}"#),
                format!(
                    r#"{{"token_bucket": {{"max_tokens": 5, "tokens_per_fill": {number}, "fill_interval": "{time}"}}}}"#
                ),
                format!(r#"{{"sliding_window": {{"max_requests": {number}, "window": "{time}"}}}}"#),
                format!(r#"{{"sliding_window": {{"max_requests": {number}, "window": "{time}", "mode": "exact"}}}}"#),
                format!(r#"{{"fixed_window": {{"max_requests": {number}, "window": "{time}"}}}}"#),
                format!(r#"{{"concurrency": {{"max_requests": {number}, "lease": "{time}"}}}}"#),
            ]);
        }
        for offset in ["Z", "+05:30", "-14:00", "+14:01", "CET"] {
            windows_of_all.push(format!(
                r#"{{"quota": {{"max_requests": {number}, "unit": "month", "utc_offset": "{offset}"}}}}"#
            ));
        }
    }
    let mut accepted = 0;
    for window in windows_of_all {
        match (configured(&window), parse(&window)) {
            (Ok(own), Ok(_)) => {
                let set: Vec<_> = windows(&window).iter().map(|window| window.algorithm).collect();
                assert_eq!(set, own, "{window}");
                accepted += 1;
            }
            (Err(own), Err(error)) => {
                let first = own.lines().next().unwrap();
                assert_eq!(format!("limits[0].windows[0].{error}"), first, "{window}");
            }
            (own, set) => panic!("{window}: {own:?}, {set:?}"),
        }
    }
    assert!(accepted > 100, "{accepted}");
}

#[test]
fn numbers_of_all_windows_are_replaced_or_multiplied() {
    let ruling = |text: &str| parse(text).unwrap().ruling;
    assert_eq!(ruling(r#"{"max": 10}"#), Ruling::Scaled(Scale::Max(10)));
    assert_eq!(ruling(r#"{"max": 10.0, "reason": "a sale", "by": "carol"}"#), Ruling::Scaled(Scale::Max(10)));
    for (text, factor) in [("2", 2.0), ("0.5", 0.5), ("1.1", 1.1), ("0", 0.0)] {
        let times = Scale::Times(Factor::new(factor).unwrap());
        assert_eq!(ruling(&format!(r#"{{"times": {text}}}"#)), Ruling::Scaled(times));
    }
}

#[test]
fn a_setting_ends_at_its_until() {
    let setting = parse(r#"{"is": "off", "until": 100}"#).unwrap();
    assert!(!setting.is_over(Micros(99_999_999)) && setting.is_over(Micros::from_secs(100)));
    assert!(!parse("off").unwrap().is_over(Micros(u64::MAX)));
}

#[test]
fn an_error_names_the_part_what_was_expected_and_what_was_found() {
    let rate = |fields: &str| format!(r#"{{"token_bucket": {fields}}}"#);
    let cases = [
        ("", "expected unlimited, blocked, shadow, off, or a JSON object, found "),
        ("Blocked", "expected unlimited, blocked, shadow, off, or a JSON object, found Blocked"),
        ("[]\u{1b}", "expected unlimited, blocked, shadow, off, or a JSON object, found []?"),
        ("{}", "expected one of is, max, times, and windows such as token_bucket, found none"),
        (r#"{"is": "of"}"#, r#"is: expected unlimited, blocked, shadow or off, found "of""#),
        (
            r#"{"is": "off", "till": 1}"#,
            "till: unknown field, expected one of is, max, times, until, reason, by, token_bucket, \
             sliding_window, fixed_window, quota, concurrency",
        ),
        (
            r#"{"is": "off", "quota": {"max_requests": 1, "unit": "day"}}"#,
            "expected one of is, max, times, and windows such as token_bucket, found several",
        ),
        (
            r#"{"max": 1, "times": 2}"#,
            "expected one of is, max, times, and windows such as token_bucket, found several",
        ),
        (r#"{"max": 4294967297}"#, "max: expected an integer from 0 to 4294967296, found 4294967297"),
        (r#"{"max": 1.5}"#, "max: expected an integer from 0 to 4294967296, found 1.5"),
        (r#"{"times": 1001}"#, "times: expected a number from 0 to 1000 with at most six decimals, found 1001"),
        (r#"{"times": "2"}"#, r#"times: expected a number from 0 to 1000 with at most six decimals, found "2""#),
        (r#"{"is": "off", "reason": 5}"#, "reason: expected a text, found 5"),
        (r#"{"is": "off", "by": ["x"]}"#, "by: expected a text, found a list of 1"),
        (
            r#"{"is": "off", "until": 1795132800000}"#,
            "until: expected seconds since 1970, before the year 10000, found 1795132800000",
        ),
        (r#"{"is": "off", "until": -1}"#, "until: expected seconds since 1970, before the year 10000, found -1"),
        (&rate("5"), "token_bucket: expected an object, found 5"),
        (&rate("{}"), "token_bucket.max_tokens: expected the bucket's capacity, found nothing"),
        (
            &rate(r#"{"max_tokens": 1, "fill_interval": "1 m"}"#),
            r#"token_bucket.fill_interval: expected a duration such as "60s", "15m" or "1h30m", found "1 m""#,
        ),
        (
            &rate(r#"{"max_tokens": 0, "tokens_per_fill": 0, "fill_interval": "60s"}"#),
            "token_bucket.tokens_per_fill: expected an integer from 1 to 4294967295 (a max_tokens of 0 blocks \
             every request), found 0",
        ),
        (
            r#"{"quota": {"max_requests": 10, "unit": "fortnight"}}"#,
            r#"quota.unit: expected "minute" or "hour" or "day" or "week" or "month" or "year", found "fortnight""#,
        ),
        (
            &rate(r#"{"max_tokens": 4000000000, "fill_interval": "3600s"}"#),
            "token_bucket: expected a bucket that fills within 142 years, found 4000000000 tokens of 3600000000 µs each",
        ),
    ];
    for (value, error) in cases {
        assert_eq!(parse(value), Err(error.to_owned()), "{value}");
    }
    assert_eq!(Setting::parse(&[b' '; MAX_VALUE + 1]), Err(SettingError::TooLong));
}

proptest! {
    #[test]
    fn no_value_is_too_strange(value in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Setting::parse(&value);
    }

    #[test]
    fn no_json_is_too_strange(value in r#"\{"(is|until|token_bucket|quota)": ?("[a-z]{0,4}"|-?[0-9.e]{1,24}|\{"(max_tokens|fill_interval|unit)": ?"?[0-9.s]{0,24}"?\}|null)\}"#) {
        if let Err(error) = Setting::parse(value.as_bytes()) {
            prop_assert!(error.to_string().len() < 400);
        }
    }
}

#[test]
fn numbers_are_of_the_units_of_their_limit() {
    let quota = |number: &str| format!(r#"{{"quota": {{{number}, "unit": "day"}}}}"#);
    let [requests, tokens, usd] = [r#""max_requests": 5"#, r#""max_tokens": 5"#, r#""max_usd": 5"#].map(quota);
    let bucket = r#"{"token_bucket": {"max_tokens": 5, "fill_interval": "1s"}}"#;
    let slots = r#"{"concurrency": {"max_requests": 5}}"#;
    let both = r#"{"quota": {"max_usd": 5, "unit": "day"}, "fixed_window": {"max_tokens": 5, "window": "1s"}}"#;
    for (value, misfits) in [
        ("blocked", [None; 3]),
        (r#"{"times": 0.5}"#, [None; 3]),
        (r#"{"max": 5}"#, [None, None, Some("max")]),
        (requests.as_str(), [None, None, Some("max_requests")]),
        (&tokens, [Some("max_tokens"), None, Some("max_tokens")]),
        (&usd, [Some("max_usd"), Some("max_usd"), None]),
        (bucket, [None, None, Some("token_bucket")]),
        (slots, [None, Some("concurrency"), Some("concurrency")]),
        (both, [Some("max_tokens"), Some("max_usd"), Some("max_tokens")]),
    ] {
        for (unit, misfit) in [Unit::Requests, Unit::Tokens, Unit::NanoUsd].into_iter().zip(misfits) {
            let found = Setting::parse_for(value.as_bytes(), unit).err().map(|error| error.to_string());
            assert_eq!(found.is_some(), misfit.is_some(), "{value} {unit:?}: {found:?}");
            if let Some((found, misfit)) = found.zip(misfit) {
                assert!(found.ends_with(&format!(", found {misfit}")), "{value} {unit:?}: {found}");
            }
        }
    }
}
