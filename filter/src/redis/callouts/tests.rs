#![allow(clippy::arithmetic_side_effects, reason = "numbers of a test are small")]

use alloc::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::redis::{Credentials, Script, Secret};

const NOW: Micros = Micros::from_secs(1_000);
const NOSCRIPT: &[u8] = b"-NOSCRIPT No matching script.\r\n";
const SHA: &str = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";

fn config() -> SessionConfig {
    SessionConfig { credentials: None, database: 0, timeout: Micros::from_millis(50), max_in_flight: 1000 }
}

fn with_handshake() -> SessionConfig {
    let credentials = Credentials { username: None, password: Secret::new("hunter2") };
    SessionConfig { credentials: Some(credentials), database: 3, ..config() }
}

fn call() -> Call {
    Call::script(&Arc::new(Script::new("return 1")), &["k"], &["1"])
}

/// Returns calls that one command can carry, with one key and two elements of the reply each.
fn joinable(keys: &[&str]) -> Vec<Call> {
    let script = Arc::new(Script::new("return 1"));
    keys.iter().map(|key| Call::script(&script, &[*key], &["1"]).sharing(2)).collect()
}

fn text(callout: &Callout) -> String {
    String::from_utf8(callout.body.clone()).unwrap().replace("\r\n", " ")
}

/// A conversation with callouts. The clock stands still unless the test advances it.
struct Talk {
    callouts: Callouts,
    now: Micros,
}

impl Talk {
    fn of(config: SessionConfig) -> Self {
        Self { callouts: Callouts::new(config), now: NOW }
    }

    fn submit(&mut self, ticket: u64, call: Call) -> Result<(), Failure> {
        self.callouts.submit(self.now, Ticket(ticket), call)
    }

    /// Returns the callout that is due.
    fn sends(&mut self) -> Callout {
        self.callouts.next_callout(self.now).expect("a callout is due")
    }

    fn sends_nothing(&mut self) {
        assert_eq!(self.callouts.next_callout(self.now), None);
    }

    /// Ends a callout with a response, and returns the completed calls.
    fn ends(&mut self, callout: &Callout, response: Result<&[u8], Failure>) -> Vec<(u64, Result<Reply, Failure>)> {
        self.callouts.handle_response(self.now, callout.id, response);
        self.completed()
    }

    fn completed(&mut self) -> Vec<(u64, Result<Reply, Failure>)> {
        let mut completed = Vec::new();
        while let Some(event) = self.callouts.poll() {
            match event {
                SessionEvent::Completed { ticket, result } => completed.push((ticket.0, result)),
                SessionEvent::Trouble(Trouble { detail, .. }) => assert!(!detail.contains("hunter2"), "{detail}"),
                other => panic!("{other:?}"),
            }
        }
        completed.sort_by_key(|(ticket, _)| *ticket);
        completed
    }

    fn after(&mut self, span: Micros) -> &mut Self {
        self.now = self.now.plus(span);
        self
    }
}

/// Returns the result of a lone call after a response with `body`.
fn answered(config: SessionConfig, body: &[u8]) -> Result<Reply, Failure> {
    let mut talk = Talk::of(config);
    talk.submit(1, call()).unwrap();
    let callout = talk.sends();
    let mut completed = talk.ends(&callout, Ok(body));
    assert_eq!(completed.len(), 1, "{completed:?}");
    completed.remove(0).1
}

