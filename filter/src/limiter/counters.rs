//! Counters and their names. Increments accumulate here until the plugin passes them to the proxy.

use alloc::string::String;
use alloc::vec::Vec;

use crate::config::Config;
use crate::limit::{Charged, FailureMode, Limit, Outcome, Verdict};
use crate::redis::Failure;

/// Results counted per request, in the order of their counters.
const REQUEST_RESULTS: [RequestResult; 7] = [
    RequestResult::Admitted,
    RequestResult::Denied,
    RequestResult::Failed,
    RequestResult::FailedOpen,
    RequestResult::FailedClosed,
    RequestResult::Rejected,
    RequestResult::Delayed,
];
/// Results counted per limit, in the order of their counters.
const LIMIT_RESULTS: [RequestResult; 6] = [
    RequestResult::Admitted,
    RequestResult::Denied,
    RequestResult::Failed,
    RequestResult::ShadowDenied,
    RequestResult::Marked,
    RequestResult::Near,
];

/// Further counters, after those above, with their names; in the order of their variants.
const OTHERS: [&str; 9] = [
    "crowd.denied",
    "deny_cache.hits",
    "leases.hits",
    "overrides.ignored",
    "events.dropped",
    "body.unreadable",
    "local.admitted",
    "local.denied",
    "heal.buckets",
];

/// Counters of limits that charge what responses cost, after all others, with their names; in the order of their
/// variants.
const USAGES: [&str; 9] = [
    "usage.settled",
    "usage.missing",
    "usage.disconnected",
    "usage.encoded",
    "usage.malformed",
    "usage.overrun",
    "usage.late",
    "usage.dropped",
    "usage.unknown_model",
];

/// A counter of limits that charge: its index in [`USAGES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UsageCounter {
    /// Requests whose estimates were settled.
    Settled,
    /// Whole responses without usage.
    Missing,
    /// Responses that were cut off.
    Disconnected,
    /// Responses that are compressed or of a type that is not read.
    Encoded,
    /// Malformed events.
    Malformed,
    /// Requests that have cost more than their estimate.
    Overrun,
    /// Requests whose settlement came after their estimate was given up.
    Late,
    /// Settlements that were dropped.
    Dropped,
    /// Requests that were rejected for a model without a price.
    UnknownModel,
}

/// Counters of one worker: increments since they were last taken, for a fixed list of names.
#[derive(Debug)]
pub struct Counters {
    gained: Vec<u64>,
    is_dirty: bool,
    /// Whether each limit marks requests.
    marks: Vec<bool>,
    has_near_limits: bool,
    has_marks: bool,
    /// Indexes of the limits that charge. Each has a counter of amounts.
    charging: Vec<usize>,
    /// Number of the counters of limits that charge: none if no limit does.
    usages: usize,
}

/// Result of a request, or of a request at one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RequestResult {
    Admitted,
    Denied,
    /// Redis has not decided the request.
    Failed,
    /// Failed, and admitted by the failure mode.
    FailedOpen,
    /// Failed, and denied by the failure mode.
    FailedClosed,
    ShadowDenied,
    /// Beyond the limit, and passed on with a mark.
    Marked,
    /// Admitted, with little of the limit left.
    Near,
    /// Rejected as malformed.
    Rejected,
    /// Admitted, and held until its tokens exist.
    Delayed,
}

/// A counter that is neither a result nor a cause of failure: its index in [`OTHERS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OtherCounter {
    CrowdDenied,
    DenyCacheHits,
    LeaseHits,
    OverridesIgnored,
    EventsDropped,
    BodyUnreadable,
    LocalAdmitted,
    LocalDenied,
    HealBuckets,
}

impl RequestResult {
    const fn name(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Denied => "denied",
            Self::Failed => "failed",
            Self::FailedOpen => "failed_open",
            Self::FailedClosed => "failed_closed",
            Self::ShadowDenied => "shadow_denied",
            Self::Marked => "marked",
            Self::Near => "near",
            Self::Rejected => "rejected",
            Self::Delayed => "delayed",
        }
    }
}

impl Counters {
    /// Creates all counters of `config`, at zero.
    #[must_use]
    #[inline(never)]
    pub fn new(config: &Config) -> Self {
        let marks = config.limits.iter().map(|limit| limit.mark_in_force().is_some()).collect();
        let has_near_limits = config.limits.iter().any(|limit| limit.near_limit.is_some());
        let has_marks = config.limits.iter().any(|limit| limit.mark_in_force().is_some());
        let charging = (0..config.limits.len()).filter(|limit| amount_name(&config.limits, *limit).is_some()).collect();
        let (gained, usages) = (vec![0; Self::names(config).len()], usages(config).len());
        Self { gained, is_dirty: false, marks, has_near_limits, has_marks, charging, usages }
    }

