//! Overrides in Redis whose numbers are of another unit than their limit: workers ignore them.

use redis::Commands;
use weir_provision::redis::RedisOptions;

use crate::operator::Operator;
use crate::{CONFIGURATION, HASH};

const OF_TOKENS: &str = r#"{"quota": {"max_tokens": 5, "unit": "year"}}"#;
const IGNORED: &str = "ignored: expected max_requests for a limit without a charge, found max_tokens";

#[test]
fn an_override_of_another_unit_is_shown_as_ignored_wherever_it_is_stored() {
    let Some(mut operator) = Operator::of(CONFIGURATION, RedisOptions::default()) else { return };
    let _: () = operator.redis.hset(HASH, "per_user", OF_TOKENS).unwrap();
    let _: () = operator.redis.hset(HASH, "per_user:older", OF_TOKENS).unwrap();
    let _: () = operator.redis.set("we*ir:per_user:alice#override", OF_TOKENS).unwrap();
    for key in [&[][..], &["alice"], &["older"]] {
        let said = operator.types(&[&["get", "per_user"], key].concat());
        assert!(said.contains(IGNORED) && said.contains("no override"), "{key:?}: {said}");
    }
    let listed = operator.types(&["list"]);
    assert_eq!(listed.matches(IGNORED).count(), 3, "{listed}");
    let listed = operator.reads(&["list"]);
    let overrides: Vec<_> = listed.iter().map(|row| &row["override"]).filter(|found| found.is_object()).collect();
    assert_eq!(overrides.len(), 3, "{listed:?}");
    assert!(overrides.iter().all(|found| found["state"] == "malformed"), "{listed:?}");
    let seen = operator.types(&["peek", "per_user", "alice"]);
    assert!(seen.contains("override   none"), "{seen}");
    let told = operator.types(&["migrate"]);
    assert!(told.contains("left per_user older: expected max_requests"), "{told}");
}
