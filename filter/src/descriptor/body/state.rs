//! State of a scan: the tokens that may come next, the containers around the place, and the progress of pointers.

use super::values::Value;

/// A set of tracks: a bit for each.
pub(super) type Tracks = u32;

/// Progress of one pointer.
#[derive(Debug)]
pub(super) struct Track {
    /// Index of the pointer.
    pub(super) pointer: usize,
    pub(super) value: Value,
    /// Whether all values at the pointer count, and not only the last one.
    pub(super) adds: bool,
}

/// An object or list around the present place.
#[derive(Debug)]
pub(super) struct Level {
    pub(super) container: Container,
    /// The pointers that lead into it.
    pub(super) into: Tracks,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    Object,
    /// A list, the index of its present item, and that of the next one that a pointer leads to, if any does.
    List {
        index: usize,
        next: Option<usize>,
    },
}

/// State of the parser: the tokens that may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// The rest of the byte order mark, from this byte on, or the document.
    Start(usize),
    Value,
    /// A value, or the end of the list.
    FirstItem,
    /// A key, or the end of the object.
    FirstKey,
    Key,
    Colon,
    /// A comma, or the end of the container.
    Comma,
    /// The rest of a string. `escaped`: its next byte stands behind a backslash.
    Text {
        of: Text,
        escaped: bool,
    },
    /// The rest of a number or word. `kept`: it is looked at.
    Scalar {
        kept: bool,
    },
    /// The rest of an object or list that is skipped, at this depth in it.
    Skipped(usize),
    /// The document has ended; bytes after it are ignored.
    Ended,
    /// The document is not JSON.
    Malformed,
    /// Reading more would take too much work.
    Cut,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Text {
    Key,
    Wanted,
    Unwanted,
    /// In a container that is skipped, at this depth.
    Skipped(usize),
}

/// Number of tracks in a set.
pub(super) fn bits(tracks: Tracks) -> usize {
    usize::try_from(tracks.count_ones()).unwrap_or(usize::MAX)
}

/// The set of one track.
pub(super) fn bit(nth: usize) -> Tracks {
    u32::try_from(nth).ok().and_then(|nth| 1_u32.checked_shl(nth)).unwrap_or(0)
}
