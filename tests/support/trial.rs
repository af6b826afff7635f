//! Load on a mesh while a fault lasts: what requests got, how long they waited, what was admitted too much.

use std::{collections::BTreeMap, fmt, net::SocketAddr, sync::Arc, time::Duration};

use hyper::header::HeaderName;
use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until};
use weir_harness::traffic::{self, Outcome, Pace, Plan, Report};

use crate::{Mesh, MeshBuilder};

/// Time without answers of the failure mode after which limits apply again; a busy machine may cause single ones later.
const SETTLED: Duration = Duration::from_millis(500);
/// The longest wait for an answer on a busy machine. A check that nothing ended would wait for Envoy's route timeout of
/// 15 s.
const WAIT: Duration = Duration::from_secs(5);
/// Part of the requests of [`SETTLED`] that a busy machine may time out. One of two workers that does not recover fails
/// half of them.
const BUSY: f64 = 0.25;

/// Limit and load of a trial. Each user asks for more than its bucket gives, so that a bucket admits all that it can.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Number of users, each with a bucket.
    pub users: usize,
    /// Connections per user.
    pub connections: usize,
    /// Requests per second of each user.
    pub rate: f64,
    /// `max_tokens` of a bucket.
    pub max_tokens: u64,
    /// Tokens per second of a bucket.
    pub tokens_per_second: u64,
    /// Value of `redis.timeout`.
    pub timeout: Duration,
}

/// Time of a trial: before the fault, during it, and after it.
#[derive(Debug, Clone, Copy)]
pub struct Phases {
    /// Time of load before the fault.
    pub before: Duration,
    /// Time from the fault's begin to its end.
    pub fault: Duration,
    /// Time of load after the end.
    pub after: Duration,
}

/// Result of a trial.
#[derive(Debug, Clone)]
pub struct Trial {
    /// Number of requests.
    pub requests: usize,
    /// Number of requests that Redis decided, or the deny cache: 200 and 429.
    pub decided: usize,
    /// Number of requests that the failure mode `deny` answered: 503.
    pub failed: usize,
    /// Other answers and errors, with their numbers.
    pub others: BTreeMap<String, usize>,
    /// The longest wait of a request.
    pub worst_wait: Duration,
    /// Time from the first answer of the failure mode since the begin of the fault to its last before the recovery.
    pub failing: Duration,
    /// Time from the end of the fault until half a second without answers of the failure mode begins.
    pub recovered_after: Duration,
    /// Time from the end of the fault to the end of the last half a second of which the failure mode answered a quarter.
    pub mostly_decided_after: Duration,
    /// The largest number of requests that a bucket admitted beyond its promise, in any window.
    pub over_admitted: u64,
    /// That number for each user.
    pub over_admitted_of: Vec<u64>,
}

impl Load {
    /// Ten users with 40 requests a second each, of which 20 are admitted, at a timeout of 200 ms.
    pub const STEADY: Self = Self {
        users: 10,
        connections: 2,
        rate: 40.0,
        max_tokens: 20,
        tokens_per_second: 20,
        timeout: Duration::from_millis(200),
    };

    /// Sets limit, timeout and failure mode `deny`: every 200 is then an admission by Redis.
    pub fn configure(self, mesh: MeshBuilder) -> MeshBuilder {
        mesh.configure(|filter| self.configure_filter(filter))
    }

    /// Sets the same in the configuration of a limiter.
    pub fn configure_filter(self, filter: &mut Value) {
        filter["limits"][0]["token_bucket"] = serde_json::json!({
            "max_tokens": self.max_tokens, "tokens_per_fill": self.tokens_per_second, "fill_interval": "1s",
        });
        filter["redis"]["timeout"] = format!("{}s", self.timeout.as_secs_f64()).into();
        filter["failure_mode"] = "deny".into();
    }

    /// The name of the user of this number, from 0.
    pub fn user(nth: usize) -> String {
        format!("user {nth}")
    }

    /// Runs the load, and the fault in the middle: `begin` starts it, and `end` ends it. Both may take their time, which
    /// is the fault's.
    pub async fn run(self, mesh: &Mesh, phases: Phases, begin: impl AsyncFnOnce(), end: impl AsyncFnOnce()) -> Trial {
        self.run_at(mesh.ingress()[0], phases, begin, end).await
    }

    /// Runs the load on the listener at this address; see [`run`](Self::run).
    pub async fn run_at(
        self,
        ingress: SocketAddr,
        phases: Phases,
        begin: impl AsyncFnOnce(),
        end: impl AsyncFnOnce(),
    ) -> Trial {
        let mut plan = Plan::new(ingress);
        plan.headers_of_interest = vec![HeaderName::from_static("x-ratelimit-limit")];
        // The load runs until it is stopped: `begin` and `end` take longer on a busy machine.
        plan.duration = phases.before + phases.fault + phases.after + Duration::from_secs(60);
        plan.users = (0..self.users)
            .map(|nth| Mesh::user(&Self::user(nth), Pace::PerSecond(self.rate)).connections(self.connections))
            .collect();
        let stop = traffic::Stop::default();
        let start = Instant::now();
        let strike = async {
            sleep(phases.before).await;
            let begun = start.elapsed();
            begin().await;
            sleep_until(start + begun + phases.fault).await;
            end().await;
            let ended = start.elapsed();
            sleep(phases.after).await;
            stop.stop();
            (begun, ended)
        };
        let (report, (begun, ended)) = tokio::join!(traffic::run_until(plan, Arc::default(), &stop), strike);
        self.measure(&report, begun, ended)
    }

