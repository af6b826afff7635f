//! Expectations of a step's responses.

use std::fmt;

use regex_lite::Regex;
use weir_filter::units::Micros;

use super::budget::{BudgetExpectation, budgets};
use crate::documents::{Entry, Position, Value};
use crate::reader::Reader;

/// Tolerance of durations where the file gives none.
const DEFAULT_TOLERANCE: Micros = Micros::from_secs(1);
/// Tolerance of the time for which a request is held: two ticks, and a little.
const DEFAULT_HELD_TOLERANCE: Micros = Micros::from_millis(30);

/// Expectation of a step. What is `None` or empty is not compared.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expect {
    pub(crate) status: Option<(Statuses, Position)>,
    /// Limit that denied: all denied responses of the step.
    pub(crate) limit: Option<(String, Position)>,
    /// Headers of the last response.
    pub(crate) headers: Vec<(String, Matcher, Position)>,
    /// Headers with which the last request reached the upstream: marks.
    pub(crate) upstream_headers: Vec<(String, Matcher, Position)>,
    /// Body of the last response.
    pub(crate) body: Option<(Matcher, Position)>,
    /// Values in the JSON of the last response's body, by their pointers.
    pub(crate) json: Vec<(String, Matcher, Position)>,
    /// `retry-after` of the last denied response.
    pub(crate) retry_after: Option<(Tolerance, Position)>,
    /// Requests that remain after the last response.
    pub(crate) remaining: Option<(Range, Position)>,
    /// Time for which the request that waited longest was held.
    pub(crate) held: Option<(Tolerance, Position)>,
    /// Budgets after the step.
    pub(crate) budgets: Vec<BudgetExpectation>,
}

/// Statuses of the responses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Statuses {
    /// All have this status.
    All(u16),
    /// Number of responses by status; no other status occurs.
    Counts(Vec<(u16, Range)>),
}

/// Numbers from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// Expectation of a text.
#[derive(Debug, Clone)]
pub(crate) enum Matcher {
    Exact(String),
    Absent,
    Present,
    Regex(Regex),
}

/// Duration, and how far it may be off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tolerance {
    pub(crate) is: Micros,
    pub(crate) within: Micros,
}

