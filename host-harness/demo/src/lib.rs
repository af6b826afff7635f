//! The demo, and what the command line and the tests share with it.
//!
//! The package is apart from the command line so that a first `cargo demo` compiles nothing else: neither the filter as
//! native code nor the simulator.
//!
//! | module | contents |
//! |---|---|
//! | `quickstart` | `weir demo`: the quickstart with a real Redis, and a table of what its limit admitted |
//! | [`provider`] | `weir provider`: fake provider of language models |
//! | [`upstream`] | upstream whose responses a function gives |
//! | [`serving`] | a scenario on a running host: the embedded host or Envoy |
//! | [`traffic`] | users with a pace of their own, and a report of their requests |
//! | [`interrupt`] | SIGINT and SIGTERM |
//! | [`logging`] | log lines on standard error |
//! | [`output`] | texts on standard output, and notes on standard error |

#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod interrupt;
pub mod logging;
pub mod output;
pub mod provider;
mod quickstart;
pub mod serving;
pub mod traffic;
pub mod upstream;

pub use quickstart::{Demo, run};
