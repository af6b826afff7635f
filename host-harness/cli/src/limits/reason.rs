//! Reasons of Redis errors as text: Redis' own reason, without the codes of the client library.

use std::io;

use redis::{RedisError, ServerError};

use super::server::ANSWER_WITHIN;

const ACL: &str = "see Redis ACL in docs/src/operations.md";
const CLUSTER: &str = "this is one node of a Redis Cluster, which needs --redis redis+cluster://host:port,...";

/// Returns the text of an error of the client library. It contains no credentials.
pub(super) fn reason(error: &RedisError) -> String {
    if error.is_timeout() {
        return no_answer();
    }
    let Some(errors) = error.clone().into_server_errors() else { return error.to_string() };
    let missing = commands(errors.iter().map(|(_, error)| error));
    if !missing.is_empty() {
        return format!("this Redis user needs also: {}; {ACL}", missing.join(" "));
    }
    errors.first().map_or_else(|| error.to_string(), |(_, error)| own_text(error))
}

/// Returns the text of an error of a connection.
pub(super) fn reason_of_io(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => no_answer(),
        _ => error.to_string(),
    }
}

fn no_answer() -> String {
    format!("no answer within {} s", ANSWER_WITHIN.as_secs())
}

/// The commands that Redis denied to the user, as ACL rules: `+scan`.
fn commands<'a>(errors: impl Iterator<Item = &'a ServerError>) -> Vec<String> {
    let mut missing = Vec::new();
    for error in errors {
        let named = error.details().and_then(|details| {
            let (_, rest) = details.split_once("no permissions to run the '")?;
            Some(format!("+{}", rest.split('\'').next()?))
        });
        missing.extend(named.filter(|command| !missing.contains(command)));
    }
    missing
}

fn own_text(error: &ServerError) -> String {
    let details = error.details().unwrap_or_default().trim_end();
    // A server without the command repeats its arguments, such as a password after AUTH.
    let details = details.split_once(", with args beginning with").map_or(details, |(before, _)| before);
    let text = format!("{} {details}", error.code());
    match error.code() {
        "MOVED" | "CROSSSLOT" => format!("{text}; {CLUSTER}"),
        _ if text.contains("NOPERM") => format!("{text}; {ACL}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use redis::{ErrorKind, RedisError};

    use super::*;

    #[test]
    fn a_reply_that_does_not_come_is_told_without_numbers_of_the_system() {
        let error = io::Error::from(io::ErrorKind::WouldBlock);
        assert_eq!(reason_of_io(&error), "no answer within 10 s");
        assert_eq!(reason(&RedisError::from(error)), "no answer within 10 s");
        let other = RedisError::from((ErrorKind::Io, "broken"));
        assert_eq!(reason(&other), other.to_string());
    }
}
