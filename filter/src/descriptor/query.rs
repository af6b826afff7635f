//! Query strings, as `application/x-www-form-urlencoded` (URL Standard, §5.1).

use alloc::vec::Vec;

/// The value of the first parameter named `name` in the query string of `path`, decoded. A parameter without `=`
/// has an empty value.
pub(super) fn parameter(path: &[u8], name: &str) -> Option<Vec<u8>> {
    let path = path.split(|byte| *byte == b'#').next()?;
    let start = path.iter().position(|byte| *byte == b'?')?.saturating_add(1);
    path.get(start..)?.split(|byte| *byte == b'&').find_map(|pair| {
        let end = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        let (key, value) = pair.split_at_checked(end)?;
        let is_named = !pair.is_empty() && decoded(key) == name.as_bytes();
        is_named.then(|| decoded(value.strip_prefix(b"=").unwrap_or(value)))
    })
}

/// `+` is a space and `%41` an `A`; a `%` without two digits stands for itself.
fn decoded(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, behind @ ..] = rest {
        rest = behind;
        decoded.push(match (first, behind) {
            (b'+', _) => b' ',
            (b'%', [high, low, behind @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    rest = behind;
                    high << 4 | low
                }
                _ => b'%',
            },
            (byte, _) => *byte,
        });
    }
    decoded
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(path: &str) -> Option<String> {
        parameter(path.as_bytes(), "api key").map(|value| String::from_utf8_lossy(&value).into_owned())
    }

    #[test]
    fn a_parameter_is_found_and_decoded() {
        assert_eq!(key("/?api+key=a%2Fb+c").as_deref(), Some("a/b c"));
        assert_eq!(key("/x?page=2&api%20key=abc&z=").as_deref(), Some("abc"));
        assert_eq!(key("/?api+key=a=b&c").as_deref(), Some("a=b"));
        assert_eq!(key("/?api+key").as_deref(), Some(""));
        assert_eq!(key("/?api+key=100%&x").as_deref(), Some("100%"));
        assert_eq!(key("/?api+key=%4").as_deref(), Some("%4"));
    }

    #[test]
    fn one_client_has_one_spelling() {
        for spelling in ["alice", "%61lice", "al%69c%65"] {
            assert_eq!(key(&format!("/?api+key={spelling}")).as_deref(), Some("alice"));
        }
    }

    #[test]
    fn only_the_query_string_is_looked_at() {
        for path in ["", "/", "/api key=1", "/?", "/?#api+key=1", "/#?api+key=1", "/?Api+key=1", "/?api+keys=1"] {
            assert_eq!(key(path), None, "{path}");
        }
    }

    #[test]
    fn the_first_of_several_counts() {
        assert_eq!(key("/?api+key=a&api+key=b").as_deref(), Some("a"));
    }

    proptest! {
        #[test]
        fn no_path_breaks_it(path: Vec<u8>) {
            let _ = parameter(&path, "");
        }
    }
}
