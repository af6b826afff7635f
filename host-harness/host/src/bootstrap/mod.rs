//! Subset of Envoy's bootstrap that the harness supports.
//!
//! Parses Envoy's YAML into validated types. Fields that the harness does not support are refused by name and path,
//! never ignored, so that a scenario means the same on both hosts. All problems of a file are reported at once.

mod access_log;
mod cluster;
mod document;
mod listener;
mod native;
mod plugin;
mod protobuf;
mod routes;
mod text;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use crate::access_log::{AccessLog, Destination, Format, FormatError, JsonFormat, Operator, Template};
pub use crate::native::{
    Bypass, FilterStateValue, Jwks, JwksError, JwtAuthn, NativeFilter, Provider, Requirement, Rule, SetFilterState,
};
pub use cluster::{CircuitBreaker, Cluster, Discovery, Endpoint, Protocol};
pub use document::Problem;
pub use listener::{EscapedSlashes, HttpFilter, Listener, PathNormalization};
pub use plugin::{FailurePolicy, Plugin, VmConfig};
pub use routes::{Action, DirectResponse, PathMatch, Route, RouteTable, VirtualHost};

use document::{Node, Problems};
pub(crate) use text::yaml_error;

/// Configuration of a proxy, from a bootstrap file.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    /// Origin of the configuration, for error texts.
    pub origin: String,
    /// Address of the admin listener; port 0 requests a free port.
    pub admin: Option<SocketAddr>,
    /// Value of the `xds.node` property.
    pub node: NodeIdentity,
    /// Listeners, at least one.
    pub listeners: Vec<Listener>,
    /// Clusters; names are unique.
    pub clusters: Vec<Cluster>,
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
    #[error("{}: cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The text is not YAML.
    #[error("{origin}: not YAML: {reason}")]
    Syntax {
        /// Origin of the text.
        origin: String,
        /// Kind and position of the error, without any text of the document.
        reason: String,
    },
    /// The bootstrap has fields that the harness does not support, or that Envoy would refuse.
    #[error("{}", problems.iter().map(|problem| format!("{origin}: {problem}")).collect::<Vec<_>>().join("\n"))]
    Refused {
        /// Origin of the text.
        origin: String,
        /// Problems in the order of the file's structure; never empty.
        problems: Vec<Problem>,
    },
}

impl Bootstrap {
    /// Reads a bootstrap file.
    ///
    /// # Errors
    /// See [`BootstrapError`]; every problem of the file is reported at once, with its path.
    pub fn load(path: &Path) -> Result<Self, BootstrapError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| BootstrapError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Parses a bootstrap's text; `origin` names it in errors.
    ///
    /// # Errors
    /// See [`BootstrapError`].
    pub fn parse(text: &str, origin: &str) -> Result<Self, BootstrapError> {
        let document: serde_json::Value = serde_saphyr::from_str(text)
            .map_err(|error| BootstrapError::Syntax { origin: origin.to_owned(), reason: yaml_error(&error) })?;
        let problems = Problems::default();
        let parsed = bootstrap(&Node::root(&document, &problems), origin);
        let found = problems.into_found();
        match parsed {
            Some(bootstrap) if found.is_empty() => Ok(bootstrap),
            _ => Err(BootstrapError::Refused { origin: origin.to_owned(), problems: found }),
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

    /// Returns every wasm plugin of listeners and clusters.
    pub fn plugins(&self) -> impl Iterator<Item = &Plugin> {
        let downstream = self.listeners.iter().flat_map(Listener::plugins);
        downstream.chain(self.clusters.iter().flat_map(|cluster| &cluster.filters))
    }

    /// Returns the plugins of [`Bootstrap::plugins`], to change their modules or configurations.
    pub fn plugins_mut(&mut self) -> impl Iterator<Item = &mut Plugin> {
        let filters = self.listeners.iter_mut().flat_map(|listener| &mut listener.filters);
        let downstream = filters.filter_map(|filter| match filter {
            HttpFilter::Wasm(plugin) => Some(plugin.as_mut()),
            HttpFilter::Native(_) => None,
        });
        downstream.chain(self.clusters.iter_mut().flat_map(|cluster| &mut cluster.filters))
    }
}

fn bootstrap(root: &Node<'_>, origin: &str) -> Option<Bootstrap> {
    let mut fields = root.fields()?;
    let admin = fields.take("admin").and_then(|node| {
        let mut fields = node.fields()?;
        let address = fields.take("address").and_then(|node| document::socket_address(&node));
        fields.finish();
        address
    });
    let node = fields.take("node").and_then(|node| identity(&node)).unwrap_or_default();
    let resources = fields.require("static_resources");
    fields.finish();

    let mut resources = resources?.fields()?;
    let listeners: Vec<Option<Listener>> =
        resources.take("listeners").map(|node| node.each(listener::listener)).unwrap_or_default();
    let clusters: Vec<Option<Cluster>> =
        resources.take("clusters").map(|node| node.each(cluster::cluster)).unwrap_or_default();
    resources.finish();

    let none = listeners.is_empty();
    let listeners: Vec<Listener> = listeners.into_iter().flatten().collect();
    let clusters: Vec<Cluster> = clusters.into_iter().flatten().collect();
    let static_resources = root.child("static_resources");
    if none {
        static_resources.refuse("expected at least one listener");
    }
    for (index, cluster) in clusters.iter().enumerate() {
        if clusters.iter().take(index).any(|other| other.name == cluster.name) {
            static_resources.refuse(&format!("two clusters are named {}", text::named(&cluster.name)));
        }
    }
    for (listener, cluster) in listeners.iter().flat_map(|l| l.routes.clusters().map(move |c| (l, c))) {
        if !clusters.iter().any(|known| known.name == cluster) {
            static_resources.refuse(&format!(
                "listener `{}` routes to {}, which is not a cluster of this file",
                listener.name,
                text::named(cluster)
            ));
        }
    }
    Some(Bootstrap { origin: origin.to_owned(), admin, node, listeners, clusters })
}

fn identity(node: &Node<'_>) -> Option<NodeIdentity> {
    let mut fields = node.fields()?;
    let id = fields.take("id").and_then(|node| node.string()).unwrap_or_default();
    let cluster = fields.take("cluster").and_then(|node| node.string()).unwrap_or_default();
    let metadata = fields.take("metadata").map(|node| node.value().clone()).unwrap_or_default();
    fields.finish();
    Some(NodeIdentity { id, cluster, metadata })
}

#[cfg(test)]
mod tests;
