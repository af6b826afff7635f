//! `weir limits list --limited`: the emptiest buckets of all keys in Redis.

use std::collections::HashSet;
use std::io::Write;

use comfy_table::{Cell, CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use weir_filter::limit::{Algorithm, BucketCheck, Outcome};
use weir_filter::units::{Micros, Tokens};

use super::Format;
use super::configured::{Beyond, Limit};
use super::error::LimitsError;
use super::found::Found;
use super::list::{OfLimits, Selection, names};
use super::render::{answer, key_json, key_of, way};
use super::span::span;
use super::store::{Cursor, STEP, Store, pattern};

/// Number of buckets beyond twice the shown rows that a scan collects before it drops the fullest.
const SLACK: usize = 10_000;

/// A bucket that is not full.
pub(super) struct Spent {
    pub(super) limit: usize,
    /// The bucket's key without prefix and tag.
    pub(super) field: Vec<u8>,
    check: BucketCheck,
    pub(super) seen: Outcome,
    state: InForce,
    /// The spent share of the bucket: 1 if the bucket is empty, more if requests are held.
    share: f64,
}

/// What the configuration and the override in force make of a bucket's level.
#[derive(Clone, Copy)]
pub(crate) struct InForce {
    /// Way in which requests beyond the limit are admitted. `None`: they are denied.
    beyond: Option<Beyond>,
    /// Whether the bucket's numbers are those of a request that carries none.
    has_default_numbers: bool,
}

/// Shows the emptiest buckets of these limits. All limits have this key prefix.
pub(super) fn run(
    store: &mut Store,
    prefix: &str,
    limits: &[&Limit],
    of_limits: &OfLimits,
    selection: &Selection<'_>,
    out: &mut dyn Write,
) -> Result<(), LimitsError> {
    let top = selection.rows;
    let bar = progress(store.size()?);
    let pattern = match limits {
        [only] => pattern(&only.stem(), "*"),
        _ => pattern(prefix, "*:*"),
    };
    let (mut all, mut waiting, mut spent) = (0_u64, 0_u64, Vec::new());
    let mut cursor = Cursor::default();
    loop {
        let (next, keys) = store.scan(cursor, &pattern, STEP)?;
        for bucket in of_page(store, prefix, limits, of_limits, &keys)? {
            all = all.saturating_add(1);
            waiting = waiting.saturating_add(u64::from(!bucket.seen.admitted));
            spent.push(bucket);
        }
        if spent.len() > top.saturating_mul(2).saturating_add(SLACK) {
            keep(&mut spent, top);
        }
        bar.inc(STEP);
        let Some(next) = next else { break };
        cursor = next;
    }
    bar.finish_and_clear();
    keep(&mut spent, top);

    if selection.format == Format::Json {
        return spent.iter().try_for_each(|spent| Ok(writeln!(out, "{}", json(prefix, limits, spent))?));
    }
    writeln!(out, "{}", table(limits, &spent))?;
    let default = if spent.iter().any(|spent| spent.state.has_default_numbers) {
        "; (default): for a request without a number of its own"
    } else {
        ""
    };
    writeln!(out, "{waiting} of {all} buckets that are not full admit nothing now{default}")?;
    Ok(())
}

/// The buckets among these keys that are not full.
pub(super) fn of_page(
    store: &mut Store,
    prefix: &str,
    limits: &[&Limit],
    of_limits: &OfLimits,
    keys: &[Vec<u8>],
) -> Result<Vec<Spent>, LimitsError> {
    let candidates: Vec<_> = keys.iter().filter_map(|key| candidate(prefix, limits, key)).collect();
    let fields: Vec<Vec<u8>> = candidates.iter().map(|(_, field)| field.to_vec()).collect();
    let own = store.of_keys(prefix, &fields)?;
    let buckets = keys_of(&candidates, own, prefix, limits, of_limits)?;
    let check: Vec<Vec<BucketCheck>> = buckets.iter().map(|(_, _, check, _)| vec![check.clone()]).collect();
    let mut spent = Vec::new();
    for ((limit, field, check, state), seen) in buckets.into_iter().zip(store.look(&check)?) {
        let Some(&[seen]) = seen.as_deref() else { continue };
        if seen.reset > Micros::ZERO {
            spent.push(Spent { limit, field, share: share(&check.algorithm, &seen), check, seen, state });
        }
    }
    Ok(spent)
}

fn table(limits: &[&Limit], spent: &[Spent]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["limit", "key", "admits", "left", "full in", "next request"]);
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    for Spent { limit, field, check: BucketCheck { algorithm, .. }, seen, state, .. } in spent {
        let next = answer([(algorithm, seen)].into_iter());
        let beyond = state.beyond.filter(|_| !seen.admitted);
        let default = if state.has_default_numbers { " (default)" } else { "" };
        let full_in = match algorithm {
            Algorithm::Concurrency(_) => String::new(),
            _ => span(seen.reset),
        };
        table.add_row([
            Cell::new(limits.get(*limit).map_or("", |limit| limit.name.as_str())),
            Cell::new(key_of(field)),
            Cell::new(format!("{}{default}", way(algorithm))),
            right(format!("{} of {}", seen.remaining.0, seen.capacity.0)),
            right(full_in),
            right(beyond.map_or(next.clone(), |beyond| beyond.answer(&next))),
        ]);
    }
    table
}

