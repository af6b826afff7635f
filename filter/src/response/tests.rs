//! Tests of local replies and response headers, for configurations as operators write them.

mod api;

use super::*;
use crate::config::{self, Config};
use crate::limit::Outcome;
use crate::units::Micros;

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

fn denied(verdict: &Verdict, config: &Config, is_grpc: bool) -> LocalReply {
    super::denied(verdict, &config.limits, &config.responses, protocol(is_grpc))
}

fn admitted_headers(verdict: &Verdict, config: &Config) -> Vec<Header> {
    super::admitted_headers(verdict, &config.limits, &config.responses, ClientProtocol::Http)
}

fn failed(config: &Config, cause: Failure, is_grpc: bool) -> LocalReply {
    super::failed(&config.responses, cause, protocol(is_grpc))
}

fn bad_request(bad: BadRequest, is_grpc: bool) -> LocalReply {
    super::bad_request(&config("[]").responses, bad, protocol(is_grpc))
}

fn protocol(is_grpc: bool) -> ClientProtocol {
    if is_grpc { ClientProtocol::Grpc } else { ClientProtocol::Http }
}

fn text(reply: &LocalReply) -> &str {
    str::from_utf8(&reply.body).unwrap()
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
        held: Tokens(0),
    }
}

fn denies(limit: usize, retry_after: Option<Micros>) -> Outcome {
    Outcome { admitted: false, retry_after, ..admits(limit, 0, Micros::from_secs(12)) }
}

fn admitted_verdict(outcomes: &[Outcome]) -> Verdict {
    Verdict { admitted: true, outcomes: outcomes.to_vec(), ..Verdict::default() }
}

fn denied_verdict(outcomes: &[Outcome]) -> Verdict {
    Verdict { outcomes: outcomes.to_vec(), ..Verdict::default() }
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
    assert_eq!((reply.status.code(), text(&reply), reply.grpc_status), (429, "rate limited\n", None));
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
    assert_eq!((reply.grpc_status, text(&reply)), (Some(8), "rate limited"));
    assert_eq!(failed(&config, Failure::Unavailable, true).grpc_status, Some(14));
}

