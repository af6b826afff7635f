//! Parts of a request's `:path`.

use super::attributes::Attributes;
use crate::pairs;

/// Parts of `:path`.
pub(super) struct Parts<'a> {
    /// Path, up to the query string or fragment.
    pub(super) path: &'a [u8],
    /// Query string, without its question mark. Empty if there is none.
    pub(super) query: &'a [u8],
}

/// Splits the `:path` of a request.
pub(super) fn parts(request: &dyn Attributes) -> Option<Parts<'_>> {
    let whole = pairs::values(request.headers(), b":path").next()?;
    let (path_end, query_end) = request.memo().path_ends(|| {
        let path_end = whole.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(whole.len());
        let behind = whole.get(path_end..).unwrap_or_default();
        let query = behind.iter().position(|byte| *byte == b'#').unwrap_or(behind.len());
        (path_end, path_end.saturating_add(query))
    });
    let query = whole.get(path_end.saturating_add(1)..query_end).unwrap_or_default();
    Some(Parts { path: whole.get(..path_end)?, query })
}
