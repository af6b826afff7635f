//! File of `--config`: the limiters' configurations and the proxies' clusters in it.
//!
//! The file is an Envoy bootstrap, with the files that it refers to, a limiter's configuration alone, or Kubernetes
//! manifests: a ConfigMap with an Envoy file, an Istio WasmPlugin or EnvoyFilter, an EnvoyExtensionPolicy.

use std::path::Path;

use serde_json::Value;
use weir_filter::config::{self, Config, ConfigError, ConfigErrors};
use weir_filter::redis::Topology;

use super::cluster::{self, Cluster};
use super::error::{LimitsError, Misread};
use crate::documents::{Source as Text, SourceError};
use crate::files::{Inventory, Library};

/// Limiters and clusters of a file.
pub(crate) struct Source {
    pub(super) origin: String,
    /// At least one.
    pub(super) limiters: Vec<Limiter>,
    pub(super) clusters: Vec<Named>,
    /// Names of clusters that lead to a `redis_proxy`, each with that of the proxy's own cluster.
    proxies: Vec<(String, String)>,
}

/// A cluster with its name. Only the mistakes of a cluster that is used matter.
pub(super) type Named = (String, Result<Cluster, Misread>);

/// A limiter's configuration.
pub(super) struct Limiter {
    /// Configuration as written, for the credentials, which [`Config`] does not show.
    pub(super) written: Value,
    pub(super) config: Config,
    /// The environment variable of `hash_key`, if it is not set here.
    pub(super) missing_hash_key: Option<String>,
    pub(super) places: Places,
}

/// Places of a limiter's fields: the file, with line and column if they are known.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// `redis`.
    pub(super) redis: String,
    /// `redis.cluster`.
    pub(super) cluster: String,
    /// `redis.password.env`.
    pub(super) password: String,
}

impl Places {
    fn of(place: impl Fn(&str) -> String) -> Self {
        Self { redis: place("redis"), cluster: place("redis.cluster"), password: place("redis.password.env") }
    }
}

impl Source {
    /// Reads a file. `key_prefix` replaces the key prefix of all limiters.
    pub(super) fn load(file: &Path, key_prefix: Option<&str>) -> Result<Self, LimitsError> {
        let library = Library::load(&[file.to_owned()]);
        let origin = file.display().to_string();
        if let Some(given) = library.files().first().map(|file| &file.source).filter(|source| source.error.is_some()) {
            return Err(unread(given));
        }
        let inventory = Inventory::of(&library.whole(), &library);
        let mut limiters = Vec::new();
        for limiter in inventory.limiters() {
            match limiter.written {
                Ok(written) => {
                    let file = &written.at.document.origin;
                    let place = |error: &ConfigError| format!("{file}:{}", written.position(error));
                    let places = Places::of(|path| cluster::place(&written.place(path)));
                    limiters.push(Limiter::read(written.json(), key_prefix, places, place)?);
                }
                Err(error) => {
                    let place = format!("{}:{}", error.at.document.origin, error.position());
                    return Err(LimitsError::Unwritten { place, error: error.to_string() });
                }
            }
        }
        if limiters.is_empty() {
            return Err(library.broken_text().map_or(LimitsError::NoLimiter { origin }, unread));
        }
        let clusters = inventory.clusters.iter().map(|cluster| (cluster.name.to_owned(), Cluster::of(&cluster.at)));
        let proxies = inventory.clusters.iter().filter_map(|cluster| {
            let nodes = inventory.redis_proxy(cluster)?.cluster();
            Some((cluster.name.to_owned(), nodes.to_owned()))
        });
        Ok(Self { origin, limiters, clusters: clusters.collect(), proxies: proxies.collect() })
    }

    /// Whether a limiter uses a Redis Cluster.
    pub(super) fn has_cluster(&self) -> bool {
        self.limiters.iter().any(Limiter::is_clustered)
    }

    /// The source of one limiter's configuration, as written.
    pub(super) fn of(origin: &str, written: &Value) -> Result<Self, LimitsError> {
        let places = Places::of(|_| origin.to_owned());
        let limiter = Limiter::read(written.clone(), None, places, |_| origin.to_owned())?;
        Ok(Self { origin: origin.to_owned(), limiters: vec![limiter], clusters: Vec::new(), proxies: Vec::new() })
    }

