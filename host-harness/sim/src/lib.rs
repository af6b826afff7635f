//! Simulation of fleets: many proxies with Weir's own worker, and one Redis, in virtual time, with faults from one seed.
//!
//! A seed is a number. From it follow the configuration, the requests, the faults, and the time of each message: the same
//! seed is the same simulation on every machine. [`simulate`] runs one and checks the guarantees of Weir by the history
//! of admissions; [`shrink`] removes what a broken guarantee does not need; [`sweep`] runs many seeds.
//!
//! | module | contents |
//! |---|---|
//! | `plan` | configurations, requests, faults and examinations, drawn before the simulation starts |
//! | `world` | workers, network and Redis on one agenda |
//! | `history` | what became of each request |
//! | `judge` | guarantees |
//! | `real` | a real Redis on a virtual clock, beside the specification of the scripts |
//! | `shrink` | the smallest plan that breaks the same guarantee |
//! | `sweep` | many seeds on several threads |
//! | [`study`] | cost and admissions by size of the fleet and by round trip, without faults |

mod dice;
mod history;
mod judge;
mod plan;
mod real;
mod redis_time;
mod shrink;
mod story;
pub mod study;
mod sweep;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use self::history::{End, History};
pub use self::judge::{Broken, Guarantee};
use self::plan::Plan;
pub use self::plan::Size;
pub use self::plan::faults::Kind;
pub use self::real::RealRedis;
pub use self::shrink::shrink;
pub use self::story::Story;
pub use self::sweep::{Progress, sweep, sweep_on};

/// Numbers of one or of many simulations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Requests that workers got.
    pub requests: u64,
    /// Requests that Redis or a lease admitted.
    pub admitted: u64,
    /// Requests that a limit denied.
    pub denied: u64,
    /// Requests that Redis did not decide.
    pub failed: u64,
    /// Requests of these that a worker decided by its shares of the limits.
    pub by_shares: u64,
    /// Requests whose worker died, or whose client went away.
    pub lost: u64,
    /// Faults.
    pub faults: u64,
    /// Events of workers and of the network.
    pub events: u64,
}

/// Result of a simulation.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The guarantee that was broken, if any.
    pub broken: Option<Broken>,
    /// Numbers of the simulation; zeros, where it panicked.
    pub totals: Totals,
    /// Kinds of its faults, each as often as it happened.
    pub kinds: Vec<Kind>,
}

/// Simulates a fleet, and checks its guarantees. If there is a real Redis, it runs all commands, and its replies are those
/// that count; they must be the same as those of the specification.
#[must_use]
pub fn simulate(seed: u64, size: Size, real: Option<&mut RealRedis>) -> Outcome {
    run(seed, &Plan::new(seed, size), real)
}

/// Simulates a fleet with `failure_mode: local` whose Redis restarts, and checks its guarantees.
#[must_use]
pub fn simulate_outages(seed: u64, size: Size) -> Outcome {
    run(seed, &Plan::of_outages(seed, size), None)
}

/// Simulates a fleet whose Redis loses data, with workers that heal it or do not, and checks its guarantees. Returns as
/// well the tokens that buckets admitted beyond their promises, as if Redis had lost nothing.
#[must_use]
pub fn simulate_losses(seed: u64, size: Size, heals: bool) -> (Outcome, u64) {
    let plan = Plan::of_losses(seed, size, heals);
    let beyond = outcome(&plan, None).1.map_or(0, |history| judge::beyond_promises(&plan, &history));
    (run(seed, &plan, None), beyond)
}

fn run(seed: u64, plan: &Plan, real: Option<&mut RealRedis>) -> Outcome {
    let (broken, history) = outcome(plan, real);
    let mut totals = history.as_ref().map(totals).unwrap_or_default();
    totals.faults = plan.faults.len() as u64;
    Outcome { seed, broken, totals, kinds: plan.faults.iter().map(|fault| fault.kind).collect() }
}

/// Runs a plan, and returns the guarantee that it broke and its history. A panic breaks a guarantee, and has no history.
fn outcome(plan: &Plan, real: Option<&mut RealRedis>) -> (Option<Broken>, Option<History>) {
    match catch_unwind(AssertUnwindSafe(|| world::run(plan, real))) {
        Ok(history) => (judge::judge(plan, &history), Some(history)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a text");
            (Some(Broken::new(Guarantee::NoPanic, format!("panic: {text}"))), None)
        }
    }
}

fn totals(history: &History) -> Totals {
    let mut totals = Totals { events: history.events, ..Totals::default() };
    for record in &history.records {
        totals.requests += 1;
        totals.by_shares += u64::from(record.is_by_shares);
        match record.end {
            End::Passed => {}
            End::Admitted { .. } => totals.admitted += 1,
            End::Denied { .. } => totals.denied += 1,
            End::Failed { .. } => totals.failed += 1,
            End::Lost => totals.lost += 1,
        }
    }
    totals
}

impl Totals {
    /// Adds the numbers of another simulation.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.admitted += other.admitted;
        self.denied += other.denied;
        self.failed += other.failed;
        self.by_shares += other.by_shares;
        self.lost += other.lost;
        self.faults += other.faults;
        self.events += other.events;
    }
}
