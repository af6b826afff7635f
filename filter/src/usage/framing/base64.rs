//! Decoder of base64 (RFC 4648), fed piece by piece.

/// Decoder of one text.
#[derive(Debug, Default)]
pub(super) struct Base64 {
    bits: u32,
    count: u32,
}

impl Base64 {
    /// Takes a character. Returns the byte that it completes, if any. Characters of no alphabet are skipped: padding, and
    /// the backslashes of JSON.
    pub(super) fn push(&mut self, character: u8) -> Option<u8> {
        let value = match character {
            b'A'..=b'Z' => character.wrapping_sub(b'A'),
            b'a'..=b'z' => character.wrapping_sub(b'a').wrapping_add(26),
            b'0'..=b'9' => character.wrapping_sub(b'0').wrapping_add(52),
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        self.bits = self.bits << 6 | u32::from(value);
        self.count = self.count.saturating_add(6);
        let left = self.count.checked_sub(8)?;
        self.count = left;
        self.bits.checked_shr(left)?.to_le_bytes().first().copied()
    }
}
