//! Budget: a window or a token bucket whose requests reserve an estimate, and are settled by what they have cost.
//!
//! A request is admitted where the amounts settled, the amounts that open requests have reserved and its own estimate fit
//! together: so no window is overspent, as long as no request costs more than its estimate. The settlement replaces the
//! estimate in the window of the request, even after that window's end. Reservations of a token bucket do not drain: the
//! settlement spends the cost at its own time. See [`BudgetState`].
//!
//! This is the specification; Redis runs `budget_state.lua` and `budget.lua` beside it.

use alloc::string::String;

use super::Algorithm;
use super::arguments::Arguments;
use super::bounds::{AlgorithmError, MAX_SLOT_LEASE, MIN_SLOT_LEASE};
use super::budget_state::BudgetState;
use super::decision::{BucketDecision, BucketState};
use super::fixed_window::FixedWindow;
use super::quota::Quota;
use super::rate::Units;
use super::sliding_window::SlidingWindow;
use super::slot_owner::SlotOwner;
use super::token_bucket::TokenBucket;
use crate::limit::charge::{Charge, OnLost, WhenShort};
use crate::limit::check::Outcome;
use crate::limit::near_limit::NearLimit;
use crate::units::{Micros, Tokens};

/// Time for which a budget is kept beyond its last lease, and a lost reservation for a late settlement.
pub(super) const KEPT: Micros = Micros::from_secs(3_600);

/// Window or token bucket whose requests reserve an estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    base: Base,
    lease: Micros,
    on_lost: OnLost,
    when_short: WhenShort,
    /// Share of a window from which it has an event.
    soft_limit: Option<NearLimit>,
    /// Part of the request's estimate that is its own tokens.
    floor: u64,
}

/// Algorithm of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    Bucket(TokenBucket),
    Fixed(FixedWindow),
    Sliding(SlidingWindow),
    Quota(Quota),
}

impl Budget {
    /// Returns `algorithm` with reservations. `None` for an algorithm that has none: leases, an exact window, a limit on
    /// requests in flight, or a token bucket that holds requests.
    pub(super) fn new(algorithm: Algorithm, charge: &Charge) -> Option<Self> {
        let base = Base::of(algorithm)?;
        let lease = charge.lease.clamp(MIN_SLOT_LEASE, MAX_SLOT_LEASE);
        let Charge { on_lost, when_short, soft_limit, .. } = *charge;
        Some(Self { base, lease, on_lost, when_short, soft_limit, floor: 0 })
    }

    /// Returns a budget of another algorithm, with the same reservations. `None` for an algorithm that has none. An exact
    /// sliding window is estimated instead.
    pub(in crate::limit) fn with(self, algorithm: Algorithm) -> Option<Self> {
        let base = match algorithm {
            Algorithm::SlidingLog(log) => {
                SlidingWindow::of_amounts(log.limit().0, log.window()).ok().map(Base::Sliding)
            }
            _ => Base::of(algorithm),
        };
        base.map(|base| Self { base, ..self })
    }

    /// Returns the budget for a request of whose estimate `floor` is its own tokens.
    #[must_use]
    pub fn with_floor(self, floor: u64) -> Self {
        Self { floor, ..self }
    }

    /// Returns a window with another limit. `None` for a token bucket.
    ///
    /// # Errors
    /// If the limit is too large.
    pub(super) fn with_limit(self, limit: u64) -> Result<Option<Algorithm>, AlgorithmError> {
        let algorithm = match self.base {
            Base::Bucket(_) => return Ok(None),
            Base::Fixed(fixed) => Algorithm::FixedWindow(FixedWindow::of_amounts(limit, fixed.window())?),
            Base::Sliding(sliding) => Algorithm::SlidingWindow(SlidingWindow::of_amounts(limit, sliding.window())?),
            Base::Quota(quota) => Algorithm::Quota(Quota::of_amounts(limit, quota.period(), quota.offset_minutes())?),
        };
        Ok(self.with(algorithm).map(Algorithm::Budget))
    }

