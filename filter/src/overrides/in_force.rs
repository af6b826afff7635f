//! Overrides in force in a worker, by bucket key and by limit.

use super::setting::{Ruling, Setting};
use crate::table::Keyed;
use crate::units::Micros;

/// Overrides that a worker keeps, at most. If the hash has more, which of them are kept is unspecified.
pub const MAX_ENTRIES: usize = 10_000;

/// An override in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// The ruling in place of the configuration.
    pub ruling: Ruling,
    /// End by the worker's clock, always after the `now` of [`Overrides::of`]. `None`: no end until it is unset.
    pub until: Option<Micros>,
}

/// The overrides that a worker has read from Redis.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Length of the key prefix, in bytes.
    prefix: usize,
    pub(super) entries: Keyed<Entry>,
}

/// A setting, and its end by the worker's clock.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) setting: Setting,
    pub(super) until: Option<Micros>,
}

impl Overrides {
    pub(super) fn new(key_prefix: &str) -> Self {
        Self { prefix: key_prefix.len(), entries: Keyed::default() }
    }

    /// Returns the override in force at `now` for the bucket at `bucket_key` of the limit named `limit`: the key's own
    /// override, or else the limit's.
    ///
    /// Takes constant time and allocates nothing. Without any overrides, it costs one branch.
    #[must_use]
    pub fn of(&self, now: Micros, limit: &str, bucket_key: &[u8]) -> Option<Override> {
        if self.entries.is_empty() {
            return None;
        }
        let of_key = bucket_key.get(self.prefix..).and_then(|field| self.in_force(now, field));
        of_key.or_else(|| self.in_force(now, limit.as_bytes()))
    }

    /// Returns the number of overrides, including expired ones that the next refresh removes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether there are no overrides.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn in_force(&self, now: Micros, field: &[u8]) -> Option<Override> {
        let Entry { setting, until } = self.entries.get(field)?;
        let is_in_force = until.is_none_or(|until| until > now);
        is_in_force.then(|| Override { ruling: setting.ruling.clone(), until: *until })
    }

    pub(super) fn has_same_settings_as(&self, other: &Self) -> bool {
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
    fn an_override_of_a_key_goes_before_one_of_its_limit() {
        let overrides = overrides(&[("per_user", "blocked", None), ("per_user:alice", "unlimited", None)]);
        assert_eq!(ruling(&overrides, "weir:per_user:alice"), Some(Ruling::Unlimited));
        assert_eq!(ruling(&overrides, "weir:per_user:bob"), Some(Ruling::Blocked));
        assert_eq!(overrides.of(NOW, "per_address", b"weir:per_address:alice"), None);
    }

    #[test]
    fn when_an_override_of_a_key_expires_the_override_of_its_limit_holds() {
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
    fn a_key_with_another_prefix_has_no_override() {
        let overrides = overrides(&[("per_user:alice", "off", None)]);
        assert_eq!(ruling(&overrides, "we"), None);
        assert_eq!(ruling(&overrides, ""), None);
    }
}
