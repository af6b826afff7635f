//! Search of documents for chains, plugins and clusters.

use std::collections::HashMap;

use super::chain::{Chain, ChainKind, Filter};
use super::cluster::Cluster;
use super::index::Index;
use super::plugin::{Plugin, Site};
use super::redis_proxy::RedisProxy;
use super::{Inventory, Resource, is_alone, is_read};
use crate::documents::{At, Document, Message};
use crate::files::kubernetes::{Mesh, Part};
use crate::files::library::{Group, Library, config_source_path, references};

const LISTENER: &str = "envoy.config.listener.v3.Listener";
const CLUSTER: &str = "envoy.config.cluster.v3.Cluster";
const EXTENSION: &str = "envoy.config.core.v3.TypedExtensionConfig";
const MANAGER: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "envoy.extensions.filters.http.router.v3.Router";
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const REDIS_PROXY: &str = "envoy.extensions.filters.network.redis_proxy.v3.RedisProxy";
const HTTP_WASM: &str = "envoy.extensions.filters.http.wasm.v3.Wasm";

/// Place of a control plane's extensions, where those of files have the file's name.
const OF_MESH: &str = "";

/// Searches the documents of a group.
pub(super) fn search<'a>(group: &Group<'a>, library: &'a Library) -> Inventory<'a> {
    let mut resources: Vec<Resource<'a>> = group.documents.iter().flat_map(|document| resources(document)).collect();
    let mut names = HashMap::new();
    for (number, resource) in resources.iter().enumerate() {
        names.entry((resource.at.document.origin.as_str(), resource.name)).or_insert(number);
    }
    for extension in group.mesh.iter().flat_map(Mesh::extensions) {
        let resource = Resource::new(extension.clone());
        names.insert((OF_MESH, resource.name), resources.len());
        resources.push(resource);
    }
    let found = Inventory {
        is_bootstrap: group.is_bootstrap,
        chains: Vec::new(),
        clusters: Vec::new(),
        redis_proxies: Vec::new(),
        plugins: Vec::new(),
        hollow: Vec::new(),
        alone: Vec::new(),
        listeners: 0,
        overrides: Vec::new(),
        missing: Vec::new(),
        mesh: group.mesh.clone(),
        is_partial: group.documents.iter().any(|document| is_partial(document, library)),
        index: Index::default(),
    };
    let mut search = Search { found, resources, names, library };
    for document in &group.documents {
        search.visit(&At::root(document), &Around::default());
    }
    group.mesh.iter().flat_map(|mesh| &mesh.parts).for_each(|part| search.part(part));
    search.unused_resources();
    let index = Index::of(&search.found);
    Inventory { index, ..search.found }
}

/// Whether a document expects listeners, clusters or routes from elsewhere.
fn is_partial(document: &Document, library: &Library) -> bool {
    let root = At::root(document);
    let unread = references(&root).iter().any(|reference| !is_read(library, reference));
    unread || root.field("dynamic_resources").is_some_and(|at| is_remote(&at))
}

/// Whether resources come from a control plane.
fn is_remote(dynamic: &At<'_>) -> bool {
    let is_file = |at: &At<'_>| config_source_path(at).is_some() || at.field("path").is_some();
    let sources = ["lds_config", "cds_config"].into_iter().filter_map(|name| dynamic.field(name));
    sources.into_iter().any(|at| !is_file(&at))
        || ["ads_config", "lds_resources_locator", "cds_resources_locator"]
            .iter()
            .any(|name| dynamic.field(name).is_some())
}

/// Named extensions of a document, for filters with `config_discovery`.
fn resources(document: &Document) -> Vec<Resource<'_>> {
    let root = At::root(document);
    let all = if root.field("resources").is_some() { root.each("resources") } else { vec![root] };
    let named = all.into_iter().filter_map(|at| Message::of(&at).filter(|message| message.name == EXTENSION));
    named.map(|message| Resource::new(message.body)).collect()
}

/// Messages around a value.
#[derive(Clone, Default)]
struct Around<'a> {
    listener: Option<At<'a>>,
    /// Index of the cluster.
    cluster: Option<usize>,
}

struct Search<'a> {
    found: Inventory<'a>,
    resources: Vec<Resource<'a>>,
    /// The first resource with each file and name.
    names: HashMap<(&'a str, &'a str), usize>,
    library: &'a Library,
}

