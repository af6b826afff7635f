//! Decisions of the streams of events: rates of limits, and denials of keys.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

use super::episodes::{Episodes, Millis};
use crate::limits::LimitsError;
use crate::limits::live::{Batch, BucketName, LimitName, LimitSet, Position, Reading, Stream};

/// Number of entries that are read first, the newest of the stream.
const FIRST: usize = 1_000;
/// Number of entries of one command, and of commands each second.
const PAGE: usize = 500;
const PAGES: usize = 8;
/// Time for which counts are kept, in seconds.
const KEPT: u64 = 600;
/// Time that a rate is measured over, in seconds.
const OVER: u64 = 10;
/// Largest number of keys; beyond it, those without a denial in the last minute are forgotten.
const MOST: usize = 2_000;

/// Numbers of decisions in each second that has any.
type PerSecond<const N: usize> = VecDeque<(u64, [u64; N])>;

/// Decisions of all streams.
pub(super) struct Decisions {
    streams: Vec<State>,
    /// Denials.
    keys: BTreeMap<BucketName, PerSecond<1>>,
    /// Admitted and denied requests.
    limits: BTreeMap<LimitName, PerSecond<2>>,
}

/// Stream with the last position that was read.
struct State {
    stream: Stream,
    position: Option<Position>,
    /// Time from which on its events are known.
    known_from: Millis,
    error: Option<String>,
    /// Last time at which entries were passed over, since there were too many.
    passed_over: Option<Millis>,
}

impl Decisions {
    /// The streams of a configuration, unread.
    pub(super) fn of(limits: &LimitSet) -> Self {
        let state = |stream| State { stream, position: None, known_from: 0, error: None, passed_over: None };
        let streams = limits.streams().into_iter().map(state).collect();
        Self { streams, keys: BTreeMap::new(), limits: BTreeMap::new() }
    }

    /// Forgets all, and begins anew at the end of the streams.
    pub(super) fn clear(&mut self) {
        self.keys.clear();
        self.limits.clear();
        self.streams.iter_mut().for_each(|state| state.position = None);
    }

    /// Reads new entries, a bounded number.
    ///
    /// # Errors
    /// If Redis cannot be reached. Its refusals are kept, to be shown.
    pub(super) fn read(
        &mut self,
        reading: &mut Reading<'_>,
        now: Millis,
        episodes: &mut Episodes,
    ) -> Result<(), LimitsError> {
        for index in 0..self.streams.len() {
            let Some(state) = self.streams.get_mut(index) else { break };
            let read = state.read(reading, now);
            let known_from = state.known_from;
            match read {
                Ok(batches) => {
                    state.error = None;
                    batches.iter().for_each(|batch| self.count(batch, known_from, episodes));
                }
                Err(error) if error.is_unreachable() => return Err(error),
                Err(error) => state.error = Some(error.to_string()),
            }
        }
        self.forget(now / 1_000);
        Ok(())
    }

    fn count(&mut self, batch: &Batch, known_from: Millis, episodes: &mut Episodes) {
        for entry in &batch.entries {
            let second = entry.position.millis / 1_000;
            let (bucket, denied) = (&entry.bucket, u64::from(!entry.is_admitted));
            let limit = (bucket.key_prefix.clone(), bucket.limit.clone());
            count_in(self.limits.entry(limit).or_default(), second, [1_u64.saturating_sub(denied), denied]);
            if !entry.is_admitted {
                count_in(self.keys.entry(bucket.clone()).or_default(), second, [1]);
                episodes.add(bucket, entry.position.millis, known_from);
            }
        }
    }

    fn forget(&mut self, now: u64) {
        if self.keys.len() > MOST {
            self.keys.retain(|_, counts| counts.back().is_some_and(|(second, _)| second.saturating_add(60) > now));
        }
        let is_old = |second: u64| second.saturating_add(KEPT) < now;
        for counts in self.keys.values_mut() {
            while counts.front().is_some_and(|(second, _)| is_old(*second)) {
                counts.pop_front();
            }
        }
        self.keys.retain(|_, counts| !counts.is_empty());
        for counts in self.limits.values_mut() {
            while counts.front().is_some_and(|(second, _)| is_old(*second)) {
                counts.pop_front();
            }
        }
    }

    /// Whether a limit's denials are events.
    fn state_of(&self, key_prefix: &str) -> Option<&State> {
        self.streams.iter().find(|state| state.stream.key_prefix == key_prefix && state.error.is_none())
    }

