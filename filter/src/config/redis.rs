//! Section `redis`: the cluster of the Redis that keeps the buckets, and how to connect to it.

use alloc::borrow::ToOwned;
use alloc::string::String;
use core::num::NonZeroU32;

use super::http::{self, HttpConfig};
use super::reader::Node;
use super::report::Read;
use super::secret;
use super::shown::is_url;
use crate::redis::{Credentials, SessionConfig, Topology, TransportKind};
use crate::units::Micros;

const FIELDS: &[&str] = &[
    "cluster",
    "transport",
    "topology",
    "username",
    "password",
    "token",
    "database",
    "authority",
    "path_prefix",
    "key_prefix",
    "timeout",
    "max_in_flight",
];
/// Transports by their names.
const TRANSPORTS: [(&str, TransportKind); 4] = [
    ("stream", TransportKind::Stream),
    ("callout", TransportKind::Callout),
    ("webdis", TransportKind::Webdis),
    ("upstash", TransportKind::Upstash),
];
const TOPOLOGIES: [(&str, Topology); 2] = [("single", Topology::Single), ("cluster", Topology::Cluster)];
/// Expected name of a cluster. No host has a cluster with the name of a URL: a URL here is a mistake.
const CLUSTER: &str = "the name of a cluster of the proxy, of 1 to 256 bytes and without \"://\"";
const USERNAME: &str = "a user of 1 to 256 bytes that are not all white space";
const PASSWORD: &str = "a password of 1 to 4096 bytes that are not all white space";
const DEFAULT_KEY_PREFIX: &str = "weir:";
const DEFAULT_TIMEOUT: Micros = Micros::from_millis(50);
const MIN_TIMEOUT: Micros = Micros::from_millis(1);
const MAX_TIMEOUT: Micros = Micros::from_secs(10);
const DEFAULT_MAX_IN_FLIGHT: NonZeroU32 = NonZeroU32::MIN.saturating_add(4_095);
const MAX_IN_FLIGHT: u64 = 65_536;
/// Greatest number of a database. Redis has 16 databases by default, and is never configured with this many.
const MAX_DATABASE: u64 = 65_535;

/// Settings for Redis, which keeps the buckets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisConfig {
    /// The Envoy cluster of Redis: 1 to 256 bytes, no URL.
    pub cluster: String,
    /// Transport to Redis. Default `stream`.
    pub transport: TransportKind,
    /// Whether the cluster leads to a Redis Cluster. Default `single`; `cluster` with `stream` alone.
    pub topology: Topology,
    /// Credentials, if any: a username of 1 to 256 bytes, and a password, if inline of 1 to 4,096 bytes; both without
    /// white space around them. With `webdis`, those of Webdis.
    pub credentials: Option<Credentials>,
    /// Settings of the HTTP requests to a front end.
    pub http: HttpConfig,
    /// Number of the database, ≤ 65,535. Default 0.
    pub database: u32,
    /// Start of every key: up to 64 bytes without control characters, and without braces in a Redis Cluster. Default
    /// `weir:`.
    pub key_prefix: String,
    /// Timeout of a check from its start: 1 ms to 10 s. Default 50 ms.
    pub timeout: Micros,
    /// Most checks in flight per worker, ≤ 65,536; further checks wait for room within their timeout. Default 4,096.
    pub max_in_flight: NonZeroU32,
}

impl RedisConfig {
    /// Settings of a session. A front end has the credentials of Redis itself.
    pub(crate) fn session(&self) -> SessionConfig {
        SessionConfig {
            credentials: self.credentials.clone().filter(|_| self.transport.front_end().is_none()),
            database: self.database,
            topology: self.topology,
            timeout: self.timeout,
            max_in_flight: usize::try_from(self.max_in_flight.get()).unwrap_or(usize::MAX),
        }
    }
}

/// Reads the section. Its node is secret: errors show no value in it.
pub(super) fn read(node: &Node<'_>, env: &dyn Fn(&str) -> Option<String>) -> Read<RedisConfig> {
    let fields = node.object(FIELDS)?;
    let cluster = fields
        .required("cluster", "the name of a cluster")
        .and_then(|node| node.text_matching(CLUSTER, |text| (1..=256).contains(&text.len()) && !is_url(text)));
    let transport = fields.or("transport", TransportKind::Stream, |node| node.one_of(&TRANSPORTS));
    let topology = fields.or("topology", Topology::Single, |node| match node.one_of(&TOPOLOGIES)? {
        Topology::Cluster if transport.as_ref().is_ok_and(|kind| *kind != TransportKind::Stream) => {
            Err(node.expected("\"single\" with a transport other than stream"))
        }
        topology => Ok(topology),
    });
    let is_cluster = topology == Ok(Topology::Cluster);
    let username = fields.optional("username", |node| {
        let text = node.text_matching(USERNAME, |text| text.len() <= 256 && !text.trim_ascii().is_empty())?;
        Ok(secret::trimmed(node, text, None))
    });
    let password = fields.optional("password", |node| secret::read(node, env, PASSWORD));
    let credentials = match (username, password) {
        (Ok(username), Ok(Some(password))) => Ok(Some(Credentials { username: username.map(str::to_owned), password })),
        (Ok(Some(_)), Ok(None)) => fields.required("password", "a password for the username").map(|_| None),
        (Ok(None), Ok(None)) => Ok(None),
        (Err(reported), _) | (_, Err(reported)) => Err(reported),
    };
    // A Redis Cluster has one database.
    let max_database = if is_cluster { 0 } else { MAX_DATABASE };
    let database =
        fields.or("database", 0, |node| node.integer_as(0..=max_database, |number| u32::try_from(number).ok()));
    let key_prefix = fields.or("key_prefix", DEFAULT_KEY_PREFIX, |node| {
        let is_prefix = |text: &str| text.len() <= 64 && !text.chars().any(char::is_control);
        if is_cluster {
            // The first braces of a key are those of its hash tag.
            node.text_matching("no braces in a Redis Cluster", |text| !text.contains(['{', '}']))?;
        }
        node.text_matching("up to 64 bytes without control characters", is_prefix)
    });
    let timeout = fields.or("timeout", DEFAULT_TIMEOUT, |node| node.duration(MIN_TIMEOUT..=MAX_TIMEOUT));
    let max_in_flight = fields.or("max_in_flight", DEFAULT_MAX_IN_FLIGHT, |node| {
        node.integer_as(1..=MAX_IN_FLIGHT, |number| NonZeroU32::new(u32::try_from(number).ok()?))
    });
    let http = http::read(fields, transport.as_ref().ok().copied(), env);
    Ok(RedisConfig {
        cluster: cluster?.to_owned(),
        transport: transport?,
        topology: topology?,
        credentials: credentials?,
        http: http?,
        database: database?,
        key_prefix: key_prefix?.to_owned(),
        timeout: timeout?,
        max_in_flight: max_in_flight?,
    })
}
