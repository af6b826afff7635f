//! What is left with a request for its access log: `%FILTER_STATE(wasm.weir.decision:PLAIN)%` in Envoy.

use crate::config::Config;
use crate::limit::{Check, Verdict};
use crate::redis::Failure;

/// A name, and what it says. Names begin with `weir.`.
pub(super) type Note = (&'static str, String);

/// Of a request that Redis decided: `weir.decision`, and of the strictest limit `weir.limit`, `weir.key`,
/// `weir.remaining` and, where it denies, `weir.retry_after_us` (`never` where waiting cannot help).
pub(super) fn of_verdict(verdict: &Verdict, check: &Check, config: &Config) -> Vec<Note> {
    let decision = if verdict.admitted { "admitted" } else { "denied" };
    let mut notes = vec![("weir.decision", decision.to_owned())];
    let Some(outcome) = verdict.strictest() else { return notes };
    let limit = config.limits.get(outcome.limit).map(|limit| limit.name.clone()).unwrap_or_default();
    let key = check.asked().find(|asked| asked.limit == outcome.limit).map(|asked| asked.key.as_slice());
    notes.push(("weir.limit", limit));
    notes.push(("weir.key", String::from_utf8_lossy(key.unwrap_or_default()).into_owned()));
    notes.push(("weir.remaining", outcome.remaining.0.to_string()));
    if !outcome.admitted {
        let wait = outcome.retry_after.map_or_else(|| "never".to_owned(), |wait| wait.0.to_string());
        notes.push(("weir.retry_after_us", wait));
    }
    notes
}

/// Of a request that Redis did not decide: `weir.decision` is `failed`, and `weir.failure` says why.
pub(super) fn of_failure(failure: Failure) -> Vec<Note> {
    vec![("weir.decision", "failed".to_owned()), ("weir.failure", failure.name().to_owned())]
}
