//! Command line of `weir`, and what it shares with the tests.
//!
//! | module | contents |
//! |---|---|
//! | `serve` | `weir serve`: serves a bootstrap file on the embedded host |
//! | `fault` | `--fault`: faults between the host and a cluster |
//! | `trace` | `weir trace`: timeline of a request |
//! | `files` | Envoy files, and the plugins, chains, clusters and limiters in them |
//! | `check` | `weir check`: errors and warnings about Envoy files, as far as wasm and Weir are concerned |
//! | `test` | `weir test`: unit tests for limits, in virtual time or on real hosts |
//! | `sim` | `weir sim`: simulates fleets with faults, and checks the guarantees |
//! | [`limits`] | `weir limits`: shows and changes limits at run time |
//! | `bench` | `weir bench`: runs the binary of the package `weir-bench` |
//! | [`front_end`] | HTTP front ends of Redis for tests |
//! | [`texts`] | texts in place of files, for tests and fuzzers |
//! | `markup` | text in XML and HTML |
//! | `spelling` | the known name that a misspelt name resembles |
//!
//! `weir demo`, [`serving`] and [`traffic`] are of the package `weir-demo`.

mod bench;
mod check;
mod fault;
mod files;
pub mod front_end;
pub mod limits;
mod markup;
mod serve;
mod sim;
mod spelling;
mod test;
pub mod texts;
mod trace;

use std::ffi::OsString;
use std::process::ExitCode;

pub use clap::Command as Definition;
use clap::{CommandFactory as _, Parser, Subcommand};
use weir_demo::{Demo, logging};
pub use weir_demo::{serving, traffic};
use weir_host::documents;

/// Runs proxy-wasm filters from Envoy YAML, without Envoy.
#[derive(Debug, Parser)]
#[command(name = "weir", version, about)]
struct Arguments {
    /// Lowest level of the log lines on standard error.
    #[arg(long, global = true, default_value = "info", value_name = "LEVEL")]
    log_level: log::LevelFilter,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves an Envoy bootstrap file until interrupted.
    Serve(serve::Arguments),
    /// Sends a request through an Envoy bootstrap file, and shows what its filters and Redis do with it.
    Trace(trace::Arguments),
    /// Checks Envoy files, as far as wasm and Weir are concerned.
    Check(check::Arguments),
    /// Runs unit tests for limits, in virtual time or on real hosts.
    Test(test::Arguments),
    /// Simulates fleets with faults in virtual time, and checks the guarantees.
    Sim(sim::Arguments),
    /// Shows and changes limits at run time, through their Redis.
    Limits(Box<limits::Limits>),
    /// Runs the quickstart with a real Redis, and shows that its limit holds.
    Demo(Demo),
    /// Measures the cost of a request with Weir, without it, and with other rate limiters.
    #[command(disable_help_flag = true)]
    Bench(bench::Arguments),
}

/// Runs `weir` with the process's arguments.
#[must_use]
pub fn run() -> ExitCode {
    run_from(std::env::args_os())
}

/// Returns the definition of the command line: commands, options and their defaults.
#[must_use]
pub fn command() -> Definition {
    Arguments::command()
}

/// Runs `weir` with these arguments, the first of which is the program's name. Ends the process if they are invalid.
#[must_use]
pub fn run_from(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments = Arguments::parse_from(without_separator(arguments));
    logging::install(arguments.log_level);
    let done = match arguments.command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Trace(arguments) => trace::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Sim(arguments) => sim::run(&arguments),
        Command::Limits(arguments) => limits::run(&arguments),
        Command::Demo(demo) => weir_demo::run(demo),
        Command::Bench(arguments) => bench::run(&arguments),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Drops a `--` right after the command: cargo passes `cargo demo -- --keep` on as `weir demo -- --keep`.
fn without_separator(arguments: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    arguments.enumerate().filter(|(place, argument)| *place != 2 || argument != "--").map(|(_, argument)| argument)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Command {
        Arguments::parse_from(without_separator(line.split(' ').map(OsString::from))).command
    }

    #[test]
    fn cargos_separator_between_a_command_and_its_options_is_ignored() {
        assert!(matches!(parsed("weir check -- a.yaml"), Command::Check(_)));
        assert_eq!(format!("{:?}", parsed("weir demo -- --keep")), format!("{:?}", parsed("weir demo --keep")));
        assert_eq!(format!("{:?}", parsed("weir bench -- --full")), format!("{:?}", parsed("weir bench --full")));
    }
}