    /// The cluster of a limiter's Redis: that of the file, behind a `redis_proxy` if there is one; or for the name of a
    /// service in Istio, that of this name.
    ///
    /// # Errors
    /// If the cluster has a value that cannot be used.
    pub(super) fn cluster_of(&self, limiter: &Limiter) -> Result<Option<Cluster>, Misread> {
        let name = &limiter.config.redis.cluster;
        let nodes = self.proxies.iter().find(|(known, _)| known == name).map(|(_, nodes)| nodes);
        let name = nodes.filter(|_| limiter.is_clustered()).unwrap_or(name);
        let mut named = self.clusters.iter().filter(|(known, _)| known == name).map(|(_, cluster)| cluster);
        // Of several, those without endpoints may be patches of another.
        let has_endpoints = |cluster: &&Result<Cluster, _>| !matches!(cluster, Ok(it) if it.endpoints.is_empty());
        let found = named.clone().find(has_endpoints).or_else(|| named.next());
        found.cloned().transpose().map(|found| found.or_else(|| Cluster::of_service(name)))
    }
}

fn unread(source: &Text) -> LimitsError {
    let origin = source.origin.clone();
    match &source.error {
        Some(SourceError::Syntax { position, found }) => LimitsError::Syntax { origin, position: *position, found },
        error => LimitsError::Unread { origin, why: error.as_ref().map(ToString::to_string).unwrap_or_default() },
    }
}

fn parse(written: &Value, key_prefix: Option<&str>) -> Result<Config, ConfigErrors> {
    let mut configuration = written.clone();
    if let (Some(prefix), Some(redis)) = (key_prefix, configuration.get_mut("redis").and_then(Value::as_object_mut)) {
        redis.insert("key_prefix".into(), prefix.into());
    }
    // Variables have a placeholder: a command may not need the proxies' credentials, nor the key of their hashes.
    let hash_key = hash_key_variable(&configuration);
    let env = |name: &str| {
        let own = hash_key.filter(|own| *own == name).and_then(non_empty);
        Some(own.unwrap_or_else(|| "a placeholder of ours".to_owned()))
    };
    config::parse(configuration.to_string().as_bytes(), &env)
}

fn hash_key_variable(written: &Value) -> Option<&str> {
    written.pointer("/hash_key/env").and_then(Value::as_str)
}

fn missing_hash_key(written: &Value) -> Option<String> {
    hash_key_variable(written).filter(|name| non_empty(name).is_none()).map(shown)
}

/// The name of a variable for errors, unless it has lower-case letters: it may be a secret given in its place.
fn shown(variable: &str) -> String {
    let is_usual = variable.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_'));
    if is_usual { variable.to_owned() } else { "the variable that `env` names".to_owned() }
}

/// The value of an environment variable, if it is more than white space.
fn non_empty(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|value| !value.trim_ascii().is_empty())
}

impl Limiter {
    /// Reads a configuration. `place` names the file, and the line and column of an error if they are known.
    fn read(
        written: Value,
        key_prefix: Option<&str>,
        places: Places,
        place: impl Fn(&ConfigError) -> String,
    ) -> Result<Self, LimitsError> {
        match parse(&written, key_prefix) {
            Ok(config) => Ok(Self { missing_hash_key: missing_hash_key(&written), written, config, places }),
            Err(errors) => {
                let errors = errors.iter().map(|error| (place(error), error.clone())).collect();
                Err(LimitsError::Configuration { errors })
            }
        }
    }

    /// Whether its Redis is a Redis Cluster.
    pub(super) fn is_clustered(&self) -> bool {
        self.config.redis.topology == Topology::Cluster
    }

    /// The username, if there is one.
    pub(super) fn username(&self) -> Option<String> {
        let username = self.redis()?.get("username")?.as_str()?;
        Some(username.trim_ascii().to_owned())
    }

    /// The password, if there is one. The error is the environment variable that is not set here.
    pub(super) fn password(&self) -> Result<Option<String>, String> {
        let Some(password) = self.redis().and_then(|redis| redis.get("password")) else { return Ok(None) };
        let text = |name: &str| password.get(name).and_then(Value::as_str);
        match text("env") {
            Some(variable) => {
                let value = non_empty(variable).map(|value| value.trim_ascii().to_owned());
                value.map(Some).ok_or_else(|| shown(variable))
            }
            None => Ok(text("inline").map(|password| password.trim_ascii().to_owned())),
        }
    }

    fn redis(&self) -> Option<&Value> {
        self.written.get("redis")
    }
}
