//! RESP values as they cross the wire: commands to Redis and its replies.

use bytes::Bytes;

/// Deepest nesting of arrays that is read.
const MAX_DEPTH: usize = 16;

/// RESP value, of RESP2 or the aggregates of RESP3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resp {
    /// Simple string, such as `+OK`, or another value of one line that is no number and no error.
    Simple(Bytes),
    /// Error, such as `-NOSCRIPT …`.
    Error(Bytes),
    /// Integer.
    Integer(i64),
    /// Bulk string.
    Bulk(Bytes),
    /// Null bulk string or array.
    Null,
    /// Array, set, push message, or map with keys and values in turn.
    Array(Vec<Resp>),
}

/// Error for bytes that are not RESP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not RESP: expected a type byte, a number and CR LF")]
pub struct NotResp;

impl Resp {
    /// Reads the value at the start of `bytes`, and returns it with its length in bytes; `None` if it is incomplete.
    ///
    /// # Errors
    /// [`NotResp`], if the bytes cannot be the start of a value.
    pub fn read(bytes: &[u8]) -> Result<Option<(Self, usize)>, NotResp> {
        let mut rest = bytes;
        let value = read(&mut rest, 0)?;
        Ok(value.map(|value| (value, bytes.len() - rest.len())))
    }
}

fn read(rest: &mut &[u8], depth: usize) -> Result<Option<Resp>, NotResp> {
    let Some(kind) = rest.first().copied() else { return Ok(None) };
    if !b"+-:$*_#,(!=%~>".contains(&kind) || depth > MAX_DEPTH {
        return Err(NotResp);
    }
    let Some(line) = line(rest)? else { return Ok(None) };
    Ok(Some(match kind {
        b'-' => Resp::Error(Bytes::copy_from_slice(line)),
        b':' => Resp::Integer(number(line)?),
        b'$' | b'!' | b'=' => match usize::try_from(number(line)?) {
            Ok(length) => {
                let Some(text) = rest.get(..length.saturating_add(2)) else { return Ok(None) };
                let text = text.strip_suffix(b"\r\n").ok_or(NotResp)?;
                *rest = rest.get(length.saturating_add(2)..).unwrap_or_default();
                Resp::Bulk(Bytes::copy_from_slice(text))
            }
            Err(_) => Resp::Null,
        },
        b'*' | b'~' | b'>' | b'%' => match usize::try_from(number(line)?) {
            Ok(count) => {
                let count = if kind == b'%' { count.saturating_mul(2) } else { count };
                let mut items = Vec::new();
                for _ in 0..count {
                    let Some(item) = read(rest, depth + 1)? else { return Ok(None) };
                    items.push(item);
                }
                Resp::Array(items)
            }
            Err(_) => Resp::Null,
        },
        b'_' => Resp::Null,
        _ => Resp::Simple(Bytes::copy_from_slice(line)),
    }))
}

/// Takes a line without its type byte and CR LF; `None` if it is incomplete.
fn line<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, NotResp> {
    let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
    let line = rest.get(1..end).ok_or(NotResp)?;
    *rest = rest.get(end + 2..).unwrap_or_default();
    Ok(Some(line))
}

fn number(line: &[u8]) -> Result<i64, NotResp> {
    std::str::from_utf8(line).ok().and_then(|text| text.parse().ok()).ok_or(NotResp)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &'static str) -> Resp {
        Resp::Bulk(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn values_are_read_with_their_length() {
        let command = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n+rest";
        assert_eq!(Resp::read(command), Ok(Some((Resp::Array(vec![bulk("GET"), bulk("k")]), 20))));
        assert_eq!(Resp::read(b":-7\r\n"), Ok(Some((Resp::Integer(-7), 5))));
        assert_eq!(Resp::read(b"$-1\r\n"), Ok(Some((Resp::Null, 5))));
        assert_eq!(Resp::read(b"%1\r\n+a\r\n:1\r\n").unwrap().unwrap().1, 12);
        assert_eq!(Resp::read(b"-ERR no\r\n"), Ok(Some((Resp::Error(Bytes::from_static(b"ERR no")), 9))));
    }

    #[test]
    fn the_start_of_a_value_is_incomplete() {
        let whole = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
        for end in 0..whole.len() {
            assert_eq!(Resp::read(&whole[..end]), Ok(None), "{end}");
        }
    }

    #[test]
    fn other_bytes_are_not_resp() {
        let deep = b"*1\r\n".repeat(40);
        for bytes in [&b"HTTP/1.1 200 OK\r\n"[..], b"\x00", b"$x\r\n", b"$1\r\nabc", b"*1\r\nx\r\n", &deep] {
            assert_eq!(Resp::read(bytes), Err(NotResp), "{bytes:?}");
        }
    }
}
