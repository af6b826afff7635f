//! Durations in protobuf's JSON form, as in Envoy's YAML: `"60s"`, `"0.05s"`.
//!
//! Source: `google/protobuf/duration.proto`, "JSON Mapping". Negative durations are refused.

use alloc::fmt;

use crate::units::Micros;

/// Greatest `google.protobuf.Duration`: 10,000 years.
const MAX_SECONDS: u64 = 315_576_000_000;

/// Text that is no duration for Weir.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DurationError {
    /// A text that is not of the form `60s` or `0.05s`.
    Form,
    /// A duration that is finer than Redis' clock: no whole number of microseconds.
    TooFine,
}

/// Parses `60s` or `0.05s`: whole seconds, then up to nine decimals.
pub(super) fn parse(text: &str) -> Result<Micros, DurationError> {
    let number = text.strip_suffix('s').ok_or(DurationError::Form)?;
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (number, None),
    };
    let seconds = digits(whole).filter(|seconds| *seconds <= MAX_SECONDS).ok_or(DurationError::Form)?;
    let nanos = fraction.map_or(Some(0), nanoseconds).ok_or(DurationError::Form)?;
    if !nanos.is_multiple_of(1_000) {
        return Err(DurationError::TooFine);
    }
    Ok(Micros::from_secs(seconds).plus(Micros(nanos / 1_000)))
}

/// Parses the decimals of a second into nanoseconds: `05` is 50,000,000 ns.
fn nanoseconds(fraction: &str) -> Option<u64> {
    let missing = 9_usize.checked_sub(fraction.len())?;
    (0..missing).try_fold(digits(fraction)?, |nanos, _| nanos.checked_mul(10))
}

/// Parses digits without a sign, which `str::parse` alone would accept.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Displays a duration in the form that [`parse`] reads.
pub(super) struct Seconds(pub(super) Micros);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Micros(micros) = self.0;
        let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
        match fraction {
            0 => write!(f, "{seconds}s"),
            _ => write!(f, "{seconds}.{}s", format!("{fraction:06}").trim_end_matches('0')),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_parsed_as_in_envoys_yaml() {
        assert_eq!(parse("60s"), Ok(Micros::from_secs(60)));
        assert_eq!(parse("0.05s"), Ok(Micros::from_millis(50)));
        assert_eq!(parse("1.000001000s"), Ok(Micros(1_000_001)));
        assert_eq!(parse("0s"), Ok(Micros::ZERO));
        assert_eq!(parse("315576000000s"), Ok(Micros::from_secs(MAX_SECONDS)));
    }

    #[test]
    fn other_forms_are_refused() {
        for text in ["", "s", "60", "1m", "1 s", " 1s", "-1s", "+1s", "1.s", ".5s", "1.0000000000s", "1e3s", "1.+5s"] {
            assert_eq!(parse(text), Err(DurationError::Form), "{text}");
        }
        assert_eq!(parse("315576000001s"), Err(DurationError::Form));
        assert_eq!(parse("99999999999999999999s"), Err(DurationError::Form));
    }

    #[test]
    fn durations_finer_than_a_microsecond_are_refused() {
        assert_eq!(parse("0.0000001s"), Err(DurationError::TooFine));
        assert_eq!(parse("1.000000999s"), Err(DurationError::TooFine));
    }

    proptest! {
        #[test]
        fn a_displayed_duration_parses_to_itself(micros in 0_u64..=MAX_SECONDS) {
            prop_assert_eq!(parse(&Seconds(Micros(micros)).to_string()), Ok(Micros(micros)));
        }
    }
}
