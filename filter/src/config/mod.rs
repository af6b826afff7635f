//! The plugin's configuration: JSON text, or a protobuf `Struct`, in, a [`Config`] that cannot be wrong out.
//!
//! All errors are reported at once, each with its path and what was expected there. Unknown fields are errors.
//! The JSON is walked by hand: serde would stop at the first error, and its derived code is large in wasm.

mod descriptor;
mod duration;
mod error;
mod limit;
mod predicate;
mod protobuf;
mod reader;
mod redis;
mod response;
mod spelling;

use serde_json::Value;

use self::reader::{Node, Report};

pub use self::error::{ConfigError, ConfigErrors, Expected, Found, Problem};
pub use self::limit::{FailureMode, Limit};
pub use self::redis::{RedisConfig, Topology, Transport};
pub use self::response::{ErrorStatus, ResponseConfig, ResponseHeaders};

const FIELDS: &[&str] =
    &["redis", "failure_mode", "status_on_error", "stat_prefix", "shadow_mode", "limits", "response"];
const DEFAULT_STAT_PREFIX: &str = "weir";

/// What the filter is to do: every default filled in, every bound kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where the buckets are kept.
    pub redis: RedisConfig,
    /// What a failure mode of `deny` answers when Redis does not decide. Default 503.
    pub status_on_error: ErrorStatus,
    /// The first part of every metric's name: 1 to 64 of `[A-Za-z0-9_.]`. Default `weir`.
    pub stat_prefix: String,
    /// The limits in the order configured: 1 to 32, with different names.
    pub limits: Vec<Limit>,
    /// What a request is answered.
    pub response: ResponseConfig,
}

/// Reads the plugin's configuration: JSON text, or a serialised protobuf `Struct`. `env` looks an environment
/// variable up.
///
/// # Errors
/// Everything that is wrong with it, at once.
pub fn parse(configuration: &[u8], env: &dyn Fn(&str) -> Option<String>) -> Result<Config, ConfigErrors> {
    let value = decode(configuration)?;
    let report = Report::default();
    let config = read(&Node::root(&value, &report), env);
    match (ConfigErrors::among(report.into_errors()), config) {
        (None, Some(config)) => Ok(config),
        (Some(errors), _) => Err(errors),
        // Not reached: who answers `None` has reported why.
        (None, None) => Err(ConfigErrors::from(ConfigError {
            path: "configuration".to_owned(),
            problem: Problem::Unexpected { expected: Expected::The("a configuration"), found: Found::Nothing },
        })),
    }
}

fn decode(configuration: &[u8]) -> Result<Value, ConfigError> {
    // No message is JSON, too: its tags are control characters.
    serde_json::from_slice(configuration).or_else(|error| {
        let problem = Problem::Syntax { line: error.line(), column: error.column() };
        let no_json = ConfigError { path: "configuration".to_owned(), problem };
        protobuf::decode_struct(configuration).filter(|_| !configuration.is_empty()).ok_or(no_json)
    })
}

fn read(root: &Node<'_>, env: &dyn Fn(&str) -> Option<String>) -> Option<Config> {
    let fields = root.object(FIELDS)?;
    let redis = fields.required("redis", "an object that names the cluster").and_then(|node| redis::read(&node, env));
    let defaults = limit::Defaults {
        key_prefix: redis.as_ref().map_or("", |redis| &redis.key_prefix),
        failure_mode: fields.or("failure_mode", FailureMode::Allow, limit::failure_mode),
        shadow_mode: fields.or("shadow_mode", false, Node::boolean),
    };
    let status_on_error = fields.or("status_on_error", ErrorStatus::SERVICE_UNAVAILABLE, response::status);
    let stat_prefix = fields.or("stat_prefix", DEFAULT_STAT_PREFIX, |node| {
        node.text_such("1 to 64 letters, digits, underscores and dots", |text| {
            (1..=64).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'))
        })
    });
    let limits =
        fields.required("limits", "a list of 1 to 32 limits").and_then(|node| limit::read_all(&node, &defaults));
    let response = fields.or("response", ResponseConfig::default(), response::read);
    Some(Config {
        redis: redis?,
        status_on_error: status_on_error?,
        stat_prefix: stat_prefix?.to_owned(),
        limits: limits?,
        response: response?,
    })
}

#[cfg(test)]
mod tests;
