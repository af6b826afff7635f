//! Reader of the replies of the limits' scripts: finds the end of a reply and its integers in one pass.
//!
//! A script replies with integers packed in a bulk string, or, where one of several requests failed, with an array of
//! integers and errors. All other replies are left to the [`Scanner`](super::scanner::Scanner) and the crate
//! `redis-protocol`, one after the other. So are replies that are incomplete, invalid or too long: one place decides
//! which error they are. For a reply of two packed integers, the scanner and the crate take 1,424 instructions more.
//! The reader adds 1.6 KB to the wasm.

use alloc::vec::Vec;

use super::{MAX_ELEMENTS, MAX_REPLY, Reply};

/// Reads the complete reply of a script at the start of `bytes`, and its length. `None` for all other input, valid or
/// not.
pub(super) fn read(bytes: &[u8]) -> Option<(Reply, usize)> {
    match bytes {
        [b'$', rest @ ..] => bulk(rest, bytes.len()),
        // Within a longer slice, a reply could be too long.
        [b'*', ..] => array(bytes.get(..MAX_REPLY).unwrap_or(bytes)),
        _ => None,
    }
}

#[inline(always)]
fn bulk(rest: &[u8], available: usize) -> Option<(Reply, usize)> {
    let (length, rest) = length(rest)?;
    let (bulk, rest) = rest.split_at_checked(length)?;
    let [b'\r', b'\n', rest @ ..] = rest else { return None };
    Some((Reply::Bulk(bulk.to_vec()), available.wrapping_sub(rest.len())))
}

#[cold]
fn array(bytes: &[u8]) -> Option<(Reply, usize)> {
    let [b'*', rest @ ..] = bytes else { return None };
    let (length, mut rest) = length(rest)?;
    if length > MAX_ELEMENTS {
        return None;
    }
    let mut elements = Vec::new();
    while elements.len() < length {
        let (kind, after) = rest.split_first()?;
        let (line, after) = line(after)?;
        elements.push(match kind {
            b':' => Reply::Integer(core::str::from_utf8(line).ok()?.parse().ok()?),
            b'-' => Reply::Error(line.to_vec()),
            _ => return None,
        });
        rest = after;
    }
    Some((Reply::Array(elements), bytes.len().wrapping_sub(rest.len())))
}

/// Reads a length of at most 9,999 and its CR LF.
#[inline(always)]
fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let [first @ b'0'..=b'9', rest @ ..] = bytes else { return None };
    let (mut length, mut rest) = (usize::from(first & 0x0f), rest);
    while let [digit @ b'0'..=b'9', after @ ..] = rest {
        length = length.wrapping_mul(10).wrapping_add(usize::from(digit & 0x0f));
        rest = after;
    }
    let digits = bytes.len().wrapping_sub(rest.len());
    match rest {
        [b'\r', b'\n', rest @ ..] if digits <= 4 => Some((length, rest)),
        _ => None,
    }
}

/// Reads a line and its CR LF. A line feed alone does not end it.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    let (line, rest) = bytes.split_at_checked(end)?;
    Some((line, rest.strip_prefix(b"\r\n")?))
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use proptest::prelude::*;
    use redis_protocol::resp2::{
        encode,
        types::{OwnedFrame, Resp2Frame},
    };

    use super::*;

    fn encoded(frame: &OwnedFrame) -> Vec<u8> {
        let mut bytes = vec![0; frame.encode_len(false)];
        encode::encode(&mut bytes, frame, false).unwrap();
        bytes
    }

    fn integer_or_error() -> impl Strategy<Value = (OwnedFrame, Reply)> {
        prop_oneof![
            any::<i64>().prop_map(|integer| (OwnedFrame::Integer(integer), Reply::Integer(integer))),
            (-9..100_i64).prop_map(|integer| (OwnedFrame::Integer(integer), Reply::Integer(integer))),
            "[ -~]{0,30}".prop_map(|text| (OwnedFrame::Error(text.clone()), Reply::Error(text.into_bytes()))),
        ]
    }

    #[test]
    fn longer_replies_than_of_any_script_are_left_to_the_scanner() {
        let bulk = |length: usize| [format!("${length}\r\n").as_bytes(), &vec![b'x'; length], b"\r\n"].concat();
        assert_eq!(read(&bulk(9_999)).map(|(_, length)| length), Some(10_008));
        assert_eq!(read(&bulk(10_000)), None);
        let array = |length: usize| [format!("*{length}\r\n"), ":1\r\n".repeat(length)].concat();
        assert!(read(array(MAX_ELEMENTS).as_bytes()).is_some());
        assert_eq!(read(array(MAX_ELEMENTS + 1).as_bytes()), None);
        let error = |length: usize| [b"*1\r\n-", vec![b'x'; length - "*1\r\n-\r\n".len()].as_slice(), b"\r\n"].concat();
        assert!(read(&error(MAX_REPLY)).is_some());
        assert_eq!(read(&error(MAX_REPLY + 1)), None);
    }

    #[test]
    fn replies_of_another_form_are_left_to_the_scanner() {
        for other in [
            "",
            "$",
            "*",
            "$-1\r\n",
            "*-1\r\n",
            ":1\r\n",
            "+OK\r\n",
            "-ERR x\r\n",
            "$1\r\nab\r\n",
            "$1\nab\r\n",
            "$+1\r\na\r\n",
            "$\r\n\r\n",
            "$--1\r\n",
            "*1\r\n*0\r\n",
            "*1\r\n$1\r\na\r\n",
            "*1\r\n:\r\n",
            "*1\r\n:1x\r\n",
            "*2\r\n:1\r\n+OK\r\n",
            "*1\r\n:9223372036854775808\r\n",
            "*1\r\n-ERR\n",
            "*18446744073709551617\r\n:1\r\n",
        ] {
            assert_eq!(read(other.as_bytes()), None, "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn an_array_of_integers_and_errors_is_read_as_by_redis_protocol(
            elements in prop::collection::vec(integer_or_error(), 0..20), following: Vec<u8>,
        ) {
            let (frames, replies): (Vec<_>, Vec<_>) = elements.into_iter().unzip();
            let bytes = encoded(&OwnedFrame::Array(frames));
            let read = read(&[bytes.as_slice(), &following].concat());
            prop_assert_eq!(read, Some((Reply::Array(replies), bytes.len())));
        }

        #[test]
        fn a_bulk_string_is_read_as_by_redis_protocol(bulk: Vec<u8>, following: Vec<u8>) {
            let bytes = encoded(&OwnedFrame::BulkString(bulk.clone()));
            let read = read(&[bytes.as_slice(), &following].concat());
            prop_assert_eq!(read, Some((Reply::Bulk(bulk), bytes.len())));
        }

        #[test]
        fn a_reply_that_is_cut_anywhere_is_incomplete(elements in prop::collection::vec(integer_or_error(), 0..8), bulk: Vec<u8>) {
            let frames = elements.into_iter().map(|(frame, _)| frame).collect();
            for bytes in [encoded(&OwnedFrame::Array(frames)), encoded(&OwnedFrame::BulkString(bulk))] {
                for end in 0..bytes.len() {
                    prop_assert_eq!(read(&bytes[..end]), None);
                }
            }
        }

        #[test]
        fn arbitrary_bytes_cause_no_panic(head in prop::sample::select(vec!["", "$", "*", "$3\r\n", "*2\r\n", "*1\r\n:"]), bytes: Vec<u8>) {
            let bytes = [head.as_bytes(), &bytes].concat();
            let length = read(&bytes).map(|(_, length)| length);
            prop_assert!(length.is_none_or(|length| length <= bytes.len()));
        }
    }
}
