//! What operators read from Redis, and the little that they write.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::{Connection, ConnectionLike, IntoConnectionInfo, RedisError, RedisResult, Script};
use weir_filter::limit::TokenBucket;
use weir_filter::overrides::{Ruling, Setting, SettingError};
use weir_filter::units::Micros;

use super::configured::Target;
use super::error::LimitsError;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// A Redis that takes longer for one step of a scan should be left alone.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Keys that one step of a scan looks at.
const STEP: usize = 1_000;

/// Removes an override, unless it was set anew in the meantime.
const REMOVE_IF_SAME: &str =
    "if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then return redis.call('HDEL', KEYS[1], ARGV[1]) end return 0";

/// Seconds since 1970, and the microseconds beyond them.
type Clock = (u64, u64);
/// A field and its value.
type Pair = (Vec<u8>, Vec<u8>);

/// A connection to Redis.
pub(super) struct Store {
    connection: Connection,
    address: String,
}

/// An override, as it stands at the moment.
pub(super) enum Found {
    InForce { ruling: Ruling, left: Option<Micros> },
    Over,
    Malformed(SettingError),
}

impl Found {
    /// Reads a value of the hash, at Redis' time `now`.
    pub(super) fn read(value: &[u8], now: Micros) -> Self {
        match Setting::parse(value) {
            Err(error) => Self::Malformed(error),
            Ok(setting) if setting.is_over(now) => Self::Over,
            Ok(Setting { ruling, until }) => {
                Self::InForce { ruling, left: until.map(|until| Micros::from_secs(until).minus(now)) }
            }
        }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Over)
    }

    /// What holds because of it, if anything does.
    pub(super) fn ruling(&self) -> Option<Ruling> {
        match self {
            Self::InForce { ruling, .. } => Some(*ruling),
            Self::Over | Self::Malformed(_) => None,
        }
    }
}

impl Store {
    /// Connects, authenticates and selects as the URL says.
    pub(super) fn connect(url: &str) -> Result<Self, LimitsError> {
        let info = url.into_connection_info().map_err(LimitsError::Url)?;
        let address = info.addr().to_string();
        let failed = |source| LimitsError::Redis { address: address.clone(), source };
        let client = redis::Client::open(info).map_err(LimitsError::Url)?;
        let connection = client.get_connection_with_timeout(CONNECT_WITHIN).map_err(failed)?;
        connection.set_read_timeout(Some(ANSWER_WITHIN)).map_err(failed)?;
        connection.set_write_timeout(Some(ANSWER_WITHIN)).map_err(failed)?;
        Ok(Self { connection, address })
    }

    /// Its clock.
    pub(super) fn time(&mut self) -> Result<Micros, LimitsError> {
        self.ask(|redis| redis::cmd("TIME").query(redis)).map(instant)
    }

    /// One override.
    pub(super) fn setting(&mut self, hash: &str, field: &[u8]) -> Result<Option<Found>, LimitsError> {
        let (now, value): (Clock, Option<Vec<u8>>) =
            self.ask(|redis| redis::pipe().cmd("TIME").cmd("HGET").arg(hash).arg(field).query(redis))?;
        Ok(value.map(|value| Found::read(&value, instant(now))))
    }

    /// All overrides, by their fields.
    pub(super) fn settings(&mut self, hash: &str) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, LimitsError> {
        let mut all = BTreeMap::new();
        let mut cursor = 0_u64;
        loop {
            let (next, page): (u64, Vec<Pair>) =
                self.ask(|redis| redis::cmd("HSCAN").arg(hash).arg(cursor).arg("COUNT").arg(STEP).query(redis))?;
            all.extend(page);
            if next == 0 {
                return Ok(all);
            }
            cursor = next;
        }
    }

    /// Sets an override; how many there are now.
    pub(super) fn set(&mut self, hash: &str, field: &[u8], value: &str) -> Result<u64, LimitsError> {
        let (_, total): (u64, u64) = self.ask(|redis| {
            redis::pipe().cmd("HSET").arg(hash).arg(field).arg(value).cmd("HLEN").arg(hash).query(redis)
        })?;
        Ok(total)
    }

