//! Setting: the value of one override, as it is stored in Redis.

use alloc::borrow::ToOwned;
use alloc::fmt;
use alloc::rc::Rc;
use alloc::string::{String, ToString};

use serde_json::{Map, Value};

use crate::config::{self, ConfigError};
use crate::limit::Replacement;
use crate::units::Micros;

/// Longest field, in bytes: no bucket key without its prefix is longer.
pub const MAX_FIELD: usize = 256;
/// Longest value, in bytes.
pub const MAX_VALUE: usize = 256;

/// The end of the year 9999, in seconds since 1970. Larger numbers are milliseconds given by mistake.
const MAX_UNTIL: u64 = 253_402_300_799;
/// Bytes of a value that an error repeats, at most.
const MAX_SHOWN: usize = 60;

const WORDS: &str = "unlimited, blocked, shadow or off";

/// Effect of an override on a limit, in place of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    /// Every request is admitted, without a check in Redis and without spending tokens.
    Unlimited,
    /// Every request is denied, without a check in Redis and without spending tokens.
    Blocked,
    /// The limit is in shadow mode: checked and counted, never enforced.
    Shadow,
    /// The limit is not checked, as if it were not configured.
    Off,
    /// Each window replaces the limit's configured window of the same kind. At least one, and at most one of each kind.
    Algorithms(Rc<[Replacement]>),
}

/// A ruling and its end.
///
/// The value in Redis is a bare word, `blocked`, or JSON: `{"is": "blocked", "until": 1795132800}`, or
/// `{"token_bucket": {"max_tokens": 20, "tokens_per_fill": 100, "fill_interval": "60s"}}`; also `sliding_window`,
/// `fixed_window`, `quota` and `concurrency`, each with the fields, forms and bounds of the configuration's windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The effect on the limit.
    pub ruling: Ruling,
    /// End in seconds since 1970, by Redis' clock. `None`: no end until it is unset.
    pub until: Option<u64>,
}

/// Error of a malformed setting. It repeats at most 60 bytes of the value, as printable ASCII.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// The value has more than [`MAX_VALUE`] bytes.
    #[error("expected a value of at most {MAX_VALUE} bytes, found a longer one")]
    TooLong,
    /// A part of the value is missing or has an unexpected form.
    #[error("{place}expected {expected}, found {found}")]
    Unexpected {
        /// The part, with a separator: `until: `; empty for the whole value.
        place: &'static str,
        /// The forms that the part can have.
        expected: &'static str,
        /// The part as found.
        found: String,
    },
    /// An unknown field or an invalid window: the first error found.
    #[error("{0}")]
    Window(ConfigError),
}

impl SettingError {
    /// Returns the error's text for a log, without any byte of the value.
    #[must_use]
    pub fn expected(&self) -> String {
        match self {
            Self::Unexpected { place, expected, .. } => format!("{place}expected {expected}"),
            Self::TooLong => self.to_string(),
            _ => "expected a value that `weir limits set` writes".to_owned(),
        }
    }
}

impl Setting {
    /// Parses a value of the hash.
    ///
    /// # Errors
    /// If the value has none of the forms that [`Setting`] lists.
    pub fn parse(value: &[u8]) -> Result<Self, SettingError> {
        if value.len() > MAX_VALUE {
            return Err(SettingError::TooLong);
        }
        if let Some(ruling) = Ruling::of_word(value.trim_ascii()) {
            return Ok(Self { ruling, until: None });
        }
        let json = serde_json::from_slice(value);
        match &json {
            Ok(object @ Value::Object(fields)) => Self::of_fields(object, fields),
            Ok(Value::String(word)) if let Some(ruling) = Ruling::of_word(word.as_bytes()) => {
                Ok(Self { ruling, until: None })
            }
            _ => {
                let expected = "unlimited, blocked, shadow, off, or a JSON object";
                Err(SettingError::Unexpected { place: "", expected, found: shown(value) })
            }
        }
    }

    /// Returns whether the setting has ended at `now`, in microseconds since 1970 by Redis' clock.
    #[must_use]
    pub fn is_over(&self, now: Micros) -> bool {
        self.until.is_some_and(|until| Micros::from_secs(until) <= now)
    }

