//! Integers and texts of doubles: all numbers of a protobuf `Struct` are doubles.

use alloc::string::{String, ToString};

/// 2⁵³: a double represents every integer up to here exactly.
pub(crate) const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// Returns the integer that equals `double`. `None` for a fraction, for NaN, and beyond ±2⁵³.
pub(crate) fn whole(double: f64) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "the result is compared with the double")]
    let whole = double as i64;
    (double.abs() <= MAX_EXACT && whole as f64 == double).then_some(whole)
}

/// Formats a number as JSON does: `42`, `3.5`. `None` for NaN and infinities, which JSON does not have.
///
/// Fractions of more than 15 digits, and integers beyond 64 bits, are written as the bits of the double (`0x` and 16
/// hexadecimal digits): JSON's form of these takes 15 KB of tables.
pub(crate) fn text(double: f64) -> Option<String> {
    if !double.is_finite() {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "the result is compared with the double")]
    let whole = double as i64;
    if whole as f64 == double && whole != i64::MAX {
        return Some(whole.to_string());
    }
    let bits = || format!("0x{:016x}", double.to_bits());
    Some(decimal(double).unwrap_or_else(bits))
}

/// Whether this [text] of a number is one of 2⁶³ or more.
pub(crate) fn is_beyond_64_bits(text: &[u8]) -> bool {
    // The bits of positive doubles have the order of the doubles: those of 2⁶³ are 0x43e0000000000000.
    let starts = matches!(
        text,
        [b'0', b'x', b'5'..=b'7', ..]
            | [b'0', b'x', b'4', b'4'..=b'9' | b'a'..=b'f', ..]
            | [b'0', b'x', b'4', b'3', b'e' | b'f', ..]
    );
    starts && text.len() == 18
}

/// Formats a number with the fewest decimal places that parse to the same double. `None` beyond 15 places.
fn decimal(double: f64) -> Option<String> {
    let magnitude = double.abs();
    let mut scale = 1.0;
    for places in 1..=15_usize {
        scale *= 10.0;
        if magnitude * scale > MAX_EXACT {
            break;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "bounded above, and no less than 0"
        )]
        let digits = (magnitude * scale + 0.5) as u64;
        // Both operands are exact, so the quotient is the double nearest to the decimal number.
        if digits as f64 / scale == magnitude {
            let digits = format!("{digits:0width$}", width = places.saturating_add(1));
            let (whole, fraction) = digits.split_at_checked(digits.len().saturating_sub(places))?;
            let sign = if double < 0.0 { "-" } else { "" };
            return Some([sign, whole, ".", fraction].concat());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_integers_are_whole() {
        assert_eq!([0.0, -0.0, -2.0, MAX_EXACT].map(whole), [Some(0), Some(0), Some(-2), Some(1 << 53)]);
        assert_eq!([0.5, -1e-300, MAX_EXACT + 2.0, f64::INFINITY, f64::NAN].map(whole), [None; 5]);
    }

    #[test]
    fn a_number_has_one_text() {
        let texts = [42.0, -0.0, 3.5, -0.25, 9_007_199_254_740_993.0, 0.1, 0.05, 123.456, 1e18].map(text);
        let expected = ["42", "0", "3.5", "-0.25", "9007199254740992", "0.1", "0.05", "123.456", "1000000000000000000"];
        assert_eq!(texts, expected.map(|text| Some(text.to_owned())));
        assert_eq!(text(1e300).unwrap(), format!("0x{:016x}", 1e300_f64.to_bits()));
        assert_eq!([f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(text), [None, None, None]);
    }

    #[test]
    fn a_text_says_whether_its_number_is_beyond_64_bits() {
        for large in [9_223_372_036_854_775_808.0, 18_446_744_073_709_551_615.0, 1e19, 1e20, 1e300, f64::MAX] {
            assert!(is_beyond_64_bits(text(large).unwrap().as_bytes()), "{large}");
        }
        for other in
            [0.0, 42.0, 0.1, 1.0 / 3.0, -1.0 / 3.0, MAX_EXACT - 1.0, 9_223_372_036_854_774_784.0, -1e19, -1e300]
        {
            assert!(!is_beyond_64_bits(text(other).unwrap().as_bytes()), "{other}");
        }
    }

    proptest! {
        #[test]
        fn a_text_parses_to_its_number(digits in -999_999_999_i64..999_999_999, places in 0..9) {
            let double: f64 = format!("{digits}e-{places}").parse().unwrap();
            let text = text(double).unwrap();
            prop_assert_eq!(text.parse::<f64>().unwrap(), double, "{}", text);
            prop_assert_eq!(&text, &double.abs().copysign(if digits < 0 { -1.0 } else { 1.0 }).to_string());
        }

        #[test]
        fn different_numbers_have_different_texts(one: f64, other: f64) {
            prop_assert_eq!(text(one) == text(other), one == other || !one.is_finite() && !other.is_finite());
        }
    }
}
