//! Local replies and response headers: status, headers and body, from the verdict and the configuration.
//!
//! Waits are rounded up and remaining tokens are rounded down: a client that follows the headers is never early.
//! Limits in shadow mode do not appear.

mod beside;
mod grpc_status;
mod local_reply;
mod template;

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;

pub use self::beside::beside;
pub use self::grpc_status::GrpcStatus;
pub use self::local_reply::LocalReply;
pub use self::template::{Facts, Template};
use crate::config::{Config, ErrorStatus, ResponseConfig};
use crate::descriptor::BadRequest;
use crate::limit::Verdict;
use crate::redis::Failure;
use crate::units::{Micros, Tokens};

/// gRPC's `RESOURCE_EXHAUSTED` (grpc.io, "Status codes").
pub const RESOURCE_EXHAUSTED: u32 = 8;
const FAILED_BODY: &str = "rate limiting is unavailable\n";

/// Response header: name in lower case, and value.
pub type Header = (&'static str, String);

/// Local reply to a denied request, as configured for the strictest limit, or else for the filter.
#[must_use]
pub fn denied(verdict: &Verdict, config: &Config, is_grpc: bool) -> LocalReply {
    let response = response(verdict, config);
    let facts = facts(verdict, config);
    let name = verdict.strictest().map_or(Cow::Borrowed(""), |outcome| config.name_of(outcome));
    let details = details("weir_denied{", &name);
    let mut headers = limit_headers(verdict, config, response);
    if let (true, Some(wait)) = (response.headers.retry_after, facts.retry_after) {
        headers.push(("retry-after", wait.to_secs_ceil().max(1).to_string()));
    }
    if is_grpc {
        let message = response.grpc_message.as_ref().unwrap_or(&response.body).fill(&facts);
        return LocalReply::new(response.status, &headers, message, Some(response.grpc_status)).with_details(details);
    }
    headers.extend(response.content_type.clone().map(|content_type| ("content-type", content_type)));
    LocalReply::new(response.status, &headers, response.body.fill(&facts), None).with_details(details)
}

/// Headers to add to the response to an admitted request.
#[must_use]
pub fn admitted_headers(verdict: &Verdict, config: &Config) -> Vec<Header> {
    limit_headers(verdict, config, response(verdict, config))
}

/// Local reply to a request that Redis did not decide, with failure mode `deny`.
#[must_use]
pub fn failed(config: &Config, cause: Failure, is_grpc: bool) -> LocalReply {
    let grpc_status = is_grpc.then_some(GrpcStatus::UNAVAILABLE);
    LocalReply::new(config.status_on_error, &[], FAILED_BODY, grpc_status)
        .with_details(details("weir_failed{", cause.name()))
}

/// Local reply to a request in which a value that a limit reads is missing, malformed or repeated: 400, 411 for a
/// missing content-length, 431 for headers that are too long to be read; `INVALID_ARGUMENT` for gRPC requests.
#[must_use]
pub fn bad_request(bad: BadRequest, is_grpc: bool) -> LocalReply {
    let (status, reason) = match bad {
        BadRequest::Length => (ErrorStatus::LENGTH_REQUIRED, "weir_rejected{content_length}"),
        BadRequest::Hits { .. } => (ErrorStatus::BAD_REQUEST, "weir_rejected{hits_addend}"),
        BadRequest::Body => (ErrorStatus::BAD_REQUEST, "weir_rejected{request_body}"),
        BadRequest::Repeated => (ErrorStatus::BAD_REQUEST, "weir_rejected{repeated}"),
        BadRequest::TooLarge => (ErrorStatus::HEADERS_TOO_LARGE, "weir_rejected{headers}"),
    };
    let grpc_status = is_grpc.then_some(GrpcStatus::INVALID_ARGUMENT);
    LocalReply::new(status, &[], format!("{bad}\n"), grpc_status).with_details(reason)
}

/// Response code details, for the access log: `weir_denied{LIMIT}`.
#[inline(never)]
fn details(kind: &str, name: &str) -> String {
    [kind, name, "}"].concat()
}

/// Whether a request with this content type gets a gRPC status.
///
/// Matches exactly the content types that Envoy considers gRPC: `application/grpc`, and `application/grpc+` followed by
/// anything. Types with parameters after `;` do not match, nor does `application/grpc-web`: Envoy would send those 200
/// without a gRPC status.
#[must_use]
pub fn is_grpc(content_type: &[u8]) -> bool {
    matches!(content_type.strip_prefix(b"application/grpc"), Some([] | [b'+', ..]))
}

/// Response configuration of the strictest limit, or else of the filter.
fn response<'a>(verdict: &Verdict, config: &'a Config) -> &'a ResponseConfig {
    let limit = verdict.strictest().and_then(|outcome| config.limits.get(outcome.limit));
    limit.and_then(|limit| limit.response.as_deref()).unwrap_or(&config.response)
}

