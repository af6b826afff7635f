//! Peeks into buckets: their outcomes for a request that spends nothing.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::check::{BucketCheck, MalformedReply, mixed_call, read, triple_states};
use super::held_slots::SlotOwner;
use super::scripts::PEEK_SCRIPT;
use super::verdict::Outcome;
use crate::redis::{Call, Reply, Script, script};

/// Read-only check of buckets, for operators. Redis keeps every byte of their states, even if the limits differ from
/// the proxies'. One exception: where Redis' clock was set back, a log's later entries are moved to now, as by any
/// request.
#[derive(Debug, Clone)]
pub struct Peek {
    script: Arc<Script>,
}

impl Default for Peek {
    fn default() -> Self {
        Self { script: Arc::new(script!(PEEK_SCRIPT)) }
    }
}

impl Peek {
    /// The call that reads the states of all these buckets at one instant.
    #[must_use]
    pub fn call(&self, check: &[BucketCheck]) -> Call {
        mixed_call(&self.script, check, SlotOwner::default())
    }

    /// Reads each bucket's outcome in Redis' reply: whether it would admit the cost, and its level without that cost.
    ///
    /// # Errors
    /// Where the reply is not of the script's form.
    pub fn read(check: &[BucketCheck], reply: &Reply) -> Result<Vec<Outcome>, MalformedReply> {
        let expected = check.len().saturating_mul(3).saturating_add(1);
        let states = read(reply).and_then(|(_, now, numbers)| Some((now, triple_states(numbers)?)));
        match states {
            Some((now, states)) if states.len() == check.len() => {
                Ok(check.iter().zip(states).map(|(check, state)| check.peek(now, state)).collect())
            }
            _ => Err(MalformedReply::new(expected, reply)),
        }
    }
}
