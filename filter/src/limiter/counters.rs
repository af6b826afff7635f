//! What is counted, under which name. Increments gather here until the plugin hands them to the proxy.

use crate::config::Config;
use crate::limit::Verdict;
use crate::redis::Failure;

/// The fates that requests are counted by, in the order of their counters.
const OF_REQUESTS: [Fate; 3] = [Fate::Admitted, Fate::Denied, Fate::Failed];
/// The fates that each limit counts, in the order of its counters.
const OF_LIMITS: [Fate; 4] = [Fate::Admitted, Fate::Denied, Fate::Failed, Fate::ShadowDenied];

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
}

impl Fate {
    const fn name(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Denied => "denied",
            Self::Failed => "failed",
            Self::ShadowDenied => "shadow_denied",
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
    /// `{stat_prefix}.redis.{cause}` and `{stat_prefix}.limit.{name}.{fate}`.
    #[must_use]
    pub fn names(config: &Config) -> Vec<String> {
        let prefix = &config.stat_prefix;
        let requests = OF_REQUESTS.iter().map(|fate| format!("{prefix}.requests.{}", fate.name()));
        let causes = Failure::ALL.iter().map(|cause| format!("{prefix}.redis.{}", cause.name()));
        let limits = config.limits.iter().flat_map(|limit| {
            OF_LIMITS.iter().map(move |fate| format!("{prefix}.limit.{}.{}", limit.name, fate.name()))
        });
        requests.chain(causes).chain(limits).collect()
    }

    /// A request was decided.
    pub fn decided(&mut self, verdict: &Verdict) {
        self.gain(OF_REQUESTS, 0, if verdict.admitted { Fate::Admitted } else { Fate::Denied });
        // A limit's windows count as one.
        for windows in verdict.outcomes.chunk_by(|one, other| one.limit == other.limit) {
            let Some(first) = windows.first() else { continue };
            match (windows.iter().all(|outcome| outcome.admitted), first.enforced) {
                (true, _) if verdict.admitted => self.limit(first.limit, Fate::Admitted),
                // Another limit denied the request: this one was not spent from.
                (true, _) => {}
                (false, true) => self.limit(first.limit, Fate::Denied),
                (false, false) => self.limit(first.limit, Fate::ShadowDenied),
            }
        }
    }

    /// A request could not be decided, for want of Redis.
    pub fn failed(&mut self, cause: Failure, limits: impl Iterator<Item = usize>) {
        self.gain(OF_REQUESTS, 0, Fate::Failed);
        self.gain(Failure::ALL, OF_REQUESTS.len(), cause);
        limits.for_each(|limit| self.limit(limit, Fate::Failed));
    }

    /// Whether any counter has gained since they were last taken.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.is_dirty
    }

    /// Hands out what each counter has gained, by its place in [`names`](Self::names), and starts over.
    pub fn take(&mut self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.is_dirty = false;
        self.gained.iter_mut().map(std::mem::take).enumerate().filter(|&(_, gained)| gained > 0)
    }

    fn limit(&mut self, limit: usize, fate: Fate) {
        let limits = OF_REQUESTS.len().saturating_add(Failure::ALL.len());
        self.gain(OF_LIMITS, limits.saturating_add(limit.saturating_mul(OF_LIMITS.len())), fate);
    }

    fn gain<T: PartialEq, const N: usize>(&mut self, group: [T; N], first: usize, which: T) {
        let place = group.iter().position(|known| *known == which).map(|place| first.saturating_add(place));
        if let Some(gained) = place.and_then(|place| self.gained.get_mut(place)) {
            *gained = gained.saturating_add(1);
            self.is_dirty = true;
        }
    }
}
