//! Waits, what is held at the end, and recovery.

use weir_filter::units::Micros;

use super::{Broken, Case, Guarantee};
use crate::history::{End, Record};
use crate::plan::RECOVERY;
use crate::plan::faults::Kind;

/// Two ticks, by which a request may be decided after its timeout.
const TICKS: Micros = Micros::from_millis(20);

/// Time within which a worker that decides by its shares does not ask Redis again.
const SOON: Micros = Micros::from_millis(40);

/// Time within which a worker repairs its connection, once it has used it.
const REPAIR: Micros = Micros::from_secs(3);

pub(super) fn endless(case: &Case<'_>) -> Option<Broken> {
    let history = case.history;
    if history.is_endless {
        return Some(Broken::new(Guarantee::NoPanic, format!("{} events, and no end of them", history.events)));
    }
    let surprise = history.surprises.first().map(|text| (Guarantee::NoPanic, text));
    let difference = history.differences.first().map(|text| (Guarantee::Specification, text));
    surprise.or(difference).map(|(guarantee, text)| Broken::new(guarantee, text.clone()))
}

pub(super) fn broken(case: &Case<'_>) -> Option<Broken> {
    early(case)
        .or_else(|| waits(case))
        .or_else(|| waits_without_redis(case))
        .or_else(|| held(case))
        .or_else(|| recovery(case))
}

/// Requests that were held for less time than their tokens take.
fn early(case: &Case<'_>) -> Option<Broken> {
    let (place, record, delay) = case.history.records.iter().enumerate().find_map(|(place, record)| {
        let End::Admitted { delay, .. } = record.end else { return None };
        (record.wait() < delay).then_some((place, record, delay))
    })?;
    let detail = format!("a request was held for {} us, and its tokens existed after {} us", record.wait().0, delay.0);
    Some(Broken { guarantee: Guarantee::NeverOverAdmits, detail, records: vec![place] })
}

fn waits(case: &Case<'_>) -> Option<Broken> {
    let plan = case.plan;
    let longest = plan.config.limits.iter().map(|limit| limit.max_delay).max().unwrap_or_default();
    let timeout =
        plan.config.timeout.max(if plan.has(Kind::Configuration) { plan.varied.timeout } else { Micros::ZERO });
    let (place, record, most) = case.history.records.iter().enumerate().find_map(|(place, record)| {
        let decides = !matches!(record.end, End::Lost);
        let most = timeout.plus(TICKS).plus(allowance(record, timeout)).plus(delay(record, longest));
        (decides && record.wait() > most).then_some((place, record, most))
    })?;
    let detail = format!("a request waited for {} us, expected at most {} us", record.wait().0, most.0);
    Some(Broken { guarantee: Guarantee::BoundedWait, detail, records: vec![place] })
}

/// Requests that waited at a worker that decides by its shares: it had just admitted another by its share.
fn waits_without_redis(case: &Case<'_>) -> Option<Broken> {
    let records = &case.history.records;
    let place = |record: &Record| case.plan.requests[record.request].place;
    let mut by_shares: Vec<(usize, &Record)> = records
        .iter()
        .enumerate()
        .filter(|(_, record)| record.is_by_shares && record.stalled == Micros::ZERO)
        .collect();
    by_shares.sort_by_key(|(_, record)| (place(record), record.began));
    let (nth, record) = by_shares.windows(2).find_map(|pair| {
        let [(_, before), (nth, record)] = pair else { return None };
        let is_lost = place(before) == place(record) && matches!(before.end, End::Admitted { redis: None, .. });
        let is_soon = before.decided <= record.began && record.began < before.decided.plus(SOON);
        (is_lost && is_soon && record.wait() > Micros::ZERO).then_some((*nth, *record))
    })?;
    let detail = format!("a request waited for {} us at a worker without Redis, expected no wait", record.wait().0);
    Some(Broken { guarantee: Guarantee::BoundedWait, detail, records: vec![nth] })
}

/// Time for which a request was held until its tokens existed.
fn delay(record: &Record, longest: Micros) -> Micros {
    match record.end {
        End::Admitted { delay, .. } => delay.min(longest),
        _ => Micros::ZERO,
    }
}

/// Longer waits at a worker whose thread stood still: it is late itself, and then gives connections and scripts more
/// time.
fn allowance(record: &Record, timeout: Micros) -> Micros {
    if record.stalled == Micros::ZERO { Micros::ZERO } else { record.stalled.plus(timeout.times(3)) }
}

fn held(case: &Case<'_>) -> Option<Broken> {
    let history = case.history;
    if history.in_flight > 0 {
        let detail = format!("{} requests have no answer at the end", history.in_flight);
        return Some(Broken::new(Guarantee::NothingHeld, detail));
    }
    if history.slots > 0 {
        let detail = format!("{} slots of concurrency limits are taken at the end, of no request", history.slots);
        return Some(Broken::new(Guarantee::NothingHeld, detail));
    }
    None
}

/// Requests that Redis did not decide, although their worker has had the time to recover: it had asked Redis since the
/// faults. A worker that asks for the first time may learn only then that its master has been replaced.
fn recovery(case: &Case<'_>) -> Option<Broken> {
    let (since, from) = (case.plan.faults_end(), case.plan.faults_end().plus(RECOVERY));
    let place = |record: &Record| case.plan.requests[record.request].place;
    let has_asked = |at: usize| {
        let asked = |record: &&Record| {
            record.is_by_shares || matches!(record.end, End::Failed { .. } | End::Admitted { redis: Some(_), .. })
        };
        let early = |record: &&Record| record.began >= since && record.began.plus(REPAIR) <= from;
        case.history.records.iter().filter(|record| place(record) == at).filter(early).any(|record| asked(&record))
    };
    let (nth, record, cause) = case.history.records.iter().enumerate().find_map(|(nth, record)| match &record.end {
        End::Failed { cause, .. } if record.began >= from && has_asked(place(record)) => {
            Some((nth, record, cause.as_str()))
        }
        _ if record.is_by_shares && record.began >= from && has_asked(place(record)) => {
            Some((nth, record, "decided by a share"))
        }
        _ => None,
    })?;
    let after = record.began.minus(since).0 / 1_000;
    let detail = format!("Redis did not decide a request {after} ms after the last fault: {cause}");
    Some(Broken { guarantee: Guarantee::Convergence, detail, records: vec![nth] })
}