pub(super) fn expect(node: Option<Reader<'_>>) -> Option<Expect> {
    let Some(node) = node else { return Some(Expect::default()) };
    let known = [
        "status",
        "limit",
        "headers",
        "upstream_headers",
        "body",
        "json",
        "retry_after",
        "remaining",
        "held",
        "budgets",
    ];
    let fields = node.fields(&known)?;
    fn placed<T>(
        node: Option<Reader<'_>>,
        read: impl FnOnce(Reader<'_>) -> Option<T>,
    ) -> Option<Option<(T, Position)>> {
        match node {
            Some(node) => Some(Some((read(node)?, node.place()))),
            None => Some(None),
        }
    }
    let status = placed(fields.take("status"), statuses);
    let limit = placed(fields.take("limit"), |node| node.text("a limit's name"));
    let headers = fields.take("headers").map_or(Some(Vec::new()), headers);
    let upstream_headers = fields.take("upstream_headers").map_or(Some(Vec::new()), self::headers);
    let body = placed(fields.take("body"), matcher);
    let json = fields.take("json").map_or(Some(Vec::new()), json);
    let budgets = fields.take("budgets").map_or(Some(Vec::new()), budgets);
    let retry_after = placed(fields.take("retry_after"), |node| tolerance(node, DEFAULT_TOLERANCE));
    let remaining = placed(fields.take("remaining"), range);
    let held = placed(fields.take("held"), |node| tolerance(node, DEFAULT_HELD_TOLERANCE));
    Some(Expect {
        status: status?,
        limit: limit?,
        headers: headers?,
        upstream_headers: upstream_headers?,
        body: body?,
        retry_after: retry_after?,
        remaining: remaining?,
        held: held?,
        json: json?,
        budgets: budgets?,
    })
}

fn statuses(node: Reader<'_>) -> Option<Statuses> {
    let Value::Map(counts) = &node.node.value else {
        let status = node.whole_number().and_then(status);
        return match status {
            Some(status) => Some(Statuses::All(status)),
            None => {
                node.expected("a status from 200 to 599, or a map of statuses and numbers such as {200: 20, 429: 5}")
            }
        };
    };
    if counts.is_empty() {
        return node.expected("at least one status");
    }
    let count = |Entry { key, position, value }: &Entry| {
        let Some(status) = key.parse().ok().and_then(status) else {
            node.mistakes.add(*position, format!("expected a status from 200 to 599, found {key:?}"));
            return None;
        };
        Some((status, range(node.of(value))?))
    };
    Some(Statuses::Counts(counts.iter().map(count).collect::<Option<_>>()?))
}

fn status(number: u64) -> Option<u16> {
    u16::try_from(number).ok().filter(|status| (200..600).contains(status))
}

/// A number, or a range such as `20..22`.
fn range(node: Reader<'_>) -> Option<Range> {
    let parsed = match &node.node.value {
        Value::Number(number) => number.as_u64().map(|number| Range { first: number, last: number }),
        Value::Text(text) => text.split_once("..").and_then(|(first, last)| {
            let range = Range { first: first.trim().parse().ok()?, last: last.trim().parse().ok()? };
            (range.first <= range.last).then_some(range)
        }),
        _ => None,
    };
    match parsed {
        Some(range) => Some(range),
        None => node.expected("a number, or a range such as 20..22"),
    }
}

fn headers(node: Reader<'_>) -> Option<Vec<(String, Matcher, Position)>> {
    let header =
        |Entry { key, value, .. }: &Entry| Some((key.to_ascii_lowercase(), matcher(node.of(value))?, value.position));
    node.entries()?.iter().map(header).collect()
}

/// Values of a JSON document by their pointers.
fn json(node: Reader<'_>) -> Option<Vec<(String, Matcher, Position)>> {
    let value = |Entry { key, position, value }: &Entry| {
        if !key.starts_with('/') {
            node.mistakes.add(*position, format!("expected a JSON pointer such as /error/code, found {key:?}"));
            return None;
        }
        Some((key.clone(), matcher(node.of(value))?, value.position))
    };
    node.entries()?.iter().map(value).collect()
}

/// A text, or a map with one of `absent`, `present` and `matches`.
fn matcher(node: Reader<'_>) -> Option<Matcher> {
    if !node.is_map() {
        return node.text("a text, or one of {absent: true}, {present: true} and {matches: REGEX}").map(Matcher::Exact);
    }
    let fields = node.fields(&["absent", "present", "matches"])?;
    let flag = |name: &str| fields.take(name).map(|node| (node, node.flag()));
    match (flag("absent"), flag("present"), fields.take("matches")) {
        (Some((_, Some(true))), None, None) => Some(Matcher::Absent),
        (None, Some((_, Some(true))), None) => Some(Matcher::Present),
        (Some((node, Some(false))), None, None) | (None, Some((node, Some(false))), None) => node.expected("true"),
        (None, None, Some(regex)) => {
            let text = regex.text("a regular expression")?;
            match Regex::new(&text) {
                Ok(regex) => Some(Matcher::Regex(regex)),
                Err(why) => regex.refuse(format!("expected a regular expression: {why}")),
            }
        }
        _ => node.expected("one of {absent: true}, {present: true} and {matches: REGEX}"),
    }
}

/// A duration, or a map of `is` and `within`. `is` may be `0s`.
fn tolerance(node: Reader<'_>, within: Micros) -> Option<Tolerance> {
    let duration = |node: Reader<'_>| match node.exact_text().map(Micros::parse) {
        Some(Ok(duration)) => Some(duration),
        _ => node.expected("a duration such as 0.5s, 15m or 31d"),
    };
    if !node.is_map() {
        return Some(Tolerance { is: duration(node)?, within });
    }
    let fields = node.fields(&["is", "within"])?;
    let within = fields.take("within").map_or(Some(within), duration);
    match fields.take("is") {
        Some(is) => Some(Tolerance { is: duration(is)?, within: within? }),
        None => node.expected("a duration, or a map such as {is: 30s, within: 2s}"),
    }
}

impl Statuses {
    /// Whether these are the statuses, with their numbers.
    pub(crate) fn accept(&self, found: &[(u16, u64)]) -> bool {
        match self {
            Self::All(status) => found.iter().all(|(found, _)| found == status),
            Self::Counts(counts) => {
                let number = |status: u16| found.iter().find(|(found, _)| *found == status).map_or(0, |(_, n)| *n);
                counts.iter().all(|(status, range)| range.contains(number(*status)))
                    && found.iter().all(|(found, _)| counts.iter().any(|(status, _)| status == found))
            }
        }
    }
}

impl Range {
    pub(crate) fn contains(self, number: u64) -> bool {
        (self.first..=self.last).contains(&number)
    }
}

impl Matcher {
    /// Whether a value is as expected; `None` is an absent value.
    pub(crate) fn accepts(&self, value: Option<&str>) -> bool {
        match self {
            Self::Exact(text) => value == Some(text),
            Self::Absent => value.is_none(),
            Self::Present => value.is_some(),
            Self::Regex(regex) => value.is_some_and(|value| regex.is_match(value)),
        }
    }
}

impl Tolerance {
    pub(crate) fn accepts(self, found: Micros) -> bool {
        found <= self.is.plus(self.within) && found.plus(self.within) >= self.is
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(status) => write!(f, "{status}"),
            Self::Counts(counts) => {
                let texts: Vec<String> = counts.iter().map(|(status, range)| format!("{status} × {range}")).collect();
                f.write_str(&texts.join(", "))
            }
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}..{}", self.first, self.last) }
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => write!(f, "{text:?}"),
            Self::Absent => f.write_str("absent"),
            Self::Present => f.write_str("present"),
            Self::Regex(regex) => write!(f, "matches {:?}", regex.as_str()),
        }
    }
}
