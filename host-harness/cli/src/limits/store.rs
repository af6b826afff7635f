//! Redis commands of `weir limits` about buckets, and the connection.

use redis::{ConnectionLike, RedisError, RedisResult, ServerError, Value};
use weir_filter::limit::{BucketCheck, Outcome, Peek};
use weir_filter::redis::Reply;
use weir_filter::units::Micros;

use super::error::LimitsError;
use super::server::{Connection, Server};

/// Number of keys that one scan step looks at.
pub(super) const STEP: u64 = 1_000;
/// Number of script calls in one pipeline.
const AT_ONCE: usize = 256;

/// Redis' time: seconds since 1970, and microseconds within the second.
pub(super) type Clock = (u64, u64);

/// A connection to Redis.
pub(super) struct Store {
    connection: Connection,
    address: String,
    database: i64,
    look: Peek,
}

impl Store {
    /// Connects and logs in.
    pub(super) fn connect(server: &Server) -> Result<Self, LimitsError> {
        let (connection, address) = server.connect()?;
        Ok(Self { connection, address, database: server.database(), look: Peek::default() })
    }

    /// The Redis of the connection, without credentials: `127.0.0.1:6379/0`.
    pub(super) fn place(&self) -> String {
        format!("{}/{}", self.address, self.database)
    }

    /// Redis' time.
    pub(super) fn time(&mut self) -> Result<Micros, LimitsError> {
        self.ask(|redis| redis::cmd("TIME").query(redis)).map(instant)
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

    pub(super) fn ask<T>(
        &mut self,
        ask: impl FnOnce(&mut dyn ConnectionLike) -> RedisResult<T>,
    ) -> Result<T, LimitsError> {
        ask(&mut *self.connection).map_err(|error| self.failed(error))
    }

    fn failed(&self, source: RedisError) -> LimitsError {
        LimitsError::Redis { address: self.address.clone(), source }
    }
}

/// A glob pattern of `prefix`, taken literally, and `rest`.
pub(super) fn pattern(prefix: &str, rest: &str) -> Vec<u8> {
    let mut pattern = Vec::new();
    for byte in prefix.bytes() {
        if b"*?[]^\\".contains(&byte) {
            pattern.push(b'\\');
        }
        pattern.push(byte);
    }
    pattern.extend_from_slice(rest.as_bytes());
    pattern
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

pub(super) fn instant((seconds, micros): Clock) -> Micros {
    Micros::from_secs(seconds).plus(Micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_taken_literally() {
        assert_eq!(pattern("a*[b]?\\:", "*:*"), br"a\*\[b\]\?\\:*:*");
    }
}
