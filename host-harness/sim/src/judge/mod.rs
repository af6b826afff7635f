//! Guarantees of a fleet, checked against the history of a simulation.
//!
//! | module | guarantee |
//! |---|---|
//! | `windows` | no bucket admits more than its algorithm promises |
//! | `slots` | no more requests are in flight than a concurrency limit has slots |
//! | `order` | waits are bounded, nothing is held for ever, the fleet recovers |
//! | `exams` | fresh keys admit what they should; a denied request spends nothing |

mod exams;
mod order;
mod slots;
mod windows;

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use weir_filter::units::Micros;

use crate::history::{End, History, Record};
use crate::plan::faults::Kind;
use crate::plan::limits::Window;
use crate::plan::overrides::{Change, Override};
use crate::plan::{Arrival, Plan};

/// Guarantee that a simulation checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Guarantee {
    /// A bucket admits no more in any window than its algorithm promises.
    NeverOverAdmits,
    /// A request that a limit denies spends nothing from other limits.
    AllOrNothing,
    /// A request is decided within the timeout and two ticks.
    BoundedWait,
    /// No request, and no slot of a concurrency limit, is held for ever.
    NothingHeld,
    /// Redis decides every request 10 s after the faults, and fresh keys admit what they should.
    Convergence,
    /// Nothing panics, and no events go on without an end.
    NoPanic,
    /// A real Redis replies as the specification of the scripts does.
    Specification,
}

impl Guarantee {
    /// All guarantees.
    pub const ALL: [Self; 7] = [
        Self::NeverOverAdmits,
        Self::AllOrNothing,
        Self::BoundedWait,
        Self::NothingHeld,
        Self::Convergence,
        Self::NoPanic,
        Self::Specification,
    ];

    /// Name in reports and on the page about simulations.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NeverOverAdmits => "never-over-admits",
            Self::AllOrNothing => "all-or-nothing",
            Self::BoundedWait => "bounded-wait",
            Self::NothingHeld => "nothing-held",
            Self::Convergence => "convergence",
            Self::NoPanic => "no-panic",
            Self::Specification => "specification",
        }
    }
}

/// Guarantee that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The guarantee.
    pub guarantee: Guarantee,
    /// Sentence about what was found, and what was expected.
    pub detail: String,
    /// Places in the history of the requests that show it.
    pub(crate) records: Vec<usize>,
}

impl Broken {
    pub(crate) fn new(guarantee: Guarantee, detail: String) -> Self {
        Self { guarantee, detail, records: Vec::new() }
    }
}

impl Display for Broken {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.guarantee.name(), self.detail)
    }
}

/// Returns the first guarantee that a history breaks, if any.
pub(crate) fn judge(plan: &Plan, history: &History) -> Option<Broken> {
    let case = Case::new(plan, history);
    order::endless(&case)
        .or_else(|| windows::broken(&case))
        .or_else(|| slots::broken(&case))
        .or_else(|| order::broken(&case))
        .or_else(|| exams::broken(&case))
}

/// Tokens that buckets admitted beyond their promises, whatever Redis has lost: for each bucket in its worst window.
pub(crate) fn beyond_promises(plan: &Plan, history: &History) -> u64 {
    windows::beyond_promises(&Case::new(plan, history))
}

/// Request that Redis or a lease admitted.
#[derive(Debug, Clone, Copy)]
struct Admission {
    /// Place in the history.
    record: usize,
    began: Micros,
    decided: Micros,
    /// Time at which the upstream has answered: the request gives its slots back.
    over: Micros,
    /// Redis' clock, since 1970. `None` where a lease admitted the request.
    redis: Option<Micros>,
    /// Forward movement of Redis' clock until the request was admitted: the least, and the most.
    forward: (Micros, Micros),
    cost: u64,
}

/// Plan and history, with the admissions by bucket.
struct Case<'a> {
    plan: &'a Plan,
    history: &'a History,
    /// By limit and key.
    admissions: BTreeMap<(usize, u32), Vec<Admission>>,
    overrides: Vec<Override>,
}

