//! Connection that reads overrides, levels of buckets, and pages of a scan.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use weir_filter::overrides::OVERRIDE_SUFFIX;
use weir_filter::units::{Micros, Tokens};

use super::{BucketName, LimitsError, found_json, limit_row, override_row, shown_key, target};
use crate::limits::configured::{Configured, Limit, Target};
use crate::limits::emptiest;
use crate::limits::found::Found;
use crate::limits::list::{OfLimits, names};
use crate::limits::peek::{Levels, Question};
use crate::limits::render::{key_of, untagged};
use crate::limits::store::{Cursor, Store, pattern};

/// Number of keys, or fields of the hash of overrides, that one step of a scan looks at.
const STEP: u64 = 500;

/// Connection to Redis, with the overrides of whole limits as last read.
pub(crate) struct Reading<'a> {
    pub(super) configured: &'a Configured,
    pub(super) store: Store,
    of_limits: BTreeMap<String, OfLimits>,
}

/// Level of a key's buckets.
#[derive(Debug)]
pub(crate) struct Level {
    /// The same object as of `weir limits peek --format json`.
    pub(crate) json: Value,
    /// Whether the next request of one token would be beyond the limit.
    pub(crate) is_limited: bool,
}

/// Override that a scan has found.
#[derive(Debug)]
pub(crate) struct OverrideRow {
    pub(crate) bucket: BucketName,
    /// Whether it is of one key.
    pub(crate) is_key: bool,
    pub(crate) json: Value,
    /// Whether it has ended.
    pub(crate) is_over: bool,
}

/// Position of a scan of all key prefixes: first the hash of overrides, then the keys.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Scan {
    prefix: usize,
    phase: Phase,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Hash(u64),
    Keys(Cursor),
}

impl Default for Phase {
    fn default() -> Self {
        Self::Hash(0)
    }
}

/// Findings of one step of a scan.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) overrides: Vec<OverrideRow>,
    /// Buckets that admit no request now.
    pub(crate) empty: BTreeSet<BucketName>,
    /// Keys of the step, and their prefix.
    pub(crate) key_prefix: String,
    pub(crate) buckets: Vec<Vec<u8>>,
    /// Number of keys that the step has looked at, about.
    pub(crate) keys: u64,
}

impl<'a> Reading<'a> {
    pub(super) fn new(configured: &'a Configured, store: Store) -> Self {
        Self { configured, store, of_limits: BTreeMap::new() }
    }

    /// The Redis, without credentials.
    pub(crate) fn place(&self) -> String {
        self.store.place()
    }

    /// Number of keys in the database.
    pub(crate) fn size(&mut self) -> Result<u64, LimitsError> {
        self.store.size()
    }

    /// Reads the overrides of all limits of the file. Returns Redis' time, and the limits as JSON.
    pub(crate) fn limits(&mut self) -> Result<(Micros, Vec<Value>), LimitsError> {
        let (mut rows, mut time) = (Vec::new(), Micros::ZERO);
        for prefix in &self.configured.prefixes {
            let limits = self.limits_of(prefix)?;
            let names: Vec<&str> = limits.iter().map(|limit| limit.name.as_str()).collect();
            let (now, found) = self.store.of_limits(prefix, &names)?;
            time = now;
            let mut of_limits = OfLimits::new();
            for (limit, found) in limits.iter().zip(found) {
                rows.push(limit_row(limit, found.as_ref()));
                of_limits.extend(found.map(|found| (limit.name.clone().into_bytes(), found)));
            }
            self.of_limits.insert(prefix.clone(), of_limits);
        }
        Ok((time, rows))
    }

    /// Levels of buckets, in their order; `None` where there is no such limit, or no bucket under its key.
    pub(crate) fn levels(&mut self, buckets: &[BucketName]) -> Result<Vec<Option<Level>>, LimitsError> {
        let targets: Vec<Option<Target>> = buckets.iter().map(|bucket| target(self.configured, bucket)).collect();
        let known: Vec<&Target> = targets.iter().flatten().collect();
        let own = self.own_overrides(&known)?;
        let mut questions = Vec::new();
        for (target, own) in known.into_iter().zip(own) {
            let own = own.filter(|found| found.ruling().is_some());
            let of_limit = || self.of_limits.get(&target.limit.key_prefix)?.get(target.limit.name.as_bytes());
            let of_limit = || of_limit().filter(|found| found.ruling().is_some()).cloned();
            questions.push(Question::of(target, own.or_else(of_limit), Tokens(1))?);
        }
        let kept: Vec<_> = questions.iter().map(|question| question.kept.clone()).collect();
        let seen = self.store.look(&kept)?;
        let mut levels = questions.into_iter().zip(seen).map(|(question, seen)| {
            let levels: Levels<'_> = question.answered(seen?);
            Some(Level { json: levels.json(), is_limited: !levels.is_within })
        });
        Ok(targets.iter().map(|target| target.as_ref().and_then(|_| levels.next().flatten())).collect())
    }

    /// Overrides of these keys, in their order, as a scan finds them.
    pub(crate) fn overrides(&mut self, buckets: &[BucketName]) -> Result<Vec<Option<OverrideRow>>, LimitsError> {
        let targets: Vec<Option<Target>> = buckets.iter().map(|bucket| target(self.configured, bucket)).collect();
        let known: Vec<&Target> = targets.iter().flatten().collect();
        let mut own = self.own_overrides(&known)?.into_iter();
        let mut rows = Vec::new();
        for (bucket, target) in buckets.iter().zip(&targets) {
            let found = target.as_ref().and_then(|_| own.next().flatten());
            let limit = target.as_ref().map(|target| &target.limit);
            rows.push(found.map(|found| row(bucket.clone(), true, limit, &found)));
        }
        Ok(rows)
    }

