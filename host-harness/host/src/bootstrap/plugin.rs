//! Parser of wasm plugins: module, VM and configuration.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::document::{Fields, Node};
use super::protobuf::encode_struct;
use super::support;
use crate::documents::Position;

/// Envoy's default of `reload_config.backoff.base_interval`.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);

/// Wasm plugin: a wasm module used as a filter.
#[derive(Debug, Clone)]
pub struct Plugin {
    /// Path of the plugin in the file: `static_resources.listeners[0]….typed_config.config`.
    pub path: String,
    /// Place of the plugin in the file.
    pub position: Position,
    /// Place of the module's path in the file.
    pub module_position: Position,
    /// Value of the `plugin_name` property; empty if `config.name` is missing.
    pub name: String,
    /// Role of the plugin in the module.
    pub root_id: String,
    /// VM of the plugin; plugins with equal VM configurations share a VM in each worker.
    pub vm: VmConfig,
    /// Bytes read during `proxy_on_configure`: a serialised `Struct`, the text of a `StringValue`, or empty.
    pub configuration: Vec<u8>,
    /// Treatment of requests after a trap.
    pub failure_policy: FailurePolicy,
    /// Minimum time between two starts of the plugin with [`FailurePolicy::FailReload`]; Envoy's default is 1 s.
    pub reload_interval: Duration,
    /// Whether a filter that pauses on headers still sees the body; otherwise the body is held with the headers.
    pub sees_body_past_headers: bool,
}

/// Configuration of a VM; equal configurations share one VM in each worker.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VmConfig {
    /// Id of the VM, also the scope of shared data and queues.
    pub vm_id: String,
    /// Path of the module; relative to the current directory.
    pub module: PathBuf,
    /// Bytes read during `proxy_on_vm_start`.
    pub configuration: Vec<u8>,
    /// Names of variables copied from the harness's environment; unset variables are left out.
    pub host_environment: Vec<String>,
    /// Variables with values from the file.
    pub environment: Vec<(String, String)>,
}

/// Treatment of requests when the plugin's VM has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailurePolicy {
    /// Requests get a 503 response.
    FailClosed,
    /// Requests continue without the filter.
    FailOpen {
        /// Whether requests in which the filter failed continue too: `true` for the older `fail_open: true`. With
        /// `failure_policy: FAIL_OPEN` these requests get a 503 response, as observed in Envoy 1.40.
        current: bool,
    },
    /// The VM is reloaded, at most once per [`Plugin::reload_interval`] and up to a half of it more; until then requests
    /// get a 503 response.
    FailReload,
}

impl VmConfig {
    /// Returns the VM's current environment; variables from the file override copied variables.
    #[must_use]
    pub fn resolved_environment(&self) -> Vec<(String, String)> {
        let given = |name: &str| self.environment.iter().any(|(key, _)| key == name);
        let copied = self.host_environment.iter().filter(|name| !given(name));
        let copied = copied.filter_map(|name| std::env::var(name).ok().map(|value| (name.clone(), value)));
        copied.chain(self.environment.iter().cloned()).collect()
    }
}

/// Wasm service: a plugin that starts with the host and has no requests (`WasmService`).
#[derive(Debug, Clone)]
pub struct Service {
    /// The plugin.
    pub plugin: Plugin,
    /// Whether it runs once, instead of once for each worker.
    pub is_singleton: bool,
}

/// Parses a bootstrap extension, of which only wasm services are supported.
pub(super) fn service(node: &Node<'_>) -> Option<Service> {
    let mut fields = node.message(&support::EXTENSION)?;
    let _name = fields.require("name").and_then(|node| node.string());
    let service = fields.require("typed_config").and_then(|node| node.typed(&support::WASM_SERVICE));
    fields.finish();
    let mut fields = service?;
    let plugin = fields.require("config").and_then(|node| plugin(&node));
    let is_singleton = fields.take("singleton").map_or(Some(false), |node| node.boolean());
    fields.finish();
    Some(Service { plugin: plugin?, is_singleton: is_singleton? })
}

/// Parses the message of a wasm filter.
pub(super) fn wasm_filter(mut fields: Fields<'_>) -> Option<Plugin> {
    let config = fields.require("config");
    fields.finish();
    plugin(&config?)
}

fn plugin(config: &Node<'_>) -> Option<Plugin> {
    let mut fields = config.message(&support::PLUGIN)?;
    let name = fields.take("name").map_or(Some(String::new()), |node| node.string());
    let root_id = fields.take("root_id").map_or(Some(String::new()), |node| node.string());
    let vm = fields.require("vm_config").and_then(|node| vm_config(&node));
    let configuration = fields.take("configuration").map_or(Some(Vec::new()), |node| message_bytes(&node));
    let policy = fields.take("failure_policy").map(|node| {
        node.one_of(&[
            ("UNSPECIFIED", None),
            ("FAIL_RELOAD", Some(FailurePolicy::FailReload)),
            ("FAIL_CLOSED", Some(FailurePolicy::FailClosed)),
            ("FAIL_OPEN", Some(FailurePolicy::FailOpen { current: false })),
        ])
    });
    let sees_body_past_headers =
        fields.take("allow_on_headers_stop_iteration").map_or(Some(false), |node| node.boolean());
    let fail_open = fields.take("fail_open").map_or(Some(false), |node| node.boolean())?;
    let reload_interval = fields.take("reload_config").map_or(Some(RELOAD_INTERVAL), |node| reload_interval(&node));
    fields.finish();
    if fail_open && policy.flatten().flatten().is_some() {
        config.refuse("expected one of `fail_open` and `failure_policy`, found both");
        return None;
    }
    let by_flag = if fail_open { FailurePolicy::FailOpen { current: true } } else { FailurePolicy::FailClosed };
    let failure_policy = match policy {
        None => by_flag,
        Some(policy) => policy?.unwrap_or(by_flag),
    };
    let (vm, module_position) = vm?;
    Some(Plugin {
        path: config.path().to_owned(),
        position: config.position(),
        module_position,
        name: name?,
        root_id: root_id?,
        vm,
        configuration: configuration?,
        failure_policy,
        reload_interval: reload_interval?,
        sees_body_past_headers: sees_body_past_headers?,
    })
}

