//! Scripts that Redis runs.

use alloc::borrow::Cow;
use alloc::sync::Arc;

use crate::redis::{Script, lua, script, sha1};

/// Sources of every algorithm's part of the mixed script.
macro_rules! algorithms {
    () => {
        concat!(
            include_str!("token_bucket_mixed.lua"),
            include_str!("leased_bucket.lua"),
            include_str!("fixed_window.lua"),
            include_str!("quota.lua"),
            include_str!("sliding_window.lua"),
            include_str!("sliding_log.lua"),
            include_str!("slots.lua"),
            include_str!("concurrency.lua"),
            "\n",
        )
    };
}

/// Parts that several scripts share, compiled in once.
static TOKEN_STATE: &str = lua!(include_str!("token_state.lua"));
static REQUESTS: &str = lua!(include_str!("requests.lua"));
static TOKEN_BUCKET_HEAD: &str = lua!(include_str!("token_bucket_head.lua"));
static TOKEN_BUCKET_TAIL: &str = lua!(include_str!("token_bucket_tail.lua"));
static MIXED_HEAD: &str = lua!(include_str!("mixed_head.lua"));
static MIXED_REST: &str = lua!(algorithms!(), include_str!("mixed_tail.lua"));

/// Script that decides requests whose buckets are all token buckets: most requests, and the fastest way.
///
/// In shadow mode it takes each bucket for a limit of its own.
pub const TOKEN_BUCKETS_SCRIPT: &str = lua!(
    include_str!("token_bucket_head.lua"),
    include_str!("token_state.lua"),
    include_str!("token_bucket_tail.lua"),
    include_str!("requests.lua"),
);

/// Script that decides any request, composed of a part for each algorithm.
pub const MIXED_SCRIPT: &str = lua!(
    include_str!("mixed_head.lua"),
    include_str!("token_state.lua"),
    algorithms!(),
    include_str!("mixed_tail.lua"),
    include_str!("requests.lua"),
);

/// Script that looks into any buckets as [`MIXED_SCRIPT`] does, and spends nothing.
pub(super) const PEEK_SCRIPT: &str = lua!(
    include_str!("mixed_head.lua"),
    include_str!("peek_head.lua"),
    include_str!("token_state.lua"),
    algorithms!(),
    include_str!("peek_tail.lua"),
);

/// All scripts. A worker makes them once.
#[derive(Debug, Clone)]
pub struct Scripts {
    token_buckets: Arc<Script>,
    mixed: Arc<Script>,
    refund: Arc<Script>,
    release: Arc<Script>,
    renew: Arc<Script>,
}

impl Default for Scripts {
    fn default() -> Self {
        Self {
            token_buckets: Arc::new(Script::named(
                [TOKEN_BUCKET_HEAD, TOKEN_STATE, TOKEN_BUCKET_TAIL, REQUESTS].map(Cow::Borrowed),
                const { sha1(TOKEN_BUCKETS_SCRIPT.as_bytes()) },
            )),
            mixed: Arc::new(Script::named(
                [MIXED_HEAD, TOKEN_STATE, MIXED_REST, REQUESTS].map(Cow::Borrowed),
                const { sha1(MIXED_SCRIPT.as_bytes()) },
            )),
            refund: Arc::new(script!(lua!(include_str!("refund.lua")))),
            release: Arc::new(script!(lua!(include_str!("release.lua")))),
            renew: Arc::new(script!(lua!(include_str!("slots.lua"), include_str!("renew.lua")))),
        }
    }
}

impl Scripts {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scripts_parts_are_those_of_its_hash() {
        let scripts = Scripts::default();
        assert_eq!(scripts.token_buckets().source(), TOKEN_BUCKETS_SCRIPT);
        assert_eq!(scripts.mixed().source(), MIXED_SCRIPT);
    }
}
