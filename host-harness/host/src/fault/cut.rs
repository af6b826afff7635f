//! Commands and replies in a stream of bytes, so that faults strike the same ones however the bytes arrive.

use bytes::{Bytes, BytesMut};

use crate::resp::Resp;

/// Longest value that is kept until it is complete; a longer one passes in parts.
const MAX_VALUE: usize = 16 * 1024 * 1024;

/// Bytes of one direction that have arrived.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    arrived: BytesMut,
    /// Whether the bytes are of another protocol: each read then is a unit.
    raw: bool,
}

impl Cutter {
    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.arrived
    }

    /// Takes the next command or reply, if it is complete. In other protocols than RESP, the bytes of a read are one.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        if self.arrived.is_empty() {
            return None;
        }
        self.raw |= self.arrived.len() > MAX_VALUE;
        let length = if self.raw {
            Ok(Some(self.arrived.len()))
        } else {
            Resp::read(&self.arrived).map(|it| it.map(|(_, length)| length))
        };
        match length {
            Ok(length) => Some(self.arrived.split_to(length?).freeze()),
            Err(_) => {
                self.raw = true;
                Some(self.rest())
            }
        }
    }

    /// Takes all bytes.
    pub(super) fn rest(&mut self) -> Bytes {
        self.arrived.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(parts: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut cutter = Cutter::default();
        let mut cuts = Vec::new();
        for part in parts {
            cutter.buffer().extend_from_slice(part);
            cuts.extend(std::iter::from_fn(|| cutter.next()).map(|unit| unit.to_vec()));
        }
        cuts
    }

    #[test]
    fn replies_are_the_same_however_they_arrive() {
        let whole: &[u8] = b"+OK\r\n*2\r\n:1\r\n$1\r\na\r\n-ERR\r\n";
        let units = [&b"+OK\r\n"[..], b"*2\r\n:1\r\n$1\r\na\r\n", b"-ERR\r\n"];
        assert_eq!(cut(&[whole]), units);
        let bytes: Vec<&[u8]> = whole.chunks(1).collect();
        assert_eq!(cut(&bytes), units);
    }

    #[test]
    fn other_protocols_pass_as_they_are_read() {
        assert_eq!(cut(&[b"HTTP/1.1 200 OK\r\n", b"\r\n", b"+x"]), [&b"HTTP/1.1 200 OK\r\n"[..], b"\r\n", b"+x"]);
    }
}
