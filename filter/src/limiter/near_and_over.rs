//! Requests near a limit, and marks of requests beyond a limit.

use alloc::sync::Arc;

use super::effect::Effect;
use super::{Limiter, RequestId};
use crate::limit::{Limit, Verdict};

impl Limiter {
    /// Counts the limits that an admitted request is near, and returns the index of the first.
    #[inline(never)]
    pub(super) fn count_near(&mut self, verdict: &Verdict) -> Option<usize> {
        let mut first = None;
        for windows in verdict.outcomes.chunk_by(|one, other| one.limit == other.limit) {
            let limit = windows.first().map_or(0, |outcome| outcome.limit);
            let near_limit = self.config.limits.get(limit).and_then(|limit| limit.near_limit);
            // A request beyond another window of the limit is beyond the limit.
            if let Some(near_limit) = near_limit
                && windows.iter().all(|outcome| outcome.admitted)
                && windows.iter().any(|outcome| near_limit.is_near(outcome))
            {
                self.counters.near(limit);
                first = first.or(Some(limit));
            }
        }
        first
    }

    /// Marks a request for the limits that it is beyond.
    #[inline(never)]
    pub(super) fn mark_all(&mut self, request: RequestId, verdict: &Verdict) {
        for outcome in verdict.outcomes.iter().filter(|outcome| !outcome.admitted) {
            self.mark(request, outcome.limit);
        }
    }

    /// Marks a request that is beyond a limit, if the limit marks requests.
    pub(super) fn mark(&mut self, request: RequestId, limit: usize) {
        if let Some(mark) = self.config.limits.get(limit).and_then(Limit::mark_in_force) {
            self.effects.push_back(Effect::Mark(request, Arc::clone(mark)));
        }
    }
}
