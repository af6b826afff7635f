//! Judge: all findings about a library of files.
//!
//! | module | findings about |
//! |---|---|
//! | `files` | files and documents |
//! | `keys` | merge keys, and keys that are there more than once |
//! | `chains` | chains of filters with wasm plugins |
//! | `ends` | ends of chains: the router or the codec |
//! | `discovery` | filters whose message comes from elsewhere |
//! | `sources` | paths of files |
//! | `plugins` | any wasm plugin: types of its fields, its module, its root id |
//! | `fields` | fields that no bootstrap and no message of a plugin has |
//! | `catalog` | unknown fields of all other messages, numbers and booleans |
//! | `types` | types of messages that Envoy does not have |
//! | `enums` | values that enums of Envoy do not have |
//! | `constraints` | fields that exclude each other, required fields, bounds, durations |
//! | `schema` | the rules of Envoy's messages |
//! | `durations` | texts that are durations |
//! | `node` | the identity of a proxy that reads resources |
//! | `weir` | plugins of Weir: where they stand, failure policy |
//! | `limiter` | a limiter's configuration, as the filter reads it |
//! | `redis` | the cluster of Redis: protocol, bridge, thresholds, endpoints, TLS |
//! | `redis_cluster` | a Redis Cluster: `redis_proxy` and its settings, the topology |
//! | `kubernetes` | Kubernetes manifests: plugins that control planes make, and what is around them |
//! | `environment` | environment variables of VMs |
//! | `hops` | `trusted_hops` on listeners whose downstream is an address of `x-forwarded-for` |
//! | `paths` | limits by path on listeners that do not normalize paths |
//! | `order` | limits that read what filters write, and where these filters stand |
//! | `writers` | what the filters of Envoy write |

mod capabilities;
mod catalog;
mod chains;
mod configuration;
mod constraints;
mod discovery;
mod durations;
mod ends;
mod enums;
mod environment;
mod fields;
mod files;
mod hops;
mod keys;
mod kubernetes;
mod limiter;
mod marks;
mod node;
mod order;
mod paths;
mod plugins;
mod redis;
mod redis_cluster;
mod schema;
mod sources;
mod types;
mod weir;
mod writers;

use std::collections::{BTreeSet, HashMap, HashSet};

pub(crate) use self::types::is_envoys;
use super::finding::Finding;
use super::rules;
use crate::documents::At;
use crate::files::{Group, Inventory, Library, Role};

/// Numbers of a group of documents, for the last line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Summary {
    /// Names of the group's files.
    pub(super) files: Vec<String>,
    pub(super) listeners: usize,
    pub(super) clusters: usize,
    pub(super) limiters: usize,
    pub(super) bridges: usize,
    /// Wasm plugins that are not Weir's.
    pub(super) others: usize,
}

/// All findings about the files, in the order of files and lines, and the numbers of each group.
pub(super) fn judge(library: &Library) -> (Vec<Finding>, Vec<Summary>) {
    let mut found = files::findings(library);
    let modules = plugins::Modules::default();
    let broken: HashSet<String> = found.iter().filter(|it| it.is_error()).map(|it| it.file.clone()).collect();
    let mut summaries = Vec::new();
    for group in library.groups() {
        let inventory = Inventory::of(&group, library);
        let mut of_group = Vec::new();
        summaries.push(self::group(&group, &inventory, &modules, &broken, &mut of_group));
        found.append(&mut of_group);
    }
    drop_repeated(&mut found);
    let order: HashMap<&str, usize> =
        library.files().iter().enumerate().map(|(index, file)| (file.source.origin.as_str(), index)).collect();
    found.sort_by_key(|finding| (order.get(finding.file.as_str()).copied(), finding.position));
    // An extension that two chains use is judged twice.
    let mut unique: Vec<Finding> = Vec::new();
    for finding in found {
        let is_here = |other: &&Finding| other.position == finding.position && other.file == finding.file;
        if !unique.iter().rev().take_while(is_here).any(|other| *other == finding) {
            unique.push(finding);
        }
    }
    (unique, summaries)
}

