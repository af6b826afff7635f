//! Scripts that Redis runs.

use alloc::sync::Arc;

use crate::redis::{Script, lua, script, sha1};

/// First line of a part of the mixed script that only buckets of some algorithms need; `end` ends the part.
///
/// Parts of algorithms that no bucket of a call has do not run: making their functions would take 5 to 8 % of a call of
/// one bucket.
macro_rules! part_of {
    ($letter:literal $(or $other:literal)*) => {
        concat!("if look.", $letter, " == 1", $(" or look.", $other, " == 1",)* " then\n")
    };
}

/// Sources of every algorithm's part of the mixed script, after the state of token buckets.
macro_rules! algorithms {
    () => {
        concat!(
            include_str!("../algorithm/token_bucket_mixed.lua"),
            include_str!("../algorithm/leased_bucket.lua"),
            "end\n",
            part_of!("f" or "q" or "r"),
            include_str!("../algorithm/fixed_window.lua"),
            include_str!("../algorithm/quota.lua"),
            "end\n",
            part_of!("s"),
            include_str!("../algorithm/sliding_window.lua"),
            "end\n",
            part_of!("l"),
            include_str!("../algorithm/sliding_log.lua"),
            "end\n",
            part_of!("c"),
            include_str!("../algorithm/slots.lua"),
            include_str!("../algorithm/concurrency.lua"),
            "end\n",
        )
    };
}

/// Sources of the part of budgets, which scripts of reservations have after [`algorithms`].
macro_rules! budgets {
    () => {
        concat!(
            part_of!("r"),
            include_str!("../algorithm/budget_state.lua"),
            include_str!("../algorithm/budget.lua"),
            "end\n",
        )
    };
}

/// Sources of the script for token buckets.
macro_rules! token_buckets {
    () => {
        concat!(
            include_str!("../algorithm/token_bucket_head.lua"),
            include_str!("override.lua"),
            include_str!("../algorithm/token_bucket_mid.lua"),
            include_str!("../algorithm/token_state.lua"),
            include_str!("../algorithm/token_bucket_tail.lua"),
            include_str!("requests.lua"),
        )
    };
}

/// Sources of the mixed script.
macro_rules! mixed {
    () => {
        concat!(
            include_str!("mixed_head.lua"),
            part_of!("t" or "b"),
            include_str!("../algorithm/token_state.lua"),
            algorithms!(),
            budgets!(),
            include_str!("mixed_tail.lua"),
            include_str!("override.lua"),
            include_str!("mixed_end.lua"),
            include_str!("requests.lua"),
        )
    };
}

/// Sources of all algorithms as they are configured, without the overrides of keys.
macro_rules! configured_algorithms {
    () => {
        concat!(
            "local per_key = false\n",
            include_str!("mixed_head.lua"),
            part_of!("t" or "b"),
            include_str!("../algorithm/token_state.lua"),
            algorithms!(),
        )
    };
}

/// Sources of the script of posts. It does not know the overrides of keys: the next request reads them.
macro_rules! post {
    () => {
        concat!(configured_algorithms!(), budgets!(), include_str!("post.lua"),)
    };
}

/// Sources of the script of heals. Like posts, it does not know the overrides of keys.
macro_rules! heal {
    () => {
        concat!(configured_algorithms!(), include_str!("heal.lua"),)
    };
}

/// Sources of the script that settles reservations.
macro_rules! settle {
    () => {
        concat!(
            configured_algorithms!(),
            part_of!("r"),
            include_str!("../algorithm/budget_state.lua"),
            include_str!("settle.lua"),
            "end\n",
        )
    };
}

/// First lines of the two scripts that decide requests: whether they read the overrides of keys.
const READ_OVERRIDES: &str = lua!("local per_key = true\n");
const IGNORE_OVERRIDES: &str = lua!("local per_key = false\n");

