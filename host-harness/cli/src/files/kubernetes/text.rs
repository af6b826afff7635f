//! Texts in Kubernetes manifests: an Envoy file in a ConfigMap, a bootstrap in an EnvoyProxy.

use crate::documents::{At, Document, Source};
use crate::files::is_alone;

/// Words without which a text has neither a limiter nor a cluster.
const WORDS: [&str; 3] = ["limits", "load_assignment", "loadAssignment"];
/// Path of the bootstrap in an EnvoyProxy.
const MERGED: &str = "spec.bootstrap.value";

/// Text in a manifest that may be a file of Envoy.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) source: Source,
    /// Whether it has to be a file of Envoy: the bootstrap of an EnvoyProxy, or a file with clusters in a ConfigMap.
    is_envoys: bool,
    /// Whether it has typed messages of Envoy, or is the bootstrap of an EnvoyProxy.
    has_messages: bool,
}

/// The texts of a manifest that may have a limiter or a cluster. Other documents have none.
pub(in crate::files) fn texts(root: &At<'_>) -> Vec<Text> {
    let mut found = Vec::new();
    if !root.text_of("kind").is_empty() {
        collect(root, &mut found);
    }
    found
}

impl Text {
    /// The documents that a proxy or a limiter may read. Kubernetes has other fields with the name `limits`, and so have
    /// rules and dashboards of metrics.
    pub(super) fn documents(&self) -> impl Iterator<Item = &Document> {
        let documents = if self.source.error.is_none() { self.source.documents.as_slice() } else { &[] };
        documents.iter().filter(|document| {
            let root = At::root(document);
            let is_configuration = ["redis", "limits"].iter().all(|name| root.field(name).is_some());
            if is_alone(&root) { is_configuration } else { self.has_messages }
        })
    }

    /// Whether the text cannot be read, and has to be.
    pub(in crate::files) fn is_refused(&self) -> bool {
        self.is_envoys && self.source.error.is_some()
    }
}

/// Whether a text is a bootstrap that a control plane merges into its own: that of an EnvoyProxy.
pub(super) fn is_merged(text: &Document) -> bool {
    text.base.ends_with(MERGED)
}

fn collect(at: &At<'_>, found: &mut Vec<Text>) {
    match at.text() {
        Some(text) if may_be_envoys(text) => {
            let is_file = [".yaml", ".yml", ".json"].iter().any(|end| at.path.ends_with(end));
            let has_clusters = text.contains(WORDS[1]) || text.contains(WORDS[2]);
            let is_merged = at.path.ends_with(MERGED);
            let (is_envoys, has_messages) = (is_merged || is_file && has_clusters, is_merged || text.contains("@type"));
            found.push(Text { source: Source::parse_inside(at), is_envoys, has_messages });
        }
        _ => at.children().iter().for_each(|at| collect(at, found)),
    }
}

fn may_be_envoys(text: &str) -> bool {
    WORDS.iter().any(|word| text.contains(word)) && (text.contains('\n') || text.trim_start().starts_with('{'))
}
