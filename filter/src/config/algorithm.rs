//! A limit's algorithm: one of five kinds, or several of them as `windows`.

use alloc::vec::Vec;
use core::num::NonZeroU64;

use super::error::Problem;
use super::number;
use super::reader::{Node, Object};
use super::report::Read;
use crate::limit::{
    Algorithm, AlgorithmError, Algorithms, Concurrency, FixedWindow, Kind, MAX_AMOUNT, Number, Period, Quota,
    Replacement, SlidingLog, SlidingWindow, TokenBucket, Unit, WindowNumbers, bounds,
};
use crate::units::Micros;

/// Fields of a limit that exclude each other: every limit has exactly one of them.
const KINDS: &[&str] = &["token_bucket", "sliding_window", "fixed_window", "quota", "concurrency", "windows"];
/// Fields of a window: the same without `windows`.
pub(super) const ALGORITHMS: &[&str] = &["token_bucket", "sliding_window", "fixed_window", "quota", "concurrency"];
/// Greatest limit in dollars, in millionths: Redis' scripts count billionths exactly.
const MAX_MICRO_USD: u64 = MAX_AMOUNT / 1_000;
const USD: &str = "dollars from 0 to 9007199 with at most 6 decimals";
const DEFAULT_LEASE: Micros = Micros::from_secs(60);

/// Window as configured.
struct Window {
    /// The algorithm; where requests carry numbers, with the defaults in their place.
    algorithm: Algorithm,
    /// `None` where requests carry none of its numbers.
    numbers: Option<WindowNumbers>,
}

/// Algorithms of a limit as configured.
pub(super) struct Windows<'a> {
    pub(super) algorithms: Algorithms,
    /// Numbers that requests carry.
    pub(super) numbers: Vec<WindowNumbers>,
    /// The first window whose number is of the unit `max_usd`, and of `max_tokens`, which only a charge has.
    pub(super) in_usd: Option<&'a Node<'a>>,
    pub(super) in_tokens: Option<&'a Node<'a>>,
    /// Whether the numbers of all windows are in dollars.
    pub(super) is_all_usd: bool,
}

/// Numbers of a window: `max_tokens` or `max_requests`, and `tokens_per_fill` in a `fill_interval`.
type Numbers = (Number, Option<(Number, Micros)>);

/// Algorithm of the numbers that were read, or the error of numbers that it cannot have; and those numbers.
type AlgorithmResult = Read<(Result<Algorithm, AlgorithmError>, Numbers)>;

/// Reads the limit's algorithms, with its `max_delay`, and the numbers that requests carry.
pub(super) fn read<'a>(limit: Object<'a>) -> Read<Windows<'a>> {
    let max_delay = limit.or("max_delay", Micros::ZERO, |node| node.duration(Micros::ZERO..=bounds::MAX_MAX_DELAY));
    let (kind, node) = limit.exactly_one(KINDS)?;
    let mut nodes = Vec::new();
    let windows = match kind {
        "windows" => node.each(1..=bounds::MAX_WINDOWS, |node| {
            let (kind, node) = node.one_field(ALGORITHMS)?;
            nodes.push((kind, node));
            window(kind, node)
        })?,
        kind => {
            nodes.push((kind, node));
            vec![window(kind, node)?]
        }
    };
    let of_unit =
        |unit| nodes.iter().find(|(kind, node)| *kind != "token_bucket" && node.has(unit)).map(|(_, node)| *node);
    let is_all_usd = nodes.iter().all(|(_, node)| node.has("max_usd"));
    let mut algorithms: Vec<Algorithm> = windows.iter().map(|window| window.algorithm).collect();
    shape(limit, &mut algorithms, max_delay?)?;
    let algorithms = Algorithms::new(&algorithms).map_err(|error| node.fail(Problem::Algorithms(error)))?;
    let numbers = windows.into_iter().enumerate().filter_map(|(window, read)| Some((window, read.numbers?)));
    Ok(Windows {
        algorithms,
        numbers: numbers.map(|(window, numbers)| WindowNumbers { window, ..numbers }).collect(),
        in_usd: of_unit("max_usd"),
        in_tokens: of_unit("max_tokens"),
        is_all_usd,
    })
}

