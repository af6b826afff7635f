//! Values of a request's body that limits read.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::size::BodySize;
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
    /// Size of the body as far as it was seen. `None` where no limit charges it.
    pub(super) size: Option<BodySize>,
    /// Whether the document was read up to its end.
    pub(super) is_whole: bool,
}

/// Byte between several values at one pointer.
pub(super) const BETWEEN: u8 = b'\n';
/// Most bytes of several values at one pointer.
pub(super) const MAX_VALUES: usize = 512;

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

    /// Returns all texts at `pointer`, where limits charge them.
    pub fn values(&self, pointer: &JsonPointer) -> impl Iterator<Item = &[u8]> {
        self.value(pointer).into_iter().flat_map(|values| values.split(|byte| *byte == BETWEEN))
    }

    /// Size of the body as far as it was seen. `None` where it was not measured.
    #[must_use]
    pub fn size(&self) -> Option<BodySize> {
        if let Self::Json(json) = self { json.size } else { None }
    }

    /// Whether the body is a document of JSON that was read up to its end.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        matches!(self, Self::Json(json) if json.is_whole)
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
