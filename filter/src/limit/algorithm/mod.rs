//! Algorithms behind one enum: each is a Rust specification beside the Lua that Redis runs.

mod arguments;
pub mod bounds;
mod budget;
mod budget_state;
mod civil;
mod concurrency;
mod decision;
mod fixed_window;
mod kind;
mod lease;
mod leased_bucket;
mod quota;
mod rate;
mod sliding_log;
mod sliding_window;
mod slot_owner;
mod token_bucket;
mod token_state;

use alloc::borrow::ToOwned;
use alloc::string::String;

pub(super) use self::arguments::Arguments;
pub use self::bounds::{AlgorithmError, TokenBucketError};
pub use self::budget::Budget;
pub(super) use self::budget_state::BudgetState;
pub use self::budget_state::SettleResult;
pub use self::civil::rfc_3339;
pub use self::concurrency::Concurrency;
pub(super) use self::concurrency::Leases;
pub use self::decision::BucketState;
pub(super) use self::decision::{BucketDecision, Level};
pub use self::fixed_window::FixedWindow;
pub(super) use self::fixed_window::{Span, WindowCount};
pub use self::kind::Kind;
pub use self::lease::{Grant, LeaseRequest, Settlement};
pub use self::leased_bucket::LeasedBucket;
pub use self::quota::{Period, Quota};
pub use self::rate::{Rate, Units};
pub(super) use self::sliding_log::Log;
pub use self::sliding_log::SlidingLog;
pub use self::sliding_window::SlidingWindow;
pub(super) use self::sliding_window::WindowCounts;
pub use self::slot_owner::SlotOwner;
pub use self::token_bucket::TokenBucket;
#[cfg(not(target_arch = "wasm32"))]
pub(super) use self::token_state::DeniedSpend;
#[cfg(not(target_arch = "wasm32"))]
pub(super) use self::token_state::Shape;
pub(super) use self::token_state::TokenState;
use super::charge::Charge;
use crate::units::{Micros, Tokens};

/// Algorithm of a bucket, with its configured numbers. The bucket's state is in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Token bucket: tokens flow in evenly, up to a burst.
    TokenBucket(TokenBucket),
    /// Token bucket of which workers may lease tokens ahead.
    LeasedBucket(LeasedBucket),
    /// Exact sliding window: a number of tokens in any window, by a log of all spends. For small limits.
    SlidingLog(SlidingLog),
    /// Approximate sliding window: a number of tokens in any window, estimated from two counters.
    SlidingWindow(SlidingWindow),
    /// Fixed window: a number of tokens in each of the windows that follow each other since 1970.
    FixedWindow(FixedWindow),
    /// Quota: a number of tokens in each calendar minute, hour, day, week, month or year.
    Quota(Quota),
    /// Concurrency limit: a number of requests in flight.
    Concurrency(Concurrency),
    /// Window or token bucket whose requests reserve an estimate, and settle what they have cost.
    Budget(Budget),
    /// Token bucket that never holds a token. Redis has no state of it.
    NoTokens,
}

