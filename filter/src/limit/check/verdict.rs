//! Verdict of Redis on one request, over all limits that apply.

use alloc::vec::Vec;

use crate::limit::algorithm::Grant;
use crate::units::{Micros, Tokens};

/// Outcome of one bucket for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The limit's index in the configuration.
    pub limit: usize,
    /// The window's index within the limit.
    pub window: usize,
    /// Tokens that the request spends, or would have spent.
    pub cost: Tokens,
    /// Most tokens or slots that the bucket holds: the limit in response headers. 0 where the limit blocks every
    /// request.
    pub capacity: Tokens,
    /// Time to which the capacity applies: a window's length, or a token bucket's time to fill. `None` for requests in
    /// flight.
    pub period: Option<Micros>,
    /// Whether this bucket alone admits the request.
    pub admitted: bool,
    /// Whether the limit is enforced. In shadow mode it is decided and counted, but never denies, and no client sees
    /// it.
    pub enforced: bool,
    /// Whether the cost was spent. False for a request that is denied or costs nothing, and for a limit in shadow mode
    /// that would have denied.
    pub spent: bool,
    /// Whole tokens left, rounded down: after the request where it was admitted, and without the grant.
    pub remaining: Tokens,
    /// Time until the cost would be admitted, if no other request spends. Zero where it is admitted; `None` where
    /// waiting cannot help.
    pub retry_after: Option<Micros>,
    /// Time until the bucket is full, if no request spends.
    pub reset: Micros,
    /// Time for which the request is held before it goes on, where this bucket admits it.
    pub delay: Micros,
    /// Tokens that the worker was leased: with any request that goes on, even at no cost. The worker has them, whatever
    /// becomes of the request.
    pub granted: Option<Grant>,
    /// Part of the used tokens that other open requests have reserved, and may not come to cost. 0 where none reserves.
    pub held: Tokens,
}

impl Outcome {
    /// Longest retry-after of a denial where only open requests are in the way: they may end at any time.
    pub(in crate::limit) const SOON: Micros = Micros::from_secs(1);

    /// Whether only what open requests have reserved is in the way of a denied request: what is spent is not.
    #[must_use]
    pub fn is_only_reserved(&self) -> bool {
        !self.admitted && self.held.0 > 0 && self.retry_after == Some(Self::SOON)
    }

    /// The outcome after what the request spent has been given back.
    #[must_use]
    pub fn given_back(&self) -> Self {
        let remaining = if self.spent { self.remaining.0.saturating_add(self.cost.0) } else { self.remaining.0 };
        Self { spent: false, remaining: Tokens(remaining.min(self.capacity.0)), delay: Micros::ZERO, ..*self }
    }
}

/// Verdict of all limits on a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Whether every enforced limit admits the request. If a limit denies it, the request spends from no bucket.
    pub admitted: bool,
    /// Time of the verdict by Redis' clock: Unix time.
    pub now: Micros,
    /// Outcomes of all buckets of the limits that apply, in the order of the configuration.
    pub outcomes: Vec<Outcome>,
    /// Whether the worker has decided by its shares, without Redis.
    pub is_local: bool,
}

impl Verdict {
    /// Outcomes of enforced limits.
    pub fn enforced(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(|outcome| outcome.enforced)
    }

    /// Adds the outcome of a bucket that was decided apart, in the order of the configuration.
    #[inline(never)]
    pub fn add(&mut self, outcome: Outcome) {
        let order = |outcome: &Outcome| (outcome.limit, outcome.window);
        let place = self.outcomes.partition_point(|other| order(other) < order(&outcome));
        self.outcomes.insert(place, outcome);
    }

    /// Time for which an admitted request is held before it goes on. Its tokens are reserved already.
    #[must_use]
    pub fn delay(&self) -> Micros {
        let longest = self.enforced().map(|outcome| outcome.delay).max().unwrap_or(Micros::ZERO);
        if self.admitted { longest } else { Micros::ZERO }
    }

    /// Outcome for the client: the denial with the longest retry-after, else the outcome with the least remaining; the
    /// first of equals. `None` where no enforced limit applies.
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

    pub(super) fn admits(limit: usize, remaining: u64) -> Outcome {
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
            held: Tokens(0),
        }
    }

    fn denies(limit: usize, retry_after: Option<Micros>) -> Outcome {
        Outcome { admitted: false, retry_after, ..admits(limit, 0) }
    }

    fn verdict(outcomes: &[Outcome]) -> Verdict {
        let admitted = outcomes.iter().all(|outcome| outcome.admitted || !outcome.enforced);
        Verdict { admitted, outcomes: outcomes.to_vec(), ..Verdict::default() }
    }

    fn strictest(outcomes: &[Outcome]) -> Option<usize> {
        verdict(outcomes).strictest().map(|outcome| outcome.limit)
    }

    #[test]
    fn a_request_is_held_for_the_longest_delay_of_its_enforced_limits() {
        let held = |limit, millis| Outcome { delay: Micros::from_millis(millis), ..admits(limit, 0) };
        let shadow = Outcome { enforced: false, ..held(2, 9) };
        assert_eq!(verdict(&[held(0, 2), held(1, 3), shadow]).delay(), Micros::from_millis(3));
        assert_eq!(verdict(&[held(0, 2), denies(1, None)]).delay(), Micros::ZERO);
        assert_eq!(verdict(&[]).delay(), Micros::ZERO);
    }

    #[test]
    fn the_strictest_of_admitting_limits_has_the_least_remaining() {
        assert_eq!(strictest(&[admits(0, 9), admits(1, 3), admits(2, 3)]), Some(1));
    }

    #[test]
    fn the_strictest_of_denying_limits_has_the_longest_wait() {
        let (short, long) = (Some(Micros::from_secs(1)), Some(Micros::from_secs(9)));
        assert_eq!(strictest(&[admits(0, 0), denies(1, short), denies(2, long), denies(3, long)]), Some(2));
        assert_eq!(strictest(&[denies(0, long), denies(1, None)]), Some(1));
    }

    #[test]
    fn a_limit_in_shadow_mode_is_never_the_strictest() {
        let shadow = Outcome { enforced: false, ..denies(0, None) };
        assert_eq!(strictest(&[shadow, admits(1, 5)]), Some(1));
        assert_eq!(strictest(&[shadow]), None);
        assert_eq!(strictest(&[]), None);
    }
}
