//! Records of an export: one for each budget that an entry of the ledger has changed.

use std::io::{self, Write};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::amount::Unit;
use super::ledger::{Budgeted, Charged, Entry};

/// Form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ExportFormat {
    /// JSON, one object per line.
    Jsonl,
    /// Comma-separated values, with a header.
    Csv,
    /// CloudEvents 1.0 as JSON, one per line.
    Cloudevents,
}

/// Budget of an entry, and what the configuration knows of it.
pub(super) struct Record<'a> {
    pub(super) entry: &'a Entry,
    pub(super) budget: &'a Budgeted,
    /// Place of the budget in the entry.
    pub(super) index: usize,
    pub(super) limit: String,
    /// The key without prefix and limit.
    pub(super) key: String,
    /// `None` of a limit that is not in the configuration.
    pub(super) unit: Option<Unit>,
    /// Key of the ledger's stream.
    pub(super) stream: &'a str,
}

/// Columns of a table, and members of an object.
const COLUMNS: [&str; 21] = [
    "id",
    "time",
    "request",
    "source",
    "limit",
    "key",
    "unit",
    "amount",
    "reserved",
    "outcome",
    "charged",
    "windows",
    "model",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "cost_nano_usd",
    "status",
    "note",
];

/// Names of the ledger's numbers, in the order of [`COLUMNS`] from `input_tokens` on.
const NUMBERS: [&str; 7] =
    ["input", "cache_read", "cache_write", "cache_write_1h", "output", "cost_nano_usd", "status"];

impl ExportFormat {
    /// Writes what precedes all records.
    pub(super) fn begin(self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Csv => out.write_all(&row(COLUMNS)?),
            Self::Jsonl | Self::Cloudevents => Ok(()),
        }
    }

    /// Writes a record.
    pub(super) fn write(self, record: &Record<'_>, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Jsonl => writeln!(out, "{}", Value::Object(record.object())),
            Self::Cloudevents => writeln!(out, "{}", record.event()),
            Self::Csv => out.write_all(&row(record.members().iter().map(|(_, value)| cell(value)))?),
        }
    }
}

/// A row as CSV.
fn row(cells: impl IntoIterator<Item = impl AsRef<[u8]>>) -> io::Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(cells)?;
    writer.into_inner().map_err(|error| io::Error::other(error.to_string()))
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(windows) => {
            let window = |it: &Value| format!("{} {}", it["start"].as_str().unwrap_or("-"), it["charged"]);
            windows.iter().map(window).collect::<Vec<_>>().join("; ")
        }
        other => other.to_string(),
    }
}

impl Record<'_> {
    /// Name of the record: no other of the stream has it.
    fn id(&self) -> String {
        format!("{}.{}", self.entry.id, self.index)
    }

    /// Time of the entry in UTC.
    fn time(&self) -> Option<String> {
        let millis = i64::try_from(self.entry.millis()).ok()?;
        Timestamp::from_millisecond(millis).ok().map(|time| format!("{time:.3}"))
    }

    fn object(&self) -> Map<String, Value> {
        self.members().into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Names and values, in the order of [`COLUMNS`].
    fn members(&self) -> Vec<(&'static str, Value)> {
        let Self { entry, budget, .. } = self;
        let outcome = budget.outcome.map(|letter| match letter {
            'O' => "within",
            'V' => "overrun",
            'L' => "late",
            'D' => "unreserved",
            _ => "other",
        });
        let charged: i128 = budget.charged.iter().map(|charged| i128::from(charged.amount)).sum();
        let note =
            ["reason", "by"].map(|name| entry.text(name)).into_iter().flatten().collect::<Vec<_>>().join("; by ");
        let first = [
            self.id().into(),
            self.time().into(),
            entry.request.as_str().into(),
            entry.source.as_str().into(),
            self.limit.as_str().into(),
            self.key.as_str().into(),
            self.unit.map(Unit::name).into(),
            budget.amount.into(),
            budget.reserved.into(),
            outcome.into(),
            i64::try_from(charged).ok().into(),
            budget.charged.iter().map(window).collect::<Vec<_>>().into(),
            entry.text("model").into(),
        ];
        let numbers = NUMBERS.map(|name| entry.number(name).into());
        let note = Some(note).filter(|note| !note.is_empty()).into();
        let values = first.into_iter().chain(numbers).chain([note]);
        COLUMNS.into_iter().zip(values).collect()
    }

    fn event(&self) -> Value {
        let mut data = self.object();
        for name in ["id", "time"] {
            data.remove(name);
        }
        json!({
            "specversion": "1.0",
            "id": self.id(),
            "source": format!("weir/{}", crate::percent::encoded(self.stream)),
            "type": "weir.budget.charge",
            "subject": self.key,
            "time": self.time(),
            "datacontenttype": "application/json",
            "data": data,
        })
    }
}

fn window(charged: &Charged) -> Value {
    let start = i64::try_from(charged.start).ok().filter(|start| *start > 0);
    let start = start.and_then(|start| Timestamp::from_microsecond(start).ok()).map(|start| start.to_string());
    json!({"start": start, "charged": charged.amount})
}
