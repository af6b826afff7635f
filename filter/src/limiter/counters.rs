//! What is counted, under which name. Increments gather here until the plugin hands them to the proxy.

use alloc::string::String;
use alloc::vec::Vec;

use crate::config::Config;
use crate::limit::{Outcome, Verdict};
use crate::redis::Failure;

/// The fates that requests are counted by, in the order of their counters.
const OF_REQUESTS: [Fate; 5] = [Fate::Admitted, Fate::Denied, Fate::Failed, Fate::Rejected, Fate::Delayed];
/// The fates that each limit counts, in the order of its counters.
const OF_LIMITS: [Fate; 4] = [Fate::Admitted, Fate::Denied, Fate::Failed, Fate::ShadowDenied];

/// Counters beside those, the last ones, with their names.
const OTHERS: [(Other, &str); 6] = [
    (Other::CrowdDenied, "crowd.denied"),
    (Other::DenyCacheHits, "deny_cache.hits"),
    (Other::LeaseHits, "leases.hits"),
    (Other::OverridesIgnored, "overrides.ignored"),
    (Other::EventsDropped, "events.dropped"),
    (Other::BodyUnreadable, "body.unreadable"),
];

/// Counters of one worker: a fixed list of names, and what each has gained since it was last taken.
#[derive(Debug)]
pub struct Counters {
    gained: Vec<u64>,
    is_dirty: bool,
}

/// What became of a request, or of a request at one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Admitted,
    Denied,
    Failed,
    ShadowDenied,
    /// For being malformed.
    Rejected,
    /// Admitted, and held until its tokens existed.
    Delayed,
}

/// A counter that is neither a request's fate nor a failure's cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Other {
    CrowdDenied,
    DenyCacheHits,
    LeaseHits,
    OverridesIgnored,
    EventsDropped,
    BodyUnreadable,
}

impl Fate {
    const fn name(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Denied => "denied",
            Self::Failed => "failed",
            Self::ShadowDenied => "shadow_denied",
            Self::Rejected => "rejected",
            Self::Delayed => "delayed",
        }
    }
}

impl Counters {
    /// All counters of `config`, at zero.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self { gained: vec![0; Self::names(config).len()], is_dirty: false }
    }

    /// The counters' names, in the order of [`take`](Self::take): `{stat_prefix}.requests.{fate}`,
    /// `{stat_prefix}.redis.{cause}`, `{stat_prefix}.limit.{name}.{fate}`, then `{stat_prefix}.crowd.denied`,
    /// `{stat_prefix}.deny_cache.hits`, `{stat_prefix}.leases.hits`, `{stat_prefix}.overrides.ignored`,
    /// `{stat_prefix}.events.dropped` and `{stat_prefix}.body.unreadable`.
    #[must_use]
    pub fn names(config: &Config) -> Vec<String> {
        let prefix = &config.stat_prefix;
        let requests = OF_REQUESTS.iter().map(|fate| format!("{prefix}.requests.{}", fate.name()));
        let causes = Failure::ALL.iter().map(|cause| format!("{prefix}.redis.{}", cause.name()));
        let limits = config.limits.iter().flat_map(|limit| {
            OF_LIMITS.iter().map(move |fate| format!("{prefix}.limit.{}.{}", limit.name, fate.name()))
        });
        let others = OTHERS.iter().map(|(_, name)| format!("{prefix}.{name}"));
        requests.chain(causes).chain(limits).chain(others).collect()
    }

    /// A request was decided.
    pub fn decided(&mut self, verdict: &Verdict) {
        self.gain(OF_REQUESTS, 0, if verdict.admitted { Fate::Admitted } else { Fate::Denied });
        for windows in verdict.outcomes.chunk_by(|one, other| one.limit == other.limit) {
            let Some(Outcome { limit, enforced, .. }) = windows.first() else { continue };
            match (windows.iter().all(|outcome| outcome.admitted), enforced) {
                (true, _) if verdict.admitted => self.limit(*limit, Fate::Admitted),
                // Another limit denied the request: this one was not spent from.
                (true, _) => {}
                (false, true) => self.limit(*limit, Fate::Denied),
                (false, false) => self.limit(*limit, Fate::ShadowDenied),
            }
        }
    }

    /// A limit in shadow mode denies every request, and so this one.
    pub fn shadow_denied(&mut self, limit: usize) {
        self.limit(limit, Fate::ShadowDenied);
    }

    /// A request that was admitted is to be held.
    pub fn delayed(&mut self) {
        self.gain(OF_REQUESTS, 0, Fate::Delayed);
    }

    /// A request was malformed, where a limit was to read it.
    pub fn rejected(&mut self) {
        self.gain(OF_REQUESTS, 0, Fate::Rejected);
    }

    /// A request could not be decided, for want of Redis. `limits` are those of its buckets, in their order.
    pub fn failed(&mut self, cause: Failure, limits: impl Iterator<Item = usize>) {
        self.gain(OF_REQUESTS, 0, Fate::Failed);
        self.gain(Failure::ALL, OF_REQUESTS.len(), cause);
        let mut last = None;
        for limit in limits.filter(|limit| last.replace(*limit) != Some(*limit)) {
            self.limit(limit, Fate::Failed);
        }
    }

    /// A request was denied from memory, which [`decided`](Self::decided) counts as well.
    pub fn recalled(&mut self) {
        self.other(Other::DenyCacheHits, 1);
    }

    /// A request was denied for the many of its key that are undecided, which [`decided`](Self::decided) counts as well.
    pub fn crowded(&mut self) {
        self.other(Other::CrowdDenied, 1);
    }

    /// A limit admitted a request from what a worker had leased.
    pub fn leased(&mut self) {
        self.other(Other::LeaseHits, 1);
    }

    /// An override was malformed, or one too many.
    pub fn override_ignored(&mut self) {
        self.other(Other::OverridesIgnored, 1);
    }

    /// A request's body, which a limit reads, could not be read.
    pub fn body_unreadable(&mut self) {
        self.other(Other::BodyUnreadable, 1);
    }

    /// So many events were dropped.
    pub fn events_dropped(&mut self, dropped: u64) {
        self.other(Other::EventsDropped, dropped);
    }

    /// Whether any counter has gained since they were last taken.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.is_dirty
    }

    /// Hands out what each counter has gained, by its place in [`names`](Self::names), and starts over.
    pub fn take(&mut self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.is_dirty = false;
        self.gained.iter_mut().map(core::mem::take).enumerate().filter(|&(_, gained)| gained > 0)
    }

    fn limit(&mut self, limit: usize, fate: Fate) {
        let limits = OF_REQUESTS.len().saturating_add(Failure::ALL.len());
        self.gain(OF_LIMITS, limits.saturating_add(limit.saturating_mul(OF_LIMITS.len())), fate);
    }

    fn other(&mut self, which: Other, more: u64) {
        let from_end = OTHERS.iter().rev().position(|(known, _)| *known == which);
        let place = from_end.and_then(|place| self.gained.len().checked_sub(place.saturating_add(1)));
        self.gain_at(place, more);
    }

    fn gain<T: PartialEq, const N: usize>(&mut self, group: [T; N], first: usize, which: T) {
        let place = group.iter().position(|known| *known == which).map(|place| first.saturating_add(place));
        self.gain_at(place, 1);
    }

    fn gain_at(&mut self, place: Option<usize>, more: u64) {
        if let Some(gained) = place.and_then(|place| self.gained.get_mut(place)).filter(|_| more > 0) {
            *gained = gained.saturating_add(more);
            self.is_dirty = true;
        }
    }
}
