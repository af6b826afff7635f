//! A limit's algorithm: one of five kinds, or several of them as `windows`.

use core::num::NonZeroU64;

use super::error::{Expected, Problem};
use super::reader::{Node, Object};
use crate::limit::{
    Algorithm, AlgorithmError, Algorithms, Concurrency, FixedWindow, Kind, Period, Quota, Replacement, SlidingLog,
    SlidingWindow, TokenBucket,
};
use crate::units::Micros;

/// Fields of a limit that exclude each other: every limit has exactly one of them.
const KINDS: &[&str] = &["token_bucket", "sliding_window", "fixed_window", "quota", "concurrency", "windows"];
/// Fields of a window: the same without `windows`.
pub(super) const ALGORITHMS: &[&str] = &["token_bucket", "sliding_window", "fixed_window", "quota", "concurrency"];
const MAX_WINDOWS: usize = 8;

/// Envoy's `TokenBucket` counts in `uint32`.
const MAX_TOKENS: u64 = u32::MAX as u64;
/// Longest time for one token: 142 years.
const MAX_FILL_INTERVAL: Micros = Micros::from_secs(4_503_599_627);
/// Longest window: 71 years.
const MAX_WINDOW: Micros = Micros::from_secs(2_251_799_813);
const MAX_REQUESTS: u64 = 1 << 32;
/// Most requests of an exact sliding window, which lists each of them.
const MAX_LOGGED: u64 = 10_000;
const DEFAULT_LEASE: Micros = Micros::from_secs(60);
const MAX_LEASE: Micros = Micros::from_secs(86_400);
const MAX_MAX_DELAY: Micros = Micros::from_secs(60);

/// Reads the limit's algorithms, with its `max_delay`.
pub(super) fn read(limit: &Object<'_>) -> Option<Algorithms> {
    let max_delay = limit.or("max_delay", Micros::ZERO, |node| node.duration(Micros::ZERO..=MAX_MAX_DELAY));
    let (kind, node) = limit.exactly_one(KINDS)?;
    let mut algorithms = match kind {
        "windows" => node.each(1..=MAX_WINDOWS, |node| {
            let (kind, node) = node.one_field(ALGORITHMS)?;
            algorithm(kind, &node)
        })?,
        kind => vec![algorithm(kind, &node)?],
    };
    shape(limit, &mut algorithms, max_delay?)?;
    Algorithms::new(&algorithms).map_or_else(|error| node.fail(Problem::Algorithms(error)), Some)
}

/// Reads a window of an override. A field that it leaves out, where a limit's own window has a default, is the limit's.
pub(super) fn replacement(kind: &str, node: &Node<'_>) -> Option<Replacement> {
    let inherited = match kind {
        "sliding_window" => Some("mode"),
        "quota" => Some("utc_offset"),
        "concurrency" => Some("lease"),
        _ => None,
    };
    let inherits = inherited.is_some_and(|field| !node.has(field));
    algorithm(kind, node).map(|algorithm| Replacement { algorithm, inherits })
}

#[inline(never)]
fn algorithm(kind: &str, node: &Node<'_>) -> Option<Algorithm> {
    let result = match kind {
        "token_bucket" => token_bucket(node)?,
        "sliding_window" => sliding_window(node)?,
        "fixed_window" => fixed_window(node)?,
        "quota" => quota(node)?,
        _ => concurrency(node)?,
    };
    result.map_or_else(|error| node.fail(Problem::Algorithm(error)), Some)
}

/// Gives the token buckets among `algorithms` the limit's `max_delay`.
fn shape(limit: &Object<'_>, algorithms: &mut [Algorithm], max_delay: Micros) -> Option<()> {
    if max_delay == Micros::ZERO {
        return Some(());
    }
    let node = limit.field("max_delay")?;
    let mut shaped = false;
    for algorithm in algorithms {
        shaped |= algorithm.kind() == Kind::TokenBucket;
        if let Algorithm::TokenBucket(bucket) = algorithm {
            match bucket.with_max_delay(max_delay) {
                Ok(delayed) => *bucket = delayed,
                Err(error) => return node.fail(Problem::Algorithm(error.into())),
            }
        }
    }
    if shaped { Some(()) } else { node.unexpected(Expected::The("a token_bucket beside max_delay")) }
}

/// Algorithm that was read. `None` where an error is reported already.
type AlgorithmResult = Option<Result<Algorithm, AlgorithmError>>;

