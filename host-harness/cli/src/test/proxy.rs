//! Proxy of a configuration under test: the configuration's own, or a plain one.

use std::net::SocketAddr;

use serde_json::{Value, json};
use weir_host::bootstrap::{Listener, Plugin, Problem};
use weir_host::preflight::Preflight;
use weir_host::scenario::Scenario;
use weir_host::{Bootstrap, BootstrapError};

use crate::documents::{At, Document, Position, Source};
use crate::files::{ChainKind, Inventory, Role};

/// Proxy of a configuration without one, and of one that the harness does not serve.
const PLAIN: &str = include_str!("../../../../envoy/quickstart.yaml");
const LIMITER: &str = "limiter";

/// Proxy that runs tests.
#[derive(Debug, Clone)]
pub(super) struct Proxy {
    /// The whole configuration, for real hosts.
    pub(super) scenario: Scenario,
    /// Whether it is the configuration's own.
    pub(super) is_own: bool,
    /// Name of the limiter's listener.
    pub(super) listener: String,
    /// Name of the cluster of Redis.
    pub(super) redis: String,
}

/// Proxy that the embedded host serves.
pub(super) struct Served {
    pub(super) proxy: Proxy,
    /// Way of a request to the limiter.
    pub(super) front: Preflight,
    /// Whether the limiter sees the body of a request whose headers it holds.
    pub(super) sees_body_past_headers: bool,
}

/// Configuration of a proxy, as written and as tests change it.
pub(super) struct Own<'a> {
    /// The document of the file.
    pub(super) written: &'a Document,
    /// The document with what tests change.
    pub(super) changed: &'a Value,
    /// Name of the configuration for error texts.
    pub(super) origin: &'a str,
    /// Name of the limiter's plugin.
    pub(super) name: Option<&'a str>,
    /// Name of the cluster of Redis.
    pub(super) redis: &'a str,
}

impl Own<'_> {
    /// The proxy on the embedded host. The error says why the harness does not serve it.
    pub(super) fn served(&self) -> Result<Served, String> {
        let scenario = self.scenario()?;
        let bootstrap = Bootstrap::parse(&scenario.to_yaml(), self.origin);
        let bootstrap = bootstrap.map_err(|error| self.located(&error, &scenario))?;
        Served::of(scenario, &bootstrap, self.name, self.redis, true)
            .ok_or_else(|| "its limiter is not in a listener's filters".to_owned())
    }

    /// The proxy on a real Envoy, which serves more than the embedded host. `None` for a limiter that is not in a named
    /// listener of the file, and for a Redis without an address in the file.
    pub(super) fn on_envoy(&self, inventory: &Inventory<'_>) -> Option<Proxy> {
        let limiters = inventory.plugins.iter().filter(|plugin| plugin.role() == Some(Role::Limiter));
        let mut named = limiters.filter(|plugin| self.name.is_none_or(|name| plugin.at.text_of("name") == name));
        let (chain, _) = inventory.chain_of(named.next()?)?;
        let ChainKind::Listener { listener: Some(listener), .. } = &chain.kind else { return None };
        let listener = listener.text_of("name").to_owned();
        let scenario = self.scenario().ok()?;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        scenario.clone().listener(&listener, any).ok()?;
        scenario.clone().endpoint(self.redis, any).ok()?;
        (!inventory.is_partial).then(|| Proxy { scenario, is_own: true, listener, redis: self.redis.to_owned() })
    }

    fn scenario(&self) -> Result<Scenario, String> {
        let mut scenario = Scenario::parse(&self.changed.to_string(), self.origin).map_err(|why| why.to_string())?;
        scenario.edit(drop_redis_proxy);
        drop_tls(&mut scenario, self.redis);
        Ok(scenario)
    }

    /// The first problem of the scenario, at its place in the file.
    fn located(&self, error: &BootstrapError, scenario: &Scenario) -> String {
        let BootstrapError::Refused { problems, .. } = error else { return error.to_string() };
        let Some(problem) = problems.first() else { return error.to_string() };
        let (file, place) = (&self.written.origin, place_in(self.written, problem, scenario));
        format!("{file}:{place}: {problem}")
    }
}

