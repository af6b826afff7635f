//! `weir serve FILE`: serves a bootstrap until interrupted, on the embedded host or on a real Envoy.

mod envoy;
mod ports;
mod start;
mod start_log;
mod violation;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use weir_demo::interrupt::Interrupt;
use weir_demo::serving::{HostKind, compiled_modules};
use weir_filter::units::Micros;
use weir_host::bootstrap::{Listener, Problem};
use weir_host::fault::Target;
use weir_host::{Bootstrap, BootstrapError, GuestLimits, HostOptions};

use crate::check;
use crate::fault::{ClusterFault, inject_all};
use crate::output;
use crate::printable;

/// Exit code after an interrupt before the host serves, as of a shell: 128 and the number of SIGINT.
const INTERRUPTED: u8 = 130;
/// Largest number of workers of the embedded host.
const MAX_WORKERS: usize = 1024;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// An Envoy bootstrap file, such as envoy/quickstart.yaml.
    file: PathBuf,
    /// Host that serves the file; `envoy` is found or fetched, and takes every file.
    #[arg(long, value_enum, default_value_t = HostKind::Embedded, value_name = "HOST")]
    host: HostKind,
    /// Number of worker threads, from 1 to 1024.
    #[arg(long, default_value_t = 1, value_name = "N")]
    workers: usize,
    /// Time limit of one callback of a module, rounded up to 50 ms; a callback that exceeds it fails its VM.
    #[arg(long, default_value = "10s", value_name = "DURATION", value_parser = duration)]
    callback_limit: Duration,
    /// Memory limit of one VM, and of what its host keeps for it: bytes, or a number with KiB, MiB or GiB.
    #[arg(long, default_value = "1GiB", value_name = "SIZE", value_parser = size)]
    memory_limit: usize,
    /// Fault between the host and a cluster, such as `redis: delay=20ms p=0.1`; repeatable.
    #[arg(long, value_name = "FAULT", value_parser = ClusterFault::parse)]
    fault: Vec<ClusterFault>,
    /// Seed of the choices of `--fault`: the same seed repeats them for the same commands and connections.
    #[arg(long, default_value_t = 1, value_name = "N", requires = "fault")]
    seed: u64,
}

/// Serves a file. `is_verbose`: the command line asks for a level of log lines.
pub(super) fn run(arguments: &Arguments, is_verbose: bool) -> anyhow::Result<ExitCode> {
    let workers = arguments.workers;
    anyhow::ensure!((1..=MAX_WORKERS).contains(&workers), "expected 1 to {MAX_WORKERS} workers, found {workers}");
    match arguments.host {
        HostKind::Embedded => embedded(arguments),
        HostKind::Envoy => envoy::run(arguments, is_verbose),
    }
}

fn embedded(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    // The text of the error contains its cause.
    let mut bootstrap = Bootstrap::load(&arguments.file)
        .map_err(|error| anyhow::Error::msg(format!("{error}{}", way_on(&error, arguments))))?;
    warn_of_left_out(&bootstrap);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let faults =
        runtime.block_on(inject_all(&mut Target::Bootstrap(&mut bootstrap), &arguments.fault, arguments.seed))?;
    let limits = GuestLimits { callback: arguments.callback_limit, memory: arguments.memory_limit };
    let compiled_modules = compiled_modules();
    let options = HostOptions { workers: arguments.workers, limits, compiled_modules, ..HostOptions::default() };
    // Before the addresses are printed: who reads them may interrupt at once.
    let mut interrupt = runtime.block_on(async { Interrupt::new() }).context("cannot wait for an interrupt")?;
    let schemes: Vec<&str> = bootstrap.listeners.iter().map(Listener::scheme).collect();
    let Some(running) = start::unless_interrupted(&runtime, &mut interrupt, bootstrap, options)? else {
        return Ok(ExitCode::from(INTERRUPTED));
    };
    for ((name, address), scheme) in running.listeners().iter().zip(schemes) {
        output::print(format_args!("listener `{}` on {scheme}://{address}\n", printable::line(name)))?;
    }
    if let Some(address) = running.admin() {
        output::print(format_args!("admin on http://{address}\n"))?;
    }
    runtime.block_on(interrupt.wait());
    let stats = running.stats();
    running.shutdown();
    faults.summary(Some(&stats)).iter().try_for_each(|line| output::print(format_args!("{line}\n")))?;
    Ok(ExitCode::SUCCESS)
}

/// The line after the problems of a file that a real Envoy may run.
fn way_on(error: &BootstrapError, arguments: &Arguments) -> String {
    match error {
        BootstrapError::Refused { problems, .. } if problems.iter().all(|problem| problem.is_of_envoy) => {
            let contributed: Vec<&str> = problems.iter().filter_map(contributed).collect();
            let which = match contributed.as_slice() {
                [] => "A real Envoy does".to_owned(),
                names => format!(
                    "Official builds of Envoy do not either: they lack {}. A build that has it does, with its path in \
                     WEIR_ENVOY",
                    names.join(", ")
                ),
            };
            let file = arguments.file.display();
            format!("\nThe embedded host does not run this file. {which}: weir serve --host envoy {file}")
        }
        _ => String::new(),
    }
}

/// The message of a problem that official builds of Envoy do not have, such as those of its `contrib` folder.
fn contributed(problem: &Problem) -> Option<&str> {
    let is_type = problem.path.ends_with(".@type") || problem.path.ends_with(".type_url");
    let name = problem.reason.split('`').nth(1).filter(|_| is_type)?;
    (name.starts_with("envoy.") && !check::is_official(name)).then_some(name)
}

/// Warns once of each field that is left out, with its first place.
fn warn_of_left_out(bootstrap: &Bootstrap) {
    let mut warned: Vec<&str> = Vec::new();
    for Problem { position, path, reason, .. } in &bootstrap.left_out {
        if !warned.contains(&reason.as_str()) {
            warned.push(reason);
            let (origin, line, column) = (&bootstrap.origin, position.line, position.column);
            match path.as_str() {
                "" => log::warn!(target: "config", "{origin}:{line}:{column}: {reason} is left out, as Envoy does"),
                _ => log::warn!(target: "config", "{origin}:{line}:{column}: `{reason}` is left out ({path})"),
            }
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    match Micros::parse(text) {
        Ok(Micros(span)) if span > 0 => Ok(Duration::from_micros(span)),
        _ => Err("expected a duration > 0s such as `10s` or `200ms`".to_owned()),
    }
}

/// Parses a number of bytes: `65536`, `64KiB`, `16MiB` or `1GiB`.
fn size(text: &str) -> Result<usize, String> {
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    let unit = units.into_iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, bytes)));
    let (number, bytes) = unit.unwrap_or((text, 1));
    let parsed = number.parse::<usize>().ok().and_then(|number| number.checked_mul(bytes));
    parsed.filter(|size| *size > 0).ok_or_else(|| "expected a size > 0 such as `64MiB` or `1GiB`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_have_units() {
        let sizes = ["65536", "64KiB", "16MiB", "1GiB"].map(|text| size(text).ok());
        assert_eq!(sizes, [Some(65_536), Some(65_536), Some(16 << 20), Some(1 << 30)]);
        let durations = ["10s", "0.05s", "200ms"].map(|text| duration(text).ok());
        assert_eq!(durations, [10_000, 50, 200].map(|millis| Some(Duration::from_millis(millis))));
        for wrong in ["", "0", "-1", "1.5GiB", "1GB", "99999999999999999999", "17179869184GiB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert!(duration("0s").is_err() && duration("soon").is_err());
    }
}