    /// The counters' names, in the order of [`take`](Self::take): `{stat_prefix}.requests.{result}`,
    /// `{stat_prefix}.redis.{cause}`, `{stat_prefix}.limit.{name}.{result}`, of limits that charge
    /// `{stat_prefix}.limit.{name}.tokens` or `.cost_nano_usd`, then `{stat_prefix}.crowd.denied`,
    /// `{stat_prefix}.deny_cache.hits`, `{stat_prefix}.leases.hits`, `{stat_prefix}.overrides.ignored`,
    /// `{stat_prefix}.events.dropped`, `{stat_prefix}.body.unreadable`, `{stat_prefix}.local.admitted`,
    /// `{stat_prefix}.local.denied` and `{stat_prefix}.heal.buckets`; and those of limits that charge, such as `{stat_prefix}.usage.settled`.
    #[must_use]
    pub fn names(config: &Config) -> Vec<String> {
        let prefix = &config.stat_prefix;
        let requests = REQUEST_RESULTS.iter().map(|result| format!("{prefix}.requests.{}", result.name()));
        let causes = Failure::ALL.iter().map(|cause| format!("{prefix}.redis.{}", cause.name()));
        let limits = config.limits.iter().flat_map(|limit| {
            LIMIT_RESULTS.iter().map(move |result| format!("{prefix}.limit.{}.{}", limit.name, result.name()))
        });
        let amounts = config.limits.iter().enumerate().filter_map(|(index, limit)| {
            amount_name(&config.limits, index).map(|amount| format!("{prefix}.limit.{}.{amount}", limit.name))
        });
        let others = OTHERS.iter().chain(usages(config)).map(|name| format!("{prefix}.{name}"));
        requests.chain(causes).chain(limits).chain(amounts).chain(others).collect()
    }

    /// Counts a decided request, for itself and for each of its limits.
    pub fn decided(&mut self, verdict: &Verdict) {
        self.gain(REQUEST_RESULTS, 0, if verdict.admitted { RequestResult::Admitted } else { RequestResult::Denied });
        for windows in verdict.outcomes.chunk_by(|one, other| one.limit == other.limit) {
            let Some(Outcome { limit, enforced, .. }) = windows.first() else { continue };
            match (windows.iter().all(|outcome| outcome.admitted), enforced) {
                (true, _) if verdict.admitted => self.limit(*limit, RequestResult::Admitted),
                // Another limit denied the request: this limit's bucket was not spent from.
                (true, _) => {}
                (false, true) => self.limit(*limit, RequestResult::Denied),
                (false, false) => self.passed(*limit),
            }
        }
    }

    /// Counts a request that is beyond a limit which does not deny: in shadow mode, or with a mark.
    pub fn passed(&mut self, limit: usize) {
        let is_marked = self.marks.get(limit).is_some_and(|marks| *marks);
        self.limit(limit, if is_marked { RequestResult::Marked } else { RequestResult::ShadowDenied });
    }

    /// Whether any limit marks requests.
    #[must_use]
    #[inline]
    pub fn has_marks(&self) -> bool {
        self.has_marks
    }

    /// Whether any limit counts requests near it.
    #[must_use]
    #[inline]
    pub fn has_near_limits(&self) -> bool {
        self.has_near_limits
    }

    /// Counts an admitted request after which little of a limit is left.
    pub fn near(&mut self, limit: usize) {
        self.limit(limit, RequestResult::Near);
    }

    /// Counts an admitted request that is delayed.
    pub fn delayed(&mut self) {
        self.gain(REQUEST_RESULTS, 0, RequestResult::Delayed);
    }

    /// Counts a request rejected as malformed.
    pub fn rejected(&mut self) {
        self.gain(REQUEST_RESULTS, 0, RequestResult::Rejected);
    }

    /// Counts a request that Redis did not decide, and that the failure mode decided by `mode`. `limits` are the limits
    /// of its buckets, in their order.
    pub fn failed(&mut self, cause: Failure, mode: FailureMode, limits: impl Iterator<Item = usize>) {
        self.gain(REQUEST_RESULTS, 0, RequestResult::Failed);
        let decided = match mode {
            FailureMode::Allow => RequestResult::FailedOpen,
            FailureMode::Deny | FailureMode::Local => RequestResult::FailedClosed,
        };
        self.gain(REQUEST_RESULTS, 0, decided);
        self.gain(Failure::ALL, REQUEST_RESULTS.len(), cause);
        let mut last = None;
        for limit in limits.filter(|limit| last.replace(*limit) != Some(*limit)) {
            self.limit(limit, RequestResult::Failed);
        }
    }

