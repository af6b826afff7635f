//! `weir budgets export`: the ledger as records, from a time on or by a consumer group.

use std::io::Write;

use weir_filter::units::Micros;

use super::amount::Unit;
use super::charged::{Stream, unit};
use super::error::BudgetsError;
use super::group::Group;
use super::ledger::{self, Id, PAGE, Parsed, Read};
use super::list::name;
use super::record::{ExportFormat, Record};
use super::sums::{field_of, windows};
use crate::limits::configured::Configured;
use crate::limits::list::names;
use crate::limits::render::key_of;
use crate::limits::span;
use crate::limits::store::Store;

/// Time for which Redis waits for new entries before it replies.
pub(super) const BLOCK_MILLIS: u64 = 1_000;

// Options of `export`. Not a doc comment: clap would use it as the help of the command.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Form of the records.
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "jsonl")]
    format: ExportFormat,
    /// Consumer group that remembers what was exported; created at the start of the ledger if it is not there.
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Name of this export in its group, one for each that runs at the same time.
    #[arg(long, value_name = "NAME", default_value = "weir", requires = "group")]
    consumer: String,
    /// Wait for new entries until interrupted.
    #[arg(long)]
    follow: bool,
    /// First time of an entry: an instant such as 2026-12-01T00:00Z, or the time before now, such as 24h.
    #[arg(long, value_name = "TIME", conflicts_with = "group")]
    since: Option<Since>,
    /// Records of this limit only.
    #[arg(long, value_name = "NAME")]
    limit: Option<String>,
    /// Leave out the header of CSV, to append to a file.
    #[arg(long)]
    no_header: bool,
}

/// Time from which entries are exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    /// Time before now.
    Ago(Micros),
    /// Instant, in ms since 1970.
    At(u64),
}

impl std::str::FromStr for Since {
    type Err = BudgetsError;

    fn from_str(text: &str) -> Result<Self, BudgetsError> {
        let instant = || text.parse::<jiff::Timestamp>().ok().and_then(|at| u64::try_from(at.as_millisecond()).ok());
        let since = span::parse(text).map(Self::Ago).or_else(|| instant().map(Self::At));
        since.ok_or_else(|| BudgetsError::Since { found: text.to_owned() })
    }
}

/// Records, as they are written.
pub(super) struct Sink<'a> {
    configured: &'a Configured,
    prefix: String,
    limit: Option<&'a str>,
    format: ExportFormat,
    stream: &'a str,
    malformed: u64,
}

impl Options {
    /// The limit whose records are exported.
    pub(super) fn limit(&self) -> Option<&str> {
        self.limit.as_deref()
    }
}

/// Writes the records of the ledger.
pub(super) fn run(
    store: &mut Store,
    configured: &Configured,
    stream: &Stream,
    options: &Options,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<(), BudgetsError> {
    if !options.no_header {
        options.format.begin(out)?;
        out.flush()?;
    }
    let prefix = configured.prefixes.first().cloned().unwrap_or_default();
    let limit = options.limit();
    let mut sink = Sink { configured, prefix, limit, format: options.format, stream: &stream.key, malformed: 0 };
    match &options.group {
        Some(group) => {
            Group::of(&stream.key, group, &options.consumer).run(store, options.follow, &mut sink, out, notes)?;
        }
        None => from(store, &stream.key, options, &mut sink, out)?,
    }
    if sink.malformed > 0 {
        writeln!(notes, "{} entries of the ledger could not be read, and were left out", sink.malformed)?;
    }
    Ok(())
}

/// Exports all entries from a time on, and remembers nothing.
fn from(
    store: &mut Store,
    stream: &str,
    options: &Options,
    sink: &mut Sink<'_>,
    out: &mut dyn Write,
) -> Result<(), BudgetsError> {
    let mut from = match options.since {
        None => "-".to_owned(),
        Some(Since::At(millis)) => millis.to_string(),
        Some(Since::Ago(ago)) => (store.time(stream.as_bytes())?.minus(ago).0 / 1_000).to_string(),
    };
    loop {
        let page = ledger::page(store, stream, [&from, "+"], PAGE)?;
        page.iter().try_for_each(|read| sink.write(read, out))?;
        out.flush()?;
        if let Some(last) = page.last().and_then(|last| Id::parse(&last.id)) {
            from = last.next();
        }
        match page.len() {
            PAGE => {}
            _ if !options.follow => return Ok(()),
            0 => std::thread::sleep(std::time::Duration::from_millis(BLOCK_MILLIS / 4)),
            _ => {}
        }
    }
}

impl Sink<'_> {
    /// Writes the records of an entry.
    pub(super) fn write(&mut self, read: &Read, out: &mut dyn Write) -> Result<(), BudgetsError> {
        let entry = match read.parsed() {
            Parsed::Entry(entry) => entry,
            Parsed::Other => return Ok(()),
            Parsed::Malformed => {
                self.malformed = self.malformed.saturating_add(1);
                return Ok(());
            }
        };
        for (index, budget) in entry.budgets.iter().enumerate() {
            // Nothing was to be settled there.
            if budget.outcome == Some('-') {
                continue;
            }
            let field = field_of(&self.prefix, &budget.key).unwrap_or(&budget.key);
            let of_key = String::from_utf8_lossy(names(field)).into_owned();
            if self.limit.is_some_and(|limit| limit != of_key) {
                continue;
            }
            let record = Record {
                entry: &entry,
                budget,
                index,
                unit: self.unit(&of_key),
                limit: budget.limit.clone().unwrap_or_else(|| self.window_name(&of_key, &budget.key)),
                key: key_of(field),
                stream: self.stream,
            };
            self.format.write(&record, out)?;
        }
        Ok(())
    }

    /// Name of the limit's window with this key: entries of lost reservations have none.
    fn window_name(&self, limit: &str, key: &[u8]) -> String {
        let limits = self.configured.selected(Some(limit)).unwrap_or_default();
        let window = limits.first().and_then(|limit| {
            let window = windows(limit).into_iter().find(|check| key.ends_with(&check.key));
            window.map(|check| name(limit, check.window))
        });
        window.unwrap_or_else(|| limit.to_owned())
    }

    fn unit(&self, limit: &str) -> Option<Unit> {
        let limits = self.configured.selected(Some(limit)).ok()?;
        limits.first().filter(|limit| limit.shape.is_some()).map(|limit| unit(limit))
    }
}
