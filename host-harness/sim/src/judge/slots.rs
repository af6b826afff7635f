//! Concurrency limits: no more requests are in flight than there are slots.
//!
//! A slot is known to be taken from the decision on a request to the response of its upstream, but not longer than a
//! lease after the request arrived: a worker that cannot renew its leases loses its slots.

use weir_filter::units::Micros;

use super::{Admission, Broken, Case, Guarantee};
use crate::plan::limits::Window;

pub(super) fn broken(case: &Case<'_>) -> Option<Broken> {
    for (&(limit, key), admissions) in &case.admissions {
        let plan = &case.plan.config.limits[limit];
        let place = plan.windows.iter().position(Window::is_concurrency);
        let Some(place) = place.filter(|_| !plan.is_shadow) else { continue };
        let max = case.numbers(limit, place, key).iter().map(Window::max).max().unwrap_or_default();
        let Window::Concurrency { lease, .. } = plan.windows[place] else { continue };
        // Without faults, workers renew all leases.
        let lease = if case.plan.faults.is_empty() { Micros::from_secs(86_400) } else { lease };
        if let Some((held, records)) = most_held(case, admissions, lease, max) {
            let detail =
                format!("limit {} of key k{key}: {held} requests in flight, expected at most {max}", plan.name);
            return Some(Broken { guarantee: Guarantee::NeverOverAdmits, detail, records });
        }
    }
    None
}

/// Requests that hold slots at one time, if there are more than `max`.
fn most_held(case: &Case<'_>, all: &[Admission], lease: Micros, max: u64) -> Option<(u64, Vec<usize>)> {
    all.iter().find_map(|last| {
        let at = last.decided;
        let holds = |other: &&Admission| {
            // The drift of Redis' clock shortens a lease.
            let until = other.over.min(other.began.plus(Micros(lease.0 - lease.0 / 1_000)));
            other.decided <= at && until > at && !is_forgotten(case, other.began, at)
        };
        let held: Vec<usize> = all.iter().filter(holds).map(|admission| admission.record).collect();
        (held.len() as u64 > max).then_some((held.len() as u64, held))
    })
}

/// Whether Redis may have lost a slot that was taken at `from`: by a loss of its data, or by a step of its clock.
fn is_forgotten(case: &Case<'_>, from: Micros, until: Micros) -> bool {
    case.losses(from, until) > 0 || case.history.steps.iter().any(|(at, _)| *at >= from && *at <= until)
}
