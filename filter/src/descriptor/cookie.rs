//! Cookies (RFC 6265, §4.2.1 and §5.4).

use alloc::vec::Vec;

/// Appends the values of the cookies named `name` in one `cookie` header, without surrounding blanks and quotes.
///
/// Only semicolons separate cookies. Blanks around names are ignored, as in browsers (§5.2).
pub(super) fn cookies<'a>(header: &'a [u8], name: &str, values: &mut Vec<&'a [u8]>) {
    for pair in header.split(|byte| *byte == b';') {
        let behind_name = pair.trim_ascii_start().strip_prefix(name.as_bytes());
        if let Some([b'=', value @ ..]) = behind_name.map(<[u8]>::trim_ascii_start) {
            let value = value.trim_ascii();
            values.push(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions(header: &str) -> Vec<&str> {
        let mut values = Vec::new();
        cookies(header.as_bytes(), "session", &mut values);
        values.into_iter().map(|value| str::from_utf8(value).unwrap()).collect()
    }

    fn session(header: &str) -> Option<&str> {
        sessions(header).first().copied()
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        assert_eq!(session("session=abc"), Some("abc"));
        assert_eq!(session("theme=dark; session=abc=; lang=de"), Some("abc="));
        assert_eq!(session("theme=dark;session=\"abc\""), Some("abc"));
        assert_eq!(session("theme=dark ;\tsession = abc ; lang=de"), Some("abc"));
        assert_eq!(session("session="), Some(""));
        assert_eq!(session("session=\"\""), Some(""));
        assert_eq!(session("session=\""), Some("\""));
        assert_eq!(session(";; session=abc;"), Some("abc"));
    }

    #[test]
    fn a_comma_is_part_of_a_value() {
        assert_eq!(session("session=acme,1; x=2"), Some("acme,1"));
        assert_eq!(session("theme=a,session=mallory; session=alice"), Some("alice"));
        assert_eq!(session("theme=a,session=mallory"), None);
    }

    #[test]
    fn a_name_is_matched_as_a_whole_and_case_sensitively() {
        for header in ["", "Session=abc", "xsession=abc", "sessions=abc", "session", "a=session=abc", "=session"] {
            assert_eq!(session(header), None, "{header}");
        }
    }

    #[test]
    fn all_cookies_of_a_name_are_found_in_order() {
        assert_eq!(sessions("session=a; x=1; session=b"), ["a", "b"]);
    }
}