    /// Removes an override; whether there was one.
    pub(super) fn unset(&mut self, hash: &str, field: &[u8]) -> Result<bool, LimitsError> {
        self.ask(|redis| redis::cmd("HDEL").arg(hash).arg(field).query(redis))
    }

    /// Removes what has expired: workers pass it over, and nobody else would.
    pub(super) fn sweep(&mut self, hash: &str, now: Micros) -> Result<(), LimitsError> {
        for (field, value) in self.settings(hash)? {
            if Found::read(&value, now).is_over() {
                let script = Script::new(REMOVE_IF_SAME);
                let _: u64 = self.ask(|redis| script.key(hash).arg(&field).arg(&value).invoke(redis))?;
            }
        }
        Ok(())
    }

    /// How far a bucket is from full.
    pub(super) fn lack(&mut self, target: &Target<'_>, bucket: TokenBucket) -> Result<Micros, LimitsError> {
        let not_a_bucket = || LimitsError::NotABucket { key: target.key().escape_ascii().to_string() };
        let now = self.time()?;
        // On its own: of a pipeline, the error would be told in words only.
        let found: RedisResult<Option<Vec<u8>>> = redis::cmd("GET").arg(target.key()).query(&mut self.connection);
        match found {
            Ok(None) => Ok(Micros::ZERO),
            Ok(Some(arrival)) => lack(&arrival, now, bucket).ok_or_else(not_a_bucket),
            Err(error) if error.code() == Some("WRONGTYPE") => Err(not_a_bucket()),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Deletes a bucket; whether there was one.
    pub(super) fn reset(&mut self, target: &Target<'_>) -> Result<bool, LimitsError> {
        self.ask(|redis| redis::cmd("DEL").arg(target.key()).query(redis))
    }

    /// Keys of the whole database.
    pub(super) fn size(&mut self) -> Result<u64, LimitsError> {
        self.ask(|redis| redis::cmd("DBSIZE").query(redis))
    }

    /// Shows `each` all strings under keys that match, with Redis' time, a step at a time. A key that is there
    /// throughout is shown at least once; `stepped` is told how many keys a step has looked at.
    pub(super) fn scan(
        &mut self,
        pattern: &[u8],
        mut stepped: impl FnMut(u64),
        mut each: impl FnMut(Vec<u8>, Vec<u8>, Micros),
    ) -> Result<(), LimitsError> {
        let mut cursor = 0_u64;
        loop {
            let (next, keys): (u64, Vec<Vec<u8>>) = self.ask(|redis| {
                redis::cmd("SCAN").arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(STEP).query(redis)
            })?;
            if !keys.is_empty() {
                let (now, values): (Clock, Vec<Option<Vec<u8>>>) =
                    self.ask(|redis| redis::pipe().cmd("TIME").cmd("MGET").arg(&keys).query(redis))?;
                let found = keys.into_iter().zip(values).filter_map(|(key, value)| Some((key, value?)));
                found.for_each(|(key, value)| each(key, value, instant(now)));
            }
            stepped(STEP as u64);
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
    }

    fn ask<T>(&mut self, ask: impl FnOnce(&mut dyn ConnectionLike) -> RedisResult<T>) -> Result<T, LimitsError> {
        ask(&mut self.connection).map_err(|error| self.failed(error))
    }

    fn failed(&self, source: RedisError) -> LimitsError {
        LimitsError::Redis { address: self.address.clone(), source }
    }
}

/// How far the bucket is from full whose value is `arrival`, its theoretical arrival time; `None` where it is none.
pub(super) fn lack(arrival: &[u8], now: Micros, bucket: TokenBucket) -> Option<Micros> {
    let arrival: u64 = std::str::from_utf8(arrival).ok()?.parse().ok()?;
    // Further ahead than the bucket can be: it was larger, or the clock was set back. It is empty.
    Some(Micros(arrival).minus(now).min(bucket.fill_time()))
}

fn instant((seconds, micros): Clock) -> Micros {
    Micros::from_secs(seconds).plus(Micros(micros))
}
