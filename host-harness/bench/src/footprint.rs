//! Footprint of subjects: memory with many keys, start-up time; also the round trip of Redis without a proxy.

use std::time::Duration;

use super::{
    BenchError,
    plan::{Plan, Point, Setting, Sweep},
    round,
    spread::Spread,
    stage::Stage,
    subject::Subject,
};

/// Number of starts per proxy.
const STARTS: u32 = 5;
/// Numbers of keys after which the memory of a subject is measured. Subjects that keep nothing per key do not need a
/// million.
const MEMORY: [(Subject, &[u32]); 4] = [
    (Subject::NoOp, &[10_000]),
    (Subject::Weir, &[10_000, 1_000_000]),
    (Subject::NoOpDeny, &[10_000]),
    (Subject::WeirDenied, &[10_000, 1_000_000]),
];

/// Number of workers of a second proxy, from which the memory per worker is computed.
const WORKERS: u32 = 5;

/// Memory and start-up; empty if they were not measured.
#[derive(Debug, Clone, Default)]
pub(super) struct Footprint {
    pub(super) memory: Vec<Memory>,
    /// Memory of each worker after the first, in MiB, with 10,000 keys.
    pub(super) per_worker: Vec<(Subject, f64)>,
    /// Time from a proxy's start until its workers accept connections, in milliseconds.
    pub(super) start_up: Vec<(Subject, Spread)>,
    /// Round trip of one script call to Redis, in milliseconds.
    pub(super) redis_round_trip: Option<Spread>,
}

/// A proxy's memory in MiB, after requests with `keys` different keys.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Memory {
    pub(super) subject: Subject,
    pub(super) keys: u64,
    /// Resident memory.
    pub(super) resident: f64,
    /// The part of it that is free in the proxy's allocator; compiling a larger module leaves more free. `None` if the
    /// proxy does not report it.
    pub(super) unused: Option<f64>,
}

/// Measures the footprint. Starts proxies one after the other, which takes some minutes.
///
/// # Errors
/// If a proxy does not start, or a response does not have the expected status.
pub(super) fn measure(stage: &mut Stage) -> Result<Footprint, BenchError> {
    stage.clear()?;
    let mut footprint = Footprint { redis_round_trip: stage.redis_round_trip()?, ..Footprint::default() };
    let plan = Plan { fresh_keys: true, ..Plan::of(&[], &[], 1, Duration::ZERO) };
    for (subject, numbers) in MEMORY {
        stage.clear()?;
        for keys in numbers {
            // Long enough to send every key twice at 20,000 requests per second.
            let plan = Plan { measure: Duration::from_millis(1000 + u64::from(keys / 10)), ..plan.clone() };
            let point = Point { subject, setting: Setting { keys: *keys, ..Setting::new(16) } };
            let round = round::measure(stage, &plan, Sweep::Keys, point, 1)?;
            // Keys are sent in order: if there were fewer requests than keys, the proxy has seen one key per request.
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
