//! Order of filters: limits that read what another filter writes, and where this filter stands.
//!
//! A filter behind Weir writes too late: the limit finds nothing, is skipped or takes its default, and admits all
//! requests.

use serde_json::Value;

use super::configuration::Findings as _;
use super::limiter::Limiter;
use super::writers::{Writes, writes};
use crate::check::finding::Finding;
use crate::check::rules;
use crate::documents::quoted;
use crate::files::{ChainKind, Filter, Inventory};

/// Value of a request that filters write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    /// Dynamic metadata of a namespace, and the first key of the path in it.
    Metadata { namespace: String, key: String },
    /// Filter state under a key.
    FilterState(String),
    /// Request header, in lower case.
    Header(String),
}

pub(super) fn findings(limiter: &Limiter<'_, '_>) -> Vec<Finding> {
    let Some((chain, position)) = limiter.inventory.chain_of(limiter.plugin) else { return Vec::new() };
    // Upstream filters come after all filters of the listener.
    if !matches!(chain.kind, ChainKind::Listener { .. }) {
        return Vec::new();
    }
    let (before, after) = chain.filters.split_at(position);
    let after = after.get(1..).unwrap_or_default();
    let items = items(limiter);
    let mut found = Vec::new();
    for (index, (item, path)) in items.iter().enumerate() {
        // One finding per item is enough.
        if !items.iter().take(index).any(|(earlier, _)| earlier == item) {
            found.extend(judge(limiter, item, path, before, after));
        }
    }
    found
}

fn judge(
    limiter: &Limiter<'_, '_>,
    item: &Item,
    path: &str,
    before: &[Filter<'_>],
    after: &[Filter<'_>],
) -> Option<Finding> {
    let writes = |filter: &Filter<'_>| runs(filter, limiter.inventory).min(writes(filter, item));
    let all = |filters: &[Filter<'_>]| filters.iter().map(writes).max().unwrap_or(Writes::Never);
    let (earlier, later) = (all(before), all(after));
    if earlier == Writes::Always {
        return None;
    }
    if later == Writes::Always {
        let filter = after.iter().find(|filter| writes(filter) == Writes::Always)?;
        let found = format!("the filter {} behind it", quoted(filter.name));
        let help = "move that filter before Weir: as it is, the limit never sees the value, and admits all requests or \
                    puts them in one bucket";
        let expected = format!("a filter before Weir that writes {item}");
        return Some(limiter.written.at_path(path, |at| Finding::at(rules::ORDER, at, expected, found, help)));
    }
    // Unknown filters may write anything.
    let has_own_writer = matches!(item, Item::Metadata { namespace, .. } if super::writers::has_own_filter(namespace));
    (has_own_writer && earlier == Writes::Never && later == Writes::Never).then(|| {
        let help = "add or enable the filter before Weir, or correct the key: as it is, the limit never sees the value \
                    (jwt_authn writes claims below the key in payload_in_metadata, and without it none)";
        let expected = format!("a filter before Weir that writes {item}");
        limiter.written.at_path(path, |at| Finding::at(rules::ORDER, at, expected, "none in this chain", help))
    })
}

/// Whether a filter runs, and so can write: a disabled one only if a route enables it. Routes may come from elsewhere.
fn runs(filter: &Filter<'_>, inventory: &Inventory<'_>) -> Writes {
    if !filter.is_disabled || inventory.is_enabled_by_route(filter) {
        Writes::Always
    } else if inventory.is_whole() {
        Writes::Never
    } else {
        Writes::Perhaps
    }
}

impl std::fmt::Display for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Metadata { namespace, key } => {
                write!(f, "dynamic metadata of {} with the key {}", quoted(namespace), quoted(key))
            }
            Self::FilterState(key) => write!(f, "the filter state {}", quoted(key)),
            Self::Header(name) => write!(f, "the header {}", quoted(name)),
        }
    }
}

/// All items that a limiter reads, with the paths of their names.
pub(super) fn items(limiter: &Limiter<'_, '_>) -> Vec<(Item, String)> {
    let configuration = serde_json::from_slice(&limiter.written.bytes).unwrap_or_default();
    let mut items = Vec::new();
    collect(&configuration, "", &mut items);
    items
}

/// Adds all items that a value of a configuration reads.
fn collect(value: &Value, path: &str, items: &mut Vec<(Item, String)>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                items.extend(item(key, value).map(|(item, name)| (item, format!("{inner}.{name}"))));
                collect(value, &inner, items);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                collect(value, &format!("{path}[{index}]"), items);
            }
        }
        _ => {}
    }
}

/// The item that a source or a predicate reads, with the field that names it.
fn item(kind: &str, fields: &Value) -> Option<(Item, &'static str)> {
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    match kind {
        "metadata_key" => {
            let first = fields.pointer("/path/0/key").and_then(Value::as_str).unwrap_or_default();
            let (namespace, key) = (text("key")?.to_owned(), first.to_owned());
            Some((Item::Metadata { namespace, key }, "key"))
        }
        "filter_state" => Some((Item::FilterState(text("key")?.to_owned()), "key")),
        "request_header" | "header" => Some((Item::Header(text("name")?.to_ascii_lowercase()), "name")),
        _ => None,
    }
}