/// Reads a window of an override. A field that it leaves out, where a limit's own window has a default, is the limit's.
pub(super) fn replacement(kind: &str, node: &Node<'_>) -> Read<Replacement> {
    let inherited = match kind {
        "sliding_window" => Some("mode"),
        "quota" => Some("utc_offset"),
        "concurrency" => Some("lease"),
        _ => None,
    };
    let inherits = inherited.is_some_and(|field| !node.has(field));
    match window(kind, node)? {
        Window { algorithm, numbers: None } => {
            let units = [Unit::Tokens, Unit::NanoUsd].into_iter().filter(|_| kind != "token_bucket");
            let unit = units.into_iter().find(|unit| node.has(unit.field())).unwrap_or(Unit::Requests);
            Ok(Replacement { algorithm, unit, inherits })
        }
        _ => Err(node.expected("integers: an override takes no numbers from requests")),
    }
}

#[inline(never)]
fn window(kind: &str, node: &Node<'_>) -> Read<Window> {
    let (result, (limit, fill)) = match kind {
        "token_bucket" => token_bucket(node)?,
        "sliding_window" => sliding_window(node)?,
        "fixed_window" => fixed_window(node)?,
        "quota" => quota(node)?,
        _ => concurrency(node)?,
    };
    let algorithm = result.map_err(|error| node.fail(Problem::Algorithm(error)))?;
    let is_carried = limit.is_from_request() || fill.as_ref().is_some_and(|(tokens, _)| tokens.is_from_request());
    Ok(Window { algorithm, numbers: is_carried.then_some(WindowNumbers { window: 0, limit, fill }) })
}

/// Gives the token buckets among `algorithms` the limit's `max_delay`.
fn shape(limit: Object<'_>, algorithms: &mut [Algorithm], max_delay: Micros) -> Read<()> {
    let Some(node) = limit.field("max_delay").filter(|_| max_delay > Micros::ZERO) else { return Ok(()) };
    let mut shaped = false;
    for algorithm in algorithms {
        shaped |= algorithm.kind() == Kind::TokenBucket;
        if let Algorithm::TokenBucket(bucket) = algorithm {
            match bucket.with_max_delay(max_delay) {
                Ok(delayed) => *bucket = delayed,
                Err(error) => return Err(node.fail(Problem::Algorithm(error.into()))),
            }
        }
    }
    if shaped { Ok(()) } else { Err(node.expected("a token_bucket beside max_delay")) }
}

/// Reads a token bucket, with the fields of Envoy's `envoy.type.v3.TokenBucket`.
fn token_bucket(node: &Node<'_>) -> AlgorithmResult {
    let fields = node.object(&["max_tokens", "tokens_per_fill", "fill_interval"])?;
    let max_tokens = fields
        .required("max_tokens", "the bucket's capacity")
        .and_then(|node| number::read(node, 0..=bounds::MAX_TOKENS));
    let tokens_per_fill = fields.or("tokens_per_fill", Number::Constant(1), |node| match node.number() {
        Some(0.0) => {
            let expected = "an integer from 1 to 4294967295 (a max_tokens of 0 blocks every request)";
            Err(node.expected(expected))
        }
        _ => number::read(node, 1..=bounds::MAX_TOKENS),
    });
    let fill_interval = fields
        .required("fill_interval", "a duration such as \"60s\"")
        .and_then(|node| node.duration(Micros(1)..=bounds::MAX_FILL_INTERVAL));
    let (max_tokens, tokens_per_fill, fill_interval) = (max_tokens?, tokens_per_fill?, fill_interval?);
    let nonzero = (NonZeroU64::new(max_tokens.shape()), NonZeroU64::new(tokens_per_fill.shape()));
    let bucket = match nonzero {
        (Some(max_tokens), Some(tokens_per_fill)) => TokenBucket::new(max_tokens, tokens_per_fill, fill_interval)
            .map(Algorithm::TokenBucket)
            .map_err(AlgorithmError::from),
        _ => Ok(Algorithm::NoTokens),
    };
    Ok((bucket, (max_tokens, Some((tokens_per_fill, fill_interval)))))
}

