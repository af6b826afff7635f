//! Replies, errors and lost connections.

use super::*;

#[test]
fn the_reply_follows_the_handshakes_replies() {
    assert_eq!(answered(with_handshake(), b"+OK\r\n+OK\r\n:7\r\n"), Ok(Reply::Integer(7)));
}

#[test]
fn a_refused_handshake_fails_the_call() {
    let body = b"-WRONGPASS no\r\n-NOAUTH Authentication required.\r\n-NOAUTH Authentication required.\r\n";
    assert_eq!(answered(with_handshake(), body), Err(Failure::Auth));
    let body = b"+OK\r\n-ERR DB index is out of range\r\n:7\r\n";
    assert_eq!(answered(with_handshake(), body), Err(Failure::Refused));
}

#[test]
fn a_connection_that_ends_early_is_a_reset() {
    for body in [b"".as_slice(), b"+OK\r\n", b"+OK\r\n+OK\r\n", b"+OK\r\n+OK\r\n:7"] {
        assert_eq!(answered(with_handshake(), body), Err(Failure::Reset));
    }
}

#[test]
fn an_invalid_or_surplus_reply_is_a_protocol_failure() {
    for body in [b"<html>".as_slice(), b":7\r\n", b"+OK\r\n+OK\r\n:7\r\n:8\r\n", b"+OK\r\n+OK\r\n$1\r\nab\r\n"] {
        assert_eq!(answered(with_handshake(), body), Err(Failure::Protocol));
    }
}

#[test]
fn a_lost_script_is_sent_once_with_its_source() {
    let mut talk = Talk::of(config());
    talk.submit(1, call()).unwrap();
    let first = talk.sends();
    assert_eq!(talk.after(Micros(20_001)).ends(&first, Ok(NOSCRIPT)), []);
    assert_eq!(talk.callouts.in_flight(), 1);
    let again = talk.sends();
    assert_eq!(text(&again), "*5 $4 EVAL $8 return 1 $1 1 $1 k $1 1 ");
    assert_eq!(talk.ends(&again, Ok(NOSCRIPT)), [(1, Err(Failure::Refused))]);
    assert_eq!(talk.callouts.in_flight(), 0);
}

#[test]
fn all_calls_of_a_lost_script_are_sent_again_before_later_calls() {
    let mut talk = Talk::of(config());
    let mut calls = joinable(&["a", "b", "c", "d"]);
    let late = [calls.pop().unwrap(), calls.pop().unwrap()];
    for (ticket, call) in (1..).zip(calls) {
        talk.submit(ticket, call).unwrap();
    }
    let first = talk.sends();
    for (ticket, call) in (3..).zip(late) {
        talk.submit(ticket, call).unwrap();
    }
    assert_eq!(talk.ends(&first, Ok(NOSCRIPT)), []);
    let again = talk.sends();
    let sourced = "*5 $4 EVAL $8 return 1 $1 1 $1 a $1 1 ".to_owned();
    let joined = format!("*9 $7 EVALSHA $40 {SHA} $1 3 $1 b $1 d $1 c $1 1 $1 1 $1 1 ");
    assert_eq!(text(&again), [sourced, joined].concat(), "the source is sent once");
    let body = [packed(&[1, 0]), packed(&[2, 0, 3, 0, 4, 0])].concat();
    let expected = [1, 2, 3, 4].map(|n| (n, Ok(bulk(&[i64::try_from(n).unwrap(), 0]))));
    assert_eq!(talk.ends(&again, Ok(&body)), expected);
}

/// Replies have room in a socket however often their calls are sent.
#[test]
fn calls_of_lost_scripts_are_sent_again_in_as_many_callouts() {
    let scripts = ["return 1", "return 2"].map(|source| Arc::new(Script::new(source)));
    let mut talk = Talk::of(config());
    for (ticket, script) in (0..40).zip(scripts.iter().cycle()) {
        talk.submit(ticket, Call::script(script, &["k"], &["1"]).replying(1_040)).unwrap();
    }
    let mut sent = Vec::new();
    while talk.callouts.in_flight() > 0 {
        let callout = talk.sends();
        let [sources, names] = ["EVAL ", "EVALSHA "].map(|name| text(&callout).matches(name).count());
        sent.push((sources, names));
        let replies = if sent.len() == 1 { NOSCRIPT } else { b":1\r\n" };
        talk.ends(&callout, Ok(&replies.repeat(sources + names)));
    }
    assert_eq!(sent, [(0, 23), (2, 21), (0, 17)]);
}