/// Drops findings about rules of all messages at places with another error, which says more.
fn drop_repeated(found: &mut Vec<Finding>) {
    let is_error = |finding: &&Finding| finding.is_error() && !constraints::is_constraint(finding);
    let place = |finding: &Finding| (finding.file.clone(), finding.path.clone());
    let known: HashSet<(String, String)> = found.iter().filter(is_error).map(place).collect();
    found.retain(|finding| !constraints::is_constraint(finding) || !known.contains(&place(finding)));
    let is_configuration = |finding: &&Finding| finding.rule == rules::CONFIGURATION;
    let of_limiters: HashSet<(String, String)> = found.iter().filter(is_configuration).map(place).collect();
    found.retain(|finding| finding.rule != rules::TYPE || !of_limiters.contains(&place(finding)));
    // Those of plugins come before those of the catalog, and say more.
    let is_general = |finding: &Finding| [rules::UNKNOWN_FIELD, rules::TYPE].contains(&finding.rule);
    let mut places = BTreeSet::new();
    let mut is_new = |it: &Finding| places.insert((it.file.clone(), it.position, it.rule.name));
    found.retain(|finding| !is_general(finding) || is_new(finding));
}

/// Findings about a group, and its numbers. `broken` are the files with errors already found.
fn group(
    group: &Group<'_>,
    inventory: &Inventory<'_>,
    modules: &plugins::Modules,
    broken: &HashSet<String>,
    found: &mut Vec<Finding>,
) -> Summary {
    found.extend(files::missing_resources(inventory));
    found.extend(files::duplicate_clusters(inventory));
    found.extend(chains::findings(inventory));
    found.extend(discovery::findings(inventory));
    found.extend(group.documents.iter().flat_map(|document| fields::of_document(document)));
    found.extend(group.documents.iter().flat_map(|document| enums::of_document(document)));
    found.extend(group.documents.iter().flat_map(|document| constraints::of_document(document)));
    found.extend(group.documents.iter().filter_map(|document| node::of_document(document)));
    found.extend(kubernetes::findings(group, inventory));
    if let Some(mesh) = &inventory.mesh {
        found.retain(|finding| !kubernetes::is_about_this_process(finding, mesh));
    }
    found.extend(inventory.clusters.iter().flat_map(enums::of_cluster));
    found.extend(inventory.hollow.iter().flat_map(fields::of_hollow));
    let (mut limiters, mut bridges, mut others) = (0, 0, 0);
    for plugin in &inventory.plugins {
        let is_weir = modules.is_weir(plugin);
        found.extend(match &plugin.declaration {
            Some(declaration) => kubernetes::of_plugin(plugin, declaration, is_weir),
            None => plugins::findings(plugin, modules, inventory),
        });
        match plugin.role().filter(|_| is_weir) {
            Some(Role::Limiter) => limiters += 1,
            Some(Role::Bridge) => bridges += 1,
            None => others += 1,
        }
        if is_weir && plugin.declaration.is_none() {
            found.extend(weir::findings(plugin, inventory));
        }
        if is_weir && plugin.role() == Some(Role::Limiter) {
            found.extend(limiter::findings(plugin, inventory));
        }
    }
    for configuration in &inventory.alone {
        limiters += 1;
        found.extend(limiter::alone(configuration.clone()));
    }
    found.extend(group.documents.iter().flat_map(|document| catalog::of_document(document)));
    let has_error =
        || found.iter().any(Finding::is_error) || group.origins.iter().any(|origin| broken.contains(*origin));
    if let (0, Some(mesh)) = (limiters, inventory.mesh.as_ref().filter(|_| !has_error())) {
        found.extend(kubernetes::no_limiter(mesh, bridges));
    } else if let (0, Some(document)) = (limiters, group.documents.first())
        && !has_error()
    {
        let help = "nothing of Weir was checked; a limiter is a wasm plugin with `root_id: limiter`";
        let root = At::root(document);
        found.push(Finding::at(
            rules::NO_LIMITER,
            &root,
            "a limiter",
            "none in this file and the files it refers to",
            help,
        ));
    }
    Summary {
        files: group.origins.iter().map(|origin| (*origin).to_owned()).collect(),
        listeners: inventory.listeners,
        clusters: inventory.clusters.len(),
        limiters,
        bridges,
        others,
    }
}
