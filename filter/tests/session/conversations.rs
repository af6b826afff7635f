use weir_filter::{
    redis::{Call, Credentials, Failure, Reply, Secret, SessionConfig, Ticket},
    units::Micros,
};

use crate::conversation::{Conversation, TIMEOUT, config, with_password};

const SECOND: Micros = Micros::from_secs(1);
const MAX_AGE: Micros = Micros::from_secs(300);

fn ms(n: u64) -> Micros {
    Micros::from_millis(n)
}

fn ok(n: i64) -> Result<Reply, Failure> {
    Ok(Reply::Integer(n))
}

#[test]
fn nothing_is_opened_before_the_first_request() {
    let mut it = Conversation::new(config());
    assert_eq!(it.session.next_tick(it.now), None);
    it.passes(Micros::from_secs(1_000));
    assert!(it.streams().is_empty());
}

#[test]
fn the_first_request_waits_for_a_connection_that_has_proven_itself() {
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
    assert_eq!(it.settled(), [(1, ok(9))]);
}

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
    assert_eq!(it.settled(), replies);
}

#[test]
fn a_lost_script_is_sent_once_with_its_source() {
    let mut it = Conversation::connected(config());
    it.asks(1).unwrap();
    it.asks(2).unwrap();
    it.sent();
    it.redis_says("-NOSCRIPT No matching script.\r\n:2\r\n");
    assert_eq!(it.sent(), ["EVAL return 1 1 k1 1"]);
    assert_eq!(it.settled(), [(2, ok(2))]);
    it.redis_says(":1\r\n");
    assert_eq!(it.settled(), [(1, ok(1))]);
    assert!(it.troubles().is_empty(), "a lost script is no trouble");
}

#[test]
fn a_server_that_never_has_the_script_refuses_it() {
    let mut it = Conversation::connected(config());
    it.asks(1).unwrap();
    it.redis_says("-NOSCRIPT No matching script.\r\n-NOSCRIPT No matching script.\r\n");
    assert_eq!(it.settled(), [(1, Err(Failure::Refused))]);
    assert_eq!(it.session.in_flight(), 0);
}

#[test]
fn a_lost_script_is_not_sent_again_for_a_request_that_has_been_answered() {
    let mut it = Conversation::connected(config());
    it.asks(1).unwrap();
    it.asks(2).unwrap();
    it.session.abandon(Ticket(2));
    it.passes(TIMEOUT);
    assert_eq!(it.settled(), [(1, Err(Failure::Timeout))]);
    it.sent();
    it.redis_says("-NOSCRIPT No matching script.\r\n-NOSCRIPT No matching script.\r\n");
    assert_eq!((it.sent(), it.settled()), (vec![], vec![]));
    assert!(it.troubles().is_empty());
}

#[test]
fn a_lost_script_found_out_too_late_is_a_timeout() {
    let mut it = Conversation::connected(config());
    it.asks(1).unwrap();
    it.sent();
    it.now = it.now.plus(TIMEOUT);
    it.redis_says("-NOSCRIPT No matching script.\r\n");
    assert_eq!((it.sent(), it.settled()), (vec![], vec![(1, Err(Failure::Timeout))]));
}

#[test]
fn a_script_sent_again_keeps_its_first_deadline() {
    let mut it = Conversation::connected(config());
    it.asks(1).unwrap();
    it.passes(ms(49));
    it.asks(2).unwrap();
    it.redis_says("-NOSCRIPT No matching script.\r\n");
    it.passes(ms(1));
    assert_eq!(it.settled(), [(1, Err(Failure::Timeout))]);
}

#[test]
fn a_plain_command_is_never_sent_twice() {
    let mut it = Conversation::connected(config());
    it.submits(1, Call::command(&["HGETALL", "weir:overrides"])).unwrap();
    assert_eq!(it.sent(), ["HGETALL weir:overrides"]);
    it.redis_says("-NOSCRIPT what?\r\n");
    assert_eq!((it.sent(), it.settled()), (vec![], vec![(1, Err(Failure::Refused))]));
}

