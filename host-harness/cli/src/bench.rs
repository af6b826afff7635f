//! `weir bench`: runs the binary of the package `weir-bench`, which cargo builds first.
//!
//! The bench is a package of its own so that nobody who runs a filter builds its load clients and plots.

use std::{ffi::OsString, os::unix::process::CommandExt as _, process::ExitCode};

use anyhow::Context as _;
use weir_provision::checkout;

/// Arguments of `weir bench`, passed on as they are.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Options of the bench; `weir bench --help` shows them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    options: Vec<OsString>,
}

/// Replaces this process with `cargo run --package weir-bench`, so that its exit code and signals are the bench's own.
///
/// # Errors
/// If there is no checkout or no cargo.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let manifest = checkout::root()?.join("Cargo.toml");
    let mut cargo = checkout::cargo();
    cargo.args(["run", "--package", "weir-bench", "--manifest-path"]).arg(manifest).arg("--").args(&arguments.options);
    Err(cargo.exec()).context("cargo could not be run")
}
