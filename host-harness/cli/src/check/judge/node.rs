//! Identity of the proxy, which Envoy needs as soon as it reads resources from files or from a control plane.

use crate::check::finding::Finding;
use crate::check::rules;
use crate::documents::{At, Document, Message, camel_case};
use crate::files::is_bootstrap;

/// Fields with the source of resources.
const SOURCES: [&str; 9] = [
    "ads_config",
    "cds_config",
    "config_source",
    "eds_config",
    "lds_config",
    "rds_config_source",
    "rtds_config",
    "scoped_rds_config_source",
    "sds_config",
];

/// Finding about a bootstrap without `node.id` or `node.cluster`, and with a source of resources. (Envoy 1.36 and 1.40
/// were observed.)
pub(super) fn of_document(document: &Document) -> Option<Finding> {
    let root = At::root(document);
    let node = root.field("node");
    let has = |field: &str| node.as_ref().is_some_and(|node| !node.text_of(field).is_empty());
    let missing: Vec<&str> = ["id", "cluster"].into_iter().filter(|field| !has(field)).collect();
    if missing.is_empty() || !is_bootstrap(document) {
        return None;
    }
    let source = source(&root)?;
    let help = format!(
        "add `node: {{id: …, cluster: …}}`, or start Envoy with --service-node and --service-cluster: without them, it \
         does not start, since {} reads resources",
        source.path
    );
    let missing = missing.iter().map(|field| format!("node.{field}")).collect::<Vec<_>>().join(" and ");
    Some(Finding::at_field(rules::NODE, &root, "node", missing, "nothing", help))
}

/// The first source of resources in a value.
fn source<'a>(at: &At<'a>) -> Option<At<'a>> {
    if Message::of(at).is_some_and(|message| message.name == "google.protobuf.Struct") {
        return None;
    }
    let is_source = |key: &str| SOURCES.iter().any(|name| *name == key || camel_case(name) == key);
    let own = at.entries().find(|(key, value)| is_source(key) && value.is_object()).map(|(_, value)| value);
    own.or_else(|| at.children().iter().find_map(source))
}
