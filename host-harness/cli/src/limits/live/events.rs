//! Entries of the streams of events.

use redis::streams::StreamRangeReply;
use redis::{FromRedisValue, Value};
use weir_filter::config::{Config, EventsOnly, Fraction};

use super::reading::Reading;
use super::{BucketName, LimitsError, shown_key};
use crate::limits::emptiest::without_tag;
use crate::limits::list::names;

/// Stream of a limiter's events.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stream {
    /// The stream's key.
    pub(crate) key: String,
    /// Key prefix of the limiter.
    pub(crate) key_prefix: String,
    /// Whether admitted requests are events as well.
    pub(crate) has_admitted: bool,
    /// Whether the events are a sample.
    pub(crate) is_sample: bool,
    /// Number of entries that the stream keeps, about.
    pub(crate) max_len: u64,
}

/// Id of an entry: milliseconds by Redis' clock, and a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) millis: u64,
    sequence: u64,
}

/// Decision of a limit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) position: Position,
    pub(crate) bucket: BucketName,
    pub(crate) is_admitted: bool,
}

/// Entries of one command, in the order of time.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Entries of limits of the file.
    pub(crate) entries: Vec<Entry>,
    /// Number of all entries, and their first and last position.
    pub(crate) count: usize,
    pub(crate) first: Option<Position>,
    pub(crate) last: Option<Position>,
}

impl Stream {
    /// The stream of a configuration, if it has one.
    pub(super) fn of(config: &Config) -> Option<Self> {
        let events = config.events.as_ref()?;
        Some(Self {
            key: events.stream.clone(),
            key_prefix: config.redis.key_prefix.clone(),
            has_admitted: events.only == EventsOnly::All,
            is_sample: events.sample != Fraction::ALL,
            max_len: events.max_len.get(),
        })
    }
}

impl Position {
    /// The place before all entries of this millisecond.
    pub(crate) fn at(millis: u64) -> Self {
        Self { millis, sequence: 0 }
    }

    fn parse(id: &str) -> Option<Self> {
        let (millis, sequence) = id.split_once('-')?;
        Some(Self { millis: millis.parse().ok()?, sequence: sequence.parse().ok()? })
    }

    /// The id after this one. Redis before 6.2 has no exclusive ranges.
    fn next(self) -> String {
        match self.sequence.checked_add(1) {
            Some(sequence) => format!("{}-{sequence}", self.millis),
            None => format!("{}-0", self.millis.saturating_add(1)),
        }
    }
}

impl Reading<'_> {
    /// Reads at most `count` entries after a position.
    pub(crate) fn events_after(
        &mut self,
        stream: &Stream,
        after: Position,
        count: usize,
    ) -> Result<Batch, LimitsError> {
        let mut command = redis::cmd("XRANGE");
        command.arg(&stream.key).arg(after.next()).arg("+").arg("COUNT").arg(count);
        self.entries(stream, &command)
    }

    /// Reads at most `count` entries, the newest of the stream.
    pub(crate) fn last_events(&mut self, stream: &Stream, count: usize) -> Result<Batch, LimitsError> {
        let mut command = redis::cmd("XREVRANGE");
        command.arg(&stream.key).arg("+").arg("-").arg("COUNT").arg(count);
        self.entries(stream, &command)
    }

    fn entries(&mut self, stream: &Stream, command: &redis::Cmd) -> Result<Batch, LimitsError> {
        let reply: StreamRangeReply = self.store.ask(stream.key.as_bytes(), |redis| command.query(redis))?;
        let mut batch = Batch { count: reply.ids.len(), ..Batch::default() };
        for found in reply.ids {
            let Some(position) = Position::parse(&found.id) else { continue };
            batch.first = Some(batch.first.map_or(position, |first| first.min(position)));
            batch.last = batch.last.max(Some(position));
            let text = |name: &str| found.map.get(name).and_then(bytes);
            let (Some(key), Some(decision)) = (text("key"), text("decision")) else { continue };
            if let Some(bucket) = self.bucket(&stream.key_prefix, &key) {
                batch.entries.push(Entry { position, bucket, is_admitted: decision == b"admitted" });
            }
        }
        batch.entries.sort_by_key(|entry| entry.position);
        Ok(batch)
    }

    /// The name of the bucket with this key in Redis, if its limit is in the file.
    fn bucket(&self, prefix: &str, key: &[u8]) -> Option<BucketName> {
        let field = without_tag(key.strip_prefix(prefix.as_bytes())?);
        let name = names(field);
        let limits = self.configured.selected(None).ok()?;
        let limit = limits.into_iter().find(|it| it.key_prefix == prefix && it.name.as_bytes() == name)?;
        let key = shown_key(limit.has_one_bucket(), field);
        Some(BucketName { key_prefix: prefix.to_owned(), limit: limit.name.clone(), key })
    }
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    Vec::<u8>::from_redis_value_ref(value).ok()
}
