//! Request bodies that are JSON.

mod headers;
mod scanner;
#[cfg(test)]
mod tests;
mod text;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

pub(crate) use self::scanner::JsonScanner;
use super::json_pointer::JsonPointer;

/// What limits see of a request's body.
#[derive(Debug, Default)]
pub enum RequestBody {
    /// The request has none.
    #[default]
    None,
    /// It has one that no limit reads.
    Unread,
    /// It has one that is no JSON, or that has not come in time.
    Unreadable,
    /// It has values.
    Json(BodyValues),
}

/// The values at a few JSON pointers.
#[derive(Debug)]
pub struct BodyValues {
    pointers: Arc<Vec<JsonPointer>>,
    /// By the places of their pointers.
    values: Vec<(usize, Value)>,
}

/// What stands at a JSON pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// Nothing, `null`, an object or a list.
    Absent,
    /// A string, a number in its one spelling, `true` or `false`.
    Text(Vec<u8>),
    /// It is not known: the body was not read so far.
    Unreadable,
}

impl RequestBody {
    /// The text at `pointer`, where it has any there.
    #[must_use]
    pub fn value(&self, pointer: &JsonPointer) -> Option<&[u8]> {
        match self.at(pointer)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether it is not known what stands at `pointer`.
    #[must_use]
    pub fn is_unreadable_at(&self, pointer: &JsonPointer) -> bool {
        matches!(self, Self::Unreadable) || self.at(pointer) == Some(&Value::Unreadable)
    }

    /// Whether it is not known what stands somewhere where a limit reads it.
    #[must_use]
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
    fn text(bytes: &[u8]) -> Self {
        Self::Text(String::from_utf8_lossy(bytes).into_owned().into_bytes())
    }
}
