//! Merge keys: `<<` with a map, or a list of maps, whose fields a map takes over.

use super::node::{Entry, Node, Value};

const MERGE: &str = "<<";

/// Replaces the merge keys of a map by the fields that the map does not have itself. Of several maps, the first one
/// with a field gives it. A `<<` with another value stays.
pub(super) fn resolve(node: &mut Node) {
    let Value::Map(entries) = &mut node.value else { return };
    if !entries.iter().any(|entry| entry.key == MERGE) {
        return;
    }
    let (merged, mut own): (Vec<Entry>, Vec<Entry>) =
        std::mem::take(entries).into_iter().partition(|entry| entry.key == MERGE && is_merged(&entry.value));
    for entry in merged.into_iter().flat_map(|entry| fields(entry.value)) {
        if !own.iter().any(|known| known.key == entry.key) {
            own.push(entry);
        }
    }
    *entries = own;
}

fn is_merged(value: &Node) -> bool {
    match &value.value {
        Value::Map(_) => true,
        Value::List(items) => items.iter().all(|item| matches!(item.value, Value::Map(_))),
        _ => false,
    }
}

fn fields(value: Node) -> Vec<Entry> {
    match value.value {
        Value::Map(entries) => entries,
        Value::List(items) => items.into_iter().flat_map(fields).collect(),
        _ => Vec::new(),
    }
}
