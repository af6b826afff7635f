//! Durations in protobuf's JSON form, as in Envoy's YAML (`"60s"`, `"0.05s"`), or with other units: `"15m"`, `"1h30m"`.
//!
//! Source: `google/protobuf/duration.proto`, "JSON Mapping". Negative durations are refused.

use alloc::fmt;

use super::Micros;

/// Greatest `google.protobuf.Duration`: 10,000 years.
const MAX_SECONDS: u64 = 315_576_000_000;

/// Units of the longer form and their lengths in µs, the greatest first.
const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000)];

/// Text that is no duration for Weir.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DurationError {
    /// A text that is not of the form `60s`, `0.05s` or `1h30m`.
    Form,
    /// A duration that is finer than Redis' clock: no whole number of microseconds.
    TooFine,
}

/// Parses Envoy's form, `60s` or `0.05s`, or whole numbers with units, `15m` or `1h30m`.
pub(super) fn parse(text: &str) -> Result<Micros, DurationError> {
    match seconds(text) {
        Err(DurationError::Form) if !text.is_empty() => with_units(text).ok_or(DurationError::Form),
        parsed => parsed,
    }
}

/// Parses `15m` or `1h30m`: whole numbers with the units d, h, m, s and ms, the greatest first, each at most once.
fn with_units(mut text: &str) -> Option<Micros> {
    let (mut sum, mut units) = (Micros::ZERO, UNITS.iter());
    while !text.is_empty() {
        let (number, rest) = text.split_at_checked(text.bytes().take_while(u8::is_ascii_digit).count())?;
        let (unit, rest) = rest.split_at_checked(rest.bytes().take_while(u8::is_ascii_lowercase).count())?;
        let (_, micros) = units.find(|(name, _)| *name == unit)?;
        sum = sum.plus(Micros(digits(number)?.checked_mul(*micros)?));
        text = rest;
    }
    (sum <= Micros::from_secs(MAX_SECONDS)).then_some(sum)
}

/// Parses `60s` or `0.05s`: whole seconds, then up to nine decimals.
fn seconds(text: &str) -> Result<Micros, DurationError> {
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

/// Displays a duration in the form that [`Micros::parse`] reads.
#[derive(Debug, Clone, Copy)]
pub struct Seconds(pub Micros);

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
    fn whole_numbers_may_have_other_units_the_greatest_first() {
        for (text, secs) in [("15m", 900), ("1h", 3_600), ("7d", 604_800), ("1h30m", 5_400), ("1d2h3m4s", 93_784)] {
            assert_eq!(parse(text), Ok(Micros::from_secs(secs)), "{text}");
        }
        assert_eq!(parse("500ms"), Ok(Micros::from_millis(500)));
        assert_eq!(parse("1s500ms"), Ok(Micros::from_millis(1_500)));
        assert_eq!(parse("3652500d"), Ok(Micros::from_secs(MAX_SECONDS)));
    }

    #[test]
    fn other_forms_are_refused() {
        for text in [
            "m",
            "1w",
            "1 m",
            "30m1h",
            "1m1m",
            "1h30",
            "1.5h",
            "1h0.5s",
            "-1m",
            "+1m",
            "1M",
            "1mm",
            "h30m",
            "1hour",
            "3652501d",
            "99999999999999999999d",
            "9999999999999999d",
            "1é",
            "é",
            "0m1",
        ] {
            assert_eq!(parse(text), Err(DurationError::Form), "{text}");
        }
        for text in ["", "s", "60", "1 s", " 1s", "-1s", "+1s", "1.s", ".5s", "1.0000000000s", "1e3s", "1.+5s"] {
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
