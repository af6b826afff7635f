//! Limits of the filter's configuration, and their keys in Redis.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use serde_json::Value;
use weir_filter::config::{self, Config};
use weir_filter::descriptor::bucket_key;
use weir_filter::limit::Algorithms;
use weir_filter::overrides::{Ruling, hash_key};
use weir_host::scenario::Scenario;

use super::error::LimitsError;
use super::render::key_of;

const DEFAULT: &str = "envoy/quickstart.yaml";
/// Maximum length of a key that the filter does not hash, in bytes.
const MAX_ENCODED: usize = 128;

/// The limits of all limiters of a file, without duplicates.
pub(super) struct Configured(Vec<Limit>);

/// The parts of a limit that determine its keys and values in Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) key_prefix: String,
    pub(super) name: String,
    /// Number of values in a key.
    entries: usize,
    pub(super) windows: Algorithms,
    pub(super) is_shadow: bool,
}

/// A limit, or one key of it.
#[derive(Debug)]
pub(super) struct Target<'a> {
    pub(super) limit: &'a Limit,
    key: Option<Vec<u8>>,
}

impl Configured {
    pub(super) fn load(file: Option<&Path>, key_prefix: Option<&str>) -> Result<Self, LimitsError> {
        let file = match file {
            Some(file) => file,
            None if Path::new(DEFAULT).exists() => Path::new(DEFAULT),
            None => return Err(LimitsError::NoConfig { default: DEFAULT }),
        };
        let mut scenario = Scenario::load(file)?;
        let origin = scenario.origin().to_owned();
        let mut limits = Vec::new();
        for configuration in configurations(&mut scenario)? {
            let errors = |errors| LimitsError::Configuration { origin: origin.clone(), errors };
            let config = parse(configuration, key_prefix).map_err(errors)?;
            let all = config.limits.iter().map(|limit| Limit::of(&config, limit));
            for limit in all {
                if !limits.contains(&limit) {
                    limits.push(limit);
                }
            }
        }
        Ok(Self(limits))
    }

    /// The limit with this name.
    pub(super) fn limit(&self, name: &str) -> Result<&Limit, LimitsError> {
        match self.named(name)?[..] {
            [only] => Ok(only),
            ref several => Err(LimitsError::SeveralPrefixes {
                name: name.to_owned(),
                prefixes: several.iter().map(|limit| format!("{:?}", limit.key_prefix)).collect(),
            }),
        }
    }

    /// All limits, or the limits with this name.
    pub(super) fn selected(&self, name: Option<&str>) -> Result<Vec<&Limit>, LimitsError> {
        name.map_or_else(|| Ok(self.0.iter().collect()), |name| self.named(name))
    }

    fn named(&self, name: &str) -> Result<Vec<&Limit>, LimitsError> {
        let found: Vec<&Limit> = self.0.iter().filter(|limit| limit.name == name).collect();
        if found.is_empty() {
            let mut known: Vec<String> = self.0.iter().map(|limit| limit.name.clone()).collect();
            known.dedup();
            // A URL was probably meant for --redis. It may hold a password, so it is not shown.
            let is_url = name.contains("://") || name.contains('@');
            let name = if is_url { format!("of {} bytes", name.len()) } else { name.to_owned() };
            return Err(LimitsError::UnknownLimit { name, known });
        }
        Ok(found)
    }
}

impl Limit {
    fn of(config: &Config, limit: &config::Limit) -> Self {
        Self {
            key_prefix: config.redis.key_prefix.clone(),
            name: limit.name.clone(),
            entries: limit.descriptor.entries().len(),
            windows: limit.windows.clone(),
            is_shadow: limit.shadow_mode,
        }
    }

    /// The Redis key of the hash that holds the overrides.
    pub(super) fn overrides(&self) -> String {
        hash_key(&self.key_prefix)
    }

    /// The limit's windows while this ruling is in force.
    pub(super) fn windows_under(&self, ruling: Option<&Ruling>) -> Cow<'_, Algorithms> {
        match ruling {
            Some(Ruling::Algorithms(windows)) => Cow::Owned(self.windows.overridden(windows)),
            _ => Cow::Borrowed(&self.windows),
        }
    }

    /// The target of a command: the whole limit if `key` is empty, otherwise one key of it.
    pub(super) fn target(&self, key: &[String], encoded: bool) -> Result<Target<'_>, LimitsError> {
        if key.is_empty() {
            return Ok(Target { limit: self, key: None });
        }
        self.bucket(key, encoded)
    }

    /// The bucket of a key, which is given as its values or, if `encoded`, as the filter writes it in Redis.
    pub(super) fn bucket(&self, key: &[String], encoded: bool) -> Result<Target<'_>, LimitsError> {
        if encoded {
            let is_sound = |key: &str| key.len() <= MAX_ENCODED && key.bytes().all(|byte| byte.is_ascii_graphic());
            let [descriptor] = key else { return Err(LimitsError::Encoded { found: key.join(" ") }) };
            if !is_sound(descriptor) {
                return Err(LimitsError::Encoded { found: descriptor.clone() });
            }
            let key = [&self.key_prefix, self.name.as_str(), ":", descriptor].concat().into_bytes();
            return Ok(Target { limit: self, key: Some(key) });
        }
        if key.len() != self.entries {
            return Err(LimitsError::Values { limit: self.name.clone(), expected: self.entries, found: key.len() });
        }
        Ok(Target { limit: self, key: Some(bucket_key(&self.key_prefix, &self.name, key)) })
    }
}

impl Target<'_> {
    /// The bucket's key in Redis; empty for the whole limit.
    pub(super) fn key(&self) -> &[u8] {
        self.key.as_deref().unwrap_or_default()
    }

    /// The field of its override in the hash of overrides.
    pub(super) fn field(&self) -> Cow<'_, [u8]> {
        match &self.key {
            Some(key) => Cow::Borrowed(key.get(self.limit.key_prefix.len()..).unwrap_or_default()),
            None => Cow::Borrowed(self.limit.name.as_bytes()),
        }
    }
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key {
            Some(_) => write!(f, "{} {}", self.limit.name, key_of(&self.field())),
            None => write!(f, "{}", self.limit.name),
        }
    }
}

/// The configurations of all limiters of a bootstrap, or the file itself if it is a filter configuration.
fn configurations(scenario: &mut Scenario) -> Result<Vec<Value>, LimitsError> {
    if scenario.document().get("limits").is_some() {
        return Ok(vec![scenario.document().clone()]);
    }
    let mut found = Vec::new();
    scenario.filter_configuration(|configuration| found.push(configuration.clone()))?;
    Ok(found)
}

fn parse(mut configuration: Value, key_prefix: Option<&str>) -> Result<Config, config::ConfigErrors> {
    if let (Some(prefix), Some(redis)) = (key_prefix, configuration.get_mut("redis").and_then(Value::as_object_mut)) {
        redis.insert("key_prefix".into(), prefix.into());
    }
    // Placeholder for environment variables: the proxy's environment is not available here, and the credentials come
    // from the URL of --redis.
    config::parse(configuration.to_string().as_bytes(), &|_| Some("none of ours".into()))
}
