//! Index of an inventory: look-ups whose time does not grow with the number of plugins and clusters.

use std::collections::{HashMap, HashSet};

use super::Inventory;
use super::chain::{ChainKind, Filter, disables};
use super::plugin::{Environment, Plugin, Role, Site, VmKey};

/// Places in an inventory, by what they are looked up by.
#[derive(Default)]
pub(super) struct Index<'a> {
    /// The last cluster of each name.
    clusters: HashMap<&'a str, usize>,
    /// Filters that a route enables.
    enabled: HashSet<&'a str>,
    /// Chains and positions of the bridges of each cluster.
    bridges: HashMap<usize, Vec<(usize, usize)>>,
    /// The first plugin with each environment of a VM.
    vms: HashMap<VmKey<'a>, Vec<usize>>,
}

impl<'a> Index<'a> {
    pub(super) fn of(found: &Inventory<'a>) -> Self {
        let clusters = found.clusters.iter().enumerate().map(|(index, cluster)| (cluster.name, index)).collect();
        let enabled = found.overrides.iter().filter(|(_, entry)| !disables(entry)).map(|(name, _)| *name).collect();
        let mut index = Self { clusters, enabled, ..Self::default() };
        let mut environments: HashSet<(&VmKey<'a>, &Environment<'a>)> = HashSet::new();
        for (number, plugin) in found.plugins.iter().enumerate() {
            if let (Some(Role::Bridge), Site::Chain { chain, position }) = (plugin.role(), plugin.site)
                && let Some(ChainKind::Cluster(cluster)) = found.chains.get(chain).map(|chain| &chain.kind)
            {
                index.bridges.entry(*cluster).or_default().push((chain, position));
            }
            if environments.insert((plugin.vm_key(), plugin.environment())) {
                index.vms.entry(plugin.vm_key().clone()).or_default().push(number);
            }
        }
        index
    }
}

impl<'a> Inventory<'a> {
    /// Index of the cluster with this name; of the last one if there are several.
    pub(super) fn place_of_cluster(&self, name: &str) -> Option<usize> {
        self.index.clusters.get(name).copied()
    }

    /// Whether a route enables a filter that is disabled otherwise.
    pub(crate) fn is_enabled_by_route(&self, filter: &Filter<'a>) -> bool {
        self.index.enabled.contains(filter.name)
    }

    /// The filters with a bridge among the upstream filters of a cluster, by its index.
    pub(crate) fn bridges(&self, cluster: usize) -> Vec<&Filter<'a>> {
        let places = self.index.bridges.get(&cluster).map(Vec::as_slice).unwrap_or_default();
        places.iter().filter_map(|(chain, position)| self.chains.get(*chain)?.filters.get(*position)).collect()
    }

    /// Plugins that may share a VM with a plugin and have another environment: one for each environment.
    pub(crate) fn others_of_vm(&self, plugin: &Plugin<'a>) -> impl Iterator<Item = &Plugin<'a>> {
        let of_vm = self.index.vms.get(plugin.vm_key()).map(Vec::as_slice).unwrap_or_default();
        let plugins = of_vm.iter().filter_map(|number| self.plugins.get(*number));
        plugins.filter(|other| other.environment() != plugin.environment())
    }
}
