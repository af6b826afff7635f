//! Episodes: times in which a key is limited, from sightings that are close to each other.

use std::collections::BTreeMap;

use crate::limits::live::BucketName;

/// Time in milliseconds since 1970, by Redis' clock.
pub(super) type Millis = u64;

/// Longest time between two sightings of one episode. A client that is limited all the time gets single tokens.
const GAP: Millis = 10_000;
/// Largest number of keys; beyond it, those that were limited longest ago are forgotten.
const MOST: usize = 2_000;

/// Time in which a key is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Episode {
    pub(super) since: Millis,
    pub(super) last: Millis,
    /// The key may have been limited before: nothing earlier is known.
    pub(super) is_open: bool,
}

/// Episodes of all keys.
#[derive(Debug, Default)]
pub(super) struct Episodes(BTreeMap<BucketName, Episode>);

impl Episodes {
    /// Adds a sighting. `known_from` is the time from which on the source would have shown one of this key.
    pub(super) fn add(&mut self, bucket: &BucketName, at: Millis, known_from: Millis) {
        let is_open = at <= known_from.saturating_add(GAP);
        match self.0.get_mut(bucket) {
            Some(episode) if at <= episode.last.saturating_add(GAP) => {
                if at < episode.since {
                    (episode.since, episode.is_open) = (at, is_open);
                }
                episode.last = episode.last.max(at);
            }
            _ => _ = self.0.insert(bucket.clone(), Episode { since: at, last: at, is_open }),
        }
    }

    /// Keys that are limited now, the longest limited first; and forgets others if there are many.
    pub(super) fn current(&mut self, now: Millis) -> Vec<(BucketName, Episode)> {
        if self.0.len() > MOST {
            self.0.retain(|_, episode| now <= episode.last.saturating_add(GAP));
        }
        let is_current = |(_, episode): &(&BucketName, &Episode)| now <= episode.last.saturating_add(GAP);
        let mut current: Vec<_> = self.0.iter().filter(is_current).map(|(name, it)| (name.clone(), *it)).collect();
        current.sort_by_key(|(_, episode)| episode.since);
        current
    }

    /// Forgets all: nothing was seen for a while.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alice() -> BucketName {
        BucketName { key_prefix: "weir:".into(), limit: "per_user".into(), key: "alice".into() }
    }

    fn since(sightings: &[Millis], known_from: Millis, now: Millis) -> Option<(Millis, bool)> {
        let mut episodes = Episodes::default();
        sightings.iter().for_each(|at| episodes.add(&alice(), *at, known_from));
        episodes.current(now).first().map(|(_, episode)| (episode.since, episode.is_open))
    }

    #[test]
    fn a_key_is_limited_since_the_first_of_its_close_sightings() {
        assert_eq!(since(&[100_000, 105_000, 114_000], 0, 120_000), Some((100_000, false)));
        assert_eq!(since(&[100_000, 115_000], 0, 120_000), Some((115_000, false)), "a pause of 15 s");
        assert_eq!(since(&[100_000], 0, 110_001), None, "more than 10 s ago");
        assert_eq!(since(&[114_000, 105_000], 0, 120_000), Some((105_000, false)), "from another source, later told");
    }

    #[test]
    fn the_start_is_open_if_nothing_earlier_is_known() {
        assert_eq!(since(&[100_000], 95_000, 101_000), Some((100_000, true)));
        assert_eq!(since(&[100_000], 80_000, 101_000), Some((100_000, false)));
    }

    #[test]
    fn keys_limited_long_ago_are_forgotten() {
        let mut episodes = Episodes::default();
        for number in 0..=MOST {
            episodes.add(&BucketName { key: number.to_string(), ..alice() }, 1, 0);
        }
        episodes.add(&alice(), 60_000, 0);
        assert_eq!(episodes.current(60_000).len(), 1);
        assert_eq!(episodes.0.len(), 1);
    }
}
