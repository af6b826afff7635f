//! Board: last findings of the watcher and the poller, for all requests of pages.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::episodes::Millis;
use super::exposition::Names;
use crate::limits::live::{BucketName, LimitName};

/// Time since the last request after which no page is open.
const OPEN_FOR: Duration = Duration::from_secs(15);
/// Time since the last request of a bucket after which it is not read any more.
const WANTED_FOR: Duration = Duration::from_secs(60);
/// Largest number of buckets that are open at once.
const MOST_WANTED: usize = 32;

/// Findings, and what pages ask for.
#[derive(Debug)]
pub(super) struct Board {
    names: Names,
    limits: Vec<LimitName>,
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    /// Last request of a page.
    seen: Option<Instant>,
    wanted: BTreeMap<BucketName, Instant>,
    /// Buckets whose override a page has changed since the last orders.
    changed: Vec<BucketName>,
    /// Whether the watcher is to read at once.
    is_urgent: bool,
    has_ended: bool,
    findings: Findings,
    metrics: Metrics,
}

/// Findings of the watcher in Redis.
#[derive(Debug, Clone, Default)]
pub(super) struct Findings {
    /// Object for the page; null before the first reading.
    pub(super) state: Value,
    /// States of buckets that pages have opened.
    pub(super) buckets: Arc<BTreeMap<BucketName, Value>>,
}

/// Counters of proxies.
#[derive(Debug, Clone, Default)]
pub(super) struct Metrics {
    pub(super) limits: Arc<BTreeMap<LimitName, Value>>,
    pub(super) requests: Value,
    pub(super) sources: Vec<Value>,
}

/// Orders for the watcher's next reading.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// Buckets that pages have opened.
    pub(super) wanted: Vec<BucketName>,
    /// Buckets whose override a page has changed.
    pub(super) changed: Vec<BucketName>,
    /// Whether no page was open for a while.
    pub(super) was_idle: bool,
}

impl Board {
    /// An empty board for these limiters: each `stat_prefix` with its limits.
    pub(super) fn new(limiters: Vec<(String, Vec<LimitName>)>) -> Self {
        let names = Names::of(&limiters);
        let mut limits: Vec<LimitName> = limiters.into_iter().flat_map(|(_, limits)| limits).collect();
        limits.sort();
        limits.dedup();
        Self { names, limits, inner: Mutex::default(), changed: Condvar::new() }
    }

    /// Names of the counters.
    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    /// All limits.
    pub(super) fn limits(&self) -> impl Iterator<Item = &LimitName> {
        self.limits.iter()
    }

    /// Notes a request of a page. Returns the findings.
    pub(super) fn look(&self) -> (Findings, Metrics) {
        let mut inner = self.held();
        if !inner.is_open() {
            self.changed.notify_all();
        }
        inner.seen = Some(Instant::now());
        (inner.findings.clone(), inner.metrics.clone())
    }

    /// Notes that a page has opened a bucket. Returns its state, if it has been read.
    pub(super) fn want(&self, bucket: &BucketName) -> Option<Value> {
        let mut inner = self.held();
        let now = Instant::now();
        inner.seen = Some(now);
        if inner.wanted.insert(bucket.clone(), now).is_none() {
            inner.is_urgent = true;
            self.changed.notify_all();
        }
        if inner.wanted.len() > MOST_WANTED {
            let oldest = inner.wanted.iter().min_by_key(|(_, at)| **at).map(|(name, _)| name.clone());
            oldest.map(|oldest| inner.wanted.remove(&oldest));
        }
        inner.findings.buckets.get(bucket).cloned()
    }

    /// Notes that the override of a bucket has been changed.
    pub(super) fn has_changed(&self, bucket: Option<BucketName>) {
        let mut inner = self.held();
        inner.changed.extend(bucket);
        inner.is_urgent = true;
        self.changed.notify_all();
    }

    /// Waits for `pause` and until a page is open, or for an urgent request. `None` at the end of the console.
    pub(super) fn orders(&self, pause: Duration) -> Option<Orders> {
        let until = Instant::now() + pause;
        let mut inner = self.held();
        let mut was_idle = false;
        loop {
            if inner.has_ended {
                return None;
            }
            let left = until.saturating_duration_since(Instant::now());
            if inner.is_open() && (left.is_zero() || inner.is_urgent) {
                break;
            }
            inner = if inner.is_open() {
                self.changed.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0
            } else {
                was_idle = true;
                self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner)
            };
        }
        inner.is_urgent = false;
        inner.wanted.retain(|_, at| at.elapsed() < WANTED_FOR);
        let wanted = inner.wanted.keys().cloned().collect();
        Some(Orders { wanted, changed: std::mem::take(&mut inner.changed), was_idle })
    }

    /// Replaces the findings in Redis.
    pub(super) fn set_findings(&self, findings: Findings) {
        self.held().findings = findings;
    }

    /// Replaces the counters of proxies.
    pub(super) fn set_metrics(&self, limits: BTreeMap<LimitName, Value>, requests: Value, sources: Vec<Value>) {
        self.held().metrics = Metrics { limits: Arc::new(limits), requests, sources };
    }

    /// Whether a page is open.
    pub(super) fn is_open(&self) -> bool {
        self.held().is_open()
    }

    /// Ends the watcher.
    pub(super) fn end(&self) {
        self.held().has_ended = true;
        self.changed.notify_all();
    }

    fn held(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn is_open(&self) -> bool {
        self.seen.is_some_and(|seen| seen.elapsed() < OPEN_FOR)
    }
}

/// Time by the clock of this machine.
pub(super) fn local_time() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