#[test]
fn the_body_names_the_limit_and_the_wait() {
    let body = r#"{"body": "{\"limit\": \"{limit}\", \"after\": {retry_after}, \"left\": {remaining}}",
        "content_type": "application/json", "headers": []}"#;
    let config = with_responses(body, "{}");
    let reply = denied(&denied_verdict(&[denies(0, Some(Micros(2_000_001)))]), &config, false);
    assert_eq!(text(&reply), r#"{"limit": "per_user", "after": 3, "left": 0}"#);
    assert_eq!(header_lines(&reply), ["content-type: application/json"]);
    let never = denied(&denied_verdict(&[denies(1, None)]), &config, false);
    assert_eq!(text(&never), r#"{"limit": "all", "after": null, "left": 0}"#);
}

#[test]
fn the_response_of_the_strictest_limit_applies() {
    let config = with_responses(
        r#"{"headers": ["ratelimit"], "body": "slow down"}"#,
        r#"{"status": 403, "body": "{limit} is used up", "headers": ["retry-after"]}"#,
    );
    let (short, long) = (Some(Micros::from_secs(1)), Some(Micros::from_secs(9)));
    let own = denied(&denied_verdict(&[denies(0, long), denies(1, short)]), &config, false);
    assert_eq!((own.status.code(), text(&own)), (403, "per_user is used up"));
    assert_eq!(header_lines(&own), ["retry-after: 9"]);
    let others = denied(&denied_verdict(&[denies(0, short), denies(1, long)]), &config, false);
    assert_eq!((others.status.code(), text(&others)), (429, "slow down"));
    assert!(others.headers().all(|(name, _)| name.starts_with("ratelimit")), "{others:?}");
}

#[test]
fn fields_that_a_limits_response_lacks_are_the_filters() {
    let config = with_responses(r#"{"status": 420, "body": "slow down"}"#, r#"{"body": "{limit}"}"#);
    let reply = denied(&denied_verdict(&[denies(0, None)]), &config, false);
    assert_eq!((reply.status.code(), text(&reply)), (420, "per_user"));
}

#[test]
fn a_grpc_client_gets_the_configured_status_and_message() {
    let response = r#"{"grpc_status": "UNAVAILABLE", "grpc_message": "{limit}: {retry_after} s",
        "content_type": "application/json", "headers": []}"#;
    let config = with_responses(response, "{}");
    let reply = denied(&denied_verdict(&[denies(0, Some(Micros(1)))]), &config, true);
    assert_eq!((reply.grpc_status, text(&reply)), (Some(14), "per_user: 1 s"));
    assert!(reply.headers().next().is_none(), "gRPC has a content type of its own: {reply:?}");
}

#[test]
fn clients_of_rpc_get_the_status_of_a_failure_in_their_form() {
    let config = config(DEFAULT);
    let unary = super::failed(&config.responses, Failure::Timeout, ClientProtocol::ConnectUnary);
    assert_eq!((unary.http_status(), unary.details.as_ref()), (503, "weir_failed{timeout}"));
    assert_eq!(text(&unary), r#"{"code":"unavailable","message":"rate limiting is unavailable"}"#);
    let unary = super::bad_request(&config.responses, BadRequest::Body, ClientProtocol::ConnectUnary);
    assert_eq!(unary.http_status(), 400);
    assert_eq!(text(&unary), r#"{"code":"invalid_argument","message":"expected a JSON body"}"#);
    let web = ClientProtocol::GrpcWeb(RpcType::WebProto);
    let web = super::bad_request(&config.responses, BadRequest::Body, web);
    assert_eq!(
        (web.http_status(), header_lines(&web)),
        (200, vec!["content-type: application/grpc-web+proto".to_owned()])
    );
    assert!(web.body.ends_with(b"grpc-status:3\r\ngrpc-message:expected a JSON body\r\n"), "{web:?}");
}

#[test]
fn a_denial_by_connect_has_the_message_for_rpc_and_the_status_for_http() {
    let response = r#"{"status": 420, "grpc_status": "UNAVAILABLE", "grpc_message": "{limit} is used up",
        "content_type": "text/html", "headers": ["retry-after"]}"#;
    let config = with_responses(response, "{}");
    let verdict = denied_verdict(&[denies(0, Some(Micros(1)))]);
    let reply = super::denied(&verdict, &config.limits, &config.responses, ClientProtocol::ConnectUnary);
    assert_eq!(reply.http_status(), 420);
    assert_eq!(text(&reply), r#"{"code":"unavailable","message":"per_user is used up"}"#);
    assert_eq!(header_lines(&reply), ["retry-after: 1", "content-type: application/json"]);
}

#[test]
fn grpc_clients_are_pushed_back_for_the_time_of_retry_after() {
    let web = ClientProtocol::GrpcWeb(RpcType::Web);
    let pushback = |headers: &str, protocol, wait| {
        let config = config(headers);
        let verdict = denied_verdict(&[denies(0, wait)]);
        let reply = super::denied(&verdict, &config.limits, &config.responses, protocol);
        let trailers = String::from_utf8_lossy(&reply.body).into_owned();
        let trailer = trailers.lines().find_map(|line| line.strip_prefix("grpc-retry-pushback-ms:"));
        let header = reply.headers().find(|(name, _)| *name == "grpc-retry-pushback-ms").map(|(_, value)| value);
        assert!(trailer == header || protocol != web, "{reply:?}");
        header.map(str::to_owned)
    };
    for protocol in [ClientProtocol::Grpc, web] {
        for (wait, expected) in [
            (Some(Micros(600_000)), "600"),
            (Some(Micros(600_001)), "601"),
            (Some(Micros::ZERO), "1"),
            (Some(Micros::from_millis(2_147_483_647)), "2147483647"),
            (Some(Micros::from_millis(2_147_483_648)), "-1"),
            (None, "-1"),
        ] {
            assert_eq!(pushback(DEFAULT, protocol, wait).as_deref(), Some(expected), "{wait:?}");
        }
        assert_eq!(pushback(IETF, protocol, None), None, "without retry-after");
    }
    for protocol in [ClientProtocol::Http, ClientProtocol::ConnectUnary] {
        assert_eq!(pushback(DEFAULT, protocol, Some(Micros(1))), None);
    }
}

#[test]
fn a_rejected_request_gets_the_expected_form() {
    let bad = BadRequest::Hits { max: Tokens(100) };
    let reply = bad_request(bad, false);
    assert_eq!(reply.details, "weir_rejected{hits_addend}");
    assert_eq!((reply.status.code(), text(&reply)), (400, "expected a whole number of hits up to 100\n"));
    let reply = bad_request(bad, true);
    assert_eq!((reply.grpc_status, text(&reply)), (Some(3), "expected a whole number of hits up to 100"));
    let reply = bad_request(BadRequest::Length, false);
    assert_eq!((reply.status.code(), text(&reply)), (411, "expected a content-length\n"));
    let reply = bad_request(BadRequest::Body, false);
    assert_eq!((reply.status.code(), text(&reply)), (400, "expected a JSON body\n"));
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
    assert_eq!((reply.status.code(), text(&reply), reply.grpc_status), (503, FAILED_BODY, None));
    assert!(reply.headers().next().is_none());
}
