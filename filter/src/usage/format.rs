//! Format of responses: the places and headers in which they tell usage.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::field::{ALL, Field, Formats, NAMED, headers};
use crate::descriptor::JsonPointer;

/// Places and headers in which responses tell usage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    /// Known formats whose places are read.
    pub(super) known: Formats,
    /// Places beside those of known formats.
    pub(super) pointers: Vec<(JsonPointer, Field)>,
    /// Headers, with names in lower case. They count where the body tells nothing.
    headers: Arc<[(String, Field)]>,
    /// Whether the provider's own cost is read.
    pub(super) has_cost: bool,
}

impl Default for Format {
    /// Returns all known formats.
    fn default() -> Self {
        Self::known(ALL)
    }
}

impl Format {
    /// Returns the format of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        NAMED.iter().find(|(known, _)| *known == name).map(|(_, formats)| Self::known(*formats))
    }

    /// Returns known formats.
    fn known(formats: Formats) -> Self {
        let headers = headers(formats).map(|(name, field)| (name.to_owned(), field)).collect();
        Self { known: formats, pointers: Vec::new(), headers, has_cost: false }
    }

    /// Returns the format of bodies with fields at these places.
    pub(crate) fn of_pointers(pointers: Vec<(JsonPointer, Field)>) -> Self {
        Self { pointers, ..Self::known(0) }
    }

    /// Returns the format of responses with fields in these headers.
    pub(crate) fn of_headers(headers: Vec<(String, Field)>) -> Self {
        Self { headers: headers.into(), ..Self::known(0) }
    }

    /// Returns the format with the provider's own cost, or without it.
    pub(crate) fn with_cost(self, has_cost: bool) -> Self {
        Self { has_cost, ..self }
    }

    /// Headers in which responses tell usage, and what each of them tells.
    #[must_use]
    pub fn headers(&self) -> &Arc<[(String, Field)]> {
        &self.headers
    }
}
