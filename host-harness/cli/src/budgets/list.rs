//! `weir budgets list`: what all keys have spent in a window.

use std::collections::BTreeMap;
use std::io::Write;

use comfy_table::{Cell, CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use serde_json::{Value, json};
use weir_filter::limit::{Algorithm, BucketCheck, BudgetLevel, NearLimit, WindowAmounts, rfc_3339};
use weir_filter::units::Micros;

use super::Form;
use super::amount::{Unit, Usd};
use super::charged::{ledger_of, soft_limit, unit};
use super::error::BudgetsError;
use super::period::WindowChoice;
use super::sums::{PastWindow, Sums, windows};
use crate::limits::LimitsError;
use crate::limits::configured::Limit;
use crate::limits::emptiest::{candidate, keys_of};
use crate::limits::list::{OfLimits, of_limits};
use crate::limits::render::{key_json, key_of};
use crate::limits::store::{Cursor, STEP, Store, pattern};

/// Window, rows and form of a list.
pub(super) struct Selection<'a> {
    pub(super) window: &'a WindowChoice,
    /// Most rows of a limit in a table.
    pub(super) rows: usize,
    pub(super) form: Form,
}

/// Spending of one key in one window.
pub(super) struct Row {
    /// Index of the limit among those that are read.
    pub(super) limit: usize,
    /// Name of the limit's window.
    pub(super) name: String,
    prefix: String,
    pub(super) unit: Unit,
    pub(super) field: Vec<u8>,
    pub(super) span: Option<[Micros; 2]>,
    pub(super) used: i64,
    /// `None` of a past window, from the ledger.
    pub(super) held: Option<u64>,
    pub(super) most: Option<u64>,
    soft_limit: Option<NearLimit>,
    /// Whether the ledger may lack entries of the window.
    is_cut: bool,
}

/// Shows what the keys of these limits have spent, the most first.
pub(super) fn run(
    store: &mut Store,
    limits: &[&Limit],
    selection: &Selection<'_>,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<(), BudgetsError> {
    let mut rows: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    let now = store.time(limits.first().map_or(&b""[..], |limit| limit.key_prefix.as_bytes()))?;
    let chosen = Chosen::of(limits, selection.window, now)?;
    for limit in limits.iter().filter(|limit| chosen.needs_state(limit)) {
        for row in of_state(store, limit, selection.window)? {
            rows.entry(row.name.clone()).or_default().push(row);
        }
    }
    if let Some(note) = chosen.past(store, limits, &mut rows)? {
        writeln!(notes, "{note}")?;
    }
    for name in chosen.names {
        rows.entry(name).or_default();
    }
    for rows in rows.values_mut() {
        rows.sort_by(|one, other| other.used.cmp(&one.used).then_with(|| one.field.cmp(&other.field)));
    }
    match selection.form {
        Form::Json => rows.values().flatten().try_for_each(|row| Ok(writeln!(out, "{}", row.json())?)),
        Form::Table => table(&rows, selection.rows, out),
    }
}

/// Windows of limits that are read from their states or from the ledger.
struct Chosen<'a> {
    of_state: Vec<&'a str>,
    past: Vec<PastWindow<'a>>,
    /// Index of the limit's window, for each past window.
    indexes: Vec<usize>,
    names: Vec<String>,
}

