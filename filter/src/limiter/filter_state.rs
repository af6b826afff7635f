//! Filter state of a request for the access log: `%FILTER_STATE(wasm.weir.decision:PLAIN)%` in Envoy.

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::PendingRequest;
use crate::config::Config;
use crate::descriptor;
use crate::limit::{Limit, Verdict};
use crate::redis::Failure;
use crate::units::Micros;

/// Name and value. Names begin with `weir.`.
pub(super) type Entry = (&'static str, String);

/// Entries of a request with a verdict.
///
/// `weir.decision` (`admitted` or `denied`), `weir.redis_unix_time_us` and its old name `weir.redis_time_us` (absent for a
/// denial by an override or by a limit of zero), `weir.delay_us` if the request is delayed, and of the strictest limit `weir.limit`, `weir.key`,
/// `weir.key_hash` (16 hexadecimal digits, for logs that must not contain the key), `weir.remaining` and, if the limit
/// denies, `weir.retry_after_us` (`never` if waiting cannot help). `weir.failure_mode` is `local` if the worker has decided
/// by its shares.
pub(super) fn of_verdict(verdict: &Verdict, pending: &PendingRequest, config: &Config) -> Vec<Entry> {
    let decision = if verdict.admitted { "admitted" } else { "denied" };
    let mut entries = vec![("weir.decision", decision.to_owned())];
    if verdict.is_local {
        entries.push(("weir.failure_mode", "local".to_owned()));
    }
    let mut micros = |name, micros: Micros| {
        if micros != Micros::ZERO {
            entries.push((name, micros.0.to_string()));
        }
    };
    micros("weir.redis_unix_time_us", verdict.now);
    micros("weir.redis_time_us", verdict.now);
    micros("weir.delay_us", verdict.delay());
    let Some(outcome) = verdict.strictest() else { return entries };
    entries.push(("weir.limit", Limit::name_of(&config.limits, outcome).into_owned()));
    if let Some(check) = pending.bucket(outcome) {
        entries.push(("weir.key", String::from_utf8_lossy(&check.key).into_owned()));
        entries.push(("weir.key_hash", descriptor::key_hash(&check.key)));
    }
    entries.push(("weir.remaining", outcome.remaining.0.to_string()));
    if !outcome.admitted {
        let wait = outcome.retry_after.map_or_else(|| "never".to_owned(), |wait| wait.0.to_string());
        entries.push(("weir.retry_after_us", wait));
    }
    entries
}

/// Entry of an admitted request that is near a limit: `weir.near` is the limit's name.
pub(super) fn near(limit: usize, config: &Config) -> Option<Entry> {
    config.limits.get(limit).map(|limit| ("weir.near", limit.name.clone()))
}

/// Entry of a request that Redis did not decide: `weir.failure` is the cause.
pub(super) fn cause(failure: Failure) -> Entry {
    ("weir.failure", failure.name().to_owned())
}

/// Entries of a request that Redis did not decide: `weir.decision` is `failed`, `weir.failure` is the cause.
pub(super) fn of_failure(failure: Failure) -> Vec<Entry> {
    vec![("weir.decision", "failed".to_owned()), cause(failure)]
}
