//! Limits that match paths on listeners that do not normalize paths.
//!
//! `//login`, `/./login` and `/login%2F` are the same page for most upstreams, but different paths for a predicate.

use weir_filter::config::Limit;
use weir_filter::descriptor::{Predicate, Source};
use weir_host::bootstrap::{EscapedSlashes, Listener};

use super::Limiter;
use super::warning::Warning;

pub(super) fn warnings(limiter: &Limiter<'_>) -> Vec<Warning> {
    let Some(listener) = limiter.listener else { return Vec::new() };
    let missing = missing(listener);
    let config = &limiter.config;
    let exempt = config.exempt.iter().any(predicate_reads_path).then(|| "exempt".to_owned());
    let limits = config.limits.iter().enumerate().filter(|(_, limit)| limit_reads_path(limit));
    let places: Vec<String> = exempt.into_iter().chain(limits.map(|(index, _)| format!("limits[{index}]"))).collect();
    let has_any = !missing.is_empty() && !places.is_empty();
    has_any.then_some(Warning::Paths { places, listener: listener.name.clone(), missing }).into_iter().collect()
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

/// The normalization settings that a listener lacks, with their recommended values.
fn missing(listener: &Listener) -> Vec<&'static str> {
    let settings = listener.path_normalization;
    [
        (settings.normalize, "normalize_path: true"),
        (settings.merge_slashes, "merge_slashes: true"),
        (settings.escaped_slashes != EscapedSlashes::Keep, "path_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT"),
    ]
    .into_iter()
    .filter_map(|(is_set, setting)| (!is_set).then_some(setting))
    .collect()
}