impl<'a> Chosen<'a> {
    fn of(limits: &[&'a Limit], window: &WindowChoice, now: Micros) -> Result<Self, BudgetsError> {
        let mut chosen = Self { of_state: Vec::new(), past: Vec::new(), indexes: Vec::new(), names: Vec::new() };
        let mut refused = None;
        for limit in limits {
            for check in windows(limit) {
                match place(limit, &check, window, now) {
                    Ok(Some(past)) => {
                        chosen.past.push(past);
                        chosen.indexes.push(check.window);
                    }
                    Ok(None) => chosen.of_state.push(&limit.name),
                    Err(error) => {
                        refused = refused.or(Some(error));
                        continue;
                    }
                }
                chosen.names.push(name(limit, check.window));
            }
        }
        match refused {
            Some(error) if chosen.names.is_empty() => Err(error),
            _ => Ok(chosen),
        }
    }

    fn needs_state(&self, limit: &Limit) -> bool {
        self.of_state.contains(&limit.name.as_str())
    }

    /// Adds the rows of past windows. Returns a note about entries that could not be read.
    fn past(
        &self,
        store: &mut Store,
        limits: &[&Limit],
        rows: &mut BTreeMap<String, Vec<Row>>,
    ) -> Result<Option<String>, BudgetsError> {
        if self.past.is_empty() {
            return Ok(None);
        }
        let of_past: Vec<&Limit> =
            limits.iter().copied().filter(|limit| self.past.iter().any(|past| past.limit == *limit)).collect();
        let sums = Sums::read(store, &ledger_of(&of_past)?, &self.past)?;
        for ((index, field), used) in &sums.of_keys {
            let (Some(past), Some(window)) = (self.past.get(*index), self.indexes.get(*index)) else { continue };
            let row = Row {
                limit: *index,
                name: name(past.limit, *window),
                prefix: past.limit.key_prefix.clone(),
                unit: unit(past.limit),
                field: field.clone(),
                span: Some(past.span),
                used: *used,
                held: None,
                most: None,
                soft_limit: None,
                is_cut: past.is_cut(&sums),
            };
            rows.entry(row.name.clone()).or_default().push(row);
        }
        Ok(self.note(&sums))
    }

    fn note(&self, sums: &Sums) -> Option<String> {
        let mut notes = Vec::new();
        if self.past.iter().any(|past| past.is_cut(sums)) {
            notes.push(cut_note(sums));
        }
        if sums.malformed > 0 {
            notes.push(format!("{} entries of the ledger could not be read, and are in no sum", sums.malformed));
        }
        (!notes.is_empty()).then(|| notes.join("\n"))
    }
}

/// Says that the ledger begins after a window's start.
pub(super) fn cut_note(sums: &Sums) -> String {
    match sums.begins {
        Some(begins) => {
            let begins = rfc_3339(Micros(begins.saturating_mul(1_000)));
            format!("the ledger begins at {begins}, after the start of the window: its sums are lower bounds")
        }
        None => "the ledger is empty".to_owned(),
    }
}

/// The past window that is read from the ledger. `None`: the window is in the budget's state.
pub(super) fn place<'a>(
    limit: &'a Limit,
    check: &BucketCheck,
    window: &WindowChoice,
    now: Micros,
) -> Result<Option<PastWindow<'a>>, BudgetsError> {
    let Algorithm::Budget(budget) = check.algorithm else { return Ok(None) };
    let other = |expected: String, found: &str| BudgetsError::OtherWindow {
        limit: limit.name.clone(),
        expected,
        found: found.to_owned(),
    };
    let date = match window {
        WindowChoice::Current => return Ok(None),
        WindowChoice::Previous if budget.window_at(now).is_none() => {
            return Err(other("current, of a token bucket".to_owned(), "previous"));
        }
        WindowChoice::Previous => return Ok(None),
        WindowChoice::At(date) => date,
    };
    let span = date.of(&budget).map_err(|expected| other(expected, date.text()))?;
    let [start, end] = span;
    if start > now {
        return Err(BudgetsError::FutureWindow { found: date.text().to_owned(), start: rfc_3339(start) });
    }
    // The present window, and the one before it.
    let is_kept = budget.window_at(end).is_none_or(|[_, until]| now < until);
    Ok((!is_kept).then(|| PastWindow::of(limit, check, &budget, span)))
}

/// The amounts of the chosen window in a budget's state.
pub(super) fn amounts(check: &BucketCheck, level: &BudgetLevel, window: &WindowChoice) -> Option<WindowAmounts> {
    let Algorithm::Budget(budget) = check.algorithm else { return None };
    match window {
        WindowChoice::Current => Some(level.window),
        WindowChoice::Previous => level.before,
        WindowChoice::At(date) => {
            let span = date.of(&budget).ok();
            [Some(level.window), level.before].into_iter().flatten().find(|amounts| amounts.span == span)
        }
    }
}

/// Name of a limit's window, as metrics and the ledger have it.
pub(super) fn name(limit: &Limit, window: usize) -> String {
    if window == 0 { limit.name.clone() } else { format!("{}:{window}", limit.name) }
}

fn of_state(store: &mut Store, limit: &Limit, window: &WindowChoice) -> Result<Vec<Row>, LimitsError> {
    let prefix = &limit.key_prefix;
    let of_limits = of_limits(store, prefix, Some(&limit.name))?;
    let pattern = pattern(&limit.stem(), "*");
    let mut rows = BTreeMap::new();
    let mut cursor = Cursor::default();
    loop {
        let (next, keys) = store.scan(cursor, &pattern, STEP)?;
        // A scan may find a key twice.
        rows.extend(of_page(store, &[limit], &of_limits, &keys, window)?);
        let Some(next) = next else { return Ok(rows.into_values().collect()) };
        cursor = next;
    }
}

