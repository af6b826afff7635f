//! Command line of `weir`, and what it shares with the tests.
//!
//! | module | contents |
//! |---|---|
//! | `serve` | `weir serve`: serves a bootstrap file on the embedded host |
//! | `fault` | `--fault`: faults between the host and a cluster |
//! | `trace` | `weir trace`: timeline of a request |
//! | `files` | Envoy files, and the plugins, chains, clusters and limiters in them |
//! | `check` | `weir check`: errors and warnings about Envoy files, as far as wasm and Weir are concerned |
//! | `import` | `weir import`: limits of other rate limiters as configurations of the filter |
//! | `render` | `weir render`: manifests and bootstraps from one small file of limits and Redis |
//! | `reader` | reader of a tree that reports every mistake with its place |
//! | `test` | `weir test`: unit tests for limits, in virtual time or on real hosts |
//! | `sim` | `weir sim`: simulates fleets with faults, and checks the guarantees |
//! | [`limits`] | `weir limits`: shows and changes limits at run time |
//! | [`budgets`] | `weir budgets`: shows, gives back and exports what keys have spent |
//! | [`console`] | `weir console`: page about limits, limited clients and overrides |
//! | `bench` | `weir bench`: runs the binary of the package `weir-bench` |
//! | `schema` | `weir schema`: JSON Schema of the configuration |
//! | `package` | `weir package`: OCI layouts, checksums and SBOM of the module |
//! | `shell` | `weir completion` and `weir man` |
//! | [`front_end`] | HTTP front ends of Redis for tests |
//! | [`texts`] | texts in place of files, for tests and fuzzers |
//! | `markup` | text in XML and HTML |
//! | `percent` | percent-encoding of URLs |
//!
//! `weir demo`, `weir provider` ([`provider`]), [`serving`] and [`traffic`] are of the package `weir-demo`.

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod bench;
pub mod budgets;
mod check;
pub mod console;
mod fault;
mod files;
pub mod front_end;
mod import;
pub mod limits;
mod markup;
mod package;
mod percent;
mod reader;
mod render;
mod schema;
mod serve;
mod shell;
mod sim;
mod starting;
mod test;
pub mod texts;
mod trace;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

pub use clap::Command as Definition;
use clap::parser::ValueSource;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use weir_demo::provider::Provider;
use weir_demo::{Demo, interrupt, logging, output};
pub use weir_demo::{provider, serving, traffic};
use weir_host::{documents, printable, spelling};

use output::OutputError;

