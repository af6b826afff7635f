//! Which limits a request runs into, what it costs at each, and what operators ruled of them meanwhile.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use crate::config::{Config, Limit};
use crate::descriptor::{Attributes, BadHits};
use crate::limit::{Asked, Outcome, Windows};
use crate::overrides::{Override, Overrides, Ruling};
use crate::units::Micros;

/// What is to be asked of Redis about a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asking {
    /// Whether these buckets admit it. None of them: nothing.
    Buckets(Vec<Asked>),
    /// Nothing: an operator has blocked it.
    Blocked(Outcome),
}

/// Gathers the buckets of the limits that apply to a request.
///
/// # Errors
/// Where the request is to say what it costs, and says something malformed.
pub(super) fn ask(
    config: &Config,
    overrides: Option<&Overrides>,
    now: Micros,
    request: &dyn Attributes,
) -> Result<Asking, BadHits> {
    let mut buckets = Vec::new();
    for (index, limit) in config.concerning(request) {
        let Some(key) = limit.descriptor.bucket_key(request) else { continue };
        let overridden = overrides.and_then(|overrides| overrides.of(now, &limit.name, &key));
        let Some((windows, enforced)) = in_force(limit, overridden) else { continue };
        let mut asked = windows.asked(index, key, limit.cost(request)?, enforced);
        if let Some(Override { ruling: Ruling::Blocked, until }) = overridden
            && enforced
            && let Some(first) = asked.next()
        {
            return Ok(Asking::Blocked(first.blocked(until.map(|until| until.minus(now)))));
        }
        buckets.extend(asked);
    }
    Ok(Asking::Buckets(buckets))
}

/// How the limit admits, and whether its denials count. `None` where nothing is to be asked.
fn in_force(limit: &Limit, overridden: Option<Override>) -> Option<(Cow<'_, Windows>, bool)> {
    let configured = Cow::Borrowed(&limit.windows);
    match overridden.map(|overridden| overridden.ruling) {
        None | Some(Ruling::Blocked) => Some((configured, !limit.shadow_mode)),
        Some(Ruling::Unlimited | Ruling::Off) => None,
        Some(Ruling::Shadow) => Some((configured, false)),
        Some(Ruling::TokenBucket(bucket)) => Some((Cow::Owned(limit.windows.replaced_by(bucket)), !limit.shadow_mode)),
    }
}
