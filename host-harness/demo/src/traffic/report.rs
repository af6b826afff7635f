//! Results of a run.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use hyper::header::HeaderValue;

/// Counts of a running plan, for a progress display.
#[derive(Debug, Default)]
pub struct Counters {
    sent: AtomicU64,
    admitted: AtomicU64,
    denied: AtomicU64,
}

impl Counters {
    /// Number of requests that were answered or have failed.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Number of requests answered with a 2xx.
    pub fn admitted(&self) -> u64 {
        self.admitted.load(Ordering::Relaxed)
    }

    /// Number of requests answered with 429.
    pub fn denied(&self) -> u64 {
        self.denied.load(Ordering::Relaxed)
    }

    pub(super) fn count(&self, outcome: &Outcome) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        self.admitted.fetch_add(u64::from(outcome.is_admitted()), Ordering::Relaxed);
        self.denied.fetch_add(u64::from(outcome.is_denied()), Ordering::Relaxed);
    }
}

/// Result of one request.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Time from the start of the run to sending the request.
    pub at: Duration,
    /// Time from sending the request to having the complete response.
    pub latency: Duration,
    /// The status, or the error.
    pub status: Result<u16, String>,
    /// The response's headers of interest, in the plan's order.
    pub headers: Vec<Option<HeaderValue>>,
}

impl Outcome {
    /// Whether it was answered with a 2xx.
    pub fn is_admitted(&self) -> bool {
        matches!(self.status, Ok(200..=299))
    }

    /// Whether it was answered with 429.
    pub fn is_denied(&self) -> bool {
        self.status == Ok(429)
    }
}

/// Results of one user's requests.
#[derive(Debug, Clone)]
pub struct UserReport {
    /// The user's name.
    pub name: String,
    /// The results in the order the requests were sent.
    pub outcomes: Vec<Outcome>,
    /// Time from just before the first request to just after the last response.
    pub elapsed: Duration,
}

impl UserReport {
    pub(super) fn new(name: String, mut outcomes: Vec<Outcome>) -> Self {
        outcomes.sort_by_key(|outcome| outcome.at);
        let first = outcomes.first().map(|outcome| outcome.at).unwrap_or_default();
        let last = outcomes.iter().map(|outcome| outcome.at + outcome.latency).max().unwrap_or_default();
        Self { name, outcomes, elapsed: last.saturating_sub(first) }
    }

    /// Number of requests sent.
    pub fn sent(&self) -> usize {
        self.outcomes.len()
    }

    /// Number of requests answered with a 2xx.
    pub fn admitted(&self) -> usize {
        self.count(Outcome::is_admitted)
    }

    /// Number of requests answered with 429.
    pub fn denied(&self) -> usize {
        self.count(Outcome::is_denied)
    }

    /// Number of requests neither admitted nor denied: other statuses, timeouts, broken connections.
    pub fn failed(&self) -> usize {
        self.sent() - self.admitted() - self.denied()
    }

    /// The distinct failures of requests, sorted.
    pub fn failures(&self) -> Vec<String> {
        let failed = self.outcomes.iter().filter(|outcome| !outcome.is_admitted() && !outcome.is_denied());
        let mut ways: Vec<String> = failed
            .map(|outcome| match &outcome.status {
                Ok(status) => format!("status {status}"),
                Err(why) => why.clone(),
            })
            .collect();
        ways.sort();
        ways.dedup();
        ways
    }

    /// Latencies of the answered requests.
    pub fn latencies(&self) -> Latencies {
        Latencies::of(&self.outcomes)
    }

    fn count(&self, is: impl Fn(&Outcome) -> bool) -> usize {
        self.outcomes.iter().filter(|outcome| is(outcome)).count()
    }
}

/// Results of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// The users' reports, in the order of the plan.
    pub users: Vec<UserReport>,
}

impl Report {
    /// A report over the requests of all users.
    pub fn together(&self) -> UserReport {
        let outcomes = self.users.iter().flat_map(|user| user.outcomes.iter().cloned()).collect();
        UserReport::new("all".into(), outcomes)
    }
}

/// Latencies of answered requests, from the smallest to the largest.
#[derive(Debug, Clone)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    fn of(outcomes: &[Outcome]) -> Self {
        let answered = outcomes.iter().filter(|outcome| outcome.status.is_ok());
        let mut latencies: Vec<Duration> = answered.map(|outcome| outcome.latency).collect();
        latencies.sort_unstable();
        Self(latencies)
    }

    /// Number of answered requests.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The smallest latency that at least this share of the requests does not exceed, for example 0.99 of them; 0 if no
    /// request was answered.
    pub fn quantile(&self, share: f64) -> Duration {
        let rank = (self.0.len() as f64 * share).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).or(self.0.last()).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_answered_requests() {
        let outcome = |micros, status| Outcome {
            at: Duration::ZERO,
            latency: Duration::from_micros(micros),
            status,
            headers: Vec::new(),
        };
        let mut outcomes: Vec<Outcome> = [1_000, 1, 2_000_000, 3, 40_000].map(|micros| outcome(micros, Ok(200))).into();
        outcomes.push(outcome(9_000_000, Err("no response".into())));
        let latencies = Latencies::of(&outcomes);
        let micros = [0.0, 0.2, 0.5, 0.8, 0.81, 1.0].map(|share| latencies.quantile(share).as_micros());
        assert_eq!((micros, latencies.count()), ([1, 1, 1_000, 40_000, 2_000_000, 2_000_000], 5));
        assert_eq!(Latencies::of(&[]).quantile(0.5), Duration::ZERO);
    }
}
