//! Thread that reads Redis while a page is open, in steps of bounded work.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::board::{Board, Findings, Orders, local_time};
use super::decisions::Decisions;
use super::episodes::{Episode, Episodes, Millis};
use super::samples::Samples;
use super::scanning::{SHOWN, Scanning};
use crate::limits::LimitsError;
use crate::limits::live::{BucketName, LimitSet, Reading};

/// Time between two readings.
const PERIOD: Duration = Duration::from_secs(1);

/// Everything that is known of Redis.
pub(super) struct Watcher {
    board: Arc<Board>,
    decisions: Decisions,
    scanning: Scanning,
    episodes: Episodes,
    samples: Samples,
    /// Limits and tables for the page as last read.
    tables: Value,
    buckets: Arc<BTreeMap<BucketName, Value>>,
    /// Redis' address, once connected.
    place: Option<String>,
    /// Time by the local clock since which Redis is as it is: connected, or away.
    since: Option<Millis>,
    error: Option<String>,
}

impl Watcher {
    /// Starts the thread, which ends with the board.
    pub(super) fn start(limits: Arc<LimitSet>, board: Arc<Board>) -> io::Result<()> {
        let mut watcher = Self {
            board,
            decisions: Decisions::of(&limits),
            scanning: Scanning::default(),
            episodes: Episodes::default(),
            samples: Samples::default(),
            tables: json!({ "limits": limits.rows() }),
            buckets: Arc::default(),
            place: None,
            since: None,
            error: None,
        };
        thread::Builder::new().name("console".to_owned()).spawn(move || watcher.run(&limits)).map(drop)
    }

    fn run(&mut self, limits: &LimitSet) {
        let mut reading = None;
        while let Some(orders) = self.board.orders(PERIOD) {
            if orders.was_idle {
                self.decisions.clear();
                self.episodes.clear();
                self.scanning.clear();
            }
            let had_connection = reading.is_some();
            let mut done = self.attempt(limits, &mut reading, &orders);
            // Redis may have closed a connection that was idle.
            if done.is_err() && had_connection {
                done = self.attempt(limits, &mut reading, &orders);
            }
            let error = done.err().map(|error| error.to_string());
            if self.since.is_none() || error.is_some() != self.error.is_some() {
                self.since = Some(local_time());
            }
            self.error = error;
            self.publish();
        }
    }

    fn attempt<'a>(
        &mut self,
        limits: &'a LimitSet,
        connection: &mut Option<Reading<'a>>,
        orders: &Orders,
    ) -> Result<(), LimitsError> {
        // A connection on which something fails is dropped.
        let mut reading = match connection.take() {
            Some(reading) => reading,
            None => limits.connect()?,
        };
        self.place = Some(reading.place());
        self.read(&mut reading, orders)?;
        *connection = Some(reading);
        Ok(())
    }

    fn read(&mut self, reading: &mut Reading<'_>, orders: &Orders) -> Result<(), LimitsError> {
        let (time, mut limits) = reading.limits()?;
        let now = time.0 / 1_000;
        self.decisions.read(reading, now, &mut self.episodes)?;
        self.scanning.refresh(reading, &orders.changed)?;
        self.scanning.run(reading, now, &mut self.episodes)?;
        let rows = self.levels(reading, now, &orders.wanted)?;
        for limit in &mut limits {
            let text = |name: &str| limit[name].as_str().unwrap_or_default().to_owned();
            limit["figures"] = self.decisions.of_limit(&(text("key_prefix"), text("limit")), now);
        }
        self.tables = json!({
            "now": now,
            "limits": limits,
            "limited": rows,
            "overrides": self.scanning.overrides(),
            "budgets": self.scanning.budgets(),
            "scan": self.scanning.progress(),
            "events": self.decisions.sources(now),
        });
        Ok(())
    }

    /// Reads the levels of opened buckets, and of those that are limited now: most denied first.
    fn levels(&mut self, reading: &mut Reading<'_>, now: Millis, wanted: &[BucketName]) -> Result<Value, LimitsError> {
        let mut current = self.episodes.current(now);
        let total = current.len();
        current.sort_by_cached_key(|(bucket, episode)| {
            (Reverse(self.decisions.denied_last_minute(bucket, now)), episode.since)
        });
        current.truncate(SHOWN);
        let limited: Vec<BucketName> = current.iter().map(|(bucket, _)| bucket.clone()).collect();
        let others = wanted.iter().filter(|bucket| !limited.contains(bucket));
        let buckets: Vec<BucketName> = limited.iter().chain(others).cloned().collect();
        let mut peeks = BTreeMap::new();
        for (bucket, level) in buckets.iter().zip(reading.levels(&buckets)?) {
            let Some(level) = level else { continue };
            self.samples.add(bucket, now, &level.json);
            if level.is_limited {
                self.episodes.add(bucket, now, now);
            }
            peeks.insert(bucket.clone(), level);
        }
        let rows = current.iter().map(|(bucket, episode)| {
            let level = peeks.get(bucket);
            json!({
                "key_prefix": bucket.key_prefix,
                "limit": bucket.limit,
                "key": bucket.key,
                "episode": episode_json(*episode),
                "denied_last_minute": self.decisions.denied_last_minute(bucket, now),
                "is_limited": level.map(|level| level.is_limited),
                "peek": level.map(|level| &level.json),
            })
        });
        let rows = json!({ "rows": rows.collect::<Vec<_>>(), "total": total });
        let episodes: BTreeMap<BucketName, Episode> = self.episodes.current(now).into_iter().collect();
        let opened = wanted.iter().map(|bucket| {
            let state = json!({
                "now": now,
                "peek": peeks.get(bucket).map(|level| &level.json),
                "episode": episodes.get(bucket).copied().map(episode_json),
                "samples": self.samples.json(bucket),
                "denials": self.decisions.of_key(bucket),
            });
            (bucket.clone(), state)
        });
        self.buckets = Arc::new(opened.collect());
        Ok(rows)
    }

    fn publish(&self) {
        let mut state = self.tables.clone();
        state["redis"] = json!({
            "place": self.place,
            "is_connected": self.error.is_none(),
            "error": self.error,
            "since": self.since,
        });
        self.board.set_findings(Findings { state, buckets: Arc::clone(&self.buckets) });
    }
}

fn episode_json(episode: Episode) -> Value {
    json!({ "since": episode.since, "last": episode.last, "is_open": episode.is_open })
}
