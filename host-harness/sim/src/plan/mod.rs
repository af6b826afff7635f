//! Plan of a simulation: configurations, requests and faults, all drawn from the seed before it starts.
//!
//! | time | requests | faults |
//! |---|---|---|
//! | until 24 s before the end | crowds, bursts and quiet | yes |
//! | 10 s more | few | none: the fleet recovers |
//! | 4 s more | few, and Redis must decide each | none |
//! | 10 s more | examinations with fresh keys, then none | none |

pub(crate) mod exam;
pub(crate) mod faults;
pub(crate) mod limits;
mod load;
pub(crate) mod overrides;

use weir_filter::units::Micros;

use self::exam::Exam;
use self::faults::{Fault, Kind};
use self::limits::ConfigPlan;
use crate::dice::Dice;

/// Size of simulations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Simulated time: at least [`Size::LEAST_SECONDS`].
    pub seconds: u64,
    /// Proxies, at least 1.
    pub proxies: usize,
    /// Workers of each proxy, at least 1.
    pub workers: usize,
}

impl Size {
    /// Shortest simulation: six seconds with faults.
    pub const LEAST_SECONDS: u64 = 30;

    /// Workers of all proxies.
    #[must_use]
    pub fn places(&self) -> usize {
        self.proxies * self.workers
    }
}

impl Default for Size {
    fn default() -> Self {
        Self { seconds: 60, proxies: 8, workers: 4 }
    }
}

/// Time from the end of the faults until Redis decides every request.
pub(crate) const RECOVERY: Micros = Micros::from_secs(10);
/// Time from the end of the faults until the last of the load.
const LIGHT: Micros = Micros::from_secs(14);
/// Time from the end of the faults until the examinations.
const EXAMS: Micros = Micros::from_secs(15);
/// Time from the end of the faults to the end of the simulation.
const AFTER_FAULTS: Micros = Micros::from_secs(24);

/// Time before the first outage of a plan with nothing but outages.
const WARM_UP: Micros = Micros::from_secs(2);

/// Longest time between two reads of overrides, where a limit has one: shorter than the recovery.
const SHORT_REFRESH: Micros = Micros::from_secs(5);

/// Purposes of random choices.
mod purpose {
    pub(super) const CONFIG: u64 = 1;
    pub(super) const LOAD: u64 = 2;
    pub(super) const FAULTS: u64 = 3;
    pub(super) const OUTAGES: u64 = 4;
    pub(super) const LOSSES: u64 = 5;
}

/// Request of a plan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// Time since the start.
    pub(crate) at: Micros,
    /// Place of the worker.
    pub(crate) place: usize,
    pub(crate) key: u32,
    /// Bits of the limits that apply.
    pub(crate) limits: u32,
    pub(crate) cost: u64,
    /// Time of the upstream.
    pub(crate) takes: Micros,
    /// Examination and step of it, if any.
    pub(crate) exam: Option<(usize, usize)>,
}

/// Everything that happens to a fleet, but what its workers make of it.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) size: Size,
    /// Redis' clock at the start, since 1970.
    pub(crate) unix: Micros,
    pub(crate) config: ConfigPlan,
    /// Configuration of proxies during faults of [`Kind::Configuration`].
    pub(crate) varied: ConfigPlan,
    pub(crate) faults: Vec<Fault>,
    pub(crate) requests: Vec<Arrival>,
    pub(crate) exams: Vec<Exam>,
    /// Usual time of a message between a proxy and Redis.
    pub(crate) latency: Micros,
    /// Time that Redis takes for a script, in nanoseconds.
    pub(crate) script_nanos: u64,
}

impl Plan {
    /// Draws the plan of a seed.
    pub(crate) fn new(seed: u64, size: Size) -> Self {
        let mut dice = Dice::new(seed, purpose::CONFIG);
        let mut config = ConfigPlan::random(&mut dice);
        let faults = faults(seed, size);
        if faults.iter().any(|fault| fault.kind == Kind::LimitOverride) {
            config.refresh = config.refresh.min(SHORT_REFRESH);
        }
        let varied = config.varied(&mut dice);
        // Near a boundary of minutes, hours and days in half of the cases.
        let midnight = 1_800_000_000 / 86_400 * 86_400;
        let secs = midnight + dice.within(0..=400) * 86_400;
        let unix =
            Micros::from_secs(if dice.chance(50) { secs - dice.within(1..=50) } else { secs + dice.below(86_400) })
                .plus(Micros(dice.below(1_000_000)));
        // Time enough for a connection, a handshake, and a script that is sent twice.
        let latency = Micros(dice.pick(&[20, 100, 300, 1_000]).min(config.timeout.0 / 50));
        let end = faults_end(size);
        let mut load = Dice::new(seed, purpose::LOAD);
        let mut requests = load::crowds(&config, end, size, &mut load);
        requests.extend(load::few(&config, end, end.plus(LIGHT), size, &mut load));
        let (exams, more) = exam::exams(&config, end.plus(EXAMS), size, &mut load);
        requests.extend(more);
        requests.sort_by_key(|request| request.at);
        Self { seed, size, unix, config, varied, faults, requests, exams, latency, script_nanos: 0 }
    }

