//! Grants: the shares of the limits that Redis grants this worker, by its heartbeats.
//!
//! Heartbeats start with the worker's first request that a limit with `failure_mode: local` applies to. Each tells what
//! the requests since the last one asked for, and what the worker holds; the reply has what it may hold from then on.

use alloc::vec::Vec;
use core::num::NonZeroU32;

use crate::config::Config;
use crate::limit::{BucketCheck, Claim, FailureMode, Heartbeat, Limit, Share};
use crate::redis::{Call, Failure, Reply};
use crate::units::{Micros, Random, Tokens};

/// Shortest time between two heartbeats.
const INTERVAL: Micros = Micros::from_secs(1);
/// Time between two heartbeats of all workers, on the average: Redis has at most 50 a second.
const APART: Micros = Micros::from_millis(20);
/// Number of intervals after which a worker that is not seen is forgotten.
const MISSED: u64 = 3;
/// Most parts of a limit.
const MAX_PARTS: u64 = 65_536;
/// Tokens are counted per 1,000 s: a second of few requests is no second of none.
const LOAD_SPAN: u64 = 1_000_000_000;

/// Shares of one worker.
#[derive(Debug)]
pub(super) struct Grants {
    script: Heartbeat,
    worker: u64,
    /// Indexes of the limits.
    limits: Vec<usize>,
    /// Claims of the next heartbeat, one for each of them. Their load is the number of tokens since the last one.
    claims: Vec<Claim>,
    /// Time of the last heartbeat.
    since: Micros,
    interval: Micros,
    jitter: Random,
    /// Time of the next heartbeat. `None` before the first request, and while one is in flight.
    due: Option<Micros>,
    is_awake: bool,
}

impl Grants {
    /// Creates the state of a worker that holds `share` of each limit with `failure_mode: local`.
    #[inline(never)]
    pub(super) fn new(config: &Config, share: Share, worker: u64) -> Self {
        let (mut limits, mut claims) = (Vec::new(), Vec::new());
        for (index, limit) in config.limits.iter().enumerate() {
            if limit.failure_mode == FailureMode::Local {
                let parts = parts(limit);
                let registry = [&config.redis.key_prefix, "{local}", &limit.name].concat().into_bytes();
                let held = u32::try_from(share.of_tokens(Tokens(parts.into())).0).unwrap_or(0);
                limits.push(index);
                claims.push(Claim { registry, load: 0, held, parts });
            }
        }
        Self {
            script: Heartbeat::default(),
            worker,
            limits,
            claims,
            since: Micros::ZERO,
            interval: INTERVAL,
            jitter: Random::new(worker),
            due: None,
            is_awake: false,
        }
    }

    /// Counts what a request asks for.
    pub(super) fn count(&mut self, now: Micros, checks: &[BucketCheck]) {
        for check in checks.iter().filter(|check| check.window == 0) {
            let of_limit = self.limits.iter().zip(&mut self.claims).find(|(limit, _)| **limit == check.limit);
            if let Some((_, claim)) = of_limit {
                claim.load = claim.load.saturating_add(check.cost.0);
                if !self.is_awake {
                    (self.is_awake, self.since, self.due) = (true, now, Some(now));
                }
            }
        }
    }

    /// Takes the call that is due, if any. Pass its reply to [`handle`](Self::handle).
    pub(super) fn due_call(&mut self, now: Micros) -> Option<Call> {
        self.due.take_if(|due| *due <= now)?;
        let span = now.minus(core::mem::replace(&mut self.since, now)).0.max(1_000);
        for claim in &mut self.claims {
            claim.load = claim.load.saturating_mul(LOAD_SPAN).div_ceil(span);
        }
        let call = self.script.call(self.worker, self.interval.times(MISSED), &self.claims);
        self.claims.iter_mut().for_each(|claim| claim.load = 0);
        Some(call)
    }

    pub(super) fn next_due(&self) -> Option<Micros> {
        self.due
    }

    /// Handles the end of the call: changes the shares of the limits, in the order of the limits.
    pub(super) fn handle(&mut self, now: Micros, result: &Result<Reply, Failure>, shares: &mut [Share]) {
        if let Ok(reply) = result {
            let mut numbers = Heartbeat::read(reply);
            let workers = numbers.next().unwrap_or(0);
            self.interval = APART.times(workers.into()).max(INTERVAL);
            for ((limit, claim), parts) in self.limits.iter().zip(&mut self.claims).zip(numbers) {
                claim.held = parts.min(claim.parts);
                if let (Some(share), Some(of)) = (shares.get_mut(*limit), NonZeroU32::new(claim.parts)) {
                    *share = Share::new(parts, of);
                }
            }
        }
        let jitter = self.jitter.below((self.interval.0 / 4).saturating_add(1));
        self.due = Some(now.plus(self.interval.minus(Micros(jitter))));
    }
}

/// Parts of a limit: one for each token, so that no part is lost by rounding.
fn parts(limit: &Limit) -> u32 {
    let fewest = limit.windows.algorithms().map(|algorithm| algorithm.limit().0).min();
    u32::try_from(fewest.unwrap_or(1).clamp(1, MAX_PARTS)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn heartbeats_of_workers_are_spread_over_a_quarter_of_their_interval() {
        let json = r#"{"redis": {"cluster": "redis"}, "failure_mode": "local", "limits": [{"name": "one",
            "token_bucket": {"max_tokens": 1, "fill_interval": "1s"}, "descriptor": []}]}"#;
        let config = config::parse(json.as_bytes(), &|_| None).unwrap();
        let due = |worker| {
            let mut grants = Grants::new(&config, Share::NONE, worker);
            grants.handle(Micros::ZERO, &Err(Failure::Timeout), &mut []);
            grants.next_due().unwrap()
        };
        let mut all: Vec<Micros> = (1..=20).map(due).collect();
        all.sort();
        let [first, .., last] = all[..] else { unreachable!("20 workers") };
        assert!(first >= Micros(INTERVAL.0 / 4 * 3) && last <= INTERVAL, "{all:?}");
        assert!(last.minus(first) > Micros(INTERVAL.0 / 8), "{all:?}");
    }
}
