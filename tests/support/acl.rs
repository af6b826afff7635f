//! Users of Redis: that of the filter, as the page on operations gives it, and others.

use weir_provision::redis::RedisServer;

/// Gives the user `weir` of a Redis this password, and the permissions that the page on operations lists.
///
/// # Panics
/// If Redis does not run, or refuses the permissions.
pub fn add_user(redis: &RedisServer, password: &str) {
    let password = format!(">{password}");
    change_user(redis, "weir", &[&["on", &password, "~weir:*"][..], &permissions()].concat());
}

/// Changes a user of a Redis by these rules of `ACL SETUSER`.
///
/// # Panics
/// If Redis does not run, or refuses the rules.
pub fn change_user(redis: &RedisServer, user: &str, rules: &[&str]) {
    let client = redis::Client::open(redis.url()).expect("the URL of Redis is valid");
    let mut connection = client.get_connection().expect("Redis runs");
    redis::cmd("ACL").arg("SETUSER").arg(user).arg(rules).exec(&mut connection).expect("the rules are valid");
}

/// Returns the permissions of the user `weir` that the page on operations lists.
///
/// # Panics
/// If the page has none.
#[must_use]
pub fn permissions() -> Vec<&'static str> {
    let page = include_str!("../../docs/src/operations.md");
    let (_, acl) = page.split_once("ACL SETUSER weir ").expect("the page has an ACL");
    let (acl, _) = acl.split_once("```").expect("the ACL is in a code block");
    acl.split_whitespace().filter(|word| word.starts_with('+')).collect()
}