/// Parts that several scripts share, compiled in once.
static TOKEN_STATE: &str = lua!(include_str!("../algorithm/token_state.lua"));
static REQUESTS: &str = lua!(include_str!("requests.lua"));
static OVERRIDE: &str = lua!(include_str!("override.lua"));
static TOKEN_BUCKET_HEAD: &str = lua!(include_str!("../algorithm/token_bucket_head.lua"));
static TOKEN_BUCKET_MID: &str = lua!(include_str!("../algorithm/token_bucket_mid.lua"));
static TOKEN_BUCKET_TAIL: &str = lua!(include_str!("../algorithm/token_bucket_tail.lua"));
static MIXED_HEAD: &str = lua!(include_str!("mixed_head.lua"), part_of!("t" or "b"));
static ALGORITHMS: &str = lua!(algorithms!());
static BUDGET_STATE: &str = lua!(part_of!("r"), include_str!("../algorithm/budget_state.lua"));
static BUDGET: &str = lua!(include_str!("../algorithm/budget.lua"), "end\n");
static SETTLE: &str = lua!(include_str!("settle.lua"), "end\n");
static MIXED_TAIL: &str = lua!(include_str!("mixed_tail.lua"));
static MIXED_END: &str = lua!(include_str!("mixed_end.lua"));
static POST: &str = lua!(include_str!("post.lua"));
static HEAL: &str = lua!(include_str!("heal.lua"));

/// Script that decides requests whose buckets are all token buckets: most requests, and the fastest way.
///
/// In shadow mode it takes each bucket for a limit of its own.
pub const TOKEN_BUCKETS_SCRIPT: &str = lua!("local per_key = true\n", token_buckets!());

/// Script that decides any request, composed of a part for each algorithm.
pub const MIXED_SCRIPT: &str = lua!("local per_key = true\n", mixed!());

/// Script that looks into any buckets as [`MIXED_SCRIPT`] does, and spends nothing.
pub(super) const PEEK_SCRIPT: &str = lua!(
    "local per_key = true\n",
    include_str!("mixed_head.lua"),
    include_str!("peek_head.lua"),
    part_of!("t" or "b"),
    include_str!("../algorithm/token_state.lua"),
    algorithms!(),
    budgets!(),
    include_str!("peek_tail.lua"),
);

/// Script that reads the levels of budgets for an operator.
#[cfg(not(target_arch = "wasm32"))]
pub(super) const LEVELS_SCRIPT: &str = lua!(
    "local per_key = false\n",
    include_str!("mixed_head.lua"),
    include_str!("peek_head.lua"),
    part_of!("t" or "b"),
    include_str!("../algorithm/token_state.lua"),
    algorithms!(),
    part_of!("r"),
    include_str!("../algorithm/budget_state.lua"),
    include_str!("levels.lua"),
    "end\n",
);

/// Script by which an operator gives back what was spent of budgets.
#[cfg(not(target_arch = "wasm32"))]
pub(super) const CREDIT_SCRIPT: &str = lua!(
    configured_algorithms!(),
    part_of!("r"),
    include_str!("../algorithm/budget_state.lua"),
    include_str!("credit.lua"),
    "end\n",
);

/// Script by which an operator resets a bucket: deletes it, and keeps workers from healing it.
#[cfg(not(target_arch = "wasm32"))]
pub const RESET_SCRIPT: &str = lua!(include_str!("reset.lua"));

/// All scripts. A worker makes them once.
#[derive(Debug, Clone)]
pub struct Scripts {
    /// Whether replies may tell the overrides of keys.
    per_key: bool,
    token_buckets: Arc<Script>,
    mixed: Arc<Script>,
    refund: Arc<Script>,
    release: Arc<Script>,
    renew: Arc<Script>,
    give_back: Arc<Script>,
    post: Arc<Script>,
    heal: Arc<Script>,
    settle: Arc<Script>,
    renew_budgets: Arc<Script>,
}

impl Default for Scripts {
    /// Makes the scripts that read the overrides of keys.
    fn default() -> Self {
        Self::new(true)
    }
}

