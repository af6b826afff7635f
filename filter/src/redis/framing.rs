//! gRPC's length-prefixed messages (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>), as a
//! mere envelope: on the limiter's stream each message carries a run of bytes, and where one message ends and
//! the next begins means nothing. The bridge takes the envelope off on the way to Redis, and puts one on again
//! on the way back, knowing nothing of RESP.

use alloc::vec::Vec;
use core::num::NonZeroUsize;

/// The greatest run of bytes that one message back to the limiter carries by default.
///
/// Each message is a callback of its own there, and one that resumed hundreds of requests would overflow the
/// VM's stack. About 16 replies fit.
pub const DEFAULT_MAX_FRAME: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// The longest message that [`Unframer`] believes in, in bytes. A session sends far less at once.
pub const MAX_MESSAGE: u32 = 64 * 1024 * 1024;

/// Why a stream is not framed as gRPC frames it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// Compressed, or no gRPC at all.
    #[error("expected a message's compression flag to be 0, found another value")]
    Flag {
        /// The byte there.
        found: u8,
    },
    /// A length that no session sends.
    #[error("expected a message of at most {MAX_MESSAGE} bytes, found a longer one")]
    TooLong {
        /// The length that it claims.
        found: u32,
    },
}

/// Takes the headers out of a gRPC stream, in whatever chunks it comes. It keeps no more than a header.
#[derive(Debug, Default)]
pub struct Unframer {
    header: [u8; HEADER],
    header_filled: usize,
    payload_left: usize,
    failed: Option<FramingError>,
}

const HEADER: usize = 5;

impl Unframer {
    /// At the beginning of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether all that came so far was whole messages.
    #[must_use]
    pub fn is_between_messages(&self) -> bool {
        self.header_filled == 0 && self.payload_left == 0 && self.failed.is_none()
    }

    /// Appends what the next chunk of the stream carries to `out`.
    ///
    /// # Errors
    /// At a header that cannot be. What came before it has been appended; the error stays.
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

/// The size of one message that carries these bytes.
#[must_use]
pub fn framed_size(bytes: &[u8]) -> usize {
    bytes.len().saturating_add(HEADER)
}

/// Appends `bytes` to `out` as gRPC messages of at most `max_frame` bytes each. No bytes, no message.
pub fn frame(bytes: &[u8], max_frame: NonZeroUsize, out: &mut Vec<u8>) {
    let max_frame = max_frame.get().min(MAX_MESSAGE as usize);
    out.reserve(bytes.len().saturating_add(bytes.len().div_ceil(max_frame).saturating_mul(HEADER)));
    for payload in bytes.chunks(max_frame) {
        // Cannot exceed MAX_MESSAGE, as above.
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
    fn several_messages_in_one_chunk_are_one_run_of_bytes() {
        assert_eq!(unframed(&[b"\0\0\0\0\x02ab\0\0\0\0\0\0\0\0\0\x01c"]).unwrap(), b"abc");
    }

    #[test]
    fn a_compressed_message_is_refused() {
        assert_eq!(unframed(&[b"\x01\0\0\0\0"]), Err(FramingError::Flag { found: 1 }));
    }

    #[test]
    fn an_absurd_length_is_refused_before_a_byte_of_it_comes() {
        assert_eq!(unframed(&[b"\0\xff\xff\xff\xff"]), Err(FramingError::TooLong { found: u32::MAX }));
    }

    #[test]
    fn after_an_error_nothing_more_is_let_through() {
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
        fn what_was_framed_comes_out_again_however_the_stream_is_cut(
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
        fn no_message_is_longer_than_asked(bytes in prop::collection::vec(any::<u8>(), 0..2000), max_frame in 1_usize..600) {
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
        fn garbage_is_let_through_or_refused_but_never_grows(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..10)) {
            let (mut unframer, mut out) = (Unframer::new(), Vec::new());
            for chunk in &chunks {
                let _ = unframer.push(chunk, &mut out);
            }
            prop_assert!(out.len() <= chunks.concat().len());
        }
    }
}
