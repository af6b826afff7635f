//! `weir import`: results and findings for each source, and equality with the original's semantics.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a failure fails the test")]

mod equality;
mod golden;
mod mistakes;
mod model;
mod ratelimit_model;
mod support;
mod table;
mod table_policies;
mod traffic;
