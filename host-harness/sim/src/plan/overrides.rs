//! Overrides of a simulation, by the random number of their fault.

use super::Plan;
use super::faults::{Fault, Kind};
use super::limits::Window;

/// Override of a limit or of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Override {
    /// Place of the limit.
    pub(crate) limit: usize,
    /// Key, `None` for the whole limit.
    pub(crate) key: Option<u32>,
    pub(crate) change: Change,
}

/// Change of a limit's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Doubled,
    Halved,
    Max(u64),
    Blocked,
}

impl Override {
    /// Returns the override of a fault, if it is one.
    pub(crate) fn of(fault: &Fault, plan: &Plan) -> Option<Self> {
        let is_of_key = match fault.kind {
            Kind::LimitOverride => false,
            Kind::KeyOverride => true,
            _ => return None,
        };
        let draw = fault.draw >> 8;
        let change = match draw % 4 {
            0 => Change::Doubled,
            1 => Change::Halved,
            2 => Change::Max(1 + draw / 64 % 40),
            _ => Change::Blocked,
        };
        let key = is_of_key.then_some((draw / 16 % 3) as u32);
        Some(Self { limit: (draw / 4096) as usize % plan.config.limits.len(), key, change })
    }
}

impl Change {
    /// Text of the override in Redis.
    pub(crate) fn text(self) -> String {
        match self {
            Self::Doubled => r#"{"times": 2}"#.to_owned(),
            Self::Halved => r#"{"times": 0.5}"#.to_owned(),
            Self::Max(max) => format!(r#"{{"max": {max}}}"#),
            Self::Blocked => "blocked".to_owned(),
        }
    }

    /// The numbers of a window that has the override; of a blocked one, its own.
    pub(crate) fn of(self, window: Window) -> Window {
        match self {
            Self::Doubled => window.with(window.max() * 2, 2),
            Self::Max(max) => window.with(max, 1),
            Self::Halved | Self::Blocked => window,
        }
    }
}