/// Reads a token bucket, with the fields of Envoy's `envoy.type.v3.TokenBucket`.
fn token_bucket(node: &Node<'_>) -> AlgorithmResult {
    let fields = node.object(&["max_tokens", "tokens_per_fill", "fill_interval"])?;
    let max_tokens =
        fields.required("max_tokens", "the bucket's capacity").and_then(|node| node.integer(0..=MAX_TOKENS));
    let tokens_per_fill = fields.or("tokens_per_fill", NonZeroU64::MIN, |node| match node.number() {
        Some(0.0) => {
            node.unexpected(Expected::The("an integer from 1 to 4294967295 (a max_tokens of 0 blocks every request)"))
        }
        _ => node.integer(1..=MAX_TOKENS).and_then(NonZeroU64::new),
    });
    let fill_interval = fields
        .required("fill_interval", "a duration such as \"60s\"")
        .and_then(|node| node.duration(Micros(1)..=MAX_FILL_INTERVAL));
    let (max_tokens, tokens_per_fill, fill_interval) = (max_tokens?, tokens_per_fill?, fill_interval?);
    let Some(max_tokens) = NonZeroU64::new(max_tokens) else { return Some(Ok(Algorithm::NoTokens)) };
    let bucket = TokenBucket::new(max_tokens, tokens_per_fill, fill_interval);
    Some(bucket.map(Algorithm::TokenBucket).map_err(AlgorithmError::from))
}

fn sliding_window(node: &Node<'_>) -> AlgorithmResult {
    let fields = node.object(&["max_requests", "window", "mode"])?;
    let exact = fields.or("mode", false, |node| node.one_of(&[("approximate", false), ("exact", true)], &[]));
    let max = if exact == Some(true) { MAX_LOGGED } else { MAX_REQUESTS };
    let (limit, window) = (max_requests(&fields, max), window(&fields));
    Some(match exact? {
        true => SlidingLog::new(limit?, window?).map(Algorithm::SlidingLog),
        false => SlidingWindow::new(limit?, window?).map(Algorithm::SlidingWindow),
    })
}

fn fixed_window(node: &Node<'_>) -> AlgorithmResult {
    let fields = node.object(&["max_requests", "window"])?;
    let (limit, window) = (max_requests(&fields, MAX_REQUESTS), window(&fields));
    Some(FixedWindow::new(limit?, window?).map(Algorithm::FixedWindow))
}

fn quota(node: &Node<'_>) -> AlgorithmResult {
    let fields = node.object(&["max_requests", "unit", "utc_offset"])?;
    let limit = max_requests(&fields, MAX_REQUESTS);
    let unit = fields
        .required("unit", "a calendar unit such as \"month\"")
        .and_then(|node| node.one_of(&Period::ALL.map(|period| (period.name(), period)), &[]));
    let offset = fields.or("utc_offset", 0, |node| {
        let expected = "an offset from UTC such as \"+02:00\", from \"-14:00\" to \"+14:00\"";
        node.text_matching(expected, |text| offset_minutes(text).is_some()).and_then(offset_minutes)
    });
    Some(Quota::new(limit?, unit?, offset?).map(Algorithm::Quota))
}

fn concurrency(node: &Node<'_>) -> AlgorithmResult {
    let fields = node.object(&["max_requests", "lease"])?;
    let limit = max_requests(&fields, MAX_REQUESTS);
    let lease = fields.or("lease", DEFAULT_LEASE, |node| node.duration(Micros::from_secs(1)..=MAX_LEASE));
    Some(Concurrency::new(limit?, lease?).map(Algorithm::Concurrency))
}

/// Reads `max_requests`; 0 blocks every request.
fn max_requests(fields: &Object<'_>, max: u64) -> Option<u64> {
    fields.required("max_requests", "a number of requests")?.integer(0..=max)
}

fn window(fields: &Object<'_>) -> Option<Micros> {
    fields.required("window", "a duration such as \"60s\"")?.duration(Micros(1)..=MAX_WINDOW)
}

/// Parses an offset from UTC (RFC 3339, `time-offset`) of up to 14 hours into minutes: `+05:30` is 330, `-02:00` is
/// -120, `Z` is 0.
fn offset_minutes(text: &str) -> Option<i32> {
    if text == "Z" {
        return Some(0);
    }
    let (sign, rest) = text.split_at_checked(1)?;
    let sign = match sign {
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let two_digits = |text: &str| -> Option<i32> {
        (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
    };
    let (hours, minutes) = (two_digits(hours)?, two_digits(minutes).filter(|minutes| *minutes < 60)?);
    let total = hours.checked_mul(60)?.checked_add(minutes)?;
    (total <= 14 * 60).then(|| total.checked_mul(sign))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_parsed_as_in_rfc_3339() {
        assert_eq!(offset_minutes("Z"), Some(0));
        assert_eq!(offset_minutes("+05:30"), Some(330));
        assert_eq!(offset_minutes("-02:00"), Some(-120));
        assert_eq!(offset_minutes("+14:00"), Some(840));
        for invalid in ["", "+", "02:00", "+2:00", "+02", "+02:60", "+14:01", "+0+:00", "é2:00", "+02:0é"] {
            assert_eq!(offset_minutes(invalid), None, "{invalid}");
        }
    }
}
