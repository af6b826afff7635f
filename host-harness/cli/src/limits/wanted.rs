//! Override that an operator wants to set, parsed from the arguments.

use serde_json::{Map, Value, json};
use weir_filter::limit::bounds::{MAX_LIMIT, MAX_LOGGED, MAX_TOKENS};
use weir_filter::limit::{Algorithm, Algorithms, Factor, Kind, Period, Scale, Unit};
use weir_filter::overrides::Setting;
use weir_filter::units::{Micros, Seconds};

use super::configured::Limit;
use super::error::LimitsError;
use super::render::ways;
use super::span;

const PERIODS: [Period; 6] = [Period::Minute, Period::Hour, Period::Day, Period::Week, Period::Month, Period::Year];
const WORDS: [&str; 4] = ["unlimited", "blocked", "shadow", "off"];

// Options of `set` that replace numbers of the limit. Not a doc comment: clap would use it as the help of `set`.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
pub(super) struct Numbers {
    /// New rate of the token bucket: tokens per time, such as 100/60s or 5/s.
    #[arg(long)]
    rate: Option<String>,
    /// Size of the token bucket; the default is the number of tokens in --rate.
    #[arg(long, value_name = "TOKENS")]
    burst: Option<u64>,
    /// New quota: requests per calendar unit, such as 10/month, in the limit's time zone.
    #[arg(long, value_name = "REQUESTS/UNIT")]
    quota: Option<String>,
    /// New number of a limit of one window of any kind: max_requests, or max_tokens of a token bucket.
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["quota", "rate", "times"])]
    max: Option<u64>,
    /// Factor that multiplies the numbers of all windows: capacity and rate, or max_requests; such as 2 or 0.5.
    #[arg(long, value_name = "FACTOR", conflicts_with_all = ["quota", "rate"])]
    times: Option<String>,
}

// Options of `set` about the override itself.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
pub(super) struct Lasting {
    /// Time until the override expires, such as 90s, 10m, 1h30m or 7d; without an end, it lasts until it is unset.
    #[arg(long = "for", value_name = "TIME", conflicts_with = "until")]
    lasting: Option<String>,
    /// End of the override, such as 2026-12-01T00:00Z.
    #[arg(long, value_name = "INSTANT")]
    until: Option<String>,
    /// Reason, shown by `list` and `get`.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Name of the operator, shown by `list` and `get`.
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

/// An override with its key and its duration.
#[derive(Debug, PartialEq)]
pub(super) struct Wanted<'a> {
    /// The key's values; empty for the whole limit.
    pub(super) key: &'a [String],
    value: Value,
    end: End,
    /// Unit of the limit's numbers, if the limit is known.
    unit: Option<Unit>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    /// The override lasts until it is unset.
    Never,
    /// The override's minimum duration; it lasts less than 1 s longer.
    After(Micros),
    /// An instant in Unix seconds.
    At(u64),
}

impl<'a> Wanted<'a> {
    pub(super) fn of(
        limit: &Limit,
        words: &'a [String],
        encoded: bool,
        numbers: &Numbers,
        lasting: &Lasting,
    ) -> Result<Self, LimitsError> {
        numbers.exclude(words.last().filter(|_| !encoded))?;
        let fields = numbers.fields(limit)?;
        let (key, mut value) = match words {
            key if !fields.is_empty() => (key, Value::Object(fields)),
            [key @ .., last] if WORDS.contains(&last.as_str()) => (key, json!({ "is": last })),
            [key @ .., last] if last.starts_with('{') => {
                let json = serde_json::from_str(last).ok().filter(Value::is_object);
                (key, json.ok_or_else(|| LimitsError::Ruling { found: format!("`{last}`, which is no JSON") })?)
            }
            words => {
                let found = words.last().map_or("nothing".to_owned(), |word| format!("`{word}`"));
                return Err(LimitsError::Ruling { found });
            }
        };
        lasting.exclude(&value)?;
        for (name, text) in [("reason", &lasting.reason), ("by", &lasting.by)] {
            if let Some(text) = text {
                value[name] = text.as_str().into();
            }
        }
        let unit = limit.shape.as_ref().map(|shape| shape.unit);
        Ok(Self { key, value, end: lasting.end()?, unit })
    }

