//! Limits with a charge, and the ledger that their requests are written to.

use weir_filter::limit::{Charge, NearLimit};

use super::amount::Unit;
use super::error::BudgetsError;
use crate::limits::LimitsError;
use crate::limits::configured::{Configured, Limit};

/// Limits of a configuration that have a charge. At least one.
pub(super) struct ChargedLimits<'a> {
    configured: &'a Configured,
    limits: Vec<&'a Limit>,
}

/// Ledger of limits: key of its stream, and about the number of its entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stream {
    pub(super) key: String,
    pub(super) max_len: u64,
}

impl<'a> ChargedLimits<'a> {
    pub(super) fn of(configured: &'a Configured) -> Result<Self, BudgetsError> {
        if !configured.is_known {
            return Err(LimitsError::NeedsConfig.into());
        }
        let mut limits = configured.selected(None)?;
        limits.retain(|limit| limit.has_charge());
        if limits.is_empty() { Err(BudgetsError::NoBudgets) } else { Ok(Self { configured, limits }) }
    }

    /// All limits, or those with this name.
    pub(super) fn selected(&self, name: Option<&str>) -> Result<Vec<&'a Limit>, BudgetsError> {
        let Some(name) = name else { return Ok(self.limits.clone()) };
        let mut named = self.configured.selected(Some(name))?;
        named.retain(|limit| limit.has_charge());
        match named.is_empty() {
            true => Err(BudgetsError::NoCharge { limit: name.to_owned(), known: self.names() }),
            false => Ok(named),
        }
    }

    /// The limit with this name; without a name, the only one.
    pub(super) fn one(&self, name: Option<&str>) -> Result<Limit, BudgetsError> {
        match (name, &self.limits[..]) {
            (Some(name), _) => {
                self.selected(Some(name))?;
                Ok(self.configured.limit(name)?)
            }
            (None, [only]) => Ok((*only).clone()),
            (None, _) => Err(BudgetsError::WhichLimit { known: self.names() }),
        }
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.limits.iter().map(|limit| limit.name.clone()).collect();
        names.dedup();
        names
    }
}

/// The ledger of these limits.
///
/// # Errors
/// If there is none, or there are several.
pub(super) fn ledger_of(limits: &[&Limit]) -> Result<Stream, BudgetsError> {
    let mut streams: Vec<Stream> = Vec::new();
    for limit in limits {
        let stream = ledger(limit).ok_or(BudgetsError::NoLedger)?;
        if streams.iter().all(|known| known.key != stream.key) {
            streams.push(stream);
        }
    }
    match streams.len() {
        0 => Err(BudgetsError::NoLedger),
        1 => Ok(streams.swap_remove(0)),
        _ => Err(BudgetsError::SeveralLedgers { streams: streams.into_iter().map(|stream| stream.key).collect() }),
    }
}

/// The ledger of a limit, if its limiter writes one.
pub(super) fn ledger(limit: &Limit) -> Option<Stream> {
    let (key, max_len) = limit.shape.as_ref()?.ledger.clone()?;
    Some(Stream { key, max_len })
}

/// Unit of a limit's amounts.
pub(super) fn unit(limit: &Limit) -> Unit {
    charge(limit).map_or(Unit::Tokens, |charge| Unit::of(charge.of))
}

/// The share of a limit from which its responses say that it is nearly spent.
pub(super) fn soft_limit(limit: &Limit) -> Option<NearLimit> {
    charge(limit)?.soft_limit
}

fn charge(limit: &Limit) -> Option<&Charge> {
    limit.shape.as_ref()?.charge.as_deref()
}