impl<'a> Case<'a> {
    fn new(plan: &'a Plan, history: &'a History) -> Self {
        let overrides = plan.faults.iter().filter_map(|fault| Override::of(fault, plan)).collect();
        let mut case = Self { plan, history, admissions: BTreeMap::new(), overrides };
        for (place, record) in history.records.iter().enumerate() {
            let End::Admitted { redis, delay } = record.end else { continue };
            let arrival = &plan.requests[record.request];
            for limit in limits_of(arrival).filter(|limit| *limit < plan.config.limits.len()) {
                let admission = case.admission(place, record, arrival, limit, redis, delay);
                case.admissions.entry((limit, arrival.key)).or_default().push(admission);
            }
        }
        case
    }

    fn admission(
        &self,
        place: usize,
        record: &Record,
        arrival: &Arrival,
        limit: usize,
        redis: Option<Micros>,
        delay: Micros,
    ) -> Admission {
        let time = &self.history.time;
        // Of several limits, a lease may have served this one at any time before the others were decided.
        let is_sole = arrival.limits.count_ones() == 1;
        let (least, most) = match redis {
            Some(_) if self.plan.config.limits[limit].lease.is_some() && !is_sole => {
                (time.forward(record.began), time.forward(record.decided))
            }
            Some(raw) => time.forward_of(raw, record.began, record.decided.minus(delay).max(record.began)),
            None => (time.forward(record.decided), time.forward(record.decided)),
        };
        // A delay is the longest of all limits; alone, a limit's tokens exist exactly when it is over, or earlier where
        // the bucket has become faster since.
        let may_delay = self.plan.config.limits[limit].max_delay > Micros::ZERO;
        let most = if may_delay { most.plus(delay) } else { most };
        let least = if may_delay && is_sole { least.plus(self.at_fastest(limit, arrival.key, delay)) } else { least };
        let cost = if self.plan.config.limits[limit].has_costs { arrival.cost } else { 1 };
        let (began, decided, over) = (record.began, record.decided, record.decided.plus(arrival.takes));
        Admission { record: place, began, decided, over, redis, forward: (least, most), cost }
    }

    /// All numbers that a window of a limit has for a key, by configurations and overrides.
    fn numbers(&self, limit: usize, window: usize, key: u32) -> Vec<Window> {
        let mut numbers = vec![self.plan.config.limits[limit].windows[window]];
        if self.plan.has(Kind::Configuration) {
            numbers.push(self.plan.varied.limits[limit].windows[window]);
        }
        let own = |change: &&Override| change.limit == limit && change.key.is_none_or(|own| own == key);
        let changed: Vec<Window> = self
            .overrides
            .iter()
            .filter(own)
            .flat_map(|own| numbers.iter().map(|window| own.change.of(*window)))
            .collect();
        numbers.extend(changed);
        numbers
    }

    /// Time for which a request would be held that is held for `delay` at the slowest rate of its bucket, if the bucket
    /// had its fastest rate from the beginning.
    fn at_fastest(&self, limit: usize, key: u32, delay: Micros) -> Micros {
        let windows = 0..self.plan.config.limits[limit].windows.len();
        let tokens: Vec<u64> = windows
            .flat_map(|window| self.numbers(limit, window, key))
            .filter_map(|window| match window {
                Window::TokenBucket { tokens, .. } => Some(tokens),
                _ => None,
            })
            .collect();
        let is_halved = |change: &Override| {
            change.change == Change::Halved && change.limit == limit && change.key.is_none_or(|own| own == key)
        };
        let divisor = if self.overrides.iter().any(is_halved) { 2 } else { 1 };
        match (tokens.iter().min(), tokens.iter().max()) {
            (Some(slowest), Some(fastest)) => Micros(delay.0 * slowest / (fastest * divisor)),
            _ => delay,
        }
    }

    /// Number of times that Redis lost data between two true times.
    fn losses(&self, from: Micros, until: Micros) -> u64 {
        self.history.losses.iter().filter(|at| **at >= from && **at <= until).count() as u64
    }

    /// Number of times that Redis' clock was set back between two true times.
    fn steps_back(&self, from: Micros, until: Micros) -> u64 {
        let is_within = |(at, by): &&(Micros, i64)| *by < 0 && *at >= from && *at <= until;
        self.history.steps.iter().filter(is_within).count() as u64
    }
}

/// Limits that apply to a request, by their places.
fn limits_of(arrival: &Arrival) -> impl Iterator<Item = usize> + use<> {
    let limits = arrival.limits;
    (0..u32::BITS as usize).filter(move |limit| limits >> limit & 1 == 1)
}
