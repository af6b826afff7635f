//! Override found in Redis, with its state at Redis' current time.

use std::sync::Arc;

use serde_json::{Value, json};
use weir_filter::overrides::{Ruling, Setting, SettingError, Units};
use weir_filter::units::Micros;

use super::source::Source;

/// Units of the limits of a configuration, for each key prefix: workers ignore an override of another unit.
#[derive(Debug, Clone, Default)]
pub(super) struct KnownUnits(Arc<[(String, Units)]>);

impl KnownUnits {
    pub(super) fn of(source: Option<&Source>) -> Self {
        let limiters = source.iter().flat_map(|source| &source.limiters);
        let units = limiters.map(|it| (it.config.redis.key_prefix.clone(), Units::of(&it.config.limits)));
        Self(units.collect())
    }

    /// Parses the value of a field of the hash, or of a key's override, which has the same name; `now` is Redis' time.
    pub(super) fn read(&self, prefix: &str, field: &[u8], value: &[u8], now: Micros) -> Found {
        let of_prefix = self.0.iter().filter(|(own, _)| own == prefix);
        let setting = match of_prefix.filter_map(|(_, units)| units.of_field(field)).next() {
            Some(unit) => Setting::parse_for(value, unit),
            None => Setting::parse(value),
        };
        Found::of(setting, value, now)
    }
}

/// An override found in Redis.
#[derive(Clone)]
pub(crate) struct Found {
    pub(super) state: State,
    /// Value in Redis as JSON; null if it is malformed.
    pub(super) value: Value,
}

#[derive(Clone)]
pub(super) enum State {
    InForce { ruling: Ruling, left: Option<Micros> },
    Over,
    Malformed(SettingError),
}

impl Found {
    /// Parses a value; `now` is Redis' time.
    pub(super) fn read(value: &[u8], now: Micros) -> Self {
        Self::of(Setting::parse(value), value, now)
    }

    fn of(setting: Result<Setting, SettingError>, value: &[u8], now: Micros) -> Self {
        let state = match setting {
            Err(error) => return Self { state: State::Malformed(error), value: Value::Null },
            Ok(setting) if setting.is_over(now) => State::Over,
            Ok(Setting { ruling, until }) => {
                State::InForce { ruling, left: until.map(|until| Micros::from_secs(until).minus(now)) }
            }
        };
        let value = match serde_json::from_slice(value) {
            Ok(object @ Value::Object(_)) => object,
            Ok(Value::String(word)) => json!({ "is": word }),
            _ => json!({ "is": String::from_utf8_lossy(value.trim_ascii()) }),
        };
        Self { state, value }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    pub(super) fn is_malformed(&self) -> bool {
        matches!(self.state, State::Malformed(_))
    }

    /// The ruling, if it is in force.
    pub(crate) fn ruling(&self) -> Option<&Ruling> {
        match &self.state {
            State::InForce { ruling, .. } => Some(ruling),
            State::Over | State::Malformed(_) => None,
        }
    }

    /// A text of the value, `reason` or `by`.
    pub(super) fn note(&self, name: &str) -> Option<&str> {
        self.value.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// The end in Unix seconds.
    pub(super) fn until(&self) -> Option<u64> {
        self.value.get("until")?.as_u64()
    }
}
