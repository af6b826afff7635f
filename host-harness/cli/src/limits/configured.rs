//! Limits of the filter's configuration, and their keys in Redis.

use std::borrow::Cow;
use std::fmt;

use weir_filter::descriptor::{HashTag, ValueForm, tagged_bucket_key};
use weir_filter::limit::{self, Algorithms, Charge, Scale, Unit};
use weir_filter::overrides::{Ruling, hash_key, override_key};

use super::error::LimitsError;
use super::render::{key_of, ways};
use super::source::{Limiter, Source};

/// Maximum length of a key that the filter does not hash, in bytes.
const MAX_ENCODED: usize = 128;
/// Length of the hash of a value that is a hash tag, in braces and with the `#` before it.
const TAG_OF_HASH: usize = 35;
const DEFAULT_KEY_PREFIX: &str = "weir:";

/// The limits of all limiters of a file, without duplicates.
pub(crate) struct Configured {
    limits: Vec<Limit>,
    /// Key prefixes, without duplicates. At least one.
    pub(crate) prefixes: Vec<String>,
    /// Whether there is a configuration. Without it, limits of any name may exist.
    pub(crate) is_known: bool,
    /// The hash tag of limits that are not in the configuration.
    default_tag: HashTag,
}

/// The parts of a limit that determine its keys and values in Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) key_prefix: String,
    pub(crate) name: String,
    hash_tag: HashTag,
    /// `None` for a limit that is not in the configuration, or without a configuration.
    pub(crate) shape: Option<Shape>,
}

/// The configuration of a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Form of each value in a key.
    forms: Vec<ValueForm>,
    /// The environment variable of the key of its hashes, if it is not set here. `None` also if it hashes nothing.
    missing_hash_key: Option<String>,
    pub(crate) windows: Algorithms,
    /// Unit of the windows' numbers.
    pub(super) unit: Unit,
    pub(crate) is_shadow: bool,
    /// Charge of what responses cost. `None`: the limit counts requests.
    pub(crate) charge: Option<Box<Charge>>,
    /// Ledger of the limiter: key of its stream, and about the number of its entries.
    pub(crate) ledger: Option<(String, u64)>,
    /// Name of the header that marks requests beyond the limit. `None`: they are denied.
    pub(crate) mark: Option<String>,
    /// Whether requests carry numbers of the limit. The windows have the defaults in their place.
    pub(crate) has_carried_numbers: bool,
    /// Whether the proxies read overrides.
    has_overrides: bool,
    /// Whether they read those of keys with each request: not of a limit of zero, which denies without asking Redis.
    reads_keys: bool,
}

/// Way in which a request beyond a limit is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beyond {
    /// In shadow mode, of the limit or by an override.
    InShadowMode,
    /// With the mark of `on_exceed`.
    Marked,
}

impl Beyond {
    /// The answer to a request beyond the limit; `denial` is what a limit that denies would answer.
    pub(crate) fn answer(self, denial: &str) -> String {
        let way = match self {
            Self::InShadowMode => "in shadow mode",
            Self::Marked => "with the mark",
        };
        format!("now, {way} (otherwise {denial})")
    }
}

/// A limit, or one key of it.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) limit: Limit,
    key: Option<Vec<u8>>,
}

impl Configured {
    /// The limits of a file.
    pub(super) fn of(source: &Source) -> Self {
        let (mut limits, mut prefixes) = (Vec::new(), Vec::new());
        for limiter in &source.limiters {
            let prefix = &limiter.config.redis.key_prefix;
            if !prefixes.contains(prefix) {
                prefixes.push(prefix.clone());
            }
            let all = limiter.config.limits.iter().map(|limit| Limit::of(limiter, limit));
            for limit in all {
                if !limits.contains(&limit) {
                    limits.push(limit);
                }
            }
        }
        Self { limits, prefixes, is_known: true, default_tag: default_tag(source.has_cluster()) }
    }

    /// No known limits: without a configuration.
    pub(crate) fn unknown(key_prefix: Option<&str>, is_cluster: bool) -> Self {
        let prefix = key_prefix.unwrap_or(DEFAULT_KEY_PREFIX).to_owned();
        Self { limits: Vec::new(), prefixes: vec![prefix], is_known: false, default_tag: default_tag(is_cluster) }
    }

