//! The way to Redis: RESP, the session over one long-lived stream, callouts of one command each, and the
//! framing between a gRPC stream and a TCP connection. Sans-I/O: bytes and events in, effects out.

mod failure;

pub use failure::Failure;

/// Whom a call is made for. The reply, or the failure, comes back under the same ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u32);
