//! Sums of past windows, from the ledger.

use std::collections::BTreeMap;

use weir_filter::limit::{BucketCheck, Budget};
use weir_filter::units::{Micros, Tokens};

use super::charged::Stream;
use super::ledger::{self, Id, Parsed, Read};
use crate::limits::LimitsError;
use crate::limits::configured::Limit;
use crate::limits::emptiest::without_tag;
use crate::limits::list::names;
use crate::limits::render::untagged;
use crate::limits::store::Store;

/// Past window of a limit.
pub(super) struct PastWindow<'a> {
    pub(super) limit: &'a Limit,
    /// Suffix of the window's keys.
    suffix: Vec<u8>,
    pub(super) span: [Micros; 2],
    /// End of the window after it: until then the window is charged.
    until: Micros,
}

/// Amounts of past windows.
#[derive(Default)]
pub(super) struct Sums {
    /// Amounts, by the window's index and the field of the key.
    pub(super) of_keys: BTreeMap<(usize, Vec<u8>), i64>,
    /// Time in ms of the first entry that the ledger still has.
    pub(super) begins: Option<u64>,
    /// Number of entries that could not be read.
    pub(super) malformed: u64,
}

impl<'a> PastWindow<'a> {
    pub(super) fn of(limit: &'a Limit, check: &BucketCheck, budget: &Budget, span: [Micros; 2]) -> Self {
        let [_, end] = span;
        // Only the suffix tells windows of one limit apart. A hash in a key has a `#`, too.
        let suffix = check.key.iter().rposition(|byte| *byte == b'#').and_then(|at| check.key.get(at..));
        let until = budget.window_at(end).map_or(end, |[_, until]| until);
        Self { limit, suffix: suffix.unwrap_or_default().to_vec(), span, until }
    }

    /// The field of a key of this window.
    fn field<'k>(&self, key: &'k [u8]) -> Option<&'k [u8]> {
        let field = key.strip_prefix(self.limit.key_prefix.as_bytes())?.strip_suffix(&self.suffix[..])?;
        (names(field) == self.limit.name.as_bytes()).then_some(field)
    }

    /// Whether the ledger may lack entries of the window.
    pub(super) fn is_cut(&self, sums: &Sums) -> bool {
        let [start, _] = self.span;
        sums.begins.is_none_or(|begins| begins.saturating_mul(1_000) > start.0)
    }
}

/// Checks of all windows of a limit, without a key.
pub(super) fn windows(limit: &Limit) -> Vec<BucketCheck> {
    limit.windows().map(|windows| windows.checks(0, "", Tokens(1), true).collect()).unwrap_or_default()
}

/// The limit and key in the key of a budget in Redis, if it begins with the prefix.
pub(super) fn field_of<'k>(prefix: &str, key: &'k [u8]) -> Option<&'k [u8]> {
    Some(untagged(without_tag(key.strip_prefix(prefix.as_bytes())?)))
}

impl Sums {
    /// Reads what the ledger has charged to these windows.
    pub(super) fn read(store: &mut Store, stream: &Stream, windows: &[PastWindow<'_>]) -> Result<Self, LimitsError> {
        let mut sums = Self::default();
        let first = ledger::page(store, &stream.key, ["-", "+"], 1)?;
        sums.begins = first.first().and_then(|first| Id::parse(&first.id)).map(|id| id.millis);
        let from = windows.iter().map(|window| window.span[0]).min().unwrap_or(Micros::ZERO).0 / 1_000;
        let to = windows.iter().map(|window| window.until).max().unwrap_or(Micros::ZERO).to_millis_ceil();
        ledger::each_page(store, &stream.key, [&from.to_string(), &to.to_string()], |page| {
            page.iter().for_each(|read| sums.add(read, windows));
        })?;
        Ok(sums)
    }

    fn add(&mut self, read: &Read, windows: &[PastWindow<'_>]) {
        let entry = match read.parsed() {
            Parsed::Entry(entry) => entry,
            Parsed::Other => return,
            Parsed::Malformed => return self.malformed = self.malformed.saturating_add(1),
        };
        for budget in &entry.budgets {
            for (index, window) in windows.iter().enumerate() {
                let Some(field) = window.field(&budget.key) else { continue };
                let own = budget.charged.iter().filter(|charged| charged.start == window.span[0].0);
                for charged in own {
                    let sum = self.of_keys.entry((index, field.to_vec())).or_default();
                    *sum = sum.saturating_add(charged.amount);
                }
            }
        }
    }
}
