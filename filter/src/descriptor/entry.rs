//! Entries of a descriptor, in the terms of Envoy's rate-limit actions.

use alloc::string::String;

use super::attributes::Attributes;
use super::body::RequestBody;
use super::budget::Exhausted;
use super::on_unreadable::OnUnreadable;
use super::source::Source;
use super::value::Value;
use super::value_form::ValueForm;

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
    /// Treatment of an empty value of the source.
    pub empty: EmptyValue,
    /// Form of the value in keys.
    pub form: ValueForm,
    /// Treatment of a request in whose body the value cannot be read. `None` for the whole filter's.
    pub on_unreadable: Option<OnUnreadable>,
}

/// Treatment of an empty value of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmptyValue {
    /// An empty value is a value like any other.
    Value,
    /// The source has no value.
    Missing,
}

impl Entry {
    /// Returns the entry's value for `request`, in its form. `None` if it has neither a value nor a default.
    pub(super) fn value<'a>(&'a self, request: &'a dyn Attributes) -> Result<Option<Value<'a>>, Exhausted> {
        let value = self.source.value(request);
        if self.empty == EmptyValue::Value && !self.form.changes_values() {
            return Ok(value.or_else(|| self.other(request).map(Value::from)));
        }
        self.formed(value, request)
    }

    #[inline(never)]
    fn formed<'a>(
        &'a self,
        value: Option<Value<'a>>,
        request: &'a dyn Attributes,
    ) -> Result<Option<Value<'a>>, Exhausted> {
        let value = value.filter(|value| self.empty == EmptyValue::Value || !value.is_empty());
        let value = value.or_else(|| self.other(request).map(Value::from));
        value.map(|value| self.form.of_request(value, request.memo())).transpose()
    }

    /// Fallback value if the source has none.
    fn other(&self, request: &dyn Attributes) -> Option<&str> {
        self.default.as_deref().or_else(|| self.source.is_unreadable(request.body()).then_some(UNREADABLE))
    }

    /// Treatment of a request with this body. `None` if the entry does not read the body, or can read its value.
    pub(crate) fn treatment_of(&self, body: &RequestBody, by_default: OnUnreadable) -> Option<OnUnreadable> {
        self.source.is_unreadable(body).then(|| self.on_unreadable.unwrap_or(by_default))
    }
}

impl From<Source> for Entry {
    fn from(source: Source) -> Self {
        Self { source, default: None, empty: EmptyValue::Value, form: ValueForm::default(), on_unreadable: None }
    }
}
