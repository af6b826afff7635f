//! Reads and changes of `weir console`, in steps of bounded work.
//!
//! | module | contents |
//! |---|---|
//! | this one | limits of a file with their Redis; changes by the commands of `weir limits` |
//! | `reading` | connection that reads overrides, levels of buckets, and pages of a scan |
//! | `events` | entries of the streams of events |

mod events;
mod reading;

use std::path::Path;

use serde_json::{Value, json};

pub(crate) use self::events::{Batch, Position, Stream};
pub(crate) use self::reading::{OverrideRow, Reading, Scan};
use super::change::{Plan, note_place};
use super::configured::{Configured, Limit, Target};
use super::error::LimitsError;
use super::found::KnownUnits;
use super::list::limit_json;
use super::render::{key_of, override_json, ruling_and_rest};
use super::server::{RedisOptions, Server};
use super::source::Source;
use super::store::Store;
use super::wanted::Wanted;
use super::{Action, Limits};

/// Bucket of a key, by names that a page can show.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BucketName {
    pub(crate) key_prefix: String,
    pub(crate) limit: String,
    /// Key in the filter's form; empty for the only bucket of a limit.
    pub(crate) key: String,
}

/// Limit by its key prefix and name.
pub(crate) type LimitName = (String, String);

/// Limits of a file, and the options of their Redis.
pub(crate) struct LimitSet {
    options: RedisOptions,
    source: Source,
    configured: Configured,
}

/// Change of an override, as `weir limits` would print it before and after.
#[derive(Debug)]
pub(crate) struct Preview {
    /// Limit and key.
    pub(crate) target: String,
    /// The override that will be set; `None` if one is removed.
    pub(crate) text: Option<String>,
    /// The override now.
    pub(crate) now: Option<String>,
    /// Notes of the command: its reach, and the Redis that it writes to.
    pub(crate) notes: Vec<String>,
}

impl LimitSet {
    /// Reads a file, and checks that it and the options have the address of a Redis.
    pub(crate) fn load(options: &RedisOptions, file: &Path, key_prefix: Option<&str>) -> Result<Self, LimitsError> {
        let source = Source::load(file, key_prefix)?;
        Server::of(options, Some(&source))?;
        let configured = Configured::of(&source);
        Ok(Self { options: options.clone(), source, configured })
    }

    /// The file.
    pub(crate) fn origin(&self) -> &str {
        &self.source.origin
    }

    /// The limits as JSON, without what Redis knows of them.
    pub(crate) fn rows(&self) -> Vec<Value> {
        let limits = self.configured.selected(None).unwrap_or_default();
        limits.into_iter().map(|limit| limit_row(limit, None)).collect()
    }

