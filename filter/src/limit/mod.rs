//! Limits: each algorithm's Rust specification beside the Lua that Redis runs, and the verdict over all limits of one
//! request.
//!
//! A [`Check`] is one script call: of the [script for token buckets](TOKEN_BUCKETS_SCRIPT) where all buckets are plain
//! token buckets, as most are, else of the [mixed script](MIXED_SCRIPT), composed of every algorithm's part. [`Model`]
//! is the specification of both scripts. A [`Peek`] is for operators: it spends nothing.

mod algorithm;
mod algorithms;
mod bucket_decision;
mod ceiling;
mod check;
mod civil;
mod concurrency;
mod fixed_window;
mod held_slots;
mod leased_bucket;
mod model;
mod peek;
mod quota;
mod rate;
mod replacement;
mod scripts;
mod sliding_log;
mod sliding_window;
mod token_bucket;
mod token_state;
mod verdict;

pub use algorithm::{Algorithm, AlgorithmError, BucketState, Kind};
pub use algorithms::{Algorithms, AlgorithmsError};
pub use check::{BucketCheck, Check, MalformedReply};
pub use concurrency::Concurrency;
pub use fixed_window::FixedWindow;
pub use held_slots::{HeldSlots, SlotOwner, release_call, renew_call};
pub use leased_bucket::{Grant, LeaseRequest, LeasedBucket, Settled};
pub use model::Model;
pub use peek::Peek;
pub use quota::{Period, Quota};
pub use rate::{Rate, Units};
pub use replacement::Replacement;
pub use scripts::{MIXED_SCRIPT, Scripts, TOKEN_BUCKETS_SCRIPT};
pub use sliding_log::SlidingLog;
pub use sliding_window::SlidingWindow;
pub use token_bucket::{TokenBucket, TokenBucketError};
pub use verdict::{Outcome, Verdict};
