//! Numbers of algorithms: integers, or the part of a request that carries the number; and numbers with decimals.

use alloc::boxed::Box;
use core::ops::RangeInclusive;

use super::reader::Node;
use super::report::Read;
use super::{descriptor, source};
use crate::descriptor::RequestNumber;
use crate::limit::Number;

/// Sources that no client chooses; a header must be set by a filter before this one.
const SOURCES: &[&str] = &["dynamic_metadata", "filter_state", "request_header"];
/// Greatest number of parts that a double counts exactly.
const MAX_PARTS: f64 = 9_007_199_254_740_992.0;
/// Error of a double with decimals, in parts, below which it is a whole number of them.
const MAX_ERROR: f64 = 0.01;
const ONLY_TRUSTED: &str =
    "one of dynamic_metadata, filter_state, request_header: a client would choose a limit from any other source";

/// Reads a number with decimals as a whole number of parts, of which one has `parts`. `expected` describes it.
#[inline(never)]
pub(super) fn scaled(node: &Node<'_>, parts: f64, range: RangeInclusive<u64>, expected: &'static str) -> Read<u64> {
    let exact = node.decimal().map(|number| number * parts).filter(|exact| (0.0..=MAX_PARTS).contains(exact));
    let whole = exact.and_then(|exact| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the bounds above")]
        let whole = (exact + 0.5) as u64;
        #[expect(clippy::cast_precision_loss, reason = "less than 2⁵³")]
        let error = exact - whole as f64;
        (error.abs() < MAX_ERROR).then_some(whole)
    });
    whole.filter(|whole| range.contains(whole)).ok_or_else(|| node.expected(expected))
}

/// Reads a number within `range`. Numbers of requests may be 0 in any case, which blocks.
#[inline(never)]
pub(super) fn read(node: &Node<'_>, range: RangeInclusive<u64>) -> Read<Number> {
    if !node.is_object() {
        return node.integer(range).map(Number::Constant);
    }
    if descriptor::ENTRIES.iter().any(|kind| !SOURCES.contains(kind) && node.has(kind)) {
        return Err(node.expected(ONLY_TRUSTED));
    }
    let (kind, node) = node.one_field(SOURCES)?;
    let fields = node.object(match kind {
        "dynamic_metadata" => &["metadata_key", "default", "max"],
        "filter_state" => &["key", "default", "max"],
        _ => &["name", "repeated", "default", "max"],
    })?;
    let source = source::read(kind, fields);
    let most = *range.end();
    let max = fields.required("max", "the greatest number that counts").and_then(|node| node.integer(1..=most));
    let most = *max.as_ref().unwrap_or(&most);
    let default = fields.required("default", "the number of requests without one");
    let default = default.and_then(|node| node.integer(*range.start()..=most));
    Ok(Number::FromRequest(Box::new(RequestNumber { source: source?, default: default?, max: max? })))
}
