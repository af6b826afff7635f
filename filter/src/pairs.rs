//! Header maps as proxy-wasm passes them between host and module.
//!
//! All numbers are 32 bits, little-endian: the number of pairs; for each pair, the sizes of its name and its value;
//! then for each pair, its name, a zero byte, its value, a zero byte.

use alloc::vec::Vec;

/// Encodes pairs of names and values.
pub(crate) fn encode<T: AsRef<[u8]>>(pairs: impl Iterator<Item = (T, T)> + Clone) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut put = |number: usize| bytes.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
    put(pairs.clone().count());
    for (name, value) in pairs.clone() {
        put(name.as_ref().len());
        put(value.as_ref().len());
    }
    for (name, value) in pairs {
        for text in [name, value] {
            bytes.extend_from_slice(text.as_ref());
            bytes.push(0);
        }
    }
    bytes
}

/// Decodes pairs, in their order. A truncated pair and all pairs after it are left out.
pub(crate) fn decode(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let (sizes, mut texts) = split(bytes).unwrap_or_default();
    let mut take = move |size: &[u8; 4]| {
        let (text, rest) = texts.split_at_checked(number(size)?)?;
        texts = rest.strip_prefix(&[0])?;
        Some(text)
    };
    let (sizes, _) = sizes.as_chunks::<4>();
    let (sizes, _) = sizes.as_chunks::<2>();
    sizes.iter().map_while(move |[name, value]| Some((take(name)?, take(value)?)))
}

/// Returns the number of pairs in the header of `bytes`; 0 where the header is truncated.
pub(crate) fn count(bytes: &[u8]) -> usize {
    bytes.first_chunk().and_then(number).unwrap_or_default()
}

/// Returns the values of one name, in their order. Truncated values are left out.
pub(crate) fn values<'a>(bytes: &'a [u8], name: &'a [u8]) -> Values<'a> {
    let (sizes, texts) = split(bytes).unwrap_or_default();
    let (sizes, _) = sizes.as_chunks::<4>();
    let (sizes, _) = sizes.as_chunks::<2>();
    Values { name, sizes: sizes.iter(), texts, at: 0 }
}

/// Iterator over the values of one name: see [`values`].
pub(crate) struct Values<'a> {
    name: &'a [u8],
    sizes: core::slice::Iter<'a, [[u8; 4]; 2]>,
    texts: &'a [u8],
    /// Offset in `texts` of the next name.
    at: usize,
}

impl<'a> Iterator for Values<'a> {
    type Item = &'a [u8];

    /// Compares names only where their sizes are equal: this runs for each header that a limit reads.
    #[inline(never)]
    fn next(&mut self) -> Option<&'a [u8]> {
        for [name_size, value_size] in self.sizes.by_ref() {
            let name_at = self.at;
            // A zero byte follows each name and value. Sizes whose sum overflows `usize` point outside `texts`.
            let value_at = name_at.wrapping_add(number(name_size)?).wrapping_add(1);
            self.at = value_at.wrapping_add(number(value_size)?).wrapping_add(1);
            if number(name_size)? == self.name.len() && self.texts.get(name_at..)?.starts_with(self.name) {
                return self.texts.get(value_at..self.at.wrapping_sub(1));
            }
        }
        None
    }
}

/// Visits the pairs whose names have a size that `is_wanted`, in their order. Truncated pairs are left out.
///
/// One pass reads several names: each lookup of a name takes about 300 instructions.
#[inline(always)]
pub(crate) fn visit<'a>(
    bytes: &'a [u8],
    is_wanted: impl Fn(usize) -> bool,
    mut visit: impl FnMut(&'a [u8], &'a [u8]),
) -> Option<()> {
    let (sizes, texts) = split(bytes)?;
    let (sizes, _) = sizes.as_chunks::<4>();
    let (sizes, _) = sizes.as_chunks::<2>();
    let mut at: usize = 0;
    for [name_size, value_size] in sizes {
        let (name_at, name_size) = (at, number(name_size)?);
        // As in `Values`.
        let value_at = name_at.wrapping_add(name_size).wrapping_add(1);
        at = value_at.wrapping_add(number(value_size)?).wrapping_add(1);
        if is_wanted(name_size) {
            visit(texts.get(name_at..value_at.wrapping_sub(1))?, texts.get(value_at..at.wrapping_sub(1))?);
        }
    }
    Some(())
}

/// Splits encoded pairs into their sizes and their names and values.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (count, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(number(count)?.checked_mul(8)?)
}

fn number(bytes: &[u8; 4]) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(*bytes)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ENCODED: &[u8] = b"\x02\0\0\0\x07\0\0\0\x03\0\0\0\x01\0\0\0\0\0\0\0:method\0GET\0x\0\0";

    #[test]
    fn pairs_have_the_encoding_of_the_abi() {
        assert_eq!(encode([(":method", "GET"), ("x", "")].into_iter()), ENCODED);
        let decoded: Vec<_> = decode(ENCODED).collect();
        assert_eq!(decoded, [(&b":method"[..], &b"GET"[..]), (b"x", b"")]);
        assert_eq!(encode(core::iter::empty::<(&str, &str)>()), [0; 4]);
    }

    #[test]
    fn truncated_pairs_are_left_out() {
        for end in 0..ENCODED.len() {
            let decoded: Vec<_> = decode(ENCODED.get(..end).unwrap_or_default()).collect();
            assert!(decoded.len() < 2, "{end}: {decoded:?}");
        }
    }

    proptest! {
        #[test]
        fn any_pairs_survive_a_round_trip(pairs: Vec<(String, String)>) {
            let encoded = encode(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())));
            let decoded: Vec<_> = decode(&encoded).collect();
            let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
            prop_assert_eq!(&decoded, &pairs);
            for (name, _) in &pairs {
                let expected: Vec<_> = pairs.iter().filter(|(other, _)| other == name).map(|(_, value)| *value).collect();
                prop_assert_eq!(values(&encoded, name).collect::<Vec<_>>(), expected);
            }
            let mut visited = Vec::new();
            visit(&encoded, |size| size % 2 == 0, |name, value| visited.push((name, value)));
            let of_even_size: Vec<_> = pairs.iter().copied().filter(|(name, _)| name.len() % 2 == 0).collect();
            prop_assert_eq!(visited, of_even_size);
        }

        #[test]
        fn any_bytes_are_decoded_without_a_panic(bytes: Vec<u8>) {
            let size: usize = decode(&bytes).map(|(name, value)| name.len().saturating_add(value.len())).sum();
            prop_assert!(size <= bytes.len());
            visit(&bytes, |_| true, |_, _| {});
            prop_assert!(values(&bytes, b"").map(<[u8]>::len).sum::<usize>() <= bytes.len());
        }
    }
}
