//! Tests of what a worker does at the ends of outages, and without requests.

use super::*;
use crate::redis::Ticket;

#[test]
fn a_last_post_that_redis_refuses_is_sent_again_after_a_new_probe() {
    let mut fixture = Fixture::connected("", LOCAL_HALF);
    fixture.loses_redis_for(MS(6_000));
    assert_eq!(fixture.admitted_at_once("alice"), 5);
    fixture.returns();
    fixture.redis_replies(b":1\r\n");
    assert_eq!(fixture.admitted_at_once("bob"), 5, "while the first post is in flight");
    fixture.limiter.redis().handle_bytes(fixture.now, b":1\r\n");
    core::iter::from_fn(|| fixture.limiter.poll(fixture.now)).for_each(drop);
    assert!(fixture.sent().contains("bob"), "the worker returns");
    fixture.redis_replies(b"-OOM command not allowed\r\n");
    let sent = fixture.sent_for(MS(60));
    assert!(sent.contains(PING) && sent.contains("weir:per_user:bob\r\n"), "{sent}");
}

#[test]
fn a_worker_without_requests_asks_redis_nothing_when_its_connection_is_lost() {
    let mut fixture = Fixture::new("", LOCAL_HALF);
    let local = fixture.limiter.local.as_mut().unwrap();
    local.on_idle_loss(fixture.now);
    assert!(local.due_probe(fixture.now.plus(Micros::from_secs(9)), Ticket(1)).is_none());
}

#[test]
fn the_proxy_ticks_for_the_next_heartbeat() {
    let mut fixture = Fixture::new("", r#""failure_mode": "local","#);
    let due = |fixture: &Fixture| fixture.limiter.local.as_ref().unwrap().grants.as_ref().unwrap().next_due();
    assert_eq!(due(&fixture), None, "no request has come yet");
    fixture.request(ALICE, "alice");
    assert_eq!(due(&fixture), Some(fixture.now));
    assert!(fixture.limiter.next_tick(fixture.now).is_some_and(|at| at <= fixture.now));
}

#[test]
fn a_worker_returns_once_redis_has_answered_all_of_its_posts() {
    let mut fixture = Fixture::connected("", LOCAL_HALF);
    fixture.loses_redis_for(MS(6_000));
    for user in 0..65 {
        let step = fixture.request(RequestId(200 + user), &format!("user {user}"));
        assert!(matches!(step, Step::Decided(Decision::Admit(_))), "{step:?}");
    }
    fixture.returns();
    fixture.limiter.redis().handle_bytes(fixture.now, b":1\r\n");
    core::iter::from_fn(|| fixture.limiter.poll(fixture.now)).for_each(drop);
    assert_eq!(fixture.sent().matches("weir:per_user:user%20").count(), 65, "64 in one post, 1 in another");
    fixture.redis_replies(b":1\r\n");
    assert!(matches!(fixture.request(ALICE, "alice"), Step::Decided(_)), "one is answered");
    fixture.limiter.redis().handle_bytes(fixture.now, b":1\r\n");
    core::iter::from_fn(|| fixture.limiter.poll(fixture.now)).for_each(drop);
    assert!(fixture.sent().contains("weir:per_user:alice\r\n"), "what was spent meanwhile is posted");
}

#[test]
fn the_proxy_ticks_for_the_next_ping_and_for_the_next_probe() {
    let mut fixture = Fixture::connected("", LOCAL_HALF);
    let due = |fixture: &Fixture| fixture.limiter.next_tick(fixture.now);
    assert_eq!(due(&fixture), Some(fixture.now.plus(MS(350))));
    fixture.loses_redis_for(Micros::ZERO);
    fixture.effects();
    assert!(due(&fixture).is_some_and(|at| at <= fixture.now.plus(MS(50))));
}

#[test]
fn a_ping_that_fails_is_sent_again() {
    let mut fixture = Fixture::connected("", LOCAL_HALF);
    fixture.now = fixture.now.plus(MS(350));
    fixture.limiter.tick(fixture.now);
    assert!(fixture.sent().contains(PING));
    fixture.redis_replies(b"-OOM command not allowed\r\n");
    assert_eq!(fixture.request(ALICE, "alice"), Step::Wait, "Redis is not lost");
    assert!(fixture.sent_for(MS(50)).contains(PING));
}

#[test]
fn a_worker_connects_again_within_a_fifth_of_a_second_however_often_it_has_failed() {
    let mut fixture = Fixture::connected("", LOCAL_HALF);
    fixture.loses_redis_for(Micros::ZERO);
    for nth in 0..9 {
        let since = fixture.now;
        while !fixture.tick().contains(&Effect::OpenStream) {
            fixture.now = fixture.now.plus(MS(10));
        }
        assert!(fixture.now.minus(since) <= MS(210), "{nth}: {:?}", fixture.now.minus(since));
        fixture.limiter.redis().handle_open_failed(fixture.now, crate::redis::Refusal::Internal);
        fixture.effects();
    }
}

#[test]
fn a_worker_without_requests_notices_that_redis_cannot_be_reached() {
    let mut fixture = Fixture::connected("", LOCAL_HALF);
    let is_lost = |fixture: &Fixture| fixture.limiter.local.as_ref().unwrap().cause().is_some();
    fixture.limiter.redis().handle_closed(fixture.now);
    fixture.effects();
    fixture.tick();
    assert_eq!(fixture.tick(), [Effect::OpenStream], "the ping connects again");
    assert!(!is_lost(&fixture));
    fixture.limiter.redis().handle_open_failed(fixture.now, crate::redis::Refusal::Internal);
    fixture.effects();
    assert!(is_lost(&fixture));
}