    fn own_overrides(&mut self, targets: &[&Target]) -> Result<Vec<Option<Found>>, LimitsError> {
        let mut all: BTreeMap<usize, Option<Found>> = BTreeMap::new();
        for prefix in &self.configured.prefixes {
            let of_prefix = targets.iter().enumerate().filter(|(_, target)| target.limit.key_prefix == *prefix);
            let of_prefix: Vec<(usize, Vec<u8>)> =
                of_prefix.map(|(index, target)| (index, target.field().into_owned())).collect();
            let fields: Vec<Vec<u8>> = of_prefix.iter().map(|(_, field)| field.clone()).collect();
            let found = self.store.of_keys(prefix, &fields)?;
            all.extend(of_prefix.into_iter().map(|(index, _)| index).zip(found));
        }
        Ok(all.into_values().collect())
    }

    /// Runs one step of a scan. Returns the next position, `None` at the end, and the findings.
    pub(crate) fn step(&mut self, scan: Scan) -> Result<(Option<Scan>, Page), LimitsError> {
        let configured = self.configured;
        let Some(prefix) = configured.prefixes.get(scan.prefix) else { return Ok((None, Page::default())) };
        let (next, page) = match scan.phase {
            Phase::Hash(cursor) => {
                let (next, pairs, now) = self.store.page(prefix, cursor, STEP)?;
                let units = self.store.units.clone();
                let found =
                    pairs.iter().map(|(field, value)| (field.as_slice(), units.read(prefix, field, value, now)));
                let overrides = self.rows(prefix, found)?;
                let next = if next == 0 { Phase::Keys(Cursor::default()) } else { Phase::Hash(next) };
                (Some(Scan { phase: next, ..scan }), Page { overrides, ..Page::default() })
            }
            Phase::Keys(cursor) => {
                let (next, keys) = self.store.scan(cursor, &pattern(prefix, "*:*"), STEP)?;
                let page = self.page_of(prefix, keys)?;
                let after = Scan { prefix: scan.prefix.saturating_add(1), phase: Phase::default() };
                let after = Some(after).filter(|after| after.prefix < configured.prefixes.len());
                (next.map(|next| Scan { phase: Phase::Keys(next), ..scan }).or(after), page)
            }
        };
        Ok((next, page))
    }

    fn page_of(&mut self, prefix: &str, keys: Vec<Vec<u8>>) -> Result<Page, LimitsError> {
        let (overrides, buckets): (Vec<_>, Vec<_>) =
            keys.into_iter().partition(|key| key.ends_with(OVERRIDE_SUFFIX.as_bytes()));
        let (now, pairs) = self.store.pairs(prefix, &overrides)?;
        let units = self.store.units.clone();
        let found = pairs.iter().map(|(field, value)| (field.as_slice(), units.read(prefix, field, value, now)));
        let overrides = self.rows(prefix, found)?;
        let limits = self.limits_of(prefix)?;
        let none = OfLimits::new();
        let of_limits = self.of_limits.get(prefix).unwrap_or(&none);
        let spent = emptiest::of_page(&mut self.store, prefix, &limits, of_limits, &buckets)?;
        let waiting = spent.into_iter().filter(|spent| !spent.seen.admitted);
        let empty = waiting.filter_map(|spent| {
            let limit = limits.get(spent.limit)?;
            let key = shown_key(limit.has_one_bucket(), &spent.field);
            Some(BucketName { key_prefix: prefix.to_owned(), limit: limit.name.clone(), key })
        });
        let empty = empty.collect();
        Ok(Page { overrides, empty, key_prefix: prefix.to_owned(), buckets, keys: STEP })
    }

    fn rows<'f>(
        &self,
        prefix: &str,
        found: impl Iterator<Item = (&'f [u8], Found)>,
    ) -> Result<Vec<OverrideRow>, LimitsError> {
        let limits = self.limits_of(prefix)?;
        let rows = found.filter_map(|(field, found)| {
            let limit = limits.iter().copied().find(|limit| limit.name.as_bytes() == names(field));
            let is_key = untagged(field).contains(&b':');
            // Overrides of whole limits of the file are read apart.
            if !is_key && limit.is_some() {
                return None;
            }
            let is_only = limit.is_some_and(Limit::has_one_bucket);
            let key = if is_key { shown_key(is_only, field) } else { key_of(field) };
            let limit_name = names(field).escape_ascii().to_string();
            let bucket = BucketName { key_prefix: prefix.to_owned(), limit: limit_name, key };
            Some(row(bucket, is_key, limit, &found))
        });
        Ok(rows.collect())
    }

    /// The connection, and the overrides of whole limits with this prefix.
    pub(crate) fn store_of(&mut self, prefix: &str) -> (&mut Store, &OfLimits) {
        (&mut self.store, self.of_limits.entry(prefix.to_owned()).or_default())
    }

    /// The limits of the file with this prefix.
    pub(crate) fn limits_of(&self, prefix: &str) -> Result<Vec<&'a Limit>, LimitsError> {
        let configured = self.configured;
        Ok(configured.selected(None)?.into_iter().filter(|limit| limit.key_prefix == prefix).collect())
    }
}

fn row(bucket: BucketName, is_key: bool, limit: Option<&Limit>, found: &Found) -> OverrideRow {
    let json = override_row(&bucket, is_key, limit.is_some(), &found_json(found, limit));
    OverrideRow { bucket, is_key, json, is_over: found.is_over() }
}
