//! Check of a request: one script call over all buckets, the verdict in its reply, and the slots that it takes.

mod bucket;
mod call;
mod ceiling;
#[cfg(not(target_arch = "wasm32"))]
mod credit;
#[cfg(not(target_arch = "wasm32"))]
mod give_back;
mod heal;
mod heartbeat;
#[cfg(not(target_arch = "wasm32"))]
mod known_script;
#[cfg(not(target_arch = "wasm32"))]
mod levels;
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
#[cfg(not(target_arch = "wasm32"))]
pub use self::credit::{CreditAmount, credit_call, credit_script};
pub use self::heal::{INTACT, LastState, RESTORED, VOID, heal_call};
pub use self::heartbeat::{Claim, Heartbeat};
#[cfg(not(target_arch = "wasm32"))]
pub use self::known_script::KnownScript;
#[cfg(not(target_arch = "wasm32"))]
pub use self::levels::{BudgetLevel, BudgetLevels, WindowAmounts};
pub use self::model::Model;
pub use self::peek::Peek;
pub use self::post::post_call;
pub use self::reply::MalformedReply;
pub use self::request::Check;
pub use self::reservations::{Ledger, Reservation, Reservations, read_results, renew_budgets_call};
#[cfg(not(target_arch = "wasm32"))]
pub use self::script_model::ScriptCall;
#[cfg(not(target_arch = "wasm32"))]
pub use self::scripts::RESET_SCRIPT;
pub use self::scripts::{MIXED_SCRIPT, Scripts, TOKEN_BUCKETS_SCRIPT};
pub use self::slots::{HeldSlots, release_call, renew_call};
pub use self::verdict::{Outcome, Verdict};
