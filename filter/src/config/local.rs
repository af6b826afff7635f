//! Section `local`: settings for `failure_mode: local`.

use super::reader::Node;
use super::report::Read;
use super::size_within;
use crate::limit::Share;

const DEFAULT_MAX_KEYS: usize = 10_000;
const MIN_MAX_KEYS: u64 = 1_000;
const MAX_MAX_KEYS: u64 = 1_000_000;

/// Settings for the failure mode [`Local`](crate::limit::FailureMode::Local).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalConfig {
    /// Share of each limit that this worker has. `None`, the default: Redis grants shares.
    pub share: Option<Share>,
    /// Share of a worker to which Redis has not granted any yet. Default none.
    pub new_worker_share: Share,
    /// Most buckets in a worker's memory: 1,000 to 1,000,000, default 10,000.
    pub max_keys: usize,
}

impl Default for LocalConfig {
    fn default() -> Self {
        Self { share: None, new_worker_share: Share::NONE, max_keys: DEFAULT_MAX_KEYS }
    }
}

/// Reads the section.
pub(super) fn read(node: &Node<'_>) -> Read<LocalConfig> {
    let fields = node.object(&["share", "new_worker_share", "max_keys"])?;
    let max_keys = fields.or("max_keys", DEFAULT_MAX_KEYS, |node| size_within(node, MIN_MAX_KEYS..=MAX_MAX_KEYS));
    let one = fields.at_most_one(&["share", "new_worker_share"]);
    let share = match one? {
        Some((name, node)) => Some((name, share(node, name)?)),
        None => None,
    };
    let (share, new_worker_share) = match share {
        Some(("share", share)) => (Some(share), Share::NONE),
        Some((_, share)) => (None, share),
        None => (None, Share::NONE),
    };
    Ok(LocalConfig { share, new_worker_share, max_keys: max_keys? })
}

/// Reads a share. One that is fixed is not zero.
fn share(node: &Node<'_>, name: &str) -> Read<Share> {
    let is_fixed = name == "share";
    let share = node.decimal().and_then(Share::from_number).filter(|share| share.parts() > 0 || !is_fixed);
    let expected =
        if is_fixed { "a share from 0.000001 to 1, such as 0.1" } else { "a share from 0 to 1, such as 0.1" };
    share.ok_or_else(|| node.expected(expected))
}
