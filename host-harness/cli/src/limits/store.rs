//! Redis commands of `weir limits`.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::{Connection, ConnectionLike, IntoConnectionInfo, RedisError, RedisResult, Script, ServerError, Value};
use weir_filter::limit::{BucketCheck, Outcome, Peek};
use weir_filter::overrides::{Ruling, Setting, SettingError};
use weir_filter::redis::Reply;
use weir_filter::units::Micros;

use super::error::LimitsError;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Time limit of each reply. A Redis that needs longer for one scan step is too busy to be scanned.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Number of keys that one scan step looks at.
pub(super) const STEP: u64 = 1_000;
/// Number of script calls in one pipeline.
const AT_ONCE: usize = 256;

/// Script that removes an override unless its value has changed meanwhile.
const REMOVE_IF_SAME: &str =
    "if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then return redis.call('HDEL', KEYS[1], ARGV[1]) end return 0";

/// Redis' time: seconds since 1970, and microseconds within the second.
type Clock = (u64, u64);
/// A field of a hash and its value.
type Pair = (Vec<u8>, Vec<u8>);

/// A connection to Redis.
pub(super) struct Store {
    connection: Connection,
    address: String,
    look: Peek,
}

/// An override found in Redis, with its state at Redis' current time.
pub(super) enum Found {
    InForce { ruling: Ruling, left: Option<Micros> },
    Over,
    Malformed(SettingError),
}

impl Found {
    /// Parses a value of the hash; `now` is Redis' time.
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

    /// The ruling, if it is in force.
    pub(super) fn ruling(&self) -> Option<&Ruling> {
        match self {
            Self::InForce { ruling, .. } => Some(ruling),
            Self::Over | Self::Malformed(_) => None,
        }
    }
}

impl Store {
    /// Connects, authenticates and selects the database of the URL.
    pub(super) fn connect(url: &str) -> Result<Self, LimitsError> {
        let info = url.into_connection_info().map_err(LimitsError::Url)?;
        let address = info.addr().to_string();
        let failed = |source| LimitsError::Redis { address: address.clone(), source };
        let client = redis::Client::open(info).map_err(LimitsError::Url)?;
        let connection = client.get_connection_with_timeout(CONNECT_WITHIN).map_err(failed)?;
        connection.set_read_timeout(Some(ANSWER_WITHIN)).map_err(failed)?;
        connection.set_write_timeout(Some(ANSWER_WITHIN)).map_err(failed)?;
        Ok(Self { connection, address, look: Peek::default() })
    }

    /// Redis' time.
    pub(super) fn time(&mut self) -> Result<Micros, LimitsError> {
        self.ask(|redis| redis::cmd("TIME").query(redis)).map(instant)
    }

    /// The override in this field of the hash.
    pub(super) fn setting(&mut self, hash: &str, field: &[u8]) -> Result<Option<Found>, LimitsError> {
        let (now, value): (Clock, Option<Vec<u8>>) =
            self.ask(|redis| redis::pipe().cmd("TIME").cmd("HGET").arg(hash).arg(field).query(redis))?;
        Ok(value.map(|value| Found::read(&value, instant(now))))
    }

    /// All overrides of the hash, by field.
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

    /// Sets an override. Returns the number of overrides in the hash.
    pub(super) fn set(&mut self, hash: &str, field: &[u8], value: &str) -> Result<u64, LimitsError> {
        let (_, total): (u64, u64) = self.ask(|redis| {
            redis::pipe().cmd("HSET").arg(hash).arg(field).arg(value).cmd("HLEN").arg(hash).query(redis)
        })?;
        Ok(total)
    }

    /// Removes an override. Returns whether there was one.
    pub(super) fn unset(&mut self, hash: &str, field: &[u8]) -> Result<bool, LimitsError> {
        self.ask(|redis| redis::cmd("HDEL").arg(hash).arg(field).query(redis))
    }

