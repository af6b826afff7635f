//! Check of a request: one script call over all buckets, the verdict in its reply, and the slots that it takes.

mod bucket;
mod call;
mod ceiling;
#[cfg(not(target_arch = "wasm32"))]
mod give_back;
mod heartbeat;
mod model;
mod peek;
mod post;
mod reply;
mod request;
mod reservations;
#[cfg(not(target_arch = "wasm32"))]
mod script_bucket;
#[cfg(not(target_arch = "wasm32"))]
mod script_model;
mod scripts;
mod slots;
mod verdict;

pub use self::bucket::BucketCheck;
pub use self::heartbeat::{Claim, Heartbeat};
pub use self::model::Model;
pub use self::peek::Peek;
pub use self::post::post_call;
pub use self::reply::MalformedReply;
pub use self::request::Check;
pub use self::reservations::{Ledger, Reservation, Reservations, read_results, renew_budgets_call};
#[cfg(not(target_arch = "wasm32"))]
pub use self::script_model::{KnownScript, ScriptCall};
pub use self::scripts::{MIXED_SCRIPT, Scripts, TOKEN_BUCKETS_SCRIPT};
pub use self::slots::{HeldSlots, release_call, renew_call};
pub use self::verdict::{Outcome, Verdict};