    /// Part of the request's estimate that is its own tokens.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// Reads a budget from a script's arguments, and the estimate of the request. `None` where they are of no budget.
    #[cfg(not(target_arch = "wasm32"))]
    pub(in crate::limit) fn of_arguments(cost: u64, limit: u64, x: i64, more: &str) -> Option<(Self, Tokens)> {
        let (kind, numbers) = more.split_once(' ')?;
        let numbers = numbers.split(' ').map(str::parse).collect::<Result<alloc::vec::Vec<u64>, _>>().ok()?;
        let &[y, lease, estimate, floor] = numbers.as_slice() else { return None };
        let of_x = || u64::try_from(x).ok();
        let base = match kind {
            "t" => Base::Bucket(TokenBucket::of_units(of_x()?, y, limit)?),
            "f" => Base::Fixed(FixedWindow::of_amounts(limit, Micros(of_x()?)).ok()?),
            "s" => Base::Sliding(SlidingWindow::of_amounts(limit, Micros(of_x()?)).ok()?),
            kind => {
                let letter = if kind == "d" { "f" } else { kind };
                Base::Quota(Quota::of_arguments(letter, limit, [x, i64::try_from(y).ok()?])?)
            }
        };
        let (lease, on_lost, when_short) = (Micros(lease), OnLost::Input, WhenShort::Deny);
        let mut budget = Self { base, lease, on_lost, when_short, soft_limit: None, floor };
        if budget.units(budget.needed(Tokens(estimate))) != cost {
            budget.when_short = WhenShort::TakeRest;
        }
        Some((budget, Tokens(estimate)))
    }

    /// The window or token bucket.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self.base {
            Base::Bucket(bucket) => Algorithm::TokenBucket(bucket),
            Base::Fixed(fixed) => Algorithm::FixedWindow(fixed),
            Base::Sliding(sliding) => Algorithm::SlidingWindow(sliding),
            Base::Quota(quota) => Algorithm::Quota(quota),
        }
    }

    /// Time for which a request's estimate is reserved, unless its worker renews it.
    #[must_use]
    pub fn lease(&self) -> Micros {
        self.lease
    }

    /// Time for which Redis is to keep the budget after a renewal: a lost reservation may be settled late, and what it is
    /// charged drains.
    pub(in crate::limit) fn kept(&self) -> Micros {
        let drains = if let Base::Bucket(bucket) = self.base { bucket.fill_time() } else { Micros::ZERO };
        self.lease.plus(KEPT).plus(drains)
    }

    /// Least amount settled in a window that has an event. 0 where none has: without a soft limit, and of a token bucket.
    pub(in crate::limit) fn soft_amount(&self) -> u64 {
        match (self.base, self.soft_limit) {
            (Base::Bucket(_), _) | (_, None) => 0,
            (_, Some(soft_limit)) => soft_limit.exceeding(self.limit()),
        }
    }

    pub(super) fn base(&self) -> Base {
        self.base
    }

    /// Reads the state before the decision, as Redis does. Returns the used part of the limit, and of that the part
    /// without reservations; and what the window before counts.
    pub(in crate::limit) fn look(&self, state: &mut Option<BudgetState>, now: Micros, owner: SlotOwner) -> BucketState {
        let (open, is_changed) = BudgetState::open(state.as_ref(), &self.base, now, owner);
        let [used, spent, before] = open.level(&self.base, now);
        if is_changed {
            *state = Some(open);
        }
        BucketState { used, more: [spent.min(self.limit()), before] }
    }

    /// Reserves the estimate, as Redis does after [`look`](Self::look): of a request that takes the rest no more than
    /// that. A request that is settled already reserves nothing.
    pub(in crate::limit) fn reserve(
        &self,
        state: &mut Option<BudgetState>,
        now: Micros,
        owner: SlotOwner,
        estimate: Tokens,
    ) {
        let (mut open, _) = BudgetState::open(state.as_ref(), &self.base, now, owner);
        let [used, ..] = open.level(&self.base, now);
        let amount = self.taken(used, estimate).0;
        if open.reserve(owner, amount, self.lost(estimate).min(amount), now.plus(self.lease)) {
            *state = Some(open);
        }
    }

    pub(in crate::limit) fn arguments(&self, cost: Tokens) -> Arguments {
        let more = self.base.arguments().more;
        Arguments { letter: "r", cost: self.units(self.needed(cost)), limit: self.limit(), more }
    }

    /// Second of the bucket's arguments of the mixed script, a string: the kind, its second number, the lease, the
    /// estimate, and the charge of a lost reservation.
    pub(in crate::limit) fn argument(&self, estimate: Tokens) -> String {
        let Arguments { letter, more: [_, y], .. } = self.base.arguments();
        let kind = match self.base {
            Base::Bucket(_) => "t",
            Base::Fixed(_) => "f",
            Base::Sliding(_) => "s",
            Base::Quota(_) if letter == "f" => "d",
            Base::Quota(_) => "q",
        };
        format!("{kind} {y} {} {} {}", self.lease.0, estimate.0, self.lost(estimate))
    }

    pub(super) fn decide(&self, now: Micros, state: BucketState, estimate: Tokens) -> BucketDecision {
        let used = state.used.min(self.limit());
        let spent = state.more[0].min(used);
        let of = |used: u64, cost: Tokens| match self.base {
            Base::Bucket(bucket) => bucket.decide(Units(used), cost),
            Base::Fixed(fixed) => fixed.span(now).decide(now, fixed.limit(), used, cost),
            Base::Quota(quota) => quota.span(now).decide(now, quota.limit(), used, cost),
            Base::Sliding(sliding) => {
                let before = state.more[1].min(sliding.limit().0);
                let current = used.saturating_sub(sliding.part(now, before));
                sliding.decide(now, [current, before], cost)
            }
        };
        let needed = self.needed(estimate);
        let decision = of(used, needed);
        let is_only_reserved = !decision.admits && spent.saturating_add(self.units(needed)) <= self.limit();
        let retry_after = if is_only_reserved { Some(Outcome::SOON) } else { decision.retry_after };
        BucketDecision {
            retry_after,
            after: of(used, self.taken(used, estimate)).after,
            held: Tokens(used.saturating_sub(spent).div_ceil(self.unit())),
            ..decision
        }
    }

    /// Tokens that must be left for a request: at least one, which a request without an estimate does not reserve.
    fn needed(&self, estimate: Tokens) -> Tokens {
        match self.when_short {
            WhenShort::Deny => Tokens(estimate.0.max(1)),
            WhenShort::TakeRest => Tokens(1),
        }
    }

    /// Tokens that an admitted request reserves.
    fn taken(&self, used: u64, estimate: Tokens) -> Tokens {
        let left = self.limit().saturating_sub(used).checked_div(self.unit()).unwrap_or(0);
        estimate.min(Tokens(left))
    }

    /// Charge of a reservation whose lease ends.
    fn lost(&self, estimate: Tokens) -> u64 {
        match self.on_lost {
            OnLost::Estimate => estimate.0,
            OnLost::Input => self.floor.min(estimate.0),
            OnLost::Refund => 0,
        }
    }

    /// Limit in its unit.
    fn limit(&self) -> u64 {
        match self.base {
            Base::Bucket(bucket) => bucket.full().0,
            _ => self.algorithm().limit().0,
        }
    }

    /// Tokens in the unit of the limit; more than the limit where they exceed it.
    fn units(&self, tokens: Tokens) -> u64 {
        match self.base {
            Base::Bucket(bucket) => bucket.price(tokens).0,
            _ => tokens.0.min(self.limit().saturating_add(1)),
        }
    }

    /// Units of a token in the limit: 1 but for a token bucket.
    pub(in crate::limit) fn unit(&self) -> u64 {
        self.base.unit()
    }

    /// Start and end of the window that contains an instant. `None` for a token bucket.
    #[cfg(not(target_arch = "wasm32"))]
    #[must_use]
    pub fn window_at(&self, at: Micros) -> Option<[Micros; 2]> {
        let start = self.base.start(at);
        let end = match self.base {
            Base::Bucket(_) => return None,
            Base::Fixed(fixed) => fixed.span(at).end,
            Base::Quota(quota) => quota.span(at).end,
            Base::Sliding(sliding) => start.plus(sliding.window()),
        };
        Some([start, end])
    }
}

