//! Cookies (RFC 6265, §4.2.1).

/// The value of the first cookie named `name` in a header `cookie`, without quotes around it.
///
/// A comma ends a value as a semicolon does: values have none, and a proxy may have joined two headers by it.
pub(super) fn cookie<'a>(header: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let named = |pair: &'a [u8]| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=");
    let value = header.split(|byte| matches!(byte, b';' | b',')).find_map(named)?;
    Some(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(header: &str) -> Option<&str> {
        cookie(header.as_bytes(), "session").map(|value| str::from_utf8(value).unwrap())
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        assert_eq!(session("session=abc"), Some("abc"));
        assert_eq!(session("theme=dark; session=abc=; lang=de"), Some("abc="));
        assert_eq!(session("theme=dark;session=\"abc\""), Some("abc"));
        assert_eq!(session("theme=dark,session=abc,lang=de"), Some("abc"));
        assert_eq!(session("session="), Some(""));
    }

    #[test]
    fn a_name_is_matched_whole_and_with_its_case() {
        for header in ["", "Session=abc", "xsession=abc", "sessions=abc", "session", "a=session=abc"] {
            assert_eq!(session(header), None, "{header}");
        }
    }

    #[test]
    fn the_first_of_several_counts() {
        assert_eq!(session("session=a; session=b"), Some("a"));
    }
}