/// Place in a file of a problem of the scenario that was made of it: of the same key or value.
fn place_in(file: &Document, problem: &Problem, scenario: &Scenario) -> Position {
    let source = Source::parse(&scenario.to_yaml(), String::new());
    let copied = source.documents.first().map(|document| At::root(document).descend(&problem.path));
    let is_key = copied.is_some_and(|at| at.key == problem.position && at.node.position != problem.position);
    let at = At::root(file).descend(&problem.path);
    if is_key { at.key } else { at.node.position }
}

impl Served {
    /// A plain proxy with this limiter.
    pub(super) fn plain(written: &Value) -> Result<Self, String> {
        let mut scenario = Scenario::parse(PLAIN, "quickstart.yaml").map_err(|why| why.to_string())?;
        let configured = scenario.filter_configuration(|filter| {
            *filter = written.clone();
            filter["redis"]["cluster"] = json!("redis");
        });
        configured.map_err(|why| why.to_string())?;
        let bootstrap = Bootstrap::parse(&scenario.to_yaml(), scenario.origin()).map_err(|why| why.to_string())?;
        Self::of(scenario, &bootstrap, None, "redis", false).ok_or_else(|| "no limiter in a listener".to_owned())
    }

    fn of(scenario: Scenario, bootstrap: &Bootstrap, name: Option<&str>, redis: &str, is_own: bool) -> Option<Self> {
        let (listener, plugin) = limiter(bootstrap, name)?;
        let front = Preflight::of(listener, plugin)?;
        let sees_body_past_headers = plugin.sees_body_past_headers || !is_own;
        let proxy = Proxy { scenario, is_own, listener: listener.name.clone(), redis: redis.to_owned() };
        Some(Self { proxy, front, sees_body_past_headers })
    }
}

/// Removes TLS from the cluster of Redis: the Redis of a run speaks none, and certificates need not be there.
fn drop_tls(scenario: &mut Scenario, cluster: &str) {
    if let Some(fields) = scenario.cluster(cluster).and_then(Value::as_object_mut) {
        let names = ["transport_socket", "transportSocket", "transport_socket_matches", "transportSocketMatches"];
        names.iter().for_each(|name| _ = fields.remove(*name));
    }
}

/// Makes clusters lead to the Redis of the run in place of an internal listener, which has the proxy of a Redis
/// Cluster: the Redis of the run is no cluster, and takes the calls of one as well.
fn drop_redis_proxy(document: &mut Value) {
    let mut list = |path: &str| {
        document.pointer_mut(path).map(Value::take).and_then(|list| match list {
            Value::Array(items) => Some(items),
            _ => None,
        })
    };
    let (listeners, clusters) = (list("/static_resources/listeners"), list("/static_resources/clusters"));
    if let Some(mut extensions) = list("/bootstrap_extensions") {
        extensions.retain(|extension| {
            let name = extension.pointer("/typed_config/@type").and_then(Value::as_str);
            !name.is_some_and(|name| name.ends_with(".InternalListener"))
        });
        document["bootstrap_extensions"] = extensions.into();
    }
    if let Some(mut listeners) = listeners {
        listeners.retain(|listener| listener.get("internal_listener").is_none());
        document["static_resources"]["listeners"] = listeners.into();
    }
    if let Some(mut clusters) = clusters {
        let is_of_nodes = |cluster: &Value| {
            cluster.pointer("/cluster_type/name").and_then(Value::as_str) == Some("envoy.clusters.redis")
        };
        clusters.retain(|cluster| !is_of_nodes(cluster));
        clusters.iter_mut().for_each(reach_by_socket);
        document["static_resources"]["clusters"] = clusters.into();
    }
}

/// Replaces addresses of internal listeners.
fn reach_by_socket(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if fields.remove("envoy_internal_address").is_some() {
                fields.insert("socket_address".into(), json!({"address": "127.0.0.1", "port_value": 0}));
            }
            fields.values_mut().for_each(reach_by_socket);
        }
        Value::Array(items) => items.iter_mut().for_each(reach_by_socket),
        _ => {}
    }
}

/// The limiter with this plugin name, or the first one.
fn limiter<'a>(bootstrap: &'a Bootstrap, name: Option<&str>) -> Option<(&'a Listener, &'a Plugin)> {
    let plugins =
        bootstrap.listeners.iter().flat_map(|listener| listener.plugins().map(move |plugin| (listener, plugin)));
    let mut limiters = plugins.filter(|(_, plugin)| plugin.root_id == LIMITER);
    limiters.find(|(_, plugin)| name.is_none_or(|name| plugin.name == name))
}
