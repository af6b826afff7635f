//! Promise of a limit, read from the filter's configuration: the most requests it admits in a given time.

use std::time::Duration;

use serde_json::Value;
use thiserror::Error;

/// A user is admitted at most `capacity + elapsed / emission` times in any `elapsed`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Promise {
    /// The request header that identifies the user.
    pub(super) header: String,
    /// Size of the bucket, in requests; ≥ 1.
    pub(super) capacity: u64,
    /// Emission interval: the time until the bucket gains one token; > 0.
    pub(super) emission: Duration,
}

/// Error for a first limit that is not a token bucket with a request header as its descriptor.
#[derive(Debug, Error)]
#[error("limits[0].{path}: expected {expected}, found {found}")]
pub(crate) struct LimitError {
    path: &'static str,
    expected: &'static str,
    found: Value,
}

impl Promise {
    /// Reads the promise of a configuration's first limit.
    pub(super) fn of(configuration: &Value) -> Result<Self, LimitError> {
        let limit = &configuration["limits"][0];
        let at = |path: &'static str, expected: &'static str| {
            let found = limit.pointer(path).cloned().unwrap_or_default();
            (found.clone(), LimitError { path, expected, found })
        };
        let (header, why) = at("/descriptor/0/request_header/name", "a header's name");
        let header = header.as_str().ok_or(why)?.to_owned();
        let (capacity, why) = at("/token_bucket/max_tokens", "a number from 1");
        let capacity = capacity.as_u64().filter(|tokens| *tokens > 0).ok_or(why)?;
        let (fill, why) = at("/token_bucket/tokens_per_fill", "a number from 1");
        let fill =
            if fill.is_null() { Some(1) } else { fill.as_u64() }.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
        let fill = fill.ok_or(why)?;
        let (interval, why) = at("/token_bucket/fill_interval", "a duration such as \"60s\"");
        let seconds = interval.as_str().and_then(|text| text.strip_suffix('s')?.parse().ok());
        let interval = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let emission = interval.map(|interval| interval / fill).filter(|emission| !emission.is_zero()).ok_or(why)?;
        Ok(Self { header, capacity, emission })
    }

    /// The most requests that the limit admits in `elapsed`.
    pub(super) fn most(&self, elapsed: Duration) -> u64 {
        let refilled = elapsed.as_nanos() / self.emission.as_nanos();
        self.capacity.saturating_add(u64::try_from(refilled).unwrap_or(u64::MAX))
    }

    /// Requests per second that the limit admits in the long run.
    pub(super) fn rate(&self) -> f64 {
        1.0 / self.emission.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn configuration() -> Value {
        json!({"limits": [{
            "descriptor": [{"request_header": {"name": "x-user-id"}}],
            "token_bucket": {"max_tokens": 20, "tokens_per_fill": 100, "fill_interval": "60s"},
        }]})
    }

    #[test]
    fn a_bucket_of_20_refilled_100_a_minute_admits_36_in_ten_seconds() {
        let promise = Promise::of(&configuration()).unwrap();
        assert_eq!((promise.header.as_str(), promise.capacity), ("x-user-id", 20));
        assert_eq!(promise.emission, Duration::from_millis(600));
        assert_eq!(promise.most(Duration::from_secs(10)), 36);
        assert_eq!(promise.most(Duration::ZERO), 20);
    }

    #[test]
    fn an_unreadable_field_is_named() {
        let mut without = configuration();
        without["limits"][0]["token_bucket"]["fill_interval"] = json!("1 fortnight");
        let why = Promise::of(&without).unwrap_err().to_string();
        assert!(why.contains("fill_interval") && why.contains("1 fortnight"), "{why}");
        assert!(Promise::of(&json!({})).is_err());
    }
}
