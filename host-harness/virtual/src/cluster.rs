//! Cluster mode of the virtual Redis: errors of hash slots, as `redis_proxy` and the nodes of a cluster give them.

use std::collections::{BTreeMap, BTreeSet};

use weir_filter::redis::hash_slot;

/// Hash slots that do not answer as usual.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cluster {
    errors: BTreeMap<u16, &'static str>,
    moving: BTreeSet<u16>,
}

impl Cluster {
    pub(crate) fn set_error(&mut self, key: &[u8], error: Option<&'static str>) {
        match error {
            Some(error) => self.errors.insert(hash_slot(key), error),
            None => self.errors.remove(&hash_slot(key)),
        };
    }

    pub(crate) fn set_moving(&mut self, key: &[u8], is_moving: bool) {
        if is_moving {
            self.moving.insert(hash_slot(key))
        } else {
            self.moving.remove(&hash_slot(key))
        };
    }

    /// Returns the error of a command, which is not run.
    pub(crate) fn refusal(&self, name: &[u8], command: &[Vec<u8>]) -> Option<&'static str> {
        let keys = keys_of(name, command);
        let slot = hash_slot(keys.first()?);
        if keys.iter().any(|key| hash_slot(key) != slot) {
            return Some("CROSSSLOT Keys in request don't hash to the same slot");
        }
        if self.moving.contains(&slot) && keys.iter().any(|key| Some(key) != keys.first()) {
            return Some("TRYAGAIN Multiple keys request during rehashing of slot");
        }
        self.errors.get(&slot).copied()
    }
}

fn keys_of<'a>(name: &[u8], command: &'a [Vec<u8>]) -> &'a [Vec<u8>] {
    match (name, command) {
        (b"ZREM", [_, key, ..]) => std::slice::from_ref(key),
        (b"EVAL" | b"EVALSHA", [_, _, count, rest @ ..]) => {
            let count = std::str::from_utf8(count).ok().and_then(|count| count.parse().ok());
            count.and_then(|count| rest.get(..count)).unwrap_or_default()
        }
        _ => &[],
    }
}
