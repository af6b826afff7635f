//! `weir limits list`: the limits, their overrides, and who has spent most.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Write;

use comfy_table::{Cell, CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use indicatif::{ProgressBar, ProgressStyle};
use weir_filter::overrides::hash_key;
use weir_filter::units::{Micros, Tokens};

use super::configured::Limit;
use super::error::LimitsError;
use super::in_force_shape;
use super::render::{key_of, ruling_and_rest, shape};
use super::span::span;
use super::store::{Found, Store, lack};

/// Shows the limits, and of their overrides `rows` at most; then, if asked for, the `limited` emptiest buckets.
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
        let settings = settings.into_iter().map(|(field, value)| (field, Found::read(&value, now))).collect();
        overrides(&limits, &settings, rows, out)?;
        if let Some(top) = limited {
            emptiest(store, prefix, &limits, &settings, top, out)?;
        }
    }
    Ok(())
}

type Settings = BTreeMap<Vec<u8>, Found>;

fn overrides(limits: &[&Limit], settings: &Settings, rows: usize, out: &mut dyn Write) -> Result<(), LimitsError> {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["limit", "key", "configured", "override"]);
    let mut left_out = 0_usize;
    for limit in limits {
        let configured = limit.token_bucket().map_or("not a token bucket".to_owned(), shape);
        let shadow = if limit.is_shadow { ", in shadow mode" } else { "" };
        let of_limit = settings.get(limit.name.as_bytes()).map(ruling_and_rest).unwrap_or_default();
        table.add_row([&limit.name, "", &format!("{configured}{shadow}"), &of_limit]);
        let of_keys: Vec<_> = settings
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

/// A bucket that is not full.
struct Spent {
    limit: usize,
    key: Vec<u8>,
    lack: Micros,
    left: Tokens,
    capacity: Tokens,
    /// Until a request of one token passes.
    wait: Micros,
    /// How much of it is gone.
    share: f64,
}

fn emptiest(
    store: &mut Store,
    prefix: &str,
    limits: &[&Limit],
    settings: &Settings,
    top: usize,
    out: &mut dyn Write,
) -> Result<(), LimitsError> {
    let bar = progress(store.size()?);
    let (mut all, mut waiting, mut spent) = (0_u64, 0_u64, Vec::new());
    let look = |key: Vec<u8>, value: Vec<u8>, now: Micros| {
        let Some(found) = look_at(prefix, limits, settings, key, &value, now) else { return };
        all = all.saturating_add(1);
        waiting = waiting.saturating_add(u64::from(found.wait > Micros::ZERO));
        spent.push(found);
        if spent.len() > top.saturating_mul(2).saturating_add(10_000) {
            keep(&mut spent, top);
        }
    };
    store.scan(&pattern(prefix, limits), |keys| bar.inc(keys), look)?;
    bar.finish_and_clear();
    keep(&mut spent, top);

    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["limit", "key", "tokens", "full in", "next request"]);
    for Spent { limit, key, lack, left, capacity, wait, .. } in &spent {
        let name = limits.get(*limit).map_or("", |limit| limit.name.as_str());
        let next = if *wait == Micros::ZERO { "now".to_owned() } else { format!("in {}", span(*wait)) };
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        let key = key_of(key.get(prefix.len()..).unwrap_or_default());
        let tokens = right(format!("{} of {}", left.0, capacity.0));
        table.add_row([Cell::new(name), Cell::new(key), tokens, right(span(*lack)), right(next)]);
    }
    writeln!(out, "{table}")?;
    writeln!(out, "{waiting} of {all} buckets that are not full admit nothing now")?;
    Ok(())
}

fn look_at(
    prefix: &str,
    limits: &[&Limit],
    settings: &Settings,
    key: Vec<u8>,
    value: &[u8],
    now: Micros,
) -> Option<Spent> {
    let field = key.get(prefix.len()..)?;
    let index = limits.iter().position(|limit| limit.name.as_bytes() == names(field))?;
    let limit = limits.get(index)?;
    let in_force = |field: &[u8]| settings.get(field).and_then(Found::ruling);
    let ruling = in_force(field).or_else(|| in_force(limit.name.as_bytes()));
    let bucket = in_force_shape(ruling, limit.token_bucket().ok()?);
    let lack = lack(value, now, bucket).filter(|lack| *lack > Micros::ZERO)?;
    Some(Spent {
        limit: index,
        lack,
        left: bucket.remaining(lack),
        capacity: bucket.capacity(),
        wait: bucket.retry_after(lack, Tokens(1)).unwrap_or_default(),
        share: lack.0 as f64 / bucket.fill_time().0 as f64,
        key,
    })
}

/// The limit's name in a field, or in a key without its prefix.
fn names(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == b':').next().unwrap_or_default()
}

/// Keeps the emptiest, each once: a scan may come by a key twice.
fn keep(spent: &mut Vec<Spent>, top: usize) {
    spent.sort_by(|one, other| other.share.total_cmp(&one.share).then_with(|| one.key.cmp(&other.key)));
    let mut seen = HashSet::new();
    spent.retain(|bucket| seen.insert(bucket.key.clone()));
    spent.truncate(top);
}

/// A glob that matches the limits' buckets, and little else.
fn pattern(prefix: &str, limits: &[&Limit]) -> Vec<u8> {
    let name = match limits {
        [only] => only.name.as_str(),
        _ => "*",
    };
    let mut pattern = Vec::new();
    for byte in prefix.bytes() {
        if b"*?[]^\\".contains(&byte) {
            pattern.push(b'\\');
        }
        pattern.push(byte);
    }
    pattern.extend_from_slice(name.as_bytes());
    pattern.extend_from_slice(b":*");
    pattern
}

/// Drawn only where standard error is a terminal.
fn progress(keys: u64) -> ProgressBar {
    let bar = ProgressBar::new(keys);
    if let Ok(style) = ProgressStyle::with_template("scanning {bar:40} {percent:>3}% of {len} keys") {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_taken_literally() {
        assert_eq!(pattern("a*[b]?\\:", &[]), br"a\*\[b\]\?\\:*:*");
    }

    #[test]
    fn a_limits_name_ends_at_the_first_colon() {
        assert_eq!(names(b"per_user:a:b"), b"per_user");
        assert_eq!(names(b"per_user"), b"per_user");
    }
}