#[test]
fn a_reply_that_comes_after_its_timeout_goes_to_nobody_else() {
    let mut it = Conversation::connected(config());
    it.asks(1).unwrap();
    it.passes(TIMEOUT);
    assert_eq!(it.settled(), [(1, Err(Failure::Timeout))]);
    it.asks(2).unwrap();
    it.redis_says(":1\r\n");
    assert_eq!(it.settled(), []);
    it.redis_says(":2\r\n");
    assert_eq!(it.settled(), [(2, ok(2))]);
}

#[test]
fn the_reply_of_a_request_that_went_away_goes_to_nobody_else() {
    let mut it = Conversation::connected(config());
    it.asks(1).unwrap();
    it.asks(2).unwrap();
    it.session.abandon(Ticket(1));
    it.redis_says(":1\r\n:2\r\n");
    assert_eq!(it.settled(), [(2, ok(2))]);
}

#[test]
fn a_request_that_went_away_before_there_was_a_connection_is_never_sent() {
    let mut it = Conversation::new(config());
    it.asks(1).unwrap();
    it.asks(2).unwrap();
    it.ticks();
    it.session.abandon(Ticket(1));
    it.sent();
    it.redis_says("+PONG\r\n");
    assert_eq!(it.sent(), ["EVALSHA SHA 1 k2 1"]);
}

#[test]
fn a_reset_in_flight_is_not_retried() {
    let mut it = Conversation::connected(config());
    it.asks(1).unwrap();
    it.asks(2).unwrap();
    it.redis_says(":1\r\n*2\r\n:1");
    it.redis_closes();
    assert_eq!(it.settled(), [(1, ok(1)), (2, Err(Failure::Reset))]);
    assert_eq!(it.trouble().failure, Failure::Reset);
    it.sent();
    it.passes(ms(50));
    it.redis_says("+PONG\r\n");
    assert_eq!((it.streams(), it.sent()), (vec!["open"], vec!["PING".to_owned()]));
}

#[test]
fn while_redis_is_down_requests_are_refused_at_once_and_none_is_the_probe() {
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
    assert_eq!(it.settled(), [(1, Err(Failure::Reset)), (4, ok(4))]);
}

#[test]
fn a_redis_that_stays_down_is_tried_ever_less_often() {
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
    assert_eq!(it.settled(), [(1, Err(Failure::Unavailable))]);
    assert!((15..=35).contains(&attempts), "{attempts} attempts in a minute");
}

#[test]
fn a_connection_that_only_says_pong_does_not_make_weir_hurry() {
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
    assert!(it.now.minus(lost_at) <= ms(50), "it was of use: the next failure is a first one");
}

#[test]
fn a_stream_that_the_host_cannot_open_fails_those_who_wait() {
    let mut it = Conversation::new(config());
    it.asks(1).unwrap();
    it.ticks();
    it.host_cannot_open();
    assert_eq!(it.settled(), [(1, Err(Failure::Unavailable))]);
    assert_eq!(it.asks(2), Err(Failure::Unavailable));
    it.passes(ms(50));
    assert_eq!(it.streams(), ["open", "open"]);
}

