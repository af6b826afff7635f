//! `weir bench`: cost of a request with Weir, without it, and with other rate limiters.
//!
//! The command starts a Redis and, for each subject, a proxy with one worker. All servers run side by side. The rounds
//! of the subjects are interleaved, so that a slow phase of the machine affects all of them. The cost of a request is
//! the CPU time of the servers per 1,000 requests, as the kernel counts it. On a machine with few cores, requests per
//! second depend mostly on the load generator's share of the CPU.
//!
//! | module | contents |
//! |---|---|
//! | `subject` | the proxies and filters that are compared |
//! | `plan` | the rounds of a run: subjects, connections, workers, keys, delays of Redis |
//! | `stage` | the servers of all subjects; `envoy`, `nginx`, `guest` are their configurations and modules |
//! | `delay` | a proxy that delays Redis |
//! | `round` | one measurement; `cpu`, `redis_stats` and `footprint` are what it reads |
//! | `load` | the load generator: saturating connections in a separate process |
//! | `spread`, `machine` | medians and spreads of the rounds; the machine that they were measured on |
//! | `output` | table, CSV, plots and page |

mod cpu;
mod delay;
mod envoy;
mod footprint;
mod guest;
mod load;
mod machine;
mod nginx;
mod output;
mod plan;
mod redis_stats;
mod round;
mod spread;
mod stage;
mod subject;

use std::{io, path::PathBuf, process::ExitCode, time::Duration};

use clap::{CommandFactory, Parser};
use indicatif::{ProgressBar, ProgressStyle};
use thiserror::Error;
use weir_provision::ProvisionError;

use footprint::Footprint;
use machine::Machine;
use plan::Plan;
use spread::Rounds;
use stage::Stage;
use subject::Subject;

/// Measures the cost of a request with Weir, without it, and with other rate limiters.
#[derive(Debug, Parser)]
#[command(name = "weir bench", bin_name = "weir bench", version, about, disable_help_subcommand = true)]
struct Bench {
    #[command(subcommand)]
    part: Option<Part>,
    /// Measure every subject at 1, 16 and 64 connections; sweep workers, connections, keys and Redis latency; measure
    /// memory and start-up time; takes twenty minutes
    #[arg(long)]
    full: bool,
    /// Subjects to measure; the default is a few of them, with --full all
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAMES")]
    subjects: Vec<Subject>,
    /// Rounds per subject; the default is 3, with --full 5
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
    /// Duration of a round in seconds; the default is 1, with --full 2
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: Option<u64>,
    /// Connections, each with one request at a time; several numbers are measured in turn; the default is 16
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=5000), value_name = "N")]
    connections: Vec<u32>,
    /// Folder for a page with the results, all rounds as CSV, and plots
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Parts of a run that are processes of their own.
#[derive(Debug, clap::Subcommand)]
enum Part {
    /// Sends the requests.
    #[command(hide = true)]
    Load(load::Plan),
}

