//! RESP2, as far as Weir speaks it: commands go out as arrays of bulk strings, any reply comes in.
//!
//! RESP3's types are refused: Weir never sends `HELLO 3`, so that a peer which uses them is not what it should be.
//! <https://redis.io/docs/latest/develop/reference/protocol-spec/>

use alloc::vec::Vec;

mod command;
mod decoder;
mod error_reply;
mod scanner;
mod shares;

pub use command::{encode_bulk, encode_command, encode_header};
pub use decoder::Decoder;
pub use error_reply::{failure_of, is_noscript};
pub use scanner::{MAX_DEPTH, MAX_ELEMENTS, MAX_REPLY, RespError};
pub use shares::{Integers, Shares};

pub(super) use command::{encode_bulk_of, encode_number};
pub(super) use error_reply::{describe, is_cross_slot, revokes};

/// One whole reply.
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
    /// `*2 …`: replies in order, which may be of different kinds, [`Reply::Error`] among them.
    Array(Vec<Reply>),
    /// `-ERR …`: Redis' words as they came, without the `-`. Not always UTF-8.
    Error(Vec<u8>),
}

impl Reply {
    /// The kind's name, for messages that must not repeat what a peer sent.
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
