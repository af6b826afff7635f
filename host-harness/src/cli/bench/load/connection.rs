//! One keep-alive connection of the load generator.

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

/// Digits of a key, so that the next one is written over the last in place.
const DIGITS: usize = 8;

/// What became of a connection.
#[derive(Debug, Error)]
pub(super) enum ConnectionError {
    /// It cannot be made.
    #[error("connecting to {target}: {source}")]
    Connect {
        /// The server.
        target: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// It was lost.
    #[error("connection lost: {0}")]
    Io(#[from] io::Error),
    /// The server closed it in front of an answer.
    #[error("connection closed instead of an answer")]
    Closed,
    /// What came is not an HTTP response that ends in a known place.
    #[error(transparent)]
    Response(#[from] ResponseError),
}

/// An open connection, between two requests.
pub(super) struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    /// Where in the request the key's digits are.
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

    /// Sends one request after the other until this moment, and waits for the last one's answer.
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

    /// Reads one whole answer; its status.
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

/// The keys of one connection, over and over: every `step`-th, below `count`.
#[derive(Debug)]
struct Keys {
    next: u32,
    step: u32,
    count: u32,
}

impl Keys {
    /// With as many keys as connections, each connection has one of its own; with fewer, some share one; with more,
    /// each has several, which no other has where their numbers divide.
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

/// Decimal, with leading zeros.
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
    fn a_connection_keeps_to_a_key_of_its_own() {
        assert_eq!(keys(16, 16, 3), [3, 3, 3, 3]);
        assert_eq!(keys(16, 1, 3), [0, 0, 0, 0]);
    }

    #[test]
    fn with_more_keys_than_connections_it_has_several_in_turn() {
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
