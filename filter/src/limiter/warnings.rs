//! Log lines about Redis: at most one warning per cause and 10 s, however many requests fail, and one line when Redis
//! decides requests again.

use alloc::string::{String, ToString};

use super::effect::Effect;
use super::outages::Outages;
use crate::config;
use crate::limit::FailureMode;
use crate::redis::Failure;
use crate::units::Micros;

/// Minimum time between two warnings of one cause.
const INTERVAL: Micros = Micros::from_secs(10);

/// Warnings by cause, and outages of Redis.
#[derive(Debug)]
pub(super) struct Warnings {
    /// The cluster of Redis, quoted.
    cluster: String,
    causes: [CauseLog; Failure::ALL.len()],
    outages: Outages,
    /// Time of the next line, if any.
    due: Option<Micros>,
}

/// Requests that Redis did not decide, by what the failure mode made of them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct FailedRequests {
    open: u64,
    closed: u64,
    /// Requests that the worker decided by its shares.
    local: u64,
}

/// Warnings of one cause.
#[derive(Debug, Default)]
struct CauseLog {
    /// Time of the last warning.
    last: Option<Micros>,
    /// Whether anything has happened since the last warning.
    is_pending: bool,
    /// Requests failed since the last warning.
    requests: FailedRequests,
    /// Text of the last [`Trouble`](crate::redis::Trouble) since the last warning.
    detail: Option<String>,
}

impl FailedRequests {
    pub(super) fn add(&mut self, mode: FailureMode) {
        let count = match mode {
            FailureMode::Allow => &mut self.open,
            FailureMode::Deny => &mut self.closed,
            FailureMode::Local => &mut self.local,
        };
        *count = count.saturating_add(1);
    }
}

impl core::fmt::Display for FailedRequests {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "requests failed open: {}, failed closed: {}", self.open, self.closed)?;
        if self.local > 0 { write!(f, ", decided locally: {}", self.local) } else { Ok(()) }
    }
}

impl Warnings {
    /// Creates the log of a Redis without failures. `cluster` is the name of its cluster.
    #[inline(never)]
    pub(super) fn new(cluster: &str) -> Self {
        let (causes, outages) = (Default::default(), Outages::default());
        Self { cluster: config::quoted(cluster), causes, outages, due: None }
    }

    /// Handles a failure of the transport, or a malformed reply, that is described by `detail`.
    #[inline(never)]
    pub(super) fn trouble(&mut self, now: Micros, cause: Failure, detail: String) {
        if cause.is_of_connection() {
            self.outages.fail(now);
        }
        self.add(cause, |log| log.detail = Some(detail));
    }

    /// Handles a request that Redis did not decide.
    #[inline(never)]
    pub(super) fn failed(&mut self, now: Micros, cause: Failure, mode: FailureMode) {
        self.outages.fail_request(now, mode);
        self.add(cause, |log| log.requests.add(mode));
    }

    /// Handles a request that Redis decided.
    #[inline]
    pub(super) fn decided(&mut self, now: Micros) {
        if self.outages.is_ongoing() {
            self.outages.end(now);
            self.due = self.next_due();
        }
    }

    /// Returns the time of the next line, if any.
    pub(super) fn due(&self) -> Option<Micros> {
        self.due
    }

    /// Returns the next line to log at `now`, if any.
    #[inline]
    pub(super) fn pop_due(&mut self, now: Micros) -> Option<Effect> {
        if self.due.is_none_or(|due| due > now) { None } else { self.pop(now) }
    }

    #[inline(never)]
    fn pop(&mut self, now: Micros) -> Option<Effect> {
        let line = self.pop_recovery(now).map(Effect::Info).or_else(|| self.pop_warning(now).map(Effect::Warn));
        self.due = self.next_due();
        line
    }

    /// Returns the line that Redis decides requests again. It has the failed requests of all causes: they are not
    /// counted in the next warnings.
    fn pop_recovery(&mut self, now: Micros) -> Option<String> {
        let recovery = self.outages.pop_recovery(now)?;
        for log in &mut self.causes {
            *log = CauseLog { last: log.last, ..CauseLog::default() };
        }
        Some(format!("redis recovered: requests are decided again (cluster {}; {recovery})", self.cluster))
    }