fn sliding_window(node: &Node<'_>) -> AlgorithmResult {
    let fields = node.object(&["max_requests", "max_tokens", "max_usd", "window", "mode"])?;
    let exact = fields.or("mode", false, |node| node.one_of(&[("approximate", false), ("exact", true)]));
    let max = if exact == Ok(true) { bounds::MAX_LOGGED } else { bounds::MAX_LIMIT };
    let (limit, length) = (amount(fields, max), length(fields));
    let (exact, (limit, is_amount), length) = (exact?, limit?, length?);
    let sliding = match (exact, is_amount) {
        (true, _) => SlidingLog::new(limit.shape(), length).map(Algorithm::SlidingLog),
        (false, true) => SlidingWindow::of_amounts(limit.shape(), length).map(Algorithm::SlidingWindow),
        (false, false) => SlidingWindow::new(limit.shape(), length).map(Algorithm::SlidingWindow),
    };
    Ok((sliding, (limit, None)))
}

fn fixed_window(node: &Node<'_>) -> AlgorithmResult {
    let fields = node.object(&["max_requests", "max_tokens", "max_usd", "window"])?;
    let (limit, length) = (amount(fields, bounds::MAX_LIMIT), length(fields));
    let ((limit, is_amount), length) = (limit?, length?);
    let fixed = match is_amount {
        true => FixedWindow::of_amounts(limit.shape(), length),
        false => FixedWindow::new(limit.shape(), length),
    };
    Ok((fixed.map(Algorithm::FixedWindow), (limit, None)))
}

fn quota(node: &Node<'_>) -> AlgorithmResult {
    let fields = node.object(&["max_requests", "max_tokens", "max_usd", "unit", "utc_offset"])?;
    let limit = amount(fields, bounds::MAX_LIMIT);
    let unit = fields
        .required("unit", "a calendar unit such as \"month\"")
        .and_then(|node| node.one_of(&Period::ALL.map(|period| (period.name(), period))));
    let offset = fields.or("utc_offset", 0, |node| {
        let expected = "an offset from UTC such as \"+02:00\", from \"-14:00\" to \"+14:00\"";
        node.parsed(expected, 6, offset_minutes)
    });
    let ((limit, is_amount), unit, offset) = (limit?, unit?, offset?);
    let quota = match is_amount {
        true => Quota::of_amounts(limit.shape(), unit, offset),
        false => Quota::new(limit.shape(), unit, offset),
    };
    Ok((quota.map(Algorithm::Quota), (limit, None)))
}

fn concurrency(node: &Node<'_>) -> AlgorithmResult {
    let fields = node.object(&["max_requests", "lease"])?;
    let limit = fields
        .required("max_requests", "a number of requests")
        .and_then(|node| number::read(node, 0..=bounds::MAX_LIMIT));
    let lease =
        fields.or("lease", DEFAULT_LEASE, |node| node.duration(bounds::MIN_SLOT_LEASE..=bounds::MAX_SLOT_LEASE));
    let (limit, lease) = (limit?, lease?);
    Ok((Concurrency::new(limit.shape(), lease).map(Algorithm::Concurrency), (limit, None)))
}

/// Reads the number of a window, 0 to block every request: `max_requests` up to `max`, or tokens or nano-USD of a charge.
/// Returns whether it is one of the latter.
fn amount(fields: Object<'_>, max: u64) -> Read<(Number, bool)> {
    let (unit, node) = fields.exactly_one(&["max_requests", "max_tokens", "max_usd"])?;
    match unit {
        "max_requests" => Ok((number::read(node, 0..=max)?, false)),
        "max_tokens" => Ok((Number::Constant(node.integer(0..=MAX_AMOUNT)?), true)),
        _ => {
            let micros = number::scaled(node, 1e6, 0..=MAX_MICRO_USD, USD)?;
            Ok((Number::Constant(micros.saturating_mul(1_000)), true))
        }
    }
}

fn length(fields: Object<'_>) -> Read<Micros> {
    fields.required("window", "a duration such as \"60s\"")?.duration(Micros(1)..=bounds::MAX_WINDOW)
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
    (total <= bounds::MAX_OFFSET_MINUTES).then(|| total.checked_mul(sign))?
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
