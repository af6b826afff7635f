//! Finder: plugins, filter chains and clusters in the documents of a group, wherever they stand.
//!
//! The finder knows the few messages of Envoy that contain HTTP filters. Everything else is searched for typed
//! messages, whatever its fields mean, so that a plugin is found in messages that Weir has never heard of.
//!
//! | module | contents |
//! |---|---|
//! | `walk` | search of a document |
//! | `chain` | chains of HTTP filters, with the wrappers around filters and filters from files |
//! | `plugin` | a wasm plugin and its VM |
//! | `index` | look-ups in an inventory |
//! | `cluster` | a cluster: protocol, bridges, thresholds, endpoints, TLS |
//! | `redis_proxy` | the proxy of a Redis Cluster |

mod chain;
mod cluster;
mod index;
mod plugin;
mod redis_proxy;
mod walk;

use std::cell::Cell;

pub(crate) use self::chain::{Chain, ChainKind, Filter};
pub(crate) use self::cluster::{Cluster, Tls};
pub(crate) use self::plugin::{Code, Plugin, Role, Site};
pub(crate) use self::redis_proxy::RedisProxy;

use self::index::Index;
use super::kubernetes::Mesh;
use super::library::{Group, Library, Reference};
use super::written::{Unwritten, Written};
use crate::documents::{At, Message};

/// Everything in a group of documents that concerns wasm.
pub(crate) struct Inventory<'a> {
    pub(crate) is_bootstrap: bool,
    pub(crate) chains: Vec<Chain<'a>>,
    pub(crate) clusters: Vec<Cluster<'a>>,
    pub(crate) redis_proxies: Vec<RedisProxy<'a>>,
    pub(crate) plugins: Vec<Plugin<'a>>,
    /// Messages of plugins without a `PluginConfig`.
    pub(crate) hollow: Vec<Message<'a>>,
    /// Limiters' configurations without a plugin around them: alone in a file, or in a Kubernetes manifest.
    pub(crate) alone: Vec<At<'a>>,
    /// Number of listeners.
    pub(crate) listeners: usize,
    /// Entries of `typed_per_filter_config`, by the names of their filters.
    pub(crate) overrides: Vec<(&'a str, At<'a>)>,
    /// Filters that a file of extensions lacks, with the file; without a name for those of a control plane.
    pub(crate) missing: Vec<(At<'a>, &'a str)>,
    /// Whether listeners, clusters or routes come from somewhere else, for example from a control plane.
    pub(crate) is_partial: bool,
    /// The Kubernetes manifests that the group is of.
    pub(crate) mesh: Option<Mesh<'a>>,
    index: Index<'a>,
}

/// Limiter of a proxy.
pub(crate) struct Limiter<'a> {
    /// Name of its plugin.
    pub(crate) name: Option<&'a str>,
    pub(crate) written: Result<Written<'a>, Box<Unwritten<'a>>>,
}

/// Named extension in a file, for filters with `config_discovery`.
struct Resource<'a> {
    name: &'a str,
    at: At<'a>,
    is_used: Cell<bool>,
}

impl<'a> Resource<'a> {
    fn new(at: At<'a>) -> Self {
        Self { name: at.text_of("name"), at, is_used: Cell::new(false) }
    }
}

impl<'a> Inventory<'a> {
    /// Searches the documents of a group.
    pub(crate) fn of(group: &Group<'a>, library: &'a Library) -> Self {
        walk::search(group, library)
    }

    /// All limiters: those of plugins, then configurations without a plugin.
    pub(crate) fn limiters(&self) -> Vec<Limiter<'a>> {
        let plugins = self.plugins.iter().filter(|plugin| plugin.role() == Some(Role::Limiter));
        let of_plugins = plugins.map(|plugin| {
            let name = Some(plugin.at.text_of("name")).filter(|name| !name.is_empty());
            Limiter { name, written: Written::of(plugin) }
        });
        let alone = self.alone.iter().map(|at| Limiter { name: None, written: Ok(Written::alone(at.clone())) });
        of_plugins.chain(alone).collect()
    }

    /// The cluster with this name; the last one if there are several.
    pub(crate) fn cluster(&self, name: &str) -> Option<(usize, &Cluster<'a>)> {
        let index = self.place_of_cluster(name)?;
        Some((index, self.clusters.get(index)?))
    }

    /// Whether all listeners, clusters and routes of the proxy are in the files.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_bootstrap && !self.is_partial
    }

    /// The chain of a plugin, and the position of its filter.
    pub(crate) fn chain_of(&self, plugin: &Plugin<'a>) -> Option<(&Chain<'a>, usize)> {
        match plugin.site {
            Site::Chain { chain, position } => Some((self.chains.get(chain)?, position)),
            _ => None,
        }
    }
}

/// Whether a document is a limiter's configuration without the files of Envoy around it.
pub(crate) fn is_alone(root: &At<'_>) -> bool {
    let has = |names: &[&str]| names.iter().any(|name| root.field(name).is_some());
    has(&["redis", "limits"]) && !has(&["@type", "name", "resources", "static_resources", "tests"])
}

/// A reference to a file that could be read.
fn is_read(library: &Library, reference: &Reference<'_>) -> bool {
    library.file(reference.path).is_some_and(|file| file.error().is_none())
}
