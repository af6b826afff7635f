//! gRPC framing: length-prefixed messages (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>) around the
//! bytes of a stream. Message boundaries have no meaning. The bridge removes the framing from bytes to Redis and adds
//! framing to bytes from Redis; it does not parse RESP.

use alloc::vec::Vec;
use core::num::NonZeroUsize;

/// Payload bytes of one message to the limiter, at most; about 16 replies.
///
/// Each message is one callback of the limiter. A callback that resumed hundreds of requests would overflow the stack.
pub const DEFAULT_MAX_FRAME: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// Longest message that [`Unframer`] accepts, in bytes. A session sends far less at once.
pub const MAX_MESSAGE: u32 = 64 * 1024 * 1024;

/// Error in the gRPC framing of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// The message is compressed, or the stream is not gRPC.
    #[error("expected a message's compression flag to be 0, found another value")]
    Flag {
        /// The byte found.
        found: u8,
    },
    /// The message is longer than [`MAX_MESSAGE`].
    #[error("expected a message of at most {MAX_MESSAGE} bytes, found a longer one")]
    TooLong {
        /// The length in the header.
        found: u32,
    },
}

/// Removes the message headers from a gRPC stream in chunks of any size. Buffers at most one header of 5 bytes.
#[derive(Debug, Default)]
pub struct Unframer {
    header: [u8; HEADER],
    header_filled: usize,
    payload_left: usize,
    failed: Option<FramingError>,
}

const HEADER: usize = 5;

impl Unframer {
    /// Creates an unframer for a new stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns whether the input so far ends at a message boundary, without an error.
    #[must_use]
    pub fn is_between_messages(&self) -> bool {
        self.header_filled == 0 && self.payload_left == 0 && self.failed.is_none()
    }

    /// Appends the payload bytes of the next chunk to `out`.
    ///
    /// # Errors
    /// At an invalid header. The bytes before the header have been appended; every later call returns the same error.
    pub fn push(&mut self, mut chunk: &[u8], out: &mut Vec<u8>) -> Result<(), FramingError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        while !chunk.is_empty() {
            let payload = chunk.split_off(..self.payload_left.min(chunk.len())).unwrap_or_default();
            out.extend_from_slice(payload);
            self.payload_left = self.payload_left.saturating_sub(payload.len());
            if self.payload_left == 0
                && let Some((&byte, rest)) = chunk.split_first()
            {
                chunk = rest;
                self.header_byte(byte).inspect_err(|&error| self.failed = Some(error))?;
            }
        }
        Ok(())
    }

    fn header_byte(&mut self, byte: u8) -> Result<(), FramingError> {
        if let Some(slot) = self.header.get_mut(self.header_filled) {
            *slot = byte;
        }
        self.header_filled = self.header_filled.saturating_add(1);
        if self.header_filled < HEADER {
            return Ok(());
        }
        self.header_filled = 0;
        let [flag, length @ ..] = self.header;
        let length = u32::from_be_bytes(length);
        if flag != 0 {
            return Err(FramingError::Flag { found: flag });
        }
        if length > MAX_MESSAGE {
            return Err(FramingError::TooLong { found: length });
        }
        self.payload_left = length as usize;
        Ok(())
    }
}

/// Returns the size in bytes of one message with this payload.
#[must_use]
pub fn framed_size(bytes: &[u8]) -> usize {
    bytes.len().saturating_add(HEADER)
}

/// Appends `bytes` to `out` as gRPC messages with payloads of at most `max_frame` bytes. Appends nothing for no bytes.
pub fn frame(bytes: &[u8], max_frame: NonZeroUsize, out: &mut Vec<u8>) {
    let max_frame = max_frame.get().min(MAX_MESSAGE as usize);
    out.reserve(bytes.len().saturating_add(bytes.len().div_ceil(max_frame).saturating_mul(HEADER)));
    for payload in bytes.chunks(max_frame) {
        // At most MAX_MESSAGE: see `max_frame`.
        let length = u32::try_from(payload.len()).unwrap_or(MAX_MESSAGE);
        out.push(0);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(payload);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unframed(chunks: &[&[u8]]) -> Result<Vec<u8>, FramingError> {
        let (mut unframer, mut out) = (Unframer::new(), Vec::new());
        chunks.iter().try_for_each(|chunk| unframer.push(chunk, &mut out)).map(|()| out)
    }

    #[test]
    fn payloads_of_several_messages_are_concatenated() {
        assert_eq!(unframed(&[b"\0\0\0\0\x02ab\0\0\0\0\0\0\0\0\0\x01c"]).unwrap(), b"abc");
    }

    #[test]
    fn a_compressed_message_is_refused() {
        assert_eq!(unframed(&[b"\x01\0\0\0\0"]), Err(FramingError::Flag { found: 1 }));
    }

    #[test]
    fn a_length_above_the_maximum_is_refused_at_the_header() {
        assert_eq!(unframed(&[b"\0\xff\xff\xff\xff"]), Err(FramingError::TooLong { found: u32::MAX }));
    }

    #[test]
    fn after_an_error_no_bytes_pass() {
        let (mut unframer, mut out) = (Unframer::new(), Vec::new());
        assert!(unframer.push(b"\0\0\0\0\x01a\x02\0\0\0\0", &mut out).is_err());
        assert!(unframer.push(b"\0\0\0\0\x01b", &mut out).is_err());
        assert_eq!(out, b"a");
    }

    #[test]
    fn no_bytes_make_no_message() {
        let mut out = Vec::new();
        frame(b"", DEFAULT_MAX_FRAME, &mut out);
        assert!(out.is_empty());
    }

    proptest! {
        #[test]
        fn framed_bytes_survive_a_round_trip_in_chunks_of_any_size(
            runs in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 0..8),
            max_frame in 1_usize..600,
            cuts in prop::collection::vec(1_usize..700, 1..20),
        ) {
            let max_frame = NonZeroUsize::new(max_frame).unwrap();
            let mut stream = Vec::new();
            for run in &runs {
                frame(run, max_frame, &mut stream);
            }
            let (mut unframer, mut out) = (Unframer::new(), Vec::new());
            let mut rest = stream.as_slice();
            for &cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (chunk, after) = rest.split_at(cut.min(rest.len()));
                unframer.push(chunk, &mut out).unwrap();
                rest = after;
            }
            prop_assert_eq!(out, runs.concat());
        }

        #[test]
        fn no_message_is_longer_than_max_frame(bytes in prop::collection::vec(any::<u8>(), 0..2000), max_frame in 1_usize..600) {
            let mut stream = Vec::new();
            frame(&bytes, NonZeroUsize::new(max_frame).unwrap(), &mut stream);
            let mut rest = stream.as_slice();
            while let [0, a, b, c, d, after @ ..] = rest {
                let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
                prop_assert!((1..=max_frame).contains(&length));
                rest = &after[length..];
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn unframed_garbage_is_never_longer_than_its_input(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..10)) {
            let (mut unframer, mut out) = (Unframer::new(), Vec::new());
            for chunk in &chunks {
                let _ = unframer.push(chunk, &mut out);
            }
            prop_assert!(out.len() <= chunks.concat().len());
        }
    }
}
