//! Rate-limit headers: the legacy `x-ratelimit` triple, and the fields of the IETF's draft.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use super::settings::ResponseHeaders;
use crate::limit::{Limit, Verdict};
use crate::units::Micros;

/// Response header: name in lower case, and value.
pub type Header = (&'static str, String);

/// Returns the headers that tell a client its limits, without `retry-after`, and that its worker has decided without
/// Redis.
pub(super) fn limit_headers(verdict: &Verdict, limits: &[Limit], wanted: ResponseHeaders) -> Vec<Header> {
    // Three limit headers, and `retry-after` or `content-type`.
    let mut headers = Vec::with_capacity(4);
    if wanted.x_ratelimit {
        legacy_triple(verdict, &mut headers);
    }
    if wanted.ratelimit {
        ietf_fields(verdict, limits, &mut headers);
    }
    if verdict.is_local {
        headers.push(("x-weir-failure-mode", "local".to_owned()));
    }
    headers
}

/// `x-ratelimit-*` headers: the strictest limit's capacity, whole tokens left, and seconds until it is full.
fn legacy_triple(verdict: &Verdict, headers: &mut Vec<Header>) {
    let Some(outcome) = verdict.strictest() else { return };
    headers.push(("x-ratelimit-limit", decimal(outcome.capacity.0)));
    headers.push(("x-ratelimit-remaining", decimal(outcome.remaining.0)));
    headers.push(("x-ratelimit-reset", decimal(outcome.reset.to_secs_ceil())));
}

/// A third of the cost of `to_string`.
fn decimal(number: u64) -> String {
    itoa::Buffer::new().format(number).to_owned()
}

/// `ratelimit-policy` and `ratelimit` headers: every limit that applied, as lists of structured fields (RFC 9651).
///
/// Source: draft-ietf-httpapi-ratelimit-headers-10. The window of a token bucket is the time it takes to fill. A
/// concurrency limit has no window.
fn ietf_fields(verdict: &Verdict, limits: &[Limit], headers: &mut Vec<Header>) {
    let mut policies = String::new();
    let mut states = String::new();
    for outcome in verdict.enforced() {
        let name = Limit::name_of(limits, outcome);
        member(&mut policies, &name, ('q', outcome.capacity.0), outcome.period.map(|period| ('w', period)));
        let reset = outcome.period.map(|_| ('t', outcome.reset));
        member(&mut states, &name, ('r', outcome.remaining.0), reset);
    }
    if !policies.is_empty() {
        headers.push(("ratelimit-policy", policies));
        headers.push(("ratelimit", states));
    }
}

/// Appends `"name";a=1;b=2` to a list, `b` in seconds. The name of a limit needs no escapes.
fn member(list: &mut String, name: &str, (a, amount): (char, u64), time: Option<(char, Micros)>) {
    let comma = if list.is_empty() { "" } else { ", " };
    // Writing to a string cannot fail.
    let _ = write!(list, "{comma}\"{name}\";{a}={amount}");
    if let Some((b, span)) = time {
        let _ = write!(list, ";{b}={}", span.to_secs_ceil());
    }
}
