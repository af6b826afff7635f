//! The load generator of `weir bench`: a process of its own, so that its CPU is never counted as a server's.
//!
//! A closed loop over HTTP/1.1 connections that stay open: each sends a request, reads the whole answer, and sends the
//! next. One thread, no allocation per request, and a key (`x-user-id`) for each connection, or more of them in turn.
//!
//! The process connects, warms up, says `ready`, and waits for a line on its standard input; then it measures, and
//! prints one [`Report`] as JSON. So its caller can look at the servers just before and just after.

mod connection;
mod driver;
mod response;

pub(super) use driver::{LoadError, Loader};

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io::{BufRead as _, Write as _},
    net::SocketAddr,
    process::ExitCode,
    rc::Rc,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::task::LocalSet;

use connection::Connection;

/// How long an answer may take before its connection counts as failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// Distinct failures that are reported.
const FAILURES: usize = 5;

/// What to send, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub(in crate::cli) struct Plan {
    /// The server.
    #[arg(long)]
    pub(super) target: SocketAddr,
    /// Connections, >= 1.
    #[arg(long)]
    pub(super) connections: u32,
    /// Distinct keys, >= 1, spread over the connections.
    #[arg(long)]
    pub(super) keys: u32,
    /// How long to send without measuring.
    #[arg(long)]
    pub(super) warm_up_millis: u64,
    /// How long to measure.
    #[arg(long)]
    pub(super) millis: u64,
}

/// What became of the requests that were measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Report {
    /// Answers, of whatever status.
    pub(super) requests: u64,
    /// From the first request to the last answer.
    pub(super) elapsed_micros: u64,
    /// Half of the answers took at most this long.
    pub(super) p50_micros: f64,
    /// 99 of 100 answers took at most this long.
    pub(super) p99_micros: f64,
    /// CPU of the load generator itself.
    pub(super) cpu_micros: u64,
    /// Answers by status.
    pub(super) statuses: BTreeMap<u16, u64>,
    /// Connections that were lost and answers that were not HTTP; the first few, as text.
    pub(super) failures: Vec<String>,
}

/// What all connections of a phase add to.
struct Tally {
    /// Nanoseconds.
    latencies: Histogram<u64>,
    statuses: BTreeMap<u16, u64>,
    failures: Vec<String>,
    last: Instant,
}

impl Tally {
    fn new(now: Instant) -> anyhow::Result<Self> {
        let latencies = Histogram::new_with_bounds(1, 120_000_000_000, 3)?;
        Ok(Self { latencies, statuses: BTreeMap::new(), failures: Vec::new(), last: now })
    }

    fn answered(&mut self, status: u16, took: Duration, now: Instant) {
        self.latencies.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        *self.statuses.entry(status).or_default() += 1;
        self.last = now;
    }

    fn failed(&mut self, why: String) {
        if self.failures.len() < FAILURES {
            self.failures.push(why);
        }
    }
}

/// Runs as the load generator; see the module.
///
/// # Errors
/// Where it cannot connect.
pub(in crate::cli) fn run(plan: &Plan) -> anyhow::Result<ExitCode> {
    crate::provision::raise_open_files_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut connections = runtime.block_on(connect(plan))?;
    let warm_up = Duration::from_millis(plan.warm_up_millis);
    runtime.block_on(send(&mut connections, warm_up))?;
    println!("ready");
    let mut go = String::new();
    std::io::stdin().lock().read_line(&mut go)?;
    let before = own_cpu();
    let report = runtime.block_on(send(&mut connections, Duration::from_millis(plan.millis)))?;
    let report = Report { cpu_micros: own_cpu().saturating_sub(before), ..report };
    writeln!(std::io::stdout().lock(), "{}", serde_json::to_string(&report)?)?;
    Ok(ExitCode::SUCCESS)
}

async fn connect(plan: &Plan) -> anyhow::Result<Vec<Connection>> {
    let mut connections = Vec::new();
    for index in 0..plan.connections.max(1) {
        connections.push(Connection::open(plan, index).await?);
    }
    Ok(connections)
}

/// Sends over all connections at once; they are open as before afterwards, but for those that failed.
async fn send(connections: &mut Vec<Connection>, duration: Duration) -> anyhow::Result<Report> {
    let started = Instant::now();
    let tally = Rc::new(RefCell::new(Tally::new(started)?));
    let until = started + duration;
    let tasks = LocalSet::new();
    let running: Vec<_> = connections
        .drain(..)
        .map(|mut connection| {
            let tally = tally.clone();
            tasks.spawn_local(async move {
                let limit = duration + PATIENCE;
                match tokio::time::timeout(limit, connection.send_until(until, &tally)).await {
                    Ok(Ok(())) => return Some(connection),
                    Ok(Err(why)) => tally.borrow_mut().failed(why.to_string()),
                    Err(_) => tally.borrow_mut().failed(format!("no answer within {} s", PATIENCE.as_secs())),
                }
                None
            })
        })
        .collect();
    tasks.await;
    for task in running {
        connections.extend(task.await?);
    }
    let tally = tally.borrow();
    let micros = |quantile| tally.latencies.value_at_quantile(quantile) as f64 / 1000.0;
    Ok(Report {
        requests: tally.latencies.len(),
        elapsed_micros: u64::try_from((tally.last - started).as_micros()).unwrap_or(u64::MAX),
        p50_micros: micros(0.5),
        p99_micros: micros(0.99),
        cpu_micros: 0,
        statuses: tally.statuses.clone(),
        failures: tally.failures.clone(),
    })
}

/// User and system time of this process, in microseconds.
fn own_cpu() -> u64 {
    let spent = super::cpu::of(std::process::id()).unwrap_or_default();
    u64::try_from(spent.as_micros()).unwrap_or(u64::MAX)
}
