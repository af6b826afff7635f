//! Conversations with callouts.

#![allow(clippy::arithmetic_side_effects, reason = "numbers of a test are small")]

mod deadlines;
mod front_ends;
mod replies;

use alloc::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::redis::{Credentials, Script, Secret, Topology, Trouble};

const NOW: Micros = Micros::from_secs(1_000);
const NOSCRIPT: &[u8] = b"-NOSCRIPT No matching script.\r\n";
const SHA: &str = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";

fn config() -> SessionConfig {
    SessionConfig {
        credentials: None,
        database: 0,
        topology: Topology::Single,
        timeout: Micros::from_millis(50),
        max_in_flight: 1000,
    }
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
        Self::with(Callouts::new(config))
    }

    fn through(front_end: FrontEnd) -> Self {
        Self::with(Callouts::through(front_end, config(), 40))
    }

    fn with(mut callouts: Callouts) -> Self {
        callouts.handle_tick(NOW.minus(Micros(1)));
        Self { callouts, now: NOW }
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
    assert_eq!(callout.timeout, Micros::from_millis(1_050));
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

/// Redis drops replies that its socket has no room for when it reads the end of the body.
#[test]
fn the_replies_of_a_callout_have_room_in_a_socket() {
    let mut talk = Talk::of(config());
    for ticket in 0..100 {
        talk.submit(ticket, call().replying(1_040)).unwrap();
    }
    let mut sizes = Vec::new();
    while talk.callouts.in_flight() > 0 {
        let callout = talk.sends();
        sizes.push(text(&callout).matches("EVALSHA").count());
        talk.ends(&callout, Ok(&b":1\r\n".repeat(*sizes.last().unwrap())));
    }
    assert_eq!(sizes, [23, 23, 23, 23, 8]);

    let keys: Vec<String> = (0..150).map(|nth| nth.to_string()).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    for (ticket, call) in (0..).zip(joinable(&keys)) {
        talk.submit(ticket, call.replying(1_040)).unwrap();
    }
    // Two commands of 64 calls each: a script bounds the reply to several requests.
    assert_eq!(text(&talk.sends()).matches("EVALSHA").count(), 2);
    talk.submit(150, call().replying(100_000)).unwrap();
    assert_eq!(text(&talk.after(BATCHING_WAIT).sends()).matches("EVALSHA").count(), 1);
    assert_eq!(text(&talk.after(BATCHING_WAIT).sends()).matches("EVALSHA").count(), 1, "a long reply alone");
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
