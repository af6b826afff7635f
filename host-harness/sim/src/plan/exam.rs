//! Examinations after the recovery: requests with fresh keys, of which the exact result is known.

use weir_filter::units::Micros;

use super::limits::{ConfigPlan, LimitPlan};
use super::{Arrival, Size};
use crate::dice::Dice;

/// Time between two steps of an examination.
const STEP: Micros = Micros::from_millis(400);
/// Time of the upstream: longer than an examination, so that slots stay taken.
const TAKES: Micros = Micros::from_millis(1_700);
/// Largest limit that is examined.
const MOST: u64 = 60;
/// Keys of examinations, above all others.
const FIRST_KEY: u32 = 1_000_000;

/// Examination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exam {
    /// A fresh key admits `least` requests of `requests` at once.
    Fresh {
        /// Place of the limit.
        limit: usize,
        requests: usize,
        least: usize,
    },
    /// Requests that a spent limit denies spend nothing from another: of the last step's `last` requests, all are
    /// admitted, less those of the second step.
    AllOrNothing {
        /// Places of the limit that denies, and of the other one.
        denies: usize,
        other: usize,
        first: usize,
        second: usize,
        last: usize,
    },
}

/// Returns the examinations of a configuration from `from` on, with their requests.
pub(super) fn exams(config: &ConfigPlan, from: Micros, size: Size, dice: &mut Dice) -> (Vec<Exam>, Vec<Arrival>) {
    let (mut exams, mut requests) = (Vec::new(), Vec::new());
    let mut ask = |exam: usize, step: usize, limits: u32, number: usize, dice: &mut Dice| {
        for _ in 0..number {
            let at = from.plus(STEP.times(step as u64)).plus(Micros(dice.below(2_000)));
            let (place, key) = (dice.place(size.places()), FIRST_KEY + exam as u32);
            requests.push(Arrival { at, place, key, limits, cost: 1, takes: TAKES, exam: Some((exam, step)) });
        }
    };
    let limits = || config.limits.iter().enumerate().filter(|(_, limit)| !limit.is_shadow && most(limit) <= MOST);
    for (place, limit) in limits() {
        let least = if limit.lease.is_some() { 1 } else { most(limit) as usize };
        let number = most(limit) as usize + 5;
        ask(exams.len(), 0, 1 << place, number, dice);
        exams.push(Exam::Fresh { limit: place, requests: number, least });
    }
    for (denies, strict) in limits() {
        for (other, limit) in limits().filter(|(other, _)| *other != denies) {
            if limit.lease.is_some() || exams.len() > 8 {
                continue;
            }
            let [first, second, last] = [most(strict), most(limit).min(20), most(limit)].map(|n| n as usize);
            let both = 1 << denies | 1 << other;
            for (step, limits, number) in [(0, 1 << denies, first), (1, both, second), (2, 1 << other, last)] {
                ask(exams.len(), step, limits, number, dice);
            }
            exams.push(Exam::AllOrNothing { denies, other, first, second, last });
        }
    }
    (exams, requests)
}

/// The most that a limit admits at once, of an empty key.
fn most(limit: &LimitPlan) -> u64 {
    limit.windows.iter().map(|window| window.max()).min().unwrap_or_default()
}
