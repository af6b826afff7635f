//! Conversations in which a connection is lost or given up.

use weir_filter::{
    redis::{Call, Failure},
    units::Micros,
};

use crate::conversation::{Conversation, config, ms, ok};

#[test]
fn a_call_is_not_retried_after_a_reset() {
    let mut it = Conversation::connected(config());
    it.asks(1).unwrap();
    it.asks(2).unwrap();
    it.redis_says(":1\r\n*2\r\n:1");
    it.redis_closes();
    assert_eq!(it.completed(), [(1, ok(1)), (2, Err(Failure::Reset))]);
    assert_eq!(it.trouble().failure, Failure::Reset);
    it.sent();
    it.passes(ms(50));
    it.redis_says("+PONG\r\n");
    assert_eq!((it.streams(), it.sent()), (vec!["open"], vec!["PING".to_owned()]));
}

#[test]
fn a_connection_to_a_replica_is_closed_and_replaced() {
    let mut it = Conversation::connected(config());
    for ticket in 1..=4 {
        it.asks(ticket).unwrap();
    }
    it.redis_says("-READONLY You can't write against a read only replica.\r\n");
    assert_eq!(it.completed(), [(1, Err(Failure::NotReady))]);
    assert_eq!(it.asks(5), Err(Failure::NotReady));
    it.redis_says("-READONLY You can't write against a read only replica.\r\n:3\r\n");
    assert_eq!(it.completed(), [(2, Err(Failure::NotReady)), (3, ok(3))], "calls in flight may still be answered");
    assert_eq!(it.trouble().failure, Failure::NotReady);
    it.ticks();
    assert_eq!(it.completed(), [(4, Err(Failure::Reset))]);
    assert_eq!(it.streams(), ["close"]);
    it.passes(ms(50));
    it.redis_says("+PONG\r\n");
    assert_eq!(it.streams(), ["open"]);
    it.asks(6).unwrap();
}

#[test]
fn lost_permissions_fail_calls_with_auth() {
    let mut it = Conversation::connected(config());
    it.asks(1).unwrap();
    it.asks(2).unwrap();
    it.redis_says("-NOPERM this user has no permissions to access one of the keys\r\n");
    assert!(it.session.is_connected(), "other keys may be permitted");
    it.redis_says("-NOAUTH Authentication required.\r\n");
    assert!(!it.session.is_connected(), "no call can succeed on this connection");
    assert_eq!(it.completed(), [(1, Err(Failure::Auth)), (2, Err(Failure::Auth))]);
    it.passes(ms(2_000));
    assert_eq!(it.streams(), ["close"]);
}

#[test]
fn garbage_closes_the_stream() {
    let mut it = Conversation::connected(config());
    it.asks(1).unwrap();
    it.asks(2).unwrap();
    it.redis_says(":1\r\nHTTP/1.1 400 Bad Request\r\n");
    assert_eq!(it.completed(), [(1, ok(1)), (2, Err(Failure::Protocol))]);
    assert_eq!(it.trouble().failure, Failure::Protocol);
    it.redis_says(":2\r\n");
    assert_eq!(it.asks(3), Err(Failure::Unavailable));
    it.ticks();
    assert_eq!(it.streams(), ["close"]);
    it.passes(ms(50));
    it.redis_says("+PONG\r\n");
    it.asks(4).unwrap();
    it.redis_says(":4\r\n");
    assert_eq!(it.completed(), [(4, ok(4))], "bytes of the old stream are dropped");
}

#[test]
fn a_reply_without_a_call_closes_the_stream() {
    let mut it = Conversation::connected(config());
    it.redis_says(":1\r\n");
    assert_eq!(it.trouble().failure, Failure::Protocol);
    it.ticks();
    assert_eq!(it.streams(), ["close"]);
}

