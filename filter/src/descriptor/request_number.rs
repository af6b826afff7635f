//! Number that a request carries, such as the limit of a plan in a claim of a verified token.

use super::attributes::Attributes;
use super::hits_addend::digits;
use super::source::Source;
use crate::double;

/// Number that a request carries, in place of a number of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestNumber {
    /// Source of the number, which no client chooses.
    pub source: Source,
    /// Number of a request without a whole number from 0 on.
    pub default: u64,
    /// Maximum, in place of greater numbers.
    pub max: u64,
}

impl RequestNumber {
    /// Returns the number for `request`, at most [`max`](Self::max). A value that is missing, negative, fractional or no
    /// number is the [default](Self::default).
    #[must_use]
    pub fn read(&self, request: &dyn Attributes) -> u64 {
        let is_large = |text: &[u8]| matches!(self.source, Source::Property(_)) && double::is_beyond_64_bits(text);
        let number = |text: &[u8]| if is_large(text) { Some(u64::MAX) } else { whole(text) };
        let number = self.source.value(request).as_deref().and_then(number);
        number.map_or(self.default, |number| number.min(self.max))
    }
}

/// Most powers of ten that a number is multiplied by: beyond, any digit but 0 exceeds 64 bits.
const MAX_POWERS: i64 = 20;

/// Parses a whole number from 0 on in any spelling of JSON: `20`, `20.0`, `2e1`, `0.2E+2`, `-0`; with optional blanks
/// around it, and zeros before it. Saturates at 64 bits. `None` for any other text.
fn whole(text: &[u8]) -> Option<u64> {
    decimal(text, 0).filter(|(_, is_exact)| *is_exact).map(|(number, _)| number)
}

/// Parses a number from 0 on as [`whole`] does, times 10 to the power of `shift`. Returns its whole part, saturated at 64
/// bits, and whether that is all of it.
pub(crate) fn decimal(text: &[u8], shift: i64) -> Option<(u64, bool)> {
    let text = text.trim_ascii();
    let magnitude = text.strip_prefix(b"-").unwrap_or(text);
    let end = magnitude.iter().position(|byte| byte | 0x20 == b'e').unwrap_or(magnitude.len());
    let (digits, exponent) = match magnitude.split_at_checked(end)? {
        (digits, []) => (digits, 0),
        (digits, [_, exponent @ ..]) => (digits, parse_exponent(exponent)?),
    };
    let point = digits.iter().position(|byte| *byte == b'.').unwrap_or(digits.len());
    if point == 0 || point.saturating_add(1) == digits.len() {
        return None;
    }
    // Number of the digits that are left of the decimal point, once the exponent has moved it.
    let mut left = exponent.saturating_add(shift).saturating_add(i64::try_from(point).ok()?);
    let (mut number, mut is_exact) = (0_u64, true);
    for (at, digit) in digits.iter().enumerate() {
        if at == point {
            continue;
        }
        if !digit.is_ascii_digit() {
            return None;
        }
        if left > 0 {
            number = number.saturating_mul(10).saturating_add(u64::from(digit & 0x0f));
        } else if *digit != b'0' {
            is_exact = false;
        }
        left = left.saturating_sub(1);
    }
    for _ in 0..left.min(MAX_POWERS) {
        number = number.saturating_mul(10);
    }
    let is_zero = number == 0 && is_exact;
    Some((number, is_exact)).filter(|_| is_zero || magnitude.len() == text.len())
}

/// Parses the exponent of a number: digits, with an optional sign.
fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (is_negative, text) = match text {
        [b'-', size @ ..] => (true, size),
        [b'+', size @ ..] => (false, size),
        size => (false, size),
    };
    let size = i64::try_from(digits(text)?.0).unwrap_or(i64::MAX);
    Some(if is_negative { size.saturating_neg() } else { size })
}

#[cfg(test)]
mod tests {
    use super::super::attributes::Request;
    use super::*;

    fn read(value: &str) -> u64 {
        let number = RequestNumber { source: Source::request_header("x-limit"), default: 7, max: 100 };
        number.read(&Request::default().header("x-limit", value))
    }

    #[test]
    fn a_whole_number_counts_up_to_the_maximum() {
        for (value, expected) in [("0", 0), ("42", 42), (" 99 ", 99), ("099", 99), ("100", 100), ("101", 100)] {
            assert_eq!(read(value), expected, "{value}");
        }
    }

    #[test]
    fn a_whole_number_counts_in_any_spelling_of_json() {
        for value in
            ["20", "20.0", "2e1", "2E1", "2e+1", "0.2e2", "200e-1", "20.000", "2.0e1", "0020e000", "2000E-0002"]
        {
            assert_eq!(read(value), 20, "{value}");
        }
        for zero in ["0", "-0", "0.0", "-0.0", "0e5", "-0e-5", "0e999999999999999999999", "0e-999999999999999999999"] {
            assert_eq!(read(zero), 0, "{zero}");
        }
    }

    #[test]
    fn a_number_of_any_size_is_the_maximum() {
        let digits = "9".repeat(400);
        for value in [
            "184467440737095516160000",
            "1e2",
            "9e9",
            "1.5e20",
            "1E20",
            "12e+20",
            "1e020",
            "1e400",
            "1e999999999999999999999",
        ] {
            assert_eq!(read(value), 100, "{value}");
        }
        assert_eq!(read(&digits), 100);
        assert_eq!(read(&[&digits, ".0"].concat()), 100);
    }

    #[test]
    fn the_text_of_a_large_claim_is_no_number_in_a_header() {
        assert_eq!(read("0x43e0000000000000"), 7);
    }

    #[test]
    fn any_other_value_is_the_default() {
        let texts =
            ["", "-1", "3.5", "ten", "+5", "0x10", "10,20", "true", "inf", "NaN", "1_0", "1 0", "10%", "-", "."];
        let halves = ["5.", ".5", "5.e1", "e1", "1e", "1e+", "1e-+1", "1e1.0", "1.2.3", "1e1e1", "--1", "1e 1"];
        let fractions = ["1e-1", "25e-1", "0.5", "1.05e1", "-1e2", "-1e400", "1e-400", "1e-999999999999999999999"];
        for value in texts.into_iter().chain(halves).chain(fractions) {
            assert_eq!(read(value), 7, "{value}");
        }
        assert_eq!(read(&["9".repeat(400).as_str(), ".5"].concat()), 7);
        let number = RequestNumber { source: Source::request_header("x-limit"), default: 7, max: 100 };
        assert_eq!(number.read(&Request::default()), 7);
    }
}