impl<'a> Search<'a> {
    fn visit(&mut self, at: &At<'a>, around: &Around<'a>) {
        let Some(message) = Message::of(at) else { return self.untyped(at, around) };
        let body = &message.body;
        match message.name {
            MANAGER => self.manager(body, around),
            HTTP_OPTIONS => {
                let kind = around.cluster.map_or(ChainKind::Other, ChainKind::Cluster);
                self.chain(kind, body, "http_filters", around);
            }
            ROUTER => self.chain(ChainKind::Router, body, "upstream_http_filters", around),
            LISTENER => self.listener(body, around),
            CLUSTER => self.cluster(body, around),
            REDIS_PROXY => {
                let listener = around.listener.as_ref().map(|at| at.text_of("name")).unwrap_or_default();
                self.found.redis_proxies.push(RedisProxy { at: body.clone(), listener });
            }
            // Extensions are visited where a chain refers to them.
            EXTENSION => {}
            _ if is_wasm(&message) => self.plugin(&message, Site::Other),
            _ => self.visit_fields(body, around),
        }
    }

    /// A value without a type: of Envoy, or of a Kubernetes manifest, whose limiters and clusters have none.
    fn untyped(&mut self, at: &At<'a>, around: &Around<'a>) {
        let has = |name: &str| at.field(name).is_some();
        if (at.is_root() && is_alone(at)) || (has("limits") && has("redis")) {
            self.found.alone.push(at.clone());
        } else if has("load_assignment") && !at.text_of("name").is_empty() {
            self.cluster(at, around);
        } else {
            self.visit_fields(at, around);
        }
    }

    /// A part of Kubernetes manifests.
    fn part(&mut self, part: &Part<'a>) {
        let around = Around::default();
        match part {
            Part::Plugin(declaration) => self.found.plugins.push(Plugin::declared(declaration.clone())),
            // Extensions are visited where a chain refers to them.
            Part::Extension(_) => {}
            Part::Cluster(at) => self.cluster(at, &around),
            Part::Listener(at) => self.listener(at, &around),
            Part::Filter(at) => {
                let chain = self.found.chains.len();
                self.found.chains.push(Chain { kind: ChainKind::Inserted, filters: Vec::new() });
                self.filters(chain, std::slice::from_ref(at), &around);
            }
            Part::Value(at) => self.visit(at, &around),
        }
    }

    fn visit_fields(&mut self, at: &At<'a>, around: &Around<'a>) {
        if !at.is_object() {
            at.children().iter().for_each(|at| self.visit(at, around));
            return;
        }
        for (key, value) in at.entries() {
            match key {
                "static_resources" | "staticResources" => self.static_resources(&value, around),
                "typed_per_filter_config" | "typedPerFilterConfig" => self.overrides(&value, around),
                _ => self.visit(&value, around),
            }
        }
    }

    fn static_resources(&mut self, at: &At<'a>, around: &Around<'a>) {
        for (key, value) in at.entries() {
            match key {
                "listeners" => value.items().iter().for_each(|at| self.listener(at, around)),
                "clusters" => value.items().iter().for_each(|at| self.cluster(at, around)),
                _ => self.visit(&value, around),
            }
        }
    }

    fn listener(&mut self, at: &At<'a>, around: &Around<'a>) {
        self.found.listeners += 1;
        self.visit_fields(at, &Around { listener: Some(at.clone()), ..around.clone() });
    }

    fn cluster(&mut self, at: &At<'a>, around: &Around<'a>) {
        let index = self.found.clusters.len();
        self.found.clusters.push(Cluster::new(at.clone()));
        self.visit_fields(at, &Around { cluster: Some(index), ..around.clone() });
    }

    /// A connection manager: its chain, and those of its upgrades.
    fn manager(&mut self, manager: &At<'a>, around: &Around<'a>) {
        let kind = || ChainKind::Listener { manager: manager.clone(), listener: around.listener.clone() };
        self.chain(kind(), manager, "http_filters", around);
        let upgrades = manager.each("upgrade_configs");
        for upgrade in upgrades.iter().filter(|upgrade| upgrade.field("filters").is_some()) {
            self.chain(kind(), upgrade, "filters", around);
        }
    }

    /// Entries of `typed_per_filter_config`.
    fn overrides(&mut self, at: &At<'a>, around: &Around<'a>) {
        for (filter, entry) in at.entries() {
            self.found.overrides.push((filter, entry.clone()));
            let mut inner = Message::of(&entry);
            if let Some(config) = inner.as_ref().filter(|it| it.name == super::chain::FILTER_CONFIG) {
                inner = config.body.field("config").and_then(|at| Message::of(&at));
            }
            match inner {
                Some(message) if is_wasm(&message) => self.plugin(&message, Site::Route),
                _ => self.visit(&entry, around),
            }
        }
    }

