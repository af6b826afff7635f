//! Peeks into buckets: their outcomes for a request that spends nothing.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::bucket::BucketCheck;
use super::call::mixed_call;
use super::reply::{MalformedReply, read, triple_state};
use super::scripts::PEEK_SCRIPT;
use super::verdict::Outcome;
use crate::limit::algorithm::SlotOwner;
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

    /// Source of the script.
    #[must_use]
    pub fn source(&self) -> alloc::string::String {
        self.script.source()
    }

    /// Reads each bucket's outcome in Redis' reply: whether it would admit the cost, and its level without that cost.
    ///
    /// # Errors
    /// Where the reply is not of the script's form.
    pub fn read(check: &[BucketCheck], reply: &Reply) -> Result<Vec<Outcome>, MalformedReply> {
        let expected = check.len().saturating_mul(3).saturating_add(1);
        let malformed = || MalformedReply::new(expected, reply);
        let (_, now, numbers) = read(reply).filter(|(.., numbers)| numbers.len() == expected).ok_or_else(malformed)?;
        let outcome = |(nth, check): (usize, &BucketCheck)| Some(check.peek(now, triple_state(numbers, nth)?));
        check.iter().enumerate().map(outcome).collect::<Option<_>>().ok_or_else(malformed)
    }
}
