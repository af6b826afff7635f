//! One override as it is written in Redis.

use alloc::borrow::ToOwned;
use alloc::fmt;
use alloc::string::{String, ToString};
use core::num::NonZeroU64;

use serde_json::{Map, Value};

use crate::config;
use crate::limit::{TokenBucket, TokenBucketError};
use crate::units::Micros;

/// The longest field, in bytes: no key of a bucket is longer without its prefix.
pub const MAX_FIELD: usize = 256;
/// The longest value, in bytes.
pub const MAX_VALUE: usize = 256;

/// The end of the year 9999: later ones are milliseconds that somebody took for seconds.
const MAX_UNTIL: u64 = 253_402_300_799;
/// Envoy's `TokenBucket` counts in `uint32`.
const MAX_TOKENS: u64 = u32::MAX as u64;
/// The most bytes of a value that an error repeats.
const MAX_SHOWN: usize = 60;

const WORDS: &str = "unlimited, blocked, shadow or off";

/// What holds in place of what is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// Every request is admitted, and nothing is asked or spent.
    Unlimited,
    /// Every request is denied, and nothing is asked or spent.
    Blocked,
    /// The limit is in shadow mode: decided and counted, never enforced.
    Shadow,
    /// The limit does not exist.
    Off,
    /// The bucket has this shape.
    TokenBucket(TokenBucket),
}

/// A ruling, and until when it holds.
///
/// In Redis it is a bare word, `blocked`, or JSON: `{"is": "blocked", "until": 1795132800}`, or
/// `{"token_bucket": {"max_tokens": 20, "tokens_per_fill": 100, "fill_interval": "60s"}}` with the fields and bounds
/// of a limit's own `token_bucket`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// What holds.
    pub ruling: Ruling,
    /// Seconds since 1970 by Redis' clock. `None`: until it is unset.
    pub until: Option<u64>,
}

