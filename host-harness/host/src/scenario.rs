//! Scenario: an Envoy bootstrap with changed addresses, so that the same file runs anywhere.
//!
//! Only the requested fields change; the rest of the document is kept. A requested field that is not found is an error,
//! so that a renamed listener or cluster is noticed. Fields may be spelt in snake case or in camel case, and a list may
//! be its only item, as in protobuf's JSON.

mod fields;

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde_json::Value;
use thiserror::Error;

use self::fields::{address, endpoints, field_mut, host_port, name_of, resources, set_address};
use crate::documents::{Position, Source};

const FILTER_FILE: &str = "weir_filter.wasm";
const FILTER_ROOT_ID: &str = "limiter";

/// Error of a scenario that cannot be read or changed.
#[derive(Debug, Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The text is not a YAML document.
    #[error("{origin}: {why}")]
    Yaml {
        /// The file.
        origin: String,
        /// Kind of the error, with line and column, without any text of the document.
        why: String,
    },
    /// The document lacks the part to be changed.
    #[error("{origin}: no {what}{}", found(present))]
    NotFound {
        /// The file.
        origin: String,
        /// Missing part.
        what: String,
        /// Names of the parts of the same kind that the document has.
        present: Vec<String>,
    },
}

fn found(present: &[String]) -> String {
    if present.is_empty() { String::new() } else { format!("; found {}", present.join(", ")) }
}

/// Bootstrap document that can be changed.
#[derive(Debug, Clone)]
pub struct Scenario {
    origin: String,
    document: Value,
}

impl Scenario {
    /// Reads a bootstrap file.
    ///
    /// # Errors
    /// If the file cannot be read or is not YAML.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ScenarioError> {
        let path = path.as_ref();
        let text = fs::read_to_string(path).map_err(|source| ScenarioError::Read { path: path.into(), source })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Returns the origin for error texts, usually the file's path.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Parses a bootstrap; `origin` names it in error texts.
    ///
    /// # Errors
    /// If the text is not YAML.
    pub fn parse(text: &str, origin: &str) -> Result<Self, ScenarioError> {
        Self::of(&Source::parse(text, origin.to_owned()))
    }

    /// Returns the bootstrap of a source.
    ///
    /// # Errors
    /// If the source does not have one document.
    pub fn of(source: &Source) -> Result<Self, ScenarioError> {
        let origin = source.origin.clone();
        let document = source.only().map_err(|(Position { line, column }, found)| ScenarioError::Yaml {
            origin: origin.clone(),
            why: format!("found {found} at line {line}, column {column}"),
        })?;
        Ok(Self { origin, document: document.root.to_json() })
    }

    /// Sets the address of the listener `name`.
    ///
    /// # Errors
    /// If there is no listener with this name, or the listener has no `socket_address`.
    pub fn listener(&mut self, name: &str, addr: SocketAddr) -> Result<&mut Self, ScenarioError> {
        let listener = self.named("listeners", "listener", name)?;
        let changed = field_mut(listener, "address").is_some_and(|address| set_address(address, addr));
        self.require(changed, || format!("static_resources.listeners.{name}.address.socket_address"))
    }

    /// Sets the address of every listener with a `socket_address`.
    pub fn every_listener(&mut self, addr: SocketAddr) -> &mut Self {
        for listener in self.resources("listeners") {
            let address = field_mut(listener, "address");
            let _ = address.map(|address| set_address(address, addr));
        }
        self
    }

    /// Returns the cluster `name`, to change any part of it.
    pub fn cluster(&mut self, name: &str) -> Option<&mut Value> {
        self.resources("clusters").find(|cluster| name_of(cluster) == Some(name))
    }

    /// Returns the names of the clusters.
    pub fn clusters(&mut self) -> Vec<String> {
        self.resources("clusters").filter_map(|cluster| name_of(cluster).map(str::to_owned)).collect()
    }