/// The budgets among these keys, by their keys in Redis. All limits have one key prefix.
pub(super) fn of_page(
    store: &mut Store,
    limits: &[&Limit],
    of_limits: &OfLimits,
    keys: &[Vec<u8>],
    window: &WindowChoice,
) -> Result<Vec<(Vec<u8>, Row)>, LimitsError> {
    let prefix = limits.first().map_or("", |limit| &limit.key_prefix);
    let candidates: Vec<_> = keys.iter().filter_map(|key| candidate(prefix, limits, key)).collect();
    let fields: Vec<Vec<u8>> = candidates.iter().map(|(_, field)| field.to_vec()).collect();
    let own = store.of_keys(prefix, &fields)?;
    let budgets = keys_of(&candidates, own, prefix, limits, of_limits)?;
    let checks: Vec<BucketCheck> = budgets.iter().map(|(_, _, check, _)| check.clone()).collect();
    let levels = store.levels(&checks)?;
    let rows = budgets.into_iter().zip(levels).filter_map(|((index, field, check, _), level)| {
        let limit = limits.get(index)?;
        let amounts = amounts(&check, &level?, window)?;
        let row = Row {
            limit: index,
            name: name(limit, check.window),
            prefix: prefix.to_owned(),
            unit: unit(limit),
            field,
            span: amounts.span,
            used: i64::try_from(amounts.used).unwrap_or(i64::MAX),
            held: Some(amounts.held),
            most: Some(check.algorithm.limit().0),
            soft_limit: soft_limit(limit),
            is_cut: false,
        };
        Some((check.key, row))
    });
    Ok(rows.collect())
}

fn table(rows: &BTreeMap<String, Vec<Row>>, most: usize, out: &mut dyn Write) -> Result<(), BudgetsError> {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["limit", "key", "window from", "used", "held", "of", "used of it"]);
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    let mut left_out = 0_usize;
    for (name, rows) in rows {
        for row in rows.iter().take(most) {
            let optional = |amount: Option<u64>| amount.map(|amount| row.unit.shown(amount)).unwrap_or_default();
            table.add_row([
                Cell::new(name),
                Cell::new(key_of(&row.field)),
                Cell::new(row.span.map(|[start, _]| rfc_3339(start)).unwrap_or_default()),
                right(row.unit.shown(row.used)),
                right(optional(row.held)),
                right(optional(row.most)),
                right(row.most.map(|most| percent(row.used, most)).unwrap_or_default()),
            ]);
        }
        left_out = left_out.saturating_add(rows.len().saturating_sub(most));
    }
    writeln!(out, "{table}")?;
    for (name, rows) in rows {
        let unit = rows.first().map_or(Unit::Tokens, |row| row.unit);
        let sum: i128 = rows.iter().map(|row| i128::from(row.used)).sum();
        let (keys, at_least) = (rows.len(), if rows.iter().any(|row| row.is_cut) { "at least " } else { "" });
        match keys {
            0 => writeln!(out, "{name}: nothing")?,
            1 => writeln!(out, "{name}: {at_least}{} by 1 key", unit.shown(sum))?,
            _ => writeln!(out, "{name}: {at_least}{} by {keys} keys", unit.shown(sum))?,
        }
    }
    if left_out > 0 {
        writeln!(out, "{left_out} keys more; --top shows more")?;
    }
    Ok(())
}

/// Amount of a budget that is neither used nor held.
pub(super) fn remaining(used: i64, held: u64, most: u64) -> u64 {
    most.saturating_sub(u64::try_from(used).unwrap_or(0)).saturating_sub(held)
}

/// Part of a limit in percent, rounded down to tenths: 100 % is spent.
pub(super) fn percent(used: i64, most: u64) -> String {
    let tenths = i128::from(used).saturating_mul(1_000).checked_div(most.into()).unwrap_or(1_000);
    format!("{}.{} %", tenths / 10, tenths % 10)
}

impl Row {
    /// Whether less is left than the soft limit says. `None` without one, and of a past window from the ledger.
    pub(super) fn passes_soft_limit(&self) -> Option<bool> {
        let most = self.most?;
        Some(self.soft_limit?.leaves_less(remaining(self.used, self.held?, most), most))
    }

    fn json(&self) -> Value {
        let [from, to] = self.span.map_or([None, None], |span| span.map(|at| Some(rfc_3339(at))));
        let usd = |amount: i64| (self.unit == Unit::NanoUsd).then(|| Usd(amount.into()).to_string());
        json!({
            "key_prefix": self.prefix,
            "limit": self.name,
            "key": key_json(&self.field),
            "unit": self.unit.name(),
            "from": from,
            "to": to,
            "used": self.used,
            "used_usd": usd(self.used),
            "held": self.held,
            "max": self.most,
            "at_least": self.is_cut,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_spent_at_a_hundred_percent() {
        let shown =
            [(0, 10), (1, 3), (2_999, 3_000), (3_000, 3_000), (31, 30), (0, 0)].map(|(used, most)| percent(used, most));
        assert_eq!(shown, ["0.0 %", "33.3 %", "99.9 %", "100.0 %", "103.3 %", "100.0 %"]);
    }
}
