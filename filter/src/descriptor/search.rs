//! Substring search in linear time (Knuth, Morris and Pratt, 1977).
//!
//! The crate `memchr` has a faster search, which is larger than the remaining size budget of the wasm.

/// Maximum length of a substring, in bytes.
pub(super) const MAX_PART: usize = 128;
/// Work of searching one byte.
const SEARCHED_BYTE: usize = 60;

/// Whether `text` contains `part`, of at most [`MAX_PART`] bytes. `None` if `work` does not suffice.
pub(super) fn contains(text: &[u8], part: &[u8], work: &mut usize) -> Option<bool> {
    let Some(first) = part.first() else { return Some(true) };
    *work = work.checked_sub(text.len().saturating_add(part.len()).saturating_mul(SEARCHED_BYTE))?;
    let Some(start) = text.iter().position(|byte| byte == first) else { return Some(false) };
    let borders = borders(part);
    let mut matched = 0;
    for byte in text.get(start..).unwrap_or_default() {
        matched = longest(part, &borders, matched, *byte);
        if matched == part.len() {
            return Some(true);
        }
    }
    Some(false)
}

/// Returns, for each prefix of `part`, the length of its longest proper prefix that is also its suffix.
fn borders(part: &[u8]) -> [u8; MAX_PART] {
    let mut borders = [0; MAX_PART];
    let mut matched = 0;
    for (at, byte) in part.iter().enumerate().skip(1) {
        matched = longest(part, &borders, matched, *byte);
        if let (Some(border), Ok(matched)) = (borders.get_mut(at), u8::try_from(matched)) {
            *border = matched;
        }
    }
    borders
}

/// Returns the length of the longest prefix of `part` that the text ends with after `byte`. `matched` is the length
/// before `byte`.
#[inline(always)]
fn longest(part: &[u8], borders: &[u8; MAX_PART], mut matched: usize, byte: u8) -> usize {
    loop {
        if part.get(matched) == Some(&byte) {
            return matched.saturating_add(1);
        }
        let Some(last) = matched.checked_sub(1) else { return 0 };
        matched = borders.get(last).copied().unwrap_or(0).into();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_repetitive_part_is_found_in_linear_time() {
        let text = [&[b'a'; 50_000][..], b"b"].concat();
        let part = [&[b'a'; 127][..], b"b"].concat();
        let mut work = 4_000_000;
        assert_eq!(contains(&text, &part, &mut work), Some(true));
        assert!(work < 1_000_000);
        assert_eq!(contains(&text, &part, &mut work), None);
    }

    proptest! {
        /// Results equal those of the standard library.
        #[test]
        fn finds_what_the_standard_library_finds(text in "[ab]{0,40}", part in "[ab]{0,6}") {
            prop_assert_eq!(contains(text.as_bytes(), part.as_bytes(), &mut 10_000), Some(text.contains(&part)));
        }
    }
}
