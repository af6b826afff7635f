//! `weir limits list`: the limits, their overrides, and their emptiest buckets.

use std::collections::BTreeMap;
use std::io::Write;
use std::mem;

use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use serde_json::{Value, json};
use weir_filter::units::Micros;

use super::Format;
use super::configured::{Configured, Limit};
use super::emptiest;
use super::error::LimitsError;
use super::found::{Found, KnownUnits};
use super::render::{key_json, key_of, override_json, ruling_and_rest, untagged, ways};
use super::store::Store;
use super::stored::Pair;

/// Number of overrides of keys that are sorted. More are shown in the order in which they are found, so that memory does
/// not grow with their number.
const SORTED: usize = 10_000;

/// Limits, rows and form of a list.
pub(super) struct Selection<'a> {
    pub(super) limit: Option<&'a str>,
    /// Whether to show buckets that are not full.
    pub(super) limited: bool,
    /// Maximum number of rows in a table: overrides of keys of each limit, buckets.
    pub(super) rows: usize,
    pub(super) format: Format,
}

/// Shows the limits and the overrides; then, if asked for, the emptiest buckets.
pub(super) fn run(
    store: &mut Store,
    configured: &Configured,
    selection: &Selection<'_>,
    out: &mut dyn Write,
) -> Result<(), LimitsError> {
    let selected = configured.selected(selection.limit)?;
    if selection.limited && !configured.is_known {
        return Err(LimitsError::NeedsConfig);
    }
    for prefix in &configured.prefixes {
        let limits: Vec<&Limit> = selected.iter().copied().filter(|limit| limit.key_prefix == *prefix).collect();
        if limits.is_empty() && configured.is_known {
            continue;
        }
        let all: Vec<&Limit> = configured.selected(None)?;
        let known: Vec<&Limit> = all.into_iter().filter(|limit| limit.key_prefix == *prefix).collect();
        let of_limits = of_limits(store, prefix, selection.limit)?;
        let units = store.units.clone();
        let view = View { prefix, configured, known, limits, of_limits, units, selection };
        view.overrides(store, out)?;
        if selection.limited {
            emptiest::run(store, prefix, &view.limits, &view.of_limits, selection, out)?;
        }
    }
    Ok(())
}

/// Overrides of whole limits, by name.
pub(crate) type OfLimits = BTreeMap<Vec<u8>, Found>;

pub(crate) fn of_limits(store: &mut Store, prefix: &str, limit: Option<&str>) -> Result<OfLimits, LimitsError> {
    let mut all = OfLimits::new();
    store.each_field(prefix, |store, page, now| {
        let of_limits = page.into_iter().filter(|(field, _)| !field.contains(&b':'));
        let selected = of_limits.filter(|(field, _)| limit.is_none_or(|name| field == name.as_bytes()));
        let read = |(field, value): Pair| (store.units.read(prefix, &field, &value, now), field);
        all.extend(selected.map(read).map(|(found, field)| (field, found)));
        Ok(())
    })?;
    Ok(all)
}

/// Limits and overrides under one key prefix.
struct View<'a> {
    prefix: &'a str,
    configured: &'a Configured,
    /// All limits of the configuration.
    known: Vec<&'a Limit>,
    /// The limits to show.
    limits: Vec<&'a Limit>,
    of_limits: OfLimits,
    units: KnownUnits,
    selection: &'a Selection<'a>,
}

/// Overrides of keys: sorted while they are few, otherwise shown at once.
enum Keys {
    Few(BTreeMap<Vec<u8>, Found>),
    /// Numbers of overrides that are shown and found.
    Many {
        shown: BTreeMap<String, usize>,
        found: usize,
    },
}

