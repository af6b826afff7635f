//! Conversations of requests on a working connection.

use weir_filter::redis::{Call, Failure, Reply, SessionConfig, SessionEvent, Ticket};

use crate::conversation::{Conversation, SCRIPT, TIMEOUT, config, ms, ok};

#[test]
fn each_request_gets_its_own_reply_whatever_the_chunks() {
    let mut it = Conversation::connected(config());
    for ticket in 1..=4 {
        it.asks(ticket).unwrap();
    }
    it.redis_says("*2\r\n:1\r\n:600000\r\n*2\r");
    it.redis_says("\n:0\r\n:5\r\n$1\r\nx\r\n$");
    it.redis_says("-1\r\n");
    let pair = |a, b| Ok(Reply::Array(vec![Reply::Integer(a), Reply::Integer(b)]));
    let replies = [(1, pair(1, 600_000)), (2, pair(0, 5)), (3, Ok(Reply::Bulk(b"x".to_vec()))), (4, Ok(Reply::Nil))];
    assert_eq!(it.completed(), replies);
}

#[test]
fn a_lost_script_is_sent_once_with_its_source() {
    let mut it = Conversation::connected(config());
    it.asks(1).unwrap();
    it.asks(2).unwrap();
    it.sent();
    it.redis_says("-NOSCRIPT No matching script.\r\n:2\r\n");
    assert_eq!(it.sent(), ["EVAL return 1 1 k1 1"]);
    assert_eq!(it.completed(), [(2, ok(2))]);
    it.redis_says(":1\r\n");
    assert_eq!(it.completed(), [(1, ok(1))]);
    assert!(it.troubles().is_empty(), "a lost script is no trouble");
}

#[test]
fn a_second_noscript_error_fails_the_call() {
    let mut it = Conversation::connected(config());
    it.asks(1).unwrap();
    it.redis_says("-NOSCRIPT No matching script.\r\n-NOSCRIPT No matching script.\r\n");
    assert_eq!(it.completed(), [(1, Err(Failure::Refused))]);
    assert_eq!(it.session.in_flight(), 0);
}

#[test]
fn a_lost_script_is_not_sent_again_for_a_call_that_is_abandoned_or_timed_out() {
    let mut it = Conversation::connected(config());
    it.asks(1).unwrap();
    it.asks(2).unwrap();
    it.session.abandon(Ticket(2), false);
    it.passes(TIMEOUT);
    assert_eq!(it.completed(), [(1, Err(Failure::Timeout))]);
    it.sent();
    it.redis_says("-NOSCRIPT No matching script.\r\n-NOSCRIPT No matching script.\r\n");
    assert_eq!((it.sent(), it.completed()), (vec![], vec![]));
    assert!(it.troubles().is_empty());
}

#[test]
fn a_noscript_error_after_the_deadline_is_a_timeout() {
    let mut it = Conversation::connected(config());
    it.asks(1).unwrap();
    it.sent();
    it.now = it.now.plus(TIMEOUT);
    it.ticks();
    it.redis_says("-NOSCRIPT No matching script.\r\n");
    assert_eq!((it.sent(), it.completed()), (vec![], vec![(1, Err(Failure::Timeout))]));
}

#[test]
fn a_busy_host_sends_a_lost_script_again_after_the_deadline() {
    let mut it = Conversation::connected(config());
    it.asks(1).unwrap();
    it.sent();
    for _ in 0..3 {
        it.now = it.now.plus(ms(150));
        it.ticks();
    }
    it.redis_says("-NOSCRIPT No matching script.\r\n");
    assert_eq!((it.sent(), it.completed()), (vec!["EVAL return 1 1 k1 1".to_owned()], vec![]));
    for _ in 0..3 {
        it.now = it.now.plus(ms(150));
        it.ticks();
    }
    it.redis_says(":1\r\n");
    assert_eq!(it.completed(), [(1, ok(1))]);
}

#[test]
fn a_script_sent_again_keeps_its_first_deadline() {
    let mut it = Conversation::connected(config());
    it.asks(1).unwrap();
    it.passes(ms(49));
    it.asks(2).unwrap();
    it.redis_says("-NOSCRIPT No matching script.\r\n");
    it.passes(ms(1));
    assert_eq!(it.completed(), [(1, Err(Failure::Timeout))]);
}

#[test]
fn a_plain_command_is_never_sent_twice() {
    let mut it = Conversation::connected(config());
    it.submits(1, Call::command(&["HGETALL", "weir:overrides"])).unwrap();
    assert_eq!(it.sent(), ["HGETALL weir:overrides"]);
    it.redis_says("-NOSCRIPT what?\r\n");
    assert_eq!((it.sent(), it.completed()), (vec![], vec![(1, Err(Failure::Refused))]));
}

#[test]
fn a_reply_after_the_timeout_goes_to_no_other_call() {
    let mut it = Conversation::connected(config());
    it.asks(1).unwrap();
    it.passes(TIMEOUT);
    assert_eq!(it.completed(), [(1, Err(Failure::Timeout))]);
    it.asks(2).unwrap();
    it.redis_says(":1\r\n");
    assert_eq!(it.completed(), []);
    it.redis_says(":2\r\n");
    assert_eq!(it.completed(), [(2, ok(2))]);
}

#[test]
fn the_reply_to_an_abandoned_call_goes_to_no_other_call() {
    let mut it = Conversation::connected(config());
    it.asks(1).unwrap();
    it.asks(2).unwrap();
    it.session.abandon(Ticket(1), false);
    it.redis_says(":1\r\n:2\r\n");
    assert_eq!(it.completed(), [(2, ok(2))]);
}

