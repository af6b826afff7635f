//! Conversations in which a session connects and reconnects.

use weir_filter::{
    redis::{Credentials, Failure, Secret, SessionConfig},
    units::Micros,
};

use crate::conversation::{Conversation, TIMEOUT, config, ms, ok, with_password};

#[test]
fn nothing_is_opened_before_the_first_request() {
    let mut it = Conversation::new(config());
    assert_eq!(it.session.next_tick(it.now), None);
    it.passes(Micros::from_secs(1_000));
    assert!(it.streams().is_empty());
}

#[test]
fn the_first_request_waits_for_a_proven_connection() {
    let mut it = Conversation::new(config());
    it.asks(1).unwrap();
    assert!(it.streams().is_empty(), "only a tick may open");
    assert_eq!(it.session.next_tick(it.now), Some(it.now));
    it.ticks();
    assert_eq!((it.streams(), it.sent()), (vec!["open"], vec!["PING".to_owned()]));
    it.redis_says("+PONG\r\n");
    assert!(it.session.is_connected());
    assert_eq!(it.sent(), ["EVALSHA SHA 1 k1 1"]);
    it.redis_says(":9\r\n");
    assert_eq!(it.completed(), [(1, ok(9))]);
}

#[test]
fn while_redis_is_down_requests_are_refused_at_once_and_none_is_a_probe() {
    let mut it = Conversation::connected(config());
    it.asks(1).unwrap();
    it.redis_closes();
    assert_eq!(it.asks(2), Err(Failure::Unavailable));
    it.passes(ms(50));
    assert_eq!(it.streams(), ["open"]);
    assert_eq!(it.asks(3), Err(Failure::Unavailable), "not before the new connection is proven");
    it.redis_says("+PONG\r\n");
    it.asks(4).unwrap();
    it.redis_says(":4\r\n");
    assert_eq!(it.completed(), [(1, Err(Failure::Reset)), (4, ok(4))]);
}

#[test]
fn attempts_become_rarer_while_redis_stays_down() {
    let mut it = Conversation::new(config());
    it.asks(1).unwrap();
    let mut attempts = 0;
    let end = it.now.plus(Micros::from_secs(60));
    while it.now < end {
        it.passes_to_next_tick();
        if it.streams().contains(&"open") {
            attempts += 1;
            it.redis_closes();
        }
    }
    assert_eq!(it.completed(), [(1, Err(Failure::Unavailable))]);
    assert!((15..=35).contains(&attempts), "{attempts} attempts in a minute");
}

#[test]
fn a_connection_that_answers_only_ping_does_not_reset_the_backoff() {
    let mut it = Conversation::connected(config());
    let mut waits = Vec::new();
    for ticket in 1..10 {
        it.asks(ticket).unwrap();
        it.redis_closes();
        let lost_at = it.now;
        it.passes_to_next_tick();
        waits.push(it.now.minus(lost_at));
        it.redis_says("+PONG\r\n");
    }
    assert!(waits.last().is_some_and(|&wait| wait > Micros::from_secs(2)), "{waits:?}");
    it.asks(10).unwrap();
    it.redis_says(":10\r\n");
    it.asks(11).unwrap();
    it.redis_closes();
    let lost_at = it.now;
    it.passes_to_next_tick();
    assert!(it.now.minus(lost_at) <= ms(50), "an answered call resets the backoff");
}

#[test]
fn a_stream_that_the_host_cannot_open_fails_the_waiting_calls() {
    let mut it = Conversation::new(config());
    it.asks(1).unwrap();
    it.ticks();
    it.host_cannot_open();
    assert_eq!(it.completed(), [(1, Err(Failure::Unavailable))]);
    assert_eq!(it.asks(2), Err(Failure::Unavailable));
    it.passes(ms(50));
    assert_eq!(it.streams(), ["open", "open"]);
}

#[test]
fn a_connection_without_a_reply_to_the_handshake_is_closed() {
    let mut it = Conversation::new(config());
    it.asks(1).unwrap();
    it.passes(TIMEOUT);
    assert_eq!(it.completed(), [(1, Err(Failure::Timeout))]);
    it.passes(ms(1_000));
    assert_eq!(it.streams()[..2], ["open", "close"]);
    assert_eq!(it.trouble().failure, Failure::Unavailable);
    assert_eq!(it.asks(2), Err(Failure::Unavailable));
}

