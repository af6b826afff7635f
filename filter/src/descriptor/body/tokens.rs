//! Strings, numbers and words of a document, and the objects and lists that are skipped.

use super::scanner::JsonScanner;
use super::state::{State, Text};
use super::text::{scalar, unescaped};
use super::values::Value;
use super::work::DECODED_BYTE;

impl JsonScanner {
    /// The next bytes of a string: what is left of them behind it.
    pub(super) fn text<'a>(&mut self, of: Text, escaped: bool, bytes: &'a [u8]) -> &'a [u8] {
        let (read, rest, escaped) = split_text(bytes, escaped);
        match of {
            Text::Wanted => self.token.extend_from_slice(read),
            Text::Key => {
                let room = self.max_key.saturating_add(1).saturating_sub(self.token.len());
                self.token.extend_from_slice(read.get(..room).unwrap_or(read));
            }
            Text::Unwanted | Text::Skipped(_) => {}
        }
        match rest {
            Some(rest) => {
                self.state = self.end_text(of);
                rest
            }
            None => {
                self.state = State::Text { of, escaped };
                &[]
            }
        }
    }

    pub(super) fn end_text(&mut self, of: Text) -> State {
        match of {
            Text::Skipped(depth) => State::Skipped(depth),
            Text::Unwanted => self.after_value(),
            Text::Key => self.member(),
            Text::Wanted => {
                let work = self.token.len().saturating_mul(DECODED_BYTE);
                if work > self.work {
                    return State::Cut;
                }
                self.book(work);
                let Some(text) = unescaped(&self.token) else { return State::Malformed };
                let value = Value::text(&text);
                self.set(&value);
                self.after_value()
            }
        }
    }

    /// The next bytes of a number or word: what is left of them behind it.
    pub(super) fn scalar<'a>(&mut self, kept: bool, bytes: &'a [u8]) -> &'a [u8] {
        let is_of_it = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
        let run = bytes.iter().position(|byte| !is_of_it(byte));
        let (read, rest) = bytes.split_at_checked(run.unwrap_or(bytes.len())).unwrap_or((bytes, &[]));
        if kept {
            self.token.extend_from_slice(read);
        }
        if run.is_some() {
            self.end_scalar(kept);
        }
        rest
    }

    pub(super) fn end_scalar(&mut self, kept: bool) {
        self.state = self.after_value();
        if kept {
            let work = self.token.len().saturating_mul(DECODED_BYTE);
            if work > self.work {
                self.state = State::Cut;
                return;
            }
            self.book(work);
            match scalar(&self.token) {
                Some(value) => self.set(&value),
                None => self.state = State::Malformed,
            }
        }
    }

    /// The next bytes of a container that is skipped: what is left of them behind it.
    pub(super) fn skip<'a>(&mut self, mut depth: usize, bytes: &'a [u8]) -> &'a [u8] {
        let mut rest = bytes;
        while let Some((byte, after)) = rest.split_first() {
            rest = after;
            match byte {
                b'{' | b'[' => depth = depth.saturating_add(1),
                b'}' | b']' => match depth.checked_sub(1) {
                    Some(less) => depth = less,
                    None => {
                        self.state = self.after_value();
                        return rest;
                    }
                },
                b'"' => match split_text(rest, false) {
                    (_, Some(behind), _) => rest = behind,
                    (_, None, escaped) => {
                        self.state = State::Text { of: Text::Skipped(depth), escaped };
                        return &[];
                    }
                },
                _ => {}
            }
        }
        self.state = State::Skipped(depth);
        rest
    }
}

/// The rest of a string, and what is behind its closing quote. `None` where it goes on in the next piece, and then
/// whether that begins behind a backslash.
fn split_text(bytes: &[u8], escaped: bool) -> (&[u8], Option<&[u8]>, bool) {
    let mut at = usize::from(escaped);
    while at <= bytes.len() {
        match bytes.get(at) {
            Some(b'"') => {
                let (read, rest) = bytes.split_at_checked(at).unwrap_or((bytes, &[]));
                return (read, rest.get(1..), false);
            }
            Some(b'\\') => at = at.saturating_add(2),
            Some(_) => {
                let rest = bytes.get(at..).unwrap_or_default();
                at = at.saturating_add(find_quote(rest));
            }
            None => return (bytes, None, false),
        }
    }
    // The byte behind the backslash is in the next piece; an empty piece changes nothing.
    (bytes, None, true)
}

/// Offset of the first quote or backslash, or the number of all bytes if there is none.
#[inline(always)]
pub(super) fn find_quote(bytes: &[u8]) -> usize {
    find_in_text(bytes, false)
}

/// Offset of the first quote or backslash, or with `or_control` control character, or the number of all bytes if there is
/// none: eight bytes in a step. With the crate `memchr`, wasm without SIMD would take four.
#[inline(never)]
pub(crate) fn find_in_text(bytes: &[u8], or_control: bool) -> usize {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const QUOTES: u64 = EACH.wrapping_mul(b'"' as u64);
    const BACKSLASHES: u64 = EACH.wrapping_mul(b'\\' as u64);
    let controls = if or_control { EACH.wrapping_mul(b' '.into()) } else { 0 };
    let mut rest = bytes;
    loop {
        let word = match rest.first_chunk() {
            Some(word) => u64::from_le_bytes(*word),
            // Behind the last bytes, others that are no ASCII.
            None => rest.iter().rev().fold(u64::MAX, |word, byte| word << 8 | u64::from(*byte)),
        };
        // A byte of ASCII gets the highest bit only where it is less than what is subtracted. The lowest bit that is set
        // is in the first such byte; behind it, borrows may set others.
        let less =
            (word ^ QUOTES).wrapping_sub(EACH) | (word ^ BACKSLASHES).wrapping_sub(EACH) | word.wrapping_sub(controls);
        let found = less & !word & EACH << 7;
        if found != 0 {
            let nth = (found.trailing_zeros() / 8) as usize;
            return bytes.len().wrapping_sub(rest.len()).wrapping_add(nth);
        }
        match rest.get(8..) {
            Some(after) => rest = after,
            None => return bytes.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_first_special_byte_is_found(
            bytes in prop::collection::vec(
                prop::sample::select(vec![0, 9, 10, 31, 32, 33, 34, 35, 91, 92, 93, 127, 128, 129, 162, 220, 255_u8]),
                0..40,
            ),
            or_control: bool,
        ) {
            let is_special = |byte: u8| matches!(byte, b'"' | b'\\') || or_control && byte < b' ';
            let expected = bytes.iter().position(|byte| is_special(*byte)).unwrap_or(bytes.len());
            prop_assert_eq!(find_in_text(&bytes, or_control), expected);
        }

        #[test]
        fn a_text_ends_at_the_first_quote_that_is_not_escaped(text in r#"["\a]{0,30}"#, escaped: bool) {
            let (mut behind_backslash, mut end) = (escaped, None);
            for (at, byte) in text.bytes().enumerate() {
                match byte {
                    _ if behind_backslash => behind_backslash = false,
                    b'\\' => behind_backslash = true,
                    b'"' => {
                        end = Some(at);
                        break;
                    }
                    _ => {}
                }
            }
            let bytes = text.as_bytes();
            let expected = match end {
                Some(at) => (&bytes[..at], bytes[at..].get(1..), false),
                None => (bytes, None, behind_backslash),
            };
            prop_assert_eq!(split_text(bytes, escaped), expected);
        }
    }
}
