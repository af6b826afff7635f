//! Redis commands of `weir limits` about buckets, and the connection.

use std::collections::BTreeMap;

use redis::{Cmd, ConnectionLike, FromRedisValue, RedisResult, ServerError, Value};
use weir_filter::limit::{BucketCheck, BudgetLevel, BudgetLevels, Outcome, Peek, RESET_SCRIPT};
use weir_filter::redis::{Call, Reply};
use weir_filter::units::Micros;

use super::error::LimitsError;
use super::found::KnownUnits;
use super::nodes::Nodes;
use super::server::{Connection, Server};

/// Number of keys that one scan step looks at.
pub(crate) const STEP: u64 = 1_000;
/// Number of script calls in one pipeline.
const AT_ONCE: usize = 256;

/// Redis' time: seconds since 1970, and microseconds within the second.
pub(crate) type Clock = (u64, u64);

/// Position of a scan: a master of a cluster, its node, and the node's cursor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    master: usize,
    /// Node that serves the master's hash slots since its scan began: cursors are of one node.
    node: usize,
    cursor: u64,
}

/// Connection to Redis, or to the masters of a Redis Cluster.
pub(crate) struct Store {
    link: Link,
    look: Peek,
    levels: BudgetLevels,
    pub(super) units: KnownUnits,
}

enum Link {
    Single { connection: Connection, address: String, database: i64 },
    Cluster(Box<Nodes>),
}

impl Store {
    /// Connects and logs in. Overrides of other units than `units` are malformed.
    pub(super) fn connect(server: Server, units: KnownUnits) -> Result<Self, LimitsError> {
        let link = if server.cluster_nodes().is_some() {
            Link::Cluster(Box::new(Nodes::connect(server)?))
        } else {
            let (connection, address) = server.connect()?;
            Link::Single { connection, address: address.to_string(), database: server.login().database }
        };
        Ok(Self { link, look: Peek::default(), levels: BudgetLevels::default(), units })
    }

    /// The Redis of the connection, without credentials: `127.0.0.1:6379/0`.
    pub(crate) fn place(&self) -> String {
        match &self.link {
            Link::Single { address, database, .. } => format!("{address}/{database}"),
            Link::Cluster(nodes) => format!("cluster of {}", nodes.addresses()),
        }
    }

