//! Tests of ticks at which nothing is due.

use super::*;

const MS: fn(u64) -> Micros = Micros::from_millis;

#[test]
fn a_tick_is_recorded_as_one_at_which_nothing_is_due_unless_the_tick_before_it_is_long_ago() {
    let mut fixture = Fixture::connected("", "");
    let mut records = |pause| {
        fixture.now = fixture.now.plus(MS(pause));
        fixture.limiter.idle_tick(fixture.now)
    };
    assert_eq!([500, 500, 501, 0].map(&mut records), [true, true, false, false]);
    fixture.tick();
    assert!(fixture.limiter.idle_tick(fixture.now.plus(MS(500))));
}

#[test]
fn a_host_that_was_busy_is_no_longer_after_eight_ticks_at_which_nothing_was_due() {
    let mut fixture = Fixture::connected("", "");
    fixture.request(ALICE, "alice");
    fixture.now = fixture.now.plus(MS(100));
    assert_eq!(fixture.tick(), [], "50 ms late");
    fixture.redis_replies(ADMITTED);
    for _ in 0..8 {
        fixture.now = fixture.now.plus(MS(100));
        assert!(fixture.limiter.idle_tick(fixture.now));
    }
    fixture.request(BOB, "bob");
    fixture.now = fixture.now.plus(MS(50));
    assert_eq!(fixture.tick(), [], "bytes that have arrived are read first");
    assert!(fixture.tick().contains(&Effect::Decide(BOB, Decision::Admit(Vec::new()))), "the timeout is over");
}