    fn pop_warning(&mut self, now: Micros) -> Option<String> {
        let logs = Failure::ALL.into_iter().zip(&mut self.causes);
        let (cause, log) = logs.into_iter().find(|(_, log)| log.due().is_some_and(|due| due <= now))?;
        let CauseLog { last, requests, detail, .. } =
            core::mem::replace(log, CauseLog { last: Some(now), ..CauseLog::default() });
        let detail = detail.unwrap_or_else(|| cause.description().to_string());
        let requests = match (requests == FailedRequests::default(), last) {
            (true, _) => String::new(),
            (false, None) => format!("; {requests}"),
            (false, Some(_)) => format!("; since the last warning of this cause, {requests}"),
        };
        Some(format!("redis {}: {detail} (cluster {}{requests})", cause.name(), self.cluster))
    }

    fn add(&mut self, cause: Failure, change: impl FnOnce(&mut CauseLog)) {
        let mut logs = Failure::ALL.into_iter().zip(&mut self.causes);
        let Some((_, log)) = logs.find(|(known, _)| *known == cause) else { return };
        change(log);
        log.is_pending = true;
        self.due = self.due.into_iter().chain(log.due()).min();
    }

    fn next_due(&self) -> Option<Micros> {
        self.causes.iter().filter_map(CauseLog::due).chain(self.outages.due()).min()
    }
}

