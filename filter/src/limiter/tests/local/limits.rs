//! Tests of which limits a worker decides by its shares, and of their windows and costs.

use super::*;

#[test]
fn a_worker_without_redis_knows_when_a_window_begins_from_the_last_decision() {
    let mut fixture = Fixture::of(r#""fixed_window": {"max_requests": 10, "window": "60s"}"#, LOCAL_HALF);
    fixture.connect();
    fixture.request(ALICE, "alice");
    fixture.redis_replies(b"*4\r\n:30000000\r\n:0\r\n:0\r\n:0\r\n");
    fixture.loses_redis_for(MS(29_999));
    assert_eq!(fixture.admitted_at_once("alice"), 0, "the window is that in which Redis was lost");
    fixture.now = fixture.now.plus(MS(1));
    assert_eq!(fixture.admitted_at_once("alice"), 5);
}

#[test]
fn a_request_without_cost_passes_though_redis_has_not_decided_it() {
    for (cost, passes) in [(0, true), (1, false)] {
        let mut fixture = Fixture::connected(&format!(r#""hits_addend": {cost},"#), LOCAL_HALF);
        fixture.request(ALICE, "alice");
        let effects = fixture.redis_replies(b"-ERR once\r\n");
        let decided = effects.iter().find_map(|effect| match effect {
            Effect::Decide(ALICE, decision) => Some(decision),
            _ => None,
        });
        let local = match decided.unwrap() {
            Decision::Admit(headers) => header(headers, LOCAL.0),
            Decision::Answer(reply) => reply.headers().find(|(name, _)| *name == LOCAL.0).map(|(_, value)| value),
            Decision::EndResponse => None,
        };
        assert_eq!(matches!(decided, Some(Decision::Admit(_))), passes, "cost {cost}");
        assert!(passes || local == LOCAL.1, "cost {cost}: {decided:?}");
    }
}

/// Limiter with a limit per user of failure mode `local`, and a limit per plan of this one.
fn with_plans(mode: &str) -> Fixture {
    let json = format!(
        r#"{{"redis": {{"cluster": "redis"}}, "overrides": {{"enabled": false}}, "local": {{"share": 0.5}}, "limits": [
            {{"name": "per_user", "descriptor": [{{"request_header": {{"name": "x-user-id"}}}}], "failure_mode": "local",
             "token_bucket": {{"max_tokens": 20, "tokens_per_fill": 100, "fill_interval": "60s"}}}},
            {{"name": "per_plan", "descriptor": [{{"request_header": {{"name": "x-plan"}}}}], "failure_mode": "{mode}",
             "token_bucket": {{"max_tokens": 20, "tokens_per_fill": 100, "fill_interval": "60s"}}}}]}}"#
    );
    let config = config::parse(json.as_bytes(), &|_| None).unwrap();
    let mut fixture = Fixture { limiter: Limiter::new(config, 1), now: Micros::from_secs(1), sent: Vec::new() };
    fixture.connect();
    fixture
}

#[test]
fn what_was_spent_has_the_limit_of_its_bucket() {
    let mut fixture = with_plans("local");
    fixture.loses_redis_for(MS(6_000));
    let of_plan = Request::default().header("x-plan", "gold");
    let step = fixture.limiter.request(fixture.now, ALICE, &of_plan);
    assert!(matches!(step, Step::Decided(Decision::Admit(_))), "{step:?}");
    let spent = fixture.limiter.local.as_mut().unwrap().take_spent(fixture.now);
    let limits: Vec<_> = spent.iter().map(|check| (check.limit, check.key.as_slice())).collect();
    assert_eq!(limits, [(1, &b"weir:per_plan:gold"[..])]);
}

#[test]
fn redis_decides_the_limits_of_other_failure_modes_as_soon_as_it_is_connected() {
    let mut fixture = with_plans("allow");
    fixture.loses_redis_for(MS(6_000));
    fixture.returns();
    assert!(matches!(fixture.request(ALICE, "alice"), Step::Decided(_)), "Redis has not answered the probe");
    let of_plan = Request::default().header("x-plan", "gold");
    assert_eq!(fixture.limiter.request(fixture.now, BOB, &of_plan), Step::Wait);
    assert!(fixture.sent().contains("weir:per_plan:gold"));
}

#[test]
fn a_warning_has_the_number_of_requests_that_the_worker_decides() {
    for (mode, is_local) in [(LOCAL_HALF, true), (r#""failure_mode": "allow","#, false)] {
        let mut fixture = Fixture::connected("", mode);
        fixture.loses_redis_for(Micros::ZERO);
        let mut warnings = Vec::new();
        for _ in 0..30 {
            fixture.now = fixture.now.plus(Micros::from_secs(1));
            fixture.request(ALICE, "alice");
            warnings.extend(fixture.tick().into_iter().filter_map(|effect| match effect {
                Effect::Warn(text) => Some(text),
                _ => None,
            }));
        }
        assert!(!warnings.is_empty());
        assert_eq!(warnings.iter().any(|text| text.contains(", decided locally: ")), is_local, "{warnings:?}");
    }
}
