//! Tests of requests near a limit, and of marks of requests beyond a limit.

use super::*;
use crate::limit::Mark;

const MARKS: &str = r#""on_exceed": {"mark": {"name": "X-Over-Limit", "value": "per_user"}},"#;

/// Reply of one limit that does not deny: the bucket is empty.
const BEYOND: &[u8] = b"*2\r\n:5\r\n:12000000\r\n";

/// Reply of one limit that admits: that many of its 20 tokens had been spent before.
fn admitted_after(spent: u64) -> Vec<u8> {
    format!("*2\r\n:5\r\n:{}\r\n", spent.saturating_mul(600_000)).into_bytes()
}

fn mark() -> Effect {
    let mark = Mark { name: "x-over-limit".to_owned(), value: "per_user".to_owned() };
    Effect::Mark(ALICE, alloc::sync::Arc::new(mark))
}

#[test]
fn an_admitted_request_that_leaves_less_than_the_rest_of_a_limit_is_near_it() {
    for (spent, is_near) in [(0, false), (15, false), (16, true), (19, true)] {
        let mut fixture = Fixture::connected(r#""near_limit": 0.8,"#, r#""emit_metadata": true,"#);
        assert_eq!(fixture.request(ALICE, "alice"), Step::Wait);
        let effects = fixture.redis_replies(&admitted_after(spent));
        let Effect::Annotate(ALICE, entries) = &effects[0] else { panic!("{effects:?}") };
        let near = entries.iter().find(|(name, _)| *name == "weir.near").map(|(_, limit)| limit.as_str());
        assert_eq!(near, is_near.then_some("per_user"), "{spent} tokens were spent");
        let counted = ["weir.limit.per_user.admitted 1", "weir.limit.per_user.near 1", "weir.requests.admitted 1"];
        let expected: Vec<&str> = counted.into_iter().filter(|name| is_near || !name.contains("near")).collect();
        assert_eq!(fixture.counted(), expected, "{spent} tokens were spent");
    }
}

#[test]
fn a_denied_request_and_one_of_a_limit_without_a_share_are_near_nothing() {
    for (of_limit, reply) in [(r#""near_limit": 0.8,"#, DENIED.to_vec()), ("", admitted_after(19))] {
        let mut fixture = Fixture::connected(of_limit, "");
        assert_eq!(fixture.request(ALICE, "alice"), Step::Wait);
        fixture.redis_replies(&reply);
        assert!(!fixture.counted().iter().any(|name| name.contains("near")), "{of_limit}");
    }
}

#[test]
fn a_request_beyond_a_limit_that_marks_is_passed_on_with_the_mark() {
    let mut fixture = Fixture::connected(MARKS, "");
    assert_eq!(fixture.request(ALICE, "alice"), Step::Wait);
    let effects = fixture.redis_replies(BEYOND);
    assert_eq!(effects, [mark(), Effect::Decide(ALICE, Decision::Admit(Vec::new()))]);
    assert_eq!(fixture.counted(), ["weir.limit.per_user.marked 1", "weir.requests.admitted 1"]);
    assert_eq!(fixture.request(ALICE, "alice"), Step::Wait, "no denial is repeated from memory");
    let effects = fixture.redis_replies(ADMITTED);
    assert!(!effects.contains(&mark()), "{effects:?}");
}

#[test]
fn a_limit_of_zero_marks_every_request_without_redis() {
    let zero = format!(r#"{MARKS} "quota": {{"max_requests": 0, "unit": "day"}}"#);
    let mut fixture = Fixture::of(&zero, "");
    assert_eq!(fixture.request(ALICE, "alice"), Step::Decided(Decision::Admit(Vec::new())));
    assert_eq!((fixture.effects(), fixture.sent()), (vec![mark()], String::new()));
    assert_eq!(fixture.counted(), ["weir.limit.per_user.marked 1", "weir.requests.admitted 1"]);
}

#[test]
fn a_limit_in_shadow_mode_marks_nothing() {
    for (of_limit, of_filter) in [(r#""shadow_mode": true,"#, ""), ("", r#""shadow_mode": true,"#)] {
        let mut fixture = Fixture::connected(&[MARKS, of_limit].concat(), of_filter);
        assert_eq!(fixture.request(ALICE, "alice"), Step::Wait);
        assert_eq!(fixture.redis_replies(BEYOND), [Effect::Decide(ALICE, Decision::Admit(Vec::new()))]);
        assert_eq!(fixture.counted(), ["weir.limit.per_user.shadow_denied 1", "weir.requests.admitted 1"]);
    }
}

#[test]
fn another_limit_still_denies_a_request_beyond_one_that_marks() {
    let other = r#"{"name": "all", "descriptor": [], "token_bucket": {"max_tokens": 20, "fill_interval": "60s"}}"#;
    let bucket = r#""token_bucket": {"max_tokens": 20, "tokens_per_fill": 100, "fill_interval": "60s"}"#;
    let mut fixture = Fixture::of(&format!("{MARKS} {bucket}}}, {}", &other[..other.len() - 1]), "");
    fixture.connect();
    assert_eq!(fixture.request(ALICE, "alice"), Step::Wait);
    let effects = fixture.redis_replies(b"*3\r\n:-5\r\n:12000000\r\n:1200000000\r\n");
    assert!(matches!(&effects[..], [Effect::Decide(ALICE, Decision::Answer(_))]), "{effects:?}");
    let counted = ["weir.limit.all.denied 1", "weir.limit.per_user.marked 1", "weir.requests.denied 1"];
    assert_eq!(fixture.counted(), counted);
}

#[test]
fn a_request_that_another_limit_denies_is_near_nothing() {
    let other = r#"{"name": "all", "descriptor": [], "token_bucket": {"max_tokens": 20, "fill_interval": "60s"}}"#;
    let bucket = r#""token_bucket": {"max_tokens": 20, "tokens_per_fill": 100, "fill_interval": "60s"}"#;
    let near = r#""near_limit": 0.8,"#;
    let mut fixture = Fixture::of(&format!("{near} {bucket}}}, {}", &other[..other.len() - 1]), "");
    fixture.connect();
    assert_eq!(fixture.request(ALICE, "alice"), Step::Wait);
    let effects = fixture.redis_replies(b"*3\r\n:-5\r\n:11400000\r\n:1200000000\r\n");
    assert!(matches!(&effects[..], [Effect::Decide(ALICE, Decision::Answer(_))]), "{effects:?}");
    assert_eq!(fixture.counted(), ["weir.limit.all.denied 1", "weir.requests.denied 1"]);
}

#[test]
fn a_request_is_near_each_limit_by_itself() {
    let all = r#"{"name": "all", "descriptor": [], "near_limit": 0.8,
        "token_bucket": {"max_tokens": 20, "tokens_per_fill": 100, "fill_interval": "60s"}}"#;
    let per_user = r#""token_bucket": {"max_tokens": 20, "fill_interval": "60s"}}, "#;
    let limits = [per_user, &all[..all.len() - 1]].concat();
    let mut fixture = Fixture::of(&limits, "");
    fixture.connect();
    fixture.request(ALICE, "alice");
    fixture.redis_replies(b"*3\r\n:5\r\n:0\r\n:11400000\r\n");
    assert!(fixture.counted().contains(&"weir.limit.all.near 1".to_owned()));
}