impl CauseLog {
    /// Returns the time of the next warning, if anything has happened.
    fn due(&self) -> Option<Micros> {
        self.is_pending.then(|| self.last.map_or(Micros::ZERO, |last| last.plus(INTERVAL)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Micros = Micros::from_secs(1);

    /// Log with its clock, and the lines popped so far.
    struct Talk {
        log: Warnings,
        now: Micros,
    }

    impl Talk {
        fn new() -> Self {
            Self { log: Warnings::new("redis"), now: SECOND }
        }

        fn fails(&mut self, cause: Failure, open: usize, closed: usize) {
            (0..open).for_each(|_| self.log.failed(self.now, cause, FailureMode::Allow));
            (0..closed).for_each(|_| self.log.failed(self.now, cause, FailureMode::Deny));
        }

        fn decides(&mut self) {
            self.log.decided(self.now);
        }

        fn after(&mut self, wait: Micros) -> Vec<String> {
            self.now = self.now.plus(wait);
            let text = |effect| match effect {
                Effect::Warn(line) => line,
                Effect::Info(line) => format!("info: {line}"),
                other => panic!("{other:?}"),
            };
            core::iter::from_fn(|| self.log.pop_due(self.now)).map(text).collect()
        }

        fn lines(&mut self) -> Vec<String> {
            self.after(Micros::ZERO)
        }
    }

    #[test]
    fn a_cause_is_logged_once_in_ten_seconds_with_the_failed_requests() {
        let mut talk = Talk::new();
        talk.fails(Failure::Timeout, 2, 1);
        let first = "redis timeout: no reply within redis.timeout (cluster \"redis\"; requests failed open: 2, failed closed: 1)";
        assert_eq!(talk.lines(), [first]);
        for _ in 1..10 {
            talk.fails(Failure::Timeout, 6, 0);
            assert_eq!(talk.after(SECOND), [""; 0]);
        }
        let second = "redis timeout: no reply within redis.timeout \
                      (cluster \"redis\"; since the last warning of this cause, requests failed open: 54, failed closed: 0)";
        assert_eq!(talk.log.due(), Some(SECOND.plus(INTERVAL)), "a tick logs the rest, without another failure");
        assert_eq!(talk.after(SECOND), [second]);
        assert_eq!(talk.log.due(), None);
        talk.fails(Failure::Timeout, 1, 0);
        assert_eq!(talk.after(SECOND.times(10)).len(), 1);
    }

    #[test]
    fn causes_do_not_silence_each_other_and_each_has_its_detail() {
        let mut talk = Talk::new();
        for cause in Failure::ALL {
            talk.log.trouble(talk.now, cause, "why".to_owned());
        }
        let lines = talk.lines();
        assert_eq!(lines.len(), Failure::ALL.len(), "{lines:?}");
        for (cause, line) in Failure::ALL.iter().zip(lines) {
            assert_eq!(line, format!("redis {}: why (cluster \"redis\")", cause.name()));
        }
        for cause in Failure::ALL {
            talk.fails(cause, 1, 0);
        }
        assert_eq!(talk.lines(), [""; 0]);
        assert_eq!(talk.after(SECOND.times(10)).len(), Failure::ALL.len());
    }

    #[test]
    fn redis_is_back_once_with_the_outages_length_and_its_requests() {
        let mut talk = Talk::new();
        talk.log.trouble(talk.now, Failure::Reset, "the connection was lost".to_owned());
        talk.fails(Failure::Reset, 3, 0);
        talk.after(SECOND);
        talk.fails(Failure::Unavailable, 7, 5);
        assert_eq!(talk.after(SECOND.times(2)).len(), 1);
        talk.decides();
        talk.decides();
        assert_eq!(talk.lines(), [""; 0], "until no request has failed for a second");
        let back = "info: redis recovered: requests are decided again \
                    (cluster \"redis\"; outage: 3.000 s; requests failed open: 10, failed closed: 5)";
        assert_eq!(talk.after(SECOND), [back]);
        talk.decides();
        assert_eq!(talk.after(SECOND.times(20)), [""; 0]);
    }

    #[test]
    fn requests_that_a_recovery_names_are_in_no_later_warning() {
        let mut talk = Talk::new();
        talk.fails(Failure::Timeout, 1, 0);
        talk.lines();
        talk.fails(Failure::Timeout, 50, 0);
        talk.decides();
        assert_eq!(talk.after(SECOND).len(), 1);
        assert_eq!(talk.after(SECOND.times(20)), [""; 0]);
        talk.fails(Failure::Timeout, 1, 0);
        let [line] = &talk.lines()[..] else { panic!() };
        assert!(line.contains("failed open: 1,"), "{line}");
    }

    #[test]
    fn a_recovery_does_not_shorten_the_time_between_two_warnings_of_a_cause() {
        let mut talk = Talk::new();
        talk.fails(Failure::Timeout, 1, 0);
        assert_eq!(talk.lines().len(), 1);
        talk.decides();
        assert_eq!(talk.after(SECOND).len(), 1, "recovered");
        talk.fails(Failure::Timeout, 1, 0);
        assert_eq!(talk.after(SECOND.times(8)), [""; 0]);
        assert_eq!(talk.after(SECOND).len(), 1);
    }

    #[test]
    fn single_timeouts_among_decided_requests_are_one_recovery_in_ten_seconds() {
        let mut talk = Talk::new();
        let mut recoveries = Vec::new();
        for _ in 0..20 {
            talk.fails(Failure::Timeout, 1, 0);
            talk.after(Micros::from_millis(500));
            talk.decides();
            recoveries
                .extend(talk.after(Micros::from_millis(2_500)).into_iter().filter(|line| line.starts_with("info")));
        }
        assert_eq!(recoveries.len(), 5, "in a minute: {recoveries:#?}");
        let several = "info: redis recovered: requests are decided again \
                       (cluster \"redis\"; outages: 4, 2.000 s in all; requests failed open: 4, failed closed: 0)";
        assert!(recoveries.iter().any(|line| line == several), "{recoveries:#?}");
    }

    #[test]
    fn redis_has_not_recovered_while_requests_fail_each_second() {
        let mut talk = Talk::new();
        for _ in 0..100 {
            talk.fails(Failure::Timeout, 1, 0);
            talk.decides();
            let lines = talk.after(Micros::from_millis(900));
            assert!(lines.iter().all(|line| !line.starts_with("info")), "{lines:?}");
        }
        assert_eq!(talk.after(SECOND).iter().filter(|line| line.starts_with("info")).count(), 1);
    }

    #[test]
    fn an_outage_that_nobody_saw_end_says_how_old_its_last_failure_is() {
        let mut talk = Talk::new();
        talk.fails(Failure::Timeout, 1, 0);
        talk.after(SECOND.times(600));
        talk.decides();
        let [line] = &talk.after(SECOND)[..] else { panic!() };
        assert!(line.contains("outage: 600.000 s, its last failure 600.000 s before its end; "), "{line}");
    }
}
