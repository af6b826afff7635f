//! Errors of `weir limits`.

use std::io;

use weir_filter::config::ConfigError;
use weir_filter::limit::MalformedReply;
use weir_filter::overrides::SettingError;

use super::endpoint::Endpoint;
use super::reason::reason;
pub use super::sentinel::SentinelError;
pub use super::tls::TlsError;
pub use super::url::UrlError;
use crate::documents::Position;

/// Value of a file that cannot be used. It contains no text that may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {path}: expected {expected}, found {found}")]
pub struct Misread {
    /// The file, with line and column.
    pub place: String,
    /// Path of the value in its document.
    pub path: String,
    /// The values that can be used.
    pub expected: &'static str,
    /// The value, or its kind.
    pub found: String,
}

/// Reasons why no connection to a server can be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The server cannot be reached, or refuses the login.
    #[error("{}", reason(.0))]
    Redis(#[from] redis::RedisError),
    /// No TLS connection.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
}

impl OpenError {
    /// Whether the server cannot be reached.
    pub(super) fn is_unreachable(&self) -> bool {
        match self {
            Self::Redis(error) => error.is_io_error(),
            Self::Tls(error) => matches!(error, TlsError::Handshake(_)),
        }
    }

    /// The error of a Redis at this address.
    pub(super) fn at(self, server: &Endpoint) -> LimitsError {
        let address = server.to_string();
        match self {
            Self::Redis(source) => LimitsError::Redis { address, source },
            Self::Tls(source) => LimitsError::Tls { address, source },
        }
    }
}

