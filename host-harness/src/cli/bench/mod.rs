//! `weir bench`: what a request costs with Weir, without it, and with others in its place.
//!
//! Starts everything itself: a Redis, and for each subject a proxy with one worker. All of them run side by side and
//! are measured in interleaved rounds, so that a machine that is slower for a while is slower for all. Costs are CPU
//! time of the servers, from the kernel, per 1,000 requests; on few cores requests per second mostly tell how the
//! load generator's share came out.

mod cpu;
mod delay;
mod envoy;
mod footprint;
mod guest;
pub(super) mod load;
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

use indicatif::{ProgressBar, ProgressStyle};
use thiserror::Error;

use crate::provision::ProvisionError;
use footprint::Footprint;
use machine::Machine;
use plan::Plan;
use spread::Rounds;
use stage::Stage;
use subject::Subject;

/// Options of `weir bench`.
#[derive(Debug, clap::Args)]
pub(super) struct Bench {
    /// Every subject, at 1, 16 and 64 connections, and how the cost grows with workers, connections, keys and the way
    /// to Redis; takes a quarter of an hour
    #[arg(long)]
    full: bool,
    /// What is measured; by default a few of them, with --full all
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAMES")]
    subjects: Vec<Subject>,
    /// Rounds for each subject: 3, with --full 5
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
    /// How long a round measures: 1 s, with --full 2 s
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: Option<u64>,
    /// Connections, one request at a time on each: 16; several numbers are measured one after the other
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=5000), value_name = "N")]
    connections: Vec<u32>,
    /// Where to write a page, all rounds as CSV, and plots
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Why there are no figures.
#[derive(Debug, Error)]
enum BenchError {
    /// Something that it needs is missing or does not start.
    #[error(transparent)]
    Provision(#[from] ProvisionError),
    /// The load generator does not work.
    #[error(transparent)]
    Load(#[from] load::LoadError),
    /// Redis does not say what it was asked.
    #[error("redis: {0}")]
    Redis(#[from] redis::RedisError),
    /// A guest's WAT is wrong.
    #[error("guest module: {0}")]
    Guest(#[from] wat::Error),
    /// A proxy runs, but not where it was expected.
    #[error("{subject}: no listener {:?}", envoy::LISTENER)]
    NoListener {
        /// The subject.
        subject: String,
    },
    /// What was measured is not what was to be measured.
    #[error("{subject}: expected {expected} of every answer, found {found}{failures}{log}")]
    Unexpected {
        /// The subject.
        subject: String,
        /// The status of every answer.
        expected: u16,
        /// How many of which status.
        found: String,
        /// Connections that were lost, a line each.
        failures: String,
        /// The end of the proxy's log, a line each.
        log: String,
    },
    /// A plot cannot be drawn.
    #[error("plot {name}: {why}")]
    Plot {
        /// Its file.
        name: String,
        /// What the plotting library says.
        why: String,
    },
    /// The system refused something basic.
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

/// Measures, prints a table, and writes files where asked to.
///
/// # Errors
/// Where something does not start, or any answer is not the expected one.
pub(super) fn run(bench: &Bench) -> anyhow::Result<ExitCode> {
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
            eprintln!("weir: {} is left out: this filter does not take its configuration", subject.name());
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
    fn an_answer_that_is_not_the_subjects_fails_with_what_was_found_and_what_the_proxy_says() {
        let report = load::Report {
            statuses: [(200, 7), (503, 2)].into(),
            failures: vec!["connection closed instead of an answer".into()],
            ..load::Report::default()
        };
        let why = BenchError::unexpected(Subject::Weir, &report, "first\nthe reason\n").to_string();
        let expected = "weir: expected 200 of every answer, found 7 × 200, 2 × 503\n  connection closed instead of an \
                        answer\n  first\n  the reason";
        assert_eq!(why, expected);
    }

    #[test]
    fn the_small_form_is_over_in_half_a_minute_and_the_full_one_in_half_an_hour() {
        let bench =
            |full| Bench { full, subjects: vec![], rounds: None, seconds: None, connections: vec![], out: None };
        let takes = |plan: &Plan| (plan.measure + plan.warm_up) * u32::try_from(plan.measurements()).unwrap();
        let (small, full) = (bench(false).plan(), bench(true).plan());
        assert!(takes(&small) < Duration::from_secs(25), "{:?}", takes(&small));
        assert!(takes(&full) < Duration::from_secs(20 * 60), "{:?}", takes(&full));
        assert!(full.footprint && !small.footprint);
        let known = Subject::all().into_iter().filter(|subject| subject.is_known_to_the_filter());
        assert_eq!(full.subjects(), known.collect());
    }
}
