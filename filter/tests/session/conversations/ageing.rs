//! Conversations in which an old connection is replaced.

use weir_filter::units::Micros;

use crate::conversation::{Conversation, config, ms, ok};

const MAX_AGE: Micros = Micros::from_secs(300);

#[test]
fn an_old_connection_is_replaced_without_a_request_failing() {
    let mut it = Conversation::connected(config());
    let mut replaced = 0;
    for ticket in 1..=10_000 {
        it.asks(ticket).unwrap();
        it.passes(ms(10));
        if it.streams() == ["close", "open"] {
            replaced += 1;
            it.redis_says("+PONG\r\n");
        }
        it.redis_says(format!(":{ticket}\r\n"));
        assert_eq!(it.completed(), [(ticket, ok(i64::from(ticket)))]);
        it.passes(ms(90));
        if it.streams() == ["close", "open"] {
            replaced += 1;
            it.redis_says("+PONG\r\n");
        }
    }
    assert!((3..=4).contains(&replaced), "{replaced} times in 1,000 s");
}

#[test]
fn requests_wait_while_an_old_connection_drains() {
    let mut it = Conversation::connected(config());
    it.now = it.now.plus(MAX_AGE);
    it.asks(1).unwrap();
    it.ticks();
    it.sent();
    it.asks(2).unwrap();
    assert_eq!((it.sent(), it.streams()), (vec![], vec![]));
    it.redis_says(":1\r\n");
    assert_eq!(it.session.next_tick(it.now), Some(it.now));
    it.ticks();
    assert_eq!((it.streams(), it.sent()), (vec!["close", "open"], vec!["PING".to_owned()]));
    it.redis_says("+PONG\r\n");
    it.redis_says(":2\r\n");
    assert_eq!(it.completed(), [(1, ok(1)), (2, ok(2))]);
    assert!(it.troubles().is_empty());
}

#[test]
fn a_connection_that_does_not_drain_is_kept_for_now() {
    let mut it = Conversation::connected(config());
    it.now = it.now.plus(MAX_AGE);
    it.asks(1).unwrap();
    it.ticks();
    it.asks(2).unwrap();
    it.sent();
    it.passes(ms(13));
    assert_eq!((it.sent(), it.streams()), (vec!["EVALSHA SHA 1 k2 1".to_owned()], vec![]));
    it.redis_says(":1\r\n:2\r\n");
    assert_eq!(it.completed(), [(1, ok(1)), (2, ok(2))]);
    it.passes(Micros::from_secs(15));
    assert_eq!(it.streams(), ["close", "open"]);
}

#[test]
fn redis_may_close_an_old_connection_first() {
    let mut it = Conversation::connected(config());
    it.now = it.now.plus(MAX_AGE);
    it.asks(1).unwrap();
    it.ticks();
    it.asks(2).unwrap();
    it.redis_says(":1\r\n");
    it.redis_closes();
    it.ticks();
    it.redis_says("+PONG\r\n");
    it.redis_says(":2\r\n");
    assert_eq!(it.completed(), [(1, ok(1)), (2, ok(2))]);
}

#[test]
fn requests_wait_until_the_new_connection_is_proven() {
    let mut it = Conversation::connected(config());
    it.now = it.now.plus(MAX_AGE);
    it.ticks();
    assert_eq!(it.streams(), ["close", "open"]);
    it.asks(1).unwrap();
    it.redis_says("+PONG\r\n");
    it.redis_says(":1\r\n");
    assert_eq!(it.completed(), [(1, ok(1))]);
}