    /// Returns the hosts and ports of the endpoints of the cluster `name`; `None` if there is no such cluster, or an
    /// endpoint has no `socket_address` with a port.
    pub fn hosts(&mut self, name: &str) -> Option<Vec<(String, u16)>> {
        endpoints(self.cluster(name)?).map(host_port).collect()
    }

    /// Returns the address of the listener `name`.
    pub fn listener_addr(&self, name: &str) -> Option<SocketAddr> {
        let mut copy = self.document.clone();
        let mut listeners = resources(&mut copy, "listeners");
        address(field_mut(listeners.find(|listener| name_of(listener) == Some(name))?, "address")?)
    }

    /// Sets the address of the admin listener.
    ///
    /// # Errors
    /// If the scenario has no admin listener.
    pub fn admin(&mut self, addr: SocketAddr) -> Result<&mut Self, ScenarioError> {
        let admin = field_mut(&mut self.document, "admin").and_then(|admin| field_mut(admin, "address"));
        let changed = admin.is_some_and(|address| set_address(address, addr));
        self.require(changed, || "admin.address.socket_address".into())
    }

    /// Returns the address of the admin listener.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        address(field_mut(field_mut(&mut self.document.clone(), "admin")?, "address")?)
    }

    /// Sets the address of every endpoint of the cluster `name`.
    ///
    /// # Errors
    /// If there is no cluster with this name, or no endpoint with a `socket_address`.
    pub fn endpoint(&mut self, name: &str, addr: SocketAddr) -> Result<&mut Self, ScenarioError> {
        let cluster = self.named("clusters", "cluster", name)?;
        let addresses = endpoints(cluster);
        let changed = addresses.map(|address| set_address(address, addr)).filter(|changed| *changed).count() > 0;
        self.require(changed, || format!("endpoint with a socket_address in static_resources.clusters.{name}"))
    }

    /// Sets the addresses of the endpoints of the cluster `name`, in order.
    ///
    /// # Errors
    /// If there is no cluster with this name, or the number of its endpoints with a `socket_address` is another one.
    pub fn endpoints(&mut self, name: &str, addresses: &[SocketAddr]) -> Result<&mut Self, ScenarioError> {
        let cluster = self.named("clusters", "cluster", name)?;
        let places: Vec<&mut Value> = endpoints(cluster).collect();
        let changed = places.len() == addresses.len()
            && places.into_iter().zip(addresses).all(|(place, address)| set_address(place, *address));
        self.require(changed, || {
            format!("{} endpoints with a socket_address in static_resources.clusters.{name}", addresses.len())
        })
    }

    /// Sets the module path of every plugin that loads a `weir_filter.wasm`.
    ///
    /// # Errors
    /// If no plugin loads a `weir_filter.wasm`.
    pub fn wasm(&mut self, path: &Path) -> Result<&mut Self, ScenarioError> {
        let mut changed = false;
        each_object(&mut self.document, &mut |object| {
            if let Some(Value::String(file)) = object.get_mut("filename")
                && Path::new(file).file_name().is_some_and(|name| name == FILTER_FILE)
            {
                *file = path.display().to_string();
                changed = true;
            }
        });
        self.require(changed, || format!("plugin with filename {FILTER_FILE}"))
    }

    /// Changes the configuration of every plugin with the root id `limiter`: a `Struct`, or JSON in a `StringValue`.
    ///
    /// # Errors
    /// If there is no plugin with this root id and a configuration.
    pub fn filter_configuration(&mut self, mut change: impl FnMut(&mut Value)) -> Result<&mut Self, ScenarioError> {
        let mut changed = false;
        each_object(&mut self.document, &mut |object| {
            let root_id = object.get("root_id").or_else(|| object.get("rootId"));
            if root_id.and_then(Value::as_str) == Some(FILTER_ROOT_ID)
                && let Some(value) = object.get_mut("configuration").and_then(|it| it.get_mut("value"))
            {
                changed |= change_configuration(value, &mut change);
            }
        });
        self.require(changed, || format!("plugin with root_id {FILTER_ROOT_ID} and a configuration"))
    }

    /// Returns the configuration of the first plugin with the root id `limiter`.
    ///
    /// # Errors
    /// If there is no plugin with this root id and a configuration.
    pub fn limiter(&self) -> Result<Value, ScenarioError> {
        let mut first = Value::Null;
        let mut copy = self.clone();
        copy.filter_configuration(|value| {
            if first.is_null() {
                first = value.take();
            }
        })?;
        Ok(first)
    }

    /// Changes any part of the document.
    pub fn edit(&mut self, change: impl FnOnce(&mut Value)) -> &mut Self {
        change(&mut self.document);
        self
    }

    /// Returns the current document.
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// Returns the document as JSON, which is also YAML: Envoy and the harness read it from a `.yaml` or `.json` file.
    pub fn to_yaml(&self) -> String {
        format!("{:#}", self.document)
    }

    fn named(&mut self, list: &str, kind: &str, name: &str) -> Result<&mut Value, ScenarioError> {
        let origin = self.origin.clone();
        let present: Vec<String> = self.resources(list).filter_map(|item| name_of(item).map(str::to_owned)).collect();
        self.resources(list).find(|item| name_of(item) == Some(name)).ok_or_else(|| ScenarioError::NotFound {
            origin,
            what: format!("{kind} {name:?}"),
            present,
        })
    }

    fn resources(&mut self, list: &str) -> impl Iterator<Item = &mut Value> {
        resources(&mut self.document, list)
    }

    fn require(&mut self, changed: bool, what: impl FnOnce() -> String) -> Result<&mut Self, ScenarioError> {
        if changed {
            return Ok(self);
        }
        Err(ScenarioError::NotFound { origin: self.origin.clone(), what: what(), present: Vec::new() })
    }
}

