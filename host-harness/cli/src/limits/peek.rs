//! `weir limits peek`: the state of one key's buckets.

use std::io::{self, Write};

use serde_json::{Value, json};
use weir_filter::limit::{Algorithm, BucketCheck, Outcome};
use weir_filter::overrides::Ruling;
use weir_filter::units::{Micros, Tokens};

use super::configured::{Beyond, Target};
use super::error::LimitsError;
use super::found::Found;
use super::render::{answer, key_json, line, override_json, ruling_and_rest, way, ways};
use super::span::span;
use super::store::Store;
use super::{Format, in_force};

/// A key's buckets, and the answer that a request of `cost` tokens would get.
pub(super) struct Levels<'a> {
    target: &'a Target,
    found: Option<Found>,
    /// Buckets that admit nothing have no level: Redis holds no state of them.
    windows: Vec<(Algorithm, Option<Outcome>)>,
    cost: Tokens,
    answer: String,
    /// Whether the request is within the limit.
    pub(super) is_within: bool,
    is_admitted: bool,
    /// The override admits or denies every request, whatever its buckets hold.
    decided: Option<bool>,
    /// The request is beyond the limit, which marks it.
    is_marked: bool,
    /// The numbers are those of a request that carries none.
    has_default_numbers: bool,
}

/// Shows each bucket of the key, and the answer that a request of `cost` tokens would get.
pub(super) fn run(
    store: &mut Store,
    target: &Target,
    cost: Tokens,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), LimitsError> {
    let levels = Levels::read(store, target, cost)?;
    match format {
        Format::Text => levels.write(out),
        Format::Json => Ok(writeln!(out, "{}", levels.json())?),
    }
}

/// Buckets of a key that Redis is asked about, and the override in force.
pub(super) struct Question<'a> {
    target: &'a Target,
    found: Option<Found>,
    check: Vec<BucketCheck>,
    /// Buckets that Redis holds: none of a window that admits nothing.
    pub(super) kept: Vec<BucketCheck>,
    cost: Tokens,
}

impl<'a> Question<'a> {
    /// The buckets of a key while this override is in force.
    pub(super) fn of(target: &'a Target, found: Option<Found>, cost: Tokens) -> Result<Self, LimitsError> {
        let windows = target.limit.windows_under(found.as_ref().and_then(Found::ruling))?;
        let check: Vec<BucketCheck> = windows.checks(0, target.key(), cost, true).collect();
        let kept = check.iter().filter(|check| !check.algorithm.admits_nothing()).cloned().collect();
        Ok(Self { target, found, check, kept, cost })
    }

    /// Levels of the buckets, as Redis answered for [`kept`](Self::kept).
    pub(super) fn answered(self, seen: Vec<Outcome>) -> Levels<'a> {
        let Self { target, found, check, kept, cost } = self;
        let ruling = found.as_ref().and_then(Found::ruling);
        let decided = match ruling {
            Some(Ruling::Unlimited | Ruling::Off) => Some(true),
            Some(Ruling::Blocked) => Some(false),
            _ => None,
        };
        let (answer, is_within) = match decided {
            Some(true) => ("now: the override admits every request".to_owned(), true),
            Some(false) => ("never: the override denies every request".to_owned(), false),
            None if kept.len() < check.len() => ("never: a limit of 0 denies every request".to_owned(), false),
            _ => {
                let levels = kept.iter().map(|check| &check.algorithm).zip(&seen);
                (answer(levels), seen.iter().all(|outcome| outcome.admitted))
            }
        };
        let beyond = target.limit.admits_beyond(ruling).filter(|_| !is_within);
        let answer = beyond.map_or(answer.clone(), |beyond| beyond.answer(&answer));
        let has_default_numbers = target.limit.has_default_numbers(ruling) && decided.is_none();
        let mut levels = seen.into_iter();
        let level = |check: BucketCheck| match check.algorithm.admits_nothing() {
            true => (check.algorithm, None),
            false => (check.algorithm, levels.next()),
        };
        let windows = check.into_iter().map(level).collect();
        Levels {
            target,
            windows,
            cost,
            answer,
            is_within,
            is_admitted: is_within || beyond.is_some(),
            decided,
            is_marked: beyond == Some(Beyond::Marked),
            has_default_numbers,
            found,
        }
    }
}

impl<'a> Levels<'a> {
    fn read(store: &mut Store, target: &'a Target, cost: Tokens) -> Result<Self, LimitsError> {
        let found = in_force(store, target)?.map(|(found, _)| found);
        let question = Question::of(target, found, cost)?;
        let seen = store.look(std::slice::from_ref(&question.kept))?.pop().flatten();
        let not_a_bucket = || LimitsError::NotABucket { key: target.key().escape_ascii().to_string() };
        Ok(question.answered(seen.ok_or_else(not_a_bucket)?))
    }

    fn write(&self, out: &mut dyn Write) -> Result<(), LimitsError> {
        let (limit, cost) = (&self.target.limit, self.cost.0);
        line(out, "limit", &format!("{} ({})", limit.name, limit.text("; ")))?;
        line(out, "key", &format!("{} ({})", self.target.shown_key(), self.target.key().escape_ascii()))?;
        let of_override = self.found.as_ref().map_or("none".to_owned(), |found| ruling_and_rest(found, Some(limit)));
        line(out, "override", &of_override)?;
        for (algorithm, outcome) in &self.windows {
            if self.windows.len() > 1 {
                line(out, "window", &way(algorithm))?;
            }
            match outcome {
                Some(outcome) => level(algorithm, outcome, out)?,
                None => line(out, "left", "0 of 0")?,
            }
        }
        line(out, &format!("{cost} token{}", if cost == 1 { "" } else { "s" }), &self.answer)?;
        if self.has_default_numbers {
            line(out, "note", "these are the answers to a request without a number of its own")?;
        }
        Ok(())
    }

    pub(super) fn json(&self) -> Value {
        let limit = &self.target.limit;
        let window = |(algorithm, outcome): &(Algorithm, Option<Outcome>)| {
            let micros = |span: fn(&Outcome) -> Option<Micros>| outcome.as_ref().and_then(span).map(|span| span.0);
            json!({
                "algorithm": way(algorithm),
                "remaining": outcome.as_ref().map_or(0, |outcome| outcome.remaining.0),
                "capacity": outcome.as_ref().map_or(0, |outcome| outcome.capacity.0),
                "full_in_us": micros(|outcome| Some(outcome.reset)),
                "admits": self.decided.unwrap_or(outcome.as_ref().is_some_and(|outcome| outcome.admitted)),
                "retry_after_us": match self.decided {
                    Some(admits) => admits.then_some(0),
                    None => micros(|outcome| outcome.retry_after),
                },
                "delay_us": if self.decided.is_some() { Some(0) } else { micros(|outcome| Some(outcome.delay)) },
            })
        };
        json!({
            "key_prefix": limit.key_prefix,
            "limit": limit.name,
            "key": key_json(&self.target.field()),
            "configured": limit.windows().map(|windows| ways(windows, "; ")),
            "default_numbers": self.has_default_numbers,
            "shadow_mode": limit.shape.as_ref().map(|shape| shape.is_shadow),
            "mark": limit.shape.as_ref().and_then(|shape| shape.mark.as_ref()),
            "override": self.found.as_ref().map(|found| override_json(found, Some(limit))),
            "windows": self.windows.iter().map(window).collect::<Vec<_>>(),
            "cost": self.cost.0,
            "admitted": self.is_admitted,
            "marked": self.is_marked,
            "answer": self.answer,
        })
    }
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