/// Runs proxy-wasm filters from Envoy YAML, without Envoy.
#[derive(Debug, Parser)]
#[command(name = "weir", version, about)]
struct Arguments {
    /// Lowest level of the log lines on standard error.
    #[arg(long, global = true, default_value = "info", value_name = "LEVEL", value_parser = logging::level)]
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
    /// Translates the limits of ratelimit, Limitador, Kuadrant and Envoy Gateway.
    Import(import::Arguments),
    /// Makes Kubernetes manifests or a bootstrap from one small file of limits and Redis.
    Render(render::Arguments),
    /// Runs unit tests for limits, in virtual time or on real hosts.
    Test(test::Arguments),
    /// Simulates fleets with faults in virtual time, and checks the guarantees.
    Sim(sim::Arguments),
    /// Shows and changes limits at run time, through their Redis.
    Limits(Box<limits::Limits>),
    /// Shows, gives back and exports what keys have spent of limits with a charge.
    Budgets(Box<budgets::Budgets>),
    /// Serves a local page about limits, limited clients and overrides, until interrupted.
    Console(Box<console::Arguments>),
    /// Runs the quickstart with a real Redis, and shows that its limit holds.
    Demo(Demo),
    /// Serves a fake provider of language models, until interrupted: for trying limits without a key.
    Provider(Provider),
    /// Measures the cost of a request with Weir, without it, and with other rate limiters.
    #[command(disable_help_flag = true)]
    Bench(bench::Arguments),
    /// Prints the JSON Schema of the filter's configuration, for editors.
    Schema(schema::Arguments),
    /// Writes what a registry and its users need of the module: OCI layout, checksums, SBOM.
    Package(package::Arguments),
    /// Prints a script that completes the command line in a shell.
    Completion(shell::Completion),
    /// Prints the manual page of weir(1), or writes all manual pages.
    Man(shell::Man),
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

/// Runs `weir` with these arguments, the first of which is the program's name.
#[must_use]
pub fn run_from(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let done = match parse(without_separator(arguments)) {
        Ok((arguments, is_verbose)) => perform(arguments, is_verbose),
        Err(error) => explain(&error),
    };
    match done {
        Ok(code) => code,
        Err(error) if output::is_closed(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::note(output::with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

/// Parses the command line, and says whether it asks for a level of log lines.
fn parse(arguments: impl Iterator<Item = OsString>) -> Result<(Arguments, bool), clap::Error> {
    let matches = command().try_get_matches_from(arguments)?;
    let is_verbose = matches.value_source("log_level") == Some(ValueSource::CommandLine);
    let arguments = Arguments::from_arg_matches(&matches).map_err(|error| error.format(&mut command()))?;
    Ok((arguments, is_verbose))
}

fn perform(arguments: Arguments, is_verbose: bool) -> anyhow::Result<ExitCode> {
    logging::install(arguments.log_level);
    match arguments.command {
        Command::Serve(arguments) => serve::run(&arguments, is_verbose),
        Command::Trace(arguments) => trace::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Import(arguments) => import::run(&arguments),
        Command::Render(arguments) => render::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Sim(arguments) => sim::run(&arguments),
        Command::Limits(arguments) => limits::run(&arguments),
        Command::Budgets(arguments) => budgets::run(&arguments),
        Command::Console(arguments) => console::run(&arguments),
        Command::Demo(demo) => weir_demo::run(demo),
        Command::Provider(provider) => weir_demo::provider::run(&provider).map(|()| ExitCode::SUCCESS),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Schema(arguments) => schema::run(&arguments),
        Command::Package(arguments) => package::run(&arguments),
        Command::Completion(arguments) => shell::complete(&arguments),
        Command::Man(arguments) => shell::man(&arguments),
    }
}

/// Prints a mistake in the arguments on standard error, or the help that they ask for on standard output.
fn explain(error: &clap::Error) -> anyhow::Result<ExitCode> {
    let printed = error.print().and_then(|()| io::stdout().flush());
    if !error.use_stderr() {
        printed.map_err(OutputError::from)?;
    }
    Ok(u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Drops a `--` right after the command: cargo passes `cargo demo -- --keep` on as `weir demo -- --keep`.
fn without_separator(arguments: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    arguments.enumerate().filter(|(place, argument)| *place != 2 || argument != "--").map(|(_, argument)| argument)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Command {
        parse(without_separator(line.split(' ').map(OsString::from))).expect("valid").0.command
    }

    #[test]
    fn a_level_has_the_names_of_both_hosts() {
        let level = |line: &str| {
            let parsed = parse(line.split(' ').map(OsString::from)).map_err(|error| error.to_string());
            parsed.map(|(arguments, is_verbose)| (arguments.log_level, is_verbose))
        };
        assert_eq!(level("weir check a"), Ok((log::LevelFilter::Info, false)));
        for name in ["warn", "warning", "WARN"] {
            assert_eq!(level(&format!("weir --log-level {name} check a")), Ok((log::LevelFilter::Warn, true)));
            assert_eq!(level(&format!("weir check a --log-level {name}")), Ok((log::LevelFilter::Warn, true)));
        }
        assert_eq!(level("weir --log-level critical check a"), Ok((log::LevelFilter::Error, true)));
        let why = level("weir check a --log-level loud").unwrap_err();
        let levels = "expected trace, debug, info, warn (or warning), error (or critical) or off";
        assert!(why.contains(levels), "{why}");
    }

    #[test]
    fn cargos_separator_between_a_command_and_its_options_is_ignored() {
        assert!(matches!(parsed("weir check -- a.yaml"), Command::Check(_)));
        assert_eq!(format!("{:?}", parsed("weir demo -- --keep")), format!("{:?}", parsed("weir demo --keep")));
        assert_eq!(format!("{:?}", parsed("weir bench -- --full")), format!("{:?}", parsed("weir bench --full")));
    }
}