    /// Connects to Redis.
    pub(crate) fn connect(&self) -> Result<Reading<'_>, LimitsError> {
        Ok(Reading::new(&self.configured, self.store()?))
    }

    /// Streams of events that the proxies write, each once.
    pub(crate) fn streams(&self) -> Vec<Stream> {
        let mut streams: Vec<Stream> = Vec::new();
        for limiter in &self.source.limiters {
            if let Some(stream) = Stream::of(&limiter.config)
                && !streams.contains(&stream)
            {
                streams.push(stream);
            }
        }
        streams
    }

    /// Names of the limits' metrics: the prefix of each limiter, with its limits.
    pub(crate) fn metrics(&self) -> Vec<(String, Vec<LimitName>)> {
        let limiters = self.source.limiters.iter().map(|limiter| {
            let name =
                |limit: &weir_filter::limit::Limit| (limiter.config.redis.key_prefix.clone(), limit.name.clone());
            (limiter.config.stat_prefix.clone(), limiter.config.limits.iter().map(name).collect())
        });
        limiters.collect()
    }

    /// Runs `weir limits` with these arguments. Returns its output and its notes.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<(String, String), ChangeError> {
        let action = Limits::parse(arguments)?.action;
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        action.run(&self.configured, &|| self.store(), &mut out, &mut notes)?;
        Ok((text(&out), text(&notes)))
    }

    /// Previews `weir limits set` or `unset` with these arguments, and changes nothing.
    pub(crate) fn preview(&self, arguments: &[&str]) -> Result<Preview, ChangeError> {
        let action = Limits::parse(arguments)?.action;
        let mut notes = Vec::new();
        let (target, text_after, now, store) = match &action {
            Action::Set { limit, words, numbers, lasting, encoded } => {
                let limit = self.configured.limit(limit)?.overridable()?;
                let wanted = Wanted::of(&limit, words, *encoded, numbers, lasting)?;
                let target = limit.target(wanted.key, *encoded)?;
                let mut store = self.store()?;
                let Plan { text, replaced, .. } = Plan::of(&mut store, &target, &wanted)?;
                (target, Some(text), replaced, store)
            }
            Action::Unset(place) => {
                let target = place.former(&self.configured)?;
                let mut store = self.store()?;
                let own = store.own(&target)?;
                let now = own.map(|found| ruling_and_rest(&found, Some(&target.limit)));
                (target, None, now, store)
            }
            _ => return Err(ChangeError::NoChange),
        };
        target.note_reach(&mut notes).and_then(|()| note_place(&store, &mut notes)).map_err(LimitsError::from)?;
        let notes = text(&notes).lines().map(str::to_owned).collect();
        Ok(Preview { target: target.to_string(), text: text_after, now, notes })
    }

    /// The bucket of a key that is given by its values, or by `None` for the only one of the limit.
    pub(crate) fn bucket_of(&self, limit: &str, values: &[String]) -> Result<BucketName, LimitsError> {
        let limit = self.configured.limit(limit)?;
        let target = limit.bucket(values, false)?;
        Ok(name_of(&target))
    }

    /// Whether a limit is in the file.
    pub(crate) fn has(&self, bucket: &BucketName) -> bool {
        target(&self.configured, bucket).is_some()
    }

    fn store(&self) -> Result<Store, LimitsError> {
        Store::connect(Server::of(&self.options, Some(&self.source))?, KnownUnits::of(Some(&self.source)))
    }
}

/// Reasons why no override was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    /// The arguments are none of `weir limits`.
    #[error("{}", .0.to_string().lines().next().unwrap_or_default().trim_start_matches("error: "))]
    Arguments(#[from] clap::Error),
    /// The command changes no override.
    #[error("expected a change of an override")]
    NoChange,
    /// The command failed.
    #[error(transparent)]
    Limits(#[from] LimitsError),
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The target of a bucket's name; `None` if no such limit is in the file.
fn target(configured: &Configured, bucket: &BucketName) -> Option<Target> {
    let limits = configured.selected(Some(&bucket.limit)).ok()?;
    let limit = limits.into_iter().find(|limit| limit.key_prefix == bucket.key_prefix)?.clone();
    match limit.has_one_bucket() {
        true => limit.bucket(&[], false).ok(),
        false => limit.bucket(std::slice::from_ref(&bucket.key), true).ok(),
    }
}

/// The name of a target's bucket.
fn name_of(target: &Target) -> BucketName {
    let limit = &target.limit;
    BucketName {
        key_prefix: limit.key_prefix.clone(),
        limit: limit.name.clone(),
        key: shown_key(limit.has_one_bucket(), &target.field()),
    }
}

/// The key in a field, as `--encoded` takes it.
pub(crate) fn shown_key(is_only: bool, field: &[u8]) -> String {
    if is_only { String::new() } else { key_of(field) }
}

/// A limit with its override, and the number of values in its keys.
fn limit_row(limit: &Limit, found: Option<&super::found::Found>) -> Value {
    let mut row = limit_json(limit.name.as_bytes(), Some(limit), found);
    row["key_prefix"] = limit.key_prefix.as_str().into();
    row["exists"] = true.into();
    row["text"] = limit.text("; ").into();
    row["has_charge"] = limit.has_charge().into();
    row["hashed_values"] = json!(limit.hashes());
    row["has_overrides"] = limit.clone().overridable().is_ok().into();
    row
}

/// An override of a key, or of a limit that is not in the file.
fn override_row(bucket: &BucketName, is_key: bool, exists: bool, found: &Value) -> Value {
    json!({
        "key_prefix": bucket.key_prefix,
        "limit": bucket.limit,
        "key": is_key.then_some(&bucket.key),
        "exists": exists,
        "override": found,
    })
}

fn found_json(found: &super::found::Found, limit: Option<&Limit>) -> Value {
    override_json(found, limit)
}
