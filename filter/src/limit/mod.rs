//! What a limit is: each algorithm's Rust specification beside the Lua that Redis runs, and the verdict
//! over all limits of one request.

mod token_bucket;
mod verdict;

pub use token_bucket::{TokenBucket, TokenBucketError};
pub use verdict::{Outcome, Verdict};
