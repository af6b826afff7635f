//! BLAKE2b with a digest of 16 bytes (RFC 7693): `b2sum -l 128`.
//!
//! WebAssembly has 64-bit words but no SHA instructions: BLAKE2b takes a tenth of the time of the compact SHA-256 of
//! the crate `sha2`, and 60 KB of a client's headers have to be hashed in a fraction of a millisecond.

use alloc::fmt;

/// Digest of 16 bytes.
pub(super) type Hash = [u8; 16];
/// Chained state of the compression function.
type State = [u64; 8];

const IV: [u64; 8] = [
    0x6a09_e667_f3bc_c908,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
];
/// Order of a block's words in each of ten rounds; the eleventh and twelfth repeat the first two.
const SIGMA: [[u8; 16]; 10] = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
    [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
    [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
    [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
    [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
    [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
    [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
    [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
];
const BLOCK: usize = 128;
/// Parameter block: fanout 1, depth 1, digest of 16 bytes. Byte 1 is the length of the key.
const PARAMETERS: u64 = 0x0101_0010;

/// Returns the digest of `bytes`.
pub(super) fn hash(bytes: &[u8]) -> Hash {
    finish(initial(0), bytes, 0)
}

/// Key of keyed digests (RFC 7693, §2.9), of 16 to 64 bytes: `hashlib.blake2b(value, digest_size=16, key=key)` in
/// Python. Its `Debug` form is `[redacted]`.
#[derive(Clone, PartialEq, Eq)]
pub struct HashKey {
    /// State after the first block, which is the key.
    state: State,
    /// Digest of an empty value, whose only block is the key.
    of_empty: Hash,
}

impl HashKey {
    /// Minimum length in bytes: a shorter key could be guessed.
    pub const MIN_LEN: usize = 16;
    /// Maximum length in bytes: that of BLAKE2b.
    pub const MAX_LEN: usize = 64;

    /// Creates a key. `None` if `key` is too short or too long.
    #[must_use]
    pub fn new(key: &[u8]) -> Option<Self> {
        if !(Self::MIN_LEN..=Self::MAX_LEN).contains(&key.len()) {
            return None;
        }
        let block = padded(key);
        let initial = initial(key.len() as u64);
        let mut state = initial;
        compress(&mut state, &block, BLOCK as u64, false);
        Some(Self { state, of_empty: finish(initial, &block, 0) })
    }

    /// Returns the keyed digest of `bytes`.
    pub(super) fn hash(&self, bytes: &[u8]) -> Hash {
        if bytes.is_empty() { self.of_empty } else { finish(self.state, bytes, BLOCK as u64) }
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// State before the first block, for a key of this many bytes.
fn initial(key_len: u64) -> State {
    let mut state = IV;
    let [first, ..] = &mut state;
    *first ^= PARAMETERS ^ key_len << 8;
    state
}

/// Returns the digest in a state after `before` bytes, with `rest` behind them.
#[inline(never)]
fn finish(mut state: State, mut rest: &[u8], mut before: u64) -> Hash {
    // The last block is compressed below, even if it is full or empty.
    while let Some((block, behind)) = rest.split_first_chunk::<BLOCK>()
        && !behind.is_empty()
    {
        before = before.wrapping_add(BLOCK as u64);
        compress(&mut state, block, before, false);
        rest = behind;
    }
    compress(&mut state, &padded(rest), before.wrapping_add(rest.len() as u64), true);
    let mut digest = [0; 16];
    let bytes = state.iter().flat_map(|word| word.to_le_bytes());
    digest.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    digest
}

/// Block that starts with `bytes`, followed by zeros.
fn padded(bytes: &[u8]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    block
}

fn compress(state: &mut State, block: &[u8; BLOCK], up_to: u64, is_last: bool) {
    let mut words = [0; 16];
    let (chunks, _) = block.as_chunks::<8>();
    words.iter_mut().zip(chunks).for_each(|(word, bytes)| *word = u64::from_le_bytes(*bytes));
    let [mut a0, mut a1, mut a2, mut a3, mut b0, mut b1, mut b2, mut b3] = *state;
    let [mut c0, mut c1, mut c2, mut c3, mut d0, mut d1, mut d2, mut d3] = IV;
    d0 ^= up_to;
    d2 ^= if is_last { u64::MAX } else { 0 };
    for order in SIGMA.iter().chain(SIGMA.iter().take(2)) {
        let [s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, s14, s15] = *order;
        let word = |at: u8| words.get(usize::from(at & 15)).copied().unwrap_or(0);
        mix(&mut a0, &mut b0, &mut c0, &mut d0, word(s0), word(s1));
        mix(&mut a1, &mut b1, &mut c1, &mut d1, word(s2), word(s3));
        mix(&mut a2, &mut b2, &mut c2, &mut d2, word(s4), word(s5));
        mix(&mut a3, &mut b3, &mut c3, &mut d3, word(s6), word(s7));
        mix(&mut a0, &mut b1, &mut c2, &mut d3, word(s8), word(s9));
        mix(&mut a1, &mut b2, &mut c3, &mut d0, word(s10), word(s11));
        mix(&mut a2, &mut b3, &mut c0, &mut d1, word(s12), word(s13));
        mix(&mut a3, &mut b0, &mut c1, &mut d2, word(s14), word(s15));
    }
    let mixed = [a0 ^ c0, a1 ^ c1, a2 ^ c2, a3 ^ c3, b0 ^ d0, b1 ^ d1, b2 ^ d2, b3 ^ d3];
    state.iter_mut().zip(mixed).for_each(|(word, mixed)| *word ^= mixed);
}

#[inline(always)]
fn mix(a: &mut u64, b: &mut u64, c: &mut u64, d: &mut u64, x: u64, y: u64) {
    *a = a.wrapping_add(*b).wrapping_add(x);
    *d = (*d ^ *a).rotate_right(32);
    *c = c.wrapping_add(*d);
    *b = (*b ^ *c).rotate_right(24);
    *a = a.wrapping_add(*b).wrapping_add(y);
    *d = (*d ^ *a).rotate_right(16);
    *c = c.wrapping_add(*d);
    *b = (*b ^ *c).rotate_right(63);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Digests are from `b2sum -l 128` of coreutils.
    #[test]
    fn digests_are_those_of_other_implementations() {
        let hex = |bytes: &[u8]| hash(bytes).map(|byte| format!("{byte:02x}")).concat();
        for (length, digest) in DIGESTS {
            let bytes: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
            assert_eq!(hex(&bytes), digest, "{length} bytes");
        }
    }

    const DIGESTS: [(usize, &str); 8] = [
        (0, "cae66941d9efbd404e4d88758ea67670"),
        (1, "7025e075d5e2f6cde3cc051a31f07660"),
        (127, "28b1296c7d4807883de6ee4ec04dcc0a"),
        (128, "a74787004ef589e31149183900d0294a"),
        (129, "aaf1b0371f6d4ee49ee4fb5ddd9c49ef"),
        (255, "e2f3b2a57bcf64d626b37fc9c12674a1"),
        (256, "1142c504dcd26338b7cbcf41424540d0"),
        (60000, "8feaa60fc522499c14f2c062fa11b52b"),
    ];

    /// Digests are from Python's `hashlib.blake2b(…, digest_size=16, key=…)`.
    #[test]
    fn keyed_digests_are_those_of_other_implementations() {
        let long: Vec<u8> = (0..64).collect();
        for (length, by_long, by_short) in KEYED {
            let bytes: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
            for (key, digest) in [(&*long, by_long), (b"0123456789abcdef", by_short)] {
                let hash = HashKey::new(key).unwrap().hash(&bytes);
                assert_eq!(hash.map(|byte| format!("{byte:02x}")).concat(), digest, "{length} bytes");
            }
        }
    }

    const KEYED: [(usize, &str, &str); 7] = [
        (0, "2ae6b02df83c8d5a85eb7ab86fe3a11f", "ae1b7d5885b9050a9e768c79b773414a"),
        (1, "c06a03cf64b4bf5b16081e8fb36d3762", "c981c292f041eb2077ab614605d61d83"),
        (31, "eb1e8145031cc9f91bfba012996220da", "e77c76f55be724c67a8f3ba9e8be0479"),
        (128, "e73ac67c730bc525224c1fe98561401b", "4dbdebd6a101ca7c5290a8440680949f"),
        (129, "a4f9597aae5d4f336fec8972e52a819c", "3c00515647c86dbc03bf51d4919f9224"),
        (256, "d2ba2dc881b7eb5c4a2d74b9af30fb58", "fa2b2240833b2b9b3622d410c280778c"),
        (1000, "e7f9e7b754b1d321b4d026c6ff842b6c", "578e121a070da8a51fd75bd8bd7d6bbc"),
    ];

    #[test]
    fn a_key_has_16_to_64_bytes_and_does_not_show_in_debug_output() {
        let key = |length| HashKey::new(&vec![b'k'; length]);
        assert_eq!([15, 16, 64, 65].map(|length| key(length).is_some()), [false, true, true, false]);
        assert_eq!(format!("{:?}", key(16)), "Some([redacted])");
    }
}