impl Algorithm {
    /// The algorithm's kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::TokenBucket(_) | Self::LeasedBucket(_) | Self::NoTokens => Kind::TokenBucket,
            Self::SlidingLog(_) | Self::SlidingWindow(_) => Kind::SlidingWindow,
            Self::FixedWindow(_) => Kind::FixedWindow,
            Self::Quota(_) => Kind::Quota,
            Self::Concurrency(_) => Kind::Concurrency,
            Self::Budget(budget) => budget.algorithm().kind(),
        }
    }

    /// Whether the limit is zero: every request is denied, whatever it costs, without a call to Redis.
    #[must_use]
    pub fn admits_nothing(&self) -> bool {
        self.limit() == Tokens(0)
    }

    /// The capacity of a token bucket, the greatest number of requests in flight, or the limit of a window.
    #[must_use]
    pub fn limit(&self) -> Tokens {
        match self {
            Self::TokenBucket(bucket) => bucket.capacity(),
            Self::LeasedBucket(leased) => leased.bucket().capacity(),
            Self::SlidingLog(log) => log.limit(),
            Self::SlidingWindow(sliding) => sliding.limit(),
            Self::FixedWindow(fixed) => fixed.limit(),
            Self::Quota(quota) => quota.limit(),
            Self::Concurrency(slots) => slots.max(),
            Self::Budget(budget) => budget.algorithm().limit(),
            Self::NoTokens => Tokens(0),
        }
    }

    /// The [limit](Self::limit), and the rate of a token bucket: buckets of one key that differ in these may decide
    /// differently about the same request.
    #[must_use]
    pub fn numbers(&self) -> (Tokens, Option<Rate>) {
        (self.limit(), self.token_bucket().map(TokenBucket::rate))
    }

    /// Returns the window or the concurrency limit with another limit. `None` for token buckets.
    ///
    /// # Errors
    /// If the limit is too large.
    pub(super) fn with_limit(&self, limit: u64) -> Result<Option<Self>, AlgorithmError> {
        Ok(Some(match self {
            Self::TokenBucket(_) | Self::LeasedBucket(_) | Self::NoTokens => return Ok(None),
            // A limit above the maximum of a sliding log is estimated instead.
            Self::SlidingLog(log) => match SlidingLog::new(limit, log.window()) {
                Ok(exact) => Self::SlidingLog(exact),
                Err(_) => Self::SlidingWindow(SlidingWindow::new(limit, log.window())?),
            },
            Self::SlidingWindow(sliding) => Self::SlidingWindow(SlidingWindow::new(limit, sliding.window())?),
            Self::FixedWindow(fixed) => Self::FixedWindow(FixedWindow::new(limit, fixed.window())?),
            Self::Quota(quota) => Self::Quota(Quota::new(limit, quota.period(), quota.offset_minutes())?),
            Self::Concurrency(slots) => Self::Concurrency(Concurrency::new(limit, slots.lease())?),
            Self::Budget(budget) => return budget.with_limit(limit),
        }))
    }

    /// Tag of the state in Redis: two algorithms that would misread each other's state have different tags.
    ///
    /// The tag does not depend on the limit; it depends on the window's length, except for token buckets. It consists
    /// of letters, digits and signs; keys have a `#` before it.
    #[must_use]
    pub fn tag(&self) -> String {
        match self {
            Self::TokenBucket(_) | Self::LeasedBucket(_) => "token".to_owned(),
            Self::SlidingLog(log) => format!("log{}", log.window().0),
            Self::SlidingWindow(sliding) => format!("sliding{}", sliding.window().0),
            Self::FixedWindow(fixed) => format!("fixed{}", fixed.window().0),
            Self::Quota(quota) => format!("{}{}", quota.period().name(), quota.offset_minutes()),
            Self::Concurrency(_) => "concurrency".to_owned(),
            Self::Budget(budget) => format!("budget{}", budget.algorithm().tag()),
            Self::NoTokens => "none".to_owned(),
        }
    }

    /// Returns the algorithm with reservations of estimates, as `charge` says. `None` for an algorithm that has none: a
    /// token bucket that leases tokens or holds requests, an exact sliding window, or a limit on requests in flight.
    #[must_use]
    pub fn reserving(self, charge: &Charge) -> Option<Self> {
        if self == Self::NoTokens { Some(self) } else { Budget::new(self, charge).map(Self::Budget) }
    }

    /// The token bucket, or the bucket from which tokens are leased. `None` for other algorithms.
    pub(super) fn token_bucket(&self) -> Option<&TokenBucket> {
        match self {
            Self::TokenBucket(bucket) => Some(bucket),
            Self::LeasedBucket(leased) => Some(leased.bucket()),
            _ => None,
        }
    }

    /// Returns the mixed script's arguments for a request of `cost` tokens.
    pub(in crate::limit) fn arguments(&self, cost: Tokens) -> Arguments {
        match self {
            Self::TokenBucket(bucket) => bucket.arguments(cost),
            Self::LeasedBucket(leased) => leased.arguments(cost),
            Self::SlidingLog(log) => log.arguments(cost),
            Self::SlidingWindow(sliding) => sliding.arguments(cost),
            Self::FixedWindow(fixed) => fixed.arguments(cost),
            Self::Quota(quota) => quota.arguments(cost),
            Self::Concurrency(concurrency) => concurrency.arguments(cost),
            Self::Budget(budget) => budget.arguments(cost),
            // A window of 1 µs and no tokens denies any cost above 0.
            Self::NoTokens => Arguments::of_count("f", Tokens(cost.0.max(1)), Tokens(0), [Micros(1), Micros::ZERO]),
        }
    }

    /// Decides a request of `cost` tokens, given the bucket's state at `now`.
    pub(super) fn decide(&self, now: Micros, state: BucketState, cost: Tokens) -> BucketDecision {
        match self {
            Self::TokenBucket(bucket) => bucket.decide(Units(state.used), cost),
            Self::LeasedBucket(leased) => leased.decide(now, state, cost),
            Self::SlidingLog(log) => log.decide(state, cost),
            Self::SlidingWindow(sliding) => sliding.decide(now, state.more, cost),
            Self::FixedWindow(fixed) => fixed.span(now).decide(now, fixed.limit(), state.used, cost),
            Self::Quota(quota) => quota.span(now).decide(now, quota.limit(), state.used, cost),
            Self::Concurrency(concurrency) => concurrency.decide(state.used, cost),
            Self::Budget(budget) => budget.decide(now, state, cost),
            Self::NoTokens => BucketDecision::NOTHING,
        }
    }
}
