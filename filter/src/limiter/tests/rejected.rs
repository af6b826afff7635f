//! Tests of requests that are rejected as malformed, or that are not charged.

use super::*;

const REPEATED: &str = r#"{"redis": {"cluster": "redis"}, "limits": [{"name": "per_user",
    "descriptor": [{"request_header": {"name": "x-user-id", "repeated": "reject"}}],
    "token_bucket": {"max_tokens": 20, "fill_interval": "60s"}}]}"#;

/// Limiter with a budget in dollars, or in tokens, and further fields of `usage`.
fn charging(charge: &str, of_usage: &str) -> Fixture {
    let window = match charge {
        "cost" => r#""max_usd": 1"#,
        _ => r#""max_tokens": 1000"#,
    };
    let json = format!(
        r#"{{"redis": {{"cluster": "redis"}}, "overrides": {{"enabled": false}},
            "usage": {{"prices": [{{"model": {{"exact": "a"}}, "input": 1, "output": 1}}] {of_usage}}},
            "limits": [{{"name": "per_user", "descriptor": [{{"request_header": {{"name": "x-user-id"}}}}],
                "charge": "{charge}", "reserve": {{"output": {{"default": 50}}}},
                "fixed_window": {{{window}, "window": "60s"}}}}]}}"#
    );
    limiter(&json)
}

fn limiter(json: &str) -> Fixture {
    let config = config::parse(json.as_bytes(), &|_| None).unwrap();
    Fixture { limiter: Limiter::new(config, 1), now: Micros::from_secs(1), sent: Vec::new() }
}

fn post() -> Request {
    Request::default().header(":method", "POST").header("x-user-id", "alice")
}

/// Status with which a request is answered without Redis. `None`: it goes on.
fn status(fixture: &mut Fixture, request: &Request) -> Option<u16> {
    match fixture.limiter.request(fixture.now, ALICE, request) {
        Step::Decided(Decision::Answer(reply)) => Some(reply.status.code()),
        _ => None,
    }
}

#[test]
fn a_request_with_two_values_of_one_header_is_rejected_and_counted() {
    let mut fixture = limiter(REPEATED);
    let twice = Request::default().header("x-user-id", "alice").header("x-user-id", "bob");
    assert_eq!(status(&mut fixture, &twice), Some(400));
    assert_eq!(fixture.counted(), ["weir.requests.rejected 1"]);
    assert_eq!(status(&mut fixture, &Request::default().header("x-user-id", "alice")), None);
}

#[test]
fn a_request_for_a_model_without_a_price_is_rejected_by_a_budget_in_dollars_alone() {
    for (charge, model, expected) in
        [("cost", "b", Some(400)), ("cost", "a", None), ("total_tokens", "b", None), ("total_tokens", "a", None)]
    {
        let mut fixture = charging(charge, "");
        let request = post().json("/model", &format!(r#"{{"model": "{model}"}}"#));
        assert_eq!(status(&mut fixture, &request), expected, "{charge} {model}");
        let counted: &[&str] = match expected {
            Some(_) => &["weir.requests.rejected 1", "weir.usage.unknown_model 1"],
            None => &[],
        };
        assert_eq!(fixture.counted(), counted, "{charge} {model}");
    }
}

#[test]
fn a_request_that_no_limit_charges_passes() {
    let mut fixture = charging("total_tokens", r#", "when": [{"method": "PUT"}]"#);
    assert_eq!(fixture.limiter.request(fixture.now, ALICE, &post()), Step::Pass);
    assert!(!fixture.limiter.is_charged(ALICE));
}

#[test]
fn a_maximum_is_added_to_a_request_that_states_none() {
    let json = r#"{"redis": {"cluster": "redis"}, "limits": [{"name": "per_user", "charge": "total_tokens",
        "descriptor": [{"request_header": {"name": "x-user-id"}}],
        "reserve": {"output": {"default": 50, "enforce": true}},
        "fixed_window": {"max_tokens": 1000, "window": "60s"}}]}"#;
    let request = post().json("/model", r#"{"model": "a"}"#);
    let additions = limiter(json).limiter.additions(&request);
    assert!(additions.starts_with(",\"") && additions.ends_with("\":50"), "{additions}");
}
