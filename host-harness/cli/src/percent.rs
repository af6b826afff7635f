//! Percent-encoding of URLs.

/// Returns the bytes of a text with `%XX` decoded. A `%` without two hexadecimal digits stays.
pub(crate) fn decoded(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let digits = rest.get(1..3).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let code = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match code {
            Some(code) if *first == b'%' => {
                bytes.push(code);
                rest = &rest[3..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

/// Returns a text with all bytes encoded that are not unreserved in URLs.
pub(crate) fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_digits_are_a_byte_and_all_else_stays() {
        assert_eq!(decoded(b"a%20b%2Fc%2fd%"), b"a b/c/d%");
        assert_eq!(decoded(b"%+1%4%zz%41"), b"%+1%4%zzA");
    }

    #[test]
    fn an_encoded_text_is_decoded_to_the_same() {
        assert_eq!(encoded("weir:a b/é~"), "weir%3Aa%20b%2F%C3%A9~");
        assert_eq!(decoded(encoded("weir:a b/é~").as_bytes()), "weir:a b/é~".as_bytes());
    }
}