    /// Number of denials of a key in the last minute; `None` without events.
    pub(super) fn denied_last_minute(&self, bucket: &BucketName, now: Millis) -> Option<u64> {
        self.state_of(&bucket.key_prefix)?;
        let is_recent = |(second, _): &&(u64, [u64; 1])| second.saturating_add(60) > now / 1_000;
        Some(self.keys.get(bucket).into_iter().flatten().filter(is_recent).map(|(_, [denied])| denied).sum())
    }

    /// Denials of a key in each second that has any: times and numbers. Null without events.
    pub(super) fn of_key(&self, bucket: &BucketName) -> Value {
        if self.state_of(&bucket.key_prefix).is_none() {
            return Value::Null;
        }
        let counts = || self.keys.get(bucket).into_iter().flatten();
        let at: Vec<u64> = counts().map(|(second, _)| second.saturating_mul(1_000)).collect();
        json!({ "at": at, "denied": counts().map(|(_, [denied])| denied).collect::<Vec<_>>() })
    }

    /// Rates and the last minutes of a limit; null without events.
    pub(super) fn of_limit(&self, limit: &LimitName, now: Millis) -> Value {
        let Some(state) = self.state_of(&limit.0) else { return Value::Null };
        let now = now / 1_000;
        let counts = || self.limits.get(limit).into_iter().flatten();
        let is_recent = |second: u64| (now.saturating_sub(OVER)..now).contains(&second);
        let rate = |kind: usize| {
            let recent = counts().filter(|(second, _)| is_recent(*second));
            recent.filter_map(|(_, counts)| counts.get(kind)).sum::<u64>() as f64 / OVER as f64
        };
        let from = now.saturating_sub(300).max(state.known_from / 1_000);
        let of_second: BTreeMap<u64, [u64; 2]> = counts().copied().collect();
        // Points of two seconds, as of metrics.
        let at: Vec<u64> = (from / 2..now / 2).map(|half| half.saturating_mul(2)).collect();
        let series = |kind: usize| {
            let number = |second: u64| of_second.get(&second).and_then(|counts| counts.get(kind)).copied();
            let point = |second: &u64| {
                let sum = number(*second).unwrap_or_default() + number(second + 1).unwrap_or_default();
                sum as f64 / 2.0
            };
            at.iter().map(point).collect::<Vec<f64>>()
        };
        let has_admitted = state.stream.has_admitted;
        json!({
            "source": "events",
            "is_sample": state.stream.is_sample,
            "rates": { "admitted": has_admitted.then(|| rate(0)), "denied": rate(1) },
            "series": {
                "at": at.iter().map(|second| second.saturating_mul(1_000)).collect::<Vec<_>>(),
                "admitted": has_admitted.then(|| series(0)),
                "denied": series(1),
            },
        })
    }

    /// The streams and their errors.
    pub(super) fn sources(&self, now: Millis) -> Value {
        let source = |state: &State| {
            let is_recent = |at: &Millis| at.saturating_add(60_000) > now;
            json!({
                "stream": state.stream.key,
                "has_admitted": state.stream.has_admitted,
                "is_sample": state.stream.is_sample,
                "error": state.error,
                "passed_over": state.passed_over.filter(is_recent),
            })
        };
        self.streams.iter().map(source).collect()
    }
}

impl State {
    fn read(&mut self, reading: &mut Reading<'_>, now: Millis) -> Result<Vec<Batch>, LimitsError> {
        let Some(mut after) = self.position else {
            let batch = reading.last_events(&self.stream, FIRST)?;
            let is_whole = batch.count < FIRST && (batch.count as u64) < self.stream.max_len;
            self.known_from = if is_whole { 0 } else { batch.first.map_or(now, |first| first.millis) };
            self.position = Some(batch.last.unwrap_or(Position::at(0)));
            return Ok(vec![batch]);
        };
        let mut batches = Vec::new();
        for _ in 0..PAGES {
            let batch = reading.events_after(&self.stream, after, PAGE)?;
            let is_full = batch.count == PAGE;
            after = batch.last.unwrap_or(after);
            batches.push(batch);
            if !is_full {
                self.position = Some(after);
                return Ok(batches);
            }
        }
        // More than can be read: the newest count.
        self.position = Some(after.max(Position::at(now.saturating_sub(1_000))));
        self.passed_over = Some(now);
        Ok(batches)
    }
}

fn count_in<const N: usize>(counts: &mut PerSecond<N>, second: u64, gained: [u64; N]) {
    // Entries come in the order of time, or nearly so, from several streams.
    match counts.iter_mut().rev().take(8).find(|(known, _)| *known == second) {
        Some((_, sums)) => {
            sums.iter_mut().zip(gained).for_each(|(sum, gained)| *sum = sum.saturating_add(gained));
        }
        None => counts.push_back((second, gained)),
    }
}
