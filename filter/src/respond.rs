//! What a client is told: status, headers and body, from the verdict and the configuration.
//!
//! Waits are rounded up and what remains is rounded down: a client that heeds the headers is never early.
//! A limit in shadow mode is told nothing of.

use std::borrow::Cow;
use std::fmt::Write;

use crate::config::{Config, ErrorStatus, Limit};
use crate::limit::{Outcome, Verdict};
use crate::units::Micros;

/// gRPC's `RESOURCE_EXHAUSTED` (grpc.io, "Status codes").
pub const RESOURCE_EXHAUSTED: u32 = 8;
/// gRPC's `UNAVAILABLE`.
pub const UNAVAILABLE: u32 = 14;
const FAILED_BODY: &str = "rate limiting is unavailable\n";

/// A response header. Names are in lower case.
pub type Header = (&'static str, String);

/// An answer that the filter gives itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalReply {
    /// The HTTP status; a proxy answers gRPC requests 200 instead.
    pub status: ErrorStatus,
    /// Headers to add.
    pub headers: Vec<Header>,
    /// The body; gRPC's message.
    pub body: Cow<'static, str>,
    /// For gRPC requests, gRPC's status.
    pub grpc_status: Option<u32>,
}

/// The answer to a request that a limit denies.
#[must_use]
pub fn denied(verdict: &Verdict, config: &Config, is_grpc: bool) -> LocalReply {
    let mut headers = limit_headers(verdict, config);
    let retry_after = verdict.strictest().and_then(|outcome| outcome.retry_after);
    if let (true, Some(wait)) = (config.response.headers.retry_after, retry_after) {
        headers.push(("retry-after", wait.to_secs_ceil().max(1).to_string()));
    }
    let response = &config.response;
    local_reply(response.status, headers, response.body.clone(), is_grpc.then_some(RESOURCE_EXHAUSTED))
}

/// What is added to the response of a request that the limits admit.
#[must_use]
pub fn admitted_headers(verdict: &Verdict, config: &Config) -> Vec<Header> {
    limit_headers(verdict, config)
}

/// The answer to a request about which Redis did not decide, where the failure mode is to deny.
#[must_use]
pub fn failed(config: &Config, is_grpc: bool) -> LocalReply {
    local_reply(config.status_on_error, Vec::new(), FAILED_BODY, is_grpc.then_some(UNAVAILABLE))
}

/// Whether a request with this content type gets gRPC's status.
///
/// Exactly what Envoy takes for gRPC: `application/grpc`, or that and `+` and anything. With parameters after
/// `;` it is not, and neither is `application/grpc-web`: Envoy would answer those 200 without a gRPC status.
#[must_use]
pub fn is_grpc(content_type: &[u8]) -> bool {
    matches!(content_type.strip_prefix(b"application/grpc"), Some([] | [b'+', ..]))
}

fn local_reply(
    status: ErrorStatus,
    headers: Vec<Header>,
    body: impl Into<Cow<'static, str>>,
    grpc_status: Option<u32>,
) -> LocalReply {
    let mut body = body.into();
    if grpc_status.is_some() {
        // gRPC's message is one line, in a header.
        body = Cow::Owned(body.trim_ascii_end().to_owned());
    }
    LocalReply { status, headers, body, grpc_status }
}

fn limit_headers(verdict: &Verdict, config: &Config) -> Vec<Header> {
    let mut headers = Vec::new();
    if config.response.headers.x_ratelimit {
        legacy_triple(verdict, &mut headers);
    }
    if config.response.headers.ratelimit {
        ietf_fields(verdict, config, &mut headers);
    }
    headers
}

/// The strictest limit's capacity, whole tokens left, and seconds until it is full.
fn legacy_triple(verdict: &Verdict, headers: &mut Vec<Header>) {
    let Some(outcome) = verdict.strictest() else { return };
    headers.push(("x-ratelimit-limit", outcome.capacity.0.to_string()));
    headers.push(("x-ratelimit-remaining", outcome.remaining.0.to_string()));
    headers.push(("x-ratelimit-reset", outcome.reset.to_secs_ceil().to_string()));
}

