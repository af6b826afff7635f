//! Bucket of one key in a worker's memory, while Redis cannot be asked: a [`Share`] of the limit.
//!
//! What Redis' bucket held when Redis was lost is not known for certain: other workers may have spent it. A local bucket
//! therefore counts as used up at that time, and admits what flows in, or becomes free, from then on: its share of the
//! rate, or of each later window. So all workers together never admit more than the limit, over the outage and after it.

use alloc::vec::Vec;

use super::algorithm::{Algorithm, BucketDecision, Level, Span, TokenBucket, Units};
use super::check::{BucketCheck, Outcome};
use super::share::Share;
use crate::units::{Micros, Tokens};

/// Parts of a window in which all spends are counted together: a sliding window has at most two more counts than parts.
const PARTS: u64 = 16;
/// Retry-after of a denial that waiting in memory cannot help: Redis may be back by then.
const SOON: Micros = Micros::from_secs(1);

/// Bucket in a worker's memory.
#[derive(Debug)]
pub struct LocalBucket {
    /// Algorithm by which Redis decides.
    whole: Algorithm,
    /// The worker's share of its limit.
    limit: u64,
    state: State,
    /// Tokens spent that Redis does not know of.
    spent: u64,
}

/// State of a bucket.
#[derive(Debug)]
enum State {
    /// The worker's share of a token bucket, and the units that it lacked of being full at a time. Its capacity is
    /// `rounded_off` units less than the share.
    Tokens { own: TokenBucket, at: Micros, lack: u64, rounded_off: u64 },
    /// Tokens spent from a window, each count with the time at which it leaves the window, the first one first.
    Counts(Vec<(Micros, u64)>),
}

impl LocalBucket {
    /// Creates a bucket that is used up at `since`: the time at which Redis was lost.
    #[must_use]
    #[inline(never)]
    pub fn used_up(whole: &Algorithm, share: Share, since: Micros) -> Self {
        let limit = share.of_tokens(whole.limit());
        let bucket = whole.token_bucket().and_then(|whole| Some((share.of_bucket(whole, limit)?, whole.max_delay())));
        let (limit, state) = match bucket {
            // Requests that are held have reserved the tokens of the time before.
            Some((own, delay)) => {
                let (lack, rounded_off) = (own.full().0, share.rounded_off(whole.limit(), own.rate().per_token()));
                (limit.0, State::Tokens { own, at: since.plus(delay), lack, rounded_off })
            }
            None => match span(whole, since) {
                Some(span) => (limit.0, State::Counts(vec![(span.end, limit.0)])),
                None => (0, State::Counts(Vec::new())),
            },
        };
        Self { whole: *whole, limit, state, spent: 0 }
    }

    /// Whether this is the bucket of `whole`. Another override, or another share, makes another bucket.
    #[must_use]
    pub fn is_of(&self, whole: &Algorithm) -> bool {
        self.whole.numbers() == whole.numbers() && self.whole.kind() == whole.kind()
    }

    /// Whether the worker's share admits a request of `cost` tokens.
    pub fn admits(&mut self, now: Micros, cost: Tokens) -> bool {
        self.decide(now, cost).admits
    }

    /// The outcome for a request that all buckets admit, if it `goes_on`, or that one denies.
    #[inline(never)]
    pub fn outcome(&mut self, now: Micros, check: &BucketCheck, goes_on: bool) -> Outcome {
        let mut outcome = check.outcome(&self.decide(now, check.cost), goes_on);
        if !outcome.admitted {
            // Waiting cannot help where even the whole limit is too small.
            let wait = outcome.retry_after.unwrap_or(SOON);
            outcome.retry_after = (check.cost <= self.whole.limit()).then_some(wait);
        }
        outcome
    }

    #[inline(never)]
    fn decide(&mut self, now: Micros, cost: Tokens) -> BucketDecision {
        self.look(now);
        let counts = match &self.state {
            State::Tokens { own, lack, .. } => return own.decide(Units(*lack), cost),
            State::Counts(counts) => counts,
        };
        let Some(span) = span(&self.whole, now) else { return BucketDecision::NOTHING };
        let used = sum(counts);
        let mut excess = used.saturating_add(cost.0).saturating_sub(self.limit);
        let admits = excess == 0 && self.limit > 0;
        let (mut retry_after, mut reset) = (Micros::ZERO, Micros::ZERO);
        for (leaves, count) in counts {
            reset = leaves.minus(now);
            if excess > 0 {
                retry_after = reset;
            }
            excess = excess.saturating_sub(*count);
        }
        let level = |used: u64, reset| Level { remaining: Tokens(self.limit.saturating_sub(used)), reset };
        BucketDecision {
            capacity: Tokens(self.limit),
            period: Some(span.end.minus(span.start)),
            admits,
            retry_after: (excess == 0 && self.limit > 0).then_some(retry_after),
            delay: Micros::ZERO,
            before: level(used, reset),
            after: level(used.saturating_add(cost.0), if cost.0 > 0 { span.end.minus(now) } else { reset }),
            granted: None,
            held: Tokens(0),
        }
    }

