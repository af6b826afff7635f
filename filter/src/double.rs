//! Doubles that are integers: all numbers of a protobuf `Struct` are doubles.

/// Up to 2⁵³, doubles leave out no integer.
pub(crate) const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// The integer that it is. `None` for any other number, and beyond ±2⁵³.
pub(crate) fn whole(double: f64) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "compared with what it was")]
    let whole = double as i64;
    (double.abs() <= MAX_EXACT && whole as f64 == double).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_integers_are_whole() {
        assert_eq!([0.0, -0.0, -2.0, MAX_EXACT].map(whole), [Some(0), Some(0), Some(-2), Some(1 << 53)]);
        assert_eq!([0.5, -1e-300, MAX_EXACT + 2.0, f64::INFINITY, f64::NAN].map(whole), [None; 5]);
    }
}
