//! Budgets of keys that have spent most in their present windows, as the scan finds them.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::budgets::live::{Spending, of_keys};
use crate::limits::LimitsError;
use crate::limits::live::Reading;

/// Largest number of budgets that are kept, read again each second and shown: of all windows of limits, and of one.
const SHOWN: usize = 100;
const SHOWN_OF_WINDOW: usize = 20;

/// Budgets with the most spent of each limit's windows.
#[derive(Default)]
pub(super) struct Spendings {
    /// Budgets with the number of the scan that has found each last, by their keys in Redis.
    kept: BTreeMap<Vec<u8>, (Spending, u64)>,
    scan: u64,
    /// Budgets that this scan has found, and those of the last complete one.
    found: u64,
    last_found: u64,
}

impl Spendings {
    /// Begins a scan.
    pub(super) fn begin(&mut self) {
        self.scan = self.scan.saturating_add(1);
        self.found = 0;
    }

    /// Ends a scan: what it has not found is no more there.
    pub(super) fn end(&mut self) {
        let scan = self.scan;
        self.kept.retain(|_, (_, found_by)| *found_by == scan);
        self.last_found = self.found;
    }

    /// Reads the budgets among the keys of a step.
    ///
    /// # Errors
    /// If Redis fails.
    pub(super) fn add(&mut self, reading: &mut Reading<'_>, prefix: &str, keys: &[Vec<u8>]) -> Result<(), LimitsError> {
        for spending in of_keys(reading, prefix, keys)? {
            self.found = self.found.saturating_add(1);
            self.kept.insert(spending.key.clone(), (spending, self.scan));
        }
        self.keep();
        Ok(())
    }

    /// Reads the kept budgets again.
    ///
    /// # Errors
    /// If Redis fails.
    pub(super) fn refresh(&mut self, reading: &mut Reading<'_>) -> Result<(), LimitsError> {
        let mut keys: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
        for (spending, _) in self.kept.values() {
            keys.entry(spending.key_prefix.clone()).or_default().push(spending.key.clone());
        }
        let before = std::mem::take(&mut self.kept);
        for (prefix, keys) in keys {
            for spending in of_keys(reading, &prefix, &keys)? {
                let found_by = before.get(&spending.key).map_or(self.scan, |(_, found_by)| *found_by);
                self.kept.insert(spending.key.clone(), (spending, found_by));
            }
        }
        Ok(())
    }

    /// The budgets to show, and the number of all that are known.
    pub(super) fn json(&self) -> Value {
        let rows: Vec<&Value> = self.by_window().into_values().flatten().map(|spending| &spending.json).collect();
        json!({ "rows": rows, "total": self.last_found.max(self.kept.len() as u64) })
    }

    /// Drops the budgets that have spent least.
    fn keep(&mut self) {
        let windows = self.by_window();
        let each = SHOWN.checked_div(windows.len()).unwrap_or(SHOWN).clamp(1, SHOWN_OF_WINDOW);
        let least = windows.into_values().flat_map(|spendings| spendings.into_iter().skip(each));
        let least: Vec<Vec<u8>> = least.map(|spending| spending.key.clone()).collect();
        for key in least {
            self.kept.remove(&key);
        }
    }

    /// Budgets by the names of their windows, the most spent first.
    fn by_window(&self) -> BTreeMap<(&str, &str), Vec<&Spending>> {
        let mut windows: BTreeMap<(&str, &str), Vec<&Spending>> = BTreeMap::new();
        for (spending, _) in self.kept.values() {
            windows.entry((&spending.key_prefix, &spending.window)).or_default().push(spending);
        }
        for spendings in windows.values_mut() {
            spendings.sort_by_key(|spending| Reverse(spending.used));
        }
        windows
    }
}
