//! Setting: the value of one override, as it is stored in Redis.

use alloc::borrow::{Cow, ToOwned};
use alloc::fmt;
use alloc::rc::Rc;
use alloc::string::{String, ToString};

use serde_json::{Map, Value};

use crate::config::{self, ConfigErrors};
use crate::double;
use crate::limit::{Algorithms, Factor, Kind, Replacement, Scale, Unit, bounds::MAX_LIMIT};
use crate::units::Micros;

/// Longest field, in bytes: no bucket key without its prefix is longer.
pub const MAX_FIELD: usize = 256;
/// Longest value, in bytes.
pub const MAX_VALUE: usize = 1_024;

/// The end of the year 9999, in seconds since 1970. Larger numbers are milliseconds given by mistake.
const MAX_UNTIL: u64 = 253_402_300_799;
/// Bytes of a value that an error repeats, at most.
const MAX_SHOWN: usize = 60;

const WORDS: &str = "unlimited, blocked, shadow or off";
const MAX: &str = "an integer from 0 to 4294967296";
const TIMES: &str = "a number from 0 to 1000 with at most six decimals";

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
    /// The numbers of all the limit's windows are replaced or multiplied.
    Scaled(Scale),
}

/// A ruling and its end.
///
/// The value in Redis is a bare word, `blocked`, or JSON: `{"is": "blocked", "until": 1795132800}`, or
/// `{"token_bucket": {"max_tokens": 20, "tokens_per_fill": 100, "fill_interval": "60s"}}`; also `sliding_window`,
/// `fixed_window`, `quota` and `concurrency`, each with the fields, forms and bounds of the configuration's windows; or
/// `{"max": 10}` or `{"times": 0.5}` for the numbers of all windows. JSON may also have the texts `reason` and `by`,
/// which are for operators alone.
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
    /// Numbers of a unit that the limit does not count.
    #[error("expected {expected}, found {found}")]
    Unit {
        /// The settings that the limit can have.
        expected: &'static str,
        /// The field that it cannot have.
        found: &'static str,
    },
    /// An unknown field or an invalid window: the first error found.
    #[error("{first}", first = .0.first())]
    Window(ConfigErrors),
}

