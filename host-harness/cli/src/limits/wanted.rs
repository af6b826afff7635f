//! Override that an operator wants to set, parsed from the arguments.

use serde_json::{Map, Value, json};
use weir_filter::limit::{Algorithm, Kind};
use weir_filter::overrides::Setting;
use weir_filter::units::Micros;

use super::configured::Limit;
use super::error::LimitsError;
use super::render::ways;
use super::span;

const WORDS: [&str; 4] = ["unlimited", "blocked", "shadow", "off"];

// Options of `set` that replace numbers of the limit. Not a doc comment: clap would use it as the help of `set`.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
pub(super) struct Numbers {
    /// New rate of the token bucket: tokens per time, such as 100/60s or 5/s.
    #[arg(long)]
    pub(super) rate: Option<String>,
    /// Size of the token bucket; the default is the number of tokens in --rate.
    #[arg(long, requires = "rate", value_name = "TOKENS")]
    pub(super) burst: Option<u64>,
    /// New quota: requests per calendar unit, such as 10/month, in the limit's time zone.
    #[arg(long, value_name = "REQUESTS/UNIT")]
    pub(super) quota: Option<String>,
    /// New max_requests, for a limit with exactly one window that has max_requests.
    #[arg(long, value_name = "REQUESTS", conflicts_with = "quota")]
    pub(super) max: Option<u64>,
}

/// An override with its key and its duration.
#[derive(Debug, PartialEq)]
pub(super) struct Wanted<'a> {
    /// The key's values; empty for the whole limit.
    pub(super) key: &'a [String],
    ruling: Value,
    /// The override's minimum duration; it lasts less than 1 s longer. `None`: until it is unset.
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

    /// The value for Redis. `now` is Redis' time, from which the end of the override is computed.
    pub(super) fn value(&self, now: Micros) -> Result<String, LimitsError> {
        let mut value = self.ruling.clone();
        if let Some(lasting) = self.lasting {
            value["until"] = now.plus(lasting).to_secs_ceil().into();
        }
        let value = value.to_string();
        // Parsed as a worker parses it, so that the operator sees the worker's error.
        Setting::parse(value.as_bytes())?;
        Ok(value)
    }
}

impl Numbers {
    /// The windows of the override, by kind.
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

/// Error for an option about a window that the limit does not have; it names the option that fits the limit.
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

/// The window with another `max_requests`. Time zone and lease are inherited from the limit.
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

/// The token bucket of a rate such as `100/60s`, as JSON. A rate and a burst of 0 block every request.
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

/// The quota of a text such as `10/month`, as JSON.
fn quota(text: &str) -> Result<Value, LimitsError> {
    let parts = || {
        let (requests, unit) = text.split_once('/')?;
        Some((requests.trim().parse::<u64>().ok()?, unit.trim()))
    };
    let (requests, unit) = parts().ok_or_else(|| LimitsError::Quota { found: text.to_owned() })?;
    Ok(json!({ "max_requests": requests, "unit": unit }))
}
