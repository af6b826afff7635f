//! Escapes in strings of JSON.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use super::search::find_special;

/// A string as it is written, without its quotes: the text that it stands for. A surrogate without its other half is
/// U+FFFD. `None` where an escape is none.
pub(crate) fn unescaped(written: &[u8]) -> Option<Cow<'_, [u8]>> {
    // A quote stands behind a backslash.
    if find_special(written) == written.len() {
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

#[cfg(test)]
mod tests {
    use super::*;

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
