//! Virtual time for limits: workers of the filter, compiled natively, over a virtual proxy and a virtual Redis.
//!
//! A [`Mesh`] has one [`Clock`], one [`Redis`] and any number of workers. Nothing runs by itself: the owner begins
//! requests and moves the clock, and every event in between happens in its order, so that a month passes in a millisecond
//! and two runs are the same.
//!
//! | module | contents |
//! |---|---|
//! | [`Clock`] | time of the proxies and of Redis |
//! | [`Redis`] | commands, scripts and overrides, by the Rust specification of the scripts |
//! | [`resp`] | the bytes between a worker and Redis |
//! | [`front_end`] | the bodies between a worker and an HTTP front end of Redis |
//! | [`Link`] | connections in the hands of the owner, who may lose, delay and cut them |
//! | [`Worker`] | one worker of a proxy: the host functions and the events that follow from them |
//! | [`Mesh`] | several workers on one clock and one Redis |
//!
//! What is left out: the bridge (a stream carries plain RESP). A command that the virtual Redis does not know gets an
//! error reply, and is listed in [`Redis::unknown`]: no test may pass by it.

mod clock;
mod cluster;
mod exchange;
pub mod front_end;
mod link;
mod mesh;
mod redis;
pub mod resp;
mod worker;

pub use clock::Clock;
pub use exchange::{Answer, End, Exchange, Headers, Properties, Upstream};
pub use link::{Arrival, Link};
pub use mesh::{Mesh, RequestId};
pub use redis::Redis;
pub use worker::{Start, Worker};
