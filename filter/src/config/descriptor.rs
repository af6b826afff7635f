//! Descriptor of a limit: the entries whose values form the bucket's key.

use alloc::borrow::ToOwned;
use alloc::vec::Vec;

use super::reader::{Node, refuse_duplicates};
use super::source;
use crate::descriptor::{Entry, Source};

pub(super) const MAX_VALUE: usize = 256;
const ENTRIES: &[&str] = &[
    "request_header",
    "query_parameter",
    "cookie",
    "path",
    "method",
    "host",
    "scheme",
    "remote_address",
    "masked_remote_address",
    "route_name",
    "cluster_name",
    "dynamic_metadata",
    "filter_state",
    "request_body",
    "generic_key",
];
const MAX_ENTRIES: usize = 16;

pub(super) fn read(node: &Node<'_>) -> Option<Vec<Entry>> {
    let nodes = node.list(0..=MAX_ENTRIES)?;
    let entries: Vec<Option<Entry>> = nodes.iter().map(entry).collect();
    // A second entry with the same source adds nothing to the key.
    let sources: Vec<(&Source, &Node<'_>)> =
        entries.iter().zip(&nodes).filter_map(|(entry, node)| Some((&entry.as_ref()?.source, node))).collect();
    refuse_duplicates(&sources)?;
    entries.into_iter().collect()
}

fn entry(node: &Node<'_>) -> Option<Entry> {
    let (kind, node) = node.one_field(ENTRIES)?;
    let fields = node.object(match kind {
        "request_header" | "query_parameter" | "cookie" => &["name", "repeated", "default"],
        "path" => &["template", "exact", "prefix", "default"],
        "remote_address" => &["trusted_hops", "trusted_cidrs", "default"],
        "masked_remote_address" => {
            &["v4_prefix_mask_len", "v6_prefix_mask_len", "trusted_hops", "trusted_cidrs", "default"]
        }
        "dynamic_metadata" => &["metadata_key", "default"],
        "filter_state" => &["key", "default"],
        "request_body" => &["json_pointer", "default"],
        "generic_key" => &["descriptor_value"],
        _ => &["default"],
    })?;
    let source = source::read(kind, &fields);
    let default = fields.optional("default", |node| node.text(0..=MAX_VALUE));
    Some(Entry { source: source?, default: default?.map(str::to_owned) })
}
