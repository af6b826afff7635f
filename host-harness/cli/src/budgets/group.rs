//! Consumer group of an export: entries are acknowledged once they are written and flushed.

use std::collections::HashMap;
use std::io::Write;

use redis::{FromRedisValue, Value};

use super::error::BudgetsError;
use super::export::{BLOCK_MILLIS, Sink};
use super::ledger::{Id, PAGE, Read};
use crate::limits::LimitsError;
use crate::limits::store::Store;

/// Time after which another consumer's entries that it has not acknowledged are taken over.
const ABANDONED_MILLIS: u64 = 60_000;
/// Reads without new entries between two looks for abandoned ones.
const LOOK_AGAIN: u32 = 30;

pub(super) struct Group<'a> {
    stream: &'a str,
    name: &'a str,
    consumer: &'a str,
    /// Number of trimmed entries at the last report.
    reported: u64,
}

/// Position of a group in its stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Position {
    /// Number of entries up to the last that the group has read, and number of those that were trimmed, of all that the
    /// stream ever had. `None`: this Redis does not know.
    numbers: Option<[u64; 2]>,
    /// Whether the entry after the last that was delivered may have been trimmed.
    is_behind: bool,
}

impl<'a> Group<'a> {
    pub(super) fn of(stream: &'a str, name: &'a str, consumer: &'a str) -> Self {
        Self { stream, name, consumer, reported: 0 }
    }

    /// Exports the entries that no export of the group has acknowledged: first those that were delivered before.
    pub(super) fn run(
        mut self,
        store: &mut Store,
        follow: bool,
        sink: &mut Sink<'_>,
        out: &mut dyn Write,
        notes: &mut dyn Write,
    ) -> Result<(), BudgetsError> {
        self.create(store)?;
        self.own_pending(store, sink, out, notes)?;
        self.abandoned(store, sink, out, notes)?;
        let mut idle = 0_u32;
        loop {
            self.report_missed(store, notes)?;
            let mut command = self.command("XREADGROUP");
            command.arg("COUNT").arg(PAGE);
            if follow {
                command.arg("BLOCK").arg(BLOCK_MILLIS);
            }
            command.arg("STREAMS").arg(self.stream).arg(">");
            let page = self.ask(store, &command)?;
            self.write(store, &page, sink, out, notes)?;
            match page.len() {
                0 if !follow => return Ok(()),
                0 => idle = idle.saturating_add(1),
                _ => idle = 0,
            }
            if idle >= LOOK_AGAIN {
                idle = 0;
                self.abandoned(store, sink, out, notes)?;
            }
        }
    }

    fn create(&self, store: &mut Store) -> Result<(), LimitsError> {
        let mut command = redis::cmd("XGROUP");
        command.arg("CREATE").arg(self.stream).arg(self.name).arg("0").arg("MKSTREAM");
        let created: Result<Value, LimitsError> = store.ask(self.stream.as_bytes(), |redis| command.query(redis));
        match created {
            Err(LimitsError::Redis { source, .. }) if source.code() == Some("BUSYGROUP") => Ok(()),
            created => created.map(|_| ()),
        }
    }

    /// Exports entries that were delivered to this consumer and not acknowledged: it was killed.
    fn own_pending(
        &self,
        store: &mut Store,
        sink: &mut Sink<'_>,
        out: &mut dyn Write,
        notes: &mut dyn Write,
    ) -> Result<(), BudgetsError> {
        let mut from = "0-0".to_owned();
        loop {
            let mut command = self.command("XREADGROUP");
            command.arg("COUNT").arg(PAGE).arg("STREAMS").arg(self.stream).arg(&from);
            let page = self.ask(store, &command)?;
            self.write(store, &page, sink, out, notes)?;
            match page.last() {
                Some(last) => from.clone_from(&last.id),
                None => return Ok(()),
            }
        }
    }

    /// Takes over and exports entries that other consumers have not acknowledged for a while.
    fn abandoned(
        &self,
        store: &mut Store,
        sink: &mut Sink<'_>,
        out: &mut dyn Write,
        notes: &mut dyn Write,
    ) -> Result<(), BudgetsError> {
        let mut from = "0-0".to_owned();
        loop {
            let mut command = redis::cmd("XAUTOCLAIM");
            command.arg(self.stream).arg(self.name).arg(self.consumer).arg(ABANDONED_MILLIS).arg(&from);
            command.arg("COUNT").arg(PAGE);
            let reply: Result<Vec<Value>, LimitsError> =
                store.ask(self.stream.as_bytes(), |redis| command.query(redis));
            let reply = match reply {
                // Redis before 6.2.
                Err(LimitsError::Redis { source, .. }) if source.to_string().contains("unknown command") => {
                    return Ok(());
                }
                reply => reply?,
            };
            let next = reply.first().and_then(|next| String::from_redis_value_ref(next).ok()).unwrap_or_default();
            let page = reply.get(1).map(Read::all).unwrap_or_default();
            // Redis 7 has removed these from what is pending.
            let trimmed = reply.get(2).and_then(|ids| Vec::<String>::from_redis_value_ref(ids).ok());
            note_trimmed(trimmed.map_or(0, |ids| ids.len()), notes)?;
            self.write(store, &page, sink, out, notes)?;
            if next.is_empty() || next == "0-0" {
                return Ok(());
            }
            from = next;
        }
    }