    fn measure(self, report: &Report, begun: Duration, ended: Duration) -> Trial {
        let all: Vec<&Outcome> = report.users.iter().flat_map(|user| &user.outcomes).collect();
        let failed: Vec<&Outcome> = all.iter().copied().filter(|it| it.status == Ok(503)).collect();
        let mut others = BTreeMap::new();
        for outcome in all.iter().filter(|it| !it.is_admitted() && !it.is_denied() && it.status != Ok(503)) {
            let what = match &outcome.status {
                Ok(status) => format!("status {status}"),
                Err(why) => why.clone(),
            };
            *others.entry(what).or_default() += 1;
        }
        let done = |outcome: &Outcome| outcome.at + outcome.latency;
        let first = failed.iter().map(|it| it.at).filter(|at| *at >= begun).min();
        let times: Vec<Duration> = failed.iter().map(|it| done(it)).collect();
        let recovered = recovered(times.clone(), ended);
        let last = times.into_iter().filter(|time| *time <= recovered).max();
        let answers = all.iter().map(|it| (done(it), it.status == Ok(503))).collect();
        let over_admitted = report.users.iter().map(|user| {
            let admitted = user.outcomes.iter().filter(|it| it.is_admitted());
            over_admitted(admitted.map(|it| (it.at, done(it))).collect(), self.max_tokens, self.tokens_per_second)
        });
        let over_admitted_of: Vec<u64> = over_admitted.collect();
        Trial {
            requests: all.len(),
            decided: all.iter().filter(|it| it.is_admitted() || it.is_denied()).count(),
            failed: failed.len(),
            others,
            worst_wait: all.iter().map(|it| it.latency).max().unwrap_or_default(),
            failing: last.unwrap_or_default().saturating_sub(first.unwrap_or(Duration::MAX)),
            recovered_after: recovered - ended,
            mostly_decided_after: mostly_decided(answers, ended) - ended,
            over_admitted: over_admitted_of.iter().copied().max().unwrap_or_default(),
            over_admitted_of,
        }
    }
}

impl Trial {
    /// Asserts that every request was decided or answered as failure mode `deny` asks, within 5 s. How long the waits
    /// are is measured, and printed with the trial.
    ///
    /// # Panics
    /// If that is not so.
    #[track_caller]
    pub fn as_asked(&self) -> &Self {
        assert!(self.others.is_empty(), "requests that the failure mode did not answer: {self}");
        assert!(self.worst_wait <= WAIT, "expected waits of at most {WAIT:?}: {self}");
        self
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
        let others: Vec<String> = self.others.iter().map(|(what, times)| format!("{times} × {what}")).collect();
        let others = if others.is_empty() { "none".to_owned() } else { others.join(", ") };
        write!(
            f,
            "{} requests, {} decided, {} answered by the failure mode, others: {others}; worst wait {} ms, failure mode \
             for {}, recovered {} after the end, over-admitted {}",
            self.requests,
            self.decided,
            self.failed,
            self.worst_wait.as_millis(),
            seconds(self.failing),
            seconds(self.recovered_after),
            self.over_admitted,
        )
    }
}

/// The time from which on there is no failure for [`SETTLED`], by the times of all failures.
fn recovered(mut failures: Vec<Duration>, ended: Duration) -> Duration {
    failures.sort_unstable();
    let since = failures.into_iter().filter(|time| *time > ended);
    since.fold(ended, |last, time| if time - last < SETTLED { time } else { last })
}

/// The time of the last failure that ends a [`SETTLED`] of which [`BUSY`] or more failed since `ended`; else `ended`. By
/// the time of each answer, and whether the failure mode gave it.
pub fn mostly_decided(mut answers: Vec<(Duration, bool)>, ended: Duration) -> Duration {
    answers.retain(|(time, _)| *time > ended);
    answers.sort_unstable();
    let ends_failing = |last: usize| {
        let first = answers.partition_point(|(time, _)| *time + SETTLED < answers[last].0);
        let window = &answers[first..=last];
        let failed = window.iter().filter(|(_, failed)| *failed).count();
        failed as f64 >= BUSY * window.len() as f64
    };
    let last = (0..answers.len()).rev().find(|nth| answers[*nth].1 && ends_failing(*nth));
    last.map_or(ended, |nth| answers[nth].0)
}

/// The largest number of admissions beyond `max_tokens + w × tokens_per_second` in any window `w`, by the times of their
/// requests and answers.
///
/// An admission is known by the times of its request and of its answer, between which it lies. Only windows that surely
/// hold an admission count it, and a window is as long as it may be: the result is never too large.
pub fn over_admitted(mut admitted: Vec<(Duration, Duration)>, max_tokens: u64, tokens_per_second: u64) -> u64 {
    admitted.sort_by_key(|(_, answered)| *answered);
    let most = |window: Duration| {
        let refilled = window.as_nanos() * u128::from(tokens_per_second) / 1_000_000_000;
        max_tokens.saturating_add(u64::try_from(refilled).unwrap_or(u64::MAX))
    };
    let beyond_from = |begin: Duration| {
        let within = admitted.iter().filter(|(sent, _)| *sent >= begin);
        (1..).zip(within).map(|(count, (_, answered))| u64::saturating_sub(count, most(*answered - begin))).max()
    };
    admitted.iter().filter_map(|(sent, _)| beyond_from(*sent)).max().unwrap_or_default()
}
