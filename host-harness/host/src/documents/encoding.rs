//! Encodings of YAML: UTF-8, UTF-16 and UTF-32, which yaml-cpp, and so Envoy, tells by the first bytes.
//!
//! A text begins with a byte order mark or with a character of ASCII, whose bytes of zero show the encoding. JSON is UTF-8.

/// Encoding of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Utf8,
    Utf16 { is_big_endian: bool },
    Utf32 { is_big_endian: bool },
}

/// Returns the text in bytes of YAML; `None` if they are not of their encoding.
pub(super) fn decode(bytes: Vec<u8>) -> Option<String> {
    match encoding(&bytes) {
        Encoding::Utf8 => String::from_utf8(bytes).ok(),
        Encoding::Utf16 { is_big_endian } => {
            let unit =
                |pair: &[u8; 2]| if is_big_endian { u16::from_be_bytes(*pair) } else { u16::from_le_bytes(*pair) };
            let (units, []) = bytes.as_chunks::<2>() else { return None };
            char::decode_utf16(units.iter().map(unit)).collect::<Result<_, _>>().ok()
        }
        Encoding::Utf32 { is_big_endian } => {
            let unit =
                |four: &[u8; 4]| if is_big_endian { u32::from_be_bytes(*four) } else { u32::from_le_bytes(*four) };
            let (units, []) = bytes.as_chunks::<4>() else { return None };
            units.iter().map(|four| char::from_u32(unit(four))).collect()
        }
    }
}

fn encoding(bytes: &[u8]) -> Encoding {
    match bytes {
        [0, 0, 0xfe, 0xff, ..] | [0, 0, 0, 1..=255, ..] => Encoding::Utf32 { is_big_endian: true },
        [0xff, 0xfe, 0, 0, ..] | [1..=255, 0, 0, 0, ..] => Encoding::Utf32 { is_big_endian: false },
        [0xfe, 0xff, ..] | [0, 1..=255, ..] => Encoding::Utf16 { is_big_endian: true },
        [0xff, 0xfe, ..] | [1..=255, 0, ..] => Encoding::Utf16 { is_big_endian: false },
        _ => Encoding::Utf8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "node: {id: \"é😀\"}\n";

    fn encoded<const N: usize>(text: &str, unit: impl Fn(char) -> Vec<[u8; N]>) -> Vec<u8> {
        text.chars().flat_map(unit).flatten().collect()
    }

    #[test]
    fn each_encoding_is_told_with_and_without_its_mark() {
        let units = |char: char| char.encode_utf16(&mut [0; 2]).to_vec();
        for text in [TEXT.to_owned(), format!("\u{feff}{TEXT}")] {
            let all = [
                text.clone().into_bytes(),
                encoded(&text, |char| units(char).iter().map(|unit| unit.to_be_bytes()).collect()),
                encoded(&text, |char| units(char).iter().map(|unit| unit.to_le_bytes()).collect()),
                encoded(&text, |char| vec![u32::from(char).to_be_bytes()]),
                encoded(&text, |char| vec![u32::from(char).to_le_bytes()]),
            ];
            for bytes in all {
                assert_eq!(decode(bytes.clone()).as_ref(), Some(&text), "{bytes:x?}");
            }
        }
        assert_eq!(decode(Vec::new()).as_deref(), Some(""));
        assert_eq!(decode(b"a".to_vec()).as_deref(), Some("a"));
    }

    #[test]
    fn bytes_of_no_encoding_are_refused() {
        for bytes in [&b"a: \xff"[..], b"a\0b", b"\0a\xd8\0", b"\xff\xfe\0\xd8", b"a\0\0\0b", b"\0\0\0a\0\x11\0\0"] {
            assert_eq!(decode(bytes.to_vec()), None, "{bytes:x?}");
        }
    }
}