    /// The start of all keys of a limit under this key prefix.
    pub(crate) fn stem(&self, prefix: &str, name: &str) -> String {
        let limit = self.limits.iter().find(|limit| limit.key_prefix == prefix && limit.name == name);
        stem(prefix, name, limit.map_or(self.default_tag, |limit| limit.hash_tag))
    }

    /// The limit with this name; without a configuration, any name is a limit's.
    pub(crate) fn limit(&self, name: &str) -> Result<Limit, LimitsError> {
        if !self.is_known {
            return self.former(name);
        }
        match self.named(name)?[..] {
            [only] => Ok(only.clone()),
            ref several => Err(self.several(name, several)),
        }
    }

    /// The limit with this name, or a limit that is not in the configuration any more.
    pub(crate) fn limit_or_former(&self, name: &str) -> Result<Limit, LimitsError> {
        let limit = self.limit(name);
        match &limit {
            Err(LimitsError::UnknownLimit { .. }) => self.former(name).or(limit),
            _ => limit,
        }
    }

    /// All limits, or the limits with this name.
    pub(crate) fn selected(&self, name: Option<&str>) -> Result<Vec<&Limit>, LimitsError> {
        match name {
            Some(name) if self.is_known => self.named(name),
            _ => Ok(self.limits.iter().collect()),
        }
    }

    fn former(&self, name: &str) -> Result<Limit, LimitsError> {
        let is_name = !name.is_empty() && !name.contains([':', '@']);
        match (&self.prefixes[..], is_name) {
            ([prefix], true) => {
                let (key_prefix, name) = (prefix.clone(), name.to_owned());
                Ok(Limit { key_prefix, name, hash_tag: self.default_tag, shape: None })
            }
            _ => Err(self.unknown_limit(name)),
        }
    }

    fn several(&self, name: &str, several: &[&Limit]) -> LimitsError {
        let prefixes = several.iter().map(|limit| format!("{:?}", limit.key_prefix)).collect();
        LimitsError::SeveralPrefixes { name: name.to_owned(), prefixes }
    }

    fn named(&self, name: &str) -> Result<Vec<&Limit>, LimitsError> {
        let found: Vec<&Limit> = self.limits.iter().filter(|limit| limit.name == name).collect();
        if found.is_empty() { Err(self.unknown_limit(name)) } else { Ok(found) }
    }

    /// Whether there is a configuration, and it does not have the limit.
    pub(crate) fn is_missing(&self, limit: &Limit) -> bool {
        self.is_known && limit.shape.is_none()
    }

    /// Error for a name that no limit has.
    pub(crate) fn unknown_limit(&self, name: &str) -> LimitsError {
        let mut known: Vec<String> = self.limits.iter().map(|limit| limit.name.clone()).collect();
        known.dedup();
        // A URL was probably meant for --redis. It may hold a password, so it is not shown.
        let is_url = name.contains("://") || name.contains('@');
        let name = if is_url { format!("of {} bytes", name.len()) } else { name.to_owned() };
        LimitsError::UnknownLimit { name, known }
    }
}

impl Limit {
    fn of(Limiter { config, missing_hash_key, .. }: &Limiter, limit: &limit::Limit) -> Self {
        let forms: Vec<ValueForm> = limit.descriptor.entries().iter().map(|entry| entry.form.clone()).collect();
        let is_hashed = forms.iter().any(|form| form.hash_key.is_some());
        Self {
            key_prefix: config.redis.key_prefix.clone(),
            name: limit.name.clone(),
            hash_tag: limit.descriptor.hash_tag(),
            shape: Some(Shape {
                forms,
                missing_hash_key: missing_hash_key.clone().filter(|_| is_hashed),
                windows: limit.windows.clone(),
                unit: Unit::of(limit.charge.as_deref()),
                is_shadow: limit.shadow_mode,
                charge: limit.charge.clone(),
                ledger: config.events.as_ref().filter(|it| it.usage).map(|it| (it.stream.clone(), it.max_len.get())),
                mark: limit.mark.as_ref().map(|mark| mark.name.clone()),
                has_carried_numbers: limit.request_windows.is_some(),
                has_overrides: config.overrides.is_some(),
                reads_keys: config.overrides.is_some_and(|overrides| overrides.per_key)
                    && (limit.request_windows.is_some() || limit.windows.blocking().is_none()),
            }),
        }
    }

