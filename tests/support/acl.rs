//! Redis user of the filter, as the page on operations gives it.

use weir_provision::redis::RedisServer;

/// Gives the user `weir` of a Redis this password, and the permissions that the page on operations lists.
///
/// # Panics
/// If Redis does not run, or refuses the permissions.
pub fn add_user(redis: &RedisServer, password: &str) {
    let client = redis::Client::open(redis.url()).expect("the URL of Redis is valid");
    let mut connection = client.get_connection().expect("Redis runs");
    let user = ["weir".to_owned(), "on".to_owned(), format!(">{password}"), "~weir:*".to_owned()];
    redis::cmd("ACL")
        .arg("SETUSER")
        .arg(&user)
        .arg(permissions())
        .exec(&mut connection)
        .expect("the page's ACL is valid");
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
