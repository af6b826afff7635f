//! The override that an operator wants.

use serde_json::{Map, Value, json};
use weir_filter::limit::{Algorithm, Kind};
use weir_filter::overrides::Setting;
use weir_filter::units::Micros;

use super::configured::Limit;
use super::error::LimitsError;
use super::render::ways;
use super::span;

const WORDS: [&str; 4] = ["unlimited", "blocked", "shadow", "off"];

// Numbers that are to hold in place of the limit's own. No doc comment: clap would take it for the help of `set`.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
pub(super) struct Numbers {
    /// Another rate of its token bucket: tokens and the time that they take to arrive, such as 100/60s or 5/s.
    #[arg(long)]
    pub(super) rate: Option<String>,
    /// Tokens at once; without it, as many as the rate's.
    #[arg(long, requires = "rate", value_name = "TOKENS")]
    pub(super) burst: Option<u64>,
    /// Another quota: requests and a calendar unit, such as 10/month; in the time zone of the limit's own.
    #[arg(long, value_name = "REQUESTS/UNIT")]
    pub(super) quota: Option<String>,
    /// Another max_requests of the limit's only window that has one.
    #[arg(long, value_name = "REQUESTS", conflicts_with = "quota")]
    pub(super) max: Option<u64>,
}

/// What to set, and for how long.
#[derive(Debug, PartialEq)]
pub(super) struct Wanted<'a> {
    /// The words that are the key.
    pub(super) key: &'a [String],
    ruling: Value,
    /// How long it holds, at least, and less than a second more.
    pub(super) lasting: Option<Micros>,
}

impl<'a> Wanted<'a> {
    pub(super) fn of(
        limit: &Limit,
        words: &'a [String],
        numbers: &Numbers,
        lasting: Option<&str>,
    ) -> Result<Self, LimitsError> {
        let windows = numbers.windows(limit)?;
        let (key, ruling) = match words {
            key if !windows.is_empty() => (key, Value::Object(windows)),
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
        let lasting = lasting.map(|text| span::parse(text).ok_or_else(|| LimitsError::For { found: text.to_owned() }));
        Ok(Self { key, ruling, lasting: lasting.transpose()? })
    }

    /// The value in Redis, which ends that long after `now`, by Redis' clock.
    pub(super) fn value(&self, now: Micros) -> Result<String, LimitsError> {
        let mut value = self.ruling.clone();
        if let Some(lasting) = self.lasting {
            value["until"] = now.plus(lasting).to_secs_ceil().into();
        }
        let value = value.to_string();
        // As a worker will read it.
        Setting::parse(value.as_bytes())?;
        Ok(value)
    }
}

impl Numbers {
    /// The windows of an override, by their kinds.
    fn windows(&self, limit: &Limit) -> Result<Map<String, Value>, LimitsError> {
        let mut windows = Map::new();
        let mut set = |kind: Kind, window| drop(windows.insert(kind.name().to_owned(), window));
        if let Some(rate) = &self.rate {
            if !limit.windows.algorithms().any(|algorithm| algorithm.kind() == Kind::TokenBucket) {
                return Err(no_such_window(limit, "--rate"));
            }
            set(Kind::TokenBucket, token_bucket(rate, self.burst)?);
        }
        if let Some(text) = &self.quota {
            set(Kind::Quota, quota(text)?);
        }
        if let Some(max) = self.max {
            let only = only_counted(limit).ok_or_else(|| no_such_window(limit, "--max"))?;
            set(only.kind(), of_at_most(only, max));
        }
        Ok(windows)
    }
}

/// The limit's only window that counts requests.
fn only_counted(limit: &Limit) -> Option<&Algorithm> {
    let mut counted = limit.windows.algorithms().filter(|algorithm| algorithm.kind() != Kind::TokenBucket);
    counted.next().filter(|_| counted.next().is_none())
}

/// What is said to who names a window that the limit has not: the option for one that it has.
fn no_such_window(limit: &Limit, found: &'static str) -> LimitsError {
    let has = |kind| limit.windows.algorithms().any(|algorithm| algorithm.kind() == kind);
    let expected = match only_counted(limit).map(Algorithm::kind) {
        Some(Kind::Quota) => "--quota or --max",
        Some(_) => "--max",
        None if has(Kind::Quota) => "--quota",
        None if has(Kind::TokenBucket) => "--rate",
        None => "a window as JSON",
    };
    LimitsError::NoSuchWindow { limit: limit.name.clone(), expected, found, has: ways(&limit.windows, "; ") }
}

/// The same window with another `max_requests`. Its time zone and its lease stay the limit's.
fn of_at_most(algorithm: &Algorithm, max: u64) -> Value {
    match algorithm {
        Algorithm::SlidingLog(log) => {
            json!({ "max_requests": max, "window": span::in_seconds(log.window()), "mode": "exact" })
        }
        Algorithm::SlidingWindow(sliding) => {
            json!({ "max_requests": max, "window": span::in_seconds(sliding.window()), "mode": "approximate" })
        }
        Algorithm::FixedWindow(fixed) => json!({ "max_requests": max, "window": span::in_seconds(fixed.window()) }),
        Algorithm::Quota(quota) => json!({ "max_requests": max, "unit": quota.period().name() }),
        _ => json!({ "max_requests": max }),
    }
}

/// `100/60s`, in Envoy's terms. No tokens at all block every request.
fn token_bucket(rate: &str, burst: Option<u64>) -> Result<Value, LimitsError> {
    let parts = || {
        let (tokens, interval) = rate.split_once('/')?;
        let tokens: u64 = tokens.trim().parse().ok()?;
        Some((tokens, span::in_seconds(span::parse(interval.trim())?)))
    };
    let (tokens, interval) = parts().ok_or_else(|| LimitsError::Rate { found: rate.to_owned() })?;
    Ok(match (burst.unwrap_or(tokens), tokens) {
        (0, 0) => json!({ "max_tokens": 0, "fill_interval": interval }),
        (burst, tokens) => json!({ "max_tokens": burst, "tokens_per_fill": tokens, "fill_interval": interval }),
    })
}

/// `10/month`
fn quota(text: &str) -> Result<Value, LimitsError> {
    let parts = || {
        let (requests, unit) = text.split_once('/')?;
        Some((requests.trim().parse::<u64>().ok()?, unit.trim()))
    };
    let (requests, unit) = parts().ok_or_else(|| LimitsError::Quota { found: text.to_owned() })?;
    Ok(json!({ "max_requests": requests, "unit": unit }))
}
