//! Override found in Redis, with its state at Redis' current time.

use serde_json::{Value, json};
use weir_filter::overrides::{Ruling, Setting, SettingError};
use weir_filter::units::Micros;

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
        let state = match Setting::parse(value) {
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
