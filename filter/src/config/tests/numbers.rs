//! Tests of numbers that requests carry, and of what happens near and beyond a limit.

use insta::assert_snapshot;
use serde_json::{Value, json};

use super::{errors, limit, parsed, with, with_limit};
use crate::descriptor::Request;
use crate::limit::{Algorithm, FailureMode, Zero};

const ALLOW: FailureMode = FailureMode::Allow;

/// Number in a header, with the default 10 and the maximum 100.
fn header(name: &str) -> Value {
    json!({"request_header": {"name": name, "default": 10, "max": 100}})
}

fn errors_of_max_tokens(number: Value) -> String {
    errors(&with_limit(json!({"token_bucket": {"max_tokens": number, "fill_interval": "60s"}})))
}

fn merged(object: &Value, fields: Value) -> Value {
    let mut merged = object.clone();
    super::merge(&mut merged, fields);
    merged
}

#[test]
fn every_algorithm_takes_its_numbers_from_requests() {
    let of_window = |kind: &str, more: Value| {
        let mut window = json!({"max_requests": header("x-limit")});
        super::merge(&mut window, more);
        json!({kind: window})
    };
    let window = json!({"window": "60s"});
    let windows = [
        json!({"token_bucket": {"max_tokens": header("x-limit"), "tokens_per_fill": header("x-limit"), "fill_interval": "60s"}}),
        of_window("sliding_window", window.clone()),
        of_window("sliding_window", json!({"window": "60s", "mode": "exact"})),
        of_window("fixed_window", window),
        of_window("quota", json!({"unit": "month"})),
        of_window("concurrency", json!({})),
    ];
    for window in windows {
        let mut limit = limit();
        limit.as_object_mut().unwrap().remove("token_bucket");
        super::merge(&mut limit, window);
        let config = parsed(&with(json!({"limits": [limit]})));
        assert!(config.has_carried_numbers());
        let limits = |value: Option<&str>| -> Vec<u64> {
            let request = value.iter().fold(Request::default(), |request, value| request.header("x-limit", value));
            let windows = config.limits[0].request_windows.as_ref().unwrap();
            let own = windows.with(&windows.read(&request), Zero::Blocks);
            own.algorithms().map(|algorithm| algorithm.limit().0).collect()
        };
        for (value, expected) in [(None, 10), (Some("42"), 42), (Some("x"), 10), (Some("101"), 100), (Some("0"), 0)] {
            assert_eq!(limits(value), [expected], "{value:?} of {limit}");
        }
        let default: Vec<&Algorithm> = config.limits[0].windows.algorithms().collect();
        assert_eq!(default[0].limit().0, 10);
    }
}

#[test]
fn metadata_and_filter_state_are_sources_too() {
    let key = json!({"key": "envoy.filters.http.jwt_authn", "path": [{"key": "claims"}, {"key": "limit"}]});
    for source in [
        json!({"dynamic_metadata": {"metadata_key": key, "default": 0, "max": 4_294_967_295_u64}}),
        json!({"filter_state": {"key": "plan.limit", "default": 1.0, "max": 1.0}}),
    ] {
        parsed(&with_limit(json!({"token_bucket": {"max_tokens": source, "fill_interval": "60s"}})));
    }
}

#[test]
fn a_source_that_clients_choose_is_refused_with_the_reason() {
    assert_snapshot!(
        errors_of_max_tokens(json!({"query_parameter": {"name": "limit", "default": 1, "max": 9}})),
        @"limits[0].token_bucket.max_tokens: expected one of dynamic_metadata, filter_state, request_header: a client would choose a limit from any other source, found an object"
    );
    for kind in ["cookie", "path", "method", "request_body", "remote_address", "generic_key"] {
        assert!(errors_of_max_tokens(json!({kind: {}})).contains("a client would choose"), "{kind}");
    }
}

