//! Size of a body, and of the images and files within it.

/// Shortest string that counts as an image or file, if it consists of base64 alone.
const SHORTEST: u64 = 512;
/// Bytes of a data URL before its base64, at most: `data:image/png;base64,`.
const LONGEST_PREFIX: u64 = 64;

/// Bytes of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BodySize {
    /// All bytes that were seen.
    pub bytes: u64,
    /// Strings that are images or files: long ones of base64 alone, or data URLs.
    pub images: u64,
    /// Bytes of these strings.
    pub image_bytes: u64,
}

/// Measures a body piece by piece.
#[derive(Debug, Default)]
pub(super) struct Measure {
    pub(super) size: BodySize,
    place: Place,
    /// Bytes of the present string.
    len: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    #[default]
    Outside,
    /// In a string that consists of base64 so far.
    Base64,
    /// Behind a backslash in such a string.
    Base64Escape,
    /// In another string.
    Text,
    /// Behind a backslash in it.
    Escape,
}

impl Measure {
    /// Takes the next bytes of the body.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.size.bytes = self.size.bytes.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        for byte in bytes {
            self.len = self.len.saturating_add(1);
            self.place = match (self.place, byte) {
                (Place::Outside, b'"') => {
                    self.len = 0;
                    Place::Base64
                }
                (Place::Outside, _) => Place::Outside,
                (Place::Base64, b'"') => {
                    let len = self.len.saturating_sub(1);
                    if len >= SHORTEST {
                        self.size.images = self.size.images.saturating_add(1);
                        self.size.image_bytes = self.size.image_bytes.saturating_add(len);
                    }
                    Place::Outside
                }
                (Place::Text, b'"') => Place::Outside,
                (Place::Base64, b'\\') => Place::Base64Escape,
                // Some encoders write each slash of base64 behind a backslash.
                (Place::Base64Escape, b'/') => Place::Base64,
                (Place::Text, b'\\') => Place::Escape,
                (Place::Base64, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'+' | b'/' | b'=' | b'-' | b'_') => {
                    Place::Base64
                }
                (Place::Base64, b':' | b';' | b',' | b'.') if self.len <= LONGEST_PREFIX => Place::Base64,
                _ => Place::Text,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(body: &str, piece: usize) -> BodySize {
        let mut measure = Measure::default();
        body.as_bytes().chunks(piece).for_each(|piece| measure.push(piece));
        measure.size
    }

    #[test]
    fn images_are_long_strings_of_base64() {
        let base64 = "iVBORw0KGgo+/9==".repeat(40);
        let url = format!("data:image/png;base64,{base64}");
        let escaped = base64.replace('/', "\\/");
        let len = |text: &str| u64::try_from(text.len()).unwrap();
        for (value, images, image_bytes) in [
            (base64.as_str(), 1, len(&base64)),
            (&url, 1, len(&url)),
            (&escaped, 1, len(&escaped)),
            (&base64[..511], 0, 0),
            (&base64[..512], 1, 512),
            (&format!("{base64} and text"), 0, 0),
            (&format!("{base64}\\n"), 0, 0),
            (&format!("\\\"{base64}"), 0, 0),
            (&format!("{base64},"), 0, 0),
            (&"some words. ".repeat(90), 0, 0),
            (&"größe".repeat(200), 0, 0),
        ] {
            let body = format!(r#"{{"a": ["x\"y", "{value}", "z\\"], "b": "c"}}"#);
            let expected = BodySize { bytes: len(&body), images, image_bytes };
            for piece in [1, 7, 10_000] {
                assert_eq!(measured(&body, piece), expected, "{value}");
            }
        }
        let two = format!(r#"["{base64}","{url}"]"#);
        assert_eq!(measured(&two, 3).images, 2);
    }
}
