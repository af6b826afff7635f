//! Reservations of a request in flight, in its budgets: renewed until it ends, then settled by what it has cost.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::bucket::BucketCheck;
use super::scripts::Scripts;
use crate::limit::algorithm::{Algorithm, Arguments, Budget, SettleResult, SlotOwner};
use crate::redis::{Call, Reply};
use crate::units::{Micros, Tokens};

/// Reservations of one request. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservations {
    owner: SlotOwner,
    all: Vec<Reservation>,
}

/// Reservation of a request in one budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// The limit's index in the configuration.
    pub limit: usize,
    /// The window's index within the limit.
    pub window: usize,
    /// The budget's key in Redis.
    pub key: Vec<u8>,
    /// The budget, with the request's own part of the estimate.
    pub budget: Budget,
    /// Estimate.
    pub estimate: Tokens,
}

/// Stream of events, to which a settlement writes windows beyond their soft limit; and its entry in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger<'a> {
    /// Key of the stream.
    pub stream: &'a [u8],
    /// Approximate length of the stream.
    pub max_len: u64,
    /// Names and values of the entry. None: the stream is no ledger.
    pub fields: Vec<(&'a str, Vec<u8>)>,
}

impl Reservation {
    /// Returns what a check reserves. `None` where its bucket is no budget.
    pub(super) fn of(check: &BucketCheck) -> Option<Self> {
        let Algorithm::Budget(budget) = check.algorithm else { return None };
        let BucketCheck { limit, window, ref key, cost: estimate, .. } = *check;
        Some(Self { limit, window, key: key.clone(), budget, estimate })
    }
}

impl Reservations {
    pub(super) fn new(owner: SlotOwner, all: impl Iterator<Item = Reservation>) -> Option<Self> {
        let all: Vec<_> = all.collect();
        (!all.is_empty()).then_some(Self { owner, all })
    }

    /// Adds other reservations of the same request and owner.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        self.all.extend(others.all);
        self
    }

    /// Owner of the reservations.
    #[must_use]
    pub fn owner(&self) -> SlotOwner {
        self.owner
    }

    /// The reservations.
    #[must_use]
    pub fn as_slice(&self) -> &[Reservation] {
        &self.all
    }

    /// Returns each reservation as those of one budget.
    pub fn apart(self) -> impl Iterator<Item = Self> {
        let owner = self.owner;
        self.all.into_iter().map(move |reservation| Self { owner, all: vec![reservation] })
    }

    /// Whether any window has an event once it exceeds its soft limit.
    #[must_use]
    pub fn has_soft_limit(&self) -> bool {
        self.all.iter().any(|of| of.budget.soft_amount() > 0)
    }

    /// Interval between renewals: a third of the shortest lease.
    #[must_use]
    pub fn renew_within(&self) -> Micros {
        Micros(self.all.iter().map(|of| of.budget.lease().0).min().unwrap_or(0) / 3)
    }

    /// Longest lease.
    #[must_use]
    pub fn lease(&self) -> Micros {
        self.all.iter().map(|of| of.budget.lease()).max().unwrap_or(Micros::ZERO)
    }

    /// The call that settles the reservations by what the request has cost the limit of each index. It may be repeated.
    /// `is_unknown` tells whether the request may have no reservations: then it is charged in full all the same.
    #[must_use]
    #[inline(never)]
    pub fn settle_call(
        &self,
        cost: &dyn Fn(usize) -> u64,
        is_unknown: bool,
        ledger: Option<&Ledger<'_>>,
        scripts: &Scripts,
    ) -> Call {
        let fields = ledger.map_or(0, |ledger| ledger.fields.len().saturating_add(1).saturating_mul(2));
        let arguments = self.all.len().saturating_mul(7).saturating_add(fields);
        let mut call = Call::write_script(scripts.settle(), self.all.len(), arguments, 0);
        self.all.iter().for_each(|of| call.bytes(&of.key));
        for (nth, of) in self.all.iter().enumerate() {
            let Arguments { letter, more: [x, _], .. } = of.budget.arguments(Tokens(0));
            call.bytes(letter.as_bytes());
            call.number(is_unknown.into());
            call.number(cost(of.limit));
            call.number(ledger.map_or(0, |_| of.budget.soft_amount()));
            call.bytes(x.to_string().as_bytes());
            call.bytes(of.budget.argument(Tokens(0)).as_bytes());
            call.bytes(if nth.saturating_add(1) == self.all.len() { self.owner.as_bytes() } else { b"" });
        }
        if let Some(ledger) = ledger {
            call.bytes(ledger.stream);
            call.number(ledger.max_len);
            for (name, value) in &ledger.fields {
                call.bytes(name.as_bytes());
                call.bytes(value);
            }
        }
        call.finish()
    }
}

