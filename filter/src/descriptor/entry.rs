//! Entries of a descriptor, in the terms of Envoy's rate-limit actions.

use alloc::string::String;

use super::attributes::Attributes;
use super::source::Source;
use super::value::Value;

/// Value of an entry that cannot be read from an unreadable body and has no default: clients with unreadable bodies
/// share a bucket.
const UNREADABLE: &str = "unreadable";

/// Entry of a descriptor: one value of a bucket's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Source of the value.
    pub source: Source,
    /// Value to use if the source has none.
    pub default: Option<String>,
}

impl Entry {
    /// Returns the entry's value for `request`. `None` if it has neither a value nor a default.
    #[must_use]
    pub fn value<'a>(&'a self, request: &'a dyn Attributes) -> Option<Value<'a>> {
        self.source.value(request).or_else(|| self.other(request).map(Value::from))
    }

    /// Fallback value if the source has none.
    fn other(&self, request: &dyn Attributes) -> Option<&str> {
        self.default.as_deref().or_else(|| self.source.is_unreadable(request.body()).then_some(UNREADABLE))
    }
}

impl From<Source> for Entry {
    fn from(source: Source) -> Self {
        Self { source, default: None }
    }
}
