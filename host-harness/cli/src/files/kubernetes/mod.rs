//! Kubernetes manifests: the parts of them from which a control plane makes plugins, clusters and filters.
//!
//! All manifests of an invocation are one mesh. Values keep their places in the manifests, so that nothing is rendered.
//!
//! | module | contents |
//! |---|---|
//! | `istio` | WasmPlugin, TrafficExtension and EnvoyFilter |
//! | `envoy_gateway` | EnvoyExtensionPolicy, EnvoyProxy and EnvoyPatchPolicy |
//! | `surroundings` | pods, Services and namespaces around them |
//! | `text` | texts in manifests: an Envoy file in a ConfigMap, a bootstrap in an EnvoyProxy |

mod envoy_gateway;
mod istio;
mod surroundings;
mod text;

pub(crate) use self::surroundings::{is_for_gateway, is_of_control_plane};
pub(super) use self::text::{Text, texts};

use super::library::is_bootstrap;
use crate::documents::{At, Document};

/// Manifests, and the parts that concern plugins.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mesh<'a> {
    /// All manifests; those of a `List` on their own.
    pub(crate) manifests: Vec<At<'a>>,
    pub(crate) parts: Vec<Part<'a>>,
}

/// Part of a manifest, or of a text in it.
#[derive(Debug, Clone)]
pub(crate) enum Part<'a> {
    /// A plugin that a control plane makes.
    Plugin(Declaration<'a>),
    /// An extension with a name, for filters with `config_discovery`.
    Extension(At<'a>),
    Cluster(At<'a>),
    Listener(At<'a>),
    /// An HTTP filter for chains that a control plane makes.
    Filter(At<'a>),
    /// Value of Envoy's configuration of another kind.
    Value(At<'a>),
}

/// Plugin without a `PluginConfig`: a control plane makes that.
#[derive(Debug, Clone)]
pub(crate) struct Declaration<'a> {
    pub(crate) kind: Kind,
    /// The object with the plugin's fields.
    pub(crate) at: At<'a>,
    /// The manifest around it.
    pub(crate) manifest: At<'a>,
}

/// Kind of a manifest that declares a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    WasmPlugin,
    TrafficExtension,
    EnvoyExtensionPolicy,
}

impl<'a> Mesh<'a> {
    /// The mesh of all manifests among some documents and of the texts in them, and the texts that are whole bootstraps.
    pub(super) fn of(
        documents: impl Iterator<Item = &'a Document>,
        texts: impl Iterator<Item = &'a Text>,
    ) -> (Self, Vec<&'a Document>) {
        let manifests: Vec<At<'a>> = documents.flat_map(|document| manifests(&At::root(document))).collect();
        let is_whole = |text: &&Document| is_bootstrap(text) && !text::is_merged(text);
        let (whole, texts): (Vec<_>, Vec<_>) = texts.flat_map(Text::documents).partition(is_whole);
        let texts = texts.into_iter().map(|text| Part::Value(At::root(text)));
        let parts = manifests.iter().flat_map(parts).chain(texts).collect();
        (Self { manifests, parts }, whole)
    }

    /// The same manifests, around a bootstrap in one of them.
    pub(super) fn around(&self) -> Self {
        Self { manifests: self.manifests.clone(), parts: Vec::new() }
    }

    pub(super) fn extensions(&self) -> impl Iterator<Item = &At<'a>> {
        self.parts.iter().filter_map(|part| if let Part::Extension(at) = part { Some(at) } else { None })
    }

    /// Whether the Istio agent fetches the code of a plugin: that of an extension configuration.
    pub(crate) fn is_fetched_by_agent(&self, plugin: &At<'a>) -> bool {
        self.extensions().any(|at| is_inside(plugin, at))
    }

    /// The manifest around a value.
    pub(crate) fn manifest_of(&self, value: &At<'a>) -> Option<&At<'a>> {
        self.manifests.iter().find(|manifest| is_inside(value, manifest))
    }
}

impl<'a> Declaration<'a> {
    pub(crate) fn is_istio(&self) -> bool {
        self.kind != Kind::EnvoyExtensionPolicy
    }

    /// Name of the field with the root id.
    pub(crate) fn root_field(&self) -> &'static str {
        if self.is_istio() { "pluginName" } else { "rootID" }
    }

    /// The root id.
    pub(crate) fn root_id(&self) -> &'a str {
        self.at.text_of(self.root_field())
    }

    /// Name of the field with the configuration.
    pub(crate) fn configuration_field(&self) -> &'static str {
        if self.is_istio() { "pluginConfig" } else { "config" }
    }

    /// The image or the URL of the module.
    pub(crate) fn url(&self) -> Option<At<'a>> {
        if self.is_istio() {
            return self.at.field("url");
        }
        self.at.fields(["code", "image", "url"]).or_else(|| self.at.fields(["code", "http", "url"]))
    }

    /// The checksum of the module, or of the image.
    pub(crate) fn sha256(&self) -> &'a str {
        let owners = [Some(self.at.clone()), self.at.fields(["code", "image"]), self.at.fields(["code", "http"])];
        owners.iter().flatten().map(|at| at.text_of("sha256")).find(|sum| !sum.is_empty()).unwrap_or_default()
    }

    /// The list of environment variables, or the object that lacks it with the list's name.
    pub(crate) fn variables(&self) -> (At<'a>, &'static str) {
        match (self.is_istio(), self.at.field("vm_config")) {
            (true, Some(vm)) => (vm, "env"),
            (true, None) => (self.at.clone(), "vmConfig"),
            (false, _) => (self.at.clone(), "env"),
        }
    }
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::WasmPlugin => "WasmPlugin",
            Self::TrafficExtension => "TrafficExtension",
            Self::EnvoyExtensionPolicy => "EnvoyExtensionPolicy",
        }
    }
}

/// Whether a document is a Kubernetes manifest.
pub(crate) fn is_manifest(root: &At<'_>) -> bool {
    ["apiVersion", "kind"].iter().all(|field| !root.text_of(field).is_empty())
}

/// The manifests of a document: itself, or the items of a `List`.
fn manifests<'a>(root: &At<'a>) -> Vec<At<'a>> {
    match (is_manifest(root), root.field("items")) {
        (false, _) => Vec::new(),
        (true, Some(items)) if root.text_of("kind").ends_with("List") => items.items(),
        (true, _) => vec![root.clone()],
    }
}

/// The parts of a manifest. Kinds that are not known have none.
fn parts<'a>(manifest: &At<'a>) -> Vec<Part<'a>> {
    match manifest.text_of("kind") {
        "WasmPlugin" => istio::plugin(manifest, Kind::WasmPlugin),
        "TrafficExtension" => istio::plugin(manifest, Kind::TrafficExtension),
        "EnvoyFilter" => istio::patches(manifest),
        "EnvoyExtensionPolicy" => envoy_gateway::plugins(manifest),
        "EnvoyPatchPolicy" => envoy_gateway::patches(manifest),
        "EnvoyProxy" => envoy_gateway::bootstrap(manifest),
        _ => Vec::new(),
    }
}

/// Whether a value is in another one of the same document.
fn is_inside(value: &At<'_>, around: &At<'_>) -> bool {
    let rest = value.path.strip_prefix(&around.path);
    std::ptr::eq(value.document, around.document)
        && rest.is_some_and(|rest| around.path.is_empty() || rest.is_empty() || rest.starts_with(['.', '[']))
}