/// Parses a `ReloadConfig`. Envoy uses the base interval of its backoff only.
fn reload_interval(node: &Node<'_>) -> Option<Duration> {
    let mut fields = node.message(&support::RELOAD)?;
    let backoff = fields.take("backoff");
    fields.finish();
    let Some(backoff) = backoff else { return Some(RELOAD_INTERVAL) };
    let mut fields = backoff.message(&support::BACKOFF)?;
    let base = fields.require("base_interval").and_then(|node| node.duration());
    let max = fields.take("max_interval").map(|node| node.duration());
    fields.finish();
    (max != Some(None)).then_some(base)?
}

/// Parses a VM's configuration; returns it with the place of its module's path.
fn vm_config(node: &Node<'_>) -> Option<(VmConfig, Position)> {
    let mut fields = node.message(&support::VM)?;
    let vm_id = fields.take("vm_id").map_or(Some(String::new()), |node| node.string());
    // The harness always uses wasmtime; a module cannot tell the engine.
    let runtime = fields.take("runtime").map(|node| {
        node.named(&[
            ("envoy.wasm.runtime.v8", ()),
            ("envoy.wasm.runtime.wasmtime", ()),
            ("envoy.wasm.runtime.wamr", ()),
        ])
    });
    let module = fields.require("code").and_then(|node| code(&node));
    let configuration = fields.take("configuration").map_or(Some(Vec::new()), |node| message_bytes(&node));
    // Precompiled sections are an optimisation of other engines: the harness ignores them.
    let precompiled = fields.take("allow_precompiled").map(|node| node.boolean());
    let environment =
        fields.take("environment_variables").map_or(Some((Vec::new(), Vec::new())), |node| environment(&node));
    fields.finish();
    (runtime != Some(None) && precompiled != Some(None)).then_some(())?;
    let (host_environment, environment) = environment?;
    let (module, position) = module?;
    let config = VmConfig { vm_id: vm_id?, module, configuration: configuration?, host_environment, environment };
    Some((config, position))
}

fn code(node: &Node<'_>) -> Option<(PathBuf, Position)> {
    let mut fields = node.message(&support::ASYNC_DATA_SOURCE)?;
    let local = fields.require("local");
    fields.finish();
    let mut fields = local?.message(&support::LOCAL_CODE)?;
    let filename = fields.require("filename").and_then(|node| Some((node.string()?, node.position())));
    fields.finish();
    let (filename, position) = filename?;
    Some((overridden(PathBuf::from(filename)), position))
}

/// Returns `WEIR_WASM` instead of the path of a `weir_filter.wasm`; other paths are unchanged.
fn overridden(path: PathBuf) -> PathBuf {
    match std::env::var_os("WEIR_WASM") {
        Some(filter) if path.file_name().is_some_and(|name| name == "weir_filter.wasm") => PathBuf::from(filter),
        _ => path,
    }
}

type Environment = (Vec<String>, Vec<(String, String)>);

fn environment(node: &Node<'_>) -> Option<Environment> {
    let mut fields = node.message(&support::ENVIRONMENT)?;
    let keys = fields.take("host_env_keys").map(|node| node.secret().each(Node::string)).unwrap_or_default();
    let values = fields.take("key_values").map(Node::secret).map(|node| {
        let variables = node.entries()?.into_iter().map(|(key, node)| Some((key.to_owned(), node.string()?)));
        variables.collect::<Option<Vec<_>>>()
    });
    fields.finish();
    Some((keys.into_iter().collect::<Option<Vec<_>>>()?, values.unwrap_or_else(|| Some(Vec::new()))?))
}

/// Returns the bytes that Envoy passes to a module for an `Any`.
fn message_bytes(node: &Node<'_>) -> Option<Vec<u8>> {
    let mut fields = node.fields()?;
    let message = fields.message_type()?;
    // The limiter's configuration can have a password.
    let value = fields.require("value").map(Node::secret);
    let owner = fields.owner().clone();
    fields.finish();
    match message.as_str() {
        "google.protobuf.Struct" => {
            let value = value?;
            match value.json() {
                Value::Object(object) => Some(encode_struct(&object)),
                _ => value.expected("an object"),
            }
        }
        "google.protobuf.StringValue" => value?.string().map(String::into_bytes),
        other => {
            owner.child("@type").unsupported(&format!(
                "`{other}` is not honoured by the harness; expected `google.protobuf.Struct` or `google.protobuf.StringValue`"
            ));
            None
        }
    }
}