#[test]
fn a_silent_stream_is_replaced() {
    let mut it = Conversation::connected(config());
    it.asks(1).unwrap();
    it.passes(ms(980));
    it.asks(2).unwrap();
    it.passes(ms(19));
    assert_eq!(it.completed(), [(1, Err(Failure::Timeout))]);
    assert!(it.streams().is_empty());
    it.passes(ms(1));
    assert_eq!(it.completed(), [(2, Err(Failure::Reset))]);
    assert_eq!((it.streams(), it.trouble().failure), (vec!["close"], Failure::Timeout));
    assert_eq!(it.asks(3), Err(Failure::Unavailable));
}

/// The host writes what was sent, and reads the reply, in turns of its event loop that take longer than the silence.
#[test]
fn the_turns_of_a_busy_host_do_not_count_as_silence() {
    for turn in [1_000, 3_000] {
        let mut it = Conversation::connected(config());
        it.asks(1).unwrap();
        for span in [turn, turn, 1, 1, 40] {
            it.now = it.now.plus(ms(span));
            it.ticks();
        }
        assert!(it.streams().is_empty(), "turns of {turn} ms");
        it.redis_says(":1\r\n");
        assert_eq!(it.completed(), [(1, ok(1))]);
    }
}

#[test]
fn a_silent_stream_is_replaced_after_a_busy_turn_as_well() {
    let mut it = Conversation::connected(config());
    it.asks(1).unwrap();
    it.now = it.now.plus(ms(3_000));
    let millis = (1..).find(|_| {
        it.now = it.now.plus(ms(1));
        it.ticks();
        it.streams() == ["close"]
    });
    assert!((900..=1_000).contains(&millis.unwrap()), "{millis:?}");
    assert_eq!(it.completed(), [(1, Err(Failure::Timeout))]);
}

#[test]
fn a_host_that_is_always_busy_replaces_a_silent_stream_too() {
    for turn in [100, 3_000] {
        let mut it = Conversation::connected(config());
        it.asks(1).unwrap();
        let turns = (1..).find(|_| {
            it.now = it.now.plus(ms(turn));
            it.ticks();
            it.streams() == ["close"]
        });
        assert!((7..=100).contains(&turns.unwrap()), "{turns:?} turns of {turn} ms");
    }
}

#[test]
fn the_turns_of_a_busy_host_do_not_count_against_the_time_for_the_handshake() {
    let mut it = Conversation::new(config());
    it.asks(1).unwrap();
    it.ticks();
    assert_eq!(it.streams(), ["open"]);
    for span in [3_000, 3_000].into_iter().chain([10; 10]) {
        it.now = it.now.plus(ms(span));
        it.ticks();
    }
    assert!(it.streams().is_empty());
    it.redis_says("+PONG\r\n");
    assert!(it.session.is_connected());
}

#[test]
fn a_host_that_is_always_busy_gives_up_a_handshake_too() {
    let mut it = Conversation::new(config());
    it.asks(1).unwrap();
    it.ticks();
    assert_eq!(it.streams(), ["open"]);
    let turns = (1..).find(|_| {
        it.now = it.now.plus(ms(100));
        it.ticks();
        it.streams() == ["close"]
    });
    assert!((9..=100).contains(&turns.unwrap()), "{turns:?}");
}

#[test]
fn a_slow_redis_does_not_count_as_silent() {
    let mut it = Conversation::connected(config());
    for ticket in 1..=100 {
        it.asks(ticket).unwrap();
        it.passes(ms(100));
        it.redis_says(format!(":{ticket}\r\n"));
    }
    assert!(it.streams().is_empty());
}

#[test]
fn a_replica_that_answers_reads_does_not_reset_the_backoff() {
    let mut it = Conversation::connected(config());
    let mut wait = Micros::ZERO;
    for _ in 0..10 {
        it.asks(1).unwrap();
        it.submits(2, Call::command(&["GET", "k"])).unwrap();
        it.redis_says("-READONLY You can't write against a read only replica.\r\n$-1\r\n");
        let lost_at = it.now;
        it.ticks();
        it.passes_to_next_tick();
        wait = it.now.minus(lost_at);
        it.redis_says("+PONG\r\n");
    }
    assert!(wait > Micros::from_secs(2), "tried again after {wait:?} only");
}
