//! Texts in Kubernetes manifests: an Envoy file in a ConfigMap, a bootstrap in an EnvoyProxy.

use crate::documents::{At, Source};

/// Words without which a text has neither a limiter nor a cluster.
const WORDS: [&str; 3] = ["limits", "load_assignment", "loadAssignment"];

/// The texts of a manifest that may have a limiter or a cluster. Other documents have none.
pub(super) fn texts(root: &At<'_>) -> Vec<Source> {
    let mut found = Vec::new();
    if !root.text_of("kind").is_empty() {
        collect(root, &mut found);
    }
    found
}

fn collect(at: &At<'_>, found: &mut Vec<Source>) {
    match at.text() {
        Some(text) if may_be_envoys(text) => found.push(Source::parse_inside(at)),
        _ => at.children().iter().for_each(|at| collect(at, found)),
    }
}

fn may_be_envoys(text: &str) -> bool {
    WORDS.iter().any(|word| text.contains(word)) && (text.contains('\n') || text.trim_start().starts_with('{'))
}
