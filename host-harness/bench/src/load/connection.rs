//! Keep-alive connection of the load generator.

use std::{cell::RefCell, io, net::SocketAddr, time::Instant};

use thiserror::Error;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    Plan, Tally,
    response::{self, ResponseError},
};

/// Number of digits in a key: fixed, so that each key overwrites the one before in the request.
const DIGITS: usize = 8;

/// Reasons why a connection failed.
#[derive(Debug, Error)]
pub(super) enum ConnectionError {
    /// The connection cannot be opened.
    #[error("connecting to {target}: {source}")]
    Connect {
        /// The server.
        target: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// Reading from or writing to the connection failed.
    #[error("connection lost: {0}")]
    Io(#[from] io::Error),
    /// The server closed the connection before a complete response.
    #[error("connection closed before the response")]
    Closed,
    /// The server's bytes are not an HTTP response with a known length.
    #[error(transparent)]
    Response(#[from] ResponseError),
}

/// An open connection without a request in flight.
pub(super) struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    /// Offset of the key's digits in the request.
    digits: usize,
    keys: Keys,
    answer: Vec<u8>,
}

impl Connection {
    pub(super) async fn open(plan: &Plan, index: u32) -> Result<Self, ConnectionError> {
        let target = plan.target;
        let stream = TcpStream::connect(target).await.map_err(|source| ConnectionError::Connect { target, source })?;
        stream.set_nodelay(true)?;
        let head = format!("GET / HTTP/1.1\r\nhost: {target}\r\nx-user-id: u");
        let digits = head.len();
        let request = format!("{head}{:0DIGITS$}\r\n\r\n", 0).into_bytes();
        Ok(Self { stream, request, digits, keys: Keys::of(plan, index), answer: Vec::with_capacity(4096) })
    }

    /// Sends one request after the other until `until`, and waits for the response to the last.
    pub(super) async fn send_until(&mut self, until: Instant, tally: &RefCell<Tally>) -> Result<(), ConnectionError> {
        let mut started = Instant::now();
        while started < until {
            let key = self.keys.next();
            if let Some(place) = self.request.get_mut(self.digits..self.digits + DIGITS) {
                write_digits(place, key);
            }
            self.stream.write_all(&self.request).await?;
            let status = self.answer().await?;
            let now = Instant::now();
            tally.borrow_mut().answered(status, now - started, now);
            started = now;
        }
        Ok(())
    }

    /// Reads one complete response and returns its status.
    async fn answer(&mut self) -> Result<u16, ConnectionError> {
        self.answer.clear();
        loop {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                return Err(ConnectionError::Closed);
            }
            if let Some(status) = response::status_if_whole(&self.answer)? {
                return Ok(status);
            }
        }
    }
}

/// The keys of one connection, in a cycle: every `step`-th key below `count`.
#[derive(Debug)]
struct Keys {
    next: u32,
    step: u32,
    count: u32,
}

impl Keys {
    /// The keys of the connection `index`. With as many keys as connections, each connection has one key of its own.
    /// With fewer keys, connections share keys. With more keys, each connection has several, which no other connection
    /// has if the number of keys is a multiple of the number of connections.
    fn of(plan: &Plan, index: u32) -> Self {
        let count = plan.keys.max(1);
        Self { next: index % count, step: plan.connections.max(1) % count, count }
    }

    fn next(&mut self) -> u32 {
        let key = self.next;
        self.next = key.wrapping_add(self.step) % self.count;
        key
    }
}

/// Writes a number in decimal, with leading zeros.
fn write_digits(place: &mut [u8], mut number: u32) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(connections: u32, keys: u32, index: u32) -> Vec<u32> {
        let target = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut keys = Keys::of(&Plan { target, connections, keys, warm_up_millis: 0, millis: 0 }, index);
        (0..4).map(|_| keys.next()).collect()
    }

    #[test]
    fn a_connection_sends_one_key_of_its_own() {
        assert_eq!(keys(16, 16, 3), [3, 3, 3, 3]);
        assert_eq!(keys(16, 1, 3), [0, 0, 0, 0]);
    }

    #[test]
    fn with_more_keys_than_connections_a_connection_sends_several_in_turn() {
        assert_eq!(keys(2, 6, 1), [1, 3, 5, 1]);
        assert_eq!(keys(2, 6, 0), [0, 2, 4, 0]);
    }

    #[test]
    fn a_key_is_written_in_place() {
        let mut place = *b"99999999";
        write_digits(&mut place, 1203);
        assert_eq!(&place, b"00001203");
    }
}
