//! Entries of the ledger: what requests have cost, and which budgets that has changed.

use redis::{FromRedisValue, Value};

use crate::limits::LimitsError;
use crate::limits::store::Store;

/// Number of entries of one command.
pub(super) const PAGE: usize = 1_000;

/// Entry of the stream as Redis returns it.
pub(super) struct Read {
    pub(super) id: String,
    /// Names and values, of which a name can be there several times. `None`: the entry was trimmed since it was
    /// delivered.
    pub(super) fields: Option<Vec<(Vec<u8>, Vec<u8>)>>,
}

/// Id of an entry: milliseconds by Redis' clock, and a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    pub(super) millis: u64,
    sequence: u64,
}

/// Entry of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Entry {
    pub(super) id: String,
    /// Name of the request's reservations, or of the operation.
    pub(super) request: String,
    pub(super) source: String,
    /// Number of the field in the entry, as text, by its name: `input`, `status`, `model`.
    others: Vec<(String, String)>,
    pub(super) budgets: Vec<Budgeted>,
}

/// Change of one budget by an entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Budgeted {
    /// Key in Redis.
    pub(super) key: Vec<u8>,
    /// Name of the limit's window, if the entry has it.
    pub(super) limit: Option<String>,
    /// Cost of the request.
    pub(super) amount: i64,
    pub(super) reserved: Option<u64>,
    /// Letter of the settlement's result.
    pub(super) outcome: Option<char>,
    pub(super) charged: Vec<Charged>,
}

/// Change of a budget's amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Charged {
    /// Start of the window in µs; 0 if it is over for too long, and of a token bucket.
    pub(super) start: u64,
    pub(super) amount: i64,
}

/// Result of the reading of an entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    Entry(Entry),
    /// Entry of another kind, which charges nothing: the stream has decisions and passed soft limits, too.
    Other,
    Malformed,
}

impl Id {
    /// The least id of an entry.
    pub(super) const FIRST: Self = Self { millis: 0, sequence: 1 };

    pub(super) fn parse(id: &str) -> Option<Self> {
        let (millis, sequence) = id.split_once('-')?;
        Some(Self { millis: millis.parse().ok()?, sequence: sequence.parse().ok()? })
    }

    /// The id after this one. Redis before 6.2 has no exclusive ranges.
    pub(super) fn next(self) -> String {
        match self.sequence.checked_add(1) {
            Some(sequence) => format!("{}-{sequence}", self.millis),
            None => format!("{}-0", self.millis.saturating_add(1)),
        }
    }
}

impl Read {
    /// Reads the entries in a reply: those of XRANGE.
    pub(super) fn all(reply: &Value) -> Vec<Self> {
        let Value::Array(entries) = reply else { return Vec::new() };
        entries.iter().filter_map(Self::one).collect()
    }

    fn one(entry: &Value) -> Option<Self> {
        let Value::Array(parts) = entry else {
            // Redis 6.2 returns entries that are claimed and were trimmed as nil.
            return matches!(entry, Value::Nil).then(|| Self { id: String::new(), fields: None });
        };
        let id = String::from_redis_value_ref(parts.first()?).ok()?;
        let texts = match parts.get(1)? {
            Value::Array(texts) => texts,
            _ => return Some(Self { id, fields: None }),
        };
        let texts: Vec<Vec<u8>> = texts.iter().filter_map(|text| Vec::from_redis_value_ref(text).ok()).collect();
        let pairs = texts.chunks(2).filter_map(|pair| Some((pair.first()?.clone(), pair.get(1)?.clone())));
        Some(Self { id, fields: Some(pairs.collect()) })
    }

    /// Parses an entry.
    pub(super) fn parsed(&self) -> Parsed {
        let Some(fields) = &self.fields else { return Parsed::Malformed };
        let text = |name: &[u8]| fields.iter().find(|(its, _)| its == name).map(|(_, text)| &text[..]);
        if text(b"decision").is_some() || matches!(text(b"source"), None | Some(b"soft_limit")) {
            return Parsed::Other;
        }
        entry(&self.id, fields).map_or(Parsed::Malformed, Parsed::Entry)
    }
}

fn entry(id: &str, fields: &[(Vec<u8>, Vec<u8>)]) -> Option<Entry> {
    let mut entry = Entry { id: id.to_owned(), ..Entry::default() };
    let (mut keys, mut limits, mut amounts, mut reserved, mut outcomes, mut charged) =
        (Vec::new(), String::new(), String::new(), String::new(), String::new(), None);
    for (name, value) in fields {
        let text = String::from_utf8_lossy(value).into_owned();
        match &name[..] {
            b"id" => entry.request = text,
            b"source" => entry.source = text,
            b"key" => keys.push(value.clone()),
            b"limits" => limits = text,
            b"amounts" => amounts = text,
            b"reserved" => reserved = text,
            b"outcome" => outcomes = text,
            b"charged" => charged = Some(text),
            _ => entry.others.push((String::from_utf8_lossy(name).into_owned(), text)),
        }
    }
    let amounts: Vec<i64> = amounts.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    let charged = charged?;
    let mut charged = charged.split(' ');
    let (mut limits, mut reserved) = (limits.split_whitespace(), reserved.split_whitespace());
    let mut outcomes = outcomes.chars();
    if keys.len() != amounts.len() {
        return None;
    }
    for (key, amount) in keys.into_iter().zip(amounts) {
        let outcome = outcomes.next();
        entry.budgets.push(Budgeted {
            key,
            limit: limits.next().map(str::to_owned),
            amount,
            // A budget with nothing to settle has no number.
            reserved: if outcome == Some('-') { None } else { reserved.next().and_then(|text| text.parse().ok()) },
            outcome,
            charged: changes(charged.next().unwrap_or_default())?,
        });
    }
    Some(entry)
}