/// Why a value is no setting. What it repeats of the value is short, and printable ASCII.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// More bytes than a setting has.
    #[error("expected a value of at most {MAX_VALUE} bytes, found a longer one")]
    TooLong,
    /// Another value than this place takes.
    #[error("{place}expected {expected}, found {found}")]
    Unexpected {
        /// Where in the value: `until: `, or nothing for the whole.
        place: &'static str,
        /// What this place takes.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// A token bucket that cannot be.
    #[error("token_bucket: {0}")]
    TokenBucket(#[from] TokenBucketError),
}

impl SettingError {
    /// The same for a log, where nothing of the value may be repeated.
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
    /// Reads a value of the hash.
    ///
    /// # Errors
    /// Where it is none; see the type for its forms.
    pub fn parse(value: &[u8]) -> Result<Self, SettingError> {
        if value.len() > MAX_VALUE {
            return Err(SettingError::TooLong);
        }
        if let Some(ruling) = Ruling::of_word(value.trim_ascii()) {
            return Ok(Self { ruling, until: None });
        }
        match serde_json::from_slice(value) {
            Ok(Value::Object(fields)) => Self::of_fields(&fields),
            Ok(Value::String(word)) if let Some(ruling) = Ruling::of_word(word.as_bytes()) => {
                Ok(Self { ruling, until: None })
            }
            _ => {
                let expected = "unlimited, blocked, shadow, off, or a JSON object";
                Err(SettingError::Unexpected { place: "", expected, found: shown(value) })
            }
        }
    }

    /// Whether it no longer holds at `now`, in microseconds since 1970 by Redis' clock.
    #[must_use]
    pub fn is_over(&self, now: Micros) -> bool {
        self.until.is_some_and(|until| Micros::from_secs(until) <= now)
    }

    fn of_fields(fields: &Map<String, Value>) -> Result<Self, SettingError> {
        only(fields, "", "no fields but is, token_bucket and until", &["is", "token_bucket", "until"])?;
        let ruling = match (fields.get("is"), fields.get("token_bucket")) {
            (Some(word), None) => {
                let known = word.as_str().and_then(|word| Ruling::of_word(word.as_bytes()));
                known.ok_or_else(|| unexpected("is: ", WORDS, word))?
            }
            (None, Some(Value::Object(fields))) => Ruling::TokenBucket(token_bucket(fields)?),
            (None, Some(other)) => return Err(unexpected("token_bucket: ", "an object", other)),
            (both, _) => {
                let found = if both.is_some() { "both" } else { "neither" }.to_owned();
                return Err(SettingError::Unexpected { place: "", expected: "one of is and token_bucket", found });
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

    /// Its word; a rate's is `token_bucket`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Unlimited => "unlimited",
            Self::Blocked => "blocked",
            Self::Shadow => "shadow",
            Self::Off => "off",
            Self::TokenBucket(_) => "token_bucket",
        }
    }
}

impl fmt::Display for Ruling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn token_bucket(fields: &Map<String, Value>) -> Result<TokenBucket, SettingError> {
    let known = ["max_tokens", "tokens_per_fill", "fill_interval"];
    only(fields, "token_bucket: ", "no fields but max_tokens, tokens_per_fill and fill_interval", &known)?;
    let tokens = |place, value: &Value| {
        let tokens = value.as_u64().filter(|tokens| *tokens <= MAX_TOKENS).and_then(NonZeroU64::new);
        tokens.ok_or_else(|| unexpected(place, "an integer from 1 to 4294967295", value))
    };
    let max_tokens = tokens("token_bucket.max_tokens: ", fields.get("max_tokens").unwrap_or(&Value::Null))?;
    let tokens_per_fill = match fields.get("tokens_per_fill") {
        Some(value) => tokens("token_bucket.tokens_per_fill: ", value)?,
        None => NonZeroU64::MIN,
    };
    let interval = fields.get("fill_interval").unwrap_or(&Value::Null);
    let fill_interval = interval.as_str().and_then(seconds).ok_or_else(|| {
        unexpected("token_bucket.fill_interval: ", "a duration such as \"60s\" or \"0.05s\"", interval)
    })?;
    Ok(TokenBucket::new(max_tokens, tokens_per_fill, fill_interval)?)
}

fn only(
    fields: &Map<String, Value>,
    place: &'static str,
    expected: &'static str,
    known: &[&str],
) -> Result<(), SettingError> {
    match fields.keys().find(|name| !known.contains(&name.as_str())) {
        Some(unknown) => Err(SettingError::Unexpected { place, expected, found: shown(unknown.as_bytes()) }),
        None => Ok(()),
    }
}

/// Envoy's form of a duration, as far as Redis' clock goes: whole seconds, then up to six decimals.
fn seconds(text: &str) -> Option<Micros> {
    let number = text.strip_suffix('s')?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok())?;
    let missing = 6_usize.checked_sub(fraction.len())?;
    let micros = (0..missing).try_fold(digits(fraction)?, |micros, _| micros.checked_mul(10))?;
    Some(Micros::from_secs(digits(whole)?).plus(Micros(micros)))
}

fn unexpected(place: &'static str, expected: &'static str, found: &Value) -> SettingError {
    let found = if found.is_null() { "nothing".to_owned() } else { config::shown(found) };
    SettingError::Unexpected { place, expected, found }
}

/// A text of somebody else's for a log line.
fn shown(text: &[u8]) -> String {
    let more = if text.len() > MAX_SHOWN { "..." } else { "" };
    let plain = |byte: &u8| if matches!(byte, b' '..=b'~') { char::from(*byte) } else { '?' };
    text.iter().take(MAX_SHOWN).map(plain).chain(more.chars()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(value: &str) -> Result<Setting, String> {
        Setting::parse(value.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_bare_word_is_enough() {
        let blocked = Setting { ruling: Ruling::Blocked, until: None };
        for value in ["blocked", " blocked\n", "\"blocked\"", r#"{"is": "blocked"}"#] {
            assert_eq!(parse(value), Ok(blocked), "{value}");
        }
        for (word, ruling) in [("unlimited", Ruling::Unlimited), ("shadow", Ruling::Shadow), ("off", Ruling::Off)] {
            assert_eq!(parse(word).unwrap().ruling, ruling);
            assert_eq!(ruling.name(), word);
        }
    }

    #[test]
    fn a_rate_is_written_as_a_limits_own() {
        let value = r#"{"token_bucket": {"max_tokens": 20, "tokens_per_fill": 100, "fill_interval": "60s"}, "until": 1795132800}"#;
        let Setting { ruling: Ruling::TokenBucket(bucket), until } = parse(value).unwrap() else { panic!("no rate") };
        assert_eq!((bucket.capacity().0, bucket.emission(), until), (20, Micros(600_000), Some(1_795_132_800)));
        let value = r#"{"token_bucket": {"max_tokens": 1, "fill_interval": "0.05s"}}"#;
        let Ruling::TokenBucket(bucket) = parse(value).unwrap().ruling else { panic!("no rate") };
        assert_eq!(bucket.emission(), Micros(50_000));
        let value =
            r#"{"token_bucket": {"max_tokens": 60000000, "tokens_per_fill": 50000000, "fill_interval": "60s"}}"#;
        let Ruling::TokenBucket(bucket) = parse(value).unwrap().ruling else { panic!("no rate") };
        assert_eq!(bucket.fill_time(), Micros::from_secs(72));
        let value = r#"{"token_bucket": {"max_tokens": 10, "tokens_per_fill": 5, "fill_interval": "0.000001s"}}"#;
        let Ruling::TokenBucket(bucket) = parse(value).unwrap().ruling else { panic!("no rate") };
        assert_eq!(bucket.fill_time(), Micros(2));
    }

    #[test]
    fn it_is_over_at_the_second_that_it_says() {
        let setting = parse(r#"{"is": "off", "until": 100}"#).unwrap();
        assert!(!setting.is_over(Micros(99_999_999)) && setting.is_over(Micros::from_secs(100)));
        assert!(!parse("off").unwrap().is_over(Micros(u64::MAX)));
    }

    #[test]
    fn what_is_no_setting_is_told_where_and_what_was_expected() {
        let rate = |fields: &str| format!(r#"{{"token_bucket": {fields}}}"#);
        let cases = [
            ("", "expected unlimited, blocked, shadow, off, or a JSON object, found "),
            ("Blocked", "expected unlimited, blocked, shadow, off, or a JSON object, found Blocked"),
            ("[]\u{1b}", "expected unlimited, blocked, shadow, off, or a JSON object, found []?"),
            ("{}", "expected one of is and token_bucket, found neither"),
            (r#"{"is": "of"}"#, r#"is: expected unlimited, blocked, shadow or off, found "of""#),
            (r#"{"is": "off", "till": 1}"#, "expected no fields but is, token_bucket and until, found till"),
            (
                r#"{"is": "off", "until": 1795132800000}"#,
                "until: expected seconds since 1970, before the year 10000, found 1795132800000",
            ),
            (r#"{"is": "off", "until": -1}"#, "until: expected seconds since 1970, before the year 10000, found -1"),
            (&rate("5"), "token_bucket: expected an object, found 5"),
            (&rate("{}"), "token_bucket.max_tokens: expected an integer from 1 to 4294967295, found nothing"),
            (
                &rate(r#"{"max_tokens": 1, "fill_interval": "1m"}"#),
                r#"token_bucket.fill_interval: expected a duration such as "60s" or "0.05s", found "1m""#,
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
        fn no_json_is_too_strange(value in r#"\{"(is|until|token_bucket)": ?("[a-z]{0,4}"|-?[0-9.e]{1,24}|\{"(max_tokens|fill_interval)": ?"?[0-9.s]{0,24}"?\}|null)\}"#) {
            if let Err(error) = Setting::parse(value.as_bytes()) {
                prop_assert!(error.to_string().len() < 400);
            }
        }
    }
}
