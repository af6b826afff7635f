//! Decoder of replies from chunks of any size.

use alloc::vec::Vec;

use redis_protocol::resp2::{decode::decode_range, types::RangeFrame};

use super::{
    Reply, RespError,
    scanner::{MAX_REPLY, Scanner},
    script_reply,
};

/// Decodes replies incrementally.
///
/// Buffers at most the last chunk and one incomplete reply of [`MAX_REPLY`] bytes, provided that
/// [`next_reply`](Self::next_reply) is called after each [`push`](Self::push) until it returns `None`.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    start: usize,
    scanner: Scanner,
    failed: Option<RespError>,
}

impl Decoder {
    /// Creates a decoder for a new connection.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the next bytes of the connection. After an error, bytes are dropped.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.buffer.drain(..self.start.min(self.buffer.len()));
            self.start = 0;
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// Returns the next complete reply; `None` until more bytes are pushed.
    ///
    /// # Errors
    /// If the bytes are not RESP2, or exceed the limits of this module. The start of the next reply is then unknown, so
    /// the error stays until [`clear`](Self::clear).
    pub fn next_reply(&mut self) -> Result<Option<Reply>, RespError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let bytes = self.buffer.get(self.start..).unwrap_or_default();
        // Of an incomplete reply, the scanner has the state: no byte is scanned again for each chunk.
        if self.scanner.is_fresh()
            && let Some((reply, length)) = script_reply::read(bytes)
        {
            self.consume(length);
            return Ok(Some(reply));
        }
        match self.scanner.scan(bytes).and_then(|length| length.map(|length| decode(bytes, length)).transpose()) {
            Ok(None) => Ok(None),
            Ok(Some((reply, length))) => {
                self.consume(length);
                Ok(Some(reply))
            }
            Err(error) => {
                self.clear();
                self.failed = Some(error);
                Err(error)
            }
        }
    }

    /// Resets the decoder for a new connection.
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.buffer.shrink_to(MAX_REPLY);
        self.start = 0;
        self.scanner = Scanner::default();
        self.failed = None;
    }

    /// Returns the number of bytes that are buffered and not decoded yet.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffer.len().saturating_sub(self.start)
    }

    fn consume(&mut self, length: usize) {
        self.start = self.start.saturating_add(length);
        self.scanner = Scanner::default();
        if self.start >= self.buffer.len() {
            self.buffer.clear();
            self.buffer.shrink_to(MAX_REPLY);
            self.start = 0;
        }
    }
}

fn decode(bytes: &[u8], length: usize) -> Result<(Reply, usize), RespError> {
    let undecodable = RespError::Undecodable { length };
    let whole = bytes.get(..length).ok_or(undecodable)?;
    match decode_range(whole) {
        Ok(Some((frame, decoded))) if decoded == length => Ok((reply(whole, &frame), length)),
        _ => Err(undecodable),
    }
}