    /// Counts a request that the worker has decided by its shares, and the cause for which Redis has not, in addition to
    /// [`decided`](Self::decided).
    pub fn decided_locally(&mut self, cause: Option<Failure>, admitted: bool) {
        self.other(if admitted { OtherCounter::LocalAdmitted } else { OtherCounter::LocalDenied }, 1);
        if let Some(cause) = cause {
            self.gain(Failure::ALL, REQUEST_RESULTS.len(), cause);
        }
    }

    /// Counts a request denied from the deny cache, in addition to [`decided`](Self::decided).
    pub fn deny_cache_hit(&mut self) {
        self.other(OtherCounter::DenyCacheHits, 1);
    }

    /// Counts a request denied because of the undecided checks of its key, in addition to [`decided`](Self::decided).
    pub fn crowd_denied(&mut self) {
        self.other(OtherCounter::CrowdDenied, 1);
    }

    /// Counts a limit that spent from a lease, without Redis.
    pub fn lease_hit(&mut self) {
        self.other(OtherCounter::LeaseHits, 1);
    }

    /// Counts an override ignored because it is malformed or exceeds the maximum number.
    pub fn override_ignored(&mut self) {
        self.other(OtherCounter::OverridesIgnored, 1);
    }

    /// Counts a request whose body a limit reads but could not read.
    pub fn body_unreadable(&mut self) {
        self.other(OtherCounter::BodyUnreadable, 1);
    }

    /// Counts dropped events.
    pub fn events_dropped(&mut self, dropped: u64) {
        self.other(OtherCounter::EventsDropped, dropped);
    }

    /// Counts buckets that Redis had lost, and that have been healed.
    pub fn healed(&mut self, buckets: usize) {
        self.other(OtherCounter::HealBuckets, u64::try_from(buckets).unwrap_or(u64::MAX));
    }

    /// Counts for limits that charge.
    pub(super) fn usage(&mut self, which: UsageCounter, more: u64) {
        let from_end = self.usages.checked_sub(which as usize);
        self.gain_at(from_end.and_then(|from_end| self.gained.len().checked_sub(from_end)), more);
    }

    /// Counts the amount that a request has cost a limit.
    #[inline(never)]
    pub(super) fn charged(&mut self, limit: usize, amount: u64) {
        let nth = self.charging.iter().position(|charging| *charging == limit);
        let behind = OTHERS.len().saturating_add(self.usages);
        let index = nth.and_then(|nth| {
            let from_end = behind.saturating_add(self.charging.len()).saturating_sub(nth);
            self.gained.len().checked_sub(from_end)
        });
        self.gain_at(index, amount);
    }

    /// Whether any counter has increased since they were last taken.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.is_dirty
    }

    /// Takes the increments, each with its index in [`names`](Self::names), and resets them to zero.
    pub fn take(&mut self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.is_dirty = false;
        self.gained.iter_mut().map(core::mem::take).enumerate().filter(|&(_, gained)| gained > 0)
    }

    fn limit(&mut self, limit: usize, result: RequestResult) {
        let limits = REQUEST_RESULTS.len().saturating_add(Failure::ALL.len());
        self.gain(LIMIT_RESULTS, limits.saturating_add(limit.saturating_mul(LIMIT_RESULTS.len())), result);
    }

    fn other(&mut self, which: OtherCounter, more: u64) {
        let from_end = OTHERS.len().saturating_add(self.usages).saturating_sub(which as usize);
        self.gain_at(self.gained.len().checked_sub(from_end), more);
    }

    fn gain<T: PartialEq, const N: usize>(&mut self, group: [T; N], first: usize, which: T) {
        let index = group.iter().position(|known| *known == which).map(|index| first.saturating_add(index));
        self.gain_at(index, 1);
    }

    fn gain_at(&mut self, index: Option<usize>, more: u64) {
        if let Some(gained) = index.and_then(|index| self.gained.get_mut(index)).filter(|_| more > 0) {
            *gained = gained.saturating_add(more);
            self.is_dirty = true;
        }
    }
}

/// Name of the counter of amounts of the limit with an index. `None` where it charges nothing.
fn amount_name(limits: &[Limit], index: usize) -> Option<&'static str> {
    let charge = limits.get(index)?.charge.as_ref()?;
    Some(if charge.of == Charged::Cost { "cost_nano_usd" } else { "tokens" })
}

/// Counters of limits that charge, if any limit does.
fn usages(config: &Config) -> &'static [&'static str] {
    if config.usage.is_some() { &USAGES } else { &[] }
}

#[cfg(test)]
mod tests;
