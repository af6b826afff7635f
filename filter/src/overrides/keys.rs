//! Overrides of keys, as Redis tells them: each is a string beside the buckets of its limit, which the script that
//! decides a request reads in the same step.
//!
//! A worker applies the overrides that it knows, and sends their texts along. If Redis has others, it decides nothing and
//! tells their texts; the worker applies these and asks again. An override therefore holds from the next request on.
//! Where an override leaves nothing to ask, as `blocked` does, the worker believes it for [`BELIEVED_FOR`].

use alloc::rc::Rc;

use super::refresh::{Ignored, read};
use super::{Override, Setting, Units};
use crate::table::Recent;
use crate::units::Micros;

/// Maximum number of keys that a worker knows something of. Redis tells the overrides of all others anew.
const MAX_KEYS: usize = 10_000;
/// Time for which a worker believes, without asking Redis, what it knows of a key.
const BELIEVED_FOR: Micros = Micros::from_secs(1);

/// Overrides of the keys of recent requests.
#[derive(Debug)]
pub struct KeyOverrides {
    prefix: usize,
    units: Rc<Units>,
    keys: Recent<Known>,
}

/// Knowledge of a key, from the last reply of Redis.
#[derive(Debug)]
struct Known {
    /// The override's text, and the override unless it is malformed; its end is by the worker's clock. `None`: the key
    /// has no override.
    told: Option<(Rc<[u8]>, Option<Override>)>,
    at: Micros,
}

/// Override of a key that a worker knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownOverride {
    /// The text, to be sent along. `None` where the key has no override, or none is known.
    pub text: Option<Rc<[u8]>>,
    /// The override, unless its text is malformed.
    pub in_force: Option<Override>,
    /// Whether Redis has told it recently enough to decide without asking.
    pub is_recent: bool,
}

impl KeyOverrides {
    /// Creates an empty table. Keys begin with `key_prefix`.
    #[must_use]
    #[inline(never)]
    pub fn new(key_prefix: &str) -> Self {
        Self { prefix: key_prefix.len(), units: Rc::default(), keys: Recent::new(MAX_KEYS) }
    }

    /// Ignores overrides whose numbers are of other units than their limits'.
    #[must_use]
    pub fn with_units(self, units: Rc<Units>) -> Self {
        Self { units, ..self }
    }

    /// Whether nothing is known of any key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Returns what is known of the override of a bucket's key.
    #[must_use]
    pub fn of(&mut self, now: Micros, bucket_key: &[u8]) -> KnownOverride {
        if self.keys.is_empty() {
            return KnownOverride::default();
        }
        let Some(known) = self.keys.get_mut(bucket_key) else { return KnownOverride::default() };
        let is_recent = known.at.plus(BELIEVED_FOR) > now;
        let Some((text, told)) = &known.told else { return KnownOverride { is_recent, ..KnownOverride::default() } };
        let in_force = told.as_ref().filter(|told| told.until.is_none_or(|until| until > now));
        KnownOverride { text: Some(Rc::clone(text)), in_force: in_force.cloned(), is_recent }
    }

    /// Notes what Redis has told of a bucket's key: the override's text, empty for none. `redis_time` is the time by
    /// Redis' clock, if it is known; otherwise the override is taken as one without an end, until Redis deletes it.
    ///
    /// # Errors
    /// If the text is malformed, and was not known before. The limit then applies as configured.
    pub fn tell(
        &mut self,
        now: Micros,
        redis_time: Option<Micros>,
        bucket_key: &[u8],
        text: &[u8],
    ) -> Result<(), Ignored> {
        if let Some(known) = self.keys.get_mut(bucket_key)
            && known.told.as_ref().map_or(&[][..], |(text, _)| text) == text
        {
            known.at = now;
            return Ok(());
        }
        if text.is_empty() {
            self.keys.insert(bucket_key, Known { told: None, at: now });
            return Ok(());
        }
        let setting = read(bucket_key.get(self.prefix..).unwrap_or_default(), text, &self.units);
        let (told, ignored) = match setting {
            Ok(Setting { ruling, until, .. }) => {
                let ends = |(until, time)| now.plus(Micros::from_secs(until).minus(time));
                (Some(Override { ruling, until: until.zip(redis_time).map(ends) }), Ok(()))
            }
            Err(ignored) => (None, Err(ignored)),
        };
        self.keys.insert(bucket_key, Known { told: Some((text.into(), told)), at: now });
        ignored
    }

