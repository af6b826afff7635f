//! Target `pairs`: header maps as the binary interface passes them, read by the filter and by the host.

use weir_filter::native::{decode_pairs, encode_pairs};

/// Runs the target.
///
/// # Panics
/// If pairs are not the same after encoding and decoding, or if the encodings of filter and host differ.
pub fn run(input: &[u8]) {
    let pairs: Vec<(&[u8], &[u8])> = decode_pairs(input).collect();
    let size: usize = pairs.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    assert!(size <= input.len(), "{size} bytes of names and values");
    let encoded = encode_pairs(pairs.iter().copied());
    assert_eq!(decode_pairs(&encoded).collect::<Vec<_>>(), pairs);
    #[cfg(feature = "harness")]
    {
        let of_host = weir_host::encode_pairs(pairs.iter().map(|(name, value)| (*name, *value)));
        assert_eq!(of_host, encoded, "filter and host encode pairs in the same way");
    }
}
