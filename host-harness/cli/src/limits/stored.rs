//! Overrides in Redis: a field of a hash for a whole limit, a string beside the bucket for a key.
//!
//! Earlier versions kept overrides of keys in the hash as well. They are read, and removed with the next change of
//! their keys; [`Store::migrate`] moves all of them.

use weir_filter::overrides::{OVERRIDE_SUFFIX, SET_SCRIPT};
use weir_filter::units::Micros;

use super::configured::{OverrideKeys, Target};
use super::error::LimitsError;
use super::found::Found;
use super::store::{Clock, STEP, Store, instant, pattern};

/// Script that removes an override unless its value has changed meanwhile.
const REMOVE_IF_SAME: &str =
    "if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then return redis.call('HDEL', KEYS[1], ARGV[1]) end return 0";

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
        let (now, value): (Clock, Option<Vec<u8>>) =
            self.ask(|redis| redis::pipe().cmd("TIME").cmd("HGET").arg(hash).arg(name).query(redis))?;
        Ok(value.map(|value| Found::read(&value, instant(now))))
    }

    /// The overrides of keys, given by their fields: each key's string, otherwise its field in the hash.
    pub(super) fn of_keys(&mut self, prefix: &str, fields: &[Vec<u8>]) -> Result<Vec<Option<Found>>, LimitsError> {
        if fields.is_empty() {
            return Ok(Vec::new());
        }
        let keys = OverrideKeys(prefix);
        let own: Vec<Vec<u8>> = fields.iter().map(|field| keys.own(field)).collect();
        type Values = Vec<Option<Vec<u8>>>;
        let (now, strings, older): (Clock, Values, Values) = self.ask(|redis| {
            let mut pipe = redis::pipe();
            pipe.cmd("TIME").cmd("MGET").arg(&own).cmd("HMGET").arg(keys.hash()).arg(fields);
            pipe.query(redis)
        })?;
        let now = instant(now);
        let values = strings.into_iter().zip(older).map(|(string, older)| string.or(older));
        Ok(values.map(|value| value.map(|value| Found::read(&value, now))).collect())
    }

    /// Reads the hash page by page. A field that exists throughout is read at least once.
    pub(super) fn each_field(
        &mut self,
        prefix: &str,
        mut each: impl FnMut(&mut Self, Vec<Pair>, Micros) -> Result<(), LimitsError>,
    ) -> Result<(), LimitsError> {
        let hash = OverrideKeys(prefix).hash();
        let mut cursor = 0_u64;
        loop {
            let (now, (next, page)): (Clock, (u64, Vec<Pair>)) = self.ask(|redis| {
                let mut pipe = redis::pipe();
                pipe.cmd("TIME").cmd("HSCAN").arg(&hash).arg(cursor).arg("COUNT").arg(STEP);
                pipe.query(redis)
            })?;
            each(self, page, instant(now))?;
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
    }

    /// Reads the strings of all keys, or of the keys of one limit, page by page. A key that exists throughout is read
    /// at least once.
    pub(super) fn each_key(
        &mut self,
        prefix: &str,
        limit: Option<&str>,
        mut each: impl FnMut(Vec<Pair>, Micros) -> Result<(), LimitsError>,
    ) -> Result<(), LimitsError> {
        let start = limit.map_or_else(|| prefix.to_owned(), |name| format!("{prefix}{name}:"));
        let pattern = pattern(&start, &format!("*{OVERRIDE_SUFFIX}"));
        let mut cursor = 0;
        loop {
            let (next, keys) = self.scan(cursor, &pattern)?;
            if !keys.is_empty() {
                let (now, values): (Clock, Vec<Option<Vec<u8>>>) =
                    self.ask(|redis| redis::pipe().cmd("TIME").cmd("MGET").arg(&keys).query(redis))?;
                let field = |key: &[u8]| {
                    let key = key.get(prefix.len()..)?.strip_suffix(OVERRIDE_SUFFIX.as_bytes())?;
                    key.contains(&b':').then(|| key.to_vec())
                };
                let pairs = keys.iter().zip(values).filter_map(|(key, value)| Some((field(key)?, value?)));
                each(pairs.collect(), instant(now))?;
            }
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
    }

    /// Sets the override of the target. `until` is its end in Unix seconds. Returns the number of fields in the hash.
    pub(super) fn set(&mut self, target: &Target, value: &str, until: Option<u64>) -> Result<u64, LimitsError> {
        let hash = OverrideKeys(&target.limit.key_prefix).hash();
        if target.is_key() && target.limit.reads_keys() {
            self.run(&target.limit.key_prefix, &target.field(), value, until, None)?;
        } else {
            if target.is_key() {
                self.run(&target.limit.key_prefix, &target.field(), "", None, None)?;
            }
            let field = target.field();
            let field: &[u8] = &field;
            let _: u64 = self.ask(|redis| redis::cmd("HSET").arg(&hash).arg(field).arg(value).query(redis))?;
        }
        self.ask(|redis| redis::cmd("HLEN").arg(&hash).query(redis))
    }

    /// Removes the override of the target. Returns whether there was one.
    pub(super) fn unset(&mut self, target: &Target) -> Result<bool, LimitsError> {
        if target.is_key() {
            return Ok(self.run(&target.limit.key_prefix, &target.field(), "", None, None)? > 0);
        }
        let hash = OverrideKeys(&target.limit.key_prefix).hash();
        self.ask(|redis| redis::cmd("HDEL").arg(hash).arg(&target.limit.name).query(redis))
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
        self.ask(|redis| redis::cmd("EVAL").arg(REMOVE_IF_SAME).arg(1).arg(hash).arg(field).arg(value).query(redis))
    }

    /// Removes expired overrides from the hash: workers ignore them, and do not delete them.
    pub(super) fn sweep(&mut self, prefix: &str) -> Result<(), LimitsError> {
        self.each_field(prefix, |store, page, now| {
            let mut over = page.iter().filter(|(_, value)| Found::read(value, now).is_over());
            over.try_for_each(|pair| store.remove_if_same(prefix, pair))
        })
    }

    /// Runs the script that sets or removes the override of a key.
    fn run(
        &mut self,
        prefix: &str,
        field: &[u8],
        value: impl AsRef<[u8]>,
        until: Option<u64>,
        moved: Option<&[u8]>,
    ) -> Result<i64, LimitsError> {
        let keys = OverrideKeys(prefix);
        let ends_at = until.unwrap_or_default().saturating_mul(1_000);
        self.ask(|redis| {
            let mut command = redis::cmd("EVAL");
            command.arg(SET_SCRIPT).arg(3);
            command.arg(keys.bucket(field)).arg(keys.own(field)).arg(keys.hash());
            command.arg(value.as_ref()).arg(ends_at).arg(field);
            moved.iter().for_each(|value| _ = command.arg(*value));
            command.query(redis)
        })
    }
}