#[test]
fn a_call_abandoned_before_the_connection_is_proven_is_never_sent() {
    let mut it = Conversation::new(config());
    it.asks(1).unwrap();
    it.asks(2).unwrap();
    it.ticks();
    it.session.abandon(Ticket(1), false);
    it.sent();
    it.redis_says("+PONG\r\n");
    assert_eq!(it.sent(), ["EVALSHA SHA 1 k2 1"]);
}

#[test]
fn errors_of_commands_are_reported_once_a_second() {
    let mut it = Conversation::connected(config());
    for ticket in 1..=3 {
        it.asks(ticket).unwrap();
    }
    it.redis_says("-OOM command not allowed when used memory > 'maxmemory'.\r\n-OOM command not allowed\r\n");
    assert_eq!(it.completed(), [(1, Err(Failure::Refused)), (2, Err(Failure::Refused))]);
    assert_eq!(it.trouble().detail, "Redis answered OOM: maxmemory is reached");
    it.now = it.now.plus(ms(1_000));
    it.redis_says("-OOM command not allowed\r\n");
    assert_eq!(it.trouble().failure, Failure::Refused);
    assert!(it.session.is_connected());
}

#[test]
fn abandoned_calls_count_towards_max_in_flight() {
    let mut it = Conversation::connected(SessionConfig { max_in_flight: 2, ..config() });
    it.asks(1).unwrap();
    it.asks(2).unwrap();
    assert_eq!(it.asks(3), Err(Failure::Overloaded));
    it.session.abandon(Ticket(1), false);
    assert_eq!(it.asks(4), Err(Failure::Overloaded), "its command is still in flight");
    it.redis_says(":1\r\n");
    it.asks(5).unwrap();
}

#[test]
fn calls_beyond_8_mib_in_flight_are_refused() {
    let mut it = Conversation::connected(config());
    let megabyte = vec![b'x'; 1024 * 1024];
    let big = || Call::command(&[b"SET".as_slice(), b"k", &megabyte]);
    let accepted = (1..=20).filter(|&ticket| it.submits(ticket, big()).is_ok()).count();
    assert_eq!(accepted, 7, "8 MiB including RESP framing");
    it.redis_says("+OK\r\n");
    it.submits(21, big()).unwrap();
}

#[test]
fn completions_that_the_host_did_not_poll_ask_for_a_tick() {
    let mut it = Conversation::connected(config());
    for ticket in 1..=3 {
        it.asks(ticket).unwrap();
    }
    it.session.handle_bytes(it.now, b":1\r\n:2\r\n:3\r\n");
    assert_eq!(it.session.poll(), Some(SessionEvent::Completed { ticket: Ticket(1), result: ok(1) }));
    it.session.abandon(Ticket(2), false);
    assert_eq!((it.session.in_flight(), it.session.next_tick(it.now)), (1, Some(it.now)));
    it.ticks();
    assert_eq!(it.completed(), [(3, ok(3))]);
}

#[test]
fn a_server_that_never_has_the_script_holds_a_busy_hosts_requests_no_longer_than_a_silent_one() {
    let mut it = Conversation::connected(config());
    for ticket in 1..=40 {
        it.asks(ticket).unwrap();
    }
    let mut unanswered = it.sent().len();
    let mut commands = unanswered;
    for _ in 0..10 {
        it.now = it.now.plus(ms(150));
        it.redis_says("-NOSCRIPT No matching script.\r\n".repeat(unanswered));
        it.ticks();
        unanswered = it.sent().len();
        commands += unanswered;
    }
    assert_eq!((it.completed().len(), unanswered), (40, 0));
    assert!(commands <= 3 * 40, "{commands} commands for 40 requests");
}

#[test]
fn a_script_that_is_lost_again_is_sent_with_its_source_even_behind_another_of_the_same_source() {
    let mut it = Conversation::connected(config());
    (1..=3).for_each(|ticket| it.asks(ticket).unwrap());
    it.sent();
    let lost = "-NOSCRIPT No matching script.\r\n";
    it.redis_says(lost.repeat(3));
    assert_eq!(it.sent(), ["EVAL return 1 1 k1 1", "EVALSHA SHA 1 k2 1", "EVALSHA SHA 1 k3 1"]);
    it.redis_says([":1\r\n", lost, lost].concat());
    assert_eq!(it.sent(), ["EVAL return 1 1 k2 1", "EVAL return 1 1 k3 1"]);
    it.redis_says([":2\r\n", lost].concat());
    assert_eq!((it.sent(), it.completed()), (vec![], vec![(1, ok(1)), (2, ok(2)), (3, Err(Failure::Refused))]));
}

#[test]
fn a_busy_host_has_as_many_turns_again_for_a_script_that_is_sent_again() {
    let mut it = Conversation::connected(config());
    it.asks(1).unwrap();
    for _ in 0..5 {
        it.now = it.now.plus(ms(150));
        it.ticks();
    }
    it.redis_says("-NOSCRIPT No matching script.\r\n");
    for _ in 0..5 {
        it.now = it.now.plus(ms(150));
        it.ticks();
    }
    it.redis_says(":1\r\n");
    assert_eq!(it.completed(), [(1, ok(1))]);
}

#[test]
fn a_tracked_call_that_is_too_late_to_be_sent_again_has_never_run() {
    for is_tracked in [false, true] {
        let mut it = Conversation::connected(config());
        let call = Call::script(&SCRIPT, &["k1"], &["1"]);
        it.submits(1, if is_tracked { call.tracked() } else { call }).unwrap();
        it.now = it.now.plus(TIMEOUT);
        it.ticks();
        it.redis_says("-NOSCRIPT No matching script.\r\n");
        let outcome = is_tracked.then_some((1, Err(Failure::Unavailable)));
        let expected: Vec<_> = [(1, Err(Failure::Timeout))].into_iter().chain(outcome).collect();
        assert_eq!(it.completed(), expected);
    }
}
