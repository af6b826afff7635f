//! Overrides in Redis: a field of a hash for a whole limit, a string beside the bucket for a key.
//!
//! Earlier versions kept overrides of keys in the hash as well. They are read, and removed with the next change of
//! their keys; [`Store::migrate`] moves all of them.

use redis::{FromRedisValue, Value};
use weir_filter::overrides::{ANNOUNCE_SCRIPT, Announced, KEPT_FOR, MARK, OVERRIDE_SUFFIX, SET_SCRIPT};
use weir_filter::units::Micros;

use super::configured::{OverrideKeys, Target};
use super::error::LimitsError;
use super::found::Found;
use super::store::{Cursor, STEP, Store, instant, pattern};

/// Script that removes an override unless its value has changed meanwhile.
const REMOVE_IF_SAME: &str =
    "if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then return redis.call('HDEL', KEYS[1], ARGV[1]) end return 0";

/// Number of fields in the hash beyond which no changes are announced: workers read all of them at an interval.
const MAX_ANNOUNCED: u64 = 2_000;

/// A field and its override's value.
pub(super) type Pair = (Vec<u8>, Vec<u8>);

/// Result of the move of one field.
pub(super) enum Moved {
    /// The override is a string now.
    Moved,
    /// The field was changed by another command meanwhile.
    Changed,
}

impl Store {
    /// The override of the target itself.
    pub(super) fn own(&mut self, target: &Target) -> Result<Option<Found>, LimitsError> {
        match target.is_key() {
            true => Ok(self.of_keys(&target.limit.key_prefix, &[target.field().into_owned()])?.pop().flatten()),
            false => self.of_limit(&target.limit.key_prefix, &target.limit.name),
        }
    }

    /// The override of a whole limit.
    pub(super) fn of_limit(&mut self, prefix: &str, name: &str) -> Result<Option<Found>, LimitsError> {
        let hash = OverrideKeys(prefix).hash();
        let (now, value): (_, Option<Vec<u8>>) =
            self.ask_timed(hash.as_bytes(), redis::cmd("HGET").arg(&hash).arg(name))?;
        Ok(value.map(|value| self.units.read(prefix, name.as_bytes(), &value, now)))
    }

    /// The overrides of keys, given by their fields: each key's string, otherwise its field in the hash.
    pub(crate) fn of_keys(&mut self, prefix: &str, fields: &[Vec<u8>]) -> Result<Vec<Option<Found>>, LimitsError> {
        if fields.is_empty() {
            return Ok(Vec::new());
        }
        let keys = OverrideKeys(prefix);
        let own: Vec<Vec<u8>> = fields.iter().map(|field| keys.own(field)).collect();
        let hash = keys.hash();
        type Values = Vec<Option<Vec<u8>>>;
        let (now, strings, older): (Micros, Values, Values) = if self.is_cluster() {
            let strings = self.strings(&own)?;
            let (now, older) = self.ask_timed(hash.as_bytes(), redis::cmd("HMGET").arg(&hash).arg(fields))?;
            (now, strings, older)
        } else {
            let (strings, older, now) = self.ask(&[], |redis| {
                let mut pipe = redis::pipe();
                pipe.cmd("MGET").arg(&own).cmd("HMGET").arg(&hash).arg(fields).cmd("TIME");
                pipe.query(redis)
            })?;
            (instant(now), strings, older)
        };
        let values = strings.into_iter().zip(older).map(|(string, older)| string.or(older));
        let read = |(value, field): (Option<Vec<u8>>, &Vec<u8>)| Some(self.units.read(prefix, field, &value?, now));
        Ok(values.zip(fields).map(read).collect())
    }

    /// Reads the overrides of the hash page by page. A field that exists throughout is read at least once.
    pub(super) fn each_field(
        &mut self,
        prefix: &str,
        mut each: impl FnMut(&mut Self, Vec<Pair>, Micros) -> Result<(), LimitsError>,
    ) -> Result<(), LimitsError> {
        self.each_page(prefix, |store, mut page, now| {
            page.retain(|(field, _)| !Announced::is_field(field));
            each(store, page, now)
        })
    }

