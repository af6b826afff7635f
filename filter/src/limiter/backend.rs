//! The way to Redis that the configuration chose, behind one face.

use std::collections::VecDeque;

use crate::config::{RedisConfig, Transport};
use crate::redis::{Call, Callouts, Failure, Next, Reply, Session, SessionConfig, SessionEffect, Ticket};
use crate::units::Micros;

/// One stream for all calls, or a callout for each.
#[derive(Debug)]
pub enum Backend {
    /// A pipelined session over one stream.
    Stream(Session),
    /// A callout, and so a connection, for each call.
    Callout {
        /// The calls in flight.
        callouts: Callouts,
        /// What has not been polled yet.
        effects: VecDeque<Effect>,
    },
}

/// What the way to Redis asks of its host, or has to tell.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Open the stream.
    Open,
    /// Send on the stream.
    Send(Vec<u8>),
    /// Close the stream.
    Close,
    /// Post a body in a callout.
    Callout {
        /// For whom.
        ticket: Ticket,
        /// RESP.
        body: Vec<u8>,
        /// ≥ 1.
        timeout_millis: u64,
    },
    /// A call has come to its end.
    Settled {
        /// Whose it was.
        ticket: Ticket,
        /// Redis' reply, or why there is none.
        result: Result<Reply, Failure>,
    },
    /// Something an operator should know.
    Trouble {
        /// The cause.
        failure: Failure,
        /// What was seen; free of secrets.
        detail: String,
    },
}
