//! What an error reply means for the one who called.
//!
//! Redis says it in the first word. Redis before 7.0 hides that word where the error arose inside a script:
//! `ERR Error running script (call to f_…): @user_script:1: @user_script: 1: -READONLY You can't write …`.

use alloc::string::String;

use crate::redis::{Credentials, Failure};

const WRAPPED: &[u8] = b"ERR Error running script";
const LONGEST_DESCRIPTION: usize = 200;

/// Whether the script is not in the server's cache: the one error after which a call may be sent again, since
/// Redis says that it has not run it.
#[must_use]
pub fn is_noscript(error: &[u8]) -> bool {
    first_word(error) == b"NOSCRIPT"
}

/// The failure that an error reply, without its `-`, stands for.
#[must_use]
pub fn failure_of(error: &[u8]) -> Failure {
    match code(error) {
        b"WRONGPASS" | b"NOAUTH" | b"NOPERM" => Failure::Auth,
        b"READONLY" | b"LOADING" | b"MASTERDOWN" | b"CLUSTERDOWN" => Failure::NotReady,
        b"ERR" if is_about_credentials(error) => Failure::Auth,
        _ => Failure::Refused,
    }
}

/// Whether a cluster refused a command whose keys are not of one slot.
pub(in crate::redis) fn is_cross_slot(error: &[u8]) -> bool {
    first_word(error) == b"CROSSSLOT"
}

/// Whether the connection itself has lost its permission, rather than one command.
pub(in crate::redis) fn revokes(error: &[u8]) -> bool {
    matches!(first_word(error), b"NOAUTH" | b"WRONGPASS")
}

/// An error reply for an operator's eyes: printable, short, and without the password, which Redis repeats where
/// it does not know the command (``unknown command `AUTH`, with args beginning with: `hunter2` ``).
pub(in crate::redis) fn describe(error: &[u8], credentials: Option<&Credentials>) -> String {
    // Redis cuts the arguments that it repeats, so that a long password would be found in part only.
    let repeats = |it: &Credentials| it.password.is_in(error) || contains(error, b"args beginning with");
    if credentials.is_some_and(repeats) {
        return "Redis answered with an error that may repeat the password, and is not shown".into();
    }
    let shown = error.get(..LONGEST_DESCRIPTION).unwrap_or(error);
    let more = if shown.len() < error.len() { "..." } else { "" };
    format!("Redis answered: {}{more}", shown.escape_ascii())
}

fn code(error: &[u8]) -> &[u8] {
    if !error.starts_with(WRAPPED) {
        return first_word(error);
    }
    let inner = error.windows(3).position(|window| window == b": -").map(|at| at.saturating_add(3));
    inner.and_then(|at| error.get(at..)).map_or(b"ERR".as_slice(), first_word)
}

fn first_word(error: &[u8]) -> &[u8] {
    error.split(|&byte| byte == b' ').next().unwrap_or_default()
}

/// Redis before 6.0, or without any password, says so in words. 6.x does, too, where a script may not do what it
/// does.
fn is_about_credentials(error: &[u8]) -> bool {
    error.starts_with(b"ERR invalid password")
        || error.starts_with(b"ERR AUTH <password> called without any password configured")
        || error.starts_with(b"ERR Client sent AUTH, but no password is set")
        || error.starts_with(WRAPPED) && contains(error, b"The user executing the script can't")
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::Secret;

    #[test]
    fn the_first_word_of_an_error_says_what_failed() {
        for (error, failure) in [
            ("WRONGPASS invalid username-password pair or user is disabled.", Failure::Auth),
            ("NOAUTH Authentication required.", Failure::Auth),
            ("NOPERM this user has no permissions to run the 'eval' command", Failure::Auth),
            ("ERR invalid password", Failure::Auth),
            ("ERR AUTH <password> called without any password configured for the default user.", Failure::Auth),
            ("ERR Client sent AUTH, but no password is set", Failure::Auth),
            ("READONLY You can't write against a read only replica.", Failure::NotReady),
            ("LOADING Redis is loading the dataset in memory", Failure::NotReady),
            ("MASTERDOWN Link with MASTER is down", Failure::NotReady),
            ("CLUSTERDOWN The cluster is down", Failure::NotReady),
            ("OOM command not allowed when used memory > 'maxmemory'.", Failure::Refused),
            ("BUSY Redis is busy running a script.", Failure::Refused),
            ("NOSCRIPT No matching script. Please use EVAL.", Failure::Refused),
            ("READONLYISH made up", Failure::Refused),
            ("ERR DB index is out of range", Failure::Refused),
            ("", Failure::Refused),
        ] {
            assert_eq!(failure_of(error.as_bytes()), failure, "{error}");
        }
    }

    #[test]
    fn an_error_inside_a_script_is_found_in_the_words_of_redis_6() {
        let wrapped = |inner: &str| {
            format!("ERR Error running script (call to f_a8e0): @user_script:1: @user_script: 1: {inner}").into_bytes()
        };
        assert_eq!(failure_of(&wrapped("-READONLY You can't write against a read only replica.")), Failure::NotReady);
        assert_eq!(failure_of(&wrapped("-OOM command not allowed")), Failure::Refused);
        assert_eq!(failure_of(&wrapped("The user executing the script can't run this command")), Failure::Auth);
        assert_eq!(failure_of(&wrapped("attempt to index a nil value")), Failure::Refused);
    }

    #[test]
    fn an_error_that_repeats_the_password_is_not_shown() {
        let credentials = Credentials { username: None, password: Secret::new("hunter2") };
        for error in [
            "ERR unknown command `AUTH`, with args beginning with: `hunter2`, ",
            "ERR unknown command `AUTH`, with args beginning with: `hunt",
            "hunter2 is not the password",
        ] {
            let shown = describe(error.as_bytes(), Some(&credentials));
            assert!(!shown.contains("hunt"), "{shown}");
        }
    }

    #[test]
    fn an_error_is_shown_on_one_short_line_of_printable_characters() {
        let shown = describe(&[b"ERR \xff\x1b[2J ".as_slice(), &[b'x'; 5000]].concat(), None);
        assert!(shown.len() < 300 && shown.starts_with(r"Redis answered: ERR \xff\x1b[2J xxx"), "{shown}");
    }
}
