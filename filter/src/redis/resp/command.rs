//! Commands: arrays of bulk strings, written to a buffer that the caller keeps.

/// Appends the head of a command of `parts` bulk strings, which [`encode_bulk`] must then write.
pub fn encode_header(out: &mut Vec<u8>, parts: usize) {
    out.push(b'*');
    decimal(parts as u64, |digits| out.extend_from_slice(digits));
    out.extend_from_slice(b"\r\n");
}

/// Appends one bulk string, of any bytes.
pub fn encode_bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'$');
    decimal(bytes.len() as u64, |digits| out.extend_from_slice(digits));
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Appends a whole command: its name and its arguments.
pub fn encode_command(out: &mut Vec<u8>, parts: &[impl AsRef<[u8]>]) {
    encode_header(out, parts.len());
    for part in parts {
        encode_bulk(out, part.as_ref());
    }
}

/// Bulk strings in a row, encoded as they come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BulkStrings {
    count: usize,
    encoded: Vec<u8>,
}

impl BulkStrings {
    /// None yet, with room for so many bytes of them.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { count: 0, encoded: Vec::with_capacity(bytes) }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// What is sent.
    #[must_use]
    pub fn into_encoded(self) -> Vec<u8> {
        self.encoded
    }

    /// One more, of any bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.count = self.count.saturating_add(1);
        encode_bulk(&mut self.encoded, bytes);
    }

    /// One more: a number, in decimal digits.
    pub fn push_number(&mut self, n: u64) {
        decimal(n, |digits| self.push(digits));
    }
}

/// Gives `n` in decimal digits to `use_digits`, without an allocation or the formatting machinery: this runs
/// several times per request.
fn decimal<T>(mut n: u64, use_digits: impl FnOnce(&[u8]) -> T) -> T {
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

    #[test]
    fn bulk_strings_in_a_row_are_a_command_without_its_head() {
        let mut strings = BulkStrings::default();
        strings.push(b"a\0b");
        strings.push_number(10);
        assert_eq!((strings.count(), strings.into_encoded()), (2, b"$3\r\na\0b\r\n$2\r\n10\r\n".to_vec()));
    }

    proptest! {
        #[test]
        fn any_number_is_written_as_its_decimal_digits(n: u64) {
            prop_assert_eq!(decimal(n, <[u8]>::to_vec), n.to_string().into_bytes());
        }
    }
}
