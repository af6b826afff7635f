//! The section `redis`: where the buckets are kept, and how to get there.

use alloc::borrow::ToOwned;
use alloc::string::String;
use core::num::NonZeroU32;

use super::error::{Notice, Problem};
use super::reader::Node;
use super::shown::is_url;
use crate::redis::{Credentials, Secret, SessionConfig, TransportKind};
use crate::units::Micros;

const FIELDS: &[&str] =
    &["cluster", "transport", "topology", "username", "password", "database", "key_prefix", "timeout", "max_in_flight"];
/// A URL in the place of a cluster's name is a mistake for which no host has a cluster.
const CLUSTER: &str = "the name of a cluster of the proxy, of 1 to 256 bytes and without \"://\"";
const USERNAME: &str = "a user of 1 to 256 bytes that are not all white space";
const PASSWORD: &str = "a password of 1 to 4096 bytes that are not all white space";
const DEFAULT_KEY_PREFIX: &str = "weir:";
const DEFAULT_TIMEOUT: Micros = Micros::from_millis(50);
const MIN_TIMEOUT: Micros = Micros::from_millis(1);
const MAX_TIMEOUT: Micros = Micros::from_secs(10);
const DEFAULT_MAX_IN_FLIGHT: u64 = 4_096;
const MAX_IN_FLIGHT: u64 = 65_536;
/// Redis has 16 databases unless told otherwise; nobody tells it this many.
const MAX_DATABASE: u64 = 65_535;

/// Where the buckets are kept, and how to get there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisConfig {
    /// The Envoy cluster of Redis: 1 to 256 bytes, no URL.
    pub cluster: String,
    /// How bytes reach it. Default `stream`.
    pub transport: TransportKind,
    /// What to authenticate with, if at all: a user of 1 to 256 bytes, and where inline a password of 1 to 4,096, both
    /// without white space around them.
    pub credentials: Option<Credentials>,
    /// The number of the database, ≤ 65,535. Default 0.
    pub database: u32,
    /// The start of every key: up to 64 bytes without control characters. Default `weir:`.
    pub key_prefix: String,
    /// A check's whole budget: 1 ms to 10 s. Default 50 ms.
    pub timeout: Micros,
    /// Checks in flight per worker, ≤ 65,536; beyond it the failure mode answers at once. Default 4,096.
    pub max_in_flight: NonZeroU32,
}

impl RedisConfig {
    /// The part that a session needs.
    pub(crate) fn session(&self) -> SessionConfig {
        SessionConfig {
            credentials: self.credentials.clone(),
            database: self.database,
            timeout: self.timeout,
            max_in_flight: usize::try_from(self.max_in_flight.get()).unwrap_or(usize::MAX),
        }
    }
}

/// The section of a secret node: no error shows a value in it.
pub(super) fn read(node: &Node<'_>, env: &dyn Fn(&str) -> Option<String>) -> Option<RedisConfig> {
    let fields = node.object(FIELDS)?;
    let cluster = fields
        .required("cluster", "the name of a cluster")
        .and_then(|node| node.text_such(CLUSTER, |text| (1..=256).contains(&text.len()) && !is_url(text)));
    let transport = fields.or("transport", TransportKind::Stream, |node| {
        node.one_of(&[("stream", TransportKind::Stream), ("callout", TransportKind::Callout)], &["webdis"])
    });
    let topology = fields.or("topology", (), |node| node.one_of(&[("single", ())], &["cluster"]));
    let username = fields.optional("username", |node| {
        let text = node.text_such(USERNAME, |text| text.len() <= 256 && !text.trim_ascii().is_empty())?;
        Some(trimmed(node, text, None))
    });
    let password = fields.optional("password", |node| password(node, env));
    let credentials = match (username, password) {
        (Some(username), Some(Some(password))) => {
            Some(Some(Credentials { username: username.map(str::to_owned), password }))
        }
        (Some(Some(_)), Some(None)) => fields.required("password", "a password for the username").map(|_| None),
        (Some(None), Some(None)) => Some(None),
        _ => None,
    };
    let database = fields.or("database", 0, |node| node.integer(0..=MAX_DATABASE));
    let key_prefix = fields.or("key_prefix", DEFAULT_KEY_PREFIX, |node| {
        node.text_such("up to 64 bytes without control characters", |text| {
            text.len() <= 64 && !text.chars().any(char::is_control)
        })
    });
    let timeout = fields.or("timeout", DEFAULT_TIMEOUT, |node| node.duration(MIN_TIMEOUT..=MAX_TIMEOUT));
    let max_in_flight = fields.or("max_in_flight", DEFAULT_MAX_IN_FLIGHT, |node| node.integer(1..=MAX_IN_FLIGHT));
    topology?;
    Some(RedisConfig {
        cluster: cluster?.to_owned(),
        transport: transport?,
        credentials: credentials?,
        database: u32::try_from(database?).ok()?,
        key_prefix: key_prefix?.to_owned(),
        timeout: timeout?,
        max_in_flight: NonZeroU32::new(u32::try_from(max_in_flight?).ok()?)?,
    })
}

/// `{env: NAME}` or `{inline: "…"}`.
#[inline(never)]
fn password(node: &Node<'_>, env: &dyn Fn(&str) -> Option<String>) -> Option<Secret> {
    let (source, node) = node.one_field(&["env", "inline"])?;
    if source == "inline" {
        let text = node.text_such(PASSWORD, |text| text.len() <= 4_096 && !text.trim_ascii().is_empty())?;
        return Some(Secret::new(trimmed(&node, text, None)));
    }
    let name = node.text_such("the name of an environment variable", is_variable_name)?;
    let value = env(name).filter(|value| !value.trim_ascii().is_empty());
    let value = value.or_else(|| node.fail(Problem::Environment))?;
    Some(Secret::new(trimmed(&node, &value, Some(name))))
}

/// A user or a password without the white space around it. No Redis has one with it but by mistake, and a password
/// that is made from a file most often ends in the file's newline.
#[inline(never)]
fn trimmed<'a>(node: &Node<'_>, text: &'a str, variable: Option<&str>) -> &'a str {
    let trimmed = text.trim_ascii();
    if trimmed.len() < text.len() {
        let cut_off = text.as_bytes().strip_prefix(trimmed.as_bytes()).unwrap_or(b" ");
        let is_newline_at_end = cut_off.iter().all(|byte| b"\r\n".contains(byte));
        node.notice(Notice::Trimmed { variable: variable.map(str::to_owned), is_newline_at_end });
    }
    trimmed
}

/// A name as shells take it (POSIX, "Environment Variables"). A password in its place is most often not one.
fn is_variable_name(text: &str) -> bool {
    text.len() <= 256
        && text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