#[test]
fn calls_of_different_slots_are_sent_apart_after_a_cluster_has_refused_them() {
    let mut talk = Talk::of(config());
    for (ticket, call) in (1..).zip(joinable(&["a", "b"])) {
        talk.submit(ticket, call).unwrap();
    }
    let first = talk.sends();
    assert_eq!(talk.ends(&first, Ok(b"-CROSSSLOT Keys in request don't hash to the same slot\r\n")), []);
    let again = talk.sends();
    assert_eq!([text(&again).matches("EVAL ").count(), text(&again).matches("EVALSHA ").count()], [1, 1]);
    let body = [packed(&[1, 2]), b"-MOVED 1 10.0.0.1:6379\r\n".to_vec()].concat();
    assert_eq!(talk.ends(&again, Ok(&body)), [(1, Ok(bulk(&[1, 2]))), (2, Err(Failure::ClusterMode))]);
}

#[test]
fn an_error_of_one_call_fails_no_other() {
    let mut talk = Talk::of(config());
    for (ticket, call) in (1..).zip(joinable(&["a", "b"])) {
        talk.submit(ticket, call).unwrap();
    }
    talk.submit(3, call()).unwrap();
    let callout = talk.sends();
    let body = b"*3\r\n:1\r\n:2\r\n-WRONGTYPE Operation\r\n-OOM command not allowed\r\n";
    let both = Reply::Array(vec![Reply::Integer(1), Reply::Integer(2)]);
    let expected = [(1, Ok(both)), (2, Err(Failure::Refused)), (3, Err(Failure::Refused))];
    assert_eq!(talk.ends(&callout, Ok(body)), expected);
}

#[test]
fn replies_before_the_end_of_the_connection_count() {
    let mut talk = Talk::of(config());
    (1..=3).for_each(|ticket| talk.submit(ticket, call()).unwrap());
    let callout = talk.sends();
    let expected = [(1, Ok(Reply::Integer(1))), (2, Err(Failure::Reset)), (3, Err(Failure::Reset))];
    assert_eq!(talk.ends(&callout, Ok(b":1\r\n:2")), expected);
}

#[test]
fn an_error_in_place_of_all_replies_fails_all_calls() {
    let mut talk = Talk::of(config());
    (1..=2).for_each(|ticket| talk.submit(ticket, call()).unwrap());
    let callout = talk.sends();
    let completed = talk.ends(&callout, Ok(b"-ERR max number of clients reached\r\n"));
    assert_eq!(completed, [(1, Err(Failure::Refused)), (2, Err(Failure::Refused))]);
}

#[test]
fn a_failed_callout_fails_its_calls_and_no_others() {
    let mut talk = Talk::of(config());
    (1..=2).for_each(|ticket| talk.submit(ticket, call()).unwrap());
    let first = talk.sends();
    talk.submit(3, call()).unwrap();
    let unavailable = Err(Failure::Unavailable);
    assert_eq!(talk.ends(&first, unavailable), [(1, Err(Failure::Unavailable)), (2, Err(Failure::Unavailable))]);
    let second = talk.sends();
    assert_eq!(talk.ends(&second, Ok(b":1\r\n")), [(3, Ok(Reply::Integer(1)))]);
}

#[test]
fn a_refused_callout_is_a_circuit_breaker_failure_if_the_cluster_has_a_host() {
    let refused = |talk: &mut Talk, ticket| {
        talk.submit(ticket, call()).unwrap();
        let callout = talk.sends();
        talk.callouts.handle_refused(talk.now, callout.id, Refusal::Internal);
        talk.completed()
    };
    let mut talk = Talk::of(config());
    assert_eq!(refused(&mut talk, 1), [(1, Err(Failure::Unavailable))]);
    talk.submit(2, call()).unwrap();
    let answered = talk.sends();
    talk.ends(&answered, Ok(b":1\r\n"));
    assert_eq!(refused(&mut talk, 3), [(3, Err(Failure::CircuitBreaker))]);
    talk.after(PROOF);
    assert_eq!(refused(&mut talk, 4), [(4, Err(Failure::Unavailable))]);
}
