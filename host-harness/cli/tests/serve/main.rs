//! `weir serve`: what both hosts answer, and how the command line runs them.

#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot do its work fails")]

mod command;
mod connections;
mod hosts;
mod outcomes;
mod parity;
mod starts;
mod support;
mod tags;
