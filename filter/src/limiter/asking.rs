//! Which limits a request runs into, what it costs at each, and what operators ruled of them meanwhile.

use crate::config::{Config, Limit};
use crate::descriptor::{Attributes, BadHits};
use crate::limit::{Asked, Check, Outcome, TokenBucket};
use crate::overrides::{Override, Overrides, Ruling};
use crate::units::{Micros, Tokens};

/// What is to be asked of Redis about a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asking {
    /// Nothing: no limit applies.
    Nothing,
    /// Whether these limits admit it.
    Check(Check),
    /// Nothing: an operator has blocked it.
    Blocked(Outcome),
}

/// Gathers the limits that apply to a request.
///
/// # Errors
/// Where the request is to say what it costs, and says something malformed.
pub(super) fn ask(
    config: &Config,
    overrides: Option<&Overrides>,
    now: Micros,
    request: &dyn Attributes,
) -> Result<Asking, BadHits> {
    let mut asked = Vec::new();
    for (index, limit) in config.concerning(request) {
        let Some(key) = limit.descriptor.bucket_key(request) else { continue };
        let overridden = overrides.and_then(|overrides| overrides.of(now, &limit.name, &key));
        let Some((bucket, enforced)) = in_force(limit, overridden) else { continue };
        let cost = limit.cost(request)?;
        if let Some(Override { ruling: Ruling::Blocked, until }) = overridden
            && enforced
        {
            return Ok(Asking::Blocked(blocked(index, bucket, cost, until.map(|until| until.minus(now)))));
        }
        asked.push(Asked { limit: index, key, bucket, cost, enforced });
    }
    Ok(if asked.is_empty() { Asking::Nothing } else { Asking::Check(Check::new(asked)) })
}

/// The bucket's shape, and whether its denials count. `None` where nothing is to be asked.
fn in_force(limit: &Limit, overridden: Option<Override>) -> Option<(TokenBucket, bool)> {
    let configured = (limit.token_bucket, !limit.shadow_mode);
    match overridden.map(|overridden| overridden.ruling) {
        None | Some(Ruling::Blocked) => Some(configured),
        Some(Ruling::Unlimited | Ruling::Off) => None,
        Some(Ruling::Shadow) => Some((limit.token_bucket, false)),
        Some(Ruling::TokenBucket(bucket)) => Some((bucket, !limit.shadow_mode)),
    }
}

fn blocked(limit: usize, bucket: TokenBucket, cost: Tokens, wait: Option<Micros>) -> Outcome {
    Outcome {
        limit,
        bucket,
        cost,
        admitted: false,
        enforced: true,
        remaining: Tokens(0),
        retry_after: wait,
        reset: wait.unwrap_or_default(),
    }
}
