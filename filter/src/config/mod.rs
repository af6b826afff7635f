//! The plugin's configuration: reads JSON text, or a protobuf `Struct`, into a valid [`Config`].
//!
//! All errors are reported at once, each with its path and the expected values. Unknown fields are errors. The JSON is
//! read by hand: serde would stop at the first error, and its derived code is large in wasm.

mod algorithm;
mod charge;
mod descriptor;
mod error;
mod events;
mod hits_addend;
mod http;
mod lease;
mod limit;
mod local;
mod number;
mod on_exceed;
mod overrides;
mod predicate;
mod protobuf;
mod reader;
mod redis;
mod report;
mod request_body;
mod response;
#[cfg(not(target_arch = "wasm32"))]
pub mod schema;
mod secret;
mod shown;
mod source;
mod spelling;
mod usage;
mod usage_format;

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use serde_json::Value;

use self::reader::{Node, Object};
use self::report::{Read, Report};
use crate::descriptor::{Attributes, Predicate};
use crate::limit::{FailureMode, Limit};
use crate::redis::Topology;
use crate::response::{ErrorStatus, ResponseConfig, Responses};

pub use self::error::{ConfigError, ConfigErrors, ConfigNotice, Expected, Found, Notice, Problem};
pub use self::events::{EventsConfig, EventsOnly, Fraction};
pub use self::http::HttpConfig;
pub use self::local::LocalConfig;
pub use self::overrides::OverridesConfig;
pub(crate) use self::overrides::replacements;
pub use self::redis::RedisConfig;
pub use self::request_body::BodyConfig;
pub(crate) use self::shown::quoted;
pub(crate) use self::shown::shown;
pub(crate) use self::usage::{INCLUDE_USAGE, SERVICE_TIER, run_time_price};
pub use self::usage::{IncludeUsage, UsageConfig};

const FIELDS: &[&str] = &[
    "redis",
    "hash_key",
    "failure_mode",
    "local",
    "status_on_error",
    "stat_prefix",
    "shadow_mode",
    "exempt",
    "limits",
    "response",
    "request_body",
    "usage",
    "overrides",
    "events",
    "emit_metadata",
    "max_delayed_requests",
    "deny_cache",
    "heal",
];
const DEFAULT_STAT_PREFIX: &str = "weir";
const DEFAULT_MAX_DELAYED_REQUESTS: usize = 1_024;
const MAX_MAX_DELAYED_REQUESTS: u64 = 65_536;
/// Entries of the deny cache, and remembered keys.
const DEFAULT_ENTRIES: usize = 10_000;
const MAX_ENTRIES: u64 = 1_000_000;

/// Configuration of the filter, with all defaults filled in and all values within bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Redis, which keeps the buckets.
    pub redis: RedisConfig,
    /// First part of every metric's name: 1 to 64 of `[A-Za-z0-9_.]`. Default `weir`.
    pub stat_prefix: String,
    /// Predicates for exempt requests: no limit applies to a request for which any of them holds.
    pub exempt: Vec<Predicate>,
    /// Limits in the order configured: 1 to 32, with different names.
    pub limits: Vec<Limit>,
    /// Local replies and response headers, of the filter and of its limits.
    pub responses: Responses,
    /// Settings for reading request bodies.
    pub body: BodyConfig,
    /// Settings for reading what responses cost. `None` where no limit has a charge.
    pub usage: Option<Box<UsageConfig>>,
    /// Settings for overrides, which operators set at run time. `None` where they are switched off.
    pub overrides: Option<OverridesConfig>,
    /// Settings for events, written to a Redis stream. `None`, the default: no events.
    pub events: Option<EventsConfig>,
    /// Settings for the failure mode `local`. `None` where no limit has it.
    pub local: Option<LocalConfig>,
    /// Most requests that a worker holds at a time until their tokens exist: 0 to 65,536, default 1,024. Further
    /// requests are denied.
    pub max_delayed_requests: usize,
    /// Most denials in a worker's deny cache: 0 to 1,000,000, default 10,000.
    pub deny_cache_entries: usize,
    /// Most buckets whose last states a worker remembers, to heal a Redis that has lost them: 0 to 1,000,000, default
    /// 10,000.
    pub healed_keys: usize,
    /// Whether each request's decision is set as filter state, for the access log. Off by default.
    pub emit_metadata: bool,
    /// Notices about corrected values, each for a line of the log.
    pub notices: Vec<ConfigNotice>,
}

impl Config {
    /// The limits that apply to `request` by their predicates, with their indexes.
    pub fn concerning(&self, request: &dyn Attributes) -> impl Iterator<Item = (usize, &Limit)> {
        let is_exempt = self.exempt.iter().any(|predicate| predicate.holds(request));
        let limits = if is_exempt { &[] } else { self.limits.as_slice() };
        limits.iter().enumerate().filter(|(_, limit)| limit.concerns(request))
    }

    /// Whether requests carry numbers of any limit.
    #[must_use]
    pub fn has_carried_numbers(&self) -> bool {
        self.limits.iter().any(|limit| limit.request_windows.is_some())
    }

    /// Names of the headers that mark requests beyond a limit, each once; also those of limits in shadow mode.
    #[must_use]
    pub fn marks(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for mark in self.limits.iter().filter_map(|limit| limit.mark.as_ref()) {
            if !names.contains(&mark.name) {
                names.push(mark.name.clone());
            }
        }
        names
    }

