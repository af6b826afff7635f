//! Query strings, as `application/x-www-form-urlencoded` (URL Standard, §5.1).

use alloc::borrow::Cow;
use alloc::vec::Vec;

use super::budget::{Charge, Exhausted};

/// Length of an encoded byte at most: `%41`.
const LONGEST_ESCAPE: usize = 3;
/// Work of searching one byte for separators.
const SEARCHED_BYTE: usize = 12;
/// Work of reading one parameter.
const PARAMETER: usize = 100;
/// Work of comparing one name, in addition to that of its bytes.
const COMPARED: usize = 300;
/// Work of comparing or copying one byte of an encoded text.
const ENCODED_BYTE: usize = 36;
/// Work of decoding one escape of a value.
const ESCAPE: usize = 48;

/// Returns the undecoded values of the parameters named `name` in a query string. A parameter without `=` has an empty
/// value. Only `&` separates parameters. `charge` charges the work before it is done.
pub(super) fn parameters<'a>(query: &'a [u8], name: &str, charge: Charge<'_>) -> Result<Vec<&'a [u8]>, Exhausted> {
    charge(query.len().saturating_mul(SEARCHED_BYTE))?;
    let lengths = name.len()..=name.len().saturating_mul(LONGEST_ESCAPE);
    let mut values = Vec::new();
    let mut rest = query;
    while !rest.is_empty() {
        let (key, separator, behind) = cut(rest, |byte| matches!(byte, b'=' | b'&'));
        let has_value = separator == Some(b'=');
        let (value, next) = if has_value { cut_at_ampersand(behind) } else { (&[][..], behind) };
        rest = next;
        if !lengths.contains(&key.len()) || !starts_like(key, name.as_bytes()) {
            charge(PARAMETER)?;
            continue;
        }
        charge(key.len().saturating_mul(ENCODED_BYTE).saturating_add(PARAMETER + COMPARED))?;
        if is_encoded(key, name.as_bytes()) {
            values.push(value);
        }
    }
    Ok(values)
}

fn cut_at_ampersand(text: &[u8]) -> (&[u8], &[u8]) {
    let (before, _, behind) = cut(text, |byte| byte == b'&');
    (before, behind)
}

/// Returns the bytes before the first byte that fits, that byte, and the bytes behind it.
#[inline(always)]
fn cut(text: &[u8], fits: impl Fn(u8) -> bool) -> (&[u8], Option<u8>, &[u8]) {
    let end = text.iter().position(|byte| fits(*byte)).unwrap_or(text.len());
    let (before, behind) = text.split_at_checked(end).unwrap_or((text, &[]));
    match behind.split_first() {
        Some((first, others)) => (before, Some(*first), others),
        None => (before, None, behind),
    }
}

/// Decodes `text`. `charge` charges the work before it is done.
pub(super) fn decoded<'a>(text: &'a [u8], charge: Charge<'_>) -> Result<Cow<'a, [u8]>, Exhausted> {
    let escapes = text.iter().filter(|byte| is_escape(byte)).count();
    if escapes == 0 {
        return Ok(Cow::Borrowed(text));
    }
    charge(text.len().saturating_mul(ENCODED_BYTE).saturating_add(escapes.saturating_mul(ESCAPE)))?;
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        let (before, escaped, behind) = next_escape(rest);
        plain.extend_from_slice(before);
        let Some(byte) = escaped else { return Ok(Cow::Owned(plain)) };
        plain.push(byte);
        rest = behind;
    }
}

/// Whether the first byte of `text` may be an encoding of that of `plain`.
fn starts_like(text: &[u8], plain: &[u8]) -> bool {
    text.first() == plain.first() || text.first().is_some_and(is_escape)
}

/// Whether `text` is an encoding of `plain`.
fn is_encoded(text: &[u8], plain: &[u8]) -> bool {
    let (mut text, mut plain) = (text, plain);
    loop {
        let (before, escaped, behind) = next_escape(text);
        let Some(other) = plain.strip_prefix(before) else { return false };
        match (escaped, other.split_first()) {
            (None, rest) => return rest.is_none(),
            (Some(byte), Some((first, others))) if byte == *first => (text, plain) = (behind, others),
            _ => return false,
        }
    }
}

fn is_escape(byte: &u8) -> bool {
    matches!(byte, b'+' | b'%')
}

/// Returns the bytes before the first `+` or `%`, its decoded byte, and the rest: `+` is a space and `%41` an `A`; a `%`
/// without two digits is literal.
fn next_escape(text: &[u8]) -> (&[u8], Option<u8>, &[u8]) {
    let start = text.iter().position(is_escape).unwrap_or(text.len());
    let (before, escape) = text.split_at_checked(start).unwrap_or((text, &[]));
    let (byte, behind) = match escape {
        [] => (None, escape),
        [b'+', behind @ ..] => (Some(b' '), behind),
        [_, high, low, behind @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
            (Some(digit(*high) << 4 | digit(*low)), behind)
        }
        [first, behind @ ..] => (Some(*first), behind),
    };
    (before, byte, behind)
}

/// Value of a hexadecimal digit.
fn digit(byte: u8) -> u8 {
    if byte.is_ascii_digit() { byte & 0x0f } else { (byte & 0x0f).wrapping_add(9) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FREE: Charge<'_> = &|_| Ok(());

    fn key(query: &str) -> Option<String> {
        let first = *parameters(query.as_bytes(), "api key", FREE).unwrap().first()?;
        Some(String::from_utf8_lossy(&decoded(first, FREE).unwrap()).into_owned())
    }

    #[test]
    fn a_parameter_is_found_and_decoded() {
        assert_eq!(key("api+key=a%2Fb+c").as_deref(), Some("a/b c"));
        assert_eq!(key("page=2&api%20key=abc&z=").as_deref(), Some("abc"));
        assert_eq!(key("&&%61pi+key=abc").as_deref(), Some("abc"));
        assert_eq!(key("api+key=a=b&c").as_deref(), Some("a=b"));
        assert_eq!(key("api+key=a;b").as_deref(), Some("a;b"));
        assert_eq!(key("api+key").as_deref(), Some(""));
        assert_eq!(key("api+key=100%&x").as_deref(), Some("100%"));
        for text in ["%4", "%zz", "%4z", "%z4", "%%"] {
            assert_eq!(key(&format!("api+key={text}")).as_deref(), Some(text));
        }
        assert_eq!(key("api+key=%%41").as_deref(), Some("%A"));
    }

    #[test]
    fn one_client_has_one_spelling() {
        for spelling in ["alice", "%61lice", "al%69c%65"] {
            assert_eq!(key(&format!("api+key={spelling}")).as_deref(), Some("alice"));
        }
    }

    #[test]
    fn parameters_of_other_names_are_not_found() {
        for query in ["", "&", "=", "Api+key=1", "api+keys=1", "api+ke=1", "x=api+key", "a;api+key=1", "api%2key=1"] {
            assert_eq!(key(query), None, "{query}");
        }
    }

    #[test]
    fn all_parameters_of_a_name_are_found_in_order() {
        assert_eq!(parameters(b"k=a&x&k=b&%6b=c&k", "k", FREE).unwrap(), [&b"a"[..], b"b", b"c", b""]);
    }

    proptest! {
        #[test]
        fn any_query_is_read_without_panic(query: Vec<u8>) {
            for value in parameters(&query, "", FREE).unwrap() {
                let _ = decoded(value, FREE);
            }
        }
    }
}
