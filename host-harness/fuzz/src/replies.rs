//! Target `replies`: the decoder of Redis' replies.
//!
//! Input: two bytes for the lengths of chunks, then the bytes of a connection.

use weir_filter::redis::resp::{Decoder, MAX_REPLY, RespError, failure_of, is_noscript};
use weir_filter::redis::{Integers, Reply, Shares};
use weir_virtual::resp::encode;

use crate::choices::{Choices, cut};

/// Runs the target.
///
/// # Panics
/// If chunks change the replies, if a reply is not the same after encoding and decoding, or if the decoder buffers more
/// than it was given.
pub fn run(input: &[u8]) {
    let mut choices = Choices::of(input);
    let lengths = [choices.below(64) + 1, choices.below(8) + 1];
    let bytes = choices.rest();
    let whole = decoded(&[bytes]);
    for lengths in [&lengths[..], &[1]] {
        let pieces = decoded(&cut(bytes, lengths));
        // How much of a reply that is too long has arrived when it is refused depends on the chunks.
        let is_same = if bytes.len() > MAX_REPLY { pieces.1.is_some() == whole.1.is_some() } else { pieces == whole };
        assert!(is_same, "whole: {whole:?}, in chunks of {lengths:?}: {pieces:?}");
    }
    whole.0.iter().for_each(check);
}

/// Decodes chunks: the replies, and the error that ends them.
fn decoded(chunks: &[&[u8]]) -> (Vec<Reply>, Option<RespError>) {
    let mut decoder = Decoder::new();
    let mut replies = Vec::new();
    let mut left: usize = 0;
    for chunk in chunks {
        decoder.push(chunk);
        left += chunk.len();
        loop {
            match decoder.next_reply() {
                Ok(Some(reply)) => replies.push(reply),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(decoder.next_reply(), Err(error), "an error stays");
                    assert!(error.to_string().len() < 200);
                    return (replies, Some(error));
                }
            }
        }
        assert!(decoder.buffered() <= left.min(MAX_REPLY), "{} bytes buffered", decoder.buffered());
        left = decoder.buffered();
    }
    (replies, None)
}

fn check(reply: &Reply) {
    let mut encoded = Vec::new();
    encode(reply, &mut encoded);
    let again = decoded(&[&encoded]);
    assert_eq!(again, (vec![reply.clone()], None), "decoded from {:?}", encoded.escape_ascii().to_string());
    if let Reply::Error(error) = reply {
        let _ = (failure_of(error), is_noscript(error));
    }
    if let Some(integers) = Integers::of(reply) {
        let numbers = (0..integers.len()).filter_map(|at| integers.get(at)).count();
        assert!(numbers <= integers.len() && integers.get(integers.len()).is_none());
    }
    check_shares(reply);
}

/// Takes a reply apart, as those of joined calls are: nothing is lost, nothing is there twice.
fn check_shares(reply: &Reply) {
    for elements in [1, 3] {
        let Some(mut shares) = Shares::of(reply.clone()) else { return };
        let (mut size, mut takes) = (0, 0);
        while !shares.is_empty() {
            size += match shares.take(elements) {
                Reply::Array(own) if own.len() <= elements => own.len(),
                Reply::Bulk(bytes) => bytes.len(),
                _ => 1,
            };
            takes += 1;
            assert!(takes <= MAX_REPLY, "shares without end");
        }
        match reply {
            Reply::Bulk(bytes) => assert_eq!(size, bytes.len()),
            // An array in the place of a share counts by its own elements.
            Reply::Array(own) => assert!(own.iter().any(|own| matches!(own, Reply::Array(_))) || size == own.len()),
            _ => {}
        }
    }
}