#[test]
fn a_tick_longer_than_the_timeout_still_connects() {
    let mut it = Conversation::new(config());
    it.asks(1).unwrap();
    it.now = it.now.plus(TIMEOUT).plus(TIMEOUT);
    it.ticks();
    assert_eq!((it.completed(), it.streams()), (vec![], vec!["open"]), "replies that have arrived are read first");
    for _ in 0..7 {
        it.now = it.now.plus(TIMEOUT);
        it.ticks();
        assert_eq!(it.completed(), [], "a busy host has not connected yet");
    }
    it.redis_says("+PONG\r\n");
    assert_eq!(it.sent(), ["PING", "EVALSHA SHA 1 k1 1"]);
    it.redis_says(":9\r\n");
    assert_eq!(it.completed(), [(1, ok(9))]);
}

#[test]
fn calls_are_given_up_if_the_host_does_not_connect_in_a_few_ticks() {
    for (span, ticks) in [(ms(5), 12), (TIMEOUT.plus(ms(25)), 9)] {
        let mut it = Conversation::new(config());
        it.asks(1).unwrap();
        it.ticks();
        let mut waited = 1;
        while it.completed().is_empty() {
            it.now = it.now.plus(span);
            it.ticks();
            waited += 1;
        }
        assert_eq!(waited, ticks, "with ticks of {span:?}");
    }
}

#[test]
fn credentials_and_database_come_before_any_request() {
    let credentials = Credentials { username: Some("weir".into()), password: Secret::new("hunter2") };
    let mut it = Conversation::new(SessionConfig { credentials: Some(credentials), database: 3, ..config() });
    it.asks(1).unwrap();
    it.ticks();
    assert_eq!(it.sent(), ["AUTH weir hunter2", "SELECT 3", "PING"]);
    it.redis_says("+OK\r\n");
    it.redis_says("+OK\r\n");
    assert_eq!(it.sent(), [""; 0]);
    it.redis_says("+PONG\r\n");
    assert_eq!(it.sent(), ["EVALSHA SHA 1 k1 1"]);
}

#[test]
fn a_wrong_password_is_one_warning_and_is_not_retried_for_seconds() {
    let mut it = Conversation::new(with_password("hunter2"));
    it.asks(1).unwrap();
    it.ticks();
    it.redis_says(
        "-WRONGPASS invalid username-password pair or user is disabled.\r\n-NOAUTH Authentication required.\r\n",
    );
    assert_eq!(it.completed(), [(1, Err(Failure::Auth))]);
    let trouble = it.trouble();
    assert_eq!(trouble.failure, Failure::Auth);
    assert!(trouble.detail.contains("WRONGPASS") && !trouble.detail.contains("hunter2"), "{trouble:?}");
    assert_eq!(it.asks(2), Err(Failure::Auth));
    it.streams();
    it.passes(ms(2_400));
    assert_eq!(it.streams(), ["close"]);
    it.passes(ms(2_600));
    assert_eq!(it.streams(), ["open"]);
    assert_eq!(it.asks(3), Err(Failure::Auth));
}

#[test]
fn no_request_is_sent_to_a_missing_database() {
    let mut it = Conversation::new(SessionConfig { database: 99, ..config() });
    it.asks(1).unwrap();
    it.ticks();
    it.sent();
    it.redis_says("-ERR DB index is out of range\r\n+PONG\r\n");
    assert_eq!((it.completed(), it.sent()), (vec![(1, Err(Failure::Refused))], vec![]));
    assert!(it.trouble().detail.contains("SELECT failed"));
}

#[test]
fn no_request_is_sent_to_a_redis_that_is_loading() {
    let mut it = Conversation::new(config());
    it.asks(1).unwrap();
    it.ticks();
    it.redis_says("-LOADING Redis is loading the dataset in memory\r\n");
    assert_eq!(it.completed(), [(1, Err(Failure::NotReady))]);
    assert_eq!(it.asks(2), Err(Failure::NotReady));
    it.passes(ms(50));
    it.redis_says("+PONG\r\n");
    it.asks(3).unwrap();
}

#[test]
fn the_next_request_reopens_an_idle_connection_that_redis_closed() {
    let mut it = Conversation::connected(config());
    it.redis_closes();
    assert!(it.troubles().is_empty());
    it.passes(Micros::from_secs(1_000));
    assert!(it.streams().is_empty());
    it.asks(1).unwrap();
    it.ticks();
    it.redis_says("+PONG\r\n");
    it.redis_says(":1\r\n");
    assert_eq!(it.completed(), [(1, ok(1))]);
}

#[test]
fn a_peer_that_is_not_redis_fails_the_waiting_calls() {
    let mut it = Conversation::new(config());
    it.asks(1).unwrap();
    it.ticks();
    it.redis_says("HTTP/1.1 400 Bad Request\r\n");
    assert_eq!(it.completed(), [(1, Err(Failure::Protocol))]);
    assert_eq!(it.asks(2), Err(Failure::Unavailable));
}
