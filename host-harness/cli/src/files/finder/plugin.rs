//! Wasm plugin: a module, its VM, and its configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::documents::{At, Message};
use crate::files::kubernetes::Declaration;

const HTTP_WASM: &str = "envoy.extensions.filters.http.wasm.v3.Wasm";
/// Messages of wasm plugins: filters, access logs, stats sinks, and services.
const MESSAGES: [&str; 5] = [
    HTTP_WASM,
    "envoy.extensions.filters.network.wasm.v3.Wasm",
    "envoy.extensions.access_loggers.wasm.v3.WasmAccessLog",
    "envoy.extensions.stat_sinks.wasm.v3.Wasm",
    "envoy.extensions.wasm.v3.WasmService",
];

/// Wasm plugin, wherever it stands.
pub(crate) struct Plugin<'a> {
    /// The message around its `PluginConfig`.
    pub(crate) message: Message<'a>,
    /// Its `PluginConfig`.
    pub(crate) at: At<'a>,
    pub(crate) site: Site,
    pub(crate) root_id: &'a str,
    /// The manifest that the plugin is of, if it has no `PluginConfig`.
    pub(crate) declaration: Option<Declaration<'a>>,
    environment: Environment<'a>,
    vm_key: VmKey<'a>,
}

/// Plugins with equal keys may share a VM.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct VmKey<'a> {
    vm_id: &'a str,
    code: Code<'a>,
    /// Configuration of the VM, as JSON.
    configuration: Option<String>,
}

/// Place of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Site {
    /// HTTP filter of a chain, by index; also inside a wrapper around filters.
    Chain {
        /// Index of the chain.
        chain: usize,
        /// Index of the filter.
        position: usize,
    },
    /// HTTP filter in a file of extensions that no chain of the group refers to.
    Extension,
    /// Configuration of a route, a virtual host or a route configuration.
    Route,
    /// HTTP filter of chains that a control plane makes.
    Declared,
    /// Network filter, access log, stats sink, or bootstrap extension.
    Other,
}

/// Role of Weir.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Limiter,
    Bridge,
}

/// Code of a plugin's module.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Code<'a> {
    /// A file; `WEIR_WASM` replaces a file `weir_filter.wasm`.
    File(PathBuf),
    /// A URL with its checksum. An image has no scheme, with which Istio's kinds may write it, or without.
    Remote { uri: &'a str, sha256: &'a str },
    /// Bytes in the configuration, or a form that is not known here.
    Other,
}

/// Environment of a VM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Environment<'a> {
    /// Variables that are copied from the proxy's environment.
    pub(crate) copied: BTreeSet<&'a str>,
    /// Variables with values.
    pub(crate) values: BTreeMap<&'a str, &'a str>,
}

impl<'a> Plugin<'a> {
    pub(super) fn new(message: Message<'a>, at: At<'a>, site: Site) -> Self {
        let vm = at.field("vm_config");
        let (environment, vm_key) = (Environment::of(vm.as_ref()), VmKey::of(vm.as_ref()));
        Self { root_id: at.text_of("root_id"), message, at, site, declaration: None, environment, vm_key }
    }

    /// The plugin that a control plane makes of a manifest.
    pub(super) fn declared(declaration: Declaration<'a>) -> Self {
        let at = declaration.at.clone();
        let url = declaration.manifest.field("kind").unwrap_or_else(|| declaration.manifest.clone());
        Self {
            message: Message { name: HTTP_WASM, body: at.clone(), url },
            root_id: declaration.root_id(),
            site: Site::Declared,
            environment: Environment::declared(&declaration),
            vm_key: VmKey::declared(&declaration),
            declaration: Some(declaration),
            at,
        }
    }

    /// Whether Envoy has the message around the plugin.
    pub(crate) fn is_known(&self) -> bool {
        MESSAGES.contains(&self.message.name)
    }

    /// Role by the root id.
    pub(crate) fn role(&self) -> Option<Role> {
        match self.root_id {
            "limiter" => Some(Role::Limiter),
            "bridge" => Some(Role::Bridge),
            _ => None,
        }
    }

