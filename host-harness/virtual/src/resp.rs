//! RESP, as far as a worker speaks it: commands in, replies out.

use weir_filter::redis::Reply;

/// Bytes of one connection that are not a whole command yet.
#[derive(Debug, Default)]
pub struct Commands {
    buffered: Vec<u8>,
}

impl Commands {
    /// Adds bytes of the connection.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffered.extend_from_slice(bytes);
    }

    /// Takes the next whole command, its words.
    ///
    /// # Errors
    /// Where the bytes are no command: the connection is of no use any more.
    #[expect(clippy::should_implement_trait, reason = "more bytes may follow: it is no iterator")]
    pub fn next(&mut self) -> Option<Result<Vec<Vec<u8>>, Garbage>> {
        match command(&self.buffered) {
            Ok(None) => None,
            Ok(Some((parts, size))) => {
                self.buffered.drain(..size);
                Some(Ok(parts))
            }
            Err(garbage) => Some(Err(garbage)),
        }
    }
}

/// Bytes that are no command.
#[derive(Debug, PartialEq, Eq)]
pub struct Garbage;

type Command = (Vec<Vec<u8>>, usize);

/// Parses a command, an array of bulk strings; `None` if it is not whole yet.
fn command(bytes: &[u8]) -> Result<Option<Command>, Garbage> {
    let Some((count, mut at)) = header(bytes, b'*', 0)? else { return Ok(None) };
    let mut parts = Vec::new();
    for _ in 0..count {
        let Some((length, start)) = header(bytes, b'$', at)? else { return Ok(None) };
        let Some(part) = bytes.get(start..start.saturating_add(length)) else { return Ok(None) };
        at = start.saturating_add(length).saturating_add(2);
        if bytes.len() < at {
            return Ok(None);
        }
        parts.push(part.to_vec());
    }
    Ok(Some((parts, at)))
}

/// Parses `*3\r\n` at an offset. Returns the number, and the offset behind it.
fn header(bytes: &[u8], kind: u8, at: usize) -> Result<Option<(usize, usize)>, Garbage> {
    let Some((first, rest)) = bytes.get(at..).and_then(<[u8]>::split_first) else { return Ok(None) };
    if *first != kind {
        return Err(Garbage);
    }
    let Some(end) = rest.windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
    let number = rest.get(..end).and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|n| n.parse().ok());
    Ok(Some((number.ok_or(Garbage)?, at.saturating_add(end).saturating_add(3))))
}

/// Appends a reply.
pub fn encode(reply: &Reply, out: &mut Vec<u8>) {
    match reply {
        Reply::Simple(text) => line(b'+', text, out),
        Reply::Error(text) => line(b'-', text, out),
        Reply::Integer(number) => line(b':', number.to_string().as_bytes(), out),
        Reply::Bulk(bytes) => {
            line(b'$', bytes.len().to_string().as_bytes(), out);
            out.extend_from_slice(bytes);
            out.extend_from_slice(b"\r\n");
        }
        Reply::Array(elements) => {
            line(b'*', elements.len().to_string().as_bytes(), out);
            elements.iter().for_each(|element| encode(element, out));
        }
        Reply::Nil => out.extend_from_slice(b"$-1\r\n"),
    }
}

fn line(kind: u8, text: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_may_come_in_any_pieces() {
        let wire = b"*2\r\n$4\r\nZREM\r\n$3\r\na\r\n\r\n*1\r\n$4\r\nPING\r\n";
        let mut commands = Commands::default();
        let mut found = Vec::new();
        for byte in wire {
            commands.push(&[*byte]);
            found.extend(std::iter::from_fn(|| commands.next()));
        }
        assert_eq!(found, [Ok(vec![b"ZREM".to_vec(), b"a\r\n".to_vec()]), Ok(vec![b"PING".to_vec()])]);
        commands.push(b"PING\r\n");
        assert_eq!(commands.next(), Some(Err(Garbage)));
    }

    #[test]
    fn replies_are_encoded_as_redis_does() {
        let mut out = Vec::new();
        let elements =
            vec![Reply::Integer(-5), Reply::Bulk(b"a\r\n".to_vec()), Reply::Nil, Reply::Error(b"ERR x".to_vec())];
        encode(&Reply::Array(elements), &mut out);
        assert_eq!(out, b"*4\r\n:-5\r\n$3\r\na\r\n\r\n$-1\r\n-ERR x\r\n");
    }
}
