//! Text forms of limits, overrides, keys and answers.

use std::io::{self, Write};

use serde_json::{Value, json};
use weir_filter::limit::{Algorithm, Algorithms, Outcome, Period, Replacement, Scale, TokenBucket};
use weir_filter::overrides::Ruling;
use weir_filter::units::Micros;

use super::configured::Limit;
use super::found::{Found, State};
use super::span::span;

/// A token bucket as text: `20 at once, then 1 per 600ms`, or `60000000 at once, then 833333 per second`.
pub(super) fn shape(bucket: TokenBucket) -> String {
    let held = match bucket.max_delay() {
        Micros::ZERO => String::new(),
        longest => format!(", held up to {}", span(longest)),
    };
    let (at_once, rate) = (bucket.capacity().0, bucket.rate());
    if bucket.emission() >= Micros::from_millis(1) {
        return format!("{at_once} at once, then 1 per {}{held}", span(bucket.emission()));
    }
    let per_second = u128::from(rate.per_micro()).saturating_mul(1_000_000) / u128::from(rate.per_token());
    format!("{at_once} at once, then {per_second} per second{held}")
}

/// A window as text: `50 in any 30s, exact`.
pub(super) fn way(algorithm: &Algorithm) -> String {
    match algorithm {
        Algorithm::TokenBucket(bucket) => shape(*bucket),
        Algorithm::LeasedBucket(leased) => {
            format!("{}, leased for {}", shape(*leased.bucket()), span(leased.ttl()))
        }
        Algorithm::SlidingLog(log) => format!("{} in any {}, exact", log.limit().0, span(log.window())),
        Algorithm::SlidingWindow(sliding) => {
            format!("{} in any {}, approximate", sliding.limit().0, span(sliding.window()))
        }
        Algorithm::FixedWindow(fixed) => format!("{} in each {}", fixed.limit().0, span(fixed.window())),
        Algorithm::Quota(quota) => {
            let article = if quota.period() == Period::Hour { "an" } else { "a" };
            format!("{} {article} {} ({})", quota.limit().0, quota.period().name(), zone(quota.offset_minutes()))
        }
        Algorithm::Concurrency(places) => {
            format!("{} in flight, lease {}", places.max().0, span(places.lease()))
        }
        Algorithm::Budget(budget) => way(&budget.algorithm()),
        Algorithm::NoTokens => "0 at once".to_owned(),
    }
}

/// An override's window as text, without the settings that it inherits from the limit: `10 a month`.
fn replacement(Replacement { algorithm, inherits, .. }: &Replacement) -> String {
    let way = way(algorithm);
    let inherited = match algorithm {
        Algorithm::Quota(_) => way.rfind(" ("),
        Algorithm::SlidingWindow(_) | Algorithm::Concurrency(_) => way.rfind(", "),
        _ => None,
    };
    match inherited.filter(|_| *inherits).and_then(|end| way.get(..end)) {
        Some(own) => own.to_owned(),
        None => way,
    }
}

/// All windows of a limit as text.
pub(super) fn ways(windows: &Algorithms, between: &str) -> String {
    windows.algorithms().map(way).collect::<Vec<_>>().join(between)
}

/// A time zone as text: `UTC+05:30`.
fn zone(offset_minutes: i32) -> String {
    let (sign, minutes) = (if offset_minutes < 0 { '-' } else { '+' }, offset_minutes.unsigned_abs());
    match minutes {
        0 => "UTC".to_owned(),
        _ => format!("UTC{sign}{:02}:{:02}", minutes / 60, minutes % 60),
    }
}

/// Time until all these windows admit the request, as text: `now`, `in 3s`.
pub(super) fn answer<'a>(told: impl Iterator<Item = (&'a Algorithm, &'a Outcome)>) -> String {
    let (mut wait, mut delay, mut for_a_place) = (Micros::ZERO, Micros::ZERO, false);
    for (algorithm, outcome) in told {
        match (algorithm, outcome.retry_after) {
            (_, None) => return format!("never: {} tokens are more than it holds", outcome.cost.0),
            // The end of the requests in flight is unknown.
            (Algorithm::Concurrency(_), Some(_)) => for_a_place |= !outcome.admitted,
            (_, Some(until)) => (wait, delay) = (wait.max(until), delay.max(outcome.delay)),
        }
    }
    match (for_a_place, wait, delay) {
        (true, Micros::ZERO, _) => "when a request ends".to_owned(),
        (true, wait, _) => format!("when a request ends, and not within {}", span(wait)),
        (false, Micros::ZERO, Micros::ZERO) => "now".to_owned(),
        (false, Micros::ZERO, delay) => format!("now, held for {}", span(delay)),
        (false, wait, _) => format!("in {}", span(wait)),
    }
}

