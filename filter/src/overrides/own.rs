//! Overrides of single keys: strings in Redis beside the keys' buckets, and the script that writes them.

use alloc::vec::Vec;

use crate::redis::lua;

/// Suffix of the key of an override, after the bucket's key. No tag of an algorithm is equal to it.
pub const OVERRIDE_SUFFIX: &str = "#override";

/// Lua script that sets or removes the override of a key; `set.lua` documents its arguments and its reply.
///
/// Operators' tools run it. Where the state of a token bucket says that its key has no override, the script changes
/// that, so that the next request reads the override.
pub const SET_SCRIPT: &str = lua!(include_str!("set.lua"));

/// Returns the key of the override of the key whose bucket is at `bucket_key`.
#[must_use]
pub fn override_key(bucket_key: &[u8]) -> Vec<u8> {
    [bucket_key, OVERRIDE_SUFFIX.as_bytes()].concat()
}
