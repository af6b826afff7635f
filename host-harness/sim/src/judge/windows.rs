//! The first guarantee: no bucket admits more in any window than its algorithm promises.
//!
//! A loss of Redis' data gives every bucket its whole capacity once more, and no more than that. Where leases are out,
//! it does so for as long as they last; and where requests are held, it forgets the tokens that are reserved for them.

use weir_filter::units::Micros;

use super::{Admission, Broken, Case, Guarantee};
use crate::plan::limits::Window;

/// Rates are exact to 0.01 %: the tokens of 10,000 more flow in as 10,001.
const EXACT_TO: u128 = 10_000;
/// Microseconds by which the times of a span are rounded.
const ROUNDED: u64 = 3;

/// Time by which a worker's estimate of Redis' clock is late, at most.
const LATE: Micros = Micros::from_millis(5);

/// Most that a kind of window admits.
#[derive(Debug, Clone, Copy)]
enum Promise {
    /// A capacity, and tokens that flow in per µs.
    Bucket { capacity: u64, tokens: u64, interval: Micros },
    /// A number in any window of this length.
    AnyWindow { max: u64, window: Micros },
    /// A number in each window since 1970.
    EachWindow { max: u64, window: Micros },
}

pub(super) fn broken(case: &Case<'_>) -> Option<Broken> {
    for (&(limit, key), admissions) in &case.admissions {
        let plan = &case.plan.config.limits[limit];
        if plan.is_shadow {
            continue;
        }
        for window in 0..plan.windows.len() {
            let Some(promise) = Promise::of(&case.numbers(limit, window, key)) else { continue };
            let found = match promise {
                Promise::EachWindow { max, window } => each_window(case, admissions, max, window),
                Promise::AnyWindow { max, window } => any_window(case, admissions, max, window),
                Promise::Bucket { capacity, tokens, interval } => {
                    // Leases that were out at a loss, or when the clock was set, are spent later.
                    let ttl = plan.lease.map_or(Micros::ZERO, |(_, ttl)| ttl.times(2).plus(Micros::from_millis(1)));
                    let spared = Spared { ttl, delay: plan.max_delay };
                    bucket(case, admissions, capacity, (tokens, interval), spared)
                }
            };
            if let Some((detail, records)) = found {
                let detail = format!("limit {} of key k{key}: {detail}", plan.name);
                return Some(Broken { guarantee: Guarantee::NeverOverAdmits, detail, records });
            }
        }
    }
    None
}

/// Tokens that buckets admitted beyond their promises, whatever Redis has lost.
pub(super) fn beyond_promises(case: &Case<'_>) -> u64 {
    let mut beyond = 0;
    for (&(limit, key), admissions) in &case.admissions {
        let plan = &case.plan.config.limits[limit];
        let windows = (0..plan.windows.len()).filter(|_| !plan.is_shadow);
        let promises = windows.filter_map(|window| Promise::of(&case.numbers(limit, window, key)));
        beyond += promises.map(|promise| promise.exceeded(admissions)).max().unwrap_or(0);
    }
    beyond
}

impl Promise {
    /// Tokens that a bucket admitted beyond the promise, in its worst window.
    fn exceeded(self, all: &[Admission]) -> u64 {
        let most = |start: &Admission| {
            let from = start.forward.0;
            let sum_until = |until: Micros| -> u64 {
                all.iter().filter(|it| it.forward.0 >= from && it.forward.1 <= until).map(|it| it.cost).sum()
            };
            match self {
                Self::Bucket { capacity, tokens, interval } => {
                    let beyond = |end: &Admission| {
                        let span = end.forward.1.minus(from).plus(Micros(ROUNDED));
                        let flow = u128::from(span.0) * u128::from(tokens) / u128::from(interval.0);
                        sum_until(end.forward.1).saturating_sub(capacity + flow as u64)
                    };
                    all.iter().filter(|end| end.forward.1 >= from).map(beyond).max().unwrap_or(0)
                }
                Self::AnyWindow { max, window } => {
                    sum_until(from.plus(window).minus(Micros(ROUNDED + 1))).saturating_sub(max)
                }
                Self::EachWindow { max, window } => {
                    let place = |it: &Admission| it.redis.map(|at| at.0 / window.0);
                    let same = all.iter().filter(|it| it.redis.is_some() && place(it) == place(start));
                    same.map(|it| it.cost).sum::<u64>().saturating_sub(max)
                }
            }
        };
        all.iter().map(most).max().unwrap_or(0)
    }

    /// The loosest of all numbers in force.
    fn of(numbers: &[Window]) -> Option<Self> {
        let max = numbers.iter().map(Window::max).max()?;
        Some(match *numbers.first()? {
            Window::TokenBucket { interval, .. } => {
                let tokens = numbers.iter().map(|window| match window {
                    Window::TokenBucket { tokens, .. } => *tokens,
                    _ => 0,
                });
                Self::Bucket { capacity: max, tokens: tokens.max()?, interval }
            }
            Window::Log { window, .. } => Self::AnyWindow { max, window },
            Window::Sliding { window, .. } | Window::Fixed { window, .. } | Window::Quota { window, .. } => {
                Self::EachWindow { max, window }
            }
            Window::Concurrency { .. } => return None,
        })
    }
}