impl View<'_> {
    fn overrides(&self, store: &mut Store, out: &mut dyn Write) -> Result<(), LimitsError> {
        if self.selection.format == Format::Json {
            self.limits_as_json(out)?;
        }
        let mut keys = Keys::Few(BTreeMap::new());
        let limit = self.selection.limit;
        let is_selected = |field: &[u8]| limit.is_none_or(|name| names(field) == name.as_bytes());
        store.each_field(self.prefix, |_, page, now| {
            let page = page.into_iter().filter(|(field, _)| field.contains(&b':') && is_selected(field));
            self.add(&mut keys, page.collect(), now, out)
        })?;
        // A string goes before a field of the hash, so it is read later.
        let start = limit.map_or_else(|| self.prefix.to_owned(), |name| self.configured.stem(self.prefix, name));
        store.each_key(self.prefix, &start, |page, now| self.add(&mut keys, page, now, out))?;
        match keys {
            Keys::Few(few) => self.few(&few, out)?,
            Keys::Many { shown, found } => {
                let left_out = found.saturating_sub(shown.values().sum());
                self.left_out(left_out, out)?;
            }
        }
        Ok(())
    }

    fn add(&self, keys: &mut Keys, page: Vec<Pair>, now: Micros, out: &mut dyn Write) -> Result<(), LimitsError> {
        for (field, value) in page {
            let found = self.units.read(self.prefix, &field, &value, now);
            match keys {
                Keys::Few(few) => _ = few.insert(field, found),
                Keys::Many { shown, found: all } => {
                    *all += 1;
                    self.line(shown, &field, &found, out)?;
                }
            }
        }
        if let Keys::Few(few) = keys
            && few.len() > SORTED
        {
            if self.selection.format == Format::Text {
                writeln!(out, "{}", self.table(&BTreeMap::new()).0)?;
            }
            let (few, mut shown) = (mem::take(few), BTreeMap::new());
            for (field, found) in &few {
                self.line(&mut shown, field, found, out)?;
            }
            *keys = Keys::Many { shown, found: few.len() };
        }
        Ok(())
    }

    fn few(&self, few: &BTreeMap<Vec<u8>, Found>, out: &mut dyn Write) -> Result<(), LimitsError> {
        if self.selection.format == Format::Json {
            return few.iter().try_for_each(|(field, found)| Ok(writeln!(out, "{}", self.json(field, found))?));
        }
        let (table, left_out) = self.table(few);
        writeln!(out, "{table}")?;
        self.left_out(left_out, out)
    }

    fn left_out(&self, left_out: usize, out: &mut dyn Write) -> Result<(), LimitsError> {
        if left_out > 0 && self.selection.format == Format::Text {
            writeln!(out, "and {left_out} more overrides of keys; --top shows more")?;
        }
        Ok(())
    }

    /// Writes one override of many as a line of its own.
    fn line(
        &self,
        shown: &mut BTreeMap<String, usize>,
        field: &[u8],
        found: &Found,
        out: &mut dyn Write,
    ) -> Result<(), LimitsError> {
        if self.selection.format == Format::Json {
            return Ok(writeln!(out, "{}", self.json(field, found))?);
        }
        let limit = self.known_limit(field);
        let count = shown.entry(limit.map(|limit| limit.name.clone()).unwrap_or_default()).or_default();
        if *count < self.selection.rows {
            *count += 1;
            let (name, key) = (names(field).escape_ascii(), key_of(field));
            writeln!(out, "{name}\t{key}\t{}{}", ruling_and_rest(found, limit), self.missing(limit))?;
        }
        Ok(())
    }

    /// A table of the limits and of these overrides, and the number of overrides that are left out.
    fn table(&self, keys: &BTreeMap<Vec<u8>, Found>) -> (Table, usize) {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED);
        table.set_header(["limit", "key", "configured", "override"]);
        let mut left_out = 0_usize;
        let mut of_keys: BTreeMap<&[u8], Vec<(&Vec<u8>, &Found)>> = BTreeMap::new();
        for (field, found) in keys {
            of_keys.entry(names(field)).or_default().push((field, found));
        }
        let mut rows = |table: &mut Table, name: &[u8], limit: Option<&Limit>| {
            let of_limit = of_keys.remove(name).unwrap_or_default();
            for (field, found) in of_limit.iter().take(self.selection.rows) {
                table.add_row(["", &key_of(field), "", &ruling_and_rest(found, limit)]);
            }
            left_out = left_out.saturating_add(of_limit.len().saturating_sub(self.selection.rows));
        };
        for limit in &self.limits {
            let of_limit = self.of_limits.get(limit.name.as_bytes());
            let of_limit = of_limit.map(|found| ruling_and_rest(found, Some(limit))).unwrap_or_default();
            table.add_row([&limit.name, "", &limit.text(",\n"), &of_limit]);
            rows(&mut table, limit.name.as_bytes(), Some(limit));
        }
        let names_of_keys = keys.keys().map(|field| names(field));
        let mut former: Vec<&[u8]> = self.of_limits.keys().map(Vec::as_slice).chain(names_of_keys).collect();
        former.retain(|name| self.known_limit(name).is_none());
        former.sort_unstable();
        former.dedup();
        for name in former {
            let of_limit = self.of_limits.get(name).map(|found| ruling_and_rest(found, None)).unwrap_or_default();
            let missing = if self.configured.is_known { "no such limit" } else { "" };
            table.add_row([&name.escape_ascii().to_string(), "", missing, &of_limit]);
            rows(&mut table, name, None);
        }
        (table, left_out)
    }

    fn limits_as_json(&self, out: &mut dyn Write) -> Result<(), LimitsError> {
        for limit in &self.limits {
            let found = self.of_limits.get(limit.name.as_bytes());
            writeln!(out, "{}", self.limit_json(limit.name.as_bytes(), Some(limit), found))?;
        }
        for (name, found) in self.of_limits.iter().filter(|(name, _)| self.known_limit(name).is_none()) {
            writeln!(out, "{}", self.limit_json(name, None, Some(found)))?;
        }
        Ok(())
    }

    fn limit_json(&self, name: &[u8], limit: Option<&Limit>, found: Option<&Found>) -> Value {
        let mut json = limit_json(name, limit, found);
        json["key_prefix"] = self.prefix.into();
        json["exists"] = self.exists(limit).into();
        json
    }

    fn json(&self, field: &[u8], found: &Found) -> Value {
        let limit = self.known_limit(field);
        json!({
            "kind": "key",
            "key_prefix": self.prefix,
            "limit": names(field).escape_ascii().to_string(),
            "key": key_json(field),
            "exists": self.exists(limit),
            "override": override_json(found, limit),
        })
    }

    /// Whether a limit is in the configuration, if there is one.
    fn exists(&self, limit: Option<&Limit>) -> Option<bool> {
        self.configured.is_known.then_some(limit.is_some())
    }

    fn missing(&self, limit: Option<&Limit>) -> &'static str {
        if self.exists(limit) == Some(false) { "; no such limit" } else { "" }
    }

    fn known_limit(&self, field: &[u8]) -> Option<&Limit> {
        self.known.iter().copied().find(|limit| limit.name.as_bytes() == names(field))
    }
}