fn changes(text: &str) -> Option<Vec<Charged>> {
    let parts = text.split(',').filter(|part| !part.is_empty());
    let change = |part: &str| {
        let (start, amount) = part.split_once(':')?;
        Some(Charged { start: start.parse().ok()?, amount: amount.parse().ok()? })
    };
    parts.map(change).collect()
}

impl Entry {
    /// Time in milliseconds.
    pub(super) fn millis(&self) -> u64 {
        Id::parse(&self.id).map_or(0, |id| id.millis)
    }

    /// A field of the request, as text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.others.iter().find(|(its, _)| its == name).map(|(_, text)| text.as_str())
    }

    /// A field of the request that is a number.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }
}

/// Reads the entries from an id on, page by page, up to another.
pub(super) fn each_page(
    store: &mut Store,
    stream: &str,
    [from, to]: [&str; 2],
    mut each: impl FnMut(&[Read]),
) -> Result<(), LimitsError> {
    let mut from = from.to_owned();
    loop {
        let page = page(store, stream, [&from, to], PAGE)?;
        each(&page);
        match page.last().and_then(|last| Id::parse(&last.id)) {
            Some(last) if page.len() >= PAGE => from = last.next(),
            _ => return Ok(()),
        }
    }
}

/// Reads at most `count` entries.
pub(super) fn page(
    store: &mut Store,
    stream: &str,
    [from, to]: [&str; 2],
    count: usize,
) -> Result<Vec<Read>, LimitsError> {
    let mut command = redis::cmd("XRANGE");
    command.arg(stream).arg(from).arg(to).arg("COUNT").arg(count);
    let reply: Value = store.ask(stream.as_bytes(), |redis| command.query(redis))?;
    Ok(Read::all(&reply))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &[(&str, &str)]) -> Read {
        let fields = fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        Read { id: "1795132800000-3".to_owned(), fields: Some(fields.collect()) }
    }

    #[test]
    fn an_entry_has_the_changes_of_each_budget() {
        let read = read(&[
            ("reserved", "300 "),
            ("outcome", "-V"),
            ("charged", " 60:5,120:-7 "),
            ("id", "0a"),
            ("source", "usage"),
            ("key", "weir:a:x"),
            ("key", "weir:b:x"),
            ("limits", "a b:1"),
            ("amounts", "4 305"),
            ("status", "200"),
        ]);
        let Parsed::Entry(entry) = read.parsed() else { panic!("no entry") };
        let [first, second] = &entry.budgets[..] else { panic!("{entry:?}") };
        assert_eq!((first.outcome, first.reserved, &first.charged[..]), (Some('-'), None, &[][..]));
        assert_eq!((second.limit.as_deref(), second.amount, second.reserved), (Some("b:1"), 305, Some(300)));
        let changes = [Charged { start: 60, amount: 5 }, Charged { start: 120, amount: -7 }];
        assert_eq!(second.charged, changes);
        assert_eq!((entry.millis(), entry.number("status"), entry.text("model")), (1_795_132_800_000, Some(200), None));
    }

    #[test]
    fn an_entry_that_is_none_of_the_ledger_is_told_from_one_that_cannot_be_read() {
        for fields in [
            &[("limit", "a"), ("key", "k"), ("decision", "denied")][..],
            &[("limit", "a"), ("key", "k"), ("decision", "denied"), ("source", "usage")],
            &[("source", "soft_limit"), ("key", "weir:a:k#budgetq"), ("settled", "81"), ("soft_limit", "80")],
        ] {
            assert_eq!(read(fields).parsed(), Parsed::Other, "{fields:?}");
        }
        for fields in [
            &[("source", "usage"), ("key", "k"), ("amounts", "1")][..],
            &[("source", "usage"), ("key", "k"), ("amounts", "1 2"), ("charged", "")],
            &[("source", "usage"), ("key", "k"), ("amounts", "1"), ("charged", "x:1")],
        ] {
            assert_eq!(read(fields).parsed(), Parsed::Malformed, "{fields:?}");
        }
        assert_eq!(Read { id: "1-1".to_owned(), fields: None }.parsed(), Parsed::Malformed);
    }

    #[test]
    fn the_next_id_is_greater() {
        let next = |id: &str| Id::parse(id).unwrap().next();
        assert_eq!([next("5-7"), next("5-18446744073709551615")], ["5-8", "6-0"]);
    }
}