    /// Reads the hash page by page, with announced changes.
    fn each_page(
        &mut self,
        prefix: &str,
        mut each: impl FnMut(&mut Self, Vec<Pair>, Micros) -> Result<(), LimitsError>,
    ) -> Result<(), LimitsError> {
        let mut cursor = 0_u64;
        loop {
            let (next, page, now) = self.whole_page(prefix, cursor, STEP)?;
            each(self, page, now)?;
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
    }

    /// Reads the strings of all keys that begin with `start`, which begins with `prefix`, page by page. A key that
    /// exists throughout is read at least once.
    pub(super) fn each_key(
        &mut self,
        prefix: &str,
        start: &str,
        mut each: impl FnMut(Vec<Pair>, Micros) -> Result<(), LimitsError>,
    ) -> Result<(), LimitsError> {
        let pattern = pattern(start, &format!("*{OVERRIDE_SUFFIX}"));
        let mut cursor = Cursor::default();
        loop {
            let (next, keys) = self.scan(cursor, &pattern, STEP)?;
            if !keys.is_empty() {
                let (now, pairs) = self.pairs(prefix, &keys)?;
                each(pairs, now)?;
            }
            let Some(next) = next else { return Ok(()) };
            cursor = next;
        }
    }

    /// Reads the overrides in these strings, whose keys begin with `prefix`, and Redis' time.
    pub(super) fn pairs(&mut self, prefix: &str, keys: &[Vec<u8>]) -> Result<(Micros, Vec<Pair>), LimitsError> {
        let Some(first) = keys.first() else { return Ok((Micros::ZERO, Vec::new())) };
        let (now, values) = match self.is_cluster() {
            true => (self.time(first)?, self.strings(keys)?),
            false => self.ask_timed(first, redis::cmd("MGET").arg(keys))?,
        };
        let field = |key: &[u8]| {
            let key = key.get(prefix.len()..)?.strip_suffix(OVERRIDE_SUFFIX.as_bytes())?;
            key.contains(&b':').then(|| key.to_vec())
        };
        let pairs = keys.iter().zip(values).filter_map(|(key, value)| Some((field(key)?, value?)));
        Ok((now, pairs.collect()))
    }

    /// Reads one page of the hash of overrides, about `step` fields, without announced changes. Returns the next cursor, 0
    /// at the end, and Redis' time.
    pub(super) fn page(
        &mut self,
        prefix: &str,
        cursor: u64,
        step: u64,
    ) -> Result<(u64, Vec<Pair>, Micros), LimitsError> {
        let (next, mut page, now) = self.whole_page(prefix, cursor, step)?;
        page.retain(|(field, _)| !Announced::is_field(field));
        Ok((next, page, now))
    }

    fn whole_page(&mut self, prefix: &str, cursor: u64, step: u64) -> Result<(u64, Vec<Pair>, Micros), LimitsError> {
        let hash = OverrideKeys(prefix).hash();
        let (now, (next, page)) =
            self.ask_timed(hash.as_bytes(), redis::cmd("HSCAN").arg(&hash).arg(cursor).arg("COUNT").arg(step))?;
        Ok((next, page, now))
    }

    /// The overrides of whole limits with these names, and Redis' time.
    pub(super) fn of_limits(
        &mut self,
        prefix: &str,
        names: &[&str],
    ) -> Result<(Micros, Vec<Option<Found>>), LimitsError> {
        let hash = OverrideKeys(prefix).hash();
        let (now, values): (_, Vec<Option<Vec<u8>>>) =
            self.ask_timed(hash.as_bytes(), redis::cmd("HMGET").arg(&hash).arg(names))?;
        let read =
            |(value, name): (Option<Vec<u8>>, &&str)| Some(self.units.read(prefix, name.as_bytes(), &value?, now));
        Ok((now, values.into_iter().zip(names).map(read).collect()))
    }

    /// Reads strings in any hash slots; `None` for a key that has none.
    fn strings(&mut self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, LimitsError> {
        let each: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let replies = self.ask_all(&each, &|index, _| redis::cmd("MGET").arg(keys.get(index)).get_packed_command())?;
        let place = self.place();
        let one = |reply: Value| {
            let values = reply.extract_error().and_then(|reply| Ok(Vec::from_redis_value(reply)?));
            let values: Vec<Option<Vec<u8>>> =
                values.map_err(|source| LimitsError::Redis { address: place.clone(), source })?;
            Ok(values.into_iter().next().flatten())
        };
        replies.into_iter().map(one).collect()
    }

    /// Sets the override of the target. `until` is its end in Unix seconds. Returns the number of fields in the hash.
    pub(super) fn set(&mut self, target: &Target, value: &str, until: Option<u64>) -> Result<u64, LimitsError> {
        let hash = OverrideKeys(&target.limit.key_prefix).hash();
        if target.is_key() && target.limit.reads_keys() {
            self.run(&target.limit.key_prefix, &target.field(), value, until, None)?;
            self.announce(&target.limit.key_prefix, &target.field(), value)?;
        } else {
            if target.is_key() {
                self.run(&target.limit.key_prefix, &target.field(), "", None, None)?;
            }
            let field = target.field();
            let field: &[u8] = &field;
            let _: u64 =
                self.ask(hash.as_bytes(), |redis| redis::cmd("HSET").arg(&hash).arg(field).arg(value).query(redis))?;
        }
        self.ask(hash.as_bytes(), |redis| redis::cmd("HLEN").arg(&hash).query(redis))
    }

    /// Removes the override of the target. Returns whether there was one.
    pub(super) fn unset(&mut self, target: &Target) -> Result<bool, LimitsError> {
        if target.is_key() {
            let had = self.run(&target.limit.key_prefix, &target.field(), "", None, None)? > 0;
            if had && target.limit.reads_keys() {
                self.announce(&target.limit.key_prefix, &target.field(), "")?;
            }
            return Ok(had);
        }
        let hash = OverrideKeys(&target.limit.key_prefix).hash();
        self.ask(hash.as_bytes(), |redis| redis::cmd("HDEL").arg(&hash).arg(&target.limit.name).query(redis))
    }

    /// Announces the override of a key to the workers that decide without Redis.
    fn announce(&mut self, prefix: &str, field: &[u8], value: &str) -> Result<(), LimitsError> {
        let hash = OverrideKeys(prefix).hash();
        let change = [&[MARK], field].concat();
        self.ask(hash.as_bytes(), |redis| {
            let mut command = redis::cmd("EVAL");
            command.arg(ANNOUNCE_SCRIPT).arg(1).arg(&hash).arg(&change).arg(value).arg(MAX_ANNOUNCED);
            command.query(redis)
        })
    }

    /// Moves the override of a key from the hash, where it has this value, to a string.
    pub(super) fn migrate(
        &mut self,
        prefix: &str,
        (field, value): &Pair,
        until: Option<u64>,
    ) -> Result<Moved, LimitsError> {
        let had = self.run(prefix, field, value, until, Some(value))?;
        Ok(if had < 0 { Moved::Changed } else { Moved::Moved })
    }

    /// Removes a field of the hash if it still has this value.
    pub(super) fn remove_if_same(&mut self, prefix: &str, (field, value): &Pair) -> Result<(), LimitsError> {
        let hash = OverrideKeys(prefix).hash();
        self.ask(hash.as_bytes(), |redis| {
            redis::cmd("EVAL").arg(REMOVE_IF_SAME).arg(1).arg(&hash).arg(field).arg(value).query(redis)
        })
    }

    /// Removes expired overrides and old announcements from the hash: workers ignore them, and do not delete them.
    pub(super) fn sweep(&mut self, prefix: &str) -> Result<(), LimitsError> {
        self.each_page(prefix, |store, page, now| {
            let is_over = |(field, value): &&Pair| match Announced::is_field(field) {
                true => Announced::read(field, value).is_none_or(|change| change.at.plus(KEPT_FOR) < now),
                false => Found::read(value, now).is_over(),
            };
            let mut over = page.iter().filter(is_over);
            over.try_for_each(|pair| store.remove_if_same(prefix, pair))
        })
    }

    /// Runs the script that sets or removes the override of a key, and removes the key's field of the hash, which in a
    /// cluster is in another hash slot.
    fn run(
        &mut self,
        prefix: &str,
        field: &[u8],
        value: impl AsRef<[u8]>,
        until: Option<u64>,
        moved: Option<&[u8]>,
    ) -> Result<i64, LimitsError> {
        let keys = OverrideKeys(prefix);
        let (bucket, hash) = (keys.bucket(field), keys.hash());
        let ends_at = until.unwrap_or_default().saturating_mul(1_000);
        let is_cluster = self.is_cluster();
        if is_cluster && moved.is_some() {
            let of_hash: Option<Vec<u8>> =
                self.ask(hash.as_bytes(), |redis| redis::cmd("HGET").arg(&hash).arg(field).query(redis))?;
            if of_hash.as_deref() != moved {
                return Ok(-1);
            }
        }
        let had: i64 = self.ask(&bucket, |redis| {
            let mut command = redis::cmd("EVAL");
            command.arg(SET_SCRIPT).arg(if is_cluster { 2 } else { 3 });
            command.arg(&bucket).arg(keys.own(field)).arg(Some(&hash).filter(|_| !is_cluster));
            command.arg(value.as_ref()).arg(ends_at).arg(field).arg(moved);
            command.query(redis)
        })?;
        if !is_cluster {
            return Ok(had);
        }
        let of_hash = self.ask(hash.as_bytes(), |redis| redis::cmd("HDEL").arg(&hash).arg(field).query(redis))?;
        Ok(had.max(of_hash))
    }
}
