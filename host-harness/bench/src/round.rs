//! Round of a point: results of the load generator, and CPU time of the servers meanwhile.

use std::time::Duration;

use super::{
    BenchError, cpu,
    load::{self, Loader},
    plan::{Plan, Point, Sweep},
    redis_stats::Commands,
    stage::{Role, Stage},
};

/// The figures of one round.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Round {
    pub(super) sweep: Sweep,
    pub(super) point: Point,
    /// The round's number, from 1.
    pub(super) number: u32,
    pub(super) requests: u64,
    pub(super) elapsed: Duration,
    pub(super) p50_micros: f64,
    pub(super) p99_micros: f64,
    /// CPU time of the proxy during the round. The next three fields are the same for other processes.
    pub(super) proxy: Duration,
    pub(super) redis: Duration,
    pub(super) service: Duration,
    pub(super) loader: Duration,
    /// Commands that Redis ran during the round.
    pub(super) commands: Commands,
    /// Resident memory of the proxy at the end of the round, in bytes.
    pub(super) resident: u64,
}

/// A kind of figure that a round has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Figure {
    RequestsPerSecond,
    /// Median latency, in milliseconds.
    P50,
    /// 99th percentile of the latency, in milliseconds.
    P99,
    /// CPU time of the proxy, in milliseconds per 1,000 requests (microseconds per request).
    ProxyCpu,
    /// CPU time of proxy, Redis and rate limit service together, in the same unit.
    ServersCpu,
    RedisCpu,
    LoaderCpu,
    ScriptsPerRequest,
    CommandsPerRequest,
    /// Resident memory of the proxy, in MiB.
    ProxyMemory,
}

impl Figure {
    pub(super) const ALL: [Self; 10] = [
        Self::RequestsPerSecond,
        Self::P50,
        Self::P99,
        Self::ProxyCpu,
        Self::ServersCpu,
        Self::RedisCpu,
        Self::LoaderCpu,
        Self::ScriptsPerRequest,
        Self::CommandsPerRequest,
        Self::ProxyMemory,
    ];

    /// The figure's name in files.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::RequestsPerSecond => "requests_per_second",
            Self::P50 => "p50_ms",
            Self::P99 => "p99_ms",
            Self::ProxyCpu => "proxy_cpu_ms_per_1k",
            Self::ServersCpu => "servers_cpu_ms_per_1k",
            Self::RedisCpu => "redis_cpu_ms_per_1k",
            Self::LoaderCpu => "loader_cpu_ms_per_1k",
            Self::ScriptsPerRequest => "redis_scripts_per_request",
            Self::CommandsPerRequest => "redis_commands_per_request",
            Self::ProxyMemory => "proxy_rss_mib",
        }
    }
}

impl Round {
    pub(super) fn figure(&self, figure: Figure) -> f64 {
        let requests = self.requests.max(1) as f64;
        let cpu = |spent: Duration| spent.as_secs_f64() * 1e6 / requests;
        match figure {
            Figure::RequestsPerSecond => requests / self.elapsed.as_secs_f64().max(1e-9),
            Figure::P50 => self.p50_micros / 1000.0,
            Figure::P99 => self.p99_micros / 1000.0,
            Figure::ProxyCpu => cpu(self.proxy),
            Figure::ServersCpu => cpu(self.proxy + self.redis + self.service),
            Figure::RedisCpu => cpu(self.redis),
            Figure::LoaderCpu => cpu(self.loader),
            Figure::ScriptsPerRequest => self.commands.scripts as f64 / requests,
            Figure::CommandsPerRequest => self.commands.all as f64 / requests,
            Figure::ProxyMemory => mib(self.resident),
        }
    }
}

/// Converts bytes to MiB.
pub(super) fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

/// CPU time of the servers since their start.
#[derive(Debug, Clone, Copy, Default)]
struct Spent {
    proxy: Duration,
    redis: Duration,
    service: Duration,
}

impl Spent {
    fn by(processes: &[(Role, u32)]) -> Self {
        let mut spent = Self::default();
        for (role, process) in processes {
            let cpu = cpu::of(*process).unwrap_or_default();
            match role {
                Role::Proxy => spent.proxy += cpu,
                Role::Redis => spent.redis += cpu,
                Role::Service => spent.service += cpu,
            }
        }
        spent
    }
}

/// Measures a point once.
///
/// # Errors
/// If a server does not start, or any response of the round has another status than the subject's.
pub(super) fn measure(
    stage: &mut Stage,
    plan: &Plan,
    sweep: Sweep,
    point: Point,
    number: u32,
) -> Result<Round, BenchError> {
    let standing = stage.standing(point.subject, point.setting)?;
    let (target, processes) = (standing.target, standing.processes.clone());
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let loader = Loader::ready(&load::Plan {
        target,
        connections: point.setting.connections,
        keys: point.setting.keys,
        warm_up_millis: millis(plan.warm_up),
        millis: millis(plan.measure),
    })?;
    let check = stage.commands()?;
    let before = Spent::by(&processes);
    let report = loader.go()?;
    let after = Spent::by(&processes);
    let commands = if point.subject.asks_redis() { stage.commands()?.since(check) } else { Commands::default() };
    let expected = |status: &u16| *status == point.subject.status() || (plan.fresh_keys && *status == 200);
    if !report.failures.is_empty() || report.requests == 0 || !report.statuses.keys().all(expected) {
        let log = stage.standing(point.subject, point.setting)?.log();
        return Err(BenchError::unexpected(point.subject, &report, &log));
    }
    let proxy = processes.iter().find(|(role, _)| *role == Role::Proxy);
    Ok(Round {
        sweep,
        point,
        number,
        requests: report.requests,
        elapsed: Duration::from_micros(report.elapsed_micros),
        p50_micros: report.p50_micros,
        p99_micros: report.p99_micros,
        proxy: after.proxy.saturating_sub(before.proxy),
        redis: after.redis.saturating_sub(before.redis),
        service: after.service.saturating_sub(before.service),
        loader: Duration::from_micros(report.cpu_micros),
        commands,
        resident: proxy.and_then(|(_, process)| cpu::resident(*process)).unwrap_or(0),
    })
}
