//! Subset of Envoy's bootstrap that the harness supports.
//!
//! Parses Envoy's YAML into validated types. A field that the embedded host does not support is refused by name and
//! path, so that a file means the same on both hosts; fields that do not change what is served are left out and
//! listed ([`Bootstrap::left_out`]). [`support`] is the table of both. All problems of a file are reported at once.

mod access_log;
pub(crate) mod chain_match;
mod cluster;
mod document;
mod header_mutation;
mod health_check;
mod http_manager;
mod listener;
mod native;
mod plugin;
mod protobuf;
mod route_match;
mod routes;
mod stats_config;
pub mod support;
pub(crate) mod tls;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use crate::access_log::{AccessLog, Destination, Format, FormatError, JsonFormat, Operator, Template};
pub use crate::native::{
    Bypass, FilterStateValue, Jwks, JwksError, JwtAuthn, NativeFilter, Provider, Requirement, Rule, SetFilterState,
};
pub use chain_match::ChainMatch;
pub use cluster::{CircuitBreaker, Cluster, Discovery, Endpoint, Protocol};
pub use document::Problem;
pub use header_mutation::HeaderMutations;
pub use health_check::HealthCheck;
pub use http_manager::{EscapedSlashes, HttpFilter, HttpManager, PathNormalization};
pub use listener::{FilterChain, Listener, TcpProxy, Terminal, TrafficDirection};
pub use plugin::{FailurePolicy, Plugin, Service, VmConfig};
pub use route_match::{Conditions, PathMatch};
pub use routes::{Action, DirectResponse, Redirect, Route, RouteTable, VirtualHost};
pub use tls::UpstreamTls;

pub use crate::stats_tags::StatsTags;

use document::{Node, Problems};

use crate::documents::{self, At, Format as Language, Position, Source, SourceError};
use crate::log_lines::printable;

/// Configuration of a proxy, from a bootstrap file.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    /// Origin of the configuration, for error texts.
    pub origin: String,
    /// Address of the admin listener; port 0 requests a free port.
    pub admin: Option<SocketAddr>,
    /// Value of the `xds.node` property.
    pub node: NodeIdentity,
    /// Tags of metrics.
    pub stats_tags: StatsTags,
    /// Listeners.
    pub listeners: Vec<Listener>,
    /// Clusters; names are unique.
    pub clusters: Vec<Cluster>,
    /// Wasm services: plugins without requests.
    pub services: Vec<Service>,
    /// Parts of the file that are not used; what is served does not depend on them. The reason is the field's name.
    pub left_out: Vec<Problem>,
}

/// Fields of Envoy's `node` that filters can read.
#[derive(Debug, Clone, Default)]
pub struct NodeIdentity {
    /// `node.id`.
    pub id: String,
    /// `node.cluster`.
    pub cluster: String,
    /// `node.metadata`, a JSON object or null.
    pub metadata: serde_json::Value,
}

/// Error of a bootstrap that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}", printable(&path.display().to_string()))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The text is not YAML, or has more than one document.
    #[error("{}:{}:{}: not YAML: {reason}", printable(origin), position.line, position.column)]
    Syntax {
        /// Origin of the text.
        origin: String,
        /// Place of the error.
        position: Position,
        /// Kind of the error, without any text of the document.
        reason: String,
    },
    /// The bootstrap has parts that the embedded host does not support, or that Envoy would refuse.
    #[error("{}", problems.iter().map(|problem| located(origin, problem)).collect::<Vec<_>>().join("\n"))]
    Refused {
        /// Origin of the text.
        origin: String,
        /// Problems in the order of the file's structure; never empty.
        problems: Vec<Problem>,
    },
}

impl Bootstrap {
    /// Reads a bootstrap: a file, a pipe, or standard input for `-`.
    ///
    /// # Errors
    /// See [`BootstrapError`]; every problem of the file is reported at once, with its path.
    pub fn load(path: &Path) -> Result<Self, BootstrapError> {
        Self::from_source(Source::load(path), path)
    }

    /// Parses a bootstrap's text; `origin` names it in errors.
    ///
    /// # Errors
    /// See [`BootstrapError`].
    pub fn parse(text: &str, origin: &str) -> Result<Self, BootstrapError> {
        Self::from_source(Source::parse(text, origin.to_owned()), Path::new(origin))
    }

    fn from_source(source: Source, path: &Path) -> Result<Self, BootstrapError> {
        // Envoy reads the first document of a file.
        let (document, others) = match (&source.error, source.documents.split_first()) {
            (None, Some(documents)) => documents,
            (error, _) => {
                let position = error.as_ref().map_or(Position::START, SourceError::position);
                let reason = error.as_ref().map_or_else(|| "no document".to_owned(), ToString::to_string);
                let (origin, reason) = (source.origin.clone(), format!("found {reason}"));
                return Err(match source.error {
                    Some(SourceError::Unreadable(source)) => {
                        BootstrapError::Unreadable { path: path.to_owned(), source }
                    }
                    _ => BootstrapError::Syntax { origin, position, reason },
                });
            }
        };
        let origin = source.origin.clone();
        let problems = Problems::default();
        let root = Node::root(At::root(document), &problems);
        if Language::of(&origin) == Language::Json {
            document.root.repeated().iter().for_each(|entry| root.refuse_repeated(&entry.key, entry.position));
        }
        if let Some(other) = others.iter().map(At::root).find(|other| !other.is_null()) {
            root.leave_out_document(&other);
        }
        let parsed = bootstrap(&root, &origin);
        let (found, left_out) = problems.into_parts();
        match parsed {
            Some(bootstrap) if found.is_empty() => Ok(Self { left_out, ..bootstrap }),
            _ => Err(BootstrapError::Refused { origin, problems: found }),
        }
    }