impl Scripts {
    /// Makes the scripts. `per_key` tells whether they read the overrides of keys.
    #[must_use]
    #[inline(never)]
    pub fn new(per_key: bool) -> Self {
        let (first, token_buckets, mixed) = if per_key {
            (READ_OVERRIDES, const { sha1(TOKEN_BUCKETS_SCRIPT.as_bytes()) }, const { sha1(MIXED_SCRIPT.as_bytes()) })
        } else {
            (
                IGNORE_OVERRIDES,
                const { sha1(lua!("local per_key = false\n", token_buckets!()).as_bytes()) },
                const { sha1(lua!("local per_key = false\n", mixed!()).as_bytes()) },
            )
        };
        Self {
            per_key,
            token_buckets: Arc::new(Script::named(
                &[first, TOKEN_BUCKET_HEAD, OVERRIDE, TOKEN_BUCKET_MID, TOKEN_STATE, TOKEN_BUCKET_TAIL, REQUESTS],
                token_buckets,
            )),
            mixed: Arc::new(Script::named(
                &[
                    first,
                    MIXED_HEAD,
                    TOKEN_STATE,
                    ALGORITHMS,
                    BUDGET_STATE,
                    BUDGET,
                    MIXED_TAIL,
                    OVERRIDE,
                    MIXED_END,
                    REQUESTS,
                ],
                mixed,
            )),
            refund: Arc::new(script!(lua!(include_str!("refund.lua")))),
            release: Arc::new(script!(lua!(include_str!("release.lua")))),
            renew: Arc::new(script!(lua!(include_str!("../algorithm/slots.lua"), include_str!("renew.lua")))),
            give_back: Arc::new(script!(lua!(include_str!("give_back.lua")))),
            post: Arc::new(Script::named(
                &[IGNORE_OVERRIDES, MIXED_HEAD, TOKEN_STATE, ALGORITHMS, BUDGET_STATE, BUDGET, POST],
                const { sha1(lua!(post!()).as_bytes()) },
            )),
            heal: Arc::new(Script::named(
                &[IGNORE_OVERRIDES, MIXED_HEAD, TOKEN_STATE, ALGORITHMS, HEAL],
                const { sha1(lua!(heal!()).as_bytes()) },
            )),
            settle: Arc::new(Script::named(
                &[IGNORE_OVERRIDES, MIXED_HEAD, TOKEN_STATE, ALGORITHMS, BUDGET_STATE, SETTLE],
                const { sha1(lua!(settle!()).as_bytes()) },
            )),
            renew_budgets: Arc::new(script!(lua!(include_str!("renew_budgets.lua")))),
        }
    }

    pub(super) fn per_key(&self) -> bool {
        self.per_key
    }

    /// Returns all scripts with their names, for tools that show calls.
    #[cfg(not(target_arch = "wasm32"))]
    #[must_use]
    pub fn named(&self) -> [(&'static str, &Script); 10] {
        [
            ("token_buckets", &self.token_buckets),
            ("mixed", &self.mixed),
            ("refund", &self.refund),
            ("release", &self.release),
            ("renew", &self.renew),
            ("give_back", &self.give_back),
            ("post", &self.post),
            ("heal", &self.heal),
            ("settle", &self.settle),
            ("renew_budgets", &self.renew_budgets),
        ]
    }

    pub(super) fn token_buckets(&self) -> &Arc<Script> {
        &self.token_buckets
    }

    pub(super) fn mixed(&self) -> &Arc<Script> {
        &self.mixed
    }

    pub(super) fn refund(&self) -> &Arc<Script> {
        &self.refund
    }

    pub(super) fn release(&self) -> &Arc<Script> {
        &self.release
    }

    pub(super) fn renew(&self) -> &Arc<Script> {
        &self.renew
    }

    pub(super) fn give_back(&self) -> &Arc<Script> {
        &self.give_back
    }

    pub(super) fn post(&self) -> &Arc<Script> {
        &self.post
    }

    pub(super) fn heal(&self) -> &Arc<Script> {
        &self.heal
    }

    pub(super) fn settle(&self) -> &Arc<Script> {
        &self.settle
    }

    pub(super) fn renew_budgets(&self) -> &Arc<Script> {
        &self.renew_budgets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scripts_parts_are_those_of_its_hash() {
        let scripts = Scripts::new(true);
        assert_eq!(scripts.token_buckets().source(), TOKEN_BUCKETS_SCRIPT);
        assert_eq!(scripts.mixed().source(), MIXED_SCRIPT);
        for scripts in [scripts, Scripts::new(false)] {
            let whole = [scripts.token_buckets(), scripts.mixed(), scripts.post(), scripts.heal(), scripts.settle()];
            for script in whole {
                assert_eq!(script.sha1_hex(), Script::new(script.source()).sha1_hex());
            }
        }
    }
}