/// Reasons why a `weir limits` command failed.
#[derive(Debug, thiserror::Error)]
pub enum LimitsError {
    /// The command has neither a configuration file nor a Redis.
    #[error(
        "expected --config FILE (an Envoy bootstrap, a limiter's configuration or a Kubernetes manifest), or --redis \
         URL (redis://[user[:password]@]host[:port][/database]), found neither"
    )]
    NoConfig,
    /// The command needs the limits' configuration.
    #[error("expected --config FILE with the limit, found no configuration of it")]
    NeedsConfig,
    /// The file contains no limiter.
    #[error("{origin}: no limiter's configuration, which has `redis` and `limits`")]
    NoLimiter {
        /// The file.
        origin: String,
    },
    /// The file has no address for the limiter's cluster.
    #[error("{place}: no cluster {cluster:?} with a host and a port; expected --redis URL with the address of Redis")]
    NoAddress {
        /// The file, with the line and column of the cluster's name in the limiter.
        place: String,
        /// The cluster's name.
        cluster: String,
    },
    /// The limiter's cluster leads to an HTTP front end.
    #[error("{place}: redis.transport is an HTTP front end; expected --redis URL with the address of Redis itself")]
    FrontEnd {
        /// The file, with the line and column of `redis` in the limiter.
        place: String,
    },
    /// No node serves the hash slot of a key.
    #[error("redis cluster of {addresses}: no master has hash slot {slot}")]
    UnservedSlot {
        /// Addresses of the masters.
        addresses: String,
        /// The hash slot.
        slot: u16,
    },
    /// The limiters of the file use several databases or several Redis.
    #[error("{place}: the limiters use several Redis or databases; expected --redis URL with one of them")]
    SeveralRedis {
        /// The file, with the line and column of the first limiter that uses another Redis.
        place: String,
    },
    /// The cluster of Redis has a value that cannot be used.
    #[error(transparent)]
    Cluster(#[from] Misread),
    /// The environment variable of the password is not set.
    #[error(
        "{place}: redis.password.env: expected the password of Redis in {variable}, found it empty or not set here"
    )]
    NoPassword {
        /// The file, with the line and column of the variable's name.
        place: String,
        /// The variable.
        variable: String,
    },
    /// The certificates of the cluster come from the proxies' control plane.
    #[error("{place}: cluster {cluster:?} gets its certificates from a control plane; expected --tls-ca FILE")]
    RemoteSecrets {
        /// The file, with the line and column of the certificates' source.
        place: String,
        /// The cluster's name.
        cluster: String,
    },
    /// Options for TLS, but a connection without TLS.
    #[error("expected --tls options with a rediss:// URL or a cluster with TLS, found neither")]
    TlsWithoutTls,
    /// None of several endpoints is a master.
    #[error("redis at {addresses}: no master")]
    NoMaster {
        /// Hosts and ports.
        addresses: String,
    },
    /// No TLS connection to Redis.
    #[error("redis at {address}: TLS: {source}")]
    Tls {
        /// Redis' host and port.
        address: String,
        /// The cause.
        source: TlsError,
    },
    /// The file cannot be read.
    #[error("{origin}: {why}")]
    Unread {
        /// The file.
        origin: String,
        /// The cause.
        why: String,
    },
    /// The file is neither YAML nor JSON.
    #[error("{origin}:{position}: expected YAML or JSON, found {found}")]
    Syntax {
        /// The file.
        origin: String,
        /// Place of the error.
        position: Position,
        /// Kind of the error, without any text of the file.
        found: &'static str,
    },
    /// A limiter has no configuration that the filter gets.
    #[error("{place}: {error}")]
    Unwritten {
        /// The file, with line and column.
        place: String,
        /// Path, and what was expected.
        error: String,
    },
    /// The filter refuses the limits' configuration.
    #[error("{}", errors.iter().map(|(place, error)| format!("{place}: {error}")).collect::<Vec<_>>().join("\n"))]
    Configuration {
        /// All errors in the configuration, each after its file, line and column.
        errors: Vec<(String, ConfigError)>,
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
    /// The proxies read no overrides.
    #[error("limit `{limit}`: expected overrides to be read, found them switched off by overrides.enabled: false")]
    SwitchedOff {
        /// The limit's name.
        limit: String,
    },
    /// The key after `--encoded` is not a key in the filter's form.
    #[error("expected one key as `weir limits list` shows it, up to {most} characters, found {found}")]
    Encoded {
        /// The greatest number of characters.
        most: usize,
        /// The text that was given.
        found: String,
    },
    /// `set` was given no override, or an unknown word.
    #[error(
        "expected unlimited, blocked, shadow or off as the last word, or --rate, --quota, --max or --times, found {found}"
    )]
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
    /// The number of a window would be too great.
    #[error("limit `{limit}`: {option}: expected at most {most}, found {found}: the limit has {has}")]
    TooMany {
        /// The limit's name.
        limit: String,
        /// The option.
        option: &'static str,
        /// The greatest number.
        most: u64,
        /// The number that the window would have.
        found: u64,
        /// The limit's windows.
        has: String,
    },
    /// The limit's token bucket would take too long to fill.
    #[error("limit `{limit}`: {option}: expected a bucket that fills within 142 years: the limit has {has}")]
    TooSlow {
        /// The limit's name.
        limit: String,
        /// The option.
        option: &'static str,
        /// The limit's windows.
        has: String,
    },
    /// The value of `--times` is not a factor.
    #[error("--times: expected a number from 0 to 1000 with at most six decimals, such as 2 or 0.5, found {found}")]
    Times {
        /// The text that was given.
        found: String,
    },
    /// The value of `--quota` is not a quota.
    #[error(
        "--quota: expected requests per minute, hour, day, week, month or year, such as 10/month or 500/day, found {found}"
    )]
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
    #[error("--for: expected a time such as 90s, 10m, 1h30m or 7d, found {found}")]
    For {
        /// The text that was given.
        found: String,
    },
    /// The value of `--until` is not an instant.
    #[error("--until: expected an instant with its offset from UTC, such as 2026-12-01T00:00Z, found {found}")]
    Until {
        /// The text that was given.
        found: String,
    },
    /// The end of the override is an instant that has passed.
    #[error("{place}: expected an instant after now by Redis' clock, found an earlier one")]
    Past {
        /// The option, or the field of the JSON.
        place: &'static str,
    },
    /// `--burst` is given without `--rate`.
    #[error("--burst needs --rate, such as --rate 5/s --burst 20; --max sets the size of a token bucket alone")]
    BurstAlone,
    /// Two parts of an override that exclude each other.
    #[error("{one} and {other} exclude each other")]
    Exclusive {
        /// The word or the JSON.
        one: String,
        /// The option.
        other: &'static str,
    },
    /// The key of the limit's hashes is not set where the command runs.
    #[error(
        "limit `{limit}` hashes its keys: expected hash_key in {variable}, found it empty or not set in this shell; or \
         give the key as `list` shows it, with --encoded"
    )]
    NoHashKey {
        /// The limit's name.
        limit: String,
        /// The variable.
        variable: String,
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
    /// The value of `--redis` or `REDIS_URL` is not a Redis URL.
    #[error("{place}: {source}")]
    Url {
        /// The option or the variable.
        place: &'static str,
        /// The part that is not as expected.
        source: UrlError,
    },
    /// No Sentinel leads to a master.
    #[error("{}", tries.iter().map(|(address, error)| format!("sentinel at {address}: {error}")).collect::<Vec<_>>().join("\n"))]
    Sentinels {
        /// Address of each Sentinel, and its error.
        tries: Vec<(String, SentinelError)>,
    },
    /// Redis could not be reached, or refused a command.
    #[error("redis at {address}: {}", reason(source))]
    Redis {
        /// Redis' host and port, or its socket.
        address: String,
        /// The client's error.
        source: redis::RedisError,
    },
    /// The result cannot be written to standard output.
    #[error("cannot write the result: {0}")]
    Output(#[from] io::Error),
}

impl LimitsError {
    /// Whether a server cannot be reached.
    pub(crate) fn is_unreachable(&self) -> bool {
        match self {
            Self::Redis { source, .. } => source.is_io_error(),
            Self::Tls { source, .. } => matches!(source, TlsError::Handshake(_)),
            _ => false,
        }
    }

    /// Whether the arguments or the configuration are wrong, and not a server or the output.
    pub(crate) fn is_of_arguments(&self) -> bool {
        !matches!(
            self,
            Self::UnservedSlot { .. }
                | Self::NoMaster { .. }
                | Self::Tls { .. }
                | Self::Malformed { .. }
                | Self::NotABucket { .. }
                | Self::Sentinels { .. }
                | Self::Redis { .. }
                | Self::Output(_)
        )
    }
}
