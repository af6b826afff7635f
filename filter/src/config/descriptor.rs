//! Descriptor of a limit: the entries whose values form the bucket's key.

use alloc::borrow::ToOwned;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::reader::{Node, refuse_duplicates};
use super::report::Read;
use super::request_body;
use super::source::{self, MAX_VALUE};
use crate::descriptor::{EmptyValue, Entry, HashKey, Source, ValueForm};

pub(super) const ENTRIES: &[&str] = &[
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

const HASH: &str = "false, or a hash_key of 16 to 64 bytes beside redis";

/// Key of the hashes of values, if the configuration has one.
type Key<'a> = Read<Option<&'a Arc<HashKey>>>;

pub(super) fn read(node: &Node<'_>, hash_key: Key<'_>) -> Read<Vec<Entry>> {
    let nodes = node.list(0..=MAX_ENTRIES)?;
    let entries: Vec<Read<Entry>> = nodes.iter().map(|node| entry(node, hash_key)).collect();
    // A second entry with the same source adds nothing to the key.
    let sources: Vec<(&Source, &Node<'_>)> =
        entries.iter().zip(nodes).filter_map(|(entry, node)| Some((&entry.as_ref().ok()?.source, node))).collect();
    refuse_duplicates(&sources)?;
    entries.into_iter().collect()
}

fn entry(node: &Node<'_>, hash_key: Key<'_>) -> Read<Entry> {
    let (kind, node) = node.one_field(ENTRIES)?;
    let fields = node.object(match kind {
        "request_header" | "query_parameter" | "cookie" => {
            &["name", "repeated", "default", "empty", "lowercase", "hash"]
        }
        "path" => &["template", "exact", "prefix", "default", "lowercase", "hash"],
        "remote_address" => &["trusted_hops", "trusted_cidrs", "default", "hash"],
        "masked_remote_address" => {
            &["v4_prefix_mask_len", "v6_prefix_mask_len", "trusted_hops", "trusted_cidrs", "default"]
        }
        "host" => &["default", "empty", "hash"],
        "dynamic_metadata" => &["metadata_key", "default", "lowercase", "hash"],
        "filter_state" => &["key", "default", "lowercase", "hash"],
        "request_body" => &["json_pointer", "default", "empty", "lowercase", "hash", "on_invalid"],
        "generic_key" => &["descriptor_value"],
        _ => &["default"],
    })?;
    let source = source::read(kind, fields);
    let default = fields.optional("default", |node| node.text(0..=MAX_VALUE));
    let empty = fields.or("empty", EmptyValue::Value, |node| {
        node.one_of(&[("value", EmptyValue::Value), ("missing", EmptyValue::Missing)])
    });
    let lowercase = fields.or("lowercase", false, Node::boolean);
    let hash_key = fields.or("hash", None, |node| match (node.boolean()?, hash_key?) {
        (true, None) => Err(node.expected(HASH)),
        (is_hashed, key) => Ok(key.filter(|_| is_hashed)),
    });
    let on_unreadable = fields.optional("on_invalid", request_body::on_unreadable);
    Ok(Entry {
        source: source?,
        default: default?.map(str::to_owned),
        empty: empty?,
        form: ValueForm { lowercase: lowercase?, hash_key: hash_key?.cloned() },
        on_unreadable: on_unreadable?,
    })
}
