//! `weir limits list`: the limits, their overrides, and their emptiest buckets.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use weir_filter::overrides::{Ruling, hash_key};

use super::configured::Limit;
use super::emptiest;
use super::error::LimitsError;
use super::render::{key_of, ruling_and_rest, ways};
use super::store::{Found, Store};

/// Shows the limits and at most `rows` overrides of keys per limit; then, if `limited` is set, that many buckets, the
/// emptiest first.
pub(super) fn run(
    store: &mut Store,
    limits: &[&Limit],
    limited: Option<usize>,
    rows: usize,
    out: &mut dyn Write,
) -> Result<(), LimitsError> {
    let prefixes: BTreeSet<&str> = limits.iter().map(|limit| limit.key_prefix.as_str()).collect();
    for prefix in prefixes {
        let limits: Vec<&Limit> = limits.iter().copied().filter(|limit| limit.key_prefix == prefix).collect();
        let settings = store.settings(&hash_key(prefix))?;
        let now = store.time()?;
        let settings = Settings(settings.into_iter().map(|(field, value)| (field, Found::read(&value, now))).collect());
        overrides(&limits, &settings, rows, out)?;
        if let Some(top) = limited {
            emptiest::run(store, prefix, &limits, &settings, top, out)?;
        }
    }
    Ok(())
}

/// The overrides under one key prefix, by their fields.
pub(super) struct Settings(BTreeMap<Vec<u8>, Found>);

impl Settings {
    /// The ruling in force for the key of this field: its own, otherwise the ruling of its limit.
    pub(super) fn ruling(&self, limit: &Limit, field: &[u8]) -> Option<&Ruling> {
        let in_force = |field: &[u8]| self.0.get(field).and_then(Found::ruling);
        in_force(field).or_else(|| in_force(limit.name.as_bytes()))
    }
}

fn overrides(limits: &[&Limit], settings: &Settings, rows: usize, out: &mut dyn Write) -> Result<(), LimitsError> {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["limit", "key", "configured", "override"]);
    let mut left_out = 0_usize;
    for limit in limits {
        let configured = ways(&limit.windows, ",\n");
        let shadow = if limit.is_shadow { ", in shadow mode" } else { "" };
        let of_limit = settings.0.get(limit.name.as_bytes()).map(ruling_and_rest).unwrap_or_default();
        table.add_row([&limit.name, "", &format!("{configured}{shadow}"), &of_limit]);
        let of_keys: Vec<_> = settings
            .0
            .iter()
            .filter(|(field, _)| names(field) == limit.name.as_bytes())
            .filter(|(field, _)| field.contains(&b':'))
            .collect();
        for (field, found) in of_keys.iter().take(rows) {
            table.add_row(["", &key_of(field), "", &ruling_and_rest(found)]);
        }
        left_out = left_out.saturating_add(of_keys.len().saturating_sub(rows));
    }
    writeln!(out, "{table}")?;
    if left_out > 0 {
        writeln!(out, "and {left_out} more overrides of keys; --top shows more")?;
    }
    Ok(())
}

/// The limit's name in a field, or in a key without its prefix.
pub(super) fn names(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == b':').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limits_name_ends_at_the_first_colon() {
        assert_eq!(names(b"per_user:a:b"), b"per_user");
        assert_eq!(names(b"per_user"), b"per_user");
    }
}