    /// The VM's configuration.
    pub(crate) fn vm(&self) -> Option<At<'a>> {
        self.at.field("vm_config")
    }

    pub(crate) fn vm_id(&self) -> &'a str {
        self.vm_key.vm_id
    }

    /// Place of the file's name.
    pub(crate) fn file_name(&self) -> Option<At<'a>> {
        self.vm()?.fields(["code", "local", "filename"])
    }

    /// Place of a module in base64.
    pub(crate) fn inline_code(&self) -> Option<At<'a>> {
        self.vm()?.fields(["code", "local", "inline_bytes"])
    }

    pub(crate) fn code(&self) -> &Code<'a> {
        &self.vm_key.code
    }

    pub(crate) fn environment(&self) -> &Environment<'a> {
        &self.environment
    }

    /// Key of the VM: same `vm_id`, same code, same configuration of the VM.
    pub(super) fn vm_key(&self) -> &VmKey<'a> {
        &self.vm_key
    }
}

impl<'a> VmKey<'a> {
    /// Istio gives no `vm_id`; Envoy Gateway makes it of the policy's name.
    fn declared(declaration: &Declaration<'a>) -> Self {
        let name = declaration.manifest.field("metadata").map(|at| at.text_of("name")).unwrap_or_default();
        Self {
            vm_id: if declaration.is_istio() { "" } else { name },
            code: Code::Remote {
                uri: declaration.url().and_then(|at| at.text()).map(without_scheme).unwrap_or_default(),
                sha256: declaration.sha256(),
            },
            configuration: None,
        }
    }

    fn of(vm: Option<&At<'a>>) -> Self {
        Self {
            vm_id: vm.map(|vm| vm.text_of("vm_id")).unwrap_or_default(),
            code: Code::of(vm),
            configuration: vm.and_then(|vm| Some(vm.field("configuration")?.node.to_json().to_string())),
        }
    }
}

impl<'a> Code<'a> {
    fn of(vm: Option<&At<'a>>) -> Self {
        let name = vm.and_then(|vm| vm.fields(["code", "local", "filename"])).and_then(|at| at.text());
        if let Some(name) = name {
            return Self::File(overridden(PathBuf::from(name)));
        }
        let remote = vm.and_then(|vm| vm.fields(["code", "remote"]));
        remote.map_or(Self::Other, |remote| Self::Remote {
            uri: remote.field("http_uri").map(|uri| without_scheme(uri.text_of("uri"))).unwrap_or_default(),
            sha256: remote.text_of("sha256"),
        })
    }
}

impl<'a> Environment<'a> {
    fn declared(declaration: &Declaration<'a>) -> Self {
        let mut found = Self::default();
        if !declaration.is_istio() {
            let keys = declaration.at.fields(["env", "hostKeys"]);
            found.copied = keys.iter().flat_map(At::items).filter_map(|at| at.text()).collect();
            return found;
        }
        let variables = declaration.at.field("vm_config").map(|vm| vm.each("env")).unwrap_or_default();
        for variable in &variables {
            let name = variable.text_of("name");
            match variable.text_of("value_from") {
                "HOST" => _ = found.copied.insert(name),
                _ => _ = found.values.insert(name, variable.text_of("value")),
            }
        }
        found
    }

    fn of(vm: Option<&At<'a>>) -> Self {
        let Some(variables) = vm.and_then(|vm| vm.field("environment_variables")) else { return Self::default() };
        let copied = variables.each("host_env_keys").iter().filter_map(At::text).collect();
        let values = variables.field("key_values").map(|at| at.entries().collect::<Vec<_>>()).unwrap_or_default();
        Self { copied, values: values.into_iter().filter_map(|(key, at)| Some((key, at.text()?))).collect() }
    }
}

impl Environment<'_> {
    /// Whether the list has a variable.
    pub(crate) fn lists(&self, name: &str) -> bool {
        self.copied.contains(name) || self.values.contains_key(name)
    }

    /// Value of a variable, as far as this process has it.
    pub(crate) fn value(&self, name: &str) -> Option<String> {
        let written = self.values.get(name).map(|value| (*value).to_owned());
        written.or_else(|| self.copied.contains(name).then(|| std::env::var(name).ok())?)
    }
}

/// An image without its scheme; other URLs are unchanged.
fn without_scheme(url: &str) -> &str {
    url.strip_prefix("oci://").unwrap_or(url)
}

/// Returns `WEIR_WASM` instead of the path of a `weir_filter.wasm`; other paths are unchanged.
fn overridden(path: PathBuf) -> PathBuf {
    match std::env::var_os("WEIR_WASM").filter(|value| !value.is_empty()) {
        Some(filter) if path.file_name().is_some_and(|name| name == "weir_filter.wasm") => PathBuf::from(filter),
        _ => path,
    }
}
