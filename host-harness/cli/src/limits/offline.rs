//! Changes of overrides for a Redis without a connection: `weir test` applies them in virtual time.

use serde_json::Value;
use weir_filter::units::Micros;

use super::configured::{Configured, OverrideKeys, Target};
use super::error::LimitsError;
use super::source::Source;
use super::wanted::Wanted;
use super::{Action, Limits};

/// Change of Redis by `set`, `unset` or `reset`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// The text of the override of a key, beside its bucket, and its end in Unix seconds. `None` removes it.
    Key {
        /// Key of the first bucket.
        bucket: Vec<u8>,
        /// Key of the hash in which the change is announced, and limit and key.
        announced: (String, Vec<u8>),
        /// Text and end.
        set: Option<(String, Option<u64>)>,
    },
    /// The text of an override in the hash, which workers read at their refresh interval. `None` removes it.
    Field {
        /// Key of the hash.
        hash: String,
        /// Field: a limit, or a key whose limit does not read overrides of keys.
        field: Vec<u8>,
        /// Text.
        set: Option<String>,
    },
    /// All buckets of a key are deleted.
    Reset {
        /// Key of the first bucket.
        bucket: Vec<u8>,
    },
}

impl Limits {
    /// Returns the change of `set`, `unset` or `reset` at `now` by Redis' clock, for a limiter's configuration as written
    /// in `origin`. `None` for a command that changes nothing of one target.
    ///
    /// # Errors
    /// If the arguments do not fit the configuration.
    pub(crate) fn change(&self, origin: &str, written: &Value, now: Micros) -> Result<Option<Change>, LimitsError> {
        let configured = Configured::of(&Source::of(origin, written)?);
        let in_hash = |prefix: &str, field: &[u8], set: Option<String>| Change::Field {
            hash: OverrideKeys(prefix).hash(),
            field: field.to_vec(),
            set,
        };
        let key_change = |target: &Target, set| Change::Key {
            bucket: target.key().to_vec(),
            announced: (OverrideKeys(&target.limit.key_prefix).hash(), target.field().into_owned()),
            set,
        };
        Ok(Some(match &self.action {
            Action::Set { limit, words, numbers, lasting, encoded } => {
                let limit = configured.limit(limit)?.overridable()?;
                let wanted = Wanted::of(&limit, words, *encoded, numbers, lasting)?;
                let target = limit.target(wanted.key, *encoded)?;
                let (text, until) = wanted.value(now)?;
                match target.is_key() && target.limit.reads_keys() {
                    true => key_change(&target, Some((text, until))),
                    false => in_hash(&target.limit.key_prefix, &target.field(), Some(text)),
                }
            }
            Action::Unset(place) => {
                let target = place.former(&configured)?;
                match target.is_key() && target.limit.reads_keys() {
                    true => key_change(&target, None),
                    false => in_hash(&target.limit.key_prefix, &target.field(), None),
                }
            }
            Action::Reset(place) => Change::Reset { bucket: place.bucket(&configured)?.key().to_vec() },
            _ => return Ok(None),
        }))
    }
}