fn facts<'a>(verdict: &Verdict, config: &'a Config) -> Facts<'a> {
    let strictest = verdict.strictest();
    Facts {
        limit: strictest.and_then(|outcome| config.limits.get(outcome.limit)).map_or("", |limit| &limit.name),
        retry_after: strictest.and_then(|outcome| outcome.retry_after),
        remaining: strictest.map_or(Tokens(0), |outcome| outcome.remaining),
    }
}

fn limit_headers(verdict: &Verdict, config: &Config, response: &ResponseConfig) -> Vec<Header> {
    // Three limit headers, and `retry-after` or `content-type`.
    let mut headers = Vec::with_capacity(4);
    if response.headers.x_ratelimit {
        legacy_triple(verdict, &mut headers);
    }
    if response.headers.ratelimit {
        ietf_fields(verdict, config, &mut headers);
    }
    headers
}

/// `x-ratelimit-*` headers: the strictest limit's capacity, whole tokens left, and seconds until it is full.
fn legacy_triple(verdict: &Verdict, headers: &mut Vec<Header>) {
    let Some(outcome) = verdict.strictest() else { return };
    headers.push(("x-ratelimit-limit", outcome.capacity.0.to_string()));
    headers.push(("x-ratelimit-remaining", outcome.remaining.0.to_string()));
    headers.push(("x-ratelimit-reset", outcome.reset.to_secs_ceil().to_string()));
}