/// `ratelimit-policy` and `ratelimit`: every limit that applied, as lists of structured fields (RFC 9651).
///
/// Source: draft-ietf-httpapi-ratelimit-headers-10. The window of a token bucket is the time it takes to fill.
fn ietf_fields(verdict: &Verdict, config: &Config, headers: &mut Vec<Header>) {
    let applied: Vec<(&Limit, &Outcome)> = verdict
        .enforced()
        .filter_map(|outcome| config.limits.get(outcome.limit).map(|limit| (limit, outcome)))
        .collect();
    if applied.is_empty() {
        return;
    }
    let mut policies = String::new();
    let mut states = String::new();
    for (limit, outcome) in applied {
        // The windows of a limit after its first are named by their places. No limit has a colon in its name.
        let window = if outcome.window > 0 { format!(":{}", outcome.window) } else { String::new() };
        let name = [limit.name.as_str(), &window].concat();
        member(&mut policies, &name, ('q', outcome.capacity.0), outcome.period.map(|period| ('w', seconds(period))));
        member(&mut states, &name, ('r', outcome.remaining.0), Some(('t', seconds(outcome.reset))));
    }
    headers.push(("ratelimit-policy", policies));
    headers.push(("ratelimit", states));
}

/// Adds `"name";a=1;b=2` to a list. A limit's name needs no escapes.
fn member(list: &mut String, name: &str, (a, x): (char, u64), second: Option<(char, u64)>) {
    let comma = if list.is_empty() { "" } else { ", " };
    // Writing to a string does not fail.
    let _ = write!(list, "{comma}\"{name}\";{a}={x}");
    if let Some((b, y)) = second {
        let _ = write!(list, ";{b}={y}");
    }
}

