//! What Redis decided about one request, over all the limits that applied to it.

use super::token_bucket::TokenBucket;
use crate::units::{Micros, Tokens};

/// What one limit says about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Which limit: its index in the configuration, where its name and capacity are found.
    pub limit: usize,
    /// The bucket in force: the configured one, or the one that overrides it.
    pub bucket: TokenBucket,
    /// What the request spends, or would have spent.
    pub cost: Tokens,
    /// Whether this limit alone admits the request.
    pub admitted: bool,
    /// Whether its word counts. Not in shadow mode: decided, counted, never enforced or told.
    pub enforced: bool,
    /// Whole tokens left, after the request where it was admitted. Rounded down.
    pub remaining: Tokens,
    /// Time until the cost would be admitted, if nobody else spends. Zero where it is admitted; `None` where
    /// waiting cannot help.
    pub retry_after: Option<Micros>,
    /// Time until the bucket is full, if nobody spends.
    pub reset: Micros,
}

/// What all limits together say about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether every enforced limit admits the request. Where one does not, none was spent from.
    pub admitted: bool,
    /// What each limit that applied says, in the order of the configuration.
    pub outcomes: Vec<Outcome>,
}

impl Verdict {
    /// The outcomes whose word counts.
    pub fn enforced(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(|outcome| outcome.enforced)
    }

    /// The outcome that a client should heed: of the limits that deny the one to wait for longest, else the one
    /// with the least remaining; the first of equals. `None` where no enforced limit applied.
    #[must_use]
    pub fn strictest(&self) -> Option<&Outcome> {
        let wait = |outcome: &Outcome| std::cmp::Reverse(outcome.retry_after.unwrap_or(Micros(u64::MAX)));
        let denying = self.enforced().filter(|outcome| !outcome.admitted).min_by_key(|outcome| wait(outcome));
        denying.or_else(|| self.enforced().min_by_key(|outcome| outcome.remaining))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    fn admits(limit: usize, remaining: u64) -> Outcome {
        let ten = NonZeroU64::new(10).unwrap();
        Outcome {
            limit,
            bucket: TokenBucket::new(ten, ten, Micros::from_secs(1)).unwrap(),
            cost: Tokens(1),
            admitted: true,
            enforced: true,
            remaining: Tokens(remaining),
            retry_after: Some(Micros::ZERO),
            reset: Micros::from_secs(1),
        }
    }

    fn denies(limit: usize, retry_after: Option<Micros>) -> Outcome {
        Outcome { admitted: false, retry_after, ..admits(limit, 0) }
    }

    fn strictest(outcomes: &[Outcome]) -> Option<usize> {
        let admitted = outcomes.iter().all(|outcome| outcome.admitted || !outcome.enforced);
        Verdict { admitted, outcomes: outcomes.to_vec() }.strictest().map(|outcome| outcome.limit)
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
