//! Doubles that are integers: all numbers of a protobuf `Struct` are doubles.

use alloc::string::{String, ToString};

/// Up to 2⁵³, doubles leave out no integer.
pub(crate) const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// The integer that it is. `None` for any other number, and beyond ±2⁵³.
pub(crate) fn whole(double: f64) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "compared with what it was")]
    let whole = double as i64;
    (double.abs() <= MAX_EXACT && whole as f64 == double).then_some(whole)
}

/// A number as text, as JSON has it: `42`, `3.5`, `1e+300`. `None` for what JSON has no numbers for.
pub(crate) fn text(double: f64) -> Option<String> {
    whole(double)
        .map(|whole| whole.to_string())
        .or_else(|| serde_json::Number::from_f64(double).map(|number| number.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_integers_are_whole() {
        assert_eq!([0.0, -0.0, -2.0, MAX_EXACT].map(whole), [Some(0), Some(0), Some(-2), Some(1 << 53)]);
        assert_eq!([0.5, -1e-300, MAX_EXACT + 2.0, f64::INFINITY, f64::NAN].map(whole), [None; 5]);
    }

    #[test]
    fn a_number_has_one_text() {
        let texts = [42.0, -0.0, 3.5, -0.25, 9_007_199_254_740_993.0, 0.1, 1e300].map(|double| text(double).unwrap());
        assert_eq!(texts, ["42", "0", "3.5", "-0.25", "9007199254740992", "0.1", "1e+300"]);
        assert_eq!([f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(text), [None, None, None]);
    }
}