/// Changes a configuration, also one as JSON text. Returns whether it could be changed.
fn change_configuration(value: &mut Value, change: &mut impl FnMut(&mut Value)) -> bool {
    match value {
        Value::Object(_) => change(value),
        Value::String(text) => {
            let Ok(mut parsed @ Value::Object(_)) = serde_json::from_str(text) else { return false };
            change(&mut parsed);
            *text = parsed.to_string();
        }
        _ => return false,
    }
    true
}

fn each_object(value: &mut Value, visit: &mut impl FnMut(&mut serde_json::Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            visit(object);
            object.values_mut().for_each(|value| each_object(value, visit));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| each_object(item, visit)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn quickstart() -> Scenario {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../envoy/quickstart.yaml");
        let text = fs::read_to_string(file).unwrap();
        Scenario::parse(&text, "quickstart.yaml").unwrap()
    }

    /// Collects the paths of all values that differ.
    fn changes(before: &Value, after: &Value, path: &str, into: &mut Vec<String>) {
        match (before, after) {
            (Value::Object(a), Value::Object(b)) => {
                assert!(a.keys().eq(b.keys()), "{path}");
                a.iter().for_each(|(key, value)| changes(value, &b[key], &format!("{path}/{key}"), into));
            }
            (Value::Array(a), Value::Array(b)) => {
                assert_eq!(a.len(), b.len(), "{path}");
                a.iter().zip(b).enumerate().for_each(|(i, (a, b))| changes(a, b, &format!("{path}/{i}"), into));
            }
            (a, b) if a != b => into.push(format!("{path}={b}")),
            _ => {}
        }
    }

    #[test]
    fn only_the_requested_fields_change() {
        let before = quickstart();
        let mut after = before.clone();
        let addr = |port| SocketAddr::from(([127, 0, 0, 9], port));
        after.listener("ingress", addr(1)).unwrap().admin(addr(2)).unwrap().endpoint("redis", addr(3)).unwrap();
        after.wasm(Path::new("/tmp/weir_filter.wasm")).unwrap();
        after.filter_configuration(|filter| filter["limits"][0]["name"] = json!("other")).unwrap();
        let mut changed = Vec::new();
        changes(&before.document, &after.document, "", &mut changed);
        let expected = [
            ("address/socket_address/address=\"127.0.0.9\"", 3),
            ("address/socket_address/port_value=", 3),
            ("code/local/filename=\"/tmp/weir_filter.wasm\"", 2),
            ("configuration/value/limits/0/name=\"other\"", 1),
        ];
        for (part, times) in expected {
            assert_eq!(changed.iter().filter(|path| path.contains(part)).count(), times, "{part} in {changed:#?}");
        }
        assert_eq!(changed.len(), 9, "{changed:#?}");
        assert_eq!(after.listener_addr("ingress"), Some(addr(1)));
        assert_eq!(after.admin_addr(), Some(addr(2)));
        assert_eq!(after.limiter().unwrap()["limits"][0]["name"], "other");
    }

    #[test]
    fn endpoints_are_set_in_order_and_only_as_many_as_there_are() {
        let addr = |port| SocketAddr::from(([127, 0, 0, 9], port));
        let mut scenario = quickstart();
        scenario.endpoints("redis", &[addr(7)]).unwrap();
        let place = "/static_resources/clusters/0/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address";
        assert_eq!(address(scenario.document.pointer_mut(place).unwrap()), Some(addr(7)));
        let why = scenario.endpoints("redis", &[addr(1), addr(2)]).unwrap_err().to_string();
        assert_eq!(why, "quickstart.yaml: no 2 endpoints with a socket_address in static_resources.clusters.redis");
    }

    #[test]
    fn fields_may_be_in_camel_case_and_lists_one_item() {
        let text = r#"{"staticResources": {
            "listeners": {"name": "l", "address": {"socketAddress": {"address": "10.0.0.1", "portValue": 80}}},
            "clusters": {"name": "redis", "loadAssignment": {"endpoints": {"lbEndpoints":
                {"endpoint": {"address": {"socketAddress": {"address": "redis", "portValue": "6379"}}}}}}}},
            "filter": {"rootId": "limiter", "configuration": {"value": "{\"limits\": []}"}}}"#;
        let mut scenario = Scenario::parse(text, "camel.json").unwrap();
        let addr = |port| SocketAddr::from(([127, 0, 0, 9], port));
        assert_eq!(scenario.listener_addr("l"), Some(SocketAddr::from(([10, 0, 0, 1], 80))));
        scenario.every_listener(addr(1)).endpoint("redis", addr(2)).unwrap().endpoints("redis", &[addr(3)]).unwrap();
        scenario.filter_configuration(|filter| filter["more"] = json!(1)).unwrap();
        assert_eq!(scenario.listener_addr("l"), Some(addr(1)));
        assert_eq!(scenario.limiter().unwrap(), json!({"limits": [], "more": 1}));
        assert!(scenario.to_yaml().contains("127.0.0.9") && !scenario.to_yaml().contains("portValue"));
        assert!(scenario.cluster("redis").is_some() && scenario.cluster("other").is_none());
    }

    #[test]
    fn a_written_scenario_parses_to_the_same_document() {
        let scenario = quickstart();
        let again = Scenario::parse(&scenario.to_yaml(), "again").unwrap();
        assert_eq!(scenario.document, again.document);
    }

    #[test]
    fn an_error_names_the_missing_part_and_the_present_parts() {
        let addr = SocketAddr::from(([127, 0, 0, 1], 1));
        let why = quickstart().listener("egress", addr).unwrap_err().to_string();
        assert_eq!(why, "quickstart.yaml: no listener \"egress\"; found ingress");
        let why = quickstart().endpoint("rediss", addr).unwrap_err().to_string();
        assert_eq!(why, "quickstart.yaml: no cluster \"rediss\"; found redis");
        let mut empty = Scenario::parse("{}", "empty.yaml").unwrap();
        assert_eq!(empty.admin(addr).unwrap_err().to_string(), "empty.yaml: no admin.address.socket_address");
        assert!(empty.wasm(Path::new("x")).is_err() && empty.filter_configuration(|_| {}).is_err());
    }
}
