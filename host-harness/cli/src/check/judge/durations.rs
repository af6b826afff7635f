//! Durations in protobuf's JSON, as Envoy takes them.

use crate::check::finding::Finding;
use crate::check::rules;
use crate::documents::{At, quoted};

/// Longest duration of Envoy, in whole seconds: its nanoseconds are a signed number of 64 bits.
const MAX_SECONDS: u64 = 9_223_372_035;
/// Most decimals of a duration.
const MAX_DECIMALS: usize = 9;

/// Seconds of a duration that Envoy takes, written as text or as its message. `None` for other values.
pub(super) fn seconds(at: &At<'_>) -> Option<f64> {
    at.text().map_or_else(|| of_message(at), of_text)
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
    let is_part = |(name, value): (&str, At<'_>)| {
        matches!(name, "seconds" | "nanos") && value.integer().is_some_and(|number| number <= MAX_SECONDS)
    };
    if !at.is_object() || !at.entries().all(is_part) {
        return None;
    }
    let part = |name: &str| at.field(name).and_then(|at| at.integer()).unwrap_or_default() as f64;
    Some(part("seconds") + part("nanos") / 1e9)
}

/// Seconds of a text that is a duration in protobuf's JSON, as Envoy takes it. (Envoy 1.36 and 1.40 were observed.)
fn of_text(text: &str) -> Option<f64> {
    let seconds = text.strip_suffix('s')?;
    // Zero may have a sign.
    let is_zero = seconds.bytes().all(|byte| matches!(byte, b'-' | b'0' | b'.'));
    let seconds = seconds.strip_prefix('-').filter(|_| is_zero).unwrap_or(seconds);
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, decimals) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let is_in_range = whole.parse().is_ok_and(|seconds: u64| seconds <= MAX_SECONDS);
    let is_sound = is_number(whole) && is_number(decimals) && decimals.len() <= MAX_DECIMALS && is_in_range;
    if is_sound { seconds.parse().ok() } else { None }
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
        }
        let wrong = ["", "s", "1", "1 s", "1sec", "1.s", ".5s", "0.1234567890s", "-1s", "+1s", "1S", "1ms", "1e3s"];
        for text in wrong.into_iter().chain(["9223372036s", "315576000000s", "1.5 s", "1.+5s", "--0s", "-s"]) {
            assert_eq!(of_text(text), None, "{text}");
        }
    }
}
