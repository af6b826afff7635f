//! `weir limits list --limited`: the emptiest buckets of all keys in Redis.

use std::collections::HashSet;
use std::io::Write;

use comfy_table::{Cell, CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use indicatif::{ProgressBar, ProgressStyle};
use weir_filter::limit::{Algorithm, BucketCheck, Outcome};
use weir_filter::units::{Micros, Tokens};

use super::configured::Limit;
use super::error::LimitsError;
use super::list::{Settings, names};
use super::render::{answer, key_of, way};
use super::span::span;
use super::store::{STEP, Store};

/// Number of hexadecimal digits after the `#` of a key that the filter hashed. No algorithm tag has this form.
const HASH: usize = 32;
/// Number of buckets beyond twice the shown rows that a scan collects before it drops the fullest.
const SLACK: usize = 10_000;

/// A bucket that is not full.
struct Spent {
    limit: usize,
    /// The bucket's key without prefix and tag.
    field: Vec<u8>,
    check: BucketCheck,
    seen: Outcome,
    /// The spent share of the bucket: 1 if the bucket is empty, more if requests are held.
    share: f64,
}

/// Shows the `top` emptiest buckets of these limits. All limits have this key prefix.
pub(super) fn run(
    store: &mut Store,
    prefix: &str,
    limits: &[&Limit],
    settings: &Settings,
    top: usize,
    out: &mut dyn Write,
) -> Result<(), LimitsError> {
    let bar = progress(store.size()?);
    let pattern = pattern(prefix, limits);
    let (mut all, mut waiting, mut spent) = (0_u64, 0_u64, Vec::new());
    let mut cursor = 0;
    loop {
        let (next, keys) = store.scan(cursor, &pattern)?;
        let buckets: Vec<_> = keys.iter().filter_map(|key| bucket(prefix, limits, settings, key)).collect();
        let check: Vec<Vec<BucketCheck>> = buckets.iter().map(|(.., check)| vec![check.clone()]).collect();
        for ((limit, field, check), seen) in buckets.into_iter().zip(store.look(&check)?) {
            let Some(&[seen]) = seen.as_deref() else { continue };
            if seen.reset > Micros::ZERO {
                all = all.saturating_add(1);
                waiting = waiting.saturating_add(u64::from(!seen.admitted));
                spent.push(Spent { limit, field, share: share(&check.algorithm, &seen), check, seen });
            }
        }
        if spent.len() > top.saturating_mul(2).saturating_add(SLACK) {
            keep(&mut spent, top);
        }
        bar.inc(STEP);
        if next == 0 {
            break;
        }
        cursor = next;
    }
    bar.finish_and_clear();
    keep(&mut spent, top);

    writeln!(out, "{}", table(limits, &spent))?;
    writeln!(out, "{waiting} of {all} buckets that are not full admit nothing now")?;
    Ok(())
}

fn table(limits: &[&Limit], spent: &[Spent]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["limit", "key", "admits", "left", "full in", "next request"]);
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    for Spent { limit, field, check: BucketCheck { algorithm, .. }, seen, .. } in spent {
        let full_in = match algorithm {
            Algorithm::Concurrency(_) => String::new(),
            _ => span(seen.reset),
        };
        table.add_row([
            Cell::new(limits.get(*limit).map_or("", |limit| limit.name.as_str())),
            Cell::new(key_of(field)),
            Cell::new(way(algorithm)),
            right(format!("{} of {}", seen.remaining.0, seen.capacity.0)),
            right(full_in),
            right(answer([(algorithm, seen)].into_iter())),
        ]);
    }
    table
}

/// The limit (its index), the key without prefix and tag, and the bucket of a Redis key. `None` if no request spends
/// from this Redis key: no limit has it, or its limit or an override in force uses other windows now.
fn bucket(prefix: &str, limits: &[&Limit], settings: &Settings, key: &[u8]) -> Option<(usize, Vec<u8>, BucketCheck)> {
    let field = without_tag(key.get(prefix.len()..)?);
    let index = limits.iter().position(|limit| limit.name.as_bytes() == names(field))?;
    let limit = limits.get(index)?;
    let windows = limit.windows_under(settings.ruling(limit, field));
    let base = [prefix.as_bytes(), field].concat();
    let check = windows
        .checks(index, base, Tokens(1), true)
        .find(|check| check.key == key && !check.algorithm.admits_nothing())?;
    Some((index, field.to_owned(), check))
}

/// A prefixless key without the tag of its algorithm, if it has a tag.
fn without_tag(field: &[u8]) -> &[u8] {
    let Some(tag) = field.iter().rposition(|byte| *byte == b'#') else { return field };
    let (before, hash) = field.split_at(tag);
    let is_hash = before.ends_with(b":") && hash.len() == HASH + 1 && hash.iter().skip(1).all(is_upper_hex);
    if is_hash { field } else { before }
}

fn is_upper_hex(byte: &u8) -> bool {
    byte.is_ascii_digit() || (b'A'..=b'F').contains(byte)
}

/// The spent share of a bucket. For token buckets it is computed from time, so that two buckets without a token are
/// ordered by the time until they are full.
fn share(algorithm: &Algorithm, seen: &Outcome) -> f64 {
    match algorithm {
        Algorithm::TokenBucket(bucket) => seen.reset.0 as f64 / bucket.fill_time().0 as f64,
        _ => 1.0 - seen.remaining.0 as f64 / seen.capacity.0 as f64,
    }
}

/// Keeps the `top` emptiest buckets. Drops duplicates, because a scan may return a key twice.
fn keep(spent: &mut Vec<Spent>, top: usize) {
    spent.sort_by(|one, other| other.share.total_cmp(&one.share).then_with(|| one.check.key.cmp(&other.check.key)));
    let mut seen = HashSet::new();
    spent.retain(|bucket| seen.insert(bucket.check.key.clone()));
    spent.truncate(top);
}

/// A glob pattern that matches the limits' buckets, and few other keys.
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

/// Progress bar of the scan, drawn only if standard error is a terminal.
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
    fn a_tag_is_not_confused_with_a_hashed_key() {
        let hashed = "per_user:#0EC9EB33E74510BCDD1F2EA55206E82F";
        let tagged = format!("{hashed}#month330");
        let without: [(&str, &str); 5] = [
            ("per_user:alice", "per_user:alice"),
            ("per_user:alice#log30000000", "per_user:alice"),
            ("all:#concurrency", "all:"),
            (hashed, hashed),
            (&tagged, hashed),
        ];
        for (field, rest) in without {
            assert_eq!(without_tag(field.as_bytes()), rest.as_bytes(), "{field}");
        }
    }
}
