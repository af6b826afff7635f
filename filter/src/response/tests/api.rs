//! Tests of replies and headers in the form of the APIs of language models.

use serde_json::{Value, json};

use super::*;

/// Configuration of limits on requests, tokens and money, whose replies are in this form.
fn config(format: &str) -> Config {
    let json = json!({"redis": {"cluster": "redis"}, "response": {"format": format, "body": "limit \"{limit}\"\n"},
    "usage": {"prices": [{"model": {"prefix": "gpt"}, "input": 1}]},
    "limits": [
        {"name": "rpm", "descriptor": [], "fixed_window": {"max_requests": 60, "window": "60s"}},
        {"name": "tpm", "descriptor": [], "charge": "total_tokens",
            "token_bucket": {"max_tokens": 10_000, "tokens_per_fill": 1, "fill_interval": "1s"}},
        {"name": "budget", "descriptor": [], "charge": "cost", "quota": {"max_usd": 5, "unit": "month"}},
        {"name": "in_flight", "descriptor": [], "concurrency": {"max_requests": 2}},
    ]});
    config::parse(json.to_string().as_bytes(), &|_| None).unwrap()
}

fn outcome(limit: usize, capacity: u64, remaining: u64) -> Outcome {
    let period = (limit != 3).then_some(Micros::from_secs(60));
    Outcome { capacity: Tokens(capacity), period, ..admits(limit, remaining, Micros::from_secs(360)) }
}

fn denies_for(limit: usize, wait: Option<Micros>) -> Outcome {
    Outcome { admitted: false, retry_after: wait, ..outcome(limit, 10_000, 7) }
}

fn reply(format: &str, outcome: Outcome, path: &str) -> LocalReply {
    let config = config(format);
    super::super::denied(&denied_verdict(&[outcome]), &config.limits, &config.responses, of_path(&config, path))
}

fn of_path(config: &Config, path: &str) -> ClientProtocol {
    config.responses.protocol(&crate::pairs::encode([(":path", path)].into_iter()))
}

fn body(reply: &LocalReply) -> Value {
    serde_json::from_slice(&reply.body).unwrap()
}

fn header<'a>(reply: &'a LocalReply, name: &str) -> Option<&'a str> {
    reply.headers().find(|(known, _)| *known == name).map(|(_, value)| value)
}

const MONTH: Option<Micros> = Some(Micros::from_secs(1_814_400));
const SOON: Option<Micros> = Some(Micros::from_secs(1));

#[test]
fn a_reply_is_in_the_form_of_the_api() {
    let wait = Some(Micros::from_millis(12_500));
    let of = |format| body(&reply(format, denies_for(1, wait), "/"));
    let message = "limit \"tpm\"";
    assert_eq!(
        of("openai"),
        json!({"error": {"message": message, "type": "tokens", "param": null, "code": "rate_limit_exceeded"}})
    );
    assert_eq!(of("anthropic"), json!({"type": "error", "error": {"type": "rate_limit_error", "message": message}}));
    let retry = json!([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "13s"}]);
    assert_eq!(
        of("gemini"),
        json!({"error": {"code": 429, "message": message, "status": "RESOURCE_EXHAUSTED", "details": retry}})
    );
    assert_eq!(of("bedrock"), json!({"message": message}));
    for (format, exception) in [("bedrock", Some("ThrottlingException")), ("openai", None)] {
        let reply = reply(format, denies_for(1, wait), "/");
        assert_eq!(header(&reply, "x-amzn-errortype"), exception);
        assert_eq!(header(&reply, "content-type"), Some("application/json"));
        assert_eq!((reply.http_status(), reply.details.as_ref()), (429, "weir_denied{tpm}"));
    }
}

#[test]
fn the_path_tells_the_api() {
    let config = config("auto");
    for (path, api) in [
        ("/v1/chat/completions", Api::OpenAi),
        ("/openai/deployments/gpt/chat/completions?api-version=1", Api::OpenAi),
        ("/v1beta/openai/chat/completions", Api::OpenAi),
        ("/v1/responses", Api::OpenAi),
        ("/v1/embeddings", Api::OpenAi),
        ("/v1/messages?beta=true", Api::Anthropic),
        ("/v1/messages/count_tokens", Api::Anthropic),
        ("/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse", Api::Gemini),
        ("/v1/projects/p/locations/l/publishers/anthropic/models/claude:streamRawPredict", Api::Anthropic),
        ("/model/anthropic.claude/converse-stream", Api::Bedrock),
        ("/model/amazon.nova/invoke", Api::Bedrock),
    ] {
        assert_eq!(of_path(&config, path), ClientProtocol::Api(api), "{path}");
    }
    for path in ["/", "/v1/models", "/v1/threads/1/messages", "/?x=/v1/messages", "/v1/conversations"] {
        assert_eq!(of_path(&config, path), ClientProtocol::Http, "{path}");
    }
    let reply = reply("auto", denies_for(1, SOON), "/v1/messages");
    assert_eq!(body(&reply)["type"], "error");
}

