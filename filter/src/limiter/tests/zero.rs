//! Tests of limits of zero: every request is denied without Redis.

use super::*;

/// Limits of zero of each algorithm, and one among several windows.
const ZEROS: [&str; 8] = [
    r#""token_bucket": {"max_tokens": 0, "fill_interval": "60s"}"#,
    r#""token_bucket": {"max_tokens": 0, "fill_interval": "60s"}, "lease": {"max": 5}"#,
    r#""sliding_window": {"max_requests": 0, "window": "60s"}"#,
    r#""sliding_window": {"max_requests": 0, "window": "60s", "mode": "exact"}"#,
    r#""fixed_window": {"max_requests": 0, "window": "60s"}"#,
    r#""quota": {"max_requests": 0, "unit": "month"}"#,
    r#""concurrency": {"max_requests": 0}"#,
    r#""windows": [{"quota": {"max_requests": 9, "unit": "day"}}, {"concurrency": {"max_requests": 0}}]"#,
];

#[test]
fn a_limit_of_zero_denies_every_request_for_ever_without_redis() {
    for zero in ZEROS {
        for cost in ["1", "0", "99"] {
            let limit = format!(r#"{zero}, "hits_addend": {cost}, "failure_mode": "allow""#);
            // There is no connection to Redis.
            let mut fixture =
                Fixture::of(&limit, r#""response": {"headers": ["x-ratelimit", "ratelimit", "retry-after"]},"#);
            let Step::Decided(Decision::Answer(reply)) = fixture.request(ALICE, "alice") else { panic!("{limit}") };
            assert_eq!((reply.status.code(), retry_after(&reply)), (429, None), "{limit}");
            let headers: Vec<(&str, &str)> =
                reply.headers().filter(|(name, _)| name.starts_with("x-ratelimit")).collect();
            assert_eq!(
                headers,
                [("x-ratelimit-limit", "0"), ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "0")],
                "{limit}"
            );
            assert_eq!(fixture.counted(), ["weir.limit.per_user.denied 1", "weir.requests.denied 1"], "{limit}");
            assert_eq!((fixture.sent(), fixture.limiter.has_any_of(ALICE)), (String::new(), false), "{limit}");
            assert_eq!(fixture.tick(), [], "nothing is sent: {limit}");
        }
    }
}

#[test]
fn in_shadow_mode_a_limit_of_zero_only_counts_and_spends_from_none_of_its_windows() {
    for zero in ZEROS {
        let mut fixture = Fixture::of(&format!(r#"{zero}, "shadow_mode": true"#), "");
        assert_eq!(fixture.request(ALICE, "alice"), Step::Decided(Decision::Admit(Vec::new())), "{zero}");
        assert_eq!(fixture.counted(), ["weir.limit.per_user.shadow_denied 1", "weir.requests.admitted 1"], "{zero}");
        assert_eq!((fixture.sent(), fixture.limiter.has_any_of(ALICE)), (String::new(), false), "{zero}");
    }
}

#[test]
fn with_a_limit_of_zero_in_shadow_mode_the_other_limits_decide() {
    let other = r#"{"name": "all", "descriptor": [], "token_bucket": {"max_tokens": 20, "fill_interval": "60s"}}"#;
    let zero = format!(
        r#""shadow_mode": true, "quota": {{"max_requests": 0, "unit": "day"}}}}, {}"#,
        &other[..other.len() - 1]
    );
    let mut fixture = Fixture::of(&zero, "");
    fixture.connect();
    assert_eq!(fixture.request(ALICE, "alice"), Step::Wait);
    let sent = fixture.sent();
    assert!(sent.contains("weir:all:") && !sent.contains("weir:per_user"), "{sent}");
    let effects = fixture.redis_replies(ADMITTED);
    assert!(matches!(&effects[..], [Effect::Decide(ALICE, Decision::Admit(_))]), "{effects:?}");
    let counted = ["weir.limit.all.admitted 1", "weir.limit.per_user.shadow_denied 1", "weir.requests.admitted 1"];
    assert_eq!(fixture.counted(), counted);
}

#[test]
fn a_request_denied_by_a_limit_of_zero_is_not_checked_by_other_limits() {
    let other = r#"{"name": "all", "descriptor": [], "token_bucket": {"max_tokens": 20, "fill_interval": "60s"}}"#;
    let zero = format!(r#""quota": {{"max_requests": 0, "unit": "day"}}}}, {}"#, &other[..other.len() - 1]);
    let mut fixture = Fixture::of(&zero, "");
    assert!(matches!(fixture.request(ALICE, "alice"), Step::Decided(Decision::Answer(_))));
    assert_eq!(fixture.counted(), ["weir.limit.per_user.denied 1", "weir.requests.denied 1"]);
    assert_eq!(fixture.sent(), "");
}
