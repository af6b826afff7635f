//! Shrinking: the smallest plan found that breaks the same guarantee, by deterministic runs of smaller plans.

use crate::judge::{Broken, Guarantee};
use crate::plan::{Plan, Size};
use crate::story::Story;
use crate::{History, RealRedis, outcome};

/// Runs, at most.
const MOST_RUNS: usize = 1_500;
/// Runs on a real Redis, at most: each takes longer.
const MOST_RUNS_ON_REDIS: usize = 150;

/// Returns the story of a seed that breaks a guarantee, without the proxies, faults and requests that it does not need.
/// `None`, if the seed breaks no guarantee.
#[must_use]
pub fn shrink(seed: u64, size: Size, mut real: Option<&mut RealRedis>) -> Option<Story> {
    let plan = Plan::new(seed, size);
    let (broken, history) = outcome(&plan, real.as_deref_mut());
    let most_runs = if real.is_some() { MOST_RUNS_ON_REDIS } else { MOST_RUNS };
    let guarantee = broken.as_ref()?.guarantee;
    let mut search = Search { guarantee, most_runs, runs: 0, real, best: (plan, broken?, history) };
    search.faults();
    search.places();
    search.requests();
    search.faults();
    let (plan, broken, history) = search.best;
    Some(Story::new(seed, &plan, broken, history.as_ref()))
}

struct Search<'a> {
    guarantee: Guarantee,
    most_runs: usize,
    runs: usize,
    real: Option<&'a mut RealRedis>,
    /// The smallest plan so far, with what it breaks.
    best: (Plan, Broken, Option<History>),
}

impl Search<'_> {
    /// Runs a smaller plan, and keeps it if it breaks the same guarantee.
    fn keeps(&mut self, plan: Plan) -> bool {
        if self.runs >= self.most_runs {
            return false;
        }
        self.runs += 1;
        match outcome(&plan, self.real.as_deref_mut()) {
            (Some(broken), history) if broken.guarantee == self.guarantee => {
                self.best = (plan, broken, history);
                true
            }
            _ => false,
        }
    }

    fn faults(&mut self) {
        let mut nth = 0;
        while nth < self.best.0.faults.len() {
            let mut plan = self.best.0.clone();
            plan.faults.remove(nth);
            if !self.keeps(plan) {
                nth += 1;
            }
        }
    }

    /// Removes all requests of a proxy, then of a worker.
    fn places(&mut self) {
        let Size { proxies, workers, .. } = self.best.0.size;
        let of_proxies = (0..proxies).map(|proxy| proxy * workers..(proxy + 1) * workers);
        let of_workers = (0..proxies * workers).map(|place| place..place + 1);
        for places in of_proxies.chain(of_workers).collect::<Vec<_>>() {
            let mut plan = self.best.0.clone();
            let before = plan.requests.len();
            plan.requests.retain(|request| !places.contains(&request.place));
            if plan.requests.len() < before {
                self.keeps(plan);
            }
        }
    }

    /// Removes requests: halves first, then ever smaller parts.
    fn requests(&mut self) {
        let mut part = self.best.0.requests.len().div_ceil(2);
        while part > 0 && self.runs < self.most_runs {
            let mut from = 0;
            while from < self.best.0.requests.len() {
                let mut plan = self.best.0.clone();
                let until = (from + part).min(plan.requests.len());
                plan.requests.drain(from..until);
                if !self.keeps(plan) {
                    from = until;
                }
            }
            part = if part == 1 { 0 } else { part.div_ceil(2) };
        }
    }
}