impl Base {
    fn of(algorithm: Algorithm) -> Option<Self> {
        match algorithm {
            Algorithm::TokenBucket(bucket) if bucket.max_delay() == Micros::ZERO => Some(Self::Bucket(bucket)),
            Algorithm::FixedWindow(fixed) => Some(Self::Fixed(fixed)),
            Algorithm::Quota(quota) => Some(Self::Quota(quota)),
            // Weights of larger steps, as amounts are larger.
            Algorithm::SlidingWindow(sliding) => {
                SlidingWindow::of_amounts(sliding.limit().0, sliding.window()).ok().map(Self::Sliding)
            }
            _ => None,
        }
    }

    fn arguments(&self) -> Arguments {
        match self {
            Self::Bucket(bucket) => bucket.arguments(Tokens(0)),
            Self::Fixed(fixed) => fixed.arguments(Tokens(0)),
            Self::Sliding(sliding) => sliding.arguments(Tokens(0)),
            Self::Quota(quota) => quota.arguments(Tokens(0)),
        }
    }

    /// Units of a token in the limit.
    pub(super) fn unit(&self) -> u64 {
        if let Self::Bucket(bucket) = self { bucket.rate().per_token() } else { 1 }
    }

    /// Start of the window that contains `now`. `now` for a token bucket.
    pub(super) fn start(&self, now: Micros) -> Micros {
        match self {
            Self::Bucket(_) => now,
            Self::Fixed(fixed) => fixed.span(now).start,
            Self::Quota(quota) => quota.span(now).start,
            Self::Sliding(sliding) => sliding.start(now),
        }
    }
}