    /// [Pointers](BodyConfig::pointers) that the limits for `request` read, one bit for each. Predicates read no
    /// bodies.
    #[must_use]
    pub fn pointers_for(&self, request: &dyn Attributes) -> u32 {
        self.concerning(request).fold(0, |bits, (limit, _)| bits | self.body.read_by(limit))
    }
}

/// Reads the plugin's configuration: JSON text, or a serialised protobuf `Struct`. `env` returns the value of an
/// environment variable.
///
/// # Errors
/// All errors of the configuration at once.
pub fn parse(configuration: &[u8], env: &dyn Fn(&str) -> Option<String>) -> Result<Config, ConfigErrors> {
    let value = decode(configuration)?;
    let report = Report::default();
    let config = read(&Node::root(&value, &report), env);
    report.finish(config).map(|(config, notices)| Config { notices, ..config })
}

fn decode(configuration: &[u8]) -> Result<Value, ConfigError> {
    // A protobuf message is never JSON as well: its tags are control characters.
    serde_json::from_slice(configuration).or_else(|error| {
        let problem = Problem::Syntax { line: error.line(), column: error.column() };
        let no_json = ConfigError { path: "configuration".to_owned(), problem };
        protobuf::decode_struct(configuration).filter(|_| !configuration.is_empty()).ok_or(no_json)
    })
}

fn read(root: &Node<'_>, env: &dyn Fn(&str) -> Option<String>) -> Read<Config> {
    let fields = root.object(FIELDS)?;
    let redis =
        fields.required("redis", "an object that names the cluster").and_then(|node| redis::read(node.secret(), env));
    let key_prefix = redis.as_ref().map_or("", |redis| &redis.key_prefix);
    let hash_key = fields.optional("hash_key", |node| secret::hash_key(node, env));
    let failure_mode = fields.or("failure_mode", FailureMode::Allow, limit::failure_mode);
    let local = fields.or("local", LocalConfig::default(), local::read);
    let shadow_mode = fields.or("shadow_mode", false, Node::boolean);
    let status_on_error = fields.or("status_on_error", ErrorStatus::SERVICE_UNAVAILABLE, response::status);
    let stat_prefix = fields.or("stat_prefix", DEFAULT_STAT_PREFIX, |node| {
        node.text_matching("1 to 64 letters, digits, underscores and dots", |text| {
            (1..=64).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'))
        })
    });
    let exempt = fields.or("exempt", Vec::new(), predicate::read_all);
    // Default of the limits' own responses.
    let base = ResponseConfig::default();
    let response = fields.optional("response", |node| response::read(node, &base));
    let own = response.as_ref().ok().and_then(Option::as_ref).unwrap_or(&base);
    let hash_key = hash_key.as_ref().map(Option::as_ref).map_err(|reported| *reported);
    let topology = redis.as_ref().map_or(Topology::Single, |redis| redis.topology);
    let defaults = limit::Defaults { key_prefix, topology, hash_key, failure_mode, shadow_mode, response: own };
    let limits =
        fields.required("limits", "a list of 1 to 32 limits").and_then(|node| limit::read_all(node, &defaults));
    let body = fields.or("request_body", request_body::Section::default(), request_body::read);
    let usage = fields.or("usage", UsageConfig::default(), usage::read);
    let overrides = fields.or("overrides", Some(OverridesConfig::default()), overrides::read);
    let events = fields.optional("events", |node| events::read(node, key_prefix, topology));
    let emit_metadata = fields.or("emit_metadata", false, Node::boolean);
    let max_delayed_requests =
        fields.or("max_delayed_requests", DEFAULT_MAX_DELAYED_REQUESTS, |node| size(node, MAX_MAX_DELAYED_REQUESTS));
    let deny_cache_entries = entries(fields, "deny_cache", &["max_entries"]);
    let healed_keys = entries(fields, "heal", &["max_keys"]);
    let (limits, own_responses): (Vec<Limit>, Vec<_>) = limits?.into_iter().unzip();
    let is_local = limits.iter().any(|limit| limit.failure_mode == FailureMode::Local);
    let usage = usage?.beside(&limits, fields.field("limits"))?;
    let body = body?.with_limits(&limits, usage.as_deref(), fields.field("limits"));
    Ok(Config {
        stat_prefix: stat_prefix?.to_owned(),
        exempt: exempt?,
        limits,
        responses: Responses::new(response?.unwrap_or(base), own_responses, status_on_error?),
        body: body?,
        usage,
        overrides: overrides?,
        events: events?,
        local: Some(local?).filter(|_| is_local),
        emit_metadata: emit_metadata?,
        deny_cache_entries: deny_cache_entries?,
        healed_keys: healed_keys?,
        max_delayed_requests: max_delayed_requests?,
        redis: redis?,
        notices: Vec::new(),
    })
}

/// Reads a number of items, from 0 to `max`.
fn size(node: &Node<'_>, max: u64) -> Read<usize> {
    size_within(node, 0..=max)
}

/// Reads a section with one field, a number of entries.
#[inline(never)]
fn entries(fields: Object<'_>, section: &str, names: &'static [&'static str; 1]) -> Read<usize> {
    fields.or(section, DEFAULT_ENTRIES, |node| {
        let (fields, [name]) = (node.object(names)?, names);
        fields.or(name, DEFAULT_ENTRIES, |node| size(node, MAX_ENTRIES))
    })
}

/// Reads a number of items within bounds.
fn size_within(node: &Node<'_>, range: RangeInclusive<u64>) -> Read<usize> {
    node.integer_as(range, |size| usize::try_from(size).ok())
}

#[cfg(test)]
mod tests;