    /// Returns the listener with this name, for example to change its address.
    pub fn listener_mut(&mut self, name: &str) -> Option<&mut Listener> {
        self.listeners.iter_mut().find(|listener| listener.name == name)
    }

    /// Returns the cluster with this name, for example to change its endpoints.
    pub fn cluster_mut(&mut self, name: &str) -> Option<&mut Cluster> {
        self.clusters.iter_mut().find(|cluster| cluster.name == name)
    }

    /// Returns every wasm plugin of listeners and clusters, and every service.
    pub fn plugins(&self) -> impl Iterator<Item = &Plugin> {
        let downstream = self.listeners.iter().flat_map(Listener::plugins);
        let services = self.services.iter().map(|service| &service.plugin);
        downstream.chain(services).chain(self.clusters.iter().flat_map(|cluster| &cluster.filters))
    }

    /// Returns the plugins of [`Bootstrap::plugins`], to change their modules or configurations.
    pub fn plugins_mut(&mut self) -> impl Iterator<Item = &mut Plugin> {
        let filters =
            self.listeners.iter_mut().flat_map(Listener::managers_mut).flat_map(|manager| &mut manager.filters);
        let downstream = filters.filter_map(|filter| match filter {
            HttpFilter::Wasm(plugin) => Some(plugin.as_mut()),
            HttpFilter::Native(_) => None,
        });
        let services = self.services.iter_mut().map(|service| &mut service.plugin);
        downstream.chain(services).chain(self.clusters.iter_mut().flat_map(|cluster| &mut cluster.filters))
    }
}

fn bootstrap(root: &Node<'_>, origin: &str) -> Option<Bootstrap> {
    let mut fields = root.message(&support::BOOTSTRAP)?;
    let admin = fields.take("admin").and_then(|node| {
        let mut fields = node.message(&support::ADMIN)?;
        let address = fields.take("address").and_then(|node| document::socket_address(&node));
        fields.finish();
        address
    });
    let node = fields.take("node").and_then(|node| identity(&node)).unwrap_or_default();
    let stats_tags =
        fields.take("stats_config").map_or(Some(StatsTags::default()), |node| stats_config::stats_config(&node));
    let services = fields.take("bootstrap_extensions").map(|node| node.each(plugin::service)).unwrap_or_default();
    let resources = fields.take("static_resources");
    fields.finish();
    let services: Vec<Service> = services.into_iter().collect::<Option<_>>()?;
    let left_out = Vec::new();
    let origin = origin.to_owned();
    let Some(resources) = resources else {
        return Some(Bootstrap {
            origin,
            admin,
            node,
            stats_tags: stats_tags?,
            listeners: Vec::new(),
            clusters: Vec::new(),
            services,
            left_out,
        });
    };

    let mut resources = resources.message(&support::STATIC_RESOURCES)?;
    let listeners: Vec<Option<Listener>> =
        resources.take("listeners").map(|node| node.each(listener::listener)).unwrap_or_default();
    let clusters: Vec<Option<Cluster>> =
        resources.take("clusters").map(|node| node.each(cluster::cluster)).unwrap_or_default();
    resources.finish();

    let listeners: Vec<Listener> = listeners.into_iter().flatten().collect();
    let clusters: Vec<Cluster> = clusters.into_iter().flatten().collect();
    let static_resources = root.child("static_resources");
    for (index, cluster) in clusters.iter().enumerate() {
        if clusters.iter().take(index).any(|other| other.name == cluster.name) {
            static_resources.refuse(&format!("two clusters are named {}", documents::named(&cluster.name)));
        }
    }
    let is_unknown = |name: &&str| !clusters.iter().any(|known| known.name == *name);
    for listener in &listeners {
        let unknown = |cluster: &str| {
            let (listener, cluster) = (&listener.name, documents::named(cluster));
            format!("listener `{listener}` routes to {cluster}, which is not a cluster of this file")
        };
        let validated = listener.managers().filter(|manager| manager.routes.validates_clusters);
        let routed = validated.flat_map(|manager| manager.routes.clusters()).filter(is_unknown);
        routed.for_each(|cluster| static_resources.refuse(&unknown(cluster)));
        // Envoy closes the connections of such a proxy.
        listener.proxied().filter(is_unknown).for_each(|cluster| static_resources.unsupported(&unknown(cluster)));
    }
    Some(Bootstrap { origin, admin, node, stats_tags: stats_tags?, listeners, clusters, services, left_out })
}

/// Renders a problem with the place of its value; a problem of the whole document has only the file's name.
fn located(origin: &str, problem: &Problem) -> String {
    let Position { line, column } = problem.position;
    printable(&format!("{origin}:{line}:{column}: {problem}")).into_owned()
}

fn identity(node: &Node<'_>) -> Option<NodeIdentity> {
    let mut fields = node.message(&support::NODE)?;
    let id = fields.take("id").and_then(|node| node.string()).unwrap_or_default();
    let cluster = fields.take("cluster").and_then(|node| node.string()).unwrap_or_default();
    let metadata = fields.take("metadata").map(|node| node.json()).unwrap_or_default();
    fields.finish();
    Some(NodeIdentity { id, cluster, metadata })
}

#[cfg(test)]
mod tests;
