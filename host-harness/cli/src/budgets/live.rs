//! Spending in present windows for `weir console`, in steps of bounded work.

use serde_json::{Value, json};

use super::list::{Row, of_page, percent};
use super::period::WindowChoice;
use crate::limits::LimitsError;
use crate::limits::configured::Limit;
use crate::limits::live::{BucketName, Reading, shown_key};

/// Spending of one key in its present window.
#[derive(Debug, Clone)]
pub(crate) struct Spending {
    /// Name of the limit's window.
    pub(crate) window: String,
    pub(crate) key_prefix: String,
    /// The budget's key in Redis.
    pub(crate) key: Vec<u8>,
    pub(crate) used: i64,
    /// Row for the page.
    pub(crate) json: Value,
}

/// Reads the budgets among these keys, which have this prefix.
pub(crate) fn of_keys(reading: &mut Reading<'_>, prefix: &str, keys: &[Vec<u8>]) -> Result<Vec<Spending>, LimitsError> {
    let mut limits: Vec<&Limit> = reading.limits_of(prefix)?;
    limits.retain(|limit| limit.has_charge());
    if limits.is_empty() || keys.is_empty() {
        return Ok(Vec::new());
    }
    let (store, of_limits) = reading.store_of(prefix);
    let rows = of_page(store, &limits, of_limits, keys, &WindowChoice::Current)?;
    let spending = rows.into_iter().filter_map(|(key, row)| {
        let limit = limits.get(row.limit)?;
        let json = row_json(limit, &row);
        Some(Spending { window: row.name, key_prefix: prefix.to_owned(), key, used: row.used, json })
    });
    Ok(spending.collect())
}

fn row_json(limit: &Limit, row: &Row) -> Value {
    let shown = |amount: Option<u64>| amount.map(|amount| row.unit.shown(amount));
    let bucket = BucketName {
        key_prefix: limit.key_prefix.clone(),
        limit: limit.name.clone(),
        key: shown_key(limit.has_one_bucket(), &row.field),
    };
    json!({
        "key_prefix": bucket.key_prefix,
        "limit": bucket.limit,
        "key": bucket.key,
        "window": row.name,
        "used": row.unit.shown(row.used),
        "share": row.most.map(|most| percent(row.used, most)),
        "held": shown(row.held),
        "max": shown(row.most),
        "resets_at": row.span.map(|[_, end]| end.0 / 1_000),
        "soft_limit_passed": row.passes_soft_limit(),
    })
}
