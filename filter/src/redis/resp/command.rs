//! Encoder of commands: appends arrays of bulk strings to the caller's buffer.

use alloc::vec::Vec;

/// Appends the header of a command of `parts` bulk strings. The caller appends these with [`encode_bulk`].
pub fn encode_header(out: &mut Vec<u8>, parts: usize) {
    encode_line(out, b'*', parts);
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
    encode_line(out, b'$', len);
}

/// Appends one bulk string: a number in decimal digits.
pub(in crate::redis) fn encode_number(out: &mut Vec<u8>, n: u64) {
    // Most numbers of most calls.
    if let Ok(digit @ 0..10) = u8::try_from(n) {
        return out.extend_from_slice(&[b'$', b'1', b'\r', b'\n', b'0' | digit, b'\r', b'\n']);
    }
    encode_bulk(out, itoa::Buffer::new().format(n).as_bytes());
}

/// Appends a line of a prefix and a number. Short lines are appended in one piece: an append costs more than a byte.
fn encode_line(out: &mut Vec<u8>, prefix: u8, n: usize) {
    match u8::try_from(n) {
        Ok(one @ 0..10) => out.extend_from_slice(&[prefix, b'0' | one, b'\r', b'\n']),
        Ok(two @ 10..100) => out.extend_from_slice(&[prefix, b'0' | (two / 10), b'0' | (two % 10), b'\r', b'\n']),
        _ => {
            out.push(prefix);
            out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Appends a whole command: its name and its arguments.
pub fn encode_command(out: &mut Vec<u8>, parts: &[impl AsRef<[u8]>]) {
    encode_header(out, parts.len());
    for part in parts {
        encode_bulk(out, part.as_ref());
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
