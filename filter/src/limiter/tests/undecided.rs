//! Checks that Redis leaves undecided, since a key has another override than the worker has applied.

use super::*;

const MS: fn(u64) -> Micros = Micros::from_millis;

#[test]
fn all_checks_of_a_request_share_one_timeout() {
    let mut fixture = Fixture::new("", r#""overrides": {"refresh_interval": "3600s"},"#);
    fixture.connect();
    fixture.redis_replies(b"-ERR no page of overrides\r\n");
    let began = fixture.now;
    assert_eq!(fixture.request(ALICE, "alice"), Step::Wait);
    for times in 2..=8 {
        fixture.now = fixture.now.plus(MS(20));
        let text = format!(r#"{{"times": {times}}}"#);
        let mut effects = fixture.redis_replies(format!("*1\r\n${}\r\n{text}\r\n", text.len()).as_bytes());
        fixture.now = fixture.now.plus(MS(5));
        effects.extend(fixture.tick());
        if effects.iter().any(|effect| matches!(effect, Effect::Decide(ALICE, _))) {
            let wait = fixture.now.minus(began);
            assert!(wait > MS(50) && wait <= MS(100), "{wait:?}");
            return;
        }
    }
    panic!("not decided after {:?}", fixture.now.minus(began));
}
