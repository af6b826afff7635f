//! Load generator of `weir bench`: a separate process, so that its CPU time does not count as a server's.
//!
//! Closed loop over keep-alive HTTP/1.1 connections: each connection sends a request, reads the complete response, and
//! sends the next. The process has one thread and does not allocate per request. Each connection sends one key
//! (`x-user-id`), or several in turn.
//!
//! The process connects, warms up, prints `ready`, and waits for a line on its standard input; then it measures and
//! prints one [`Report`] as JSON. The caller can therefore read the servers' CPU just before and just after.

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

/// Time limit of a response; after it, the connection counts as failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// Maximum number of failures in a report.
const FAILURES: usize = 5;

/// Plan of a load generator: server, connections, keys and durations.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub(crate) struct Plan {
    /// The server.
    #[arg(long)]
    pub(super) target: SocketAddr,
    /// Number of connections, >= 1.
    #[arg(long)]
    pub(super) connections: u32,
    /// Number of distinct keys, >= 1, spread over the connections.
    #[arg(long)]
    pub(super) keys: u32,
    /// Duration of the warm-up, in milliseconds.
    #[arg(long)]
    pub(super) warm_up_millis: u64,
    /// Duration of the measurement, in milliseconds.
    #[arg(long)]
    pub(super) millis: u64,
}

/// Results of the measured requests.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Report {
    /// Number of responses with any status.
    pub(super) requests: u64,
    /// Time from the first request to the last response, in microseconds.
    pub(super) elapsed_micros: u64,
    /// Median latency, in microseconds.
    pub(super) p50_micros: f64,
    /// 99th percentile of the latency, in microseconds.
    pub(super) p99_micros: f64,
    /// CPU time of the load generator itself, in microseconds.
    pub(super) cpu_micros: u64,
    /// Number of responses by status.
    pub(super) statuses: BTreeMap<u16, u64>,
    /// The first five failures of connections, as text.
    pub(super) failures: Vec<String>,
}

/// Results of a phase, shared by all connections.
struct Tally {
    /// Latencies in nanoseconds.
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

/// Runs the load generator; see the module documentation.
///
/// # Errors
/// If a connection cannot be opened.
pub(crate) fn run(plan: &Plan) -> anyhow::Result<ExitCode> {
    weir_provision::raise_open_files_limit();
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

/// Sends over all connections at once. Afterwards `connections` holds those that did not fail, still open.
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
                    Err(_) => tally.borrow_mut().failed(format!("no response within {} s", PATIENCE.as_secs())),
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