#[test]
fn a_number_from_requests_needs_a_default_and_a_maximum_within_the_bounds_of_its_field() {
    assert_snapshot!(errors_of_max_tokens(json!({"request_header": {"name": "x-limit"}})), @"
    limits[0].token_bucket.max_tokens.request_header.max: expected the greatest number that counts, found nothing
    limits[0].token_bucket.max_tokens.request_header.default: expected the number of requests without one, found nothing
    ");
    assert_snapshot!(
        errors_of_max_tokens(json!({"filter_state": {"key": "limit", "default": 6, "max": 5}})),
        @"limits[0].token_bucket.max_tokens.filter_state.default: expected an integer from 0 to 5, found 6"
    );
    assert_snapshot!(
        errors_of_max_tokens(json!({"filter_state": {"key": "limit", "default": 0, "max": 4_294_967_296_u64}})),
        @"limits[0].token_bucket.max_tokens.filter_state.max: expected an integer from 1 to 4294967295, found 4294967296"
    );
    assert_snapshot!(
        errors(&with_limit(json!({"token_bucket": {
            "max_tokens": 1, "fill_interval": "60s",
            "tokens_per_fill": {"filter_state": {"key": "rate", "default": 0, "max": 5}}
        }}))),
        @"limits[0].token_bucket.tokens_per_fill.filter_state.default: expected an integer from 1 to 5, found 0"
    );
    assert_snapshot!(
        errors_of_max_tokens(json!({"filter_state": {"key": "limit", "default": 1, "max": 5, "min": 1}})),
        @"limits[0].token_bucket.max_tokens.filter_state.min: unknown field, expected one of key, default, max"
    );
    assert_snapshot!(
        errors_of_max_tokens(json!({"header": {"name": "limit"}})),
        @"limits[0].token_bucket.max_tokens.header: unknown field, expected one of dynamic_metadata, filter_state, request_header"
    );
}

#[test]
fn a_share_and_a_mark_are_read() {
    let mark = json!({"name": "X-Over-Limit"});
    let config = parsed(&with_limit(json!({"near_limit": 0.8, "on_exceed": {"mark": mark}})));
    let limit = &config.limits[0];
    assert_eq!(limit.near_limit, crate::limit::NearLimit::new(0.8));
    let mark = limit.mark.as_deref().unwrap();
    assert_eq!((mark.name.as_str(), mark.value.as_str(), limit.denies()), ("x-over-limit", "1", false));
    assert_eq!((limit.shadow_mode, limit.mark_in_force(), limit.failure_mode), (false, limit.mark.as_ref(), ALLOW));
    assert_eq!(config.marks(), ["x-over-limit"]);
    // As from YAML in Envoy.
    let text = parsed(&with_limit(json!({"near_limit": "0.8"})));
    assert_eq!(text.limits[0].near_limit, limit.near_limit);
    let deny = parsed(&with_limit(json!({"on_exceed": "deny"})));
    assert_eq!((deny.limits[0].mark.as_deref(), deny.limits[0].denies()), (None, true));
}

#[test]
fn in_shadow_mode_no_request_is_marked_and_the_clients_own_header_is_still_removed() {
    let mark = json!({"on_exceed": {"mark": {"name": "X-Over-Limit"}}});
    for config in [
        with_limit(merged(&mark, json!({"shadow_mode": true}))),
        merged(&with_limit(mark.clone()), json!({"shadow_mode": true})),
    ] {
        let config = parsed(&config);
        assert_eq!((config.limits[0].mark_in_force(), config.limits[0].denies()), (None, false));
        assert_eq!(config.marks(), ["x-over-limit"]);
    }
}

#[test]
fn settings_of_denials_and_delays_are_refused_beside_a_mark() {
    let beside = |fields: Value| with_limit(merged(&json!({"on_exceed": {"mark": {"name": "x-over"}}}), fields));
    assert_snapshot!(
        errors(&beside(json!({"max_delay": "3s", "failure_mode": "deny", "response": {"status": 503}}))),
        @r#"
    limits[0].max_delay: expected nothing beside on_exceed.mark: a limit that marks requests neither denies nor holds them, found "3s"
    limits[0].failure_mode: expected nothing beside on_exceed.mark: a limit that marks requests neither denies nor holds them, found "deny"
    limits[0].response: expected nothing beside on_exceed.mark: a limit that marks requests neither denies nor holds them, found an object
    "#
    );
    assert!(errors(&beside(json!({"failure_mode": "deny", "shadow_mode": true}))).contains("failure_mode"));
    parsed(&beside(json!({"max_delay": "0s", "failure_mode": "allow"})));
    parsed(&merged(&beside(json!({})), json!({"failure_mode": "deny", "response": {"status": 503}})));
    let denying = json!({"on_exceed": "deny", "failure_mode": "deny", "response": {"status": 503}, "max_delay": "3s"});
    parsed(&with_limit(denying));
}

#[test]
fn a_share_or_a_mark_that_makes_no_sense_is_refused() {
    let of_limit = |fields: Value| errors(&with_limit(fields));
    assert_snapshot!(
        of_limit(json!({"near_limit": 80})),
        @"limits[0].near_limit: expected a number from 0.000001 to 0.999999, such as 0.8, found 80"
    );
    for share in [0.999_999_9, 1e-7, 1.0, 0.0, -0.5] {
        let expected = "limits[0].near_limit: expected a number from 0.000001 to 0.999999, such as 0.8, found ";
        assert!(of_limit(json!({"near_limit": share})).starts_with(expected), "{share}");
    }
    assert_snapshot!(
        of_limit(json!({"near_limit": 0.999_999_999})),
        @"limits[0].near_limit: expected a number from 0.000001 to 0.999999, such as 0.8, found 0.999999…"
    );
    assert_snapshot!(
        of_limit(json!({"on_exceed": "mark"})),
        @r#"limits[0].on_exceed: expected "deny" or an object such as {mark: {name: x-over-limit}}, found "mark""#
    );
    assert_snapshot!(
        of_limit(json!({"on_exceed": {"mark": {}}})),
        @"limits[0].on_exceed.mark.name: expected a header's name, not one of the connection or the body, found nothing"
    );
    for name in ["", ":path", "Host", "content-length", "a b"] {
        assert!(of_limit(json!({"on_exceed": {"mark": {"name": name}}})).contains("mark.name"), "{name}");
    }
    assert_snapshot!(
        of_limit(json!({"on_exceed": {"mark": {"name": "x-over", "value": "a\nb"}}})),
        @r#"limits[0].on_exceed.mark.value: expected 1 to 256 printable ASCII characters, found "a\nb""#
    );
}
