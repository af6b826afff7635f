//! What Redis decided about one request, over all the limits that applied to it.

use alloc::vec::Vec;

use super::leased_bucket::Grant;
use crate::units::{Micros, Tokens};

/// What one bucket says about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Which limit: its index in the configuration, where its name is found.
    pub limit: usize,
    /// Which of the limit's windows: its place among them.
    pub window: usize,
    /// What the request spends, or would have spent.
    pub cost: Tokens,
    /// The most that the bucket holds: a limit's size, as headers tell it. 0 where the limit blocks every request.
    pub capacity: Tokens,
    /// In which time it holds that: of a token bucket the time to fill. `None` where it is no matter of time, as of
    /// requests in flight.
    pub period: Option<Micros>,
    /// Whether this bucket alone admits the request.
    pub admitted: bool,
    /// Whether its word counts. Not in shadow mode: decided, counted, never enforced or told.
    pub enforced: bool,
    /// Whether the cost was spent: not of a request that is denied, nor that costs nothing, nor by a shadow that
    /// would have denied.
    pub spent: bool,
    /// Whole tokens left, after the request where it was admitted, and without what was granted. Rounded down.
    pub remaining: Tokens,
    /// Time until the cost would be admitted, if nobody else spends. Zero where it is admitted; `None` where
    /// waiting cannot help.
    pub retry_after: Option<Micros>,
    /// Time until the bucket is full, if nobody spends.
    pub reset: Micros,
    /// How long the request is to be held before it goes on, where this bucket admits it.
    pub delay: Micros,
    /// What the worker took ahead, of a bucket that leases tokens: with any request that goes on, even where that
    /// costs nothing. It is out of Redis' hands, whatever becomes of the request.
    pub granted: Option<Grant>,
}

/// What all limits together say about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether every enforced limit admits the request. Where one does not, none was spent from.
    pub admitted: bool,
    /// When, by Redis' clock: Unix time.
    pub now: Micros,
    /// What each bucket of each limit that applied says, in the order of the configuration.
    pub outcomes: Vec<Outcome>,
}

impl Verdict {
    /// The outcomes whose word counts.
    pub fn enforced(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(|outcome| outcome.enforced)
    }

    /// How long an admitted request is to be held before it goes on. What it waits for is reserved already.
    #[must_use]
    pub fn delay(&self) -> Micros {
        let longest = self.enforced().map(|outcome| outcome.delay).max().unwrap_or(Micros::ZERO);
        if self.admitted { longest } else { Micros::ZERO }
    }

    /// The outcome that a client should heed: of the limits that deny the one to wait for longest, else the one
    /// with the least remaining; the first of equals. `None` where no enforced limit applied.
    #[must_use]
    pub fn strictest(&self) -> Option<&Outcome> {
        let wait = |outcome: &Outcome| core::cmp::Reverse(outcome.retry_after.unwrap_or(Micros(u64::MAX)));
        let denying = self.enforced().filter(|outcome| !outcome.admitted).min_by_key(|outcome| wait(outcome));
        denying.or_else(|| self.enforced().min_by_key(|outcome| outcome.remaining))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(limit: usize, remaining: u64) -> Outcome {
        Outcome {
            limit,
            window: 0,
            cost: Tokens(1),
            capacity: Tokens(10),
            period: Some(Micros::from_secs(10)),
            admitted: true,
            enforced: true,
            spent: true,
            remaining: Tokens(remaining),
            retry_after: Some(Micros::ZERO),
            reset: Micros::from_secs(1),
            delay: Micros::ZERO,
            granted: None,
        }
    }

    fn denies(limit: usize, retry_after: Option<Micros>) -> Outcome {
        Outcome { admitted: false, retry_after, ..admits(limit, 0) }
    }

    fn verdict(outcomes: &[Outcome]) -> Verdict {
        let admitted = outcomes.iter().all(|outcome| outcome.admitted || !outcome.enforced);
        Verdict { admitted, now: Micros::ZERO, outcomes: outcomes.to_vec() }
    }

    fn strictest(outcomes: &[Outcome]) -> Option<usize> {
        verdict(outcomes).strictest().map(|outcome| outcome.limit)
    }

    #[test]
    fn a_request_is_held_for_the_longest_delay_of_those_that_count() {
        let held = |limit, millis| Outcome { delay: Micros::from_millis(millis), ..admits(limit, 0) };
        let shadow = Outcome { enforced: false, ..held(2, 9) };
        assert_eq!(verdict(&[held(0, 2), held(1, 3), shadow]).delay(), Micros::from_millis(3));
        assert_eq!(verdict(&[held(0, 2), denies(1, None)]).delay(), Micros::ZERO);
        assert_eq!(verdict(&[]).delay(), Micros::ZERO);
    }

    #[test]
    fn among_admitting_limits_the_one_with_least_left_speaks() {
        assert_eq!(strictest(&[admits(0, 9), admits(1, 3), admits(2, 3)]), Some(1));
    }

    #[test]
    fn among_denying_limits_the_longest_wait_speaks() {
        let (short, long) = (Some(Micros::from_secs(1)), Some(Micros::from_secs(9)));
        assert_eq!(strictest(&[admits(0, 0), denies(1, short), denies(2, long), denies(3, long)]), Some(2));
        assert_eq!(strictest(&[denies(0, long), denies(1, None)]), Some(1));
    }

    #[test]
    fn a_shadow_never_speaks() {
        let shadow = Outcome { enforced: false, ..denies(0, None) };
        assert_eq!(strictest(&[shadow, admits(1, 5)]), Some(1));
        assert_eq!(strictest(&[shadow]), None);
        assert_eq!(strictest(&[]), None);
    }
}
