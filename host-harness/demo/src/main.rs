//! The binary of `cargo demo`, which is `weir demo` without the other commands of `weir`.

use std::process::ExitCode;

use clap::Parser as _;
use weir_demo::{Demo, logging, output};

fn main() -> ExitCode {
    logging::install(log::LevelFilter::Info);
    // Cargo passes `cargo demo -- --keep` on with the separator.
    let arguments = std::env::args_os().enumerate().filter(|(place, argument)| *place != 1 || argument != "--");
    match weir_demo::run(Demo::parse_from(arguments.map(|(_, argument)| argument))) {
        Ok(code) => code,
        Err(error) => {
            output::note(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
