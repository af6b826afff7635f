//! Examinations: requests with fresh keys, of which the result is known.

use super::{Broken, Case, Guarantee};
use crate::history::{End, Record};
use crate::plan::exam::Exam;

pub(super) fn broken(case: &Case<'_>) -> Option<Broken> {
    case.plan.exams.iter().enumerate().find_map(|(exam, kind)| {
        let of = |step| Step::of(case, exam, step);
        match *kind {
            Exam::Fresh { limit, requests, least } => fresh(case, limit, requests, least, &of(0)),
            Exam::AllOrNothing { denies, other, first, second, last } => {
                let steps = [of(0), of(1), of(2)];
                let is_whole = steps.iter().zip([first, second, last]).all(|(step, number)| step.asked == number);
                let spare = last.saturating_sub(steps[1].admitted);
                if !is_whole || steps[2].admitted >= spare {
                    return None;
                }
                let name = |limit: usize| &case.plan.config.limits[limit].name;
                let detail = format!(
                    "limit {} denied {} requests, and limit {} then admitted {} of {last}, expected at least {spare}",
                    name(denies),
                    steps[1].asked - steps[1].admitted,
                    name(other),
                    steps[2].admitted,
                );
                let records = steps.into_iter().flat_map(|step| step.records).collect();
                Some(Broken { guarantee: Guarantee::AllOrNothing, detail, records })
            }
        }
    })
}

fn fresh(case: &Case<'_>, limit: usize, requests: usize, least: usize, step: &Step) -> Option<Broken> {
    (step.asked == requests && step.admitted < least).then(|| {
        let name = &case.plan.config.limits[limit].name;
        let detail =
            format!("limit {name} admitted {} of {requests} requests of a fresh key, expected {least}", step.admitted);
        Broken { guarantee: Guarantee::Convergence, detail, records: step.records.clone() }
    })
}

/// Requests of a step of an examination that have an end.
struct Step {
    asked: usize,
    admitted: usize,
    records: Vec<usize>,
}

impl Step {
    fn of(case: &Case<'_>, exam: usize, step: usize) -> Self {
        let is_own = |record: &Record| case.plan.requests[record.request].exam == Some((exam, step));
        let own: Vec<(usize, &Record)> =
            case.history.records.iter().enumerate().filter(|(_, record)| is_own(record)).collect();
        let admitted = own.iter().filter(|(_, record)| matches!(record.end, End::Admitted { .. })).count();
        Self { asked: own.len(), admitted, records: own.into_iter().map(|(place, _)| place).collect() }
    }
}
