//! Kubernetes manifests: plugins that control planes make, and what is around them.
//!
//! Control planes fill in what a manifest cannot say, and take what it says in ways of their own.
//!
//! | module | findings about |
//! |---|---|
//! | `plugin` | plugins that control planes make: root id, strategy, version, bodies |
//! | `cluster` | the cluster of Redis, in the same proxy or in none |
//! | `claims` | claims of tokens: when and where they are |
//! | `stats` | metrics of Istio's proxies |

mod claims;
mod cluster;
mod plugin;
mod stats;

pub(super) use self::claims::claims;
pub(super) use self::cluster::{are_in_one_proxy, cluster_of, no_cluster, scope};
pub(super) use self::plugin::{of_plugin, unseen_body, unversioned};

use super::{constraints, enums, fields, keys};
use crate::check::finding::Finding;
use crate::check::rules;
use crate::documents::{At, Document, quoted};
use crate::files::{Group, Inventory, Mesh, Part, is_bootstrap};

const EXTENSION: &str = "envoy.config.core.v3.TypedExtensionConfig";
const CLUSTER: &str = "envoy.config.cluster.v3.Cluster";
const LISTENER: &str = "envoy.config.listener.v3.Listener";
const FILTER: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter";

/// Findings about the messages of Envoy in manifests, and about the metrics of Istio's proxies.
pub(super) fn findings(group: &Group<'_>, inventory: &Inventory<'_>) -> Vec<Finding> {
    let Some(mesh) = &inventory.mesh else { return Vec::new() };
    let mut found = Vec::new();
    for document in &group.documents {
        keys::findings(&At::root(document), None, &mut found);
    }
    for part in &mesh.parts {
        match part {
            Part::Plugin(declaration) => {
                let configuration = declaration.at.field(declaration.configuration_field());
                configuration.iter().for_each(|at| keys::findings(at, Some(&at.path), &mut found));
            }
            Part::Extension(at) => message(at, EXTENSION, &mut found),
            Part::Cluster(at) => message(at, CLUSTER, &mut found),
            Part::Listener(at) => message(at, LISTENER, &mut found),
            Part::Filter(at) => message(at, FILTER, &mut found),
            Part::Value(at) if at.is_root() => text(at.document, &mut found),
            // A value that is merged into another one is no whole message.
            Part::Value(_) => {}
        }
    }
    let agents: Vec<&str> = inventory
        .plugins
        .iter()
        .filter(|plugin| mesh.is_fetched_by_agent(&plugin.at))
        .map(|plugin| plugin.at.path.as_str())
        .collect();
    found.retain(|finding| {
        // The agent replaces the remote code.
        !(constraints::is_constraint(finding)
            && finding.path.contains(".code.remote.")
            && agents.iter().any(|path| finding.path.starts_with(path)))
    });
    found.extend(stats::findings(mesh, inventory));
    found
}

fn message(at: &At<'_>, name: &str, found: &mut Vec<Finding>) {
    keys::findings(at, None, found);
    found.extend(constraints::of_value(at, Some(name)));
    found.extend(enums::of_value(at));
}

/// Findings about a text: the bootstrap of an EnvoyProxy, or resources.
fn text(document: &Document, found: &mut Vec<Finding>) {
    keys::findings(&At::root(document), None, found);
    found.extend(constraints::of_document(document));
    if is_bootstrap(document) {
        found.extend(fields::of_document(document));
        found.extend(enums::of_document(document));
    }
}

/// Whether a finding is about a variable of this process that Envoy reads in a pod, where it is not known to be missing.
pub(super) fn is_about_this_process(finding: &Finding, mesh: &Mesh<'_>) -> bool {
    let is_envoys = finding.path.ends_with(".environment_variable") || finding.path.ends_with(".environmentVariable");
    let name = finding.expected.split('"').nth(1).unwrap_or_default();
    finding.rule == rules::UNSET_VARIABLE && is_envoys && !mesh.lacks_variable(name)
}

/// Manifests without a limiter: of other kinds, or with the rest of Weir.
pub(super) fn no_limiter(mesh: &Mesh<'_>, bridges: usize) -> Option<Finding> {
    let first = mesh.manifests.first()?;
    if bridges > 0 {
        let help = "give the file of the limiter as well: a WasmPlugin, a TrafficExtension, an EnvoyExtensionPolicy, or a \
                    filter in an EnvoyFilter or an EnvoyPatchPolicy";
        return Some(Finding::at(
            rules::NO_LIMITER,
            first,
            "a limiter",
            "only the way to Redis in these manifests",
            help,
        ));
    }
    let mut kinds: Vec<&str> = mesh.manifests.iter().map(|manifest| manifest.text_of("kind")).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let count = mesh.manifests.len();
    let noun = if count == 1 { "manifest" } else { "manifests" };
    let found = format!(
        "{count} {noun} without any ({})",
        kinds.iter().map(|kind| quoted(kind)).collect::<Vec<_>>().join(", ")
    );
    let help = "nothing was checked; Weir is in a WasmPlugin, TrafficExtension, EnvoyFilter, EnvoyExtensionPolicy, \
                EnvoyProxy, EnvoyPatchPolicy or ConfigMap";
    Some(Finding::at(rules::MANIFEST, first, "a manifest with Weir", found, help))
}
