//! A descriptor's entries, in the terms of Envoy's rate-limit actions.

use alloc::string::String;

use super::attributes::Attributes;
use super::source::Source;
use super::value::Value;

/// The value of what cannot be read in bodies, where there is no default: clients that send such bodies share a bucket.
const UNREADABLE: &str = "unreadable";

/// One part of a bucket's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where its value comes from.
    pub source: Source,
    /// The value where there is none.
    pub default: Option<String>,
}

impl Entry {
    /// The entry's value for `request`; `None` where it has neither a value nor a default.
    #[must_use]
    pub fn value<'a>(&'a self, request: &'a dyn Attributes) -> Option<Value<'a>> {
        self.source.value(request).or_else(|| self.other(request).map(Value::from))
    }

    /// The value where the source has none.
    fn other(&self, request: &dyn Attributes) -> Option<&str> {
        self.default.as_deref().or_else(|| self.source.is_unreadable(request.body()).then_some(UNREADABLE))
    }
}

impl From<Source> for Entry {
    fn from(source: Source) -> Self {
        Self { source, default: None }
    }
}