/// A limit and its override as JSON, without `key_prefix` and `exists`.
pub(super) fn limit_json(name: &[u8], limit: Option<&Limit>, found: Option<&Found>) -> Value {
    let shape = limit.and_then(|limit| limit.shape.as_ref());
    json!({
        "kind": "limit",
        "key_prefix": null,
        "limit": name.escape_ascii().to_string(),
        "exists": null,
        "configured": shape.map(|shape| ways(&shape.windows, "; ")),
        "default_numbers": shape.map(|shape| shape.has_carried_numbers),
        "shadow_mode": shape.map(|shape| shape.is_shadow),
        "mark": shape.and_then(|shape| shape.mark.as_ref()),
        "override": found.map(|found| override_json(found, limit)),
    })
}

/// The limit's name in a field, or in a key without its prefix, which may have a hash tag.
pub(crate) fn names(field: &[u8]) -> &[u8] {
    untagged(field).split(|byte| *byte == b':').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limits_name_ends_at_the_first_colon() {
        assert_eq!(names(b"per_user:a:b"), b"per_user");
        assert_eq!(names(b"per_user"), b"per_user");
        assert_eq!(names(b"{per_user:a}"), b"per_user");
        assert_eq!(names(b"per_user:{a}:b"), b"per_user");
    }
}