    /// The value for Redis and its end in Unix seconds. `now` is Redis' time, from which the end is computed.
    pub(super) fn value(&self, now: Micros) -> Result<(String, Option<u64>), LimitsError> {
        let mut value = self.value.clone();
        let until = match self.end {
            End::Never => None,
            End::After(lasting) => Some(now.plus(lasting).to_secs_ceil()),
            End::At(until) if Micros::from_secs(until) > now => Some(until),
            End::At(_) => return Err(LimitsError::Past { place: "--until" }),
        };
        if let Some(until) = until {
            value["until"] = until.into();
        }
        let text = value.to_string();
        // Parsed as a worker parses it, so that the operator sees the worker's error.
        let setting = match self.unit {
            Some(unit) => Setting::parse_for(text.as_bytes(), unit)?,
            None => Setting::parse(text.as_bytes())?,
        };
        if setting.is_over(now) {
            return Err(LimitsError::Past { place: "until" });
        }
        Ok((text, setting.until))
    }

    /// The duration of `--for`, if it is given.
    pub(super) fn lasting(&self) -> Option<Micros> {
        match self.end {
            End::After(lasting) => Some(lasting),
            _ => None,
        }
    }
}

impl Lasting {
    /// Checks that no option is about a field that JSON already has.
    fn exclude(&self, value: &Value) -> Result<(), LimitsError> {
        let options = [
            ("until", "--for", &self.lasting),
            ("until", "--until", &self.until),
            ("reason", "--reason", &self.reason),
            ("by", "--by", &self.by),
        ];
        match options.into_iter().find(|(name, _, option)| option.is_some() && value.get(name).is_some()) {
            Some((name, other, _)) => Err(LimitsError::Exclusive { one: format!("`{name}` in JSON"), other }),
            None => Ok(()),
        }
    }

    fn end(&self) -> Result<End, LimitsError> {
        if let Some(text) = &self.lasting {
            let lasting = span::parse(text).ok_or_else(|| LimitsError::For { found: text.clone() })?;
            return Ok(End::After(lasting));
        }
        let Some(text) = &self.until else { return Ok(End::Never) };
        let wrong = || LimitsError::Until { found: text.clone() };
        let until: jiff::Timestamp = text.parse().map_err(|_| wrong())?;
        u64::try_from(until.as_second()).map(End::At).map_err(|_| wrong())
    }
}

impl Numbers {
    /// Checks that `--burst` has a rate, and that the last word is not a ruling beside numbers. A key that reads like a
    /// ruling needs `--encoded`.
    fn exclude(&self, last: Option<&String>) -> Result<(), LimitsError> {
        if self.burst.is_some() && self.rate.is_none() {
            return Err(LimitsError::BurstAlone);
        }
        let options = [
            ("--rate", self.rate.is_some()),
            ("--quota", self.quota.is_some()),
            ("--max", self.max.is_some()),
            ("--times", self.times.is_some()),
        ];
        let Some((other, _)) = options.into_iter().find(|(_, is_given)| *is_given) else { return Ok(()) };
        match last.map(String::as_str) {
            Some(word) if WORDS.contains(&word) => Err(LimitsError::Exclusive { one: format!("`{word}`"), other }),
            Some(json) if json.starts_with('{') => Err(LimitsError::Exclusive { one: "JSON".to_owned(), other }),
            _ => Ok(()),
        }
    }

    /// The fields of the override.
    fn fields(&self, limit: &Limit) -> Result<Map<String, Value>, LimitsError> {
        let mut fields = Map::new();
        let mut set = |name: &str, value| drop(fields.insert(name.to_owned(), value));
        if let Some(rate) = &self.rate {
            if limit.windows().is_some_and(|windows| !has(windows, Kind::TokenBucket)) {
                return Err(no_such_window(limit, "--rate"));
            }
            set(Kind::TokenBucket.name(), token_bucket(rate, self.burst)?);
        }
        if let Some(text) = &self.quota {
            set(Kind::Quota.name(), quota(text)?);
        }
        if let Some(max) = self.max {
            is_number_of(limit, max)?;
            can_be(limit, Scale::Max(max), "--max")?;
            set("max", max.into());
        }
        if let Some(times) = &self.times {
            let number: Value = serde_json::from_str(times).unwrap_or_default();
            let factor = number.as_f64().and_then(Factor::new);
            let factor = factor.ok_or_else(|| LimitsError::Times { found: times.clone() })?;
            can_be(limit, Scale::Times(factor), "--times")?;
            set("times", number);
        }
        Ok(fields)
    }
}