    /// Removes expired overrides: workers ignore them, and do not delete them.
    pub(super) fn sweep(&mut self, hash: &str, now: Micros) -> Result<(), LimitsError> {
        for (field, value) in self.settings(hash)? {
            if Found::read(&value, now).is_over() {
                let script = Script::new(REMOVE_IF_SAME);
                let _: u64 = self.ask(|redis| script.key(hash).arg(&field).arg(&value).invoke(redis))?;
            }
        }
        Ok(())
    }

    /// Reads buckets without changing them, see [`Peek`]. The buckets of one item are read at one instant. An item is
    /// `None` if one of its keys holds another kind of value.
    pub(super) fn look(&mut self, buckets: &[Vec<BucketCheck>]) -> Result<Vec<Option<Vec<Outcome>>>, LimitsError> {
        let mut seen = Vec::with_capacity(buckets.len());
        for some in buckets.chunks(AT_ONCE) {
            let mut wire = Vec::new();
            for (i, check) in some.iter().enumerate() {
                let call = self.look.call(check);
                // The first call carries the script's source; Redis has it cached for the others.
                match i {
                    0 => _ = call.encode_with_source(&mut wire),
                    _ => call.encode(&mut wire),
                }
            }
            let replies = self.ask(|redis| redis.req_packed_commands(&wire, 0, some.len()))?;
            for (check, reply) in some.iter().zip(replies) {
                seen.push(self.seen(check, reply)?);
            }
        }
        Ok(seen)
    }

    fn seen(&self, check: &[BucketCheck], reply: Value) -> Result<Option<Vec<Outcome>>, LimitsError> {
        let reply = match reply {
            Value::ServerError(error) if is_wrong_type(&error) => return Ok(None),
            Value::ServerError(error) => return Err(self.failed(error.into())),
            other => integers(other),
        };
        let malformed = |source| LimitsError::Malformed { address: self.address.clone(), source };
        Peek::read(check, &reply).map(Some).map_err(malformed)
    }

    /// Deletes buckets. Returns whether any of them existed.
    pub(super) fn reset(&mut self, keys: &[&[u8]]) -> Result<bool, LimitsError> {
        // One DEL per key: in a Redis Cluster, the keys may be in different slots.
        let mut pipe = redis::pipe();
        keys.iter().for_each(|key| _ = pipe.cmd("DEL").arg(*key));
        let deleted: Vec<u64> = self.ask(|redis| pipe.query(redis))?;
        Ok(deleted.iter().any(|deleted| *deleted > 0))
    }

    /// Number of keys in the database.
    pub(super) fn size(&mut self) -> Result<u64, LimitsError> {
        self.ask(|redis| redis::cmd("DBSIZE").query(redis))
    }

    /// Runs one step of a scan, from `cursor`, which is 0 at first. Returns the next cursor, 0 at the end, and the keys
    /// that match. A key that exists throughout a scan is found at least once.
    pub(super) fn scan(&mut self, cursor: u64, pattern: &[u8]) -> Result<(u64, Vec<Vec<u8>>), LimitsError> {
        self.ask(|redis| redis::cmd("SCAN").arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(STEP).query(redis))
    }

    fn ask<T>(&mut self, ask: impl FnOnce(&mut dyn ConnectionLike) -> RedisResult<T>) -> Result<T, LimitsError> {
        ask(&mut self.connection).map_err(|error| self.failed(error))
    }

    fn failed(&self, source: RedisError) -> LimitsError {
        LimitsError::Redis { address: self.address.clone(), source }
    }
}

/// Whether the error is WRONGTYPE. An error inside a script has this word in its text, and another code.
fn is_wrong_type(error: &ServerError) -> bool {
    error.code() == "WRONGTYPE" || error.details().is_some_and(|words| words.contains("WRONGTYPE"))
}

/// Converts a script's reply into the filter's type.
fn integers(value: Value) -> Reply {
    match value {
        Value::Int(n) => Reply::Integer(n),
        Value::Array(values) => Reply::Array(values.into_iter().map(integers).collect()),
        // Our script returns only integers and arrays.
        _ => Reply::Nil,
    }
}

fn instant((seconds, micros): Clock) -> Micros {
    Micros::from_secs(seconds).plus(Micros(micros))
}
