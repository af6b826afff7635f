//! Tests of the calls in flight of one connection.

use super::*;

const NOW: Micros = Micros::from_secs(1);

fn script() -> Arc<Script> {
    Arc::new(Script::new("return 1"))
}

fn call(script: &Arc<Script>) -> Call {
    Call::script(script, &["key"], &["1"])
}

/// Unsent calls, each due a second after the one before.
fn waiting(calls: u64) -> InFlight {
    let (script, mut in_flight) = (script(), InFlight::default());
    (0..calls).for_each(|nth| in_flight.wait(Ticket(nth), Micros::from_secs(10 + nth), call(&script)));
    in_flight
}

#[test]
fn calls_that_are_split_off_keep_their_bytes_and_deadlines() {
    let mut first = waiting(5);
    let all = first.bytes();
    assert_eq!(all, 5 * call(&script()).size());
    let others = first.split_waiting(2, usize::MAX, false);
    assert_eq!((first.len(), others.len()), (2, 3));
    assert_eq!((first.bytes(), others.bytes()), (all / 5 * 2, all / 5 * 3));
    assert_eq!(
        (first.earliest_deadline(), others.earliest_deadline()),
        (Some(Micros::from_secs(10)), Some(Micros::from_secs(12)))
    );
}

#[test]
fn calls_stay_together_whose_replies_fit_to_the_byte() {
    let reply = call(&script()).longest_reply();
    for (room, stay) in [(2 * reply - 1, 1), (2 * reply, 2), (3 * reply - 1, 2), (3 * reply, 3), (0, 1)] {
        let mut in_flight = waiting(5);
        let others = in_flight.split_waiting(9, room, false);
        assert_eq!((in_flight.len(), others.len()), (stay, 5 - stay), "room for {room} bytes");
    }
}

#[test]
fn a_source_that_was_just_answered_is_not_ahead() {
    let (script, mut in_flight) = (script(), InFlight::default());
    in_flight.wait(Ticket(1), NOW.plus(NOW), call(&script));
    in_flight.send_waiting(NOW, false, &mut Vec::new());
    let caller = in_flight.pop_answered().unwrap().caller.unwrap();
    in_flight.resend(NOW, caller, &call(&script), &mut Vec::new()).unwrap();
    assert!(in_flight.is_source_ahead(&call(&script)));
    in_flight.pop_answered();
    assert!(!in_flight.is_source_ahead(&call(&script)));
}

#[test]
fn an_unsent_call_is_due_at_its_deadline_and_a_sent_one_waits_no_longer() {
    let mut in_flight = waiting(2);
    let due_at = |in_flight: &InFlight, secs| in_flight.is_any_waiting_due(Micros::from_secs(secs));
    assert_eq!([9, 10, 11].map(|secs| due_at(&in_flight, secs)), [false, true, true]);
    in_flight.send_waiting(NOW, false, &mut Vec::new());
    assert!(!due_at(&in_flight, 11));
}

#[test]
fn there_is_room_for_8_mib_and_for_no_byte_more() {
    let (script, mut in_flight) = (script(), InFlight::default());
    assert!(in_flight.has_room(8_388_608) && !in_flight.has_room(8_388_609));
    in_flight.wait(Ticket(1), NOW, call(&script));
    let rest = 8_388_608 - call(&script).size();
    assert!(in_flight.has_room(rest) && !in_flight.has_room(rest + 1));
}

#[test]
fn unsent_calls_get_a_later_deadline_and_none_an_earlier_one() {
    let mut in_flight = waiting(3);
    in_flight.extend_waiting(Micros::from_secs(11));
    let deadlines: Vec<Micros> = in_flight.unsent.iter().map(|waiting| waiting.deadline).collect();
    assert_eq!(deadlines, [11, 11, 12].map(Micros::from_secs));
}
