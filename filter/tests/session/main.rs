//! A session's behaviour, as the requests behind it see it: conversations on the wire, and any interleaving of
//! events against a small Redis that answers in order.
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
