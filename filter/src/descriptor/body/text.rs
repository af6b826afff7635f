//! JSON's strings, numbers and words, as the text that limits see.

use alloc::borrow::Cow;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::tokens::find_quote;
use super::values::Value;

/// The longest whole number that is written out: 64 bits have no more digits.
const MAX_DIGITS: usize = 20;
/// The exponent of the most decimal places that are written out, as of the numbers in dynamic metadata.
const MIN_EXPONENT: i64 = -15;

/// A string as it is written, without its quotes: the text that it stands for. A surrogate without its other half is
/// U+FFFD. `None` where an escape is none.
pub(crate) fn unescaped(written: &[u8]) -> Option<Cow<'_, [u8]>> {
    // A quote stands behind a backslash.
    if find_quote(written) == written.len() {
        return Some(Cow::Borrowed(written));
    }
    let mut text = Vec::with_capacity(written.len());
    let mut rest = plain_run(written, &mut text);
    while let Some((_backslash, after)) = rest.split_first() {
        let (&kind, after) = after.split_first()?;
        rest = after;
        let char = match kind {
            b'"' | b'\\' | b'/' => kind,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let char;
                (char, rest) = unicode(rest)?;
                text.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
                rest = plain_run(rest, &mut text);
                continue;
            }
            _ => return None,
        };
        text.push(char);
        rest = plain_run(rest, &mut text);
    }
    Some(Cow::Owned(text))
}

/// Appends what is before the next backslash; returns what is from there on.
#[inline(always)]
fn plain_run<'a>(bytes: &'a [u8], text: &mut Vec<u8>) -> &'a [u8] {
    if bytes.first() == Some(&b'\\') {
        return bytes;
    }
    let at = bytes.iter().position(|byte| *byte == b'\\').unwrap_or(bytes.len());
    let (plain, rest) = bytes.split_at_checked(at).unwrap_or((bytes, &[]));
    text.extend_from_slice(plain);
    rest
}

/// The character of an escape behind its `\u`, and what is behind that.
fn unicode(bytes: &[u8]) -> Option<(char, &[u8])> {
    let (first, rest) = code_unit(bytes)?;
    let (code, rest) = match rest.strip_prefix(b"\\u").and_then(code_unit) {
        Some((second @ 0xdc00..=0xdfff, behind)) if matches!(first, 0xd800..=0xdbff) => {
            // Ten bits of each, above the characters that need no surrogates.
            (0x1_0000_u32.saturating_add((first & 0x3ff) << 10 | second & 0x3ff), behind)
        }
        _ => (first, rest),
    };
    Some((char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), rest))
}

fn code_unit(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = bytes.split_at_checked(4)?;
    let unit = digits.iter().try_fold(0_u32, |sum, digit| Some(sum << 4 | char::from(*digit).to_digit(16)?))?;
    Some((unit, rest))
}

/// The value of a number or a word. `None` where it is none of JSON's.
pub(super) fn scalar(written: &[u8]) -> Option<Value> {
    match written {
        b"true" | b"false" => Some(Value::text(written)),
        b"null" => Some(Value::Absent),
        _ => number(written).map(Value::Text),
    }
}

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

    #[test]
    fn a_string_is_what_its_escapes_say() {
        let text =
            |written: &str| unescaped(written.as_bytes()).map(|text| String::from_utf8(text.into_owned()).unwrap());
        assert_eq!(text(r#"a\"\\\/\b\f\n\r\tz"#).as_deref(), Some("a\"\\/\u{8}\u{c}\n\r\tz"));
        assert_eq!(text(r"\u0041\u00e9\ud83d\ude00").as_deref(), Some("Aé😀"));
        assert_eq!(text(r"\ud800").as_deref(), Some("\u{fffd}"));
        assert_eq!(text(r"\udc00\ud800\ud800x").as_deref(), Some("\u{fffd}\u{fffd}\u{fffd}x"));
        assert_eq!(text(r"\ud800A").as_deref(), Some("\u{fffd}A"));
        assert_eq!(text(r"\u0041\udc00").as_deref(), Some("A\u{fffd}"));
        for written in [r"\x", r"\u12", r"\u12g4", r"\"] {
            assert_eq!(text(written), None, "{written}");
        }
    }
}