    /// Writes entries, flushes them, and acknowledges them then.
    fn write(
        &self,
        store: &mut Store,
        page: &[Read],
        sink: &mut Sink<'_>,
        out: &mut dyn Write,
        notes: &mut dyn Write,
    ) -> Result<(), BudgetsError> {
        let there = page.iter().filter(|read| read.fields.is_some());
        there.clone().try_for_each(|read| sink.write(read, out))?;
        out.flush()?;
        note_trimmed(page.len().saturating_sub(there.count()), notes)?;
        let ids: Vec<&str> = page.iter().map(|read| read.id.as_str()).filter(|id| !id.is_empty()).collect();
        if !ids.is_empty() {
            let mut command = redis::cmd("XACK");
            command.arg(self.stream).arg(self.name).arg(&ids);
            store.ask(self.stream.as_bytes(), |redis| command.query::<u64>(redis))?;
        }
        Ok(())
    }

    /// Reports entries that were trimmed before the group has read them, once.
    fn report_missed(&mut self, store: &mut Store, notes: &mut dyn Write) -> Result<(), BudgetsError> {
        let name = self.name;
        let Position { numbers, is_behind } = self.position(store)?;
        match numbers {
            Some([read, trimmed]) if trimmed > read.max(self.reported) => {
                let missed = trimmed.saturating_sub(read.max(self.reported));
                self.reported = trimmed;
                writeln!(
                    notes,
                    "lost: {missed} entries of the ledger were trimmed before group {name:?} has read them; expected a \
                     larger events.max_len, or an export more often"
                )?;
            }
            None if is_behind && self.reported == 0 => {
                self.reported = 1;
                writeln!(
                    notes,
                    "lost: entries of the ledger may have been trimmed before group {name:?} has read them; this Redis \
                     does not know how many"
                )?;
            }
            _ => {}
        }
        Ok(())
    }

    fn position(&self, store: &mut Store) -> Result<Position, LimitsError> {
        type Info = HashMap<String, Value>;
        let stream = self.stream.as_bytes();
        let groups: Vec<Info> =
            store.ask(stream, |redis| redis::cmd("XINFO").arg("GROUPS").arg(stream).query(redis))?;
        let info: Info = store.ask(stream, |redis| redis::cmd("XINFO").arg("STREAM").arg(stream).query(redis))?;
        let text = |info: &Info, name: &str| info.get(name).and_then(|it| String::from_redis_value_ref(it).ok());
        let own = groups.into_iter().find(|group| text(group, "name").as_deref() == Some(self.name));
        Ok(own.map(|own| Position::of(&own, &info)).unwrap_or_default())
    }

    fn command(&self, name: &str) -> redis::Cmd {
        let mut command = redis::cmd(name);
        command.arg("GROUP").arg(self.name).arg(self.consumer);
        command
    }

    /// Runs an XREADGROUP.
    fn ask(&self, store: &mut Store, command: &redis::Cmd) -> Result<Vec<Read>, LimitsError> {
        let reply: Value = store.ask(self.stream.as_bytes(), |redis| command.query(redis))?;
        let Value::Array(streams) = reply else { return Ok(Vec::new()) };
        let Some(Value::Array(stream)) = streams.first() else { return Ok(Vec::new()) };
        Ok(stream.get(1).map(Read::all).unwrap_or_default())
    }
}

impl Position {
    fn of(group: &HashMap<String, Value>, stream: &HashMap<String, Value>) -> Self {
        let number = |info: &HashMap<String, Value>, name: &str| {
            info.get(name).and_then(|value| u64::from_redis_value_ref(value).ok())
        };
        let id = |value: Option<&Value>| {
            value.and_then(|value| String::from_redis_value_ref(value).ok()).and_then(|id| Id::parse(&id))
        };
        let last = id(group.get("last-delivered-id"));
        let first = match stream.get("first-entry") {
            Some(Value::Array(entry)) => id(entry.first()),
            _ => None,
        };
        // A group that has read nothing has no number in Redis 7.
        let is_new = last.is_some_and(|last| last < Id::FIRST);
        let read = number(group, "entries-read").or(is_new.then_some(0));
        let trimmed = number(stream, "entries-added").zip(number(stream, "length"));
        let trimmed = trimmed.map(|(added, length)| added.saturating_sub(length));
        let is_behind = match (first, last) {
            (Some(first), Some(last)) => first > last && !is_new,
            _ => false,
        };
        Self { numbers: read.zip(trimmed).map(|(read, trimmed)| [read, trimmed]), is_behind }
    }
}

fn note_trimmed(count: usize, notes: &mut dyn Write) -> Result<(), BudgetsError> {
    if count > 0 {
        writeln!(notes, "lost: {count} entries of the ledger were trimmed before they were acknowledged")?;
    }
    Ok(())
}
