//! Numbers of JSON, as the text that limits see.

use alloc::string::ToString;
use alloc::vec::Vec;

/// The longest whole number that is written out: 64 bits have no more digits.
const MAX_DIGITS: usize = 20;
/// The exponent of the most decimal places that are written out, as of the numbers in dynamic metadata.
const MIN_EXPONENT: i64 = -15;

/// The one spelling of a number: `3` for `3`, `3.0` and `30e-1`; `0.5` for `0.50` and `50e-2`. Fractions of more than 15
/// places, and whole numbers that end in so many zeros that they have more than 20 digits, are the digits that count and
/// an exponent: `1e-16`, `1e300`.
pub(crate) fn number(written: &[u8]) -> Option<Vec<u8>> {
    let unsigned = written.strip_prefix(b"-");
    let mut number: Vec<u8> = unsigned.map(|_| b'-').into_iter().collect();
    let sign = number.len();
    let (mut part, mut has_digits) = (Part::Whole, false);
    let (mut exponent, mut power, mut power_sign) = (0_i64, 0_i64, 0_i64);
    for byte in unsigned.unwrap_or(written) {
        match (byte, part) {
            (b'0'..=b'9', Part::Power) => {
                // Beyond what is of any use, any is as good.
                power = power.saturating_mul(10).saturating_add(i64::from(byte & 0x0f)).min(1 << 40);
                has_digits = true;
            }
            (b'0'..=b'9', _) => {
                if number.len() > sign || *byte != b'0' {
                    number.push(*byte);
                }
                exponent = exponent.saturating_sub((part == Part::Fraction).into());
                has_digits = true;
            }
            (b'.', Part::Whole) if has_digits => (part, has_digits) = (Part::Fraction, false),
            (b'e' | b'E', Part::Whole | Part::Fraction) if has_digits => (part, has_digits) = (Part::Power, false),
            (b'+' | b'-', Part::Power) if !has_digits && power_sign == 0 => {
                power_sign = if *byte == b'-' { -1 } else { 1 }
            }
            _ => return None,
        }
    }
    exponent = exponent.saturating_add(if power_sign < 0 { power.saturating_neg() } else { power });
    while number.len() > sign && number.last() == Some(&b'0') {
        number.pop();
        exponent = exponent.saturating_add(1);
    }
    if number.len() == sign {
        return has_digits.then(|| b"0".to_vec());
    }
    let digits = number.len().saturating_sub(sign);
    match usize::try_from(exponent) {
        Ok(0) => {}
        Ok(zeros) if zeros.saturating_add(digits) <= MAX_DIGITS => {
            number.resize(number.len().saturating_add(zeros), b'0')
        }
        Err(_) if exponent >= MIN_EXPONENT => point(&mut number, sign, exponent),
        _ => {
            number.push(b'e');
            number.extend_from_slice(exponent.to_string().as_bytes());
        }
    }
    has_digits.then_some(number)
}

/// Writes the decimal point of a number whose digits begin at `first`, so that `-exponent` digits follow the point.
fn point(number: &mut Vec<u8>, first: usize, exponent: i64) {
    let places = usize::try_from(exponent.unsigned_abs()).unwrap_or_default();
    while number.len().saturating_sub(first) <= places {
        number.insert(first, b'0');
    }
    number.insert(number.len().saturating_sub(places), b'.');
}

/// Part of a number.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    Fraction,
    Power,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(written: &str) -> Option<String> {
        number(written.as_bytes()).map(|text| String::from_utf8(text).unwrap())
    }

    #[test]
    fn a_number_has_one_spelling() {
        for (written, expected) in [
            ("0", "0"),
            ("-0", "0"),
            ("-0.0e7", "0"),
            ("3", "3"),
            ("3.0", "3"),
            ("30e-1", "3"),
            ("0.3E+1", "3"),
            ("-5", "-5"),
            ("-2e3", "-2000"),
            ("9007199254740993.0", "9007199254740993"),
            ("18446744073709551615", "18446744073709551615"),
            ("36893488147419103232", "36893488147419103232"),
            ("1e19", "10000000000000000000"),
            ("1e20", "1e20"),
            ("100000000000000000000", "1e20"),
            ("1.5", "1.5"),
            ("-15.0e-1", "-1.5"),
            ("123.456", "123.456"),
            ("0.015", "0.015"),
            ("50e-2", "0.5"),
            ("0.000000000000001", "0.000000000000001"),
            ("0.0000000000000001", "1e-16"),
            ("1e400", "1e400"),
            ("1e99999999999999999999", "1e1099511627776"),
        ] {
            assert_eq!(read(written).as_deref(), Some(expected), "{written}");
        }
        for written in ["", "-", "1.", ".5", "1e", "1e+", "--1", "1.5.2", "0x10", "NaN", "1e5e5", "+1"] {
            assert_eq!(read(written), None, "{written}");
        }
    }
}
