//! What a subject costs at rest: memory with many keys, and time to start. And what Redis alone takes.

use std::time::Duration;

use super::{
    BenchError,
    plan::{Plan, Point, Setting, Sweep},
    round,
    spread::Spread,
    stage::Stage,
    subject::Subject,
};

/// Starts of each proxy.
const STARTS: u32 = 5;
/// Where memory is looked at, after how many keys. Those who keep nothing per key need no million of them.
const MEMORY: [(Subject, &[u32]); 4] = [
    (Subject::NoOp, &[10_000]),
    (Subject::Weir, &[10_000, 1_000_000]),
    (Subject::NoOpDeny, &[10_000]),
    (Subject::WeirDenied, &[10_000, 1_000_000]),
];

/// Workers of a second proxy, which tells what each of them adds.
const WORKERS: u32 = 5;

/// Memory and start-up; empty where they were not measured.
#[derive(Debug, Clone, Default)]
pub(super) struct Footprint {
    pub(super) memory: Vec<Memory>,
    /// What each worker after the first adds to that, of 10,000 keys, in MiB.
    pub(super) per_worker: Vec<(Subject, f64)>,
    /// From a proxy's start to its workers accepting connections, in milliseconds.
    pub(super) start_up: Vec<(Subject, Spread)>,
    /// A script, there and back, in milliseconds.
    pub(super) redis_round_trip: Option<Spread>,
}

/// A proxy's memory after it has seen so many keys, in MiB.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Memory {
    pub(super) subject: Subject,
    pub(super) keys: u64,
    /// All that is in RAM.
    pub(super) resident: f64,
    /// What of that the proxy's allocator has and nobody uses. To compile a larger module leaves more of it. `None` where
    /// the proxy does not say.
    pub(super) unused: Option<f64>,
}

/// Proxies are started for it, one after the other; some minutes.
///
/// # Errors
/// Where one does not start, or answers otherwise than expected.
pub(super) fn measure(stage: &mut Stage) -> Result<Footprint, BenchError> {
    stage.clear()?;
    let mut footprint = Footprint { redis_round_trip: stage.redis_round_trip()?, ..Footprint::default() };
    let plan = Plan { fresh_keys: true, ..Plan::of(&[], &[], 1, Duration::ZERO) };
    for (subject, numbers) in MEMORY {
        stage.clear()?;
        for keys in numbers {
            // To see every key twice at 20,000 requests a second.
            let plan = Plan { measure: Duration::from_millis(1000 + u64::from(keys / 10)), ..plan.clone() };
            let point = Point { subject, setting: Setting { keys: *keys, ..Setting::new(16) } };
            let round = round::measure(stage, &plan, Sweep::Keys, point, 1)?;
            // Keys come in order: a machine that is too slow for all of them has seen as many as it answered.
            let seen = round.requests.min(u64::from(*keys));
            let unused = stage.standing(subject, point.setting)?.unused_mib();
            let resident = round.figure(round::Figure::ProxyMemory);
            footprint.memory.push(Memory { subject, keys: seen, resident, unused });
        }
    }
    for subject in [Subject::NoOp, Subject::Weir] {
        let mut resident = Vec::new();
        for workers in [1, WORKERS] {
            stage.clear()?;
            let setting = Setting { workers, keys: 10_000, ..Setting::new(64) };
            let plan = Plan { measure: Duration::from_secs(2), ..plan.clone() };
            let round = round::measure(stage, &plan, Sweep::Keys, Point { subject, setting }, 1)?;
            resident.push(round.figure(round::Figure::ProxyMemory));
        }
        if let [one, more] = resident[..] {
            footprint.per_worker.push((subject, (more - one) / f64::from(WORKERS - 1)));
        }
    }
    for subject in [Subject::NoFilter, Subject::NoOp, Subject::Weir] {
        let mut starts = Vec::new();
        for _ in 0..STARTS {
            stage.clear()?;
            starts.extend(stage.standing(subject, Setting::new(1))?.start_up_millis());
        }
        footprint.start_up.extend(Spread::of(starts).map(|spread| (subject, spread)));
    }
    stage.clear()?;
    Ok(footprint)
}