    /// A chain in a field of `owner`, and whatever else the owner contains.
    fn chain(&mut self, kind: ChainKind<'a>, owner: &At<'a>, field: &str, around: &Around<'a>) {
        let chain = self.found.chains.len();
        self.found.chains.push(Chain { kind, filters: Vec::new() });
        self.filters(chain, &owner.each(field), around);
        let filters = owner.field(field).map(|at| at.path);
        let others = owner.entries().filter(|(_, at)| Some(&at.path) != filters.as_ref());
        for (key, at) in others.collect::<Vec<_>>() {
            match key {
                "typed_per_filter_config" | "typedPerFilterConfig" => self.overrides(&at, around),
                // Upgrades of a connection manager have chains of their own.
                "upgrade_configs" | "upgradeConfigs" => {}
                _ => self.visit(&at, around),
            }
        }
    }

    /// The filters of a chain, by its index.
    fn filters(&mut self, chain: usize, items: &[At<'a>], around: &Around<'a>) {
        for (position, at) in items.iter().enumerate() {
            let filter = self.filter(at);
            let wasm: Vec<Message<'a>> = filter.messages.iter().filter(|it| is_wasm(it)).cloned().collect();
            let routers: Vec<At<'a>> =
                filter.messages.iter().filter(|it| it.name == ROUTER).map(|it| it.body.clone()).collect();
            if let Some(chain) = self.found.chains.get_mut(chain) {
                chain.filters.push(filter);
            }
            for message in wasm {
                let is_filter = message.name == HTTP_WASM;
                self.plugin(&message, if is_filter { Site::Chain { chain, position } } else { Site::Other });
            }
            for router in routers.iter().filter(|router| router.field("upstream_http_filters").is_some()) {
                self.chain(ChainKind::Router, router, "upstream_http_filters", around);
            }
        }
    }

    /// A filter, with its configuration from wherever it comes.
    fn filter(&mut self, at: &At<'a>) -> Filter<'a> {
        let discovery = at.field("config_discovery");
        let source = discovery.as_ref().and_then(|at| at.field("config_source"));
        let resource = source.and_then(|source| self.resource(at, &source));
        let default = discovery.and_then(|at| at.field("default_config"));
        let config = at.field("typed_config").or_else(|| resource.clone()).or(default);
        Filter::new(at.clone(), config.as_ref(), resource)
    }

    /// The extension that a filter names, in the file of its `config_source`.
    fn resource(&mut self, filter: &At<'a>, source: &At<'a>) -> Option<At<'a>> {
        let name = filter.text_of("name");
        let (origin, is_read) = match config_source_path(source) {
            Some(reference) => {
                let file = self.library.file(reference.path)?;
                (file.source.origin.as_str(), file.error().is_none())
            }
            None => (OF_MESH, self.found.mesh.as_ref().is_some_and(|mesh| !mesh.parts.is_empty())),
        };
        let Some(resource) = self.names.get(&(origin, name)).and_then(|number| self.resources.get(*number)) else {
            if is_read {
                self.found.missing.push((filter.clone(), origin));
            }
            return None;
        };
        resource.is_used.set(true);
        resource.at.field("typed_config")
    }

    /// Extensions that no chain refers to.
    fn unused_resources(&mut self) {
        let unused: Vec<At<'a>> =
            self.resources.iter().filter(|it| !it.is_used.get()).map(|it| it.at.clone()).collect();
        for at in unused {
            match at.field("typed_config").and_then(|at| Message::of(&at)) {
                Some(message) if message.name == HTTP_WASM => self.plugin(&message, Site::Extension),
                _ => self.visit_fields(&at, &Around::default()),
            }
        }
    }

    fn plugin(&mut self, message: &Message<'a>, site: Site) {
        match message.body.field("config") {
            Some(config) => self.found.plugins.push(Plugin::new(message.clone(), config, site)),
            None => self.found.hollow.push(message.clone()),
        }
    }
}

/// Whether a message is a wasm plugin: an HTTP or network filter, an access log, a stats sink, or a service.
fn is_wasm(message: &Message<'_>) -> bool {
    message.name.starts_with("envoy.extensions.") && message.name.contains("wasm.v3.")
}
