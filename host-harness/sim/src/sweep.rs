//! Sweep: many seeds on several threads.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Kind, Outcome, RealRedis, Size, Totals, simulate};

/// Result of a sweep so far.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Simulations that have ended.
    pub simulations: u64,
    /// Their numbers.
    pub totals: Totals,
    /// How often each kind of fault happened.
    pub kinds: BTreeMap<Kind, u64>,
    /// Simulations that broke a guarantee, by seed.
    pub broken: BTreeMap<u64, Outcome>,
}

/// Simulates the seeds from `first` on, on `threads` threads. After each simulation, `go_on` says whether to go on.
#[must_use]
pub fn sweep(
    first: u64,
    seeds: u64,
    size: Size,
    threads: usize,
    go_on: &(dyn Fn(&Progress) -> bool + Sync),
) -> Progress {
    sweep_on((0..threads.max(1)).map(|_| None).collect(), first, seeds, size, go_on)
}

/// Simulates the seeds from `first` on, each thread on its own Redis: a real one, or none but the specification.
#[must_use]
pub fn sweep_on(
    servers: Vec<Option<RealRedis>>,
    first: u64,
    seeds: u64,
    size: Size,
    go_on: &(dyn Fn(&Progress) -> bool + Sync),
) -> Progress {
    let (next, progress) = (AtomicU64::new(0), Mutex::new(Progress::default()));
    let work = |mut real: Option<RealRedis>| {
        loop {
            let nth = next.fetch_add(1, Ordering::Relaxed);
            if nth >= seeds {
                return;
            }
            let outcome = simulate(first.wrapping_add(nth), size, real.as_mut());
            let Ok(mut progress) = progress.lock() else { return };
            progress.add(outcome);
            if !go_on(&progress) {
                next.store(seeds, Ordering::Relaxed);
            }
        }
    };
    let work = &work;
    std::thread::scope(|scope| servers.into_iter().for_each(|real| drop(scope.spawn(move || work(real)))));
    progress.into_inner().unwrap_or_default()
}

impl Progress {
    fn add(&mut self, outcome: Outcome) {
        self.simulations += 1;
        self.totals.add(&outcome.totals);
        outcome.kinds.iter().for_each(|kind| *self.kinds.entry(*kind).or_default() += 1);
        if outcome.broken.is_some() {
            self.broken.insert(outcome.seed, outcome);
        }
    }
}