    /// The start of all keys of the limit.
    pub(crate) fn stem(&self) -> String {
        stem(&self.key_prefix, &self.name, self.hash_tag)
    }

    /// Returns the limit if the proxies read overrides of it, as far as is known.
    pub(crate) fn overridable(self) -> Result<Self, LimitsError> {
        match self.shape.as_ref().is_none_or(|shape| shape.has_overrides) {
            true => Ok(self),
            false => Err(LimitsError::SwitchedOff { limit: self.name }),
        }
    }

    /// Whether the override of a key belongs beside its bucket, as far as is known. Otherwise it is a field of the hash.
    pub(crate) fn reads_keys(&self) -> bool {
        self.shape.as_ref().is_none_or(|shape| shape.reads_keys)
    }

    /// Whether each value of a key is hashed; `None` if the limit is not known.
    pub(crate) fn hashes(&self) -> Option<Vec<bool>> {
        Some(self.shape.as_ref()?.forms.iter().map(|form| form.hash_key.is_some()).collect())
    }

    /// Whether all requests share one bucket, as far as is known.
    pub(crate) fn has_one_bucket(&self) -> bool {
        self.shape.as_ref().is_some_and(|shape| shape.forms.is_empty())
    }

    /// Whether the limit charges what responses cost, as far as is known.
    pub(crate) fn has_charge(&self) -> bool {
        self.shape.as_ref().is_some_and(|shape| shape.charge.is_some())
    }

    /// The limit's windows, if the limit is known.
    pub(crate) fn windows(&self) -> Option<&Algorithms> {
        self.shape.as_ref().map(|shape| &shape.windows)
    }

    /// The limit's windows while this ruling is in force.
    pub(crate) fn windows_under(&self, ruling: Option<&Ruling>) -> Result<Cow<'_, Algorithms>, LimitsError> {
        let windows = self.windows().ok_or(LimitsError::NeedsConfig)?;
        Ok(ruling.map_or(Cow::Borrowed(windows), |ruling| ruling.applied_to(windows)))
    }

    /// The limit's configuration as text: its windows, and what it does beyond them.
    pub(crate) fn text(&self, between: &str) -> String {
        let Some(shape) = &self.shape else { return String::new() };
        let mut text = ways(&shape.windows, between);
        if shape.has_carried_numbers {
            text += &format!("{between}by default: requests carry numbers");
        }
        match &shape.mark {
            _ if shape.is_shadow => text += ", in shadow mode",
            Some(name) => text += &format!("{between}marks with {name}"),
            None => {}
        }
        text
    }

    /// Way in which requests beyond the limit are admitted while this ruling is in force. `None`: they are denied.
    pub(crate) fn admits_beyond(&self, ruling: Option<&Ruling>) -> Option<Beyond> {
        let shape = self.shape.as_ref()?;
        match &shape.mark {
            _ if shape.is_shadow => Some(Beyond::InShadowMode),
            Some(_) => Some(Beyond::Marked),
            None => matches!(ruling, Some(Ruling::Shadow)).then_some(Beyond::InShadowMode),
        }
    }

    /// Whether the numbers of [`windows_under`](Self::windows_under) this ruling are defaults, in place of which requests
    /// carry their own.
    pub(crate) fn has_default_numbers(&self, ruling: Option<&Ruling>) -> bool {
        let has_carried_numbers = self.shape.as_ref().is_some_and(|shape| shape.has_carried_numbers);
        has_carried_numbers && !matches!(ruling, Some(Ruling::Scaled(Scale::Max(_))))
    }

    /// The target of a command: the whole limit if `key` is empty, otherwise one key of it.
    pub(crate) fn target(self, key: &[String], encoded: bool) -> Result<Target, LimitsError> {
        if key.is_empty() {
            return Ok(Target { limit: self, key: None });
        }
        self.bucket(key, encoded)
    }

    /// The bucket of a key, which is given as its values or, if `encoded`, as the filter writes it in Redis.
    pub(crate) fn bucket(self, key: &[String], encoded: bool) -> Result<Target, LimitsError> {
        if encoded {
            let most = if self.hash_tag == HashTag::None { MAX_ENCODED } else { MAX_ENCODED + TAG_OF_HASH };
            let is_sound = |key: &str| key.len() <= most && key.bytes().all(|byte| byte.is_ascii_graphic());
            let [descriptor] = key else { return Err(LimitsError::Encoded { most, found: key.join(" ") }) };
            if !is_sound(descriptor) {
                return Err(LimitsError::Encoded { most, found: descriptor.clone() });
            }
            let end = if self.hash_tag == HashTag::Bucket { "}" } else { "" };
            let key = [&self.stem(), descriptor.as_str(), end].concat().into_bytes();
            return Ok(Target { limit: self, key: Some(key) });
        }
        let key = match &self.shape {
            Some(shape) if shape.forms.len() != key.len() => {
                return Err(LimitsError::Values { limit: self.name, expected: shape.forms.len(), found: key.len() });
            }
            Some(Shape { missing_hash_key: Some(variable), .. }) => {
                let variable = variable.clone();
                return Err(LimitsError::NoHashKey { limit: self.name, variable });
            }
            Some(shape) => {
                let values: Vec<_> =
                    shape.forms.iter().zip(key).map(|(form, value)| form.of(value.as_bytes())).collect();
                tagged_bucket_key(&self.key_prefix, &self.name, self.hash_tag, &values)
            }
            None => tagged_bucket_key(&self.key_prefix, &self.name, self.hash_tag, key),
        };
        Ok(Target { limit: self, key: Some(key) })
    }
}