    /// Whether keys are in different hash slots, so that a script has keys of one only.
    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.link, Link::Cluster(_))
    }

    /// Time of the Redis that has a key.
    pub(crate) fn time(&mut self, key: &[u8]) -> Result<Micros, LimitsError> {
        self.ask(key, |redis| redis::cmd("TIME").query(redis)).map(instant)
    }

    /// Reads buckets without changing them, see [`Peek`]. The buckets of one item are read at one instant. An item is
    /// `None` if one of its keys holds another kind of value.
    pub(crate) fn look(&mut self, buckets: &[Vec<BucketCheck>]) -> Result<Vec<Option<Vec<Outcome>>>, LimitsError> {
        let mut seen = Vec::with_capacity(buckets.len());
        for some in buckets.chunks(AT_ONCE) {
            let calls: Vec<Call> = some.iter().map(|check| self.look.call(check)).collect();
            let keys: Vec<&[u8]> =
                some.iter().map(|check| check.first().map_or(&b""[..], |bucket| &bucket.key)).collect();
            let replies = self.ask_each(&keys, &calls)?;
            for (check, reply) in some.iter().zip(replies) {
                seen.push(self.seen(check, reply)?);
            }
        }
        Ok(seen)
    }

    /// Runs a call of one script for each key, and returns the replies in their order.
    fn ask_each(&mut self, keys: &[&[u8]], calls: &[Call]) -> Result<Vec<Value>, LimitsError> {
        self.ask_all(keys, &|index, is_first| {
            let mut wire = Vec::new();
            // The first call carries the script's source; Redis has it cached for the others.
            match calls.get(index) {
                Some(call) if is_first => _ = call.encode_with_source(&mut wire),
                call => call.iter().for_each(|call| call.encode(&mut wire)),
            }
            wire
        })
    }

    /// Reads the levels of budgets, and changes nothing. `None` if the key holds no budget.
    pub(crate) fn levels(&mut self, budgets: &[BucketCheck]) -> Result<Vec<Option<BudgetLevel>>, LimitsError> {
        let mut levels = Vec::with_capacity(budgets.len());
        for some in budgets.chunks(AT_ONCE) {
            let calls: Vec<Call> = some.iter().map(|check| self.levels.call(check)).collect();
            let keys: Vec<&[u8]> = some.iter().map(|check| check.key.as_slice()).collect();
            for (check, reply) in some.iter().zip(self.ask_each(&keys, &calls)?) {
                levels.push(match reply {
                    Value::ServerError(error) if is_wrong_type(&error) => None,
                    Value::ServerError(error) => {
                        return Err(LimitsError::Redis { address: self.place(), source: error.into() });
                    }
                    reply => BudgetLevels::read(check, &integers(reply)),
                });
            }
        }
        Ok(levels)
    }

    fn seen(&self, check: &[BucketCheck], reply: Value) -> Result<Option<Vec<Outcome>>, LimitsError> {
        let reply = match reply {
            Value::ServerError(error) if is_wrong_type(&error) => return Ok(None),
            Value::ServerError(error) => {
                return Err(LimitsError::Redis { address: self.place(), source: error.into() });
            }
            other => integers(other),
        };
        let malformed = |source| LimitsError::Malformed { address: self.place(), source };
        Peek::read(check, &reply).map(Some).map_err(malformed)
    }

    /// Deletes buckets, each with the time to which its capacity applies, if any; and keeps workers from healing them.
    /// Returns whether any of them existed.
    pub(crate) fn reset(&mut self, buckets: &BTreeMap<Vec<u8>, Option<Micros>>) -> Result<bool, LimitsError> {
        let mut any = false;
        for (key, period) in buckets {
            // A sliding window counts for two windows.
            let remembered = period.unwrap_or_default().times(2).to_millis_ceil();
            let mark = [key, &b"#reset"[..]].concat();
            let deleted: u64 = self.ask(key, |redis| {
                let mut command = redis::cmd("EVAL");
                command.arg(RESET_SCRIPT).arg(2).arg(key).arg(&mark).arg(remembered).query(redis)
            })?;
            any |= deleted > 0;
        }
        Ok(any)
    }

    /// Number of keys in the database, or in all masters of a cluster.
    pub(crate) fn size(&mut self) -> Result<u64, LimitsError> {
        let mut size: u64 = 0;
        for master in 0..self.masters() {
            let node = self.node_of(master)?;
            size += self.ask_node::<u64>(node, &|redis| redis::cmd("DBSIZE").query(redis))?;
        }
        Ok(size)
    }

    /// Runs one step of a scan, from a position, which looks at about `step` keys. Returns the next position, `None` at the
    /// end, and the keys that match. A key that exists throughout a scan is found at least once, unless its hash slot moves
    /// meanwhile.
    pub(crate) fn scan(
        &mut self,
        Cursor { master, node, cursor }: Cursor,
        pattern: &[u8],
        step: u64,
    ) -> Result<(Option<Cursor>, Vec<Vec<u8>>), LimitsError> {
        let node = if cursor == 0 { self.node_of(master)? } else { node };
        let (next, keys): (u64, _) = self.ask_node(node, &|redis| {
            redis::cmd("SCAN").arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(step).query(redis)
        })?;
        let next = match next {
            0 => Cursor { master: master + 1, ..Cursor::default() },
            cursor => Cursor { master, node, cursor },
        };
        Ok((Some(next).filter(|next| next.master < self.masters()), keys))
    }

    /// Sends a command for a key.
    pub(crate) fn ask<T>(
        &mut self,
        key: &[u8],
        ask: impl Fn(&mut dyn ConnectionLike) -> RedisResult<T>,
    ) -> Result<T, LimitsError> {
        match &mut self.link {
            Link::Single { connection, address, .. } => single(connection, address, &ask),
            Link::Cluster(nodes) => nodes.ask(key, &ask),
        }
    }

    /// Sends a command for a key. Returns the time of the Redis that has the key, and the reply.
    pub(crate) fn ask_timed<T: FromRedisValue>(
        &mut self,
        key: &[u8],
        command: &Cmd,
    ) -> Result<(Micros, T), LimitsError> {
        let (reply, now): (T, Clock) =
            self.ask(key, |redis| redis::pipe().add_command(command.clone()).cmd("TIME").query(redis))?;
        Ok((instant(now), reply))
    }

    /// Sends a command for each key, and returns the replies in their order. `packed` writes the command of a key by
    /// its index, and gets whether it is the first that its Redis sees.
    pub(crate) fn ask_all(
        &mut self,
        keys: &[&[u8]],
        packed: &dyn Fn(usize, bool) -> Vec<u8>,
    ) -> Result<Vec<Value>, LimitsError> {
        match &mut self.link {
            Link::Single { connection, address, .. } => {
                let wire: Vec<u8> = (0..keys.len()).flat_map(|index| packed(index, index == 0)).collect();
                single(connection, address, &|redis| redis.req_packed_commands(&wire, 0, keys.len()))
            }
            Link::Cluster(nodes) => nodes.ask_all(keys, packed),
        }
    }

    /// Number of masters: 1 without a cluster.
    fn masters(&self) -> usize {
        match &self.link {
            Link::Single { .. } => 1,
            Link::Cluster(nodes) => nodes.masters().len(),
        }
    }

    /// The node that is the master now.
    fn node_of(&mut self, master: usize) -> Result<usize, LimitsError> {
        match &mut self.link {
            Link::Single { .. } => Ok(0),
            Link::Cluster(nodes) => nodes.reach(master),
        }
    }

    fn ask_node<T>(
        &mut self,
        node: usize,
        ask: &dyn Fn(&mut dyn ConnectionLike) -> RedisResult<T>,
    ) -> Result<T, LimitsError> {
        match &mut self.link {
            Link::Single { connection, address, .. } => single(connection, address, ask),
            Link::Cluster(nodes) => nodes.ask_node(node, ask),
        }
    }
}

fn single<T>(
    connection: &mut Connection,
    address: &str,
    ask: &dyn Fn(&mut dyn ConnectionLike) -> RedisResult<T>,
) -> Result<T, LimitsError> {
    ask(&mut **connection).map_err(|source| LimitsError::Redis { address: address.to_owned(), source })
}

/// A glob pattern of `prefix`, taken literally, and `rest`.
pub(crate) fn pattern(prefix: &str, rest: &str) -> Vec<u8> {
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
        Value::BulkString(bytes) => Reply::Bulk(bytes),
        // Our scripts return nothing else.
        _ => Reply::Nil,
    }
}

pub(crate) fn instant((seconds, micros): Clock) -> Micros {
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
