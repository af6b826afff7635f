//! Strings of a document, as they are written in one piece of it.

use super::search::find_special;

/// What a piece has of a string.
pub(crate) struct Split<'a> {
    /// Bytes of the string, without its closing quote.
    pub(crate) read: &'a [u8],
    pub(crate) end: End,
    /// What is behind the closing quote; or, of a string that goes on, behind the piece: from a line's end on.
    pub(crate) rest: &'a [u8],
}

/// End of what a piece has of a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Quote,
    /// The string goes on in the next piece. `escaped`: that begins behind a backslash.
    Cut {
        escaped: bool,
    },
}

/// A string without backslashes and control characters that ends in this piece, and what is behind its closing quote.
/// Otherwise its first bytes that are none of these are counted.
#[inline(always)]
pub(crate) fn plain(bytes: &[u8]) -> Result<(&[u8], &[u8]), usize> {
    let end = find_special(bytes);
    match bytes.split_at_checked(end) {
        Some((read, [b'"', rest @ ..])) => Ok((read, rest)),
        _ => Err(end),
    }
}

/// Splits the rest of a string from what is behind it. The first bytes, `at` in number, are known to be of the string.
/// With `is_line`, the piece ends where its line does.
#[inline(never)]
pub(crate) fn split(bytes: &[u8], mut at: usize, is_line: bool) -> Split<'_> {
    let end = loop {
        match bytes.get(at) {
            Some(b'"') => break End::Quote,
            Some(b'\\') => {
                at = at.wrapping_add(1);
                if bytes.get(at).is_none_or(|escaped| is_line && is_line_end(*escaped)) {
                    break End::Cut { escaped: true };
                }
                at = at.wrapping_add(1);
            }
            Some(byte) if *byte < b' ' => {
                if is_line && is_line_end(*byte) {
                    break End::Cut { escaped: false };
                }
                at = at.wrapping_add(1);
            }
            Some(_) => at = at.wrapping_add(find_special(bytes.get(at..).unwrap_or_default())),
            // An empty piece is behind the same backslash.
            None => break End::Cut { escaped: at > bytes.len() },
        }
    };
    let (read, mut rest) = bytes.split_at_checked(at).unwrap_or((bytes, &[]));
    if end == End::Quote {
        rest = rest.get(1..).unwrap_or_default();
    }
    Split { read, end, rest }
}

/// Whether a byte ends a line.
#[inline(always)]
pub(crate) fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_string_ends_at_the_first_quote_that_is_not_escaped(text in "[\"\\\\a\n\t]{0,30}", escaped: bool, is_line: bool) {
            let bytes = text.as_bytes();
            prop_assume!(!(escaped && is_line && bytes.first() == Some(&b'\n')));
            let (mut behind_backslash, mut found) = (escaped, None);
            for (at, byte) in text.bytes().enumerate() {
                match byte {
                    b'\n' if is_line => {
                        found = Some((at, End::Cut { escaped: behind_backslash }, at));
                        break;
                    }
                    _ if behind_backslash => behind_backslash = false,
                    b'\\' => behind_backslash = true,
                    b'"' => {
                        found = Some((at, End::Quote, at.saturating_add(1)));
                        break;
                    }
                    _ => {}
                }
            }
            let (end, kind, behind) = found.unwrap_or((bytes.len(), End::Cut { escaped: behind_backslash }, bytes.len()));
            let split = split(bytes, escaped.into(), is_line);
            prop_assert_eq!((split.read, split.end, split.rest), (&bytes[..end], kind, &bytes[behind..]));
        }
    }
}
