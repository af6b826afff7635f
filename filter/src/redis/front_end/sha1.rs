//! SHA-1 at run time (RFC 3174). The crate `const-sha1`, which hashes all other scripts at compile time, has its rounds
//! written out, which makes the module larger.

use alloc::string::String;
use alloc::vec::Vec;

/// Returns the SHA-1 as 40 lowercase hexadecimal digits.
pub(super) fn sha1_hex(message: &[u8]) -> String {
    let mut padded = message.to_vec();
    padded.push(0x80);
    while padded.len() % 64 != 56 {
        padded.push(0);
    }
    let bits = u64::try_from(message.len()).unwrap_or(0).wrapping_mul(8);
    padded.extend_from_slice(&bits.to_be_bytes());
    let (blocks, _) = padded.as_chunks::<64>();
    let start = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    let words = blocks.iter().fold(start, add);
    let bytes = words.iter().flat_map(|word| word.to_be_bytes());
    let digits = bytes.flat_map(|byte| [byte >> 4, byte & 0x0f]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

/// Adds a block to the state.
fn add(state: [u32; 5], block: &[u8; 64]) -> [u32; 5] {
    let (first, _) = block.as_chunks::<4>();
    let mut words: Vec<u32> = first.iter().map(|word| u32::from_be_bytes(*word)).collect();
    while words.len() < 80 {
        let back = |by: usize| words.get(words.len().wrapping_sub(by)).copied().unwrap_or(0);
        words.push((back(3) ^ back(8) ^ back(14) ^ back(16)).rotate_left(1));
    }
    let [mut a, mut b, mut c, mut d, mut e] = state;
    for (nth, word) in (0_u32..).zip(words) {
        let (mix, constant) = match nth / 20 {
            0 => ((b & c) | (!b & d), 0x5a82_7999_u32),
            1 => (b ^ c ^ d, 0x6ed9_eba1),
            2 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
            _ => (b ^ c ^ d, 0xca62_c1d6),
        };
        let next = a.rotate_left(5).wrapping_add(mix).wrapping_add(e).wrapping_add(word).wrapping_add(constant);
        (a, b, c, d, e) = (next, a, b.rotate_left(30), c, d);
    }
    let [was_a, was_b, was_c, was_d, was_e] = state;
    [was_a.wrapping_add(a), was_b.wrapping_add(b), was_c.wrapping_add(c), was_d.wrapping_add(d), was_e.wrapping_add(e)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::redis::Script;

    #[test]
    fn the_hash_of_an_example_is_that_of_redis_documentation() {
        assert_eq!(sha1_hex(b"return 'Immabe a cached script'"), "c664a3bf70bd1d45c4284ffebb65a6f2299bfc9f");
    }

    proptest! {
        #[test]
        fn any_script_has_the_hash_that_const_sha1_has(source in "\\PC{0,300}") {
            let own = sha1_hex(source.as_bytes());
            prop_assert_eq!(own, Script::new(source).sha1_hex().to_owned());
        }
    }
}
