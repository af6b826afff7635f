//! Values of a request's body that limits read.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::descriptor::json_pointer::JsonPointer;

/// Request body, as far as limits read it.
#[derive(Debug, Default)]
pub enum RequestBody {
    /// The request has no body.
    #[default]
    None,
    /// No limit reads the request's body.
    Unread,
    /// The body is not JSON, or did not arrive in time.
    Unreadable,
    /// Values of a body that is JSON.
    Json(BodyValues),
}

/// Values of a body at the pointers that limits read.
#[derive(Debug)]
pub struct BodyValues {
    pub(super) pointers: Arc<Vec<JsonPointer>>,
    /// Values, each with the index of its pointer.
    pub(super) values: Vec<(usize, Value)>,
}

/// Value at a JSON pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// No value, `null`, an object or a list.
    Absent,
    /// A string, a number in normalized spelling, `true` or `false`.
    Text(Vec<u8>),
    /// Unknown: the body was not read up to the value.
    Unreadable,
}

impl RequestBody {
    /// Returns the text at `pointer`, if any.
    #[must_use]
    pub fn value(&self, pointer: &JsonPointer) -> Option<&[u8]> {
        match self.at(pointer)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether the value at `pointer` could not be read.
    #[must_use]
    pub fn is_unreadable_at(&self, pointer: &JsonPointer) -> bool {
        matches!(self, Self::Unreadable) || self.at(pointer) == Some(&Value::Unreadable)
    }

    /// Whether any value that a limit reads could not be read.
    #[must_use]
    #[inline(always)]
    pub fn is_unreadable(&self) -> bool {
        match self {
            Self::None | Self::Unread => false,
            Self::Unreadable => true,
            Self::Json(json) => json.values.iter().any(|(_, value)| *value == Value::Unreadable),
        }
    }

    fn at(&self, pointer: &JsonPointer) -> Option<&Value> {
        let Self::Json(json) = self else { return None };
        let value = json.values.iter().find(|(place, _)| json.pointers.get(*place) == Some(pointer));
        value.map(|(_, value)| value)
    }
}

impl From<Option<BodyValues>> for RequestBody {
    fn from(values: Option<BodyValues>) -> Self {
        values.map_or(Self::Unreadable, Self::Json)
    }
}

impl Value {
    pub(super) fn text(bytes: &[u8]) -> Self {
        Self::Text(String::from_utf8_lossy(bytes).into_owned().into_bytes())
    }
}
