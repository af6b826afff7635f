//! Limits: each algorithm's Rust specification beside the Lua that Redis runs, and the verdict over all limits of one
//! request.
//!
//! A [`Check`] is one script call: of the [script for token buckets](TOKEN_BUCKETS_SCRIPT) where all buckets are plain
//! token buckets, as most are, else of the [mixed script](MIXED_SCRIPT), composed of every algorithm's part. [`Model`]
//! is the specification of both scripts. A [`Peek`] is for operators: it spends nothing.

mod algorithm;
mod algorithms;
mod charge;
mod check;
mod local_bucket;
mod near_limit;
mod replacement;
mod request_windows;
mod scale;
mod settings;
mod share;

pub use self::algorithm::{
    Algorithm, AlgorithmError, BucketState, Budget, Concurrency, FixedWindow, Grant, Kind, LeaseRequest, LeasedBucket,
    Period, Quota, Rate, SettleResult, Settlement, SlidingLog, SlidingWindow, SlotOwner, TokenBucket, TokenBucketError,
    Units, bounds, rfc_3339,
};
pub use self::algorithms::{Algorithms, AlgorithmsError};
pub use self::charge::{
    Charge, Charged, Ending, Fallback, Held, InputEstimate, LedgerEntry, MAX_AMOUNT, OnLost, OutputEstimate, Reserve,
    Seen, UsageSource, Weights, WhenShort,
};
pub use self::check::{
    BucketCheck, Check, Claim, Heartbeat, HeldSlots, INTACT, LastState, Ledger, MIXED_SCRIPT, MalformedReply, Model,
    Outcome, Peek, RESTORED, Reservation, Reservations, Scripts, TOKEN_BUCKETS_SCRIPT, VOID, Verdict, heal_call,
    post_call, read_results, release_call, renew_budgets_call, renew_call,
};
#[cfg(not(target_arch = "wasm32"))]
pub use self::check::{
    BudgetLevel, BudgetLevels, CreditAmount, KnownScript, RESET_SCRIPT, ScriptCall, WindowAmounts, credit_call,
    credit_script,
};
pub use self::local_bucket::LocalBucket;
pub use self::near_limit::NearLimit;
pub use self::replacement::{Replacement, Unit};
pub use self::request_windows::{Number, RequestNumbers, RequestWindows, WindowNumbers, WindowValues, Zero};
pub use self::scale::{Factor, Scale};
pub use self::settings::{FailureMode, Limit, Mark};
pub use self::share::Share;