fn has(windows: &Algorithms, kind: Kind) -> bool {
    windows.algorithms().any(|algorithm| algorithm.kind() == kind)
}

/// Checks that `max` is a number of the limit's only window, if the limit is known.
fn is_number_of(limit: &Limit, max: u64) -> Result<(), LimitsError> {
    let Some(windows) = limit.windows() else { return Ok(()) };
    let mut algorithms = windows.algorithms();
    let most = match (algorithms.next(), algorithms.next()) {
        (None | Some(Algorithm::NoTokens), _) | (_, Some(_)) => return Err(no_such_window(limit, "--max")),
        (Some(Algorithm::TokenBucket(_) | Algorithm::LeasedBucket(_)), None) => MAX_TOKENS,
        _ => MAX_LIMIT,
    };
    if max > most { Err(too_many(limit, "--max", most, max)) } else { Ok(()) }
}

/// Checks that all windows of the limit can have these numbers, and keep what is spent, if the limit is known.
fn can_be(limit: &Limit, scale: Scale, option: &'static str) -> Result<(), LimitsError> {
    let Some(windows) = limit.windows() else { return Ok(()) };
    for own in windows.algorithms() {
        let scaled = scale.applied_to(own);
        if let (Algorithm::SlidingLog(_), Algorithm::SlidingWindow(estimated)) = (own, &scaled) {
            return Err(too_many(limit, option, MAX_LOGGED, estimated.limit().0));
        }
        let is_neutral = match scale {
            Scale::Max(max) => own.limit().0 == max,
            Scale::Times(factor) => Factor::new(1.0) == Some(factor) || own.admits_nothing(),
        };
        if scaled == *own && !is_neutral {
            return Err(LimitsError::TooSlow { limit: limit.name.clone(), option, has: ways(windows, "; ") });
        }
    }
    Ok(())
}

fn too_many(limit: &Limit, option: &'static str, most: u64, found: u64) -> LimitsError {
    let has = limit.windows().map(|windows| ways(windows, "; ")).unwrap_or_default();
    LimitsError::TooMany { limit: limit.name.clone(), option, most, found, has }
}

/// Error for an option about a window that the limit does not have; it names the option that fits the limit.
fn no_such_window(limit: &Limit, found: &'static str) -> LimitsError {
    let Some(windows) = limit.windows() else { return LimitsError::NeedsConfig };
    let count = windows.algorithms().count();
    let is_single = count == 1 && !windows.algorithms().any(|algorithm| matches!(algorithm, Algorithm::NoTokens));
    let expected = match (has(windows, Kind::Quota), has(windows, Kind::TokenBucket)) {
        (true, _) if is_single => "--quota or --max",
        (true, true) => "--quota, --rate or --times",
        (true, false) => "--quota or --times",
        (false, true) => "--rate or --times",
        (false, false) if is_single => "--max",
        (false, false) => "--times, or a window as JSON",
    };
    LimitsError::NoSuchWindow { limit: limit.name.clone(), expected, found, has: ways(windows, "; ") }
}

/// The token bucket of a rate such as `100/60s`, as JSON. A rate and a burst of 0 block every request.
fn token_bucket(rate: &str, burst: Option<u64>) -> Result<Value, LimitsError> {
    let parts = || {
        let (tokens, interval) = rate.split_once('/')?;
        let tokens: u64 = tokens.trim().parse().ok()?;
        Some((tokens, Seconds(span::parse(interval.trim())?).to_string()))
    };
    let (tokens, interval) = parts().ok_or_else(|| LimitsError::Rate { found: rate.to_owned() })?;
    Ok(match (burst.unwrap_or(tokens), tokens) {
        (0, 0) => json!({ "max_tokens": 0, "fill_interval": interval }),
        (burst, tokens) => json!({ "max_tokens": burst, "tokens_per_fill": tokens, "fill_interval": interval }),
    })
}

/// The quota of a text such as `10/month`, as JSON.
fn quota(text: &str) -> Result<Value, LimitsError> {
    let parts = || {
        let (requests, unit) = text.split_once('/')?;
        let unit = PERIODS.into_iter().map(Period::name).find(|name| *name == unit.trim())?;
        Some((requests.trim().parse::<u64>().ok()?, unit))
    };
    let (requests, unit) = parts().ok_or_else(|| LimitsError::Quota { found: text.to_owned() })?;
    Ok(json!({ "max_requests": requests, "unit": unit }))
}
