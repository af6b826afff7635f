//! Errors of `weir limits`.

use std::io;

use weir_filter::config::ConfigErrors;
use weir_filter::limit::MalformedReply;
use weir_filter::overrides::SettingError;
use weir_host::scenario::ScenarioError;

/// Reasons why a `weir limits` command failed.
#[derive(Debug, thiserror::Error)]
pub enum LimitsError {
    /// No configuration file was given, and the default file does not exist.
    #[error("expected --config FILE, an Envoy bootstrap with the limits, found none and no {default} here")]
    NoConfig {
        /// The file that is read by default.
        default: &'static str,
    },
    /// The file cannot be read, or contains no limiter.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The filter refuses the limits' configuration.
    #[error("{origin}: {errors}")]
    Configuration {
        /// The file.
        origin: String,
        /// All errors in the configuration.
        errors: ConfigErrors,
    },
    /// No limit has this name.
    #[error("no limit `{name}`; expected one of {}", known.join(", "))]
    UnknownLimit {
        /// The name that was given.
        name: String,
        /// The names of the configured limits.
        known: Vec<String>,
    },
    /// Limiters with different key prefixes have a limit of this name.
    #[error("limit `{name}` is under several key prefixes; expected --key-prefix with one of {}", prefixes.join(", "))]
    SeveralPrefixes {
        /// The limit's name.
        name: String,
        /// The key prefixes of these limiters.
        prefixes: Vec<String>,
    },
    /// A key has more or fewer values than the limit's descriptor has entries.
    #[error(
        "limit `{limit}`: expected a key of as many values as its descriptor has entries, {expected}, found {found}"
    )]
    Values {
        /// The limit's name.
        limit: String,
        /// The number of entries of the limit's descriptor.
        expected: usize,
        /// The number of values that were given.
        found: usize,
    },
    /// The key after `--encoded` is not a key in the filter's form.
    #[error("expected one key as `weir limits list` shows it, up to 128 characters, found {found}")]
    Encoded {
        /// The text that was given.
        found: String,
    },
    /// `set` was given no override, or an unknown word.
    #[error("expected unlimited, blocked, shadow or off as the last word, or --rate, --quota or --max, found {found}")]
    Ruling {
        /// The last word.
        found: String,
    },
    /// An option is about a window that the limit does not have.
    #[error("limit `{limit}`: expected {expected}, found {found}: the limit has {has}")]
    NoSuchWindow {
        /// The limit's name.
        limit: String,
        /// The option that fits the limit.
        expected: &'static str,
        /// The option that was given.
        found: &'static str,
        /// The limit's windows.
        has: String,
    },
    /// The value of `--quota` is not a quota.
    #[error("--quota: expected requests per calendar unit, such as 10/month, 500/day or 20/hour, found {found}")]
    Quota {
        /// The text that was given.
        found: String,
    },
    /// The value of `--rate` is not a rate.
    #[error("--rate: expected tokens per time, such as 100/60s, 5/s or 1000/1d, found {found}")]
    Rate {
        /// The text that was given.
        found: String,
    },
    /// The value of `--for` is not a time.
    #[error("--for: expected a time such as 90s, 10m, 12h or 7d, found {found}")]
    For {
        /// The text that was given.
        found: String,
    },
    /// The filter would refuse the override: its rate, its window or its end is out of range.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// A Redis key of a bucket holds another kind of value.
    #[error("{key}: expected a bucket of this limit, found another kind of value under its key")]
    NotABucket {
        /// The bucket's key in Redis.
        key: String,
    },
    /// The reply of the script has an unexpected form.
    #[error("redis at {address}: {source}")]
    Malformed {
        /// Redis' host and port.
        address: String,
        /// The unexpected part of the reply.
        source: MalformedReply,
    },
    /// The value of `--redis` is not a Redis URL.
    #[error("--redis: expected redis://[[user]:password@]host[:port][/database]: {0}")]
    Url(#[source] redis::RedisError),
    /// Redis could not be reached, or refused a command.
    #[error("redis at {address}: {source}")]
    Redis {
        /// Redis' host and port.
        address: String,
        /// The client's error.
        source: redis::RedisError,
    },
    /// The result cannot be written to standard output.
    #[error("cannot write the result: {0}")]
    Output(#[from] io::Error),
}
