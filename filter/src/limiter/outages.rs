//! Outages of Redis: each lasts from the first failed request or lost connection until the next request that Redis
//! decides.

use core::fmt::{self, Display, Formatter};

use super::warnings::FailedRequests;
use crate::limit::FailureMode;
use crate::units::Micros;

/// Time without a failure after which Redis has recovered.
const QUIET: Micros = Micros::from_secs(1);
/// Minimum time between two recoveries that are reported.
const INTERVAL: Micros = Micros::from_secs(10);
/// Time between the last failure and the end of an outage that is worth a mention: nobody knows when the outage ended.
const UNOBSERVED: Micros = Micros::from_secs(10);

/// The outage under way, if any, and the outages that no recovery has reported yet.
#[derive(Debug, Default)]
pub(super) struct Outages {
    began: Option<Micros>,
    last_failure: Micros,
    ended: Option<Micros>,
    last_report: Option<Micros>,
    recovery: Recovery,
}

/// Outages that are over: displayed as the part of a log line.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    outages: u64,
    /// Length of all outages together.
    length: Micros,
    /// Longest time between the last failure and the end of an outage.
    unobserved: Micros,
    requests: FailedRequests,
}

impl Outages {
    /// Handles a lost connection.
    pub(super) fn fail(&mut self, now: Micros) {
        self.began.get_or_insert(now);
        (self.last_failure, self.ended) = (now, None);
    }

    /// Handles a request that Redis did not decide.
    pub(super) fn fail_request(&mut self, now: Micros, mode: FailureMode) {
        self.fail(now);
        self.recovery.requests.add(mode);
    }

    /// Whether an outage has begun and not ended.
    #[inline]
    pub(super) fn is_ongoing(&self) -> bool {
        self.began.is_some()
    }

    /// Handles the first decision after a failure.
    #[inline(never)]
    pub(super) fn end(&mut self, now: Micros) {
        let Some(began) = self.began.take() else { return };
        let Recovery { outages, length, unobserved, .. } = &mut self.recovery;
        *outages = outages.saturating_add(1);
        *length = length.plus(now.minus(began));
        *unobserved = (*unobserved).max(now.minus(self.last_failure));
        self.ended = Some(now);
    }

    /// Returns the time of the next recovery, if no request fails until then.
    pub(super) fn due(&self) -> Option<Micros> {
        let quiet = self.ended?.plus(QUIET);
        Some(self.last_report.map_or(quiet, |last| quiet.max(last.plus(INTERVAL))))
    }

    /// Takes the outages that are over, if they are to be reported at `now`.
    pub(super) fn pop_recovery(&mut self, now: Micros) -> Option<Recovery> {
        self.due().filter(|due| *due <= now)?;
        (self.ended, self.last_report) = (None, Some(now));
        Some(core::mem::take(&mut self.recovery))
    }
}

impl Display for Recovery {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { outages, length, unobserved, requests } = self;
        match outages {
            0 | 1 => write!(f, "outage: {}", Seconds(*length))?,
            _ => write!(f, "outages: {outages}, {} in all", Seconds(*length))?,
        }
        if *unobserved >= UNOBSERVED {
            write!(f, ", its last failure {} before its end", Seconds(*unobserved))?;
        }
        write!(f, "; {requests}")
    }
}

/// A time, displayed in seconds with three decimals.
struct Seconds(Micros);

impl Display for Seconds {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let millis = self.0.0 / 1_000;
        write!(f, "{}.{:03} s", millis / 1_000, millis % 1_000)
    }
}
