//! The way to Redis, sans-I/O: bytes and events in, effects out, `now` is an argument.
//!
//! - [`resp`] encodes commands and finds replies in whatever chunks they come;
//! - [`Call`] is one command, a [`Script`] most often, encoded once however often it is sent;
//! - [`Session`] is the long-lived, pipelined connection of the `stream` transport;
//! - [`Callouts`] is the `callout` transport: a connection per callout, which carries the calls that came together;
//! - [`framing`] is the gRPC framing between the limiter's stream and the bridge's TCP connection.
//!
//! No call is sent twice unless Redis said that it did not run it (`NOSCRIPT`).

mod call;
mod callouts;
mod failure;
pub mod framing;
mod handshake;
mod host_load;
mod lua;
pub mod resp;
mod secret;
mod session;
mod transport;

pub(crate) use self::lua::{lua, strip};
pub use call::{Call, CallWriter, Script};
pub(crate) use call::{script, sha1};
pub use callouts::{Callout, Callouts};
pub use failure::{Failure, Trouble};
pub use resp::{Integers, Reply, Shares};
pub use secret::{Credentials, Secret};
pub use session::{Session, SessionConfig, SessionEvent};
pub use transport::{Transport, TransportEvent, TransportKind};

/// Whom a call is made for. The reply, or the failure, comes back under the same ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);