impl SettingError {
    /// Returns the error's text for a log, without any byte of the value.
    #[must_use]
    pub fn expected(&self) -> String {
        match self {
            Self::Unexpected { place, expected, .. } => format!("{place}expected {expected}"),
            Self::Unit { expected, .. } => ["expected ", expected].concat(),
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

    /// Parses a value as [`parse`](Self::parse) does, for a limit whose numbers are of this unit.
    ///
    /// # Errors
    /// Also if the value has numbers of another unit.
    pub fn parse_for(value: &[u8], unit: Unit) -> Result<Self, SettingError> {
        let setting = Self::parse(value)?;
        match setting.ruling.misfit(unit) {
            None => Ok(setting),
            Some(found) => Err(SettingError::Unit { expected: fitting(unit), found }),
        }
    }

    /// Returns whether the setting has ended at `now`, in microseconds since 1970 by Redis' clock.
    #[must_use]
    pub fn is_over(&self, now: Micros) -> bool {
        self.until.is_some_and(|until| Micros::from_secs(until) <= now)
    }

    fn of_fields(value: &Value, fields: &Map<String, Value>) -> Result<Self, SettingError> {
        let windows = config::replacements(value).map_err(SettingError::Window)?;
        let [is, max, times] = ["is", "max", "times"].map(|name| fields.get(name));
        let ruling = match (is, max, times, windows.is_empty()) {
            (Some(is), None, None, true) => Ruling::of_is(is)?,
            (None, Some(max), None, true) => Ruling::of_max(max)?,
            (None, None, Some(times), true) => Ruling::of_times(times)?,
            (None, None, None, false) => Ruling::Algorithms(windows.into()),
            (None, None, None, true) => return Err(not_one("none")),
            _ => return Err(not_one("several")),
        };
        for (name, place) in [("reason", "reason: "), ("by", "by: ")] {
            if let Some(other) = fields.get(name).filter(|text| !text.is_string()) {
                return Err(unexpected(place, "a text", other));
            }
        }
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

    fn of_is(word: &Value) -> Result<Self, SettingError> {
        let known = word.as_str().and_then(|word| Self::of_word(word.as_bytes()));
        known.ok_or_else(|| unexpected("is: ", WORDS, word))
    }

    fn of_max(max: &Value) -> Result<Self, SettingError> {
        let whole = max.as_f64().and_then(double::whole).and_then(|max| u64::try_from(max).ok());
        let max = whole.filter(|max| *max <= MAX_LIMIT).ok_or_else(|| unexpected("max: ", MAX, max))?;
        Ok(Self::Scaled(Scale::Max(max)))
    }

    fn of_times(times: &Value) -> Result<Self, SettingError> {
        let factor = times.as_f64().and_then(Factor::new);
        let factor = factor.ok_or_else(|| unexpected("times: ", TIMES, times))?;
        Ok(Self::Scaled(Scale::Times(factor)))
    }

    /// Returns a limit's algorithms while the ruling holds; `configured` are those without it.
    #[must_use]
    pub fn applied_to<'a>(&self, configured: &'a Algorithms) -> Cow<'a, Algorithms> {
        match self {
            Self::Algorithms(windows) => Cow::Owned(configured.overridden(windows)),
            Self::Scaled(scale) => Cow::Owned(configured.scaled(*scale)),
            Self::Unlimited | Self::Blocked | Self::Shadow | Self::Off => Cow::Borrowed(configured),
        }
    }

    /// Whether the ruling replaces the numbers of token buckets.
    #[must_use]
    pub fn replaces_tokens(&self) -> bool {
        match self {
            Self::Algorithms(windows) => windows.iter().any(|window| window.algorithm.kind() == Kind::TokenBucket),
            Self::Scaled(scale) => matches!(scale, Scale::Max(_)),
            Self::Unlimited | Self::Blocked | Self::Shadow | Self::Off => false,
        }
    }

    /// Returns the field that a limit of this unit cannot have, if any.
    fn misfit(&self, unit: Unit) -> Option<&'static str> {
        match self {
            Self::Algorithms(windows) => {
                let other = windows.iter().find(|window| !window.fits(unit))?;
                let kind = other.algorithm.kind();
                let is_named = matches!(kind, Kind::TokenBucket | Kind::Concurrency);
                Some(if is_named { kind.name() } else { other.unit.field() })
            }
            Self::Scaled(Scale::Max(_)) if unit == Unit::NanoUsd => Some("max"),
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
            Self::Scaled(Scale::Max(_)) => "max",
            Self::Scaled(Scale::Times(_)) => "times",
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

/// Describes the settings that a limit of this unit can have.
fn fitting(unit: Unit) -> &'static str {
    match unit {
        Unit::Requests => "max_requests for a limit without a charge",
        Unit::Tokens => "max_tokens for a limit that charges tokens",
        Unit::NanoUsd => "times, or a window with max_usd, for a limit with charge: cost",
    }
}

fn not_one(found: &str) -> SettingError {
    let expected = "one of is, max, times, and windows such as token_bucket";
    SettingError::Unexpected { place: "", expected, found: found.to_owned() }
}

/// Formats untrusted text for an error: at most 60 bytes, as printable ASCII.
pub(super) fn shown(text: &[u8]) -> String {
    let more = if text.len() > MAX_SHOWN { "..." } else { "" };
    let plain = |byte: &u8| if matches!(byte, b' '..=b'~') { char::from(*byte) } else { '?' };
    text.iter().take(MAX_SHOWN).map(plain).chain(more.chars()).collect()
}

#[cfg(test)]
mod tests;
