//! Texts and JSON of a run of simulations.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use serde_json::{Value, json};
use weir_sim::{Guarantee, Kind, Progress, Size, Story};

use super::On;

/// Run of simulations with its result.
pub(super) struct Run<'a> {
    pub(super) size: Size,
    /// Seeds that were asked for.
    pub(super) seeds: u64,
    pub(super) threads: usize,
    pub(super) on: On,
    pub(super) took: Duration,
    pub(super) progress: &'a Progress,
    pub(super) stories: &'a [Story],
}

impl Run<'_> {
    /// Returns the command that repeats a seed.
    fn command(&self, seed: u64) -> String {
        let Size { seconds, proxies, workers } = self.size;
        let on = if self.on == On::Redis { " --on redis" } else { "" };
        format!("weir sim --seed {seed} --seconds {seconds} --proxies {proxies} --workers {workers}{on}")
    }

    /// The run as JSON.
    pub(super) fn json(&self) -> Value {
        let totals = &self.progress.totals;
        let kinds: BTreeMap<&str, u64> = self.progress.kinds.iter().map(|(kind, n)| (kind.name(), *n)).collect();
        let broken: Vec<Value> = self
            .progress
            .broken
            .values()
            .map(|outcome| {
                let broken = outcome.broken.as_ref();
                json!({
                    "seed": outcome.seed,
                    "guarantee": broken.map(|broken| broken.guarantee.name()),
                    "detail": broken.map(|broken| &broken.detail),
                    "command": self.command(outcome.seed),
                })
            })
            .collect();
        json!({
            "simulations": self.progress.simulations,
            "seconds": self.size.seconds,
            "proxies": self.size.proxies,
            "workers": self.size.workers,
            "threads": self.threads,
            "on": if self.on == On::Redis { "redis" } else { "virtual" },
            "took_seconds": self.took.as_secs_f64(),
            "requests": totals.requests,
            "admitted": totals.admitted,
            "denied": totals.denied,
            "failed": totals.failed,
            "lost": totals.lost,
            "events": totals.events,
            "faults": kinds,
            "broken": broken,
            "stories": self.stories.iter().map(Story::json).collect::<Vec<_>>(),
        })
    }
}

impl Display for Run<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Size { seconds, proxies, workers } = self.size;
        let Progress { simulations, totals, kinds, broken } = self.progress;
        writeln!(
            f,
            "{simulations} of {} seeds: {seconds} s each, {proxies} proxies of {workers} workers, in {:.1} s on {} threads",
            self.seeds,
            self.took.as_secs_f64(),
            self.threads,
        )?;
        writeln!(
            f,
            "requests: {}; admitted by Redis or a lease: {}, denied: {}, not decided by Redis: {}, lost: {}",
            totals.requests, totals.admitted, totals.denied, totals.failed, totals.lost,
        )?;
        writeln!(f, "faults: {} of {} kinds, of {}", totals.faults, kinds.len(), Kind::ALL.len())?;
        if broken.is_empty() {
            let is_checked = |guarantee: &&Guarantee| self.on == On::Redis || **guarantee != Guarantee::Specification;
            let names: Vec<&str> = Guarantee::ALL.iter().filter(is_checked).map(|guarantee| guarantee.name()).collect();
            return writeln!(f, "every guarantee held: {}", names.join(", "));
        }
        for outcome in broken.values() {
            let what = outcome.broken.as_ref().map(ToString::to_string).unwrap_or_default();
            writeln!(f, "BROKEN, seed {}: {what}\n  repeat it with: {}", outcome.seed, self.command(outcome.seed))?;
        }
        self.stories.iter().try_for_each(|story| write!(f, "\n{story}"))
    }
}