/// Reasons why a run has no results.
#[derive(Debug, Error)]
enum BenchError {
    /// A component is missing or does not start.
    #[error(transparent)]
    Provision(#[from] ProvisionError),
    /// The load generator failed.
    #[error(transparent)]
    Load(#[from] load::LoadError),
    /// A Redis command of the bench itself failed.
    #[error("redis: {0}")]
    Redis(#[from] redis::RedisError),
    /// The WAT of a guest module is invalid.
    #[error("guest module: {0}")]
    Guest(#[from] wat::Error),
    /// A proxy runs without the expected listener.
    #[error("{subject}: no listener {:?}", envoy::LISTENER)]
    NoListener {
        /// The subject.
        subject: String,
    },
    /// A response had another status than the subject's, or a connection failed.
    #[error("{subject}: expected status {expected} in every response, found {found}{failures}{log}")]
    Unexpected {
        /// The subject.
        subject: String,
        /// The subject's status.
        expected: u16,
        /// The number of responses by status.
        found: String,
        /// The failures of connections, one per line.
        failures: String,
        /// The last 10 lines of the proxy's log.
        log: String,
    },
    /// A plot cannot be drawn.
    #[error("plot {name}: {why}")]
    Plot {
        /// The plot's file.
        name: String,
        /// The plotting library's error.
        why: String,
    },
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl BenchError {
    fn unexpected(subject: Subject, report: &load::Report, log: &str) -> Self {
        const LOG_LINES: usize = 10;
        let counts: Vec<String> = report.statuses.iter().map(|(status, count)| format!("{count} × {status}")).collect();
        let last = log.lines().count().saturating_sub(LOG_LINES);
        let indented = |line: &str| format!("\n  {line}");
        Self::Unexpected {
            subject: subject.name(),
            expected: subject.status(),
            found: if counts.is_empty() { "none".into() } else { counts.join(", ") },
            failures: report.failures.iter().map(|line| indented(line)).collect(),
            log: log.lines().skip(last).map(indented).collect(),
        }
    }
}

/// Returns the CPU time that all threads of a process have used; `None` if there is no process with this id.
#[must_use]
pub fn cpu_time(process: u32) -> Option<Duration> {
    cpu::of(process)
}

/// Returns the module of a filter that does nothing, as wasm bytes.
///
/// # Errors
/// If its WAT is invalid; a test rules this out.
pub fn no_op_module() -> Result<Vec<u8>, wat::Error> {
    guest::module(subject::Guest::NoOp)
}

/// Returns the module of a filter that fetches each chunk of a response and does nothing with it, as wasm bytes.
///
/// # Errors
/// If its WAT is invalid; a test rules this out.
pub fn fetching_module() -> Result<Vec<u8>, wat::Error> {
    guest::module(subject::Guest::FetchBodies)
}

/// Returns the definition of the command line, with all options and their defaults.
#[must_use]
pub fn command() -> clap::Command {
    Bench::command()
}

/// Runs `weir bench` with the process's arguments.
#[must_use]
pub fn run() -> ExitCode {
    let bench = Bench::parse();
    let done = match &bench.part {
        Some(Part::Load(plan)) => load::run(plan),
        None => run_bench(&bench),
    };
    done.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::FAILURE
    })
}

/// Measures, prints a table, and writes files if `--out` is given.
///
/// # Errors
/// If a server does not start, or a response does not have the expected status.
fn run_bench(bench: &Bench) -> anyhow::Result<ExitCode> {
    let mut plan = bench.plan();
    let mut stage = Stage::set()?;
    if bench.subjects.is_empty() {
        for (subject, why) in stage.not_to_be_had(&plan.subjects())? {
            eprintln!("weir: {} is left out: {why}", subject.name());
            plan.leave_out(subject);
        }
    }
    let rounds = measure(&plan, &mut stage)?;
    let machine = Machine::here(&mut stage)?;
    let footprint = if plan.footprint { footprint::measure(&mut stage)? } else { Footprint::default() };
    println!("{}", output::table::render(&rounds));
    if let Some(dir) = &bench.out {
        output::write(dir, &output::Results { rounds: &rounds, machine: &machine, footprint: &footprint })?;
        println!("written to {}", dir.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(plan: &Plan, stage: &mut Stage) -> Result<Rounds, BenchError> {
    let bar = ProgressBar::new(plan.measurements());
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed_precise} (eta {eta}) {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    let mut rounds = Rounds::default();
    for group in &plan.groups {
        for point in &group.points {
            bar.set_message(format!("starting {}", point.subject.name()));
            stage.standing(point.subject, point.setting)?;
        }
        for number in 1..=group.rounds {
            for point in &group.points {
                bar.set_message(format!("{}, {} connections", point.subject.name(), point.setting.connections));
                rounds.0.push(round::measure(stage, plan, group.sweep, *point, number)?);
                bar.inc(1);
            }
        }
        if group.sweep != plan::Sweep::Subjects {
            stage.clear()?;
        }
    }
    bar.finish_and_clear();
    Ok(rounds)
}

impl Bench {
    fn plan(&self) -> Plan {
        let chosen = if self.subjects.is_empty() {
            if self.full { Subject::all() } else { Subject::SMALL.to_vec() }
        } else {
            self.subjects.clone()
        };
        let (known, unknown): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|it| it.is_known_to_the_filter());
        for subject in unknown {
            eprintln!("weir: {} is left out: this filter does not accept its configuration", subject.name());
        }
        let connections = match self.connections.as_slice() {
            [] if self.full => &[1, 16, 64],
            [] => [16].as_slice(),
            some => some,
        };
        let rounds = self.rounds.unwrap_or(if self.full { 5 } else { 3 });
        let seconds = self.seconds.unwrap_or(if self.full { 2 } else { 1 });
        let plan = Plan::of(&known, connections, rounds, Duration::from_secs(seconds));
        if self.full { plan.with_sweeps(rounds) } else { plan }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unexpected_status_fails_with_the_statuses_found_and_the_proxys_log() {
        let report = load::Report {
            statuses: [(200, 7), (503, 2)].into(),
            failures: vec!["connection closed before the response".into()],
            ..load::Report::default()
        };
        let why = BenchError::unexpected(Subject::Weir, &report, "first\nthe reason\n").to_string();
        let expected = "weir: expected status 200 in every response, found 7 × 200, 2 × 503\n  connection closed \
                        before the response\n  first\n  the reason";
        assert_eq!(why, expected);
    }

    #[test]
    fn the_default_run_takes_half_a_minute_and_the_full_run_half_an_hour() {
        let bench = |full| Bench {
            part: None,
            full,
            subjects: vec![],
            rounds: None,
            seconds: None,
            connections: vec![],
            out: None,
        };
        let takes = |plan: &Plan| (plan.measure + plan.warm_up) * u32::try_from(plan.measurements()).unwrap();
        let (small, full) = (bench(false).plan(), bench(true).plan());
        assert!(takes(&small) < Duration::from_secs(25), "{:?}", takes(&small));
        assert!(takes(&full) < Duration::from_secs(20 * 60), "{:?}", takes(&full));
        assert!(full.footprint && !small.footprint);
        let known = Subject::all().into_iter().filter(|subject| subject.is_known_to_the_filter());
        assert_eq!(full.subjects(), known.collect());
    }
}
