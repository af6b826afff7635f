//! What can be wrong with what an operator asks for.

use std::io;

use weir_filter::config::ConfigErrors;
use weir_filter::limit::MalformedReply;
use weir_filter::overrides::SettingError;

use crate::scenario::ScenarioError;

/// Why `weir limits` did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LimitsError {
    /// Which limits there are was not said.
    #[error("expected --config FILE, an Envoy bootstrap with the limits, found none and no {default} here")]
    NoConfig {
        /// What would be read without it.
        default: &'static str,
    },
    /// The file cannot be read, or has no limiter in it.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The limits' configuration is wrong.
    #[error("{origin}: {errors}")]
    Configuration {
        /// The file.
        origin: String,
        /// All that is wrong.
        errors: ConfigErrors,
    },
    /// No limit has this name.
    #[error("no limit `{name}`; expected one of {}", known.join(", "))]
    UnknownLimit {
        /// As asked for.
        name: String,
        /// The configuration's.
        known: Vec<String>,
    },
    /// Limiters with different key prefixes have a limit of this name.
    #[error("limit `{name}` is under several key prefixes; expected --key-prefix with one of {}", prefixes.join(", "))]
    SeveralPrefixes {
        /// The limit.
        name: String,
        /// The prefixes.
        prefixes: Vec<String>,
    },
    /// A key of more or fewer values than the limit's descriptor has.
    #[error(
        "limit `{limit}`: expected a key of as many values as its descriptor has entries, {expected}, found {found}"
    )]
    Values {
        /// The limit.
        limit: String,
        /// Entries of its descriptor.
        expected: usize,
        /// Values given.
        found: usize,
    },
    /// `--encoded`, and no key that a filter writes.
    #[error("expected one key as `weir limits list` shows it, up to 128 characters, found {found}")]
    Encoded {
        /// As given.
        found: String,
    },
    /// Nothing to set, or nothing known.
    #[error("expected unlimited, blocked, shadow or off as the last word, or --rate, --quota or --max, found {found}")]
    Ruling {
        /// The last word.
        found: String,
    },
    /// A window that the limit has not.
    #[error("limit `{limit}`: expected {expected}, found {found}: the limit has {has}")]
    NoSuchWindow {
        /// The limit.
        limit: String,
        /// The option that is for it.
        expected: &'static str,
        /// The option given.
        found: &'static str,
        /// The limit's windows.
        has: String,
    },
    /// No quota.
    #[error("--quota: expected requests per calendar unit, such as 10/month, 500/day or 20/hour, found {found}")]
    Quota {
        /// As given.
        found: String,
    },
    /// No rate.
    #[error("--rate: expected tokens per time, such as 100/60s, 5/s or 1000/1d, found {found}")]
    Rate {
        /// As given.
        found: String,
    },
    /// No time.
    #[error("--for: expected a time such as 90s, 10m, 12h or 7d, found {found}")]
    For {
        /// As given.
        found: String,
    },
    /// A rate that no bucket can have, or an end that is no date.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// Something else is kept where a bucket is.
    #[error("{key}: expected a bucket of this limit, found another kind of value under its key")]
    NotABucket {
        /// The bucket's key in Redis.
        key: String,
    },
    /// Redis' script replies as none of ours does.
    #[error("redis at {address}: {source}")]
    Malformed {
        /// Host and port.
        address: String,
        /// What was found.
        source: MalformedReply,
    },
    /// The Redis URL is none.
    #[error("--redis: expected redis://[[user]:password@]host[:port][/database]: {0}")]
    Url(#[source] redis::RedisError),
    /// Redis could not be asked, or refused.
    #[error("redis at {address}: {source}")]
    Redis {
        /// Host and port.
        address: String,
        /// What happened.
        source: redis::RedisError,
    },
    /// The result cannot be told.
    #[error("cannot write the result: {0}")]
    Output(#[from] io::Error),
}