impl Target {
    /// The bucket's key in Redis; empty for the whole limit.
    pub(crate) fn key(&self) -> &[u8] {
        self.key.as_deref().unwrap_or_default()
    }

    /// A key in Redis beside which the override of the target is: the bucket, or the hash of a whole limit.
    pub(crate) fn place(&self) -> Vec<u8> {
        self.key.clone().unwrap_or_else(|| OverrideKeys(&self.limit.key_prefix).hash().into_bytes())
    }

    /// Whether this is one key of a limit.
    pub(crate) fn is_key(&self) -> bool {
        self.key.is_some()
    }

    /// The key, in the filter's form; `""` for an empty value, which the filter writes as `%`.
    pub(crate) fn shown_key(&self) -> String {
        let key = key_of(&self.field());
        if key == "%" { r#""""#.to_owned() } else { key }
    }

    /// The field of its override: the limit and the key, without the prefix.
    pub(crate) fn field(&self) -> Cow<'_, [u8]> {
        match &self.key {
            Some(key) => Cow::Borrowed(key.get(self.limit.key_prefix.len()..).unwrap_or_default()),
            None => Cow::Borrowed(self.limit.name.as_bytes()),
        }
    }
}

fn default_tag(is_cluster: bool) -> HashTag {
    if is_cluster { HashTag::Bucket } else { HashTag::None }
}

fn stem(prefix: &str, name: &str, tag: HashTag) -> String {
    let open = if tag == HashTag::Bucket { "{" } else { "" };
    format!("{prefix}{open}{name}:")
}

/// Redis keys of the overrides under one key prefix.
pub(crate) struct OverrideKeys<'a>(pub(crate) &'a str);

impl OverrideKeys<'_> {
    /// The hash of the overrides of limits, and of older overrides of keys.
    pub(crate) fn hash(&self) -> String {
        hash_key(self.0)
    }

    /// The bucket of a field.
    pub(crate) fn bucket(&self, field: &[u8]) -> Vec<u8> {
        [self.0.as_bytes(), field].concat()
    }

    /// The override of a field.
    pub(crate) fn own(&self, field: &[u8]) -> Vec<u8> {
        override_key(&self.bucket(field))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key {
            Some(_) => write!(f, "{} {}", self.limit.name, self.shown_key()),
            None if self.limit.has_one_bucket() => write!(f, "{}", self.limit.name),
            None => write!(f, "{} (every key)", self.limit.name),
        }
    }
}
