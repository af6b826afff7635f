//! Limits that match paths on listeners that do not normalize paths.
//!
//! `//login`, `/./login` and `/login%2F` are the same page for most upstreams, but different paths for a predicate.

use weir_filter::descriptor::{Predicate, Source};
use weir_filter::limit::Limit;

use super::limiter::Limiter;
use crate::check::finding::Finding;
use crate::check::rules;
use crate::documents::At;
use crate::files::ChainKind;

/// Values of `path_with_escaped_slashes_action`, in the order of their numbers. The first two keep escaped slashes.
const ESCAPED_SLASHES: [&str; 5] = [
    "IMPLEMENTATION_SPECIFIC_DEFAULT",
    "KEEP_UNCHANGED",
    "REJECT_REQUEST",
    "UNESCAPE_AND_REDIRECT",
    "UNESCAPE_AND_FORWARD",
];

pub(super) fn findings(limiter: &Limiter<'_, '_>) -> Vec<Finding> {
    let Some((chain, _)) = limiter.inventory.chain_of(limiter.plugin) else { return Vec::new() };
    let ChainKind::Listener { manager, .. } = &chain.kind else { return Vec::new() };
    let missing = missing(manager);
    let config = &limiter.config;
    let exempt = config.exempt.iter().any(predicate_reads_path).then(|| "exempt".to_owned());
    let limits = config.limits.iter().enumerate().filter(|(_, limit)| limit_reads_path(limit));
    let places: Vec<String> = exempt.into_iter().chain(limits.map(|(index, _)| format!("limits[{index}]"))).collect();
    if missing.is_empty() || places.is_empty() {
        return Vec::new();
    }
    let help = format!(
        "add the settings to the connection manager: the path is read by {}, and a client may write one path in \
         several ways, such as //login, /./login and /login%2F",
        places.join(", ")
    );
    vec![Finding::at(rules::PATHS, manager, missing.join(", "), "the connection manager without", help)]
}

fn limit_reads_path(limit: &Limit) -> bool {
    limit.when.iter().chain(&limit.exempt).any(predicate_reads_path)
        || limit.descriptor.entries().iter().any(|entry| source_reads_path(&entry.source))
}

fn predicate_reads_path(predicate: &Predicate) -> bool {
    match predicate {
        Predicate::Matches { source, .. } | Predicate::Present(source) => source_reads_path(source),
        Predicate::All(all) | Predicate::Any(all) => all.iter().any(predicate_reads_path),
        Predicate::Not(other) => predicate_reads_path(other),
        Predicate::Method(_) | Predicate::RemoteAddress { .. } => false,
    }
}

fn source_reads_path(source: &Source) -> bool {
    match source {
        Source::Path(_) => true,
        Source::RequestHeader { name, .. } => name == ":path",
        _ => false,
    }
}

/// The normalization settings that a connection manager lacks, with their recommended values.
fn missing(manager: &At<'_>) -> Vec<&'static str> {
    // A header validator has rules for paths of its own.
    if manager.field("typed_header_validation_config").is_some() {
        return Vec::new();
    }
    let action = manager.field("path_with_escaped_slashes_action").and_then(|at| at.one_of(&ESCAPED_SLASHES));
    [
        (manager.is_set("normalize_path"), "normalize_path: true"),
        (manager.is_set("merge_slashes"), "merge_slashes: true"),
        (action.is_some_and(|action| action > 1), "path_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT"),
    ]
    .into_iter()
    .filter_map(|(is_set, setting)| (!is_set).then_some(setting))
    .collect()
}
