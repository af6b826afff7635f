//! Numbers of algorithms: integers, or the part of a request that carries the number.

use alloc::boxed::Box;
use core::ops::RangeInclusive;

use super::error::Expected;
use super::reader::Node;
use super::report::Read;
use super::{descriptor, source};
use crate::descriptor::RequestNumber;
use crate::limit::Number;

/// Sources that no client chooses; a header must be set by a filter before this one.
const SOURCES: &[&str] = &["dynamic_metadata", "filter_state", "request_header"];
const ONLY_TRUSTED: &str =
    "one of dynamic_metadata, filter_state, request_header: a client would choose a limit from any other source";

/// Reads a number within `range`. Numbers of requests may be 0 in any case, which blocks.
#[inline(never)]
pub(super) fn read(node: &Node<'_>, range: RangeInclusive<u64>) -> Read<Number> {
    if !node.is_object() {
        return node.integer(range).map(Number::Constant);
    }
    if descriptor::ENTRIES.iter().any(|kind| !SOURCES.contains(kind) && node.has(kind)) {
        return Err(node.unexpected(Expected::The(ONLY_TRUSTED)));
    }
    let (kind, node) = node.one_field(SOURCES)?;
    let fields = node.object(match kind {
        "dynamic_metadata" => &["metadata_key", "default", "max"],
        "filter_state" => &["key", "default", "max"],
        _ => &["name", "repeated", "default", "max"],
    })?;
    let source = source::read(kind, &fields);
    let most = *range.end();
    let max = fields.required("max", "the greatest number that counts").and_then(|node| node.integer(1..=most));
    let most = *max.as_ref().unwrap_or(&most);
    let default = fields.required("default", "the number of requests without one");
    let default = default.and_then(|node| node.integer(*range.start()..=most));
    Ok(Number::FromRequest(Box::new(RequestNumber { source: source?, default: default?, max: max? })))
}
