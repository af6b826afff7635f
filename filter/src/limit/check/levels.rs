//! Levels of budgets, for operators: the amounts of the present window and of the window before.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::bucket::BucketCheck;
use super::call::mixed_call;
use super::scripts::LEVELS_SCRIPT;
use crate::limit::algorithm::{Algorithm, Budget, SlotOwner};
use crate::redis::{Call, Reply, Script, script};
use crate::units::Micros;

/// Read-only script for the levels of budgets.
#[derive(Debug, Clone)]
pub struct BudgetLevels {
    script: Arc<Script>,
}

/// Amounts of a budget, as if reservations whose leases have ended were charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetLevel {
    /// Redis' time.
    pub now: Micros,
    /// The present window, or the whole token bucket.
    pub window: WindowAmounts,
    /// The window right before it, if anything was charged there and is still kept.
    pub before: Option<WindowAmounts>,
}

/// Amounts of one window, in tokens or nano-USD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowAmounts {
    /// Start and end. `None` for a token bucket.
    pub span: Option<[Micros; 2]>,
    /// Amount settled; of a token bucket, what has not drained.
    pub used: u64,
    /// Amount that open requests have reserved.
    pub held: u64,
}

impl Default for BudgetLevels {
    fn default() -> Self {
        Self { script: Arc::new(script!(LEVELS_SCRIPT)) }
    }
}

impl BudgetLevels {
    /// The call that reads a budget.
    #[must_use]
    pub fn call(&self, check: &BucketCheck) -> Call {
        mixed_call(&self.script, core::slice::from_ref(check), SlotOwner::default())
    }

    /// Reads the level in Redis' reply. `None` where the bucket is no budget, or the reply is of another form.
    #[must_use]
    pub fn read(check: &BucketCheck, reply: &Reply) -> Option<BudgetLevel> {
        let Algorithm::Budget(budget) = check.algorithm else { return None };
        let Reply::Array(parts) = reply else { return None };
        let [Reply::Integer(now), Reply::Bulk(window), Reply::Bulk(before)] = parts.as_slice() else { return None };
        let now = Micros(u64::try_from(*now).ok()?);
        let (start, window) = amounts(&budget, window)?;
        let span = budget.window_at(start);
        let before = amounts(&budget, before).filter(|(its, _)| {
            let last = span.and_then(|[start, _]| budget.window_at(start.minus(Micros(1))));
            last.is_some_and(|[start, _]| start == *its)
        });
        Some(BudgetLevel {
            now,
            window: WindowAmounts { span, ..window },
            before: before.map(|(start, before)| WindowAmounts { span: budget.window_at(start), ..before }),
        })
    }
}

/// Reads a window's start and amounts in its text.
fn amounts(budget: &Budget, text: &[u8]) -> Option<(Micros, WindowAmounts)> {
    let numbers = core::str::from_utf8(text).ok()?.split_whitespace().map(str::parse);
    let numbers = numbers.collect::<Result<Vec<u64>, _>>().ok()?;
    let [start, used, held, ..] = *numbers.as_slice() else { return None };
    Some((Micros(start), WindowAmounts { span: None, used: used.div_ceil(budget.unit()), held }))
}
