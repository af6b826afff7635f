//! Finds or fetches the components of a run: the wasm target, the filter, a Redis, an Envoy; for `weir bench` also
//! Limitador and nginx.
//!
//! Everything is private to the checkout: tools are kept under `target/tools`, data under `target/`. The one change
//! outside is to the Rust toolchain, which may gain the `wasm32-wasip1` target. Downloads go through rustup, pip and
//! apt, never through an HTTP client of our own. The error for a missing component names a command that installs it.
//!
//! All functions block, and announce slow steps on stderr. Several processes may provision at once.
//!
//! | module | contents |
//! |---|---|
//! | [`redis`] | a Redis: the one that `REDIS_URL` names, a process, or a container (feature `containers`) |
//! | [`envoy`] | an Envoy: its executable and its processes |
//! | [`filter_wasm`], [`wasm_target`] | the filter's module and the target that it is built for |
//! | [`virtual_clock`] | a library that sets or shifts the clock of a process by numbers in a file |
//! | [`webdis`] | a Webdis, which is an HTTP front end of a Redis |
//! | [`limitador`], [`nginx`] | the other rate limiters of the bench |
//! | [`registry`] | a registry of OCI images |
//! | [`mdbook`] | mdBook, for the site of the documentation |
//! | [`docker_compose`] | Docker Compose, for tests of a release |
//! | [`helm`], [`python`], [`npm`] | Helm, and packages of Python and npm, for tests of the deployment manifests |
//! | [`chromium`] | Chromium without a window, for tests of pages |
//! | [`prometheus`] | a Prometheus and promtool, for tests of rules and dashboards |
//! | [`checkout`] | the checkout's root, cargo's target folder, scratch folders |
//! | [`port`] | free ports |
//! | [`client`] | a small HTTP client, for Envoy's admin interface, the demo and the tests |
//! | `abandoned` | servers and folders that a signal would leave behind |
//! | `process`, `command` | servers that end with this process; programs that run to their end |
//! | `tools`, `wheel`, `debian` | `target/tools`, and how a tool is taken out of a Python wheel or Debian's packages |

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod abandoned;
pub mod checkout;
pub mod chromium;
pub mod client;
mod command;
mod debian;
pub mod docker_compose;
pub mod envoy;
pub mod filter_wasm;
pub mod helm;
pub mod limitador;
pub mod mdbook;
pub mod nginx;
pub mod npm;
pub mod port;
mod process;
pub mod prometheus;
pub mod python;
pub mod redis;
pub mod registry;
mod tools;
pub mod virtual_clock;
pub mod wasm_target;
pub mod webdis;
mod wheel;

pub use abandoned::abandon;
pub use process::{Reaper, raise_open_files_limit};

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use thiserror::Error;

/// Reasons why a component of a run is missing or did not start.
#[derive(Debug, Error)]
pub enum ProvisionError {
    /// The sources of this program are gone, so nothing can be built or kept beside them.
    #[error("no checkout at {} nor around the working directory: expected a folder with host-harness/provision/Cargo.toml", looked.display())]
    NoCheckout {
        /// The checkout's path when this program was compiled.
        looked: PathBuf,
    },
    /// An environment variable names a file that does not exist.
    #[error("{variable}={}: no such file", path.display())]
    Override {
        /// The environment variable.
        variable: &'static str,
        /// The variable's value.
        path: PathBuf,
    },
    /// An environment variable does not hold a usable URL.
    #[error("{variable}: expected {expected}: {source}")]
    Url {
        /// The environment variable.
        variable: &'static str,
        /// The expected form of the value.
        expected: &'static str,
        /// The reason why the value cannot be used.
        source: ::redis::RedisError,
    },
    /// A component was neither found nor fetched.
    #[error("no {what}: {why}; try: {try_command}")]
    Missing {
        /// The component.
        what: &'static str,
        /// Each way that was tried, with its error.
        why: String,
        /// A command that installs the component.
        try_command: String,
    },
    /// A command could not be run, failed, or took too long.
    #[error("`{command}` {how}{}", indented(output))]
    Command {
        /// The command line.
        command: String,
        /// The failure: "ended with exit status: 1", "could not be run: …" or "took longer than … s".
        how: String,
        /// The command's output; the error shows its last 30 lines.
        output: String,
    },
    /// A server did not start.
    #[error("{what} did not start: {why}{}", indented(log))]
    Start {
        /// The server's name and address.
        what: String,
        /// The condition that was waited for, or the status with which the server ended.
        why: String,
        /// The lines of the server's log that show the cause.
        log: String,
    },
    /// A file or folder under `target/` could not be used.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
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

/// Writes a line about a slow step to standard error. A standard error that cannot be written is ignored.
fn announce(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// The last 30 lines, indented: programs usually print the cause of a failure last.
fn indented(text: &str) -> String {
    const SHOWN: usize = 30;
    let lines = || text.trim_end().lines();
    lines().skip(lines().count().saturating_sub(SHOWN)).map(|line| format!("\n    {line}")).collect()
}

/// The provisioned component, or `None` after printing `skipped: <why>` to stderr if it is missing. For tests of real
/// components.
///
/// # Panics
/// If the component exists and does not work; with `CI=true`, also if it is missing.
#[expect(clippy::panic, reason = "failing the calling test is its purpose")]
pub fn or_skip<T>(provisioned: Result<T, ProvisionError>) -> Option<T> {
    let must_be_there = std::env::var("CI").is_ok_and(|ci| ci == "true");
    match provisioned {
        Ok(it) => Some(it),
        Err(why @ ProvisionError::Missing { .. }) if !must_be_there => {
            announce(format_args!("skipped: {why}"));
            None
        }
        Err(why) => panic!("{why}"),
    }
}
