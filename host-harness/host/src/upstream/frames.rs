//! gRPC message framing: a flag byte, the length in four bytes (big-endian), the message.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Maximum length of a message in bytes; a module receives each message as a whole.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// Error of bytes that are not gRPC messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("found a compressed message, expected an uncompressed message")]
    Compressed,
    #[error("expected flag 0, found {0}")]
    Flag(u8),
    #[error("expected a message of at most {MAX_MESSAGE} bytes, found {0}")]
    TooLong(usize),
}

pub(super) fn frame(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.extend_from_slice(message);
    framed.freeze()
}

/// Decoder of messages from chunks of any size.
#[derive(Default)]
pub(super) struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    /// Number of bytes that belong to no message yet.
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    pub(super) fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        match self.buffer.first() {
            None => return Ok(None),
            Some(0) => {}
            Some(1) => return Err(FrameError::Compressed),
            Some(other) => return Err(FrameError::Flag(*other)),
        }
        let Some(([_, a, b, c, d], _)) = self.buffer.split_first_chunk::<5>() else { return Ok(None) };
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        if length > MAX_MESSAGE {
            return Err(FrameError::TooLong(length));
        }
        if self.buffer.len() < 5 + length {
            return Ok(None);
        }
        self.buffer.advance(5);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_whole_however_the_bytes_are_cut() {
        let bytes = [frame(b"one"), frame(b""), frame(b"three")].concat();
        for size in 1..=bytes.len() {
            let mut decoder = Decoder::default();
            let mut messages = Vec::new();
            for chunk in bytes.chunks(size) {
                decoder.push(chunk);
                while let Ok(Some(message)) = decoder.next() {
                    messages.push(message);
                }
            }
            assert_eq!(messages, [&b"one"[..], b"", b"three"], "cut every {size} bytes");
        }
    }

    #[test]
    fn malformed_frames_are_refused() {
        let next = |bytes: &[u8]| {
            let mut decoder = Decoder::default();
            decoder.push(bytes);
            decoder.next()
        };
        assert_eq!(next(b"+"), Err(FrameError::Flag(b'+')));
        assert_eq!(next(&[1, 0, 0, 0, 0]), Err(FrameError::Compressed));
        assert_eq!(next(&[0, 255, 255, 255, 255]), Err(FrameError::TooLong(u32::MAX as usize)));
    }
}
