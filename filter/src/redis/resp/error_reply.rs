//! Error replies: the [`Failure`] that they stand for, and their description in the log.
//!
//! The first word of an error reply is its code. For an error inside a script, Redis before 7.0 puts a prefix before
//! the code: `ERR Error running script (call to f_…): @user_script:1: @user_script: 1: -READONLY You can't write …`.
//!
//! An error reply can repeat bytes that a client sent: the arguments of an unknown command, a key, the slot of a key.
//! Therefore the log never contains the reply itself: [`describe`] chooses among fixed texts.

use alloc::string::String;

use crate::redis::Failure;

const WRAPPED: &[u8] = b"ERR Error running script";
/// Start of the location of an error inside a script: `@user_script: 20: `, `@user_script:20: `, `user_script:20: `.
const LOCATION: &[u8] = b"user_script:";

/// Commands that Weir sends or its scripts call: a description names no other command.
const COMMANDS: [&str; 27] = [
    "EVALSHA",
    "EVAL",
    "AUTH",
    "SELECT",
    "PING",
    "TIME",
    "GET",
    "SET",
    "ZADD",
    "ZREM",
    "ZCOUNT",
    "ZSCORE",
    "ZREVRANGE",
    "ZREMRANGEBYSCORE",
    "PEXPIRE",
    "PTTL",
    "LINDEX",
    "LLEN",
    "LTRIM",
    "RPUSH",
    "RPOP",
    "HSCAN",
    "HLEN",
    "HMGET",
    "HSET",
    "HDEL",
    "XADD",
];

/// Failures and descriptions by the start of the error text after `ERR `: a code of one word, or several words.
const MEANINGS: [(&str, Failure, &str); 34] = [
    ("WRONGPASS", Failure::Auth, "redis.username or redis.password is wrong"),
    ("invalid password", Failure::Auth, "redis.password is wrong"),
    ("AUTH <password> called without any password", Failure::Auth, NO_PASSWORD),
    ("Client sent AUTH, but no password is set", Failure::Auth, NO_PASSWORD),
    ("NOAUTH", Failure::Auth, "redis.password is missing"),
    ("NOPERM", Failure::Auth, ACL),
    ("The user executing the script", Failure::Auth, ACL),
    ("ACL failure in script", Failure::Auth, ACL),
    ("READONLY", Failure::NotReady, "this Redis is a replica"),
    ("LOADING", Failure::NotReady, "this Redis is loading its data"),
    ("MASTERDOWN", Failure::NotReady, "this replica has lost its master"),
    ("NOREPLICAS", Failure::NotReady, "this master has too few replicas"),
    ("CLUSTERDOWN Hash slot not served", Failure::ClusterMode, CLUSTER),
    ("CLUSTERDOWN", Failure::NotReady, "Redis is a cluster that is down"),
    ("MOVED", Failure::ClusterMode, CLUSTER),
    ("ASK", Failure::ClusterMode, CLUSTER),
    ("TRYAGAIN", Failure::ClusterMode, CLUSTER),
    ("CROSSSLOT", Failure::ClusterMode, CLUSTER),
    ("Script attempted to access", Failure::ClusterMode, CLUSTER),
    ("Lua script attempted to access", Failure::ClusterMode, CLUSTER),
    ("OOM", Failure::Refused, "maxmemory is reached"),
    ("BUSY", Failure::Refused, "a slow script blocks this Redis"),
    ("MISCONF", Failure::Refused, "this Redis cannot save its data to disk"),
    ("NOSCRIPT", Failure::Refused, "this Redis does not cache scripts"),
    ("WRONGTYPE", Failure::Refused, "another program uses redis.key_prefix"),
    ("unknown command", Failure::Refused, UNKNOWN_COMMAND),
    ("Unknown Redis command called from", Failure::Refused, UNKNOWN_COMMAND),
    ("DB index is out of range", Failure::Refused, "redis.database does not exist"),
    ("upstream failure", Failure::Reset, "redis_proxy has lost or given up the connection to a node of the cluster"),
    ("no upstream host", Failure::Unavailable, "redis_proxy has no connection to a node of the cluster"),
    ("Script attempted to execute", Failure::NotReady, "Redis is a cluster that is down"),
    ("Lua script attempted to execute", Failure::NotReady, "Redis is a cluster that is down"),
    ("max number of clients", Failure::Refused, "maxclients is reached"),
    ("DENIED", Failure::Refused, PROTECTED),
];

