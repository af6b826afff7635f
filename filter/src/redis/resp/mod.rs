//! RESP2: encodes commands as arrays of bulk strings, and decodes any reply.
//!
//! Types of RESP3 are an error: Weir never sends `HELLO 3`, so a peer that uses these types is not a Redis.
//! <https://redis.io/docs/latest/develop/reference/protocol-spec/>

use alloc::vec::Vec;

mod command;
mod decoder;
mod error_reply;
mod scanner;
mod script_reply;
mod shares;

pub use command::{encode_bulk, encode_command, encode_header};
pub use decoder::Decoder;
pub use error_reply::{failure_of, is_noscript};
pub use scanner::{MAX_DEPTH, MAX_ELEMENTS, MAX_REPLY, RespError};
pub use shares::{Integers, Shares};

pub(super) use command::{encode_bulk_of, encode_number};
pub(super) use error_reply::{describe, is_cross_slot, revokes};

/// A complete reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// `:1`
    Integer(i64),
    /// `$3 foo`: any bytes.
    Bulk(Vec<u8>),
    /// `+OK`: a status, without line ends.
    Simple(Vec<u8>),
    /// `$-1` or `*-1`: no value.
    Nil,
    /// `*2 …`: replies in order, possibly of different kinds, including [`Reply::Error`].
    Array(Vec<Reply>),
    /// `-ERR …`: the error's text without the `-`. Not always UTF-8.
    Error(Vec<u8>),
}

impl Reply {
    /// Returns the name of the reply's kind, for texts that must not repeat bytes of the peer.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Integer(_) => "an integer",
            Self::Bulk(_) => "a bulk string",
            Self::Simple(_) => "a simple string",
            Self::Nil => "nil",
            Self::Array(_) => "an array",
            Self::Error(_) => "an error",
        }
    }
}