/// `ratelimit-policy` and `ratelimit` headers: every limit that applied, as lists of structured fields (RFC 9651).
///
/// Source: draft-ietf-httpapi-ratelimit-headers-10. The window of a token bucket is the time it takes to fill. A
/// concurrency limit has no window.
fn ietf_fields(verdict: &Verdict, config: &Config, headers: &mut Vec<Header>) {
    let mut policies = String::new();
    let mut states = String::new();
    for outcome in verdict.enforced() {
        let name = config.name_of(outcome);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::limit::Outcome;

    /// Configuration of two limits: 20 tokens at 100 a minute, and 1,000 at 1,000 an hour.
    fn config(headers: &str) -> Config {
        with_responses(&format!(r#"{{"headers": {headers}}}"#), "{}")
    }

    /// Configuration of the same limits, with `response` sections of the filter and of the first limit.
    fn with_responses(filters: &str, limits: &str) -> Config {
        let json = format!(
            r#"{{"redis": {{"cluster": "redis"}}, "response": {filters}, "limits": [
                {{"name": "per_user", "descriptor": [{{"request_header": {{"name": "x-user-id"}}}}],
                  "response": {limits},
                  "token_bucket": {{"max_tokens": 20, "tokens_per_fill": 100, "fill_interval": "60s"}}}},
                {{"name": "all", "descriptor": [],
                  "token_bucket": {{"max_tokens": 1000, "tokens_per_fill": 1000, "fill_interval": "3600s"}}}}]}}"#
        );
        config::parse(json.as_bytes(), &|_| None).unwrap()
    }

    const DEFAULT: &str = r#"["x-ratelimit", "retry-after"]"#;
    const IETF: &str = r#"["ratelimit"]"#;

    fn admits(limit: usize, remaining: u64, reset: Micros) -> Outcome {
        Outcome {
            limit,
            window: 0,
            cost: Tokens(1),
            capacity: Tokens(if limit == 0 { 20 } else { 1000 }),
            period: Some(Micros::from_secs(if limit == 0 { 12 } else { 3600 })),
            admitted: true,
            enforced: true,
            spent: true,
            remaining: Tokens(remaining),
            retry_after: Some(Micros::ZERO),
            reset,
            delay: Micros::ZERO,
            granted: None,
        }
    }

    fn denies(limit: usize, retry_after: Option<Micros>) -> Outcome {
        Outcome { admitted: false, retry_after, ..admits(limit, 0, Micros::from_secs(12)) }
    }

    fn admitted_verdict(outcomes: &[Outcome]) -> Verdict {
        Verdict { admitted: true, now: Micros::ZERO, outcomes: outcomes.to_vec() }
    }

    fn denied_verdict(outcomes: &[Outcome]) -> Verdict {
        Verdict { admitted: false, now: Micros::ZERO, outcomes: outcomes.to_vec() }
    }

    fn lines(headers: &[Header]) -> Vec<String> {
        headers.iter().map(|(name, value)| format!("{name}: {value}")).collect()
    }

    fn header_lines(reply: &LocalReply) -> Vec<String> {
        reply.headers().map(|(name, value)| format!("{name}: {value}")).collect()
    }

    #[test]
    fn an_admitted_request_gets_the_headers_of_the_limit_with_least_remaining() {
        let verdict = admitted_verdict(&[admits(0, 19, Micros(600_000)), admits(1, 700, Micros::from_secs(1_080))]);
        assert_eq!(
            lines(&admitted_headers(&verdict, &config(DEFAULT))),
            ["x-ratelimit-limit: 20", "x-ratelimit-remaining: 19", "x-ratelimit-reset: 1"]
        );
    }

    #[test]
    fn a_denied_request_gets_retry_after() {
        let verdict = denied_verdict(&[denies(0, Some(Micros(600_000))), admits(1, 0, Micros::from_secs(9))]);
        let config = config(DEFAULT);
        let reply = denied(&verdict, &config, false);
        assert_eq!(
            header_lines(&reply),
            ["x-ratelimit-limit: 20", "x-ratelimit-remaining: 0", "x-ratelimit-reset: 12", "retry-after: 1"]
        );
        assert_eq!((reply.status.code(), &*reply.body, reply.grpc_status), (429, "rate limited\n", None));
    }

    #[test]
    fn a_wait_is_rounded_up_and_at_least_a_second() {
        let config = config(r#"["retry-after"]"#);
        let retry_after = |wait| header_lines(&denied(&denied_verdict(&[denies(0, Some(wait))]), &config, false));
        assert_eq!(retry_after(Micros(1_000_001)), ["retry-after: 2"]);
        assert_eq!(retry_after(Micros(1)), ["retry-after: 1"]);
        assert_eq!(retry_after(Micros::ZERO), ["retry-after: 1"]);
    }

    #[test]
    fn a_request_that_can_never_be_admitted_gets_no_retry_after() {
        let verdict = denied_verdict(&[denies(0, Some(Micros::from_secs(1))), denies(1, None)]);
        assert!(denied(&verdict, &config(r#"["retry-after"]"#), false).headers().next().is_none());
    }

    #[test]
    fn an_admitted_request_gets_no_retry_after() {
        let verdict = admitted_verdict(&[admits(0, 0, Micros::from_secs(12))]);
        assert!(admitted_headers(&verdict, &config(r#"["retry-after"]"#)).is_empty());
    }

    #[test]
    fn the_ietf_fields_list_every_limit() {
        let verdict = admitted_verdict(&[admits(0, 19, Micros(600_000)), admits(1, 700, Micros::from_secs(1_080))]);
        assert_eq!(
            lines(&admitted_headers(&verdict, &config(IETF))),
            [
                r#"ratelimit-policy: "per_user";q=20;w=12, "all";q=1000;w=3600"#,
                r#"ratelimit: "per_user";r=19;t=1, "all";r=700;t=1080"#,
            ]
        );
    }

    #[test]
    fn each_window_of_a_limit_is_a_policy_and_a_concurrency_limit_has_no_times() {
        let day = Outcome { window: 1, ..admits(0, 7, Micros::from_secs(60)) };
        let in_flight = Outcome { period: None, ..admits(1, 3, Micros::from_secs(60)) };
        assert_eq!(
            lines(&admitted_headers(&admitted_verdict(&[admits(0, 9, Micros(1)), day, in_flight]), &config(IETF))),
            [
                r#"ratelimit-policy: "per_user";q=20;w=12, "per_user:1";q=20;w=12, "all";q=1000"#,
                r#"ratelimit: "per_user";r=9;t=1, "per_user:1";r=7;t=60, "all";r=3"#,
            ]
        );
    }

    #[test]
    fn a_limit_in_shadow_mode_has_no_headers() {
        let shadow = Outcome { enforced: false, ..denies(1, None) };
        let all = r#"["x-ratelimit", "ratelimit", "retry-after"]"#;
        assert!(admitted_headers(&admitted_verdict(&[shadow]), &config(all)).is_empty());
        let beside = admitted_verdict(&[admits(0, 19, Micros(600_000)), shadow]);
        assert_eq!(
            lines(&admitted_headers(&beside, &config(IETF))),
            [r#"ratelimit-policy: "per_user";q=20;w=12"#, r#"ratelimit: "per_user";r=19;t=1"#]
        );
    }

    #[test]
    fn headers_that_are_not_configured_are_not_sent() {
        let verdict = denied_verdict(&[denies(0, Some(Micros::from_secs(1)))]);
        assert!(denied(&verdict, &config("[]"), false).headers().next().is_none());
        assert!(admitted_headers(&admitted_verdict(&[]), &config(DEFAULT)).is_empty());
    }

    #[test]
    fn a_grpc_client_gets_a_grpc_status_and_a_message_of_one_line() {
        let verdict = denied_verdict(&[denies(0, Some(Micros::from_secs(1)))]);
        let config = config(DEFAULT);
        let reply = denied(&verdict, &config, true);
        assert_eq!((reply.grpc_status, &*reply.body), (Some(8), "rate limited"));
        assert_eq!(failed(&config, Failure::Unavailable, true).grpc_status, Some(14));
    }

    #[test]
    fn the_body_names_the_limit_and_the_wait() {
        let body = r#"{"body": "{\"limit\": \"{limit}\", \"after\": {retry_after}, \"left\": {remaining}}",
            "content_type": "application/json", "headers": []}"#;
        let config = with_responses(body, "{}");
        let reply = denied(&denied_verdict(&[denies(0, Some(Micros(2_000_001)))]), &config, false);
        assert_eq!(reply.body, r#"{"limit": "per_user", "after": 3, "left": 0}"#);
        assert_eq!(header_lines(&reply), ["content-type: application/json"]);
        let never = denied(&denied_verdict(&[denies(1, None)]), &config, false);
        assert_eq!(never.body, r#"{"limit": "all", "after": null, "left": 0}"#);
    }

    #[test]
    fn the_response_of_the_strictest_limit_applies() {
        let config = with_responses(
            r#"{"headers": ["ratelimit"], "body": "slow down"}"#,
            r#"{"status": 403, "body": "{limit} is used up", "headers": ["retry-after"]}"#,
        );
        let (short, long) = (Some(Micros::from_secs(1)), Some(Micros::from_secs(9)));
        let own = denied(&denied_verdict(&[denies(0, long), denies(1, short)]), &config, false);
        assert_eq!((own.status.code(), &*own.body), (403, "per_user is used up"));
        assert_eq!(header_lines(&own), ["retry-after: 9"]);
        let others = denied(&denied_verdict(&[denies(0, short), denies(1, long)]), &config, false);
        assert_eq!((others.status.code(), &*others.body), (429, "slow down"));
        assert!(others.headers().all(|(name, _)| name.starts_with("ratelimit")), "{others:?}");
    }

    #[test]
    fn fields_that_a_limits_response_lacks_are_the_filters() {
        let config = with_responses(r#"{"status": 420, "body": "slow down"}"#, r#"{"body": "{limit}"}"#);
        let reply = denied(&denied_verdict(&[denies(0, None)]), &config, false);
        assert_eq!((reply.status.code(), &*reply.body), (420, "per_user"));
    }

    #[test]
    fn a_grpc_client_gets_the_configured_status_and_message() {
        let response = r#"{"grpc_status": "UNAVAILABLE", "grpc_message": "{limit}: {retry_after} s",
            "content_type": "application/json", "headers": []}"#;
        let config = with_responses(response, "{}");
        let reply = denied(&denied_verdict(&[denies(0, Some(Micros(1)))]), &config, true);
        assert_eq!((reply.grpc_status, &*reply.body), (Some(14), "per_user: 1 s"));
        assert!(reply.headers().next().is_none(), "gRPC has a content type of its own: {reply:?}");
    }

    #[test]
    fn a_rejected_request_gets_the_expected_form() {
        let bad = BadRequest::Hits { max: Tokens(100) };
        let reply = bad_request(bad, false);
        assert_eq!(reply.details, "weir_rejected{hits_addend}");
        assert_eq!((reply.status.code(), &*reply.body), (400, "expected a whole number of hits up to 100\n"));
        let reply = bad_request(bad, true);
        assert_eq!((reply.grpc_status, &*reply.body), (Some(3), "expected a whole number of hits up to 100"));
        let reply = bad_request(BadRequest::Length, false);
        assert_eq!((reply.status.code(), &*reply.body), (411, "expected a content-length\n"));
        let reply = bad_request(BadRequest::Body, false);
        assert_eq!((reply.status.code(), &*reply.body), (400, "expected a JSON body\n"));
    }

    #[test]
    fn the_details_of_a_local_reply_name_the_limit_and_its_window_or_the_cause() {
        let config = config(DEFAULT);
        let day = Outcome { window: 1, ..denies(0, None) };
        for is_grpc in [false, true] {
            let of = |outcome: Outcome| denied(&denied_verdict(&[outcome]), &config, is_grpc).details;
            assert_eq!(of(denies(0, None)), "weir_denied{per_user}");
            assert_eq!(of(day), "weir_denied{per_user:1}");
            assert_eq!(failed(&config, Failure::Timeout, is_grpc).details, "weir_failed{timeout}");
        }
    }

    #[test]
    fn a_request_without_a_decision_gets_the_status_on_error() {
        let reply = failed(&config(DEFAULT), Failure::Unavailable, false);
        assert_eq!((reply.status.code(), &*reply.body, reply.grpc_status), (503, FAILED_BODY, None));
        assert!(reply.headers().next().is_none());
    }

    #[test]
    fn grpc_content_types_are_those_of_envoy() {
        assert!(is_grpc(b"application/grpc"));
        assert!(is_grpc(b"application/grpc+proto"));
        for other in ["application/grpc-web", "application/grpc;x=1", "application/GRPC", "application/json", ""] {
            assert!(!is_grpc(other.as_bytes()), "{other}");
        }
    }
}
