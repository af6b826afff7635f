//! Tests of checks in a Redis Cluster, whose parts have keys of one hash slot each.

use super::*;
use crate::redis::hash_slot;

const USER: &str = "weir:{per_user:alice}";
const ALL: &str = "weir:{all:}";
/// Error of a node whose hash slot is moving to another node.
const MOVING: &[u8] = b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n";

/// Limiter of a cluster with two limits, in different hash slots, the second with further fields.
fn cluster(windows_of_user: &str, of_all: &str) -> Fixture {
    let json = format!(
        r#"{{"redis": {{"cluster": "redis", "topology": "cluster"}}, "overrides": {{"enabled": false}}, "limits": [
            {{"name": "per_user", "descriptor": [{{"request_header": {{"name": "x-user-id"}}}}], {windows_of_user}}},
            {{"name": "all", "descriptor": [], {of_all} "token_bucket": {{"max_tokens": 20, "fill_interval": "60s"}}}}]}}"#
    );
    let config = config::parse(json.as_bytes(), &|_| None).unwrap();
    let mut fixture = Fixture { limiter: Limiter::new(config, 1), now: Micros::from_secs(1), sent: Vec::new() };
    assert_eq!(fixture.request(RequestId(0), "warm-up"), Step::Wait);
    assert_eq!(fixture.tick(), [Effect::OpenStream]);
    fixture.redis_replies(PONG);
    fixture.limiter.done(fixture.now, RequestId(0));
    fixture.redis_replies(b"-ERR warming up\r\n");
    fixture.sent();
    fixture.counted();
    fixture
}

fn of_both(of_all: &str) -> Fixture {
    cluster(r#""token_bucket": {"max_tokens": 20, "tokens_per_fill": 100, "fill_interval": "60s"}"#, of_all)
}

/// Returns which of these keys were sent to Redis since the last time.
fn keys<const N: usize>(fixture: &mut Fixture, keys: [&str; N]) -> [bool; N] {
    let sent = fixture.sent();
    keys.map(|key| sent.contains(&format!("\r\n{key}\r\n")))
}

#[test]
fn keys_of_another_hash_slot_are_sent_once_those_of_the_first_have_admitted() {
    assert_ne!(hash_slot(USER.as_bytes()), hash_slot(ALL.as_bytes()));
    let mut fixture = of_both("");
    assert_eq!(fixture.request(ALICE, "alice"), Step::Wait);
    assert_eq!(keys(&mut fixture, [USER, ALL]), [true, false]);
    assert_eq!(fixture.redis_replies(ADMITTED), []);
    assert_eq!(keys(&mut fixture, [USER, ALL]), [false, true]);
    let effects = fixture.redis_replies(ADMITTED);
    assert!(matches!(effects[..], [Effect::Decide(ALICE, Decision::Admit(_))]), "{effects:?}");
    assert_eq!(fixture.sent(), "");
}

#[test]
fn a_request_denied_by_the_failure_of_a_later_part_gets_back_what_it_spent() {
    for (mode, is_denied) in [("deny", true), ("allow", false)] {
        let mut fixture = of_both(&format!(r#""failure_mode": "{mode}","#));
        fixture.request(ALICE, "alice");
        assert_eq!(fixture.redis_replies(ADMITTED), []);
        let effects = fixture.redis_replies(b"-ERR broken\r\n");
        let is_answered = |effect: &Effect| matches!(effect, Effect::Decide(ALICE, Decision::Answer(_)));
        assert_eq!(effects.iter().any(is_answered), is_denied, "{mode}: {effects:?}");
        assert_eq!(keys(&mut fixture, [USER, ALL]), [is_denied, false], "{mode}");
    }
}

#[test]
fn while_a_hash_slot_moves_each_of_its_keys_is_asked_for_alone_and_once() {
    let windows = r#""windows": [{"fixed_window": {"max_requests": 5, "window": "1s"}},
                                 {"fixed_window": {"max_requests": 9, "window": "60s"}}]"#;
    let mut fixture = cluster(windows, "");
    fixture.request(ALICE, "alice");
    let count = |sent: String| sent.matches(USER).count();
    assert_eq!(count(fixture.sent()), 2, "both windows");
    let effects = fixture.redis_replies(MOVING);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Decide(..))), "{effects:?}");
    assert_eq!(count(fixture.sent()), 1, "the first window");
    fixture.redis_replies(MOVING);
    assert_eq!(count(fixture.sent()), 1, "the second window");
    fixture.redis_replies(MOVING);
    assert_eq!(keys(&mut fixture, [USER, ALL]), [false, true]);
    let effects = fixture.redis_replies(MOVING);
    assert!(effects.contains(&Effect::Decide(ALICE, Decision::Admit(Vec::new()))), "{effects:?}");
    assert_eq!(fixture.sent(), "");
}

#[test]
fn a_single_key_whose_hash_slot_moves_is_not_asked_for_again() {
    let mut fixture = of_both("");
    fixture.request(ALICE, "alice");
    assert_eq!(keys(&mut fixture, [USER, ALL]), [true, false]);
    fixture.redis_replies(MOVING);
    assert_eq!(keys(&mut fixture, [USER, ALL]), [false, true], "the failure mode of the first part admits");
}

