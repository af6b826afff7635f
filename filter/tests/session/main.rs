//! Tests of a session: conversations on the wire, and random interleavings of events against a small Redis that replies
//! in order.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod conversation;
mod conversations;
mod interleavings;
mod wire;
