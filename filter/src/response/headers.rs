//! Rate-limit headers: the legacy `x-ratelimit` triple, and the fields of the IETF's draft.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use super::api::Api;
use super::settings::ResponseHeaders;
use crate::limit::{Charged, Limit, Outcome, Verdict, rfc_3339};
use crate::units::Micros;

/// Response header: name in lower case, and value.
pub type Header = (&'static str, String);

/// Returns the headers that tell a client its limits, without `retry-after`, and that its worker has decided without
/// Redis.
pub(super) fn limit_headers(
    verdict: &Verdict,
    limits: &[Limit],
    wanted: ResponseHeaders,
    api: Option<Api>,
) -> Vec<Header> {
    // Three limit headers, and `retry-after` or `content-type`.
    let mut headers = Vec::with_capacity(4);
    if wanted.x_ratelimit {
        match api {
            Some(api) if api.has_headers() => api_triples(verdict, limits, api, &mut headers),
            _ => legacy_triple(verdict, &mut headers),
        }
    }
    if wanted.ratelimit {
        ietf_fields(verdict, limits, &mut headers);
    }
    if verdict.is_local {
        headers.push(("x-weir-failure-mode", "local".to_owned()));
    }
    headers.extend(soft_limits(verdict, limits).map(|exceeded| ("x-weir-soft-limit", exceeded)));
    headers
}

/// Returns the limits that are spent or reserved beyond their soft limit, each with the used part, rounded down:
/// `monthly;used=0.83`. `None` if there are none.
pub(crate) fn soft_limits(verdict: &Verdict, limits: &[Limit]) -> Option<String> {
    let is_exceeded = |outcome: &&Outcome| {
        let charge = limits.get(outcome.limit).and_then(|limit| limit.charge.as_ref());
        charge.and_then(|charge| charge.soft_limit).is_some_and(|soft_limit| soft_limit.is_exceeded(outcome))
    };
    let mut list = None;
    for outcome in verdict.enforced().filter(is_exceeded) {
        push_used(list.get_or_insert_default(), &Limit::name_of(limits, outcome), outcome);
    }
    list
}

#[inline(never)]
fn push_used(list: &mut String, name: &str, outcome: &Outcome) {
    let used = outcome.capacity.0.saturating_sub(outcome.remaining.0).saturating_mul(100);
    let percent = used.checked_div(outcome.capacity.0).unwrap_or(100);
    let comma = if list.is_empty() { "" } else { ", " };
    // Writing to a string cannot fail.
    let _ = write!(list, "{comma}{name};used={}.{:02}", percent / 100, percent % 100);
}

/// `x-ratelimit-*` headers: the strictest limit's capacity, whole tokens left, and seconds until it is full.
fn legacy_triple(verdict: &Verdict, headers: &mut Vec<Header>) {
    let Some(outcome) = verdict.strictest() else { return };
    headers.push(("x-ratelimit-limit", decimal(outcome.capacity.0)));
    headers.push(("x-ratelimit-remaining", decimal(outcome.remaining.0)));
    headers.push(("x-ratelimit-reset", decimal(outcome.reset.to_secs_ceil())));
}

/// Names of the limit, of what remains of it, and of the time until it is full: for tokens and for requests.
const OPENAI: [[&str; 3]; 2] = [
    ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"],
    ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"],
];
const ANTHROPIC: [[&str; 3]; 2] = [
    ["anthropic-ratelimit-tokens-limit", "anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"],
    [
        "anthropic-ratelimit-requests-limit",
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-requests-reset",
    ],
];

/// Headers of an API: the strictest limit that charges tokens, and the strictest one without a charge. Money and
/// requests in flight have no such headers.
#[inline(never)]
fn api_triples(verdict: &Verdict, limits: &[Limit], api: Api, headers: &mut Vec<Header>) {
    let is_of_tokens = |outcome: &&Outcome| match &limits.get(outcome.limit)?.charge {
        Some(charge) => (charge.of != Charged::Cost).then_some(true),
        None => outcome.period.map(|_| false),
    };
    let names = if api == Api::OpenAi { OPENAI } else { ANTHROPIC };
    for (is_tokens, [limit, remaining, reset]) in [true, false].into_iter().zip(names) {
        let own = verdict.enforced().filter(|outcome| is_of_tokens(outcome) == Some(is_tokens));
        let Some(outcome) = own.min_by_key(|outcome| (outcome.admitted, outcome.remaining)) else { continue };
        let time = match api {
            Api::OpenAi => go_duration(outcome.reset),
            // Only Redis tells the time.
            _ if verdict.now == Micros::ZERO => continue,
            _ => rfc_3339(verdict.now.plus(outcome.reset)),
        };
        headers.push((limit, decimal(outcome.capacity.0)));
        headers.push((remaining, decimal(outcome.remaining.0)));
        headers.push((reset, time));
    }
}

/// Time as Go writes it: `6m0s`; below a second, in milliseconds.
fn go_duration(span: Micros) -> String {
    let (millis, seconds) = (span.to_millis_ceil(), span.to_secs_ceil());
    if millis < 1_000 {
        return [&*decimal(millis), if millis == 0 { "s" } else { "ms" }].concat();
    }
    let mut text = String::new();
    for (unit, letter) in [(3_600, "h"), (60, "m"), (1, "s")] {
        let count = seconds.checked_div(unit).unwrap_or(0);
        if count > 0 {
            let within = if unit == 3_600 { count } else { count % 60 };
            text.push_str(&decimal(within));
            text.push_str(letter);
        }
    }
    text
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
