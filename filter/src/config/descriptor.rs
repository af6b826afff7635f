//! A limit's `descriptor`: the entries whose values make the bucket's key.

use super::reader::{Node, Object, refuse_duplicates};
use crate::descriptor::Entry;

const ENTRIES: &[&str] = &["request_header", "remote_address", "path", "method", "generic_key"];
const MAX_ENTRIES: usize = 16;
const MAX_VALUE: usize = 256;
/// More proxies than this between a client and Envoy are a mistake.
const MAX_TRUSTED_HOPS: u64 = 32;

pub(super) fn read(node: &Node<'_>) -> Option<Vec<Entry>> {
    let nodes = node.list(0..=MAX_ENTRIES)?;
    let entries: Vec<Option<Entry>> = nodes.iter().map(entry).collect();
    let sources: Vec<(Source<'_>, &Node<'_>)> =
        entries.iter().zip(&nodes).filter_map(|(entry, node)| Some((source(entry.as_ref()?), node))).collect();
    refuse_duplicates(&sources)?;
    entries.into_iter().collect()
}

/// The required field `name` of an object: a header's name, in lower case.
pub(super) fn header_name(fields: &Object<'_>) -> Option<String> {
    fields
        .required("name", "a header's name")
        .and_then(|node| node.text_such("a header's name", is_header_name))
        .map(str::to_ascii_lowercase)
}

fn entry(node: &Node<'_>) -> Option<Entry> {
    let (kind, node) = node.one_field(ENTRIES)?;
    match kind {
        "request_header" => {
            let fields = node.object(&["name", "default"])?;
            let name = header_name(&fields);
            let default = fields.optional("default", |node| node.text(0..=MAX_VALUE));
            Some(Entry::RequestHeader { name: name?, default: default?.map(str::to_owned) })
        }
        "remote_address" => {
            let fields = node.object(&["trusted_hops"])?;
            let trusted_hops = fields.or("trusted_hops", 0, |node| node.integer(0..=MAX_TRUSTED_HOPS))?;
            Some(Entry::RemoteAddress { trusted_hops: u8::try_from(trusted_hops).ok()? })
        }
        "path" => node.object(&[]).map(|_| Entry::Path),
        "method" => node.object(&[]).map(|_| Entry::Method),
        _ => {
            let fields = node.object(&["descriptor_value"])?;
            let value = fields.required("descriptor_value", "a literal value")?.text(1..=MAX_VALUE)?;
            Some(Entry::GenericKey { descriptor_value: value.to_owned() })
        }
    }
}

/// What an entry reads: twice the same in one descriptor adds nothing.
#[derive(PartialEq)]
enum Source<'a> {
    Header(&'a str),
    Address,
    Path,
    Method,
    Literal(&'a str),
}

fn source(entry: &Entry) -> Source<'_> {
    match entry {
        Entry::RequestHeader { name, .. } => Source::Header(name),
        Entry::RemoteAddress { .. } => Source::Address,
        Entry::Path => Source::Path,
        Entry::Method => Source::Method,
        Entry::GenericKey { descriptor_value } => Source::Literal(descriptor_value),
    }
}

/// A token (RFC 9110, §5.6.2) of up to 128 bytes; one colon before it names a pseudo-header.
fn is_header_name(text: &str) -> bool {
    let token = text.strip_prefix(':').unwrap_or(text);
    (1..=128).contains(&token.len())
        && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}
