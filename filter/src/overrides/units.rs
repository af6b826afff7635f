//! Units of the limits of a configuration, by which stored overrides are checked.

use alloc::string::String;
use alloc::vec::Vec;

use crate::limit::{Limit, Unit};

/// Names of limits, each with the unit of its numbers.
#[derive(Debug, Clone, Default)]
pub struct Units(Vec<(String, Unit)>);

impl Units {
    /// Returns the units of limits.
    #[must_use]
    pub fn of(limits: &[Limit]) -> Self {
        Self(limits.iter().map(|limit| (limit.name.clone(), Unit::of(limit.charge.as_deref()))).collect())
    }

    /// Returns the unit of the limit that a field of the hash or a key without its prefix is of: `LIMIT`, or
    /// `LIMIT:KEY`. `None` where it is of none of the limits.
    #[must_use]
    pub fn of_field(&self, field: &[u8]) -> Option<Unit> {
        // Of a cluster's keys, the limit may be the begin of the hash tag.
        let field = field.strip_prefix(b"{").unwrap_or(field);
        let name = field.split(|byte| *byte == b':').next().unwrap_or_default();
        self.0.iter().find(|(own, _)| own.as_bytes() == name).map(|(_, unit)| *unit)
    }
}