/// The call that renews the leases of reservations of any owners: each by key, owner and budget. Redis replies the number
/// of open ones.
#[must_use]
pub fn renew_budgets_call(reservations: &[(&[u8], SlotOwner, Budget)], scripts: &Scripts) -> Call {
    let keys: Vec<&[u8]> = reservations.iter().map(|(key, ..)| *key).collect();
    let mut arguments: Vec<Vec<u8>> = Vec::new();
    for (_, owner, budget) in reservations {
        arguments.push(owner.as_bytes().to_vec());
        let numbers: [String; 2] = [budget.lease().0, budget.kept().to_millis_ceil()].map(|number| number.to_string());
        arguments.extend(numbers.map(String::into_bytes));
    }
    Call::script(scripts.renew_budgets(), &keys, &arguments)
}

/// Reads the results of a settlement in Redis' reply, and whether the ledger has refused its entry. `None` where the
/// reply is of another form.
#[must_use]
pub fn read_results(reply: &Reply) -> Option<(Vec<SettleResult>, bool)> {
    let Reply::Bulk(letters) = reply else { return None };
    let (letters, is_refused) = match letters.strip_suffix(b"!") {
        Some(letters) => (letters, true),
        None => (letters.as_slice(), false),
    };
    let result = |letter: &u8| SettleResult::LETTERS.iter().find(|(its, _)| its == letter).map(|(_, result)| *result);
    Some((letters.iter().map(result).collect::<Option<_>>()?, is_refused))
}

/// Model of the scripts.
#[cfg(not(target_arch = "wasm32"))]
mod model {
    use crate::limit::algorithm::{Budget, BudgetState, SettleResult, SlotOwner};
    use crate::limit::check::model::Model;
    use crate::limit::check::script_model::{ScriptCall, number};
    use crate::redis::Reply;
    use crate::units::Micros;

    impl Model {
        /// Returns the reply to a settlement: a letter for each budget. There is no ledger.
        pub(in crate::limit::check) fn settle_all(&mut self, now: Micros, call: ScriptCall<'_>) -> Option<Reply> {
            let (arguments, _) = call.arguments.split_at_checked(call.keys.len().checked_mul(7)?)?;
            let owner = SlotOwner::of_bytes(arguments.last()?)?;
            let mut letters = alloc::vec::Vec::new();
            for (key, arguments) in call.keys.iter().zip(arguments.chunks(7)) {
                let [_, is_unknown, cost, _, x, more, _] = arguments else { return None };
                let (x, more) = (number(x)?, core::str::from_utf8(more).ok()?);
                let (budget, _) = Budget::of_arguments(0, SOME, x, more)?;
                let (cost, is_unknown) = (number(cost)?, number::<u8>(is_unknown)? == 1);
                let state = &mut self.bucket(key).budget;
                let result = BudgetState::settle(state, &budget, now, owner, cost, is_unknown);
                letters.extend(SettleResult::LETTERS.iter().find(|(_, its)| *its == result).map(|(letter, _)| letter));
            }
            Some(Reply::Bulk(letters))
        }

        /// Returns the reply to a renewal: the number of open reservations.
        pub(in crate::limit::check) fn renew_budgets_all(
            &mut self,
            now: Micros,
            call: ScriptCall<'_>,
        ) -> Option<Reply> {
            let mut renewed = 0_i64;
            for (key, arguments) in call.keys.iter().zip(call.arguments.chunks(3)) {
                let [owner, lease, _] = arguments else { return None };
                let (owner, lease) = (SlotOwner::of_bytes(owner)?, Micros(number(lease)?));
                let state = self.bucket(key).budget.as_mut();
                renewed = renewed.saturating_add(state.is_some_and(|state| state.renew(now, owner, lease)).into());
            }
            Some(Reply::Integer(renewed))
        }
    }

    /// Limit of a budget for a settlement, which does not depend on it: the units of any token at most.
    const SOME: u64 = 1 << 52;
}
