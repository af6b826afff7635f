//! Encoder of commands: appends arrays of bulk strings to the caller's buffer.

use alloc::vec::Vec;

/// Appends the header of a command of `parts` bulk strings. The caller appends these with [`encode_bulk`].
pub fn encode_header(out: &mut Vec<u8>, parts: usize) {
    let mut head = ReverseText::new();
    head.push_line(b'*', parts);
    out.extend_from_slice(head.text());
}

/// Appends one bulk string.
pub fn encode_bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    encode_bulk_head(out, bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Appends one bulk string of `len` bytes, given in parts.
pub(in crate::redis) fn encode_bulk_of<'a>(out: &mut Vec<u8>, len: usize, parts: impl Iterator<Item = &'a [u8]>) {
    encode_bulk_head(out, len);
    parts.for_each(|part| out.extend_from_slice(part));
    out.extend_from_slice(b"\r\n");
}

/// Appends the head of a bulk string of `len` bytes.
#[inline(always)]
fn encode_bulk_head(out: &mut Vec<u8>, len: usize) {
    let mut head = ReverseText::new();
    head.push_line(b'$', len);
    out.extend_from_slice(head.text());
}

/// Appends one bulk string: a number in decimal digits.
pub(in crate::redis) fn encode_number(out: &mut Vec<u8>, n: u64) {
    let mut bulk = ReverseText::new();
    bulk.push(*b"\r\n");
    let end = bulk.start;
    bulk.push_digits(n);
    let digits = end.saturating_sub(bulk.start);
    bulk.push_line(b'$', digits);
    out.extend_from_slice(bulk.text());
}

/// Appends a whole command: its name and its arguments.
pub fn encode_command(out: &mut Vec<u8>, parts: &[impl AsRef<[u8]>]) {
    encode_header(out, parts.len());
    for part in parts {
        encode_bulk(out, part.as_ref());
    }
}

/// A short text that is written from its end to its start, the order in which decimal digits are computed.
///
/// One append of the whole text costs a fraction of one append per part, and each request encodes several numbers.
struct ReverseText {
    /// Room for a bulk string of the largest number: `$20`, 20 digits and two line ends.
    buffer: [u8; 32],
    start: usize,
}

/// The texts `00` to `99`.
#[allow(clippy::indexing_slicing, reason = "evaluated at compile time")]
const TWO_DIGITS: [[u8; 2]; 100] = {
    let mut table = [[b'0'; 2]; 100];
    let mut n = 0_u8;
    while n < 100 {
        table[n as usize] = [b'0' + n / 10, b'0' + n % 10];
        n += 1;
    }
    table
};

impl ReverseText {
    fn new() -> Self {
        Self { buffer: [0; 32], start: 32 }
    }

    #[inline(always)]
    fn push<const N: usize>(&mut self, bytes: [u8; N]) {
        self.start = self.start.wrapping_sub(N);
        if let Some(chunk) = self.buffer.get_mut(self.start..).and_then(|rest| rest.first_chunk_mut()) {
            *chunk = bytes;
        }
    }

    #[inline(always)]
    fn push_digits(&mut self, mut n: u64) {
        while n >= 10 {
            // The remainder is below 100.
            let two = usize::try_from(n % 100).ok().and_then(|n| TWO_DIGITS.get(n));
            self.push(two.copied().unwrap_or_default());
            n /= 100;
            if n == 0 {
                return;
            }
        }
        self.push([b'0' | u8::try_from(n).unwrap_or_default()]);
    }

    /// Writes a line of a prefix and a number.
    #[inline(always)]
    fn push_line(&mut self, prefix: u8, n: usize) {
        match u8::try_from(n) {
            Ok(digit @ 0..10) => self.push([prefix, b'0' | digit, b'\r', b'\n']),
            _ => {
                self.push(*b"\r\n");
                self.push_digits(u64::try_from(n).unwrap_or(u64::MAX));
                self.push([prefix]);
            }
        }
    }

    fn text(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_command_is_an_array_of_bulk_strings() {
        let mut out = Vec::new();
        encode_command(&mut out, &["SET", "k", "a value\r\n"]);
        assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$9\r\na value\r\n\r\n");
    }

    #[test]
    fn the_largest_number_fits_the_buffer() {
        let mut out = Vec::new();
        encode_number(&mut out, u64::MAX);
        assert_eq!(out, b"$20\r\n18446744073709551615\r\n");
    }

    proptest! {
        #[test]
        fn any_number_is_a_bulk_string_of_its_decimal_digits(n: u64) {
            let (mut number, mut text) = (Vec::new(), Vec::new());
            encode_number(&mut number, n);
            encode_bulk(&mut text, n.to_string().as_bytes());
            prop_assert_eq!(number, text);
        }

        #[test]
        fn any_bytes_follow_their_length(bytes: Vec<u8>) {
            let mut out = Vec::new();
            encode_bulk(&mut out, &bytes);
            prop_assert_eq!(out, [format!("${}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n"].concat());
        }
    }
}
