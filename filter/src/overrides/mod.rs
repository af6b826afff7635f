//! What operators say at run time, without a redeploy: a limit, or one key of it, is blocked, unlimited, off, in
//! shadow mode, or has another rate, quota or window.
//!
//! It is written to the Redis hash `{prefix}overrides`, by `weir limits set` or by anything else. A field is a
//! limit's name (`per_user`), or what follows the prefix in a bucket's key (`per_user:alice`); a value is a
//! [`Setting`]. Each worker reads the hash again and again, see [`Refresh`]. What it cannot read is ignored, counted
//! and warned about once; while Redis is away, the last overrides stay in force until they expire.

mod page;
mod refresh;
mod setting;

pub use self::page::MalformedPage;
pub use self::refresh::{Event, Ignored, Refresh};
pub use self::setting::{MAX_FIELD, MAX_VALUE, Ruling, Setting, SettingError};
use alloc::string::String;

use crate::table::Keyed;
use crate::units::Micros;

/// The most overrides that a worker keeps; of more, it keeps any so many.
pub const MAX_ENTRIES: usize = 10_000;

/// The key of the Redis hash.
#[must_use]
pub fn hash_key(key_prefix: &str) -> String {
    format!("{key_prefix}overrides")
}

/// An override in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// What holds in place of the configuration.
    pub ruling: Ruling,
    /// Until when, by the worker's clock: always ahead of the `now` it was asked for at. `None`: until it is unset.
    pub until: Option<Micros>,
}

/// The overrides that a worker knows of.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    prefix: usize,
    entries: Keyed<Entry>,
}

/// A setting, and when it ends by the worker's clock.
#[derive(Debug, Clone)]
struct Entry {
    setting: Setting,
    until: Option<Micros>,
}

impl Overrides {
    fn new(key_prefix: &str) -> Self {
        Self { prefix: key_prefix.len(), entries: Keyed::default() }
    }

    /// What is in force at `now` for the bucket at `bucket_key`, of the limit named `limit`: what is said of the key,
    /// or else what is said of the limit.
    ///
    /// Takes constant time and allocates nothing; without any overrides, it is one branch.
    #[must_use]
    pub fn of(&self, now: Micros, limit: &str, bucket_key: &[u8]) -> Option<Override> {
        if self.entries.is_empty() {
            return None;
        }
        let of_key = bucket_key.get(self.prefix..).and_then(|field| self.in_force(now, field));
        of_key.or_else(|| self.in_force(now, limit.as_bytes()))
    }

    /// How many there are, expired ones included that nobody has looked for since.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn in_force(&self, now: Micros, field: &[u8]) -> Option<Override> {
        let Entry { setting, until } = self.entries.get(field)?;
        let is_in_force = until.is_none_or(|until| until > now);
        is_in_force.then(|| Override { ruling: setting.ruling.clone(), until: *until })
    }

    fn says_the_same_as(&self, other: &Self) -> bool {
        self.entries.len() == other.entries.len()
            && self
                .entries
                .iter()
                .all(|(field, entry)| other.entries.get(field).is_some_and(|theirs| theirs.setting == entry.setting))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Micros = Micros::from_secs(100);

    fn overrides(entries: &[(&str, &str, Option<Micros>)]) -> Overrides {
        let mut overrides = Overrides::new("weir:");
        for (field, value, until) in entries {
            let entry = Entry { setting: Setting::parse(value.as_bytes()).unwrap(), until: *until };
            overrides.entries.insert(field.as_bytes().into(), entry);
        }
        overrides
    }

    fn ruling(overrides: &Overrides, key: &str) -> Option<Ruling> {
        overrides.of(NOW, "per_user", key.as_bytes()).map(|found| found.ruling)
    }

    #[test]
    fn what_is_said_of_a_key_goes_before_what_is_said_of_its_limit() {
        let overrides = overrides(&[("per_user", "blocked", None), ("per_user:alice", "unlimited", None)]);
        assert_eq!(ruling(&overrides, "weir:per_user:alice"), Some(Ruling::Unlimited));
        assert_eq!(ruling(&overrides, "weir:per_user:bob"), Some(Ruling::Blocked));
        assert_eq!(overrides.of(NOW, "per_address", b"weir:per_address:alice"), None);
    }

    #[test]
    fn an_override_holds_until_it_expires_and_then_the_wider_one_does() {
        let overrides = overrides(&[("per_user", "shadow", None), ("per_user:alice", "blocked", Some(NOW))]);
        let of_alice = |now| overrides.of(now, "per_user", b"weir:per_user:alice");
        let before = of_alice(NOW.minus(Micros(1)));
        assert_eq!(before, Some(Override { ruling: Ruling::Blocked, until: Some(NOW) }));
        assert_eq!(of_alice(NOW), Some(Override { ruling: Ruling::Shadow, until: None }));
    }

    #[test]
    fn the_one_bucket_of_a_limit_without_entries_is_not_the_limit_itself() {
        let overrides = overrides(&[("all:", "off", None)]);
        assert_eq!(overrides.of(NOW, "all", b"weir:all:").map(|found| found.ruling), Some(Ruling::Off));
        assert_eq!(overrides.of(NOW, "all", b"weir:all:x"), None);
    }

    #[test]
    fn a_key_of_another_prefix_is_nobodys() {
        let overrides = overrides(&[("per_user:alice", "off", None)]);
        assert_eq!(ruling(&overrides, "we"), None);
        assert_eq!(ruling(&overrides, ""), None);
    }
}
