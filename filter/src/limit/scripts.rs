//! The scripts that Redis runs, with their names.

use alloc::sync::Arc;

use crate::redis::{Script, lua, script};

/// Decides requests whose buckets are all token buckets: most requests, and the fastest way.
///
/// Of several limits in shadow mode it takes each bucket for a limit of its own.
pub const TOKEN_BUCKETS_SCRIPT: &str = lua!(include_str!("token_bucket.lua"), include_str!("requests.lua"));

/// How each algorithm looks into its buckets.
macro_rules! algorithms {
    () => {
        concat!(
            include_str!("token_bucket_mixed.lua"),
            include_str!("leased_bucket.lua"),
            include_str!("fixed_window.lua"),
            include_str!("quota.lua"),
            include_str!("sliding_window.lua"),
            include_str!("sliding_log.lua"),
            include_str!("concurrency.lua"),
            "\n",
        )
    };
}

/// Decides any request. It is put together of a part for each algorithm.
pub const MIXED_SCRIPT: &str =
    lua!(include_str!("mixed_head.lua"), algorithms!(), include_str!("mixed_tail.lua"), include_str!("requests.lua"));

/// Looks into any buckets as the one above does, and changes nothing.
pub(super) const LOOK_SCRIPT: &str =
    lua!(include_str!("mixed_head.lua"), include_str!("look_head.lua"), algorithms!(), include_str!("look_tail.lua"));

/// All scripts. Make them once.
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
            token_buckets: Arc::new(script!(TOKEN_BUCKETS_SCRIPT)),
            mixed: Arc::new(script!(MIXED_SCRIPT)),
            refund: Arc::new(script!(lua!(include_str!("refund.lua")))),
            release: Arc::new(script!(lua!(include_str!("release.lua")))),
            renew: Arc::new(script!(lua!(include_str!("renew.lua")))),
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