/// A bucket as JSON.
fn json(prefix: &str, limits: &[&Limit], spent: &Spent) -> Value {
    let Spent { limit, field, check: BucketCheck { algorithm, .. }, seen, state, .. } = spent;
    json!({
        "kind": "bucket",
        "key_prefix": prefix,
        "limit": limits.get(*limit).map(|limit| limit.name.as_str()),
        "key": key_json(field),
        "algorithm": way(algorithm),
        "default_numbers": state.has_default_numbers,
        "remaining": seen.remaining.0,
        "capacity": seen.capacity.0,
        "full_in_us": seen.reset.0,
        "admits": seen.admitted,
        "retry_after_us": seen.retry_after.map(|wait| wait.0),
    })
}

/// Bucket of a limit, by the limit's index: its field, its check, and what is in force.
pub(crate) type KeyBucket = (usize, Vec<u8>, BucketCheck, InForce);

/// A Redis key that may be a bucket, and its field: the key without prefix and tag.
pub(crate) type Candidate<'a> = (&'a Vec<u8>, &'a [u8]);

pub(crate) fn candidate<'a>(prefix: &str, limits: &[&Limit], key: &'a Vec<u8>) -> Option<Candidate<'a>> {
    let field = without_tag(key.get(prefix.len()..)?);
    limits.iter().any(|limit| limit.name.as_bytes() == names(field)).then_some((key, field))
}

/// The buckets among the candidates, with their limits (indexes) and fields. No request spends from the others: their
/// limits or the overrides in force have other windows now.
pub(crate) fn keys_of(
    candidates: &[Candidate<'_>],
    own: Vec<Option<Found>>,
    prefix: &str,
    limits: &[&Limit],
    of_limits: &OfLimits,
) -> Result<Vec<KeyBucket>, LimitsError> {
    let mut buckets = Vec::new();
    for ((key, field), own) in candidates.iter().zip(own) {
        let Some(index) = limits.iter().position(|limit| limit.name.as_bytes() == names(field)) else { continue };
        let Some(limit) = limits.get(index) else { continue };
        let of_limit = || of_limits.get(limit.name.as_bytes()).and_then(Found::ruling);
        let ruling = own.as_ref().and_then(Found::ruling).or_else(of_limit);
        let windows = limit.windows_under(ruling)?;
        let state =
            InForce { beyond: limit.admits_beyond(ruling), has_default_numbers: limit.has_default_numbers(ruling) };
        let base = [prefix.as_bytes(), field].concat();
        let mut checks = windows.checks(index, base, Tokens(1), true);
        let check = checks.find(|check| check.key == **key && !check.algorithm.admits_nothing());
        buckets.extend(check.map(|check| (index, field.to_vec(), check, state)));
    }
    Ok(buckets)
}

/// A prefixless key without the tag of its algorithm, if it has a tag. Hashes of the filter are in capitals.
pub(crate) fn without_tag(field: &[u8]) -> &[u8] {
    match field.iter().rposition(|byte| *byte == b'#').map(|tag| field.split_at(tag)) {
        Some((before, tag)) if tag.get(1).is_some_and(u8::is_ascii_lowercase) => before,
        _ => field,
    }
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
    fn a_tag_is_not_confused_with_a_hashed_key() {
        let hashed = "per_user:#0EC9EB33E74510BCDD1F2EA55206E82F";
        let tagged = format!("{hashed}#month330");
        let in_cluster = format!("{{{hashed}}}");
        let of_tag = "per_user:{#0EC9EB33E74510BCDD1F2EA55206E82F}:alice";
        let without: [(&str, &str); 8] = [
            ("per_user:alice", "per_user:alice"),
            ("per_user:alice#log30000000", "per_user:alice"),
            ("all:#concurrency", "all:"),
            (hashed, hashed),
            (&tagged, hashed),
            (&format!("{in_cluster}#month330"), &in_cluster),
            (of_tag, of_tag),
            (&format!("{of_tag}#log30000000"), of_tag),
        ];
        for (field, rest) in without {
            assert_eq!(without_tag(field.as_bytes()), rest.as_bytes(), "{field}");
        }
    }
}
