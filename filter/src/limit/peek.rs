//! A look into buckets: what they would say to a request that never comes.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::check::{BucketCheck, MalformedReply, in_threes, mixed_call, read};
use super::held_slots::SlotOwner;
use super::scripts::LOOK_SCRIPT;
use super::verdict::Outcome;
use crate::redis::{Call, Reply, Script, script};

/// Looks into buckets, for operators. Redis keeps what it has to the last byte, whatever limits the buckets are looked
/// at with; but where its clock was set back, a log's later entries are moved to now, as by any request.
#[derive(Debug, Clone)]
pub struct Peek {
    script: Arc<Script>,
}

impl Default for Peek {
    fn default() -> Self {
        Self { script: Arc::new(script!(LOOK_SCRIPT)) }
    }
}

impl Peek {
    /// The call that looks into all these buckets at one instant.
    #[must_use]
    pub fn call(&self, check: &[BucketCheck]) -> Call {
        mixed_call(&self.script, check, SlotOwner::default())
    }

    /// What Redis' reply says of each bucket: whether it would admit what it is asked, and how full it is without.
    ///
    /// # Errors
    /// Where the reply is not of the script's form.
    pub fn read(check: &[BucketCheck], reply: &Reply) -> Result<Vec<Outcome>, MalformedReply> {
        let expected = check.len().saturating_mul(3).saturating_add(1);
        let seen = read(reply).and_then(|(_, now, numbers)| Some((now, in_threes(numbers)?)));
        match seen {
            Some((now, seen)) if seen.len() == check.len() => {
                Ok(check.iter().zip(seen).map(|(check, seen)| check.look(now, seen)).collect())
            }
            _ => Err(MalformedReply::new(expected, reply)),
        }
    }
}