#[test]
fn other_clients_get_the_body() {
    let reply = |format, protocol| {
        let config = config(format);
        super::super::denied(&denied_verdict(&[denies_for(1, SOON)]), &config.limits, &config.responses, protocol)
    };
    for (format, protocol) in [("auto", ClientProtocol::Http), ("plain", ClientProtocol::Http)] {
        let reply = reply(format, protocol);
        assert_eq!(text(&reply), "limit \"tpm\"\n");
        assert_eq!((header(&reply, "retry-after-ms"), header(&reply, "x-ratelimit-limit")), (None, Some("10000")));
    }
    assert_eq!(reply("openai", ClientProtocol::Grpc).grpc_status, Some(8));
    assert_eq!(text(&reply("openai", ClientProtocol::ConnectUnary)).find("\"code\""), Some(1));
    let config = config("plain");
    assert_eq!(of_path(&config, "/v1/messages"), ClientProtocol::Http, "paths are not looked at");
}

#[test]
fn a_spent_budget_is_not_retried_and_reservations_are() {
    let case = |outcome| {
        let reply = reply("openai", outcome, "/");
        let code = body(&reply)["error"]["code"].as_str().unwrap().to_owned();
        (code, header(&reply, "x-should-retry").map(str::to_owned), header(&reply, "retry-after-ms").map(str::to_owned))
    };
    let expected = |code: &str, retry: Option<&str>, millis: Option<&str>| {
        (code.to_owned(), retry.map(str::to_owned), millis.map(str::to_owned))
    };
    let (rate, spent, no) = ("rate_limit_exceeded", "insufficient_quota", Some("false"));
    assert_eq!(case(denies_for(2, MONTH)), expected(spent, no, Some("1814400000")));
    let reserved = Outcome { held: Tokens(9), ..denies_for(2, SOON) };
    assert_eq!(case(reserved), expected(rate, None, Some("1000")));
    // Held as well, but what is settled is in the way.
    assert_eq!(case(Outcome { held: Tokens(9), ..denies_for(2, MONTH) }), expected(spent, no, Some("1814400000")));
    // Tokens that return soon are no budget.
    let soon = Some(Micros::from_millis(59_999));
    assert_eq!(case(denies_for(1, soon)), expected(rate, None, Some("59999")));
    assert_eq!(case(denies_for(1, Some(Micros::from_secs(60)))), expected(rate, None, Some("60000")));
    assert_eq!(case(denies_for(1, Some(Micros(60_000_001)))), expected(spent, no, Some("60001")));
    // The request is larger than the limit.
    assert_eq!(case(denies_for(1, None)), expected(rate, no, None));
    assert_eq!(case(Outcome { capacity: Tokens(0), ..denies_for(1, None) }), expected(spent, no, None));
    // Requests a day.
    assert_eq!(case(denies_for(0, MONTH)), expected(rate, no, Some("1814400000")));
    let of_spent = reply("bedrock", denies_for(2, MONTH), "/");
    assert_eq!(header(&of_spent, "x-amzn-errortype"), Some("ServiceQuotaExceededException"));
    assert_eq!(header(&of_spent, "x-should-retry"), None, "its SDKs do not read it");
}

#[test]
fn limits_are_told_as_the_api_tells_them() {
    let outcomes = [
        Outcome { reset: Micros::from_millis(900), ..outcome(0, 60, 59) },
        outcome(1, 10_000, 9_000),
        outcome(2, 5_000_000_000, 1),
        outcome(3, 2, 0),
    ];
    let headers = |format: &str, now| {
        let config = config(format);
        let verdict = Verdict { now, ..admitted_verdict(&outcomes) };
        lines(&super::super::admitted_headers(&verdict, &config.limits, &config.responses, ClientProtocol::Http))
    };
    // 2026-11-30 23:59:00.5
    let now = Micros::from_millis(1_796_083_140_500);
    assert_eq!(
        headers("openai", now),
        [
            "x-ratelimit-limit-tokens: 10000",
            "x-ratelimit-remaining-tokens: 9000",
            "x-ratelimit-reset-tokens: 6m0s",
            "x-ratelimit-limit-requests: 60",
            "x-ratelimit-remaining-requests: 59",
            "x-ratelimit-reset-requests: 900ms",
        ]
    );
    assert_eq!(
        headers("anthropic", now),
        [
            "anthropic-ratelimit-tokens-limit: 10000",
            "anthropic-ratelimit-tokens-remaining: 9000",
            "anthropic-ratelimit-tokens-reset: 2026-12-01T00:05:01Z",
            "anthropic-ratelimit-requests-limit: 60",
            "anthropic-ratelimit-requests-remaining: 59",
            "anthropic-ratelimit-requests-reset: 2026-11-30T23:59:02Z",
        ]
    );
    assert!(headers("anthropic", Micros::ZERO).is_empty(), "without Redis, the time is not known");
    assert_eq!(headers("gemini", now).first().unwrap(), "x-ratelimit-limit: 2");
}

