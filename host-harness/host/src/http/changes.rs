//! Changes of headers by routes.

use super::Headers;

/// Change of a header map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HeaderChange {
    /// Removes all values.
    Remove(String),
    /// Appends a value.
    Append(String, String),
    /// Adds a value if there is none.
    AddIfAbsent(String, String),
    /// Replaces all values.
    Set(String, String),
    /// Replaces all values if there is one.
    SetIfPresent(String, String),
}

/// Applies changes in their order.
pub(crate) fn apply(changes: &[HeaderChange], headers: &mut Headers) {
    for change in changes {
        match change {
            HeaderChange::Remove(name) => headers.remove(name.as_bytes()),
            HeaderChange::Append(name, value) => headers.add(name.clone(), value.clone()),
            HeaderChange::Set(name, value) => headers.set(name.clone(), value.clone()),
            HeaderChange::AddIfAbsent(name, value) => {
                if headers.first(name.as_bytes()).is_none() {
                    headers.add(name.clone(), value.clone());
                }
            }
            HeaderChange::SetIfPresent(name, value) => {
                if headers.first(name.as_bytes()).is_some() {
                    headers.set(name.clone(), value.clone());
                }
            }
        }
    }
}