#[test]
fn what_a_request_gets_back_is_no_loss() {
    let mut fixture = of_both(r#""failure_mode": "deny","#);
    let of_user = |spent: u64| format!("*2\r\n:5000000\r\n:{spent}\r\n").into_bytes();
    fixture.request(ALICE, "alice");
    assert_eq!(fixture.redis_replies(&of_user(6_000_000)), []);
    let effects = fixture.redis_replies(b"-ERR broken\r\n");
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Decide(ALICE, Decision::Answer(_)))), "{effects:?}");
    assert_eq!(keys(&mut fixture, [USER, ALL]), [true, false], "the token is given back");
    fixture.redis_replies(b"$1\r\n1\r\n");
    fixture.request(BOB, "alice");
    fixture.sent();
    fixture.limiter.redis().handle_bytes(fixture.now, &of_user(6_000_000));
    assert_eq!(fixture.limiter.poll(fixture.now), None);
    assert_eq!(keys(&mut fixture, [USER, ALL]), [false, true], "nothing is healed");
}

#[test]
fn the_time_of_a_decision_is_that_of_the_last_part_that_redis_has_decided() {
    let json = r#"{"redis": {"cluster": "redis", "topology": "cluster"}, "overrides": {"enabled": false},
        "emit_metadata": true, "limits": [
        {"name": "per_user", "descriptor": [{"request_header": {"name": "x-user-id"}}],
         "token_bucket": {"max_tokens": 20, "tokens_per_fill": 100, "fill_interval": "60s"}},
        {"name": "all", "descriptor": [], "token_bucket": {"max_tokens": 20, "fill_interval": "60s"}}]}"#;
    let config = config::parse(json.as_bytes(), &|_| None).unwrap();
    let mut fixture = Fixture { limiter: Limiter::new(config, 1), now: Micros::from_secs(1), sent: Vec::new() };
    fixture.request(ALICE, "alice");
    assert_eq!(fixture.tick(), [Effect::OpenStream]);
    fixture.redis_replies(PONG);
    assert_eq!(fixture.redis_replies(ADMITTED), []);
    let effects = fixture.redis_replies(b"-ERR broken\r\n");
    let mut entries = Vec::new();
    for effect in &effects {
        if let Effect::Annotate(ALICE, of) = effect {
            entries.extend(of);
        }
    }
    let times: Vec<&str> = entries
        .into_iter()
        .filter(|(name, _)| *name == "weir.redis_unix_time_us")
        .map(|(_, time)| time.as_str())
        .collect();
    assert_eq!(times, ["5"]);
}

/// An override that blocks a key is believed for a second. Here, that of the user is deleted meanwhile.
#[test]
fn redis_is_asked_about_each_key_that_an_override_blocks_in_its_own_hash_slot() {
    let json = r#"{"redis": {"cluster": "redis", "topology": "cluster"}, "overrides": {"refresh_interval": "3600s"},
        "limits": [{"name": "per_user", "descriptor": [{"request_header": {"name": "x-user-id"}}],
            "token_bucket": {"max_tokens": 20, "fill_interval": "60s"}},
        {"name": "all", "descriptor": [], "token_bucket": {"max_tokens": 20, "fill_interval": "60s"}}]}"#;
    let config = config::parse(json.as_bytes(), &|_| None).unwrap();
    let mut fixture = Fixture { limiter: Limiter::new(config, 1), now: Micros::from_secs(1), sent: Vec::new() };
    assert_eq!(fixture.request(RequestId(0), "warm-up"), Step::Wait);
    assert_eq!(fixture.tick(), [Effect::OpenStream]);
    fixture.redis_replies(PONG);
    fixture.limiter.done(fixture.now, RequestId(0));
    fixture.redis_replies(b"-ERR warming up\r\n-ERR no page of overrides\r\n");
    let known = fixture.limiter.key_overrides.as_mut().unwrap();
    for key in [USER, ALL] {
        known.tell(fixture.now, None, key.as_bytes(), br#"{"is": "blocked"}"#).unwrap();
    }
    fixture.now = fixture.now.plus(Micros::from_secs(2));
    let probes = [USER, ALL].map(|key| format!("{key}#none"));
    let probes = probes.each_ref().map(String::as_str);
    assert_eq!(fixture.request(ALICE, "alice"), Step::Wait);
    assert_eq!(keys(&mut fixture, probes), [true, false]);
    fixture.limiter.redis().handle_bytes(fixture.now, b"*1\r\n$0\r\n\r\n");
    assert_eq!(fixture.limiter.poll(fixture.now), None);
    assert_eq!(keys(&mut fixture, probes), [false, true]);
}

#[test]
fn a_request_that_ends_between_two_parts_gives_back_what_it_spent() {
    let mut fixture = of_both("");
    fixture.request(BOB, "bob");
    assert!(!fixture.limiter.done(fixture.now, BOB), "no part has admitted it");
    fixture.redis_replies(ADMITTED);
    fixture.request(ALICE, "alice");
    fixture.redis_replies(ADMITTED);
    assert!(fixture.limiter.done(fixture.now, ALICE));
    assert_eq!(keys(&mut fixture, [USER, ALL]), [true, false]);
}

#[test]
fn a_request_that_the_first_part_denies_is_denied_at_once() {
    let mut fixture = of_both("");
    fixture.request(ALICE, "alice");
    fixture.sent();
    let effects = fixture.redis_replies(DENIED);
    assert!(matches!(effects[..], [Effect::Decide(ALICE, Decision::Answer(_))]), "{effects:?}");
    assert_eq!(fixture.sent(), "");
}