    /// Notes the time: tokens flow in, and counts leave the window.
    fn look(&mut self, now: Micros) {
        match &mut self.state {
            State::Tokens { own, at, lack, .. } => {
                *lack = lack.saturating_sub(now.minus(*at).0.saturating_mul(own.rate().per_micro()));
                *at = now.max(*at);
            }
            State::Counts(counts) => counts.retain(|(leaves, _)| *leaves > now),
        }
    }

    /// Spends `cost`.
    pub fn spend(&mut self, now: Micros, cost: Tokens) {
        self.spent = self.spent.saturating_add(cost.0);
        self.take(now, cost);
    }

    fn take(&mut self, now: Micros, cost: Tokens) {
        match &mut self.state {
            State::Tokens { own, lack, .. } => *lack = lack.saturating_add(own.price(cost).0),
            State::Counts(counts) => {
                let Some(span) = span(&self.whole, now) else { return };
                // Spends of one part leave with the last of them.
                let part_of = |leaves: Micros| leaves.0.checked_div((span.end.minus(span.start).0 / PARTS).max(1));
                match counts.last_mut().filter(|(leaves, _)| part_of(*leaves) == part_of(span.end)) {
                    Some(last) => *last = (span.end, last.1.saturating_add(cost.0)),
                    None => counts.push((span.end, cost.0)),
                }
            }
        }
    }

    /// Takes the check that tells Redis what the worker has spent, if anything: its cost are the tokens that Redis'
    /// bucket lacks for it. `margin` is the longest time since Redis is back.
    ///
    /// Redis' bucket has filled during the outage as if nothing was spent. If it lacks, in addition, what the shares
    /// lack, it lacks at least what it would have lacked if it had decided all requests itself. A share lacks more than
    /// its local bucket, whose capacity is whole tokens: otherwise Redis' bucket would have up to a token per worker that
    /// no local bucket had. Since Redis is back, its bucket fills at the whole rate for all workers, and also for those
    /// that are not back yet: that is what the margin is for.
    #[must_use]
    #[inline(never)]
    pub fn take_spent(&mut self, now: Micros, margin: Micros, key: &[u8]) -> Option<BucketCheck> {
        let spent = core::mem::take(&mut self.spent);
        self.look(now);
        let used = match &self.state {
            State::Tokens { own, lack, rounded_off, .. } => {
                let flow = margin.0.saturating_mul(own.rate().per_micro());
                lack.saturating_add(*rounded_off).saturating_add(flow).div_ceil(own.rate().per_token().max(1))
            }
            State::Counts(counts) => sum(counts),
        };
        let cost = Tokens(spent.min(used).min(self.whole.limit().0));
        let algorithm = self.whole.token_bucket().map_or(self.whole, |bucket| Algorithm::TokenBucket(*bucket));
        let (limit, window, key) = (0, 0, key.to_vec());
        (cost.0 > 0).then_some(BucketCheck { limit, window, key, algorithm, cost, enforced: true, applied: None })
    }

    /// Tokens spent that Redis does not know of.
    #[must_use]
    pub fn spent(&self) -> Tokens {
        Tokens(self.spent)
    }

    /// Notes tokens that Redis does not know of after all.
    pub fn put_back(&mut self, spent: Tokens) {
        self.spent = self.spent.saturating_add(spent.0);
    }
}

/// Time from `now`, or from before it, until what is spent now leaves the window. `None` for an algorithm without windows.
fn span(algorithm: &Algorithm, now: Micros) -> Option<Span> {
    let window = match algorithm {
        Algorithm::FixedWindow(fixed) => return Some(fixed.span(now)),
        Algorithm::Quota(quota) => return Some(quota.span(now)),
        Algorithm::SlidingWindow(sliding) => sliding.window(),
        Algorithm::SlidingLog(log) => log.window(),
        _ => return None,
    };
    Some(Span { start: now, end: now.plus(window) })
}

fn sum(counts: &[(Micros, u64)]) -> u64 {
    counts.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests;
