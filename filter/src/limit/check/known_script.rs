//! Scripts by their hashes, for the model of Redis.

use super::heartbeat::Heartbeat;
use super::scripts::Scripts;
use crate::redis::Script;

/// Script of Weir that decides or ends requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KnownScript {
    /// Decides requests whose buckets are all token buckets.
    TokenBuckets {
        /// Whether the script reads the overrides of keys.
        per_key: bool,
    },
    /// Decides any requests.
    Mixed {
        /// Whether the script reads the overrides of keys.
        per_key: bool,
    },
    /// Refunds tokens.
    Refund,
    /// Releases slots.
    Release,
    /// Renews leases of slots.
    Renew,
    /// Gives back what a request spent that other buckets denied.
    GiveBack,
    /// Spends what workers have admitted by themselves.
    Post,
    /// Heals buckets.
    Heal,
    /// Grants a worker shares of limits.
    Heartbeat,
    /// Settles reservations of budgets.
    Settle,
    /// Renews leases of reservations.
    RenewBudgets,
}

impl KnownScript {
    /// Returns the script with this SHA-1, in lowercase hexadecimal digits.
    #[must_use]
    pub fn by_sha1(sha1_hex: &str) -> Option<Self> {
        [true, false]
            .into_iter()
            .find_map(|per_key| {
                let scripts = Scripts::new(per_key);
                let all: [(&Script, Self); 10] = [
                    (scripts.token_buckets(), Self::TokenBuckets { per_key }),
                    (scripts.mixed(), Self::Mixed { per_key }),
                    (scripts.refund(), Self::Refund),
                    (scripts.release(), Self::Release),
                    (scripts.renew(), Self::Renew),
                    (scripts.give_back(), Self::GiveBack),
                    (scripts.post(), Self::Post),
                    (scripts.heal(), Self::Heal),
                    (scripts.settle(), Self::Settle),
                    (scripts.renew_budgets(), Self::RenewBudgets),
                ];
                all.into_iter().find(|(script, _)| script.sha1_hex() == sha1_hex).map(|(_, known)| known)
            })
            .or_else(|| (Heartbeat::default().script().sha1_hex() == sha1_hex).then_some(Self::Heartbeat))
    }
}