const NO_PASSWORD: &str = "redis.password is set, but Redis has none";
const ACL: &str = "the ACL forbids a command or key that Weir needs (docs/src/operations.md, \"Redis ACL\")";
const CLUSTER: &str = "Redis is a cluster: its nodes refuse keys of other nodes and of slots that are moving; it needs \
                       redis.topology: cluster and redis_proxy (docs/src/redis.md, \"Redis Cluster\")";
const PROTECTED: &str =
    "it is in protected mode, in which it serves its own machine alone: set a password, or protected-mode no";
const UNKNOWN_COMMAND: &str =
    "the command is missing: renamed, disabled or too new (docs/src/operations.md, \"Redis ACL\")";
const NOT_SHOWN: &str = "not shown, as it may repeat what a client sent";

/// Returns whether the script is not in Redis' script cache. The call was not run, so it may be sent again.
#[must_use]
pub fn is_noscript(error: &[u8]) -> bool {
    first_word(error) == b"NOSCRIPT"
}

/// Returns the failure that an error reply stands for. `error` is the text without the `-`.
#[must_use]
pub fn failure_of(error: &[u8]) -> Failure {
    meaning(words(error)).map_or(Failure::Refused, |&(_, failure, _)| failure)
}

/// Returns whether a cluster refused a command with keys of different hash slots.
pub(in crate::redis) fn is_cross_slot(error: &[u8]) -> bool {
    first_word(error) == b"CROSSSLOT"
}

/// Returns whether the whole connection has lost its permission, not only one command.
pub(in crate::redis) fn revokes(error: &[u8]) -> bool {
    matches!(first_word(error), b"NOAUTH" | b"WRONGPASS")
}

/// Describes an error reply for the log: its code and the command where known, and their meaning. Contains no other
/// part of the reply.
pub(in crate::redis) fn describe(error: &[u8]) -> String {
    let words = words(error);
    let (begins, means) = meaning(words).map_or(("", NOT_SHOWN), |&(begins, _, means)| (begins, means));
    let code = if begins.is_empty() || begins.contains(' ') { "an error" } else { begins };
    let quoted = words.split(|&byte| byte == b'\'' || byte == b'`').nth(1).unwrap_or_default();
    let command = COMMANDS.iter().find(|command| quoted.eq_ignore_ascii_case(command.as_bytes()));
    let (about, command) = command.map_or(("", ""), |command| (" about ", command));
    format!("Redis answered {code}{about}{command}: {means}")
}

fn meaning(words: &[u8]) -> Option<&'static (&'static str, Failure, &'static str)> {
    MEANINGS.iter().find(|(begins, ..)| {
        let behind = words.strip_prefix(begins.as_bytes());
        behind.is_some_and(|behind| behind.first().is_none_or(|byte| *byte == b' ') || begins.contains(' '))
    })
}

/// Returns the error's text without `ERR`, and without the script locations before it.
fn words(error: &[u8]) -> &[u8] {
    let mut words = error;
    if error.starts_with(WRAPPED) || error.starts_with(b"@") {
        while let Some(behind) = after_location(words) {
            words = behind;
        }
    }
    let words = words.strip_prefix(b"-").unwrap_or(words);
    words.strip_prefix(b"ERR ").unwrap_or(words)
}

/// Returns the text after the first script location.
fn after_location(words: &[u8]) -> Option<&[u8]> {
    let at = words.windows(LOCATION.len()).position(|window| window == LOCATION)?;
    let line = words.get(at.saturating_add(LOCATION.len())..)?;
    let end = line.iter().position(|byte| !matches!(byte, b' ' | b'0'..=b'9'))?;
    line.get(end..)?.strip_prefix(b": ")
}