    fn of_fields(value: &Value, fields: &Map<String, Value>) -> Result<Self, SettingError> {
        let windows = config::replacements(value).map_err(|errors| SettingError::Window(errors.into_first()))?;
        let ruling = match (fields.get("is"), windows.is_empty()) {
            (Some(word), true) => {
                let known = word.as_str().and_then(|word| Ruling::of_word(word.as_bytes()));
                known.ok_or_else(|| unexpected("is: ", WORDS, word))?
            }
            (None, false) => Ruling::Algorithms(windows.into()),
            (both, _) => {
                let found = if both.is_some() { "both" } else { "neither" }.to_owned();
                let expected = "is, or a window such as token_bucket";
                return Err(SettingError::Unexpected { place: "", expected, found });
            }
        };
        let until = fields.get("until").map(|until| {
            let seconds = until.as_u64().filter(|seconds| *seconds <= MAX_UNTIL);
            seconds.ok_or_else(|| unexpected("until: ", "seconds since 1970, before the year 10000", until))
        });
        Ok(Self { ruling, until: until.transpose()? })
    }
}

impl Ruling {
    fn of_word(word: &[u8]) -> Option<Self> {
        match word {
            b"unlimited" => Some(Self::Unlimited),
            b"blocked" => Some(Self::Blocked),
            b"shadow" => Some(Self::Shadow),
            b"off" => Some(Self::Off),
            _ => None,
        }
    }

    /// Returns the ruling's word; for windows, the kind of the first.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unlimited => "unlimited",
            Self::Blocked => "blocked",
            Self::Shadow => "shadow",
            Self::Off => "off",
            Self::Algorithms(windows) => windows.first().map_or("", |window| window.algorithm.kind().name()),
        }
    }
}

impl fmt::Display for Ruling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn unexpected(place: &'static str, expected: &'static str, found: &Value) -> SettingError {
    let found = if found.is_null() { "nothing".to_owned() } else { config::shown(found) };
    SettingError::Unexpected { place, expected, found }
}

/// Formats untrusted text for an error: at most 60 bytes, as printable ASCII.
fn shown(text: &[u8]) -> String {
    let more = if text.len() > MAX_SHOWN { "..." } else { "" };
    let plain = |byte: &u8| if matches!(byte, b' '..=b'~') { char::from(*byte) } else { '?' };
    text.iter().take(MAX_SHOWN).map(plain).chain(more.chars()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
        let value = r#"{"token_bucket": {"max_tokens": 20, "tokens_per_fill": 100, "fill_interval": "60s"}, "until": 1795132800}"#;
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

    /// Compares overrides with configured limits, for some hundred valid and invalid windows.
    #[test]
    fn an_override_accepts_exactly_the_windows_that_a_configured_limit_accepts() {
        let numbers = ["0", "1", "20.0", "4294967295", "4294967296", "4294967297", "-1", "1.5", "\"5\"", "null"];
        let times =
            ["60s", "0.05s", "0.000001s", "0.0000001s", "1.000001000s", "0s", "1m", "2251799813s", "9999999999s"];
        let mut windows_of_all = Vec::new();
        for number in numbers {
            for time in times {
                windows_of_all.extend([
                    format!(r#"{{"token_bucket": {{"max_tokens": {number}, "fill_interval": "{time}"}}}}"#),
                    format!(r#"{{"token_bucket": {{"max_tokens": 5, "tokens_per_fill": {number}, "fill_interval": "{time}"}}}}"#),
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
            ("{}", "expected is, or a window such as token_bucket, found neither"),
            (r#"{"is": "of"}"#, r#"is: expected unlimited, blocked, shadow or off, found "of""#),
            (
                r#"{"is": "off", "till": 1}"#,
                "till: unknown field, expected one of is, until, token_bucket, sliding_window, \
                 fixed_window, quota, concurrency",
            ),
            (
                r#"{"is": "off", "quota": {"max_requests": 1, "unit": "day"}}"#,
                "expected is, or a window such as token_bucket, found both",
            ),
            (
                r#"{"is": "off", "until": 1795132800000}"#,
                "until: expected seconds since 1970, before the year 10000, found 1795132800000",
            ),
            (r#"{"is": "off", "until": -1}"#, "until: expected seconds since 1970, before the year 10000, found -1"),
            (&rate("5"), "token_bucket: expected an object, found 5"),
            (&rate("{}"), "token_bucket.max_tokens: expected the bucket's capacity, found nothing"),
            (
                &rate(r#"{"max_tokens": 1, "fill_interval": "1m"}"#),
                r#"token_bucket.fill_interval: expected a duration such as "60s", found "1m""#,
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
}