    /// Notes an announced change of the override of a key, `key` without the prefix. It holds where Redis does not answer;
    /// otherwise Redis is asked.
    ///
    /// # Errors
    /// As for [`tell`](Self::tell).
    pub fn hear(
        &mut self,
        now: Micros,
        redis_time: Micros,
        key_prefix: &str,
        key: &[u8],
        text: &[u8],
    ) -> Result<(), Ignored> {
        let bucket_key = [key_prefix.as_bytes(), key].concat();
        let known = self.keys.get_mut(&bucket_key).map(|known| known.told.as_ref().map_or(&[][..], |(text, _)| text));
        if known.unwrap_or_default() == text {
            return Ok(());
        }
        let told = self.tell(now, Some(redis_time), &bucket_key, text);
        if let Some(known) = self.keys.get_mut(&bucket_key) {
            known.at = now.minus(BELIEVED_FOR);
        }
        told
    }

    /// Notes that what is known of a bucket's key still holds, or is to be believed since Redis does not answer.
    pub fn confirm(&mut self, now: Micros, bucket_key: &[u8]) {
        match self.keys.get_mut(bucket_key) {
            Some(known) => known.at = now,
            None => self.keys.insert(bucket_key, Known { told: None, at: now }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overrides::Ruling;

    const KEY: &[u8] = b"weir:per_user:alice";
    const NOW: Micros = Micros::from_secs(1_000);

    fn ruling(keys: &mut KeyOverrides, now: Micros) -> Option<Ruling> {
        keys.of(now, KEY).in_force.map(|it| it.ruling)
    }

    #[test]
    fn what_redis_tells_is_known_until_it_tells_something_else() {
        let mut keys = KeyOverrides::new("weir:");
        assert_eq!(keys.of(NOW, KEY), KnownOverride::default());
        keys.tell(NOW, None, KEY, b"blocked").unwrap();
        let known = keys.of(NOW, KEY);
        assert_eq!((known.text.as_deref(), known.is_recent), (Some(&b"blocked"[..]), true));
        assert_eq!(ruling(&mut keys, NOW), Some(Ruling::Blocked));
        assert_eq!(keys.of(NOW, b"weir:per_user:bob"), KnownOverride::default());
        keys.tell(NOW, None, KEY, b"off").unwrap();
        assert_eq!(ruling(&mut keys, NOW), Some(Ruling::Off));
        keys.tell(NOW, None, KEY, b"").unwrap();
        assert_eq!(keys.of(NOW, KEY), KnownOverride { is_recent: true, ..KnownOverride::default() });
    }

    #[test]
    fn what_is_known_is_recent_for_a_second() {
        let mut keys = KeyOverrides::new("weir:");
        keys.tell(NOW, None, KEY, b"blocked").unwrap();
        assert!(keys.of(NOW.plus(Micros(999_999)), KEY).is_recent);
        let later = NOW.plus(Micros::from_secs(1));
        assert!(!keys.of(later, KEY).is_recent);
        assert_eq!(ruling(&mut keys, later), Some(Ruling::Blocked), "it still holds, if Redis does not answer");
        keys.confirm(later, KEY);
        assert!(keys.of(later, KEY).is_recent);
        keys.confirm(later, b"weir:per_user:bob");
        assert!(keys.of(later, b"weir:per_user:bob").is_recent, "the key is known to have no override");
    }

    #[test]
    fn a_malformed_text_is_reported_once_and_the_limit_applies_as_configured() {
        let mut keys = KeyOverrides::new("weir:");
        let ignored = keys.tell(NOW, None, KEY, b"blokced s3cret").unwrap_err().to_string();
        assert!(ignored.starts_with("override ignored (field hash "), "{ignored}");
        assert!(!ignored.contains("s3cret") && !ignored.contains("alice"), "{ignored}");
        keys.tell(NOW, None, KEY, b"blokced s3cret").unwrap();
        let known = keys.of(NOW, KEY);
        assert_eq!((known.text.as_deref(), known.in_force), (Some(&b"blokced s3cret"[..]), None));
    }

    #[test]
    fn numbers_of_another_unit_than_the_limits_are_ignored() {
        let json = r#"{"redis": {"cluster": "redis"}, "usage": {"prices": [{"model": {"prefix": "a"}, "input": 1}]},
            "limits": [{"name": "per_user", "descriptor": [], "charge": "cost", "quota": {"max_usd": 9, "unit": "day"}}]}"#;
        let config = crate::config::parse(json.as_bytes(), &|_| None).unwrap();
        let mut keys = KeyOverrides::new("weir:").with_units(Rc::new(Units::of(&config.limits)));
        let told =
            keys.tell(NOW, None, KEY, br#"{"quota": {"max_requests": 9, "unit": "day"}}"#).unwrap_err().to_string();
        let expected = "expected times, or a window with max_usd, for a limit with charge: cost";
        assert!(told.contains(expected), "{told}");
        assert_eq!(keys.of(NOW, KEY).in_force, None, "the limit applies as configured");
        keys.tell(NOW, None, KEY, br#"{"quota": {"max_usd": 9, "unit": "day"}}"#).unwrap();
        assert!(keys.of(NOW, KEY).in_force.is_some());
        keys.tell(NOW, None, b"weir:other:alice", br#"{"max": 5}"#).unwrap();
    }

    #[test]
    fn an_announced_change_is_known_and_redis_is_asked_all_the_same() {
        let mut keys = KeyOverrides::new("weir:");
        let hear = |keys: &mut KeyOverrides, text: &[u8]| {
            keys.hear(NOW, Micros::from_secs(1_000), "weir:", b"per_user:alice", text)
        };
        hear(&mut keys, b"").unwrap();
        assert!(keys.is_empty(), "a key without an override is not worth a place");
        hear(&mut keys, br#"{"is": "blocked", "until": 1005}"#).unwrap();
        let known = keys.of(NOW, KEY);
        let ends = Some(NOW.plus(Micros::from_secs(5)));
        assert_eq!((known.in_force, known.is_recent), (Some(Override { ruling: Ruling::Blocked, until: ends }), false));
        keys.tell(NOW, None, KEY, b"off").unwrap();
        hear(&mut keys, b"off").unwrap();
        assert!(keys.of(NOW, KEY).is_recent, "Redis has told the same");
        hear(&mut keys, b"").unwrap();
        assert_eq!(ruling(&mut keys, NOW), None);
        hear(&mut keys, b"blokced").unwrap_err();
    }

    #[test]
    fn an_override_ends_by_redis_clock() {
        let mut keys = KeyOverrides::new("weir:");
        let redis_time = Some(Micros::from_secs(1_795_132_800));
        keys.tell(NOW, redis_time, KEY, br#"{"is": "blocked", "until": 1795132803}"#).unwrap();
        let ends = NOW.plus(Micros::from_secs(3));
        assert_eq!(keys.of(NOW, KEY).in_force, Some(Override { ruling: Ruling::Blocked, until: Some(ends) }));
        assert_eq!(keys.of(ends, KEY).in_force, None);
        keys.tell(NOW, redis_time, KEY, br#"{"is": "blocked", "until": 1000}"#).unwrap();
        assert_eq!(keys.of(NOW, KEY).in_force, None, "it has ended already");
        keys.tell(NOW, None, KEY, br#"{"is": "off", "until": 1000}"#).unwrap();
        assert_eq!(keys.of(NOW, KEY).in_force, Some(Override { ruling: Ruling::Off, until: None }));
    }
}
