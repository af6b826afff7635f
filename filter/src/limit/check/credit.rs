//! Credits: what operators give back of the amounts that were spent.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::bucket::BucketCheck;
use super::reservations::Ledger;
use super::scripts::CREDIT_SCRIPT;
use crate::limit::algorithm::{Algorithm, SlotOwner};
use crate::redis::{Call, Script, script};
use crate::units::Micros;

/// Amount that an operator gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreditAmount {
    /// Number of tokens or nano-USD, or what was spent if that is less.
    Most(u64),
    /// All that was spent.
    All,
}

/// Source of the script that gives back: see [`credit_call`].
#[must_use]
pub fn credit_script() -> Arc<Script> {
    Arc::new(script!(CREDIT_SCRIPT))
}

/// The call that gives back what was spent of the budgets of one key, each in the window that starts at `since`, or the
/// present one. `owner` is the name of the operation: a call with the same name gives back nothing more for a day. Redis replies
/// what it has given back of each budget, as bulk strings.
#[must_use]
pub fn credit_call(
    script: &Arc<Script>,
    checks: &[BucketCheck],
    owner: SlotOwner,
    amount: CreditAmount,
    since: &dyn Fn(&BucketCheck) -> Option<Micros>,
    ledger: Option<&Ledger<'_>>,
) -> Call {
    let keys: Vec<&[u8]> = checks.iter().map(|check| check.key.as_slice()).collect();
    let mut arguments: Vec<Vec<u8>> = Vec::new();
    for (nth, check) in checks.iter().enumerate() {
        let is_last = nth.saturating_add(1) == checks.len();
        let more = check.algorithm.arguments(check.cost);
        let text =
            if let Algorithm::Budget(budget) = check.algorithm { budget.argument(check.cost) } else { String::new() };
        let amount = match amount {
            CreditAmount::Most(amount) => format!("{amount}"),
            CreditAmount::All => String::from("-1"),
        };
        let since = since(check).unwrap_or(Micros::ZERO).0;
        let x = more.more[0];
        let texts = [String::from(more.letter), format!("{since}"), amount, String::from("0"), format!("{x}")];
        arguments.extend(texts.map(String::into_bytes));
        arguments.push(text.into_bytes());
        arguments.push(if is_last { owner.as_bytes().to_vec() } else { Vec::new() });
    }
    if let Some(ledger) = ledger {
        arguments.extend([ledger.stream.to_vec(), format!("{}", ledger.max_len).into_bytes()]);
        for (name, value) in &ledger.fields {
            arguments.extend([name.as_bytes().to_vec(), value.clone()]);
        }
    }
    Call::script(script, &keys, &arguments)
}
