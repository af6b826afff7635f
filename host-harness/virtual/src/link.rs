//! Connections between a worker and Redis that the worker's owner carries: it may lose, delay and cut them.

use weir_filter::units::Micros;

/// Connections of one worker to Redis. A worker calls it during its callbacks; what comes back, the owner gives to
/// [`Worker::arrives`](crate::Worker::arrives) later.
pub trait Link {
    /// Opens a connection: the stream with this token. Returns whether the proxy accepts it, as it does even where the
    /// connection will be refused.
    fn open(&self, stream: u32) -> bool;

    /// Sends bytes on a connection: commands, in any pieces.
    fn send(&self, stream: u32, bytes: &[u8]);

    /// Closes a connection, or resets it. The worker wants nothing more of it.
    fn close(&self, stream: u32);

    /// Sends commands on a connection of their own. Returns whether the proxy makes the callout. It ends the callout
    /// itself after `timeout`.
    fn call_out(&self, callout: u32, bytes: &[u8], timeout: Micros) -> bool;
}

/// Event of a [`Link`] at a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrival {
    /// Bytes of Redis on a stream. The bridge passes on at most 2,048 bytes at once.
    Bytes {
        /// The stream's token.
        stream: u32,
        /// The bytes: replies, in any pieces.
        bytes: Vec<u8>,
    },
    /// The peer or the network has closed a stream.
    Closed {
        /// The stream's token.
        stream: u32,
    },
    /// The end of a callout.
    Response {
        /// The callout's token.
        callout: u32,
        /// HTTP status and body. `None`: the connection was lost.
        response: Option<(u16, Vec<u8>)>,
    },
}
