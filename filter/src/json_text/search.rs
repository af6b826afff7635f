//! Search for the bytes of a string that stand for something else.

/// Offset of the first quote, backslash or control character, or the number of all bytes if there is none: eight bytes in
/// a step. With the crate `memchr`, wasm without SIMD would take four.
#[inline(never)]
pub(super) fn find_special(bytes: &[u8]) -> usize {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const QUOTES: u64 = EACH.wrapping_mul(b'"' as u64);
    const BACKSLASHES: u64 = EACH.wrapping_mul(b'\\' as u64);
    const CONTROLS: u64 = EACH.wrapping_mul(b' ' as u64);
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
            (word ^ QUOTES).wrapping_sub(EACH) | (word ^ BACKSLASHES).wrapping_sub(EACH) | word.wrapping_sub(CONTROLS);
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
        ) {
            let is_special = |byte: u8| matches!(byte, b'"' | b'\\' | ..b' ');
            let expected = bytes.iter().position(|byte| is_special(*byte)).unwrap_or(bytes.len());
            prop_assert_eq!(find_special(&bytes), expected);
        }
    }
}
