//! `weir limits peek`: the state of one key's buckets.

use std::io::{self, Write};

use weir_filter::limit::{Algorithm, BucketCheck, Outcome};
use weir_filter::overrides::Ruling;
use weir_filter::units::{Micros, Tokens};

use super::configured::Target;
use super::error::LimitsError;
use super::in_force;
use super::render::{answer, key_of, line, ruling_and_rest, way, ways};
use super::span::span;
use super::store::Store;

const DENIED: &str = "not check: every request is denied";

/// Shows each bucket of the key, and the answer that a request of `cost` tokens would get.
pub(super) fn run(
    store: &mut Store,
    target: &Target<'_>,
    cost: Tokens,
    out: &mut dyn Write,
) -> Result<(), LimitsError> {
    let found = in_force(store, target)?;
    let ruling = found.as_ref().and_then(|(found, _)| found.ruling());
    let windows = target.limit.windows_under(ruling);
    let check: Vec<BucketCheck> = windows.checks(0, target.key(), cost, true).collect();
    // Redis holds no bucket of a window that admits nothing.
    let kept: Vec<BucketCheck> = check.iter().filter(|check| !check.algorithm.admits_nothing()).cloned().collect();
    let seen = store.look(std::slice::from_ref(&kept))?.pop().flatten();
    let not_a_bucket = || LimitsError::NotABucket { key: target.key().escape_ascii().to_string() };
    let seen = seen.ok_or_else(not_a_bucket)?;

    line(out, "limit", &format!("{} ({})", target.limit.name, ways(&target.limit.windows, "; ")))?;
    line(out, "key", &format!("{} ({})", key_of(&target.field()), target.key().escape_ascii()))?;
    let of_override = found.as_ref().map_or("none".to_owned(), |(found, _)| ruling_and_rest(found));
    line(out, "override", &of_override)?;
    let mut levels = seen.iter();
    for BucketCheck { algorithm, .. } in &check {
        if check.len() > 1 {
            line(out, "window", &way(algorithm))?;
        }
        match if algorithm.admits_nothing() { None } else { levels.next() } {
            Some(outcome) => level(algorithm, outcome, out)?,
            None => line(out, "left", "0 of 0")?,
        }
    }
    let told = || kept.iter().map(|check| &check.algorithm).zip(&seen);
    let answer = match ruling {
        Some(Ruling::Unlimited | Ruling::Off) => "not check: every request passes".to_owned(),
        Some(Ruling::Blocked) => DENIED.to_owned(),
        _ if windows.blocking().is_some() => DENIED.to_owned(),
        _ => answer(told()),
    };
    line(out, &format!("{} token{}", cost.0, if cost.0 == 1 { "" } else { "s" }), &answer)?;
    Ok(())
}

/// Writes the level of one bucket.
fn level(algorithm: &Algorithm, outcome: &Outcome, out: &mut dyn Write) -> io::Result<()> {
    let (left, of) = (outcome.remaining.0, outcome.capacity.0);
    match algorithm {
        Algorithm::Concurrency(_) => line(out, "in flight", &format!("{} of {of}", of.saturating_sub(left))),
        Algorithm::TokenBucket(bucket) => {
            line(out, "tokens", &format!("{left} of {of}"))?;
            let ahead = outcome.reset.minus(bucket.fill_time());
            if ahead > Micros::ZERO {
                line(out, "queue", &span(ahead))?;
            }
            line(out, "full in", &span(outcome.reset))
        }
        Algorithm::LeasedBucket(_) => {
            line(out, "not leased", &format!("{left} of {of}"))?;
            line(out, "full in", &span(outcome.reset))
        }
        _ => {
            line(out, "left", &format!("{left} of {of}"))?;
            line(out, "full in", &span(outcome.reset))
        }
    }
}
