//! Redis client, sans-I/O: bytes and events in, effects out, `now` is an argument.
//!
//! - [`resp`] encodes commands and decodes replies from chunks of any size;
//! - [`Call`] is one command, mostly a [`Script`], encoded once even if it is sent twice;
//! - [`Session`] is the long-lived, pipelined connection of the `stream` transport;
//! - [`Callouts`] are HTTP callouts that carry one or more calls: to Redis, one connection each, or to a [`FrontEnd`];
//! - [`framing`] is the gRPC framing between the limiter's stream and the bridge's TCP connection.
//!
//! A call is sent a second time only after an error reply which proves that Redis did not run it: `NOSCRIPT`, or
//! `CROSSSLOT` to a command of several calls.

mod call;
mod callouts;
mod cluster;
mod failure;
pub mod framing;
mod front_end;
mod handshake;
mod host_load;
mod lua;
pub mod resp;
mod round_trips;
mod secret;
mod session;
mod transport;

pub(crate) use self::lua::{lua, strip};
pub use call::{Call, CallWriter, Script};
pub(crate) use call::{script, sha1};
pub use callouts::{Callout, Callouts};
pub use cluster::{Topology, hash_slot};
pub use failure::{Failure, Refusal, Trouble};
pub use front_end::FrontEnd;
#[cfg(not(target_arch = "wasm32"))]
pub use front_end::inner_source;
pub(crate) use front_end::trouble_of;
pub(crate) use host_load::Extension;
pub use resp::{Integers, Reply, Shares};
use round_trips::RoundTrips;
pub use secret::{Credentials, Secret};
pub use session::{Session, SessionConfig, SessionEvent};
pub use transport::{Transport, TransportEvent, TransportKind};

/// Identifies a call: its reply or failure is reported with the same ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);