/// Builds a reply from ranges: the frames of `redis-protocol` cannot hold an error text that is not UTF-8.
fn reply(whole: &[u8], frame: &RangeFrame) -> Reply {
    let bytes = |&(start, end): &(usize, usize)| whole.get(start..end).unwrap_or_default().to_vec();
    match frame {
        RangeFrame::SimpleString(range) => Reply::Simple(bytes(range)),
        RangeFrame::Error(range) => Reply::Error(bytes(range)),
        RangeFrame::Integer(n) => Reply::Integer(*n),
        RangeFrame::BulkString(range) => Reply::Bulk(bytes(range)),
        RangeFrame::Array(frames) => Reply::Array(frames.iter().map(|frame| reply(whole, frame)).collect()),
        RangeFrame::Null => Reply::Nil,
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use proptest::prelude::*;
    use redis_protocol::resp2::{
        decode::decode as their_decode,
        encode,
        types::{OwnedFrame, Resp2Frame},
    };

    use super::{super::MAX_ELEMENTS, *};

    /// Decodes all replies up to the end of the chunks or the first error; the flag is `true` after an error.
    fn decoded<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Reply>, bool) {
        let (mut decoder, mut replies) = (Decoder::new(), Vec::new());
        for chunk in chunks {
            decoder.push(chunk);
            loop {
                match decoder.next_reply() {
                    Ok(Some(reply)) => replies.push(reply),
                    Ok(None) => break,
                    Err(_) => return (replies, true),
                }
                assert!(decoder.buffered() <= MAX_REPLY + chunk.len());
            }
            assert!(decoder.buffered() <= MAX_REPLY);
        }
        (replies, false)
    }

    fn the_error(bytes: &[u8]) -> RespError {
        let mut decoder = Decoder::new();
        decoder.push(bytes);
        decoder.next_reply().unwrap_err()
    }

    fn of(frame: &OwnedFrame) -> Reply {
        match frame {
            OwnedFrame::SimpleString(bytes) => Reply::Simple(bytes.clone()),
            OwnedFrame::Error(text) => Reply::Error(text.clone().into_bytes()),
            OwnedFrame::Integer(n) => Reply::Integer(*n),
            OwnedFrame::BulkString(bytes) => Reply::Bulk(bytes.clone()),
            OwnedFrame::Array(frames) => Reply::Array(frames.iter().map(of).collect()),
            OwnedFrame::Null => Reply::Nil,
        }
    }

    fn cut<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
        let (mut chunks, mut rest) = (Vec::new(), bytes);
        for &length in cuts.iter().cycle() {
            if rest.is_empty() {
                return chunks;
            }
            let (chunk, after) = rest.split_at(length.min(rest.len()));
            chunks.push(chunk);
            rest = after;
        }
        chunks
    }

    fn frames() -> impl Strategy<Value = OwnedFrame> {
        let line = "[ -~]{0,30}";
        let leaf = prop_oneof![
            any::<i64>().prop_map(OwnedFrame::Integer),
            (-100_i64..1_000_000).prop_map(OwnedFrame::Integer),
            line.prop_map(|text| OwnedFrame::SimpleString(text.into())),
            line.prop_map(OwnedFrame::Error),
            prop::collection::vec(any::<u8>(), 0..60).prop_map(OwnedFrame::BulkString),
            Just(OwnedFrame::BulkString(b"\r\n$3\r\n:1\r\n".to_vec())),
            Just(OwnedFrame::Null),
        ];
        leaf.prop_recursive(6, 60, 6, |inner| prop::collection::vec(inner, 0..6).prop_map(OwnedFrame::Array))
    }

    fn encoded(frames: &[OwnedFrame]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for frame in frames {
            let start = bytes.len();
            bytes.resize(start + frame.encode_len(false), 0);
            encode::encode(&mut bytes[start..], frame, false).unwrap();
        }
        bytes
    }

    /// Generates valid and invalid RESP tokens.
    fn near_resp() -> impl Strategy<Value = Vec<u8>> {
        let token = prop_oneof![
            6 => prop::sample::select(vec![
                "*2\r\n", "*-1\r\n", "*0\r\n", "*1\r\n", ":1\r\n", ":-7\r\n", "$3\r\nabc\r\n", "$-1\r\n", "+OK\r\n", "-ERR x\r\n",
                "$0\r\n\r\n", "$03\r\nabc\r\n", "$-0\r\n\r\n", ":9223372036854775807\r\n", "+a\nb\r\n", ":+5\r\n", "*2\r\n:1\r\n:600000\r\n",
            ]).prop_map(|text| text.as_bytes().to_vec()),
            1 => prop::sample::select(vec![
                "*9999999\r\n", "$70000\r\n", "$3\r\nabcd\r\n", ":\r\n", ":1x\r\n", "$-2\r\n", "*-7\r\n", "\r\n", "\n", "_\r\n", ":-\r\n",
                ":9223372036854775808\r\n", "*1", "$", "$99999999999999999999\r\n", "*1\r\n*1\r\n*1\r\n*1\r\n",
            ]).prop_map(|text| text.as_bytes().to_vec()),
            // ASCII only: the frames of `redis-protocol` cannot hold other error texts.
            1 => prop::collection::vec(0_u8..128, 0..5),
        ];
        prop::collection::vec(token, 0..30).prop_map(|tokens| tokens.concat())
    }

    #[test]
    fn a_reply_is_incomplete_until_its_last_byte() {
        let mut decoder = Decoder::new();
        for byte in b"*2\r\n:1\r\n$3\r\nfoo\r" {
            decoder.push(&[*byte]);
            assert_eq!(decoder.next_reply(), Ok(None));
        }
        decoder.push(b"\n");
        let reply = Reply::Array(vec![Reply::Integer(1), Reply::Bulk(b"foo".to_vec())]);
        assert_eq!(decoder.next_reply(), Ok(Some(reply)));
        assert_eq!(decoder.next_reply(), Ok(None));
    }

    #[test]
    fn an_error_need_not_be_utf8() {
        assert_eq!(decoded([b"-ERR \xff\r\n".as_slice()]).0, [Reply::Error(b"ERR \xff".to_vec())]);
    }

    #[test]
    fn invalid_resp_is_an_error_that_names_the_cause() {
        assert_eq!(the_error(b"HTTP/1.1 400 Bad Request\r\n"), RespError::Type { found: b'H' });
        assert_eq!(the_error(b":twelve\r\n"), RespError::Integer { kind: b':', length: 6 });
        assert_eq!(the_error(b"$-2\r\n"), RespError::Length { kind: b'$', found: -2 });
        assert_eq!(the_error(b"$3\r\nabcdef"), RespError::Terminator { length: 3 });
        assert_eq!(the_error(b"$65537\r\n"), RespError::TooLong { found: 65_537 });
        assert_eq!(the_error(b"*4097\r\n"), RespError::TooMany { found: 4_097 });
        assert_eq!(the_error(b"*9223372036854775807\r\n"), RespError::TooMany { found: 9_223_372_036_854_775_807 });
        assert_eq!(the_error(&b"*1\r\n".repeat(9)), RespError::TooDeep);
        assert_eq!(
            the_error(b":twelve\r\n").to_string(),
            "expected a 64-bit integer after a reply's type, found 6 other bytes"
        );
    }

    #[test]
    fn a_line_that_never_ends_is_refused() {
        let mut decoder = Decoder::new();
        for _ in 0..MAX_REPLY / 1024 {
            decoder.push(&[b'+'; 1024]);
            assert_eq!(decoder.next_reply(), Ok(None));
        }
        decoder.push(b"+");
        assert_eq!(decoder.next_reply(), Err(RespError::TooLong { found: MAX_REPLY as u64 + 1 }));
    }

    #[test]
    fn nested_arrays_share_one_bound_of_elements() {
        let halves = format!("*2\r\n*{0}\r\n{1}*{0}\r\n", MAX_ELEMENTS / 2, ":1\r\n".repeat(MAX_ELEMENTS / 2));
        assert_eq!(the_error(halves.as_bytes()), RespError::TooMany { found: MAX_ELEMENTS as u64 + 2 });
    }

    #[test]
    fn after_an_error_the_rest_of_the_connection_is_dropped() {
        let mut decoder = Decoder::new();
        decoder.push(b"?");
        assert!(decoder.next_reply().is_err());
        decoder.push(b":1\r\n");
        assert!(decoder.next_reply().is_err());
        assert_eq!(decoder.buffered(), 0);
        decoder.clear();
        decoder.push(b":1\r\n");
        assert_eq!(decoder.next_reply(), Ok(Some(Reply::Integer(1))));
    }

    #[test]
    fn a_reply_that_is_cut_anywhere_is_the_same() {
        for bytes in
            ["$15\r\n01234567\r\n:1\r\n+\r\n", "*3\r\n:1\r\n-ERR x\r\n:-2\r\n", "*2\r\n*1\r\n:1\r\n$-1\r\n", "*0\r\n"]
        {
            let whole = decoded([bytes.as_bytes()]);
            assert_eq!((whole.0.len(), whole.1), (1, false));
            for at in 0..bytes.len() {
                let (first, second) = bytes.as_bytes().split_at(at);
                assert_eq!(decoded([first, second]), whole, "{bytes:?} cut at {at}");
            }
        }
    }

    proptest! {
        /// The hot path's reader of script replies decides nothing differently.
        #[test]
        fn the_scanner_and_redis_protocol_agree_with_the_reader_of_script_replies(bytes in near_resp()) {
            for start in 0..bytes.len() {
                let bytes = &bytes[start..];
                if let Some((reply, length)) = script_reply::read(bytes) {
                    prop_assert_eq!(Scanner::default().scan(bytes), Ok(Some(length)));
                    prop_assert_eq!(decode(bytes, length), Ok((reply, length)));
                }
            }
        }

        #[test]
        fn replies_are_those_of_redis_protocol_in_chunks_of_any_size(
            frames in prop::collection::vec(frames(), 0..8),
            cuts in prop::collection::vec(1_usize..40, 1..10),
        ) {
            let bytes = encoded(&frames);
            let expected: Vec<_> = frames.iter().map(of).collect();
            prop_assert_eq!(decoded(cut(&bytes, &cuts)), (expected.clone(), false));
            prop_assert_eq!(decoded([bytes.as_slice()]), (expected, false));
        }

        #[test]
        fn invalid_input_gives_the_same_result_in_chunks_of_any_size(
            bytes in near_resp(), cuts in prop::collection::vec(1_usize..20, 1..10),
        ) {
            prop_assert_eq!(decoded(cut(&bytes, &cuts)), decoded([bytes.as_slice()]));
        }

        #[test]
        fn invalid_input_gives_no_other_replies_than_redis_protocol(bytes in near_resp()) {
            let (mut rest, mut theirs) = (bytes.as_slice(), Vec::new());
            while let Ok(Some((frame, length))) = their_decode(rest) {
                theirs.push(of(&frame));
                rest = &rest[length..];
            }
            let (ours, _) = decoded([bytes.as_slice()]);
            prop_assert!(theirs.starts_with(&ours), "{:?} and {:?}", ours, theirs);
        }

        #[test]
        fn garbage_causes_no_panic_and_bounded_buffering(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..10)) {
            decoded(chunks.iter().map(Vec::as_slice));
        }
    }
}