#[test]
fn times_are_written_as_by_go() {
    let config = config("openai");
    for (millis, text) in [
        (0, "0s"),
        (12, "12ms"),
        (999, "999ms"),
        (1_000, "1s"),
        (1_001, "2s"),
        (60_000, "1m0s"),
        (3_599_001, "1h0m0s"),
        (90_061_000, "25h1m1s"),
    ] {
        let outcome = Outcome { reset: Micros::from_millis(millis), ..outcome(1, 10, 9) };
        let verdict = admitted_verdict(&[outcome]);
        let headers = super::super::admitted_headers(&verdict, &config.limits, &config.responses, ClientProtocol::Http);
        assert_eq!(headers.last().unwrap().1, text);
    }
}

#[test]
fn errors_are_in_the_form_of_the_api() {
    let config = config("auto");
    let at = |path| of_path(&config, path);
    let failed = |path| super::super::failed(&config.responses, Failure::Timeout, at(path));
    let bad = |path| super::super::bad_request(&config.responses, BadRequest::UnknownModel, at(path));
    assert_eq!(
        body(&failed("/v1/responses")),
        json!({"error": {"message": "rate limiting is unavailable", "type": "server_error", "param": null,
            "code": null}})
    );
    assert_eq!(body(&failed("/v1/messages"))["error"]["type"], "api_error");
    let gemini = failed("/models/g:generateContent");
    assert_eq!((gemini.http_status(), &body(&gemini)["error"]["status"]), (503, &json!("UNAVAILABLE")));
    assert_eq!(body(&gemini)["error"]["details"], Value::Null);
    assert_eq!(header(&failed("/model/m/converse"), "x-amzn-errortype"), Some("ServiceUnavailableException"));
    assert_eq!(text(&failed("/")), FAILED_BODY);
    let openai = bad("/v1/responses");
    assert_eq!((openai.http_status(), &body(&openai)["error"]["type"]), (400, &json!("invalid_request_error")));
    assert_eq!(body(&bad("/v1/messages"))["error"]["message"], "expected a model with a price");
    assert_eq!(header(&bad("/model/m/invoke"), "x-amzn-errortype"), Some("ValidationException"));
}

#[test]
fn responses_tell_which_limits_exceed_their_soft_limit() {
    let limit = |name: &str, more: Value| {
        let mut limit = json!({"name": name, "descriptor": [], "charge": "total_tokens"});
        limit.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        limit
    };
    let window = json!({"max_tokens": 10_000, "window": "60s"});
    let limits = json!([
        limit("soft", json!({"soft_limit": 0.8, "fixed_window": window})),
        limit("hard", json!({"fixed_window": window})),
        limit(
            "both",
            json!({"soft_limit": 0.5, "windows": [{"fixed_window": window},
            {"token_bucket": {"max_tokens": 10_000, "fill_interval": "1s"}}]})
        ),
    ]);
    let json = json!({"redis": {"cluster": "redis"}, "limits": limits, "response": {"headers": []}}).to_string();
    let config = config::parse(json.as_bytes(), &|_| None).unwrap();
    let of = |outcomes: &[Outcome]| {
        let verdict = Verdict { admitted: true, outcomes: outcomes.to_vec(), ..Verdict::default() };
        super::super::admitted_headers(&verdict, &config.limits, &config.responses, ClientProtocol::Http)
    };
    let soft = |list: &str| vec![("x-weir-soft-limit", list.to_owned())];
    assert_eq!(of(&[outcome(0, 10_000, 2_000), outcome(1, 10_000, 1), outcome(2, 10_000, 5_000)]), []);
    assert_eq!(of(&[outcome(0, 10_000, 1_999)]), soft("soft;used=0.80"));
    let second = Outcome { window: 1, ..outcome(2, 10_000, 1_650) };
    assert_eq!(
        of(&[outcome(0, 10_000, 0), outcome(2, 10_000, 10_000), second]),
        soft("soft;used=1.00, both:1;used=0.83")
    );
    assert_eq!(of(&[Outcome { enforced: false, ..outcome(0, 10_000, 0) }]), [], "in shadow mode");
    let denied = denied_verdict(&[Outcome { admitted: false, ..outcome(0, 10_000, 900) }]);
    let reply = super::super::denied(&denied, &config.limits, &config.responses, ClientProtocol::Http);
    assert_eq!(header(&reply, "x-weir-soft-limit"), Some("soft;used=0.91"));
}