/// An override with its remaining time, reason and operator, as text: `blocked, for 9m 58s; reason: abuse; by carol`.
pub(crate) fn ruling_and_rest(found: &Found, limit: Option<&Limit>) -> String {
    let (ruling, left) = match &found.state {
        State::Malformed(error) => return format!("ignored: {error}"),
        State::Over => return "expired".to_owned(),
        State::InForce { ruling, left } => (ruling, left),
    };
    let mut text = ruling_text(ruling, found, limit);
    if let Some(left) = left {
        // An end is a whole second, at most 1 s later than was asked for: the remaining time is rounded down.
        text += &format!(", for {}", span(Micros::from_secs((left.0 / 1_000_000).max(1))));
    }
    if let Some(reason) = found.note("reason") {
        text += &format!("; reason: {}", printable(reason));
    }
    if let Some(by) = found.note("by") {
        text += &format!("; by {}", printable(by));
    }
    text
}

fn ruling_text(ruling: &Ruling, found: &Found, limit: Option<&Limit>) -> String {
    match ruling {
        Ruling::Algorithms(windows) => windows.iter().map(replacement).collect::<Vec<_>>().join("; "),
        Ruling::Scaled(scale) => {
            let word = format!("{} {}", ruling.name(), found.value[ruling.name()]);
            match (limit.and_then(Limit::windows), scale) {
                (None, _) => word,
                (Some(windows), Scale::Max(_)) => ways(&windows.scaled(*scale), "; "),
                (Some(windows), Scale::Times(_)) => format!("{} ({word})", ways(&windows.scaled(*scale), "; ")),
            }
        }
        word => word.name().to_owned(),
    }
}

/// A text without control characters, which a terminal might obey.
fn printable(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '?' } else { char }).collect()
}

/// An override as JSON.
pub(crate) fn override_json(found: &Found, limit: Option<&Limit>) -> Value {
    let (state, left, error) = match &found.state {
        State::InForce { left, .. } => ("in_force", left.map(|left| left.0 / 1_000_000), None),
        State::Over => ("expired", None, None),
        State::Malformed(error) => ("malformed", None, Some(error.to_string())),
    };
    json!({
        "state": state,
        "value": found.value,
        "text": ruling_and_rest(found, limit),
        "until": found.until(),
        "left_seconds": left,
        "reason": found.note("reason"),
        "by": found.note("by"),
        "error": error,
    })
}

/// The key of a field as JSON: the text after the limit's name, null for a whole limit.
pub(crate) fn key_json(field: &[u8]) -> Value {
    key_in(field).map(|key| key.escape_ascii().to_string()).into()
}

/// The key of a field, in the filter's form; `(all)` for the only bucket of a limit without descriptor entries.
pub(crate) fn key_of(field: &[u8]) -> String {
    match key_in(field) {
        Some([]) => "(all)".to_owned(),
        key => key.unwrap_or_default().escape_ascii().to_string(),
    }
}

fn key_in(field: &[u8]) -> Option<&[u8]> {
    let field = untagged(field);
    field.iter().position(|byte| *byte == b':').and_then(|colon| field.get(colon + 1..))
}

/// A field without the braces of a hash tag around limit and key.
pub(crate) fn untagged(field: &[u8]) -> &[u8] {
    match field.strip_prefix(b"{") {
        Some(inner) => inner.strip_suffix(b"}").unwrap_or(inner),
        None => field,
    }
}

/// Writes one line: a name and a value.
pub(crate) fn line(out: &mut dyn Write, name: &str, value: &str) -> io::Result<()> {
    writeln!(out, "{name:<10} {value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_override_is_shown_without_the_settings_it_inherits() {
        let told = |value: &str| ruling_and_rest(&Found::read(value.as_bytes(), Micros::ZERO), None);
        assert_eq!(told(r#"{"quota": {"max_requests": 10, "unit": "month"}}"#), "10 a month");
        assert_eq!(
            told(
                r#"{"quota": {"max_requests": 10, "unit": "hour", "utc_offset": "Z"}, "concurrency": {"max_requests": 3}}"#
            ),
            "10 an hour (UTC); 3 in flight"
        );
        assert_eq!(told(r#"{"sliding_window": {"max_requests": 0, "window": "60s"}}"#), "0 in any 1m");
        assert_eq!(told(r#"{"token_bucket": {"max_tokens": 0, "fill_interval": "60s"}}"#), "0 at once");
    }

    #[test]
    fn reason_and_operator_are_shown_without_control_characters() {
        let found = Found::read(br#"{"max": 10, "reason": "a\u001b[2Jsale", "by": "carol"}"#, Micros::ZERO);
        assert_eq!(ruling_and_rest(&found, None), "max 10; reason: a?[2Jsale; by carol");
    }

    #[test]
    fn a_time_zone_is_shown_as_its_offset() {
        assert_eq!([0, 330, -90].map(zone), ["UTC", "UTC+05:30", "UTC-01:30"]);
    }
}
