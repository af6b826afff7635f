//! Scan of all keys for limited clients and overrides: a few steps each second, then a pause.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::episodes::{Episodes, Millis};
use super::spendings::Spendings;
use crate::limits::LimitsError;
use crate::limits::live::{BucketName, OverrideRow, Reading, Scan};

/// Time of each second that steps of the scan take: Redis answers others meanwhile.
const BUDGET: Duration = Duration::from_millis(100);
/// Largest number of steps in a second.
const STEPS: usize = 50;
/// Pause between the end of a scan and the next one.
const PAUSE: Duration = Duration::from_secs(5);
/// Largest number of overrides of keys that are kept, and of those that are read again each second and shown.
const MOST: usize = 1_000;
pub(super) const SHOWN: usize = 100;
/// Duration of a scan beyond which a key may have been limited long before the scan has found it.
const SLOW: Millis = 30_000;

/// Scan with its findings.
#[derive(Default)]
pub(super) struct Scanning {
    position: Option<Scan>,
    number: u64,
    began: Millis,
    looked: u64,
    size: u64,
    /// Buckets that this scan has found empty, and those of the last complete one.
    empty: u64,
    last_empty: Option<u64>,
    /// Overrides that this scan has found, and those of the last complete one.
    found: u64,
    last_found: u64,
    /// End of the first and of the last complete scan, and the duration of the latter.
    first: Option<Millis>,
    last: Option<Millis>,
    took: Millis,
    rests_until: Option<Instant>,
    /// Overrides of keys with the number of the scan that has found each last. `true`: of a key, not of a former limit.
    overrides: BTreeMap<(BucketName, bool), (Value, u64)>,
    spendings: Spendings,
}

impl Scanning {
    /// Forgets all, and begins anew.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Runs some steps.
    ///
    /// # Errors
    /// If Redis fails.
    pub(super) fn run(
        &mut self,
        reading: &mut Reading<'_>,
        now: Millis,
        episodes: &mut Episodes,
    ) -> Result<(), LimitsError> {
        if self.rests_until.is_some_and(|until| Instant::now() < until) {
            return Ok(());
        }
        let began = Instant::now();
        for _ in 0..STEPS {
            let position = match self.position {
                Some(position) => position,
                None => self.begin(reading, now)?,
            };
            let (next, page) = reading.step(position)?;
            self.looked = self.looked.saturating_add(page.keys);
            let known_from = self.first.filter(|_| self.took < SLOW).unwrap_or(now);
            for bucket in &page.empty {
                self.empty = self.empty.saturating_add(1);
                episodes.add(bucket, now, known_from);
            }
            page.overrides.into_iter().for_each(|row| self.add(row));
            self.spendings.add(reading, &page.key_prefix, &page.buckets)?;
            self.position = next;
            if next.is_none() {
                self.end(now);
                break;
            }
            if began.elapsed() > BUDGET {
                break;
            }
        }
        Ok(())
    }

    fn begin(&mut self, reading: &mut Reading<'_>, now: Millis) -> Result<Scan, LimitsError> {
        self.number = self.number.saturating_add(1);
        (self.began, self.looked, self.empty, self.found) = (now, 0, 0, 0);
        self.spendings.begin();
        self.size = reading.size()?;
        Ok(Scan::default())
    }

    fn end(&mut self, now: Millis) {
        let number = self.number;
        self.overrides.retain(|_, (_, found_by)| *found_by == number);
        self.spendings.end();
        (self.last_empty, self.last_found) = (Some(self.empty), self.found);
        self.first = self.first.or(Some(now));
        (self.last, self.took) = (Some(now), now.saturating_sub(self.began));
        self.rests_until = Some(Instant::now() + PAUSE);
    }

    fn add(&mut self, row: OverrideRow) {
        if row.is_over {
            return;
        }
        self.found = self.found.saturating_add(1);
        let name = (row.bucket, row.is_key);
        if self.overrides.len() < MOST || self.overrides.contains_key(&name) {
            self.overrides.insert(name, (row.json, self.number));
        }
    }

    /// Reads the shown budgets, the shown overrides of keys, and these, again.
    ///
    /// # Errors
    /// If Redis fails.
    pub(super) fn refresh(&mut self, reading: &mut Reading<'_>, changed: &[BucketName]) -> Result<(), LimitsError> {
        self.spendings.refresh(reading)?;
        let keys = self.overrides.keys().filter(|(_, is_key)| *is_key).map(|(bucket, _)| bucket);
        let buckets: Vec<BucketName> = keys.take(SHOWN).chain(changed).cloned().collect();
        for (bucket, row) in buckets.iter().zip(reading.overrides(&buckets)?) {
            let name = (bucket.clone(), true);
            match row.filter(|row| !row.is_over) {
                Some(row) => _ = self.overrides.insert(name, (row.json, self.number)),
                // Those of limits that are not in the file are found by scans only.
                None if self.overrides.get(&name).is_none_or(|(json, _)| json["exists"] == true) => {
                    self.overrides.remove(&name);
                }
                None => {}
            }
        }
        Ok(())
    }

    /// The overrides to show, and the number of all that are known.
    pub(super) fn overrides(&self) -> Value {
        let rows: Vec<&Value> = self.overrides.values().map(|(json, _)| json).take(SHOWN).collect();
        let all = self.last_found.max(self.overrides.len() as u64);
        json!({ "rows": rows, "total": all })
    }

    /// The budgets with the most spent, and the number of all that are known.
    pub(super) fn budgets(&self) -> Value {
        self.spendings.json()
    }

    /// Progress of the scan.
    pub(super) fn progress(&self) -> Value {
        json!({
            "keys": self.size,
            "looked": self.looked.min(self.size),
            "is_running": self.position.is_some(),
            "completed": self.last,
            "took": self.last.map(|_| self.took),
            "empty": self.last_empty,
        })
    }
}