#[test]
fn a_connection_that_does_not_answer_at_all_is_given_up() {
    let mut it = Conversation::new(config());
    it.asks(1).unwrap();
    it.passes(TIMEOUT);
    assert_eq!(it.settled(), [(1, Err(Failure::Timeout))]);
    it.passes(SECOND);
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
    assert_eq!(it.settled(), [(1, Err(Failure::Timeout))]);
    assert_eq!(it.streams(), ["open"]);
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
fn a_wrong_password_is_one_clear_error_and_no_storm() {
    let mut it = Conversation::new(with_password("hunter2"));
    it.asks(1).unwrap();
    it.ticks();
    it.redis_says(
        "-WRONGPASS invalid username-password pair or user is disabled.\r\n-NOAUTH Authentication required.\r\n",
    );
    assert_eq!(it.settled(), [(1, Err(Failure::Auth))]);
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
fn a_database_that_is_not_there_gets_no_requests() {
    let mut it = Conversation::new(SessionConfig { database: 99, ..config() });
    it.asks(1).unwrap();
    it.ticks();
    it.sent();
    it.redis_says("-ERR DB index is out of range\r\n+PONG\r\n");
    assert_eq!((it.settled(), it.sent()), (vec![(1, Err(Failure::Refused))], vec![]));
    assert!(it.trouble().detail.contains("SELECT failed"));
}

#[test]
fn a_redis_that_is_loading_is_not_asked_until_it_has_loaded() {
    let mut it = Conversation::new(config());
    it.asks(1).unwrap();
    it.ticks();
    it.redis_says("-LOADING Redis is loading the dataset in memory\r\n");
    assert_eq!(it.settled(), [(1, Err(Failure::NotReady))]);
    assert_eq!(it.asks(2), Err(Failure::NotReady));
    it.passes(ms(50));
    it.redis_says("+PONG\r\n");
    it.asks(3).unwrap();
}

#[test]
fn a_replica_is_left_for_another_stream() {
    let mut it = Conversation::connected(config());
    for ticket in 1..=4 {
        it.asks(ticket).unwrap();
    }
    it.redis_says("-READONLY You can't write against a read only replica.\r\n");
    assert_eq!(it.settled(), [(1, Err(Failure::NotReady))]);
    assert_eq!(it.asks(5), Err(Failure::NotReady));
    it.redis_says("-READONLY You can't write against a read only replica.\r\n:3\r\n");
    assert_eq!(it.settled(), [(2, Err(Failure::NotReady)), (3, ok(3))], "what was in flight may still be answered");
    assert_eq!(it.trouble().failure, Failure::NotReady);
    it.ticks();
    assert_eq!(it.settled(), [(4, Err(Failure::Reset))]);
    assert_eq!(it.streams(), ["close"]);
    it.passes(ms(50));
    it.redis_says("+PONG\r\n");
    assert_eq!(it.streams(), ["open"]);
    it.asks(6).unwrap();
}

#[test]
fn a_user_whose_rights_were_taken_away_is_told_so() {
    let mut it = Conversation::connected(config());
    it.asks(1).unwrap();
    it.asks(2).unwrap();
    it.redis_says("-NOPERM this user has no permissions to access one of the keys\r\n");
    assert!(it.session.is_connected(), "other keys may do");
    it.redis_says("-NOAUTH Authentication required.\r\n");
    assert!(!it.session.is_connected(), "nothing will do on this connection");
    assert_eq!(it.settled(), [(1, Err(Failure::Auth)), (2, Err(Failure::Auth))]);
    it.passes(ms(2_000));
    assert_eq!(it.streams(), ["close"]);
}

#[test]
fn errors_of_commands_are_told_once_a_second() {
    let mut it = Conversation::connected(config());
    for ticket in 1..=3 {
        it.asks(ticket).unwrap();
    }
    it.redis_says("-OOM command not allowed when used memory > 'maxmemory'.\r\n-OOM command not allowed\r\n");
    assert_eq!(it.settled(), [(1, Err(Failure::Refused)), (2, Err(Failure::Refused))]);
    assert!(it.trouble().detail.contains("OOM command not allowed when used memory"));
    it.now = it.now.plus(SECOND);
    it.redis_says("-OOM command not allowed\r\n");
    assert_eq!(it.trouble().failure, Failure::Refused);
    assert!(it.session.is_connected());
}

#[test]
fn an_idle_connection_that_redis_closes_is_opened_again_by_the_next_request() {
    let mut it = Conversation::connected(config());
    it.redis_closes();
    assert!(it.troubles().is_empty());
    it.passes(Micros::from_secs(1_000));
    assert!(it.streams().is_empty());
    it.asks(1).unwrap();
    it.ticks();
    it.redis_says("+PONG\r\n");
    it.redis_says(":1\r\n");
    assert_eq!(it.settled(), [(1, ok(1))]);
}

#[test]
fn garbage_closes_the_stream() {
    let mut it = Conversation::connected(config());
    it.asks(1).unwrap();
    it.asks(2).unwrap();
    it.redis_says(":1\r\nHTTP/1.1 400 Bad Request\r\n");
    assert_eq!(it.settled(), [(1, ok(1)), (2, Err(Failure::Protocol))]);
    assert_eq!(it.trouble().failure, Failure::Protocol);
    it.redis_says(":2\r\n");
    assert_eq!(it.asks(3), Err(Failure::Unavailable));
    it.ticks();
    assert_eq!(it.streams(), ["close"]);
    it.passes(ms(50));
    it.redis_says("+PONG\r\n");
    it.asks(4).unwrap();
    it.redis_says(":4\r\n");
    assert_eq!(it.settled(), [(4, ok(4))], "nothing of the old stream is left");
}

#[test]
fn a_reply_that_nobody_asked_for_closes_the_stream() {
    let mut it = Conversation::connected(config());
    it.redis_says(":1\r\n");
    assert_eq!(it.trouble().failure, Failure::Protocol);
    it.ticks();
    assert_eq!(it.streams(), ["close"]);
}

#[test]
fn a_peer_that_is_no_redis_fails_those_who_wait() {
    let mut it = Conversation::new(config());
    it.asks(1).unwrap();
    it.ticks();
    it.redis_says("HTTP/1.1 400 Bad Request\r\n");
    assert_eq!(it.settled(), [(1, Err(Failure::Protocol))]);
    assert_eq!(it.asks(2), Err(Failure::Unavailable));
}

#[test]
fn a_silent_stream_is_replaced() {
    let mut it = Conversation::connected(config());
    it.asks(1).unwrap();
    it.passes(ms(980));
    it.asks(2).unwrap();
    it.passes(ms(19));
    assert_eq!(it.settled(), [(1, Err(Failure::Timeout))]);
    assert!(it.streams().is_empty());
    it.passes(ms(1));
    assert_eq!(it.settled(), [(2, Err(Failure::Reset))]);
    assert_eq!((it.streams(), it.trouble().failure), (vec!["close"], Failure::Timeout));
    assert_eq!(it.asks(3), Err(Failure::Unavailable));
}

#[test]
fn a_slow_redis_is_not_a_silent_one() {
    let mut it = Conversation::connected(config());
    for ticket in 1..=100 {
        it.asks(ticket).unwrap();
        it.passes(ms(100));
        it.redis_says(format!(":{ticket}\r\n"));
    }
    assert!(it.streams().is_empty());
}

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
        assert_eq!(it.settled(), [(ticket, ok(i64::from(ticket)))]);
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
    assert_eq!(it.settled(), [(1, ok(1)), (2, ok(2))]);
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
    assert_eq!(it.settled(), [(1, ok(1)), (2, ok(2))]);
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
    assert_eq!(it.settled(), [(1, ok(1)), (2, ok(2))]);
}

#[test]
fn too_many_requests_at_once_are_refused_even_if_nobody_waits_for_the_others() {
    let mut it = Conversation::connected(SessionConfig { max_in_flight: 2, ..config() });
    it.asks(1).unwrap();
    it.asks(2).unwrap();
    assert_eq!(it.asks(3), Err(Failure::Overloaded));
    it.session.abandon(Ticket(1));
    assert_eq!(it.asks(4), Err(Failure::Overloaded), "its command is still in the pipe");
    it.redis_says(":1\r\n");
    it.asks(5).unwrap();
}

#[test]
fn too_many_bytes_at_once_are_refused() {
    let mut it = Conversation::connected(config());
    let megabyte = vec![b'x'; 1024 * 1024];
    let big = || Call::command(&[b"SET".as_slice(), b"k", &megabyte]);
    let accepted = (1..=20).filter(|&ticket| it.submits(ticket, big()).is_ok()).count();
    assert_eq!(accepted, 7, "8 MiB, with what is around them");
    it.redis_says("+OK\r\n");
    it.submits(21, big()).unwrap();
}