type Found = Option<(String, Vec<usize>)>;

fn records<'a>(admissions: impl Iterator<Item = &'a Admission>) -> Vec<usize> {
    admissions.map(|admission| admission.record).collect()
}

/// Tokens of a bucket that workers hold when Redis loses its data.
#[derive(Debug, Clone, Copy)]
struct Spared {
    /// Time for which leases last.
    ttl: Micros,
    /// Time for which requests are held for tokens that Redis no longer knows to be reserved.
    delay: Micros,
}

/// Checks every span of a token bucket that begins and ends with an admission.
fn bucket(case: &Case<'_>, all: &[Admission], capacity: u64, rate: (u64, Micros), spared: Spared) -> Found {
    let ttl = spared.ttl;
    let mut by_end: Vec<&Admission> = all.iter().collect();
    by_end.sort_by_key(|admission| admission.forward.1);
    let (tokens, interval) = rate;
    for (nth, start) in all.iter().enumerate() {
        let from = start.forward.0;
        if nth > 0 && all[nth - 1].forward.0 == from {
            continue;
        }
        let (mut sum, mut began) = (0, Micros(u64::MAX));
        for end in by_end.iter().filter(|admission| admission.forward.0 >= from) {
            sum += end.cost;
            began = began.min(end.began);
            if sum <= capacity {
                continue;
            }
            let resets = case.losses(began.minus(ttl), end.decided)
                + if ttl > Micros::ZERO {
                    case.history.steps.iter().filter(|(at, _)| *at >= began.minus(ttl) && *at <= end.decided).count()
                        as u64
                } else {
                    0
                };
            let span = end.forward.1.minus(from).plus(Micros(ROUNDED));
            let filled = u128::from(span.plus(spared.delay.times(resets)).0);
            let flow = filled * u128::from(tokens) * (EXACT_TO + 1) / EXACT_TO / u128::from(interval.0);
            let most = u128::from(capacity) * u128::from(1 + resets) + flow;
            if u128::from(sum) > most {
                let of = by_end.iter().filter(|other| other.forward.0 >= from && other.forward.1 <= end.forward.1);
                let detail = format!(
                    "{sum} tokens admitted within {} us, expected at most {most}: {capacity} and {tokens} per {} ms{}",
                    span.0,
                    interval.0 / 1_000,
                    resets_text(resets)
                );
                return Some((detail, records(of.copied())));
            }
        }
    }
    None
}

/// Checks every window of an exact sliding window.
fn any_window(case: &Case<'_>, all: &[Admission], max: u64, window: Micros) -> Found {
    for start in all {
        let within = |other: &&Admission| {
            other.forward.0 >= start.forward.0 && other.forward.1.plus(Micros(ROUNDED)) < start.forward.0.plus(window)
        };
        let inside: Vec<&Admission> = all.iter().filter(within).collect();
        if let Some(found) = too_many(case, &inside, max, "a window", false) {
            return Some(found);
        }
    }
    None
}

/// Checks each aligned window, by Redis' clock.
fn each_window(case: &Case<'_>, all: &[Admission], max: u64, window: Micros) -> Found {
    let place = |admission: &Admission| {
        // A worker estimates Redis' clock, and may be late for the turn of a window.
        let estimated = || case.plan.unix.plus(admission.forward.0);
        let is_clear = |at: &Micros| at.0 % window.0 >= LATE.0.min(window.0 / 2);
        let is_local = case.plan.config.local.is_some();
        let at = admission.redis.or_else(|| Some(estimated()).filter(|at| is_local && is_clear(at)));
        at.map(|at| at.0 / window.0)
    };
    let mut places: Vec<u64> = all.iter().filter_map(place).collect();
    places.sort_unstable();
    places.dedup();
    places.into_iter().find_map(|at| {
        let inside: Vec<&Admission> = all.iter().filter(|admission| place(admission) == Some(at)).collect();
        too_many(case, &inside, max, "one window", true)
    })
}

fn too_many(case: &Case<'_>, inside: &[&Admission], max: u64, what: &str, counts_steps: bool) -> Found {
    let sum: u64 = inside.iter().map(|admission| admission.cost).sum();
    if sum <= max {
        return None;
    }
    let from = inside.iter().map(|admission| admission.began).min()?;
    let until = inside.iter().map(|admission| admission.decided).max()?;
    let steps = if counts_steps { case.steps_back(from, until) } else { 0 };
    let resets = case.losses(from, until) + steps;
    let most = max * (1 + resets);
    (sum > most).then(|| {
        let detail = format!("{sum} admitted in {what}, expected at most {most}{}", resets_text(resets));
        (detail, records(inside.iter().copied()))
    })
}

fn resets_text(resets: u64) -> String {
    if resets == 0 { String::new() } else { format!(", with {resets} losses of data") }
}
