//! Commands: arrays of bulk strings, written to a buffer that the caller keeps.

use alloc::vec::Vec;

/// Appends the head of a command of `parts` bulk strings, which [`encode_bulk`] must then write.
pub fn encode_header(out: &mut Vec<u8>, parts: usize) {
    out.push(b'*');
    decimal(parts, |digits| out.extend_from_slice(digits));
    out.extend_from_slice(b"\r\n");
}

/// Appends one bulk string, of any bytes.
pub fn encode_bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'$');
    decimal(bytes.len(), |digits| out.extend_from_slice(digits));
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Appends one bulk string of `len` bytes, which are in these parts.
pub(in crate::redis) fn encode_bulk_of<'a>(out: &mut Vec<u8>, len: usize, parts: impl Iterator<Item = &'a [u8]>) {
    out.push(b'$');
    decimal(len, |digits| out.extend_from_slice(digits));
    out.extend_from_slice(b"\r\n");
    parts.for_each(|part| out.extend_from_slice(part));
    out.extend_from_slice(b"\r\n");
}

/// Appends a whole command: its name and its arguments.
pub fn encode_command(out: &mut Vec<u8>, parts: &[impl AsRef<[u8]>]) {
    encode_header(out, parts.len());
    for part in parts {
        encode_bulk(out, part.as_ref());
    }
}

/// Gives `n` in decimal digits to `use_digits`, without an allocation or the formatting machinery: this runs
/// several times per request.
pub(in crate::redis) fn decimal<T>(n: impl TryInto<u64>, use_digits: impl FnOnce(&[u8]) -> T) -> T {
    let mut n = n.try_into().unwrap_or(u64::MAX);
    let mut digits = [b'0'; 20];
    let mut first = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = u8::try_from(n % 10).map_or(b'0', |value| b'0' | value);
        first = first.saturating_sub(1);
        n /= 10;
        if n == 0 {
            break;
        }
    }
    use_digits(digits.get(first..).unwrap_or_default())
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

    proptest! {
        #[test]
        fn any_number_is_written_as_its_decimal_digits(n: usize) {
            prop_assert_eq!(decimal(n, <[u8]>::to_vec), n.to_string().into_bytes());
        }
    }
}
