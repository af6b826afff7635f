//! Deadlines of calls, timeouts of callouts, and busy hosts.

use super::*;

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
    assert_eq!(talk.sends().timeout, Micros(1_000_001));
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
    assert_eq!(talk.sends().timeout, Micros::from_millis(3_000), "the last deadline and 1 s");
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

/// A turn of the host's event loop counts against the timeout for an eighth of it at most.
#[test]
fn a_busy_host_has_more_ticks_where_the_timeout_is_long() {
    let timeout = Micros::from_secs(5);
    let mut talk = Talk::of(SessionConfig { timeout, ..config() });
    talk.submit(1, call()).unwrap();
    talk.sends();
    let turns = (1..).find(|_| {
        assert!(talk.now < Micros::from_secs(2_000));
        talk.after(Micros::from_secs(3));
        talk.callouts.handle_tick(talk.now);
        !talk.completed().is_empty()
    });
    assert!((10..=20).contains(&turns.unwrap()), "{turns:?}");
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

/// The host's timer does not wait for a reply that has arrived: on a busy host, it leaves time for several turns.
#[test]
fn a_busy_hosts_timer_ends_a_callout_10_s_after_the_last_deadline() {
    let mut talk = Talk::of(config());
    talk.submit(1, call()).unwrap();
    assert_eq!(talk.sends().timeout, config().timeout.plus(Micros::from_secs(1)));
    talk.after(Micros::from_millis(150));
    talk.callouts.handle_tick(talk.now);
    talk.submit(2, call()).unwrap();
    assert_eq!(talk.sends().timeout, config().timeout.plus(Micros::from_secs(10)));
}

/// The timer of the first callout of a turn counts from the start of that turn, at the earliest from the last tick.
#[test]
fn a_hosts_timer_leaves_a_second_after_the_last_deadline_however_long_the_turn_has_taken() {
    for (turn, added) in [(0, 1_000), (500, 1_000), (3_000, 3_000), (60_000, 10_000)] {
        let mut talk = Talk::of(config());
        talk.callouts.handle_tick(talk.now);
        talk.after(Micros::from_millis(turn)).submit(1, call()).unwrap();
        assert_eq!(talk.sends().timeout, config().timeout.plus(Micros::from_millis(added)), "{turn} ms");
    }
}

/// A connected callout that the host's timer ends looks like a lost connection.
#[test]
fn a_callout_that_is_lost_after_its_last_deadline_has_timed_out() {
    for (late, failure) in [(Micros::ZERO, Failure::Timeout), (Micros(1), Failure::Reset)] {
        let mut talk = Talk::of(config());
        talk.submit(1, call()).unwrap();
        let callout = talk.sends();
        talk.after(config().timeout.minus(late));
        assert_eq!(talk.ends(&callout, Err(Failure::Reset)), [(1, Err(failure))]);
    }
}
