//! Durations in protobuf's JSON, as Envoy takes them.

use crate::check::finding::Finding;
use crate::check::rules;
use crate::documents::{At, Value, quoted};

/// Seconds from which a duration is too long for Envoy: its nanoseconds are a signed number of 64 bits.
const TOO_LONG: f64 = 9_223_372_036.0;
/// Longest duration of protobuf's parser, in seconds: 10,000 years.
const MAX_SECONDS: u64 = 315_576_000_000;
/// Most decimals of a duration.
const MAX_DECIMALS: usize = 9;

/// Seconds of a duration that protobuf's parser takes, written as text or as its message. `None` for other values.
pub(super) fn seconds(at: &At<'_>) -> Option<f64> {
    at.text().map_or_else(|| of_message(at), of_text)
}

/// Whether Envoy takes a duration where it uses it.
pub(super) fn is_envoys(seconds: f64) -> bool {
    (0.0..TOO_LONG).contains(&seconds)
}

/// The finding about a duration that Envoy does not take.
pub(super) fn beyond(at: &At<'_>) -> Finding {
    let found = at.text().map_or_else(|| at.kind(), quoted);
    let expected = "a duration from 0 s to 9223372035 s";
    Finding::at(rules::BOUNDS, at, expected, found, "change the value; Envoy refuses it")
}

/// The finding about a value that is no duration.
pub(super) fn refused(at: &At<'_>) -> Finding {
    let found = at.text().map_or_else(|| at.kind(), quoted);
    let help = "write seconds, at most nine decimals, and `s`; Envoy refuses other units, spaces and bare numbers";
    Finding::at(rules::TYPE, at, "a duration such as \"0.25s\" or \"60s\"", found, help)
}

/// Seconds of a duration written as its message, which Envoy takes too.
#[expect(clippy::cast_precision_loss, reason = "bounds have few digits")]
fn of_message(at: &At<'_>) -> Option<f64> {
    let part = |at: At<'_>| {
        let signed = match &at.node.value {
            Value::Number(number) => number.as_i64(),
            Value::Text(text) => text.parse().ok(),
            _ => None,
        };
        let number = signed.or_else(|| i64::try_from(at.integer()?).ok())?;
        (number.unsigned_abs() <= MAX_SECONDS).then_some(number as f64)
    };
    if !at.is_object() || !at.entries().all(|(name, at)| matches!(name, "seconds" | "nanos") && part(at).is_some()) {
        return None;
    }
    let of = |name: &str| at.field(name).and_then(part).unwrap_or_default();
    Some(of("seconds") + of("nanos") / 1e9)
}

/// Seconds of a text that is a duration in protobuf's JSON, as Envoy takes it. (Envoy 1.36 and 1.40 were observed.)
fn of_text(text: &str) -> Option<f64> {
    let seconds = text.strip_suffix('s')?;
    let (sign, seconds) = seconds.strip_prefix('-').map_or((1.0, seconds), |seconds| (-1.0, seconds));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, decimals) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let is_in_range = whole.parse().is_ok_and(|seconds: u64| seconds <= MAX_SECONDS);
    let is_sound = is_number(whole) && is_number(decimals) && decimals.len() <= MAX_DECIMALS && is_in_range;
    if is_sound { seconds.parse::<f64>().ok().map(|seconds| sign * seconds) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_that_envoy_takes() {
        for (text, seconds) in [
            ("1s", 1.0),
            ("01s", 1.0),
            ("0.123456789s", 0.123_456_789),
            ("0s", 0.0),
            ("-0s", 0.0),
            ("-0.0s", 0.0),
            ("9223372035s", 9_223_372_035.0),
        ] {
            assert_eq!(of_text(text), Some(seconds), "{text}");
            assert!(is_envoys(seconds), "{text}");
        }
        for (text, seconds) in [("-1s", -1.0), ("-0.5s", -0.5), ("9223372036s", 9_223_372_036.0)] {
            assert_eq!(of_text(text), Some(seconds), "{text}");
            assert!(!is_envoys(seconds), "the parser takes {text}, and Envoy does not");
        }
        let wrong = ["", "s", "1", "1 s", "1sec", "1.s", ".5s", "0.1234567890s", "+1s", "1S", "1ms", "1e3s"];
        for text in wrong.into_iter().chain(["315576000001s", "1.5 s", "1.+5s", "--0s", "-s"]) {
            assert_eq!(of_text(text), None, "{text}");
        }
    }
}