    /// Draws the plan of a seed with `failure_mode: local`, whose only faults are outages of Redis: it restarts, or
    /// stands still. Each worker has a request before them. Half of the plans have a worker that is idle in an outage,
    /// and has requests right after it.
    pub(crate) fn of_outages(seed: u64, size: Size) -> Self {
        let mut plan = Self::new(seed, size);
        let mut dice = Dice::new(seed, purpose::OUTAGES);
        plan.config.local = Some(if dice.chance(50) { size.places() } else { 0 });
        plan.config.is_callout = false;
        plan.varied = plan.config.clone();
        let end = faults_end(size);
        let outage = |dice: &mut Dice| {
            let kind = if dice.chance(30) { Kind::Frozen } else { Kind::Restart };
            let fault = Fault::random(kind, end.minus(WARM_UP), size.proxies, size.workers, dice);
            Fault { percent: 100, from: fault.from.plus(WARM_UP), until: fault.until.plus(WARM_UP), ..fault }
        };
        plan.faults = (0..dice.within(1..=4)).map(|_| outage(&mut dice)).collect();
        plan.faults.sort_by_key(|fault| fault.from);
        plan.requests.extend(load::one_each(&plan.config, WARM_UP, size, &mut dice));
        if dice.chance(50) {
            let (idle, outage) = (dice.place(size.places()), dice.pick(&plan.faults));
            plan.requests.retain(|it| it.place != idle || !(WARM_UP..outage.until).contains(&it.at));
            plan.requests.extend(load::around(&plan.config, outage.until, idle, size, &mut dice));
        }
        plan.requests.sort_by_key(|request| request.at);
        plan
    }

    /// Draws the plan of a seed whose only faults are losses of Redis' data. `heals` is whether workers heal them.
    pub(crate) fn of_losses(seed: u64, size: Size, heals: bool) -> Self {
        let mut plan = Self::new(seed, size);
        let mut dice = Dice::new(seed, purpose::LOSSES);
        plan.config.heals = heals;
        plan.config.is_callout = false;
        plan.config.limits.iter_mut().for_each(|limit| limit.lease = None);
        plan.varied = plan.config.clone();
        let end = faults_end(size);
        let loss = |dice: &mut Dice| {
            let kind = dice.pick(&[Kind::FlushAll, Kind::RestartEmpty, Kind::StaleFailover]);
            Fault { percent: 100, ..Fault::random(kind, end, size.proxies, size.workers, dice) }
        };
        plan.faults = (0..dice.within(1..=4)).map(|_| loss(&mut dice)).collect();
        plan.faults.sort_by_key(|fault| fault.from);
        plan
    }

    /// End of all faults.
    pub(crate) fn faults_end(&self) -> Micros {
        faults_end(self.size)
    }

    pub(crate) fn end(&self) -> Micros {
        Micros::from_secs(self.size.seconds)
    }

    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.faults.iter().any(|fault| fault.kind == kind)
    }
}

fn faults_end(size: Size) -> Micros {
    Micros::from_secs(size.seconds.max(Size::LEAST_SECONDS)).minus(AFTER_FAULTS)
}

fn faults(seed: u64, size: Size) -> Vec<Fault> {
    let mut dice = Dice::new(seed, purpose::FAULTS);
    let number = if dice.chance(10) { 0 } else { dice.within(1..=10) };
    let end = faults_end(size);
    let mut faults: Vec<Fault> = (0..number)
        .map(|_| {
            let kind = dice.pick(Kind::ALL);
            Fault::random(kind, end, size.proxies, size.workers, &mut dice)
        })
        .collect();
    faults.sort_by_key(|fault| fault.from);
    faults
}