fn packed(integers: &[i64]) -> Vec<u8> {
    let bytes: Vec<u8> = integers.iter().flat_map(|integer| integer.to_be_bytes()).collect();
    [format!("${}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n"].concat()
}

fn bulk(integers: &[i64]) -> Reply {
    Reply::Bulk(integers.iter().flat_map(|integer| integer.to_be_bytes()).collect())
}

#[test]
fn one_body_holds_the_handshake_and_the_command() {
    let mut talk = Talk::of(with_handshake());
    talk.submit(1, call()).unwrap();
    let callout = talk.sends();
    assert_eq!(
        text(&callout),
        format!("*2 $4 AUTH $7 hunter2 *2 $6 SELECT $1 3 *5 $7 EVALSHA $40 {SHA} $1 1 $1 k $1 1 ")
    );
    assert_eq!(callout.timeout_ms, 1_050);
}

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
fn calls_during_a_callout_are_sent_together_in_the_next() {
    let mut talk = Talk::of(config());
    talk.submit(1, call()).unwrap();
    let first = talk.sends();
    talk.submit(2, Call::command(&["ZREM", "slots", "h"])).unwrap();
    for (ticket, call) in (3..).zip(joinable(&["a", "b"])) {
        talk.submit(ticket, call).unwrap();
        talk.sends_nothing();
    }
    assert_eq!(talk.ends(&first, Ok(b":1\r\n")), [(1, Ok(Reply::Integer(1)))]);
    let second = talk.sends();
    let joined = format!("*7 $7 EVALSHA $40 {SHA} $1 2 $1 a $1 b $1 1 $1 1 ");
    assert_eq!(text(&second), format!("*3 $4 ZREM $5 slots $1 h {joined}"), "in the order of submission");
    let body = [b":1\r\n".as_slice(), &packed(&[1, 2, -3, 4])].concat();
    let expected = [(2, Ok(Reply::Integer(1))), (3, Ok(bulk(&[1, 2]))), (4, Ok(bulk(&[-3, 4])))];
    assert_eq!(talk.ends(&second, Ok(&body)), expected);
    assert_eq!(talk.callouts.in_flight(), 0);
    talk.sends_nothing();
}

#[test]
fn calls_wait_for_a_slow_callout_for_5_ms_at_most() {
    let mut talk = Talk::of(config());
    talk.submit(1, call()).unwrap();
    talk.sends();
    talk.after(Micros(4_999)).submit(2, call()).unwrap();
    talk.sends_nothing();
    assert!(talk.callouts.next_tick(talk.now).is_some_and(|at| at <= talk.now.plus(BATCHING_WAIT)));
    talk.after(Micros(1)).sends();
    talk.submit(3, call()).unwrap();
    talk.sends_nothing();
}

#[test]
fn a_full_callout_is_sent_at_once() {
    let mut talk = Talk::of(config());
    talk.submit(0, call()).unwrap();
    talk.sends();
    for ticket in 1..=300 {
        talk.submit(ticket, call()).unwrap();
    }
    let commands = |callout: Callout| text(&callout).matches("EVALSHA").count();
    assert_eq!([commands(talk.sends()), commands(talk.sends())], [MAX_CALLS; 2]);
    talk.sends_nothing();
}

#[test]
fn no_callout_is_made_within_the_callback_for_the_end_of_another() {
    let mut talk = Talk::of(config());
    talk.submit(1, call()).unwrap();
    let first = talk.sends();
    talk.callouts.hold();
    talk.ends(&first, Ok(b":1\r\n"));
    talk.submit(2, call()).unwrap();
    talk.sends_nothing();
    talk.callouts.release();
    talk.sends();
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
    let by_name = format!("*5 $7 EVALSHA $40 {SHA} $1 1 $1 b $1 1 ");
    let joined = format!("*7 $7 EVALSHA $40 {SHA} $1 2 $1 d $1 c $1 1 $1 1 ");
    assert_eq!(text(&again), [sourced, by_name, joined].concat(), "the source is sent once");
    let body = [packed(&[1, 0]), packed(&[2, 0]), packed(&[3, 0, 4, 0])].concat();
    let expected = [1, 2, 3, 4].map(|n| (n, Ok(bulk(&[i64::try_from(n).unwrap(), 0]))));
    assert_eq!(talk.ends(&again, Ok(&body)), expected);
}

#[test]
fn a_noscript_error_after_the_deadline_is_a_timeout() {
    let mut talk = Talk::of(config());
    talk.submit(1, call()).unwrap();
    let first = talk.sends();
    talk.now = NOW.plus(Micros::from_millis(50));
    talk.callouts.handle_tick(talk.now);
    assert_eq!(talk.ends(&first, Ok(NOSCRIPT)), [(1, Err(Failure::Timeout))]);
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
        talk.callouts.handle_refused(talk.now, callout.id);
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

#[test]
fn each_call_times_out_at_its_own_deadline_sent_or_not() {
    let mut talk = Talk::of(config());
    talk.submit(1, call()).unwrap();
    talk.sends();
    talk.after(Micros::from_millis(1)).submit(2, call()).unwrap();
    assert_eq!(talk.callouts.next_tick(talk.now), Some(talk.now.plus(BATCHING_WAIT)));
    talk.now = NOW.plus(Micros::from_millis(50));
    talk.callouts.handle_tick(talk.now);
    assert_eq!(talk.completed(), [], "replies that have arrived are read first");
    talk.after(Micros::from_millis(1));
    talk.callouts.handle_tick(talk.now);
    assert_eq!(talk.completed(), [(1, Err(Failure::Timeout))]);
    talk.sends_nothing();
    assert_eq!(talk.completed(), [(2, Err(Failure::Timeout))], "an overdue call is not sent");
    assert_eq!(talk.callouts.in_flight(), 1, "the first callout has not ended");
}

#[test]
fn a_callouts_timeout_is_never_zero() {
    let mut talk = Talk::of(SessionConfig { timeout: Micros(1), ..config() });
    talk.submit(1, call()).unwrap();
    assert_eq!(talk.sends().timeout_ms, 1_001);
}

#[test]
fn an_abandoned_call_counts_as_in_flight_until_its_callout_ends() {
    let mut talk = Talk::of(SessionConfig { max_in_flight: 2, ..config() });
    talk.submit(1, call()).unwrap();
    let callout = talk.sends();
    talk.submit(2, call()).unwrap();
    talk.callouts.abandon(Ticket(1), false);
    assert_eq!(talk.submit(3, call()), Err(Failure::Overloaded));
    talk.callouts.abandon(Ticket(2), false);
    talk.submit(3, call()).unwrap();
    assert_eq!(talk.ends(&callout, Ok(NOSCRIPT)), []);
    assert_eq!(talk.callouts.in_flight(), 1);
    assert_eq!(text(&talk.sends()).matches("EVALSHA").count(), 1, "the second was not sent");
}

#[test]
fn a_tracked_call_reports_its_outcome_after_its_timeout() {
    for (response, outcome) in [
        (Ok(b":1\r\n".as_slice()), Ok(Reply::Integer(1))),
        (Ok(NOSCRIPT), Err(Failure::Unavailable)),
        (Err(Failure::Timeout), Err(Failure::Reset)),
        (Err(Failure::Unavailable), Err(Failure::Unavailable)),
    ] {
        for leaves in [false, true] {
            let mut talk = Talk::of(config());
            talk.submit(1, call().tracked()).unwrap();
            let callout = talk.sends();
            if leaves {
                assert!(!talk.callouts.abandon(Ticket(1), true));
            } else {
                talk.after(Micros::from_millis(50));
                (0..3).for_each(|_| talk.callouts.handle_tick(talk.now));
                assert_eq!(talk.completed(), [(1, Err(Failure::Timeout))]);
            }
            assert_eq!(talk.ends(&callout, response), [(1, outcome.clone())]);
            assert_eq!(talk.callouts.in_flight(), 0);
            talk.sends_nothing();
        }
    }
}

#[test]
fn a_callout_timeout_leaves_the_outcome_of_a_tracked_call_unknown() {
    let mut talk = Talk::of(config());
    talk.submit(1, call().tracked()).unwrap();
    talk.submit(2, call()).unwrap();
    let callout = talk.sends();
    let expected = [(1, Err(Failure::Timeout)), (1, Err(Failure::Reset)), (2, Err(Failure::Timeout))];
    assert_eq!(talk.ends(&callout, Err(Failure::Timeout)), expected);
}

#[test]
fn a_tracked_call_that_was_not_sent_is_reported_as_not_run() {
    let mut talk = Talk::of(config());
    talk.submit(1, call()).unwrap();
    talk.sends();
    (2..=3).for_each(|ticket| talk.submit(ticket, call().tracked()).unwrap());
    assert!(talk.callouts.abandon(Ticket(3), true), "no event follows");
    talk.after(Micros::from_millis(50));
    (0..2).for_each(|_| talk.callouts.handle_tick(talk.now));
    let expected = [(1, Err(Failure::Timeout)), (2, Err(Failure::Timeout)), (2, Err(Failure::Unavailable))];
    assert_eq!(talk.completed(), expected);
}

#[test]
fn a_reserved_call_always_has_room_and_a_longer_timeout() {
    let mut talk = Talk::of(SessionConfig { max_in_flight: 1, ..config() });
    talk.submit(1, call()).unwrap();
    talk.callouts.submit_reserved(talk.now, Ticket(2), call());
    assert!(!talk.callouts.has_room(0));
    assert_eq!(talk.sends().timeout_ms, 3_000, "the last deadline and 1 s");
    talk.after(Micros::from_millis(50));
    (0..2).for_each(|_| talk.callouts.handle_tick(talk.now));
    assert_eq!(talk.completed(), [(1, Err(Failure::Timeout))]);
    talk.after(Micros::from_millis(1_949));
    (0..2).for_each(|_| talk.callouts.handle_tick(talk.now));
    assert_eq!(talk.completed(), []);
    talk.after(Micros::from_millis(1));
    (0..2).for_each(|_| talk.callouts.handle_tick(talk.now));
    assert_eq!(talk.completed(), [(2, Err(Failure::Timeout))]);
}

/// A busy host takes several turns for each callout: a late reply counts, and a late `NOSCRIPT` is sent again.
#[test]
fn a_busy_host_has_eight_ticks_for_a_callout() {
    for reply in [&b":1\r\n"[..], NOSCRIPT] {
        let mut talk = Talk::of(config());
        talk.submit(1, call()).unwrap();
        let mut callout = talk.sends();
        let late_turns = |talk: &mut Talk| {
            for _ in 0..4 {
                talk.after(Micros::from_millis(150));
                talk.callouts.handle_tick(talk.now);
                assert_eq!(talk.completed(), []);
            }
        };
        late_turns(&mut talk);
        if reply == NOSCRIPT {
            assert_eq!(talk.ends(&callout, Ok(reply)), []);
            callout = talk.sends();
            late_turns(&mut talk);
        }
        assert_eq!(talk.ends(&callout, Ok(b":1\r\n")), [(1, Ok(Reply::Integer(1)))]);
    }
}

#[test]
fn a_busy_host_does_not_wait_for_ever() {
    let mut talk = Talk::of(config());
    talk.submit(1, call()).unwrap();
    talk.sends();
    for _ in 0..8 {
        assert_eq!(talk.completed(), []);
        talk.after(Micros::from_millis(150));
        talk.callouts.handle_tick(talk.now);
    }
    assert_eq!(talk.completed(), [(1, Err(Failure::Timeout))]);
}

proptest! {
    /// Each call is completed once, and none stays in flight, for any sequence of responses.
    #[test]
    fn any_responses_settle_each_call_once(
        sizes in prop::collection::vec(1_u64..6, 1..6),
        bodies in prop::collection::vec(prop::collection::vec(prop::sample::select(vec![
            &b":1\r\n"[..], b"+OK\r\n", NOSCRIPT, b"-CROSSSLOT x\r\n", b"*2\r\n:1\r\n:2\r\n", b"-OOM x\r\n", b"$8\r\n01234567\r\n",
            b"*-1\r\n", b"junk", b"$3\r\na",
        ]), 0..8), 1..40),
        has_handshake: bool,
    ) {
        let mut talk = Talk::of(if has_handshake { with_handshake() } else { config() });
        let (mut submitted, mut completed) = (0, Vec::new());
        let mut bodies = bodies.into_iter().cycle();
        for size in sizes {
            let calls = joinable(&["k"; 6]);
            for (nth, joinable) in (0..size).zip(calls) {
                submitted += 1;
                talk.submit(submitted, if nth % 3 == 2 { call() } else { joinable }).unwrap();
            }
            while let Some(callout) = talk.callouts.next_callout(talk.now) {
                let body = bodies.next().unwrap().concat();
                let body = if has_handshake { [b"+OK\r\n+OK\r\n".as_slice(), &body].concat() } else { body };
                completed.extend(talk.ends(&callout, Ok(&body)).into_iter().map(|(ticket, _)| ticket));
            }
        }
        completed.sort_unstable();
        prop_assert_eq!(completed, (1..=submitted).collect::<Vec<_>>());
        prop_assert_eq!((talk.callouts.in_flight(), talk.callouts.next_tick(talk.now)), (0, None));
    }

    #[test]
    fn any_bytes_end_a_callout(body in prop::collection::vec(any::<u8>(), 0..200), begins_well: bool) {
        let body = if begins_well { [b"+OK\r\n+OK\r\n".as_slice(), &body].concat() } else { body };
        let mut talk = Talk::of(with_handshake());
        talk.submit(1, call()).unwrap();
        let callout = talk.sends();
        let completed = talk.ends(&callout, Ok(&body));
        prop_assert_eq!(completed.len() + talk.callouts.in_flight(), 1);
    }
}
