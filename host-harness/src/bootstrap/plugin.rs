//! A wasm plugin: which module, in which VM, with which configuration.

use std::path::PathBuf;

use serde_json::Value;

use super::document::{Fields, Node};
use super::protobuf::encode_struct;

pub(super) const WASM: &str = "envoy.extensions.filters.http.wasm.v3.Wasm";

/// One use of a wasm module as a filter.
#[derive(Debug, Clone)]
pub struct Plugin {
    /// Where its filter stands in the file: `static_resources.listeners[0]….typed_config.config`.
    pub path: String,
    /// The `plugin_name` property; empty where `config.name` is missing.
    pub name: String,
    /// Chooses the role within the module.
    pub root_id: String,
    /// The VM it runs in; plugins with an equal one share it (per worker).
    pub vm: VmConfig,
    /// What `proxy_on_configure` reads: a serialised `Struct`, the text of a `StringValue`, or nothing.
    pub configuration: Vec<u8>,
    /// What happens to requests after a trap.
    pub failure_policy: FailurePolicy,
    /// Whether a filter that pauses on headers is shown the body nonetheless; else it is held with them.
    pub sees_body_past_headers: bool,
}

/// What makes a VM; equal ones are one VM in each worker.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VmConfig {
    /// Scopes shared data and queues as well.
    pub vm_id: String,
    /// The module; relative to the current directory.
    pub module: PathBuf,
    /// What `proxy_on_vm_start` reads.
    pub configuration: Vec<u8>,
    /// Variables copied from the harness's environment; those not set there are left out.
    pub host_environment: Vec<String>,
    /// Variables given in the file.
    pub environment: Vec<(String, String)>,
}

/// What becomes of requests when the plugin's VM has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailurePolicy {
    /// They get 503.
    FailClosed,
    /// They pass as if the filter was not there.
    FailOpen {
        /// Those in which it failed, too: with the older `fail_open: true`. With `failure_policy: FAIL_OPEN` they
        /// get 503, as seen in Envoy 1.40.
        current: bool,
    },
    /// A new VM is made, at most one a second; until then they get 503.
    FailReload,
}

impl VmConfig {
    /// The VM's environment as it is now; given variables win over copied ones.
    #[must_use]
    pub fn resolved_environment(&self) -> Vec<(String, String)> {
        let given = |name: &str| self.environment.iter().any(|(key, _)| key == name);
        let copied = self.host_environment.iter().filter(|name| !given(name));
        let copied = copied.filter_map(|name| std::env::var(name).ok().map(|value| (name.clone(), value)));
        copied.chain(self.environment.iter().cloned()).collect()
    }
}

pub(super) fn wasm_filter(mut fields: Fields<'_>) -> Option<Plugin> {
    let config = fields.require("config");
    fields.finish();
    let config = config?;
    let mut fields = config.fields()?;
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
    fields.finish();
    let by_flag = if fail_open { FailurePolicy::FailOpen { current: true } } else { FailurePolicy::FailClosed };
    let failure_policy = match policy {
        None => by_flag,
        Some(policy) => policy?.unwrap_or(by_flag),
    };
    let path = config.path().to_owned();
    Some(Plugin {
        path,
        name: name?,
        root_id: root_id?,
        vm: vm?,
        configuration: configuration?,
        failure_policy,
        sees_body_past_headers: sees_body_past_headers?,
    })
}

fn vm_config(node: &Node<'_>) -> Option<VmConfig> {
    let mut fields = node.fields()?;
    let vm_id = fields.take("vm_id").map_or(Some(String::new()), |node| node.string());
    // Whatever engine Envoy would use, the harness has wasmtime; a module cannot tell.
    let runtime = fields.take("runtime").map(|node| {
        node.one_of(&[
            ("envoy.wasm.runtime.v8", ()),
            ("envoy.wasm.runtime.wasmtime", ()),
            ("envoy.wasm.runtime.wamr", ()),
        ])
    });
    let module = fields.require("code").and_then(|node| code(&node));
    let configuration = fields.take("configuration").map_or(Some(Vec::new()), |node| message_bytes(&node));
    // Precompiled sections are an optimisation of other engines: always skipped, never needed.
    let precompiled = fields.take("allow_precompiled").map(|node| node.boolean());
    let environment =
        fields.take("environment_variables").map_or(Some((Vec::new(), Vec::new())), |node| environment(&node));
    fields.finish();
    (runtime != Some(None) && precompiled != Some(None)).then_some(())?;
    let (host_environment, environment) = environment?;
    Some(VmConfig { vm_id: vm_id?, module: module?, configuration: configuration?, host_environment, environment })
}

fn code(node: &Node<'_>) -> Option<PathBuf> {
    let mut fields = node.fields()?;
    let local = fields.require("local");
    fields.finish();
    let mut fields = local?.fields()?;
    let filename = fields.require("filename").and_then(|node| node.string());
    fields.finish();
    Some(overridden(PathBuf::from(filename?)))
}

/// `WEIR_WASM` says where the filter is, whatever the file says; other modules stay where they are.
fn overridden(path: PathBuf) -> PathBuf {
    match std::env::var_os("WEIR_WASM") {
        Some(filter) if path.file_name().is_some_and(|name| name == "weir_filter.wasm") => PathBuf::from(filter),
        _ => path,
    }
}

type Environment = (Vec<String>, Vec<(String, String)>);

fn environment(node: &Node<'_>) -> Option<Environment> {
    let mut fields = node.fields()?;
    let keys = fields.take("host_env_keys").map(|node| node.secret().each(Node::string)).unwrap_or_default();
    let values = fields.take("key_values").map(Node::secret).map(|node| match node.value() {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| match value {
                Value::String(text) => Some((key.clone(), text.clone())),
                other => node.child(key).with(other).expected("a string"),
            })
            .collect::<Option<Vec<_>>>(),
        _ => node.expected("an object"),
    });
    fields.finish();
    Some((keys.into_iter().collect::<Option<Vec<_>>>()?, values.unwrap_or_else(|| Some(Vec::new()))?))
}

/// The bytes that Envoy hands to a module for an `Any`.
fn message_bytes(node: &Node<'_>) -> Option<Vec<u8>> {
    let mut fields = node.fields()?;
    let message = fields.message_type()?;
    // A limiter's has a password.
    let value = fields.require("value").map(Node::secret);
    let owner = fields.owner().clone();
    fields.finish();
    match message.as_str() {
        "google.protobuf.Struct" => {
            let value = value?;
            match value.value() {
                Value::Object(object) => Some(encode_struct(object)),
                _ => value.expected("an object"),
            }
        }
        "google.protobuf.StringValue" => value?.string().map(String::into_bytes),
        other => {
            owner.child("@type").refuse(&format!(
                "`{other}` is not honoured by the harness; expected `google.protobuf.Struct` or `google.protobuf.StringValue`"
            ));
            None
        }
    }
}
