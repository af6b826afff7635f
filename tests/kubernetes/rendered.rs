//! Resources that a control plane sends to one proxy, and the pod of that proxy.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::manifest::{list, text};

pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
pub const ROUTES: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
pub const EXTENSION: &str = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";
pub const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
pub const MANAGER: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// Folder of the authorities that the image of Envoy knows.
pub const OF_IMAGE: &str = "/etc/ssl/certs/";

/// Resources by type and name, fields of the bootstrap, and the environment and files of the pod.
#[derive(Debug, Clone, Default)]
pub struct Rendered {
    pub bootstrap: Value,
    pub resources: BTreeMap<&'static str, BTreeMap<String, Value>>,
    pub pod: Pod,
}

/// Environment variables and folders of the container of the proxy.
#[derive(Debug, Clone, Default)]
pub struct Pod {
    pub variables: BTreeSet<String>,
    pub folders: BTreeSet<String>,
}

impl Rendered {
    pub fn add(&mut self, type_url: &'static str, resource: Value) {
        let name = text(&resource, "/name").to_owned();
        let before = self.resources.entry(type_url).or_default().insert(name.clone(), resource);
        assert!(before.is_none(), "two resources with the name {name}");
    }

    /// Calls a function with each value of resources and bootstrap, parents first.
    pub fn visit(&mut self, change: &mut dyn FnMut(&mut Value)) {
        self.resources.values_mut().flat_map(BTreeMap::values_mut).for_each(|resource| walk(resource, change));
        walk(&mut self.bootstrap, change);
    }

    /// Checks that the files and variables that the configuration names are in the pod.
    pub fn is_complete(&mut self) {
        let pod = self.pod.clone();
        let mut missing = Vec::new();
        self.visit(&mut |value| {
            for variable in list(value, "/host_env_keys") {
                if !pod.variables.contains(variable.as_str().unwrap()) {
                    missing.push(format!("the variable {variable}"));
                }
            }
            if let Some(variable) = value.get("environment_variable").and_then(Value::as_str)
                && !pod.variables.contains(variable)
            {
                missing.push(format!("the variable {variable}"));
            }
            let file = value.pointer("/filename").or_else(|| value.pointer("/watched_directory/path"));
            if let Some(file) = file.and_then(Value::as_str) {
                let file_or_folder = format!("{file}/");
                let mut folders = pod.folders.iter().map(String::as_str).chain([OF_IMAGE]);
                if !folders.any(|folder| file_or_folder.starts_with(folder)) {
                    missing.push(format!("the file {file}"));
                }
            }
        });
        assert!(missing.is_empty(), "not in the pod: {missing:?}");
    }
}

impl Pod {
    /// Reads a container with the volumes of its pod, which have to be there.
    pub fn of(container: &Value, volumes: &[Value]) -> Self {
        let mounts = list(container, "/volumeMounts");
        for mount in mounts {
            assert!(volumes.iter().any(|volume| volume["name"] == mount["name"]), "no volume of {mount}");
        }
        Self {
            variables: list(container, "/env").iter().map(|variable| text(variable, "/name").to_owned()).collect(),
            folders: mounts.iter().map(|mount| format!("{}/", text(mount, "/mountPath"))).collect(),
        }
    }
}

/// Calls a function with a value, then with those in it.
pub fn walk(value: &mut Value, change: &mut dyn FnMut(&mut Value)) {
    change(value);
    match value {
        Value::Object(fields) => fields.values_mut().for_each(|field| walk(field, change)),
        Value::Array(items) => items.iter_mut().for_each(|item| walk(item, change)),
        _ => {}
    }
}

/// Merges as protobuf does: lists append, objects merge, other values replace.
pub fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (Value::Array(into), Value::Array(from)) => into.extend(from.iter().cloned()),
        (into, from) => *into = from.clone(),
    }
}

/// The router, which ends each list of HTTP filters.
pub fn router() -> Value {
    json!({
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    })
}

/// A network filter with these HTTP filters and fields.
pub fn manager(stat_prefix: &str, http_filters: &[Value], fields: &Value) -> Value {
    let mut config = json!({"@type": MANAGER, "stat_prefix": stat_prefix, "http_filters": http_filters});
    merge(&mut config, fields);
    json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": config})
}

/// Routes that answer each request with 200 and `hello`, in place of the user's service.
pub fn hello(name: &str) -> Value {
    json!({
        "name": name,
        "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "hello\n"}}}]}],
    })
}

/// Configuration source of xDS resources that come with the others.
pub fn ads() -> Value {
    json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"})
}

/// The address of any free port.
pub fn any_port() -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}})
}
