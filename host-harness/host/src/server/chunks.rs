//! Chunked bodies of HTTP/1, as far as their end has to be found.

/// Place in a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunks {
    Size {
        value: u64,
        digits: u8,
    },
    /// Rest of the line of a size.
    Extension {
        value: u64,
    },
    Data(u64),
    /// Line end after the data.
    DataEnd,
    TrailerStart,
    Trailer,
    Over,
    Malformed,
}

impl Default for Chunks {
    fn default() -> Self {
        Self::Size { value: 0, digits: 0 }
    }
}

impl Chunks {
    pub(super) fn is_over(self) -> bool {
        self == Self::Over
    }

    /// Passes over a part of the body; returns its length, which is shorter if the body ends or is malformed.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while let Some(byte) = bytes.get(taken) {
            if let Self::Data(remaining @ 1..) = self {
                let part = (bytes.len() - taken).min(usize::try_from(*remaining).unwrap_or(usize::MAX));
                *remaining -= part as u64;
                taken += part;
                continue;
            }
            *self = self.after(*byte);
            if *self == Self::Malformed {
                break;
            }
            taken += 1;
            if *self == Self::Over {
                break;
            }
        }
        taken
    }

    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Size { value, digits: 0..16 }, byte) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                let Self::Size { digits, .. } = self else { return Self::Malformed };
                Self::Size { value: value << 4 | digit, digits: digits + 1 }
            }
            (Self::Size { value, digits: 1.. } | Self::Extension { value }, b'\n') => match value {
                0 => Self::TrailerStart,
                length => Self::Data(length),
            },
            (Self::Size { value, digits: 1.. }, b';' | b' ' | b'\t' | b'\r') | (Self::Extension { value }, _) => {
                Self::Extension { value }
            }
            (Self::Data(_) | Self::DataEnd, b'\r') => Self::DataEnd,
            (Self::Data(_) | Self::DataEnd, b'\n') => Self::default(),
            (Self::TrailerStart, b'\n') => Self::Over,
            (Self::TrailerStart, b'\r') | (Self::Trailer, b'\n') => Self::TrailerStart,
            (Self::TrailerStart | Self::Trailer, _) => Self::Trailer,
            _ => Self::Malformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_body_is_found_however_its_bytes_are_cut() {
        let bodies = [
            "0\r\n\r\n",
            "3\r\nabc\r\n0\r\n\r\n",
            "3;x=\"y\"\r\nabc\r\n000a \r\n0123456789\r\n0\r\nx-a: b\r\nx-b: c\r\n\r\n",
            "3\nabc\n0\n\n",
        ];
        for body in bodies {
            let sent = [body, "GET / HTTP/1.1\r\n\r\n"].concat();
            for size in 1..=sent.len() {
                let (mut chunks, mut taken) = (Chunks::default(), 0);
                for part in sent.as_bytes().chunks(size) {
                    if !chunks.is_over() {
                        taken += chunks.take(part);
                    }
                }
                assert_eq!((taken, chunks), (body.len(), Chunks::Over), "{body:?} cut every {size} bytes");
            }
        }
    }

    #[test]
    fn a_malformed_body_has_no_end() {
        for body in ["zz\r\n", "\r\n", "-1\r\n", "3\r\nabcd\r\n", "fffffffffffffffff\r\n", "+3\r\n"] {
            let mut chunks = Chunks::default();
            assert!(chunks.take(body.as_bytes()) < body.len() && chunks == Chunks::Malformed, "{body:?}");
        }
    }
}