fn first_word(error: &[u8]) -> &[u8] {
    error.split(|&byte| byte == b' ').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "s3cret-API-key";

    #[test]
    fn the_first_words_of_an_error_decide_the_failure() {
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
            ("NOREPLICAS Not enough good replicas to write.", Failure::NotReady),
            ("CLUSTERDOWN The cluster is down", Failure::NotReady),
            ("CLUSTERDOWN Hash slot not served", Failure::ClusterMode),
            ("MOVED 3999 127.0.0.1:6381", Failure::ClusterMode),
            ("ASK 3999 127.0.0.1:6381", Failure::ClusterMode),
            ("TRYAGAIN Multiple keys request during rehashing of slot", Failure::ClusterMode),
            ("CROSSSLOT Keys in request don't hash to the same slot", Failure::ClusterMode),
            ("upstream failure", Failure::Reset),
            ("no upstream host", Failure::Unavailable),
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

    /// Formats an error inside a script: as Redis 6.2 does for `call` and `pcall`, and as Weir's scripts do for one of
    /// several requests; then as Redis 7.0 does for both, and Redis 7.2 and later.
    fn in_a_script(inner: &str) -> [String; 6] {
        [
            format!("ERR Error running script (call to f_a8e0): @user_script:1: @user_script: 1: {inner}"),
            format!("@user_script: 24: {inner}"),
            format!("ERR Error running script: @user_script: 24: {inner}"),
            format!("ERR Error running script: @user_script:24: {inner}"),
            format!("{} script: a8e0, on @user_script:1.", inner.trim_start_matches('-')),
            format!("ERR {inner}"),
        ]
    }

    #[test]
    fn an_error_inside_a_script_has_its_failure_in_the_format_of_any_redis() {
        for (inner, failure) in [
            ("-READONLY You can't write against a read only replica.", Failure::NotReady),
            ("-NOREPLICAS Not enough good replicas to write.", Failure::NotReady),
            ("-OOM command not allowed", Failure::Refused),
            ("The user executing the script can't run this command or subcommand", Failure::Auth),
            ("The user executing the script can't access at least one of the keys mentioned", Failure::Auth),
            ("ACL failure in script: User weir has no permissions to run the 'get' command", Failure::Auth),
            ("Script attempted to access a non local key in a cluster node", Failure::ClusterMode),
            ("Lua script attempted to access a non local key in a cluster node", Failure::ClusterMode),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", Failure::Refused),
            ("attempt to index a nil value", Failure::Refused),
        ] {
            for error in in_a_script(inner).iter().filter(|error| !error.starts_with("ERR -")) {
                assert_eq!(failure_of(error.as_bytes()), failure, "{error}");
            }
        }
    }

    #[test]
    fn a_description_names_the_code_the_command_and_the_cure() {
        for (error, expected) in [
            (
                "NOPERM this user has no permissions to run the 'evalsha' command",
                "Redis answered NOPERM about EVALSHA: the ACL forbids",
            ),
            (
                "ERR ACL failure in script: User weir has no permissions to run the 'get' command",
                "Redis answered an error about GET: the ACL",
            ),
            (
                "ERR unknown command `EVALSHA`, with args beginning with: `5f8c`, ",
                "Redis answered an error about EVALSHA: the command is missing",
            ),
            ("ERR unknown command 'MYSECRET', with args", "Redis answered an error: the command is missing"),
            ("MOVED 3999 10.0.0.1:6381", "Redis answered MOVED: Redis is a cluster: "),
            ("OOM command not allowed", "Redis answered OOM: maxmemory"),
            ("DENIED Redis is running in protected mode because", "Redis answered DENIED: it is in protected mode"),
            ("ERR max number of clients reached", "Redis answered an error: maxclients"),
            ("ERR max number of clients + cluster connections reached", "Redis answered an error: maxclients"),
            ("WEIRD s3cret", "Redis answered an error: not shown"),
        ] {
            let shown = describe(error.as_bytes());
            assert!(shown.starts_with(expected), "{error}: {shown}");
        }
    }

    proptest! {
        #[test]
        fn a_description_contains_nothing_that_redis_repeats(
            begins in prop::sample::select(MEANINGS.map(|(begins, ..)| begins).to_vec()),
            before in "[ -~]{0,40}",
            quote in prop::sample::select(vec!["'", "`", " ", ""]),
            form in 0_usize..6,
            anywhere: bool,
        ) {
            let text = if anywhere {
                format!("{before}{quote}{SECRET}{quote}")
            } else {
                format!("{begins} {before}{quote}{SECRET}{quote}")
            };
            for error in [&in_a_script(&text)[form], &text, &format!("{SECRET} {text}")] {
                let shown = describe(error.as_bytes());
                prop_assert!(!shown.contains("s3cret") && !shown.contains("API"), "{}: {}", error, shown);
                prop_assert!(shown.is_ascii() && shown.len() < 300, "{shown}");
            }
        }

        #[test]
        fn any_error_has_a_meaning(error: Vec<u8>, is_wrapped: bool) {
            let error = if is_wrapped { [WRAPPED, &error].concat() } else { error };
            let described = describe(&error);
            let known = core::iter::once(NOT_SHOWN).chain(MEANINGS.map(|(_, _, means)| means));
            prop_assert!(known.into_iter().any(|means| described.ends_with(means)));
            let _ = failure_of(&error);
        }
    }
}
