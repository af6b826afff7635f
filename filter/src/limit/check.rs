//! All limits that one request runs into, decided in one atomic step: spent from all, or from none.

use std::sync::Arc;

use super::token_bucket::TokenBucket;
use super::verdict::{Outcome, Verdict};
use crate::redis::{Call, Reply, Script};
use crate::units::{Micros, Tokens};

/// What Redis runs. Its specification is [`Check::decide`].
pub const SCRIPT: &str = include_str!("token_bucket.lua");

/// One limit that applies to the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The limit's index in the configuration.
    pub limit: usize,
    /// Where its bucket is kept.
    pub key: Vec<u8>,
    /// The bucket's shape.
    pub bucket: TokenBucket,
    /// Tokens that the request costs.
    pub cost: Tokens,
    /// Whether a denial counts; not so in shadow mode.
    pub enforced: bool,
}

/// A request's limits, in the configuration's order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Check(Vec<Asked>);

/// A reply that [`SCRIPT`] does not give.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an array of {expected} integers, the first 0 or 1 as the rest decide, found {found} that is none")]
pub struct MalformedReply {
    expected: usize,
    found: &'static str,
}

impl Check {
    /// The limits that apply. None at all is a check that admits.
    #[must_use]
    pub fn new(asked: Vec<Asked>) -> Self {
        Self(asked)
    }

    /// Whether no limit applies.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The limits that apply.
    pub fn asked(&self) -> impl Iterator<Item = &Asked> {
        self.0.iter()
    }

    /// The call that has Redis decide.
    #[must_use]
    pub fn call(&self, script: &Arc<Script>) -> Call {
        let keys: Vec<&[u8]> = self.0.iter().map(|asked| asked.key.as_slice()).collect();
        let arguments: Vec<String> = self.0.iter().flat_map(Asked::arguments).collect();
        Call::script(script, &keys, &arguments)
    }

    /// The verdict in Redis' reply.
    ///
    /// # Errors
    /// Where the reply is not of [`SCRIPT`]'s form, or contradicts itself.
    pub fn read(&self, reply: &Reply) -> Result<Verdict, MalformedReply> {
        let malformed = MalformedReply { expected: self.0.len().saturating_add(1), found: reply.kind() };
        let Some((admitted, lacks)) = admission_and_lacks(reply) else { return Err(malformed) };
        let verdict = self.decide(&lacks);
        let is_plausible = lacks.len() == self.0.len() && verdict.admitted == admitted;
        if is_plausible { Ok(verdict) } else { Err(malformed) }
    }

    /// The specification of the decision: given how far each bucket is from full, what becomes of the request.
    #[must_use]
    pub fn decide(&self, lacks: &[Micros]) -> Verdict {
        let fits = |asked: &Asked, lack: Micros| asked.bucket.admits(lack, asked.cost);
        let admitted = self.0.iter().zip(lacks).all(|(asked, &lack)| !asked.enforced || fits(asked, lack));
        let outcomes = self.0.iter().zip(lacks).map(|(asked, &lack)| {
            let fits = fits(asked, lack);
            let left = if admitted && fits { lack.plus(asked.bucket.price(asked.cost)) } else { lack };
            Outcome {
                limit: asked.limit,
                bucket: asked.bucket,
                cost: asked.cost,
                admitted: fits,
                enforced: asked.enforced,
                remaining: asked.bucket.remaining(left),
                retry_after: asked.bucket.retry_after(lack, asked.cost),
                reset: left,
            }
        });
        Verdict { admitted, outcomes: outcomes.collect() }
    }
}

impl Asked {
    /// Its three of [`SCRIPT`]'s arguments: fill time, price, and whether it is enforced.
    #[must_use]
    pub fn arguments(&self) -> [String; 3] {
        let enforced = if self.enforced { "1" } else { "0" };
        [self.bucket.fill_time().0.to_string(), self.bucket.price(self.cost).0.to_string(), enforced.to_owned()]
    }
}

fn admission_and_lacks(reply: &Reply) -> Option<(bool, Vec<Micros>)> {
    let Reply::Array(elements) = reply else { return None };
    let mut integers = elements.iter().map(|element| match element {
        Reply::Integer(n) => u64::try_from(*n).ok(),
        _ => None,
    });
    let admitted = match integers.next()?? {
        0 => false,
        1 => true,
        _ => return None,
    };
    Some((admitted, integers.map(|n| n.map(Micros)).collect::<Option<_>>()?))
}
