//! Query strings, as `application/x-www-form-urlencoded` (URL Standard, §5.1).

use alloc::borrow::Cow;
use alloc::vec::Vec;

/// Returns the undecoded values of the parameters named `name` in a query string. A parameter without `=` has an empty
/// value. Only `&` separates parameters.
pub(super) fn parameters<'a>(query: &'a [u8], name: &str) -> Vec<&'a [u8]> {
    let mut values = Vec::new();
    for pair in query.split(|byte| *byte == b'&') {
        let end = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        let key = pair.get(..end).unwrap_or_default();
        if !pair.is_empty() && Decoded(key).eq(name.bytes()) {
            values.push(pair.get(end.saturating_add(1)..).unwrap_or_default());
        }
    }
    values
}

/// Decodes `text`.
pub(super) fn decoded(text: &[u8]) -> Cow<'_, [u8]> {
    let is_plain = !text.iter().any(|byte| matches!(byte, b'+' | b'%'));
    if is_plain { Cow::Borrowed(text) } else { Cow::Owned(Decoded(text).collect::<Vec<u8>>()) }
}

/// Iterator over the decoded bytes of a text: `+` is a space and `%41` an `A`; a `%` without two digits is literal.
struct Decoded<'a>(&'a [u8]);

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (first, behind) = self.0.split_first()?;
        self.0 = behind;
        Some(match (first, behind) {
            (b'+', _) => b' ',
            (b'%', [high, low, behind @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    self.0 = behind;
                    high << 4 | low
                }
                _ => b'%',
            },
            (byte, _) => *byte,
        })
    }
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(query: &str) -> Option<String> {
        let first = *parameters(query.as_bytes(), "api key").first()?;
        Some(String::from_utf8_lossy(&decoded(first)).into_owned())
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
        assert_eq!(parameters(b"k=a&x&k=b&%6b=c&k", "k"), [&b"a"[..], b"b", b"c", b""]);
    }

    proptest! {
        #[test]
        fn any_query_is_read_without_panic(query: Vec<u8>) {
            for value in parameters(&query, "") {
                let _ = decoded(value);
            }
        }
    }
}
