//! The command line, `weir`.

mod check;
mod demo;
pub mod limits;
mod logging;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Runs proxy-wasm filters from Envoy YAML, without Envoy.
#[derive(Debug, Parser)]
#[command(name = "weir", version, about)]
struct Arguments {
    /// What is logged, to standard error.
    #[arg(long, global = true, default_value = "info", value_name = "LEVEL")]
    log_level: log::LevelFilter,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves an Envoy bootstrap file until interrupted.
    Serve(serve::Arguments),
    /// Says what is wrong with an Envoy bootstrap file, and with the limiter configurations in it.
    Check(check::Arguments),
    /// Shows and changes at run time what limits do, through their Redis.
    Limits(limits::Limits),
    /// Limits requests with a real Redis, and shows that the limits hold.
    Demo(demo::Demo),
}

/// Runs `weir` with the process's arguments.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    logging::install(arguments.log_level);
    let done = match arguments.command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Limits(arguments) => limits::run(&arguments),
        Command::Demo(demo) => demo::run(demo),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
