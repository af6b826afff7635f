//! Tests of the filter state of requests.

use super::*;

/// Values of these entries of the filter state of alice's request, whose check has this reply.
fn entries<const N: usize>(reply: &[u8], names: [&str; N]) -> [Option<String>; N] {
    let mut fixture = Fixture::connected("", r#""emit_metadata": true,"#);
    fixture.request(ALICE, "alice");
    let effects = fixture.redis_replies(reply);
    let Some(Effect::Annotate(ALICE, entries)) = effects.first() else { panic!("{effects:?}") };
    names.map(|name| entries.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone()))
}

#[test]
fn only_a_denied_request_is_told_when_to_come_again() {
    let names = ["weir.decision", "weir.remaining", "weir.retry_after_us"];
    let [denied, admitted] = [DENIED, ADMITTED].map(|reply| entries(reply, names));
    assert_eq!(denied.each_ref().map(Option::as_deref), [Some("denied"), Some("0"), Some("600000")]);
    assert_eq!(admitted.each_ref().map(Option::as_deref), [Some("admitted"), Some("19"), None]);
}

#[test]
fn a_request_that_redis_does_not_decide_tells_the_cause() {
    let [decision, failure] = entries(b"-ERR broken\r\n", ["weir.decision", "weir.failure"]);
    assert_eq!((decision.as_deref(), failure.as_deref()), (Some("failed"), Some("refused")));
}