fn seconds(span: Micros) -> u64 {
    span.to_secs_ceil()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::units::Tokens;

    /// 20 tokens at 100 a minute, and 1,000 at 1,000 an hour.
    fn config(headers: &str) -> Config {
        let json = format!(
            r#"{{"redis": {{"cluster": "redis"}}, "response": {{"headers": {headers}}}, "limits": [
                {{"name": "per_user", "descriptor": [{{"request_header": {{"name": "x-user-id"}}}}],
                  "token_bucket": {{"max_tokens": 20, "tokens_per_fill": 100, "fill_interval": "60s"}}}},
                {{"name": "all", "descriptor": [],
                  "token_bucket": {{"max_tokens": 1000, "tokens_per_fill": 1000, "fill_interval": "3600s"}}}}]}}"#
        );
        config::parse(json.as_bytes(), &|_| None).unwrap()
    }

    const DEFAULT: &str = r#"["x-ratelimit", "retry-after"]"#;
    const IETF: &str = r#"["ratelimit"]"#;

    fn admits(limit: usize, remaining: u64, reset: Micros) -> Outcome {
        let (capacity, period) = if limit == 0 { (20, 12) } else { (1_000, 3_600) };
        Outcome {
            limit,
            window: 0,
            cost: Tokens(1),
            capacity: Tokens(capacity),
            period: Some(Micros::from_secs(period)),
            admitted: true,
            enforced: true,
            spent: true,
            remaining: Tokens(remaining),
            retry_after: Some(Micros::ZERO),
            reset,
            delay: Micros::ZERO,
        }
    }

    fn denies(limit: usize, retry_after: Option<Micros>) -> Outcome {
        Outcome { admitted: false, retry_after, ..admits(limit, 0, Micros::from_secs(12)) }
    }

    fn admitted(outcomes: &[Outcome]) -> Verdict {
        Verdict { admitted: true, now: Micros::ZERO, outcomes: outcomes.to_vec() }
    }

    fn refused(outcomes: &[Outcome]) -> Verdict {
        Verdict { admitted: false, now: Micros::ZERO, outcomes: outcomes.to_vec() }
    }

    fn lines(headers: &[Header]) -> Vec<String> {
        headers.iter().map(|(name, value)| format!("{name}: {value}")).collect()
    }

    #[test]
    fn an_admitted_request_learns_of_the_limit_with_least_left() {
        let verdict = admitted(&[admits(0, 19, Micros(600_000)), admits(1, 700, Micros::from_secs(1_080))]);
        assert_eq!(
            lines(&admitted_headers(&verdict, &config(DEFAULT))),
            ["x-ratelimit-limit: 20", "x-ratelimit-remaining: 19", "x-ratelimit-reset: 1"]
        );
    }

    #[test]
    fn a_denied_request_learns_when_to_come_back() {
        let verdict = refused(&[denies(0, Some(Micros(600_000))), admits(1, 0, Micros::from_secs(9))]);
        let config = config(DEFAULT);
        let reply = denied(&verdict, &config, false);
        assert_eq!(
            lines(&reply.headers),
            ["x-ratelimit-limit: 20", "x-ratelimit-remaining: 0", "x-ratelimit-reset: 12", "retry-after: 1"]
        );
        assert_eq!((reply.status.code(), &*reply.body, reply.grpc_status), (429, "rate limited\n", None));
    }

    #[test]
    fn a_wait_is_rounded_up_and_at_least_a_second() {
        let config = config(r#"["retry-after"]"#);
        let retry_after = |wait| lines(&denied(&refused(&[denies(0, Some(wait))]), &config, false).headers);
        assert_eq!(retry_after(Micros(1_000_001)), ["retry-after: 2"]);
        assert_eq!(retry_after(Micros(1)), ["retry-after: 1"]);
        assert_eq!(retry_after(Micros::ZERO), ["retry-after: 1"]);
    }

    #[test]
    fn a_request_that_can_never_be_admitted_is_not_told_to_wait() {
        let verdict = refused(&[denies(0, Some(Micros::from_secs(1))), denies(1, None)]);
        assert!(denied(&verdict, &config(r#"["retry-after"]"#), false).headers.is_empty());
    }

    #[test]
    fn an_admitted_request_is_not_told_to_wait() {
        let verdict = admitted(&[admits(0, 0, Micros::from_secs(12))]);
        assert!(admitted_headers(&verdict, &config(r#"["retry-after"]"#)).is_empty());
    }

    #[test]
    fn the_ietf_fields_list_every_limit() {
        let verdict = admitted(&[admits(0, 19, Micros(600_000)), admits(1, 700, Micros::from_secs(1_080))]);
        assert_eq!(
            lines(&admitted_headers(&verdict, &config(IETF))),
            [
                r#"ratelimit-policy: "per_user";q=20;w=12, "all";q=1000;w=3600"#,
                r#"ratelimit: "per_user";r=19;t=1, "all";r=700;t=1080"#,
            ]
        );
    }

    #[test]
    fn a_shadow_is_not_told_of() {
        let shadow = Outcome { enforced: false, ..denies(1, None) };
        let all = r#"["x-ratelimit", "ratelimit", "retry-after"]"#;
        assert!(admitted_headers(&admitted(&[shadow]), &config(all)).is_empty());
        let beside = admitted(&[admits(0, 19, Micros(600_000)), shadow]);
        assert_eq!(
            lines(&admitted_headers(&beside, &config(IETF))),
            [r#"ratelimit-policy: "per_user";q=20;w=12"#, r#"ratelimit: "per_user";r=19;t=1"#]
        );
    }

    #[test]
    fn headers_that_are_not_asked_for_are_not_sent() {
        let verdict = refused(&[denies(0, Some(Micros::from_secs(1)))]);
        assert!(denied(&verdict, &config("[]"), false).headers.is_empty());
        assert!(admitted_headers(&admitted(&[]), &config(DEFAULT)).is_empty());
    }

    #[test]
    fn a_grpc_client_gets_grpcs_status_and_a_message_of_one_line() {
        let verdict = refused(&[denies(0, Some(Micros::from_secs(1)))]);
        let config = config(DEFAULT);
        let reply = denied(&verdict, &config, true);
        assert_eq!((reply.grpc_status, &*reply.body), (Some(8), "rate limited"));
        assert_eq!(failed(&config, true).grpc_status, Some(14));
    }

    #[test]
    fn without_a_decision_the_answer_is_the_status_on_error() {
        let reply = failed(&config(DEFAULT), false);
        assert_eq!((reply.status.code(), &*reply.body, reply.grpc_status), (503, FAILED_BODY, None));
        assert!(reply.headers.is_empty());
    }

    #[test]
    fn grpc_is_what_envoy_takes_for_it() {
        assert!(is_grpc(b"application/grpc"));
        assert!(is_grpc(b"application/grpc+proto"));
        for other in ["application/grpc-web", "application/grpc;x=1", "application/GRPC", "application/json", ""] {
            assert!(!is_grpc(other.as_bytes()), "{other}");
        }
    }
}
