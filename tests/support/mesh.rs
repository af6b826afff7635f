//! Hosts that serve one scenario with one Redis.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use hyper::header::{HeaderName, HeaderValue};
use serde_json::Value;
use weir_harness::{
    front_end::FrontEnd,
    serving::{HostKind, Serving, ServingError},
    traffic::{Pace, Plan, User},
};
use weir_host::{fault::FaultProxy, scenario::Scenario};
use weir_provision::{
    ProvisionError, checkout, client, filter_wasm, or_skip,
    redis::{RedisOptions, RedisServer},
    webdis::WebdisOptions,
};

use crate::Answer;
use crate::ask::Ask;

const LISTENER: &str = "ingress";
const CLUSTER: &str = "redis";
pub(crate) const USER: HeaderName = HeaderName::from_static("x-user-id");
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Running hosts and their Redis. Dropping it stops all of them.
#[derive(Debug)]
pub struct Mesh {
    hosts: Vec<Serving>,
    ingress: Vec<SocketAddr>,
    faults: Option<FaultProxy>,
    front_end: Option<FrontEnd>,
    redis: Arc<RedisServer>,
    key_prefix: String,
    scenario: Scenario,
}

/// Builder of a [`Mesh`]; see [`Mesh::on`].
pub struct MeshBuilder {
    kind: HostKind,
    scenario: Scenario,
    hosts: usize,
    workers: u32,
    with_faults: bool,
    redis: RedisOptions,
    webdis: WebdisOptions,
    /// Server that the hosts ask, in place of Redis.
    stand_in: Option<SocketAddr>,
    /// Redis and key prefix of another mesh.
    shared: Option<(Arc<RedisServer>, String)>,
    /// Name of the cluster that has these endpoints.
    nodes: &'static str,
    /// Addresses of the cluster's endpoints, in order; empty: all have the address of the mesh's Redis.
    endpoints: Vec<SocketAddr>,
    /// Start of the key prefix.
    namespace: &'static str,
}

impl Mesh {
    /// Returns a builder: one host of this kind with two workers, and a scenario such as `envoy/quickstart.yaml`.
    ///
    /// # Panics
    /// If the checkout has no such file.
    pub fn on(kind: HostKind, scenario: &str) -> MeshBuilder {
        let file = checkout::root().expect("tests run in their checkout").join(scenario);
        let scenario = Scenario::load(file).expect("the scenario is there");
        MeshBuilder {
            kind,
            scenario,
            hosts: 1,
            workers: 2,
            with_faults: false,
            redis: RedisOptions::default(),
            webdis: WebdisOptions::default(),
            stand_in: None,
            shared: None,
            nodes: CLUSTER,
            endpoints: Vec::new(),
            namespace: "",
        }
    }

    /// Sends a GET of `/` by this user to the first host.
    pub async fn get(&self, user: &str) -> Answer {
        self.ask("/").user(user).send().await
    }

    /// Returns a builder of a request: a GET of `path` to the first host.
    pub fn ask(&self, path: &str) -> Ask<'_> {
        Ask::new(self, path)
    }

    /// Returns a load plan without users for the host of this number, from 0.
    pub fn plan(&self, host: usize) -> Plan {
        Plan::new(self.ingress[host])
    }

    /// Returns a user for a load plan, whose requests have this name in `x-user-id`.
    pub fn user(name: &str, pace: Pace) -> User {
        User::new(name, pace).header(USER, HeaderValue::try_from(name).expect("a name that a header can hold"))
    }

    /// Returns a counter of the first host, by its name in `/stats/prometheus` without labels.
    ///
    /// # Panics
    /// If the host has no such counter, or no admin interface.
    pub async fn counter(&self, name: &str) -> u64 {
        let admin = self.hosts[0].admin().expect("the scenario has an admin");
        let stats = client::get(admin, "/stats/prometheus", ANSWER_WITHIN).await.expect("the admin answers");
        let text = String::from_utf8_lossy(&stats.body).into_owned();
        let sample = |line: &str| {
            let value =
                line.strip_prefix(name)?.split_once('}').map_or_else(|| line.strip_prefix(name), |(_, it)| Some(it));
            value?.trim().parse().ok()
        };
        text.lines().find_map(sample).unwrap_or_else(|| panic!("no counter {name} in:\n{text}"))
    }

    /// Waits until a counter is `expected`: hosts report counters with a delay.
    ///
    /// # Panics
    /// If the counter is not `expected` within a minute.
    pub async fn counts(&self, name: &str, expected: u64) {
        let deadline = tokio::time::Instant::now() + ANSWER_WITHIN;
        loop {
            let counted = self.counter(name).await;
            if counted == expected {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{name}: expected {expected}, found {counted}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Redis of the mesh, to stop, pause, kill and restart.
    pub fn redis(&self) -> &RedisServer {
        &self.redis
    }

    /// Opens a connection to the Redis of the mesh.
    pub fn redis_connection(&self) -> redis::Connection {
        let client = redis::Client::open(self.redis.url()).expect("the URL of Redis is valid");
        client.get_connection().expect("Redis runs")
    }

    /// Prefix of all Redis keys of this mesh.
    pub fn key_prefix(&self) -> &str {
        &self.key_prefix
    }

    /// Proxy between the hosts and Redis, or its front end.
    ///
    /// # Panics
    /// If the mesh was built without [`MeshBuilder::with_faults`].
    pub fn faults(&self) -> &FaultProxy {
        self.faults.as_ref().expect("a mesh built with_faults")
    }

    /// HTTP front end between the hosts and Redis.
    ///
    /// # Panics
    /// If the transport of the scenario has none.
    pub fn front_end(&self) -> &FrontEnd {
        self.front_end.as_ref().expect("a scenario with a front end")
    }

    pub fn hosts(&self) -> &[Serving] {
        &self.hosts
    }

    /// Bootstrap of the hosts, with the addresses of this mesh: for hosts in processes of their own.
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// Listener addresses of the hosts.
    pub fn ingress(&self) -> &[SocketAddr] {
        &self.ingress
    }
}

impl MeshBuilder {
    /// Sets the number of hosts that share the Redis.
    pub fn hosts(mut self, hosts: usize) -> Self {
        self.hosts = hosts;
        self
    }

    /// Sets the number of workers of each host.
    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }

    /// Puts a proxy between the hosts and Redis; see [`Mesh::faults`].
    pub fn with_faults(mut self) -> Self {
        self.with_faults = true;
        self
    }

    /// Sets options of Redis, such as a password.
    pub fn redis(mut self, options: RedisOptions) -> Self {
        self.redis = options;
        self
    }

    /// Sets options of the Webdis in front of Redis, where the scenario has one.
    pub fn webdis(self, webdis: WebdisOptions) -> Self {
        Self { webdis, ..self }
    }

    /// Makes the hosts ask this server, which is no Redis: see [`refusing_scripts`](crate::refusing_scripts).
    pub fn asking(self, server: SocketAddr) -> Self {
        Self { stand_in: Some(server), ..self }
    }

    /// Uses the Redis and the key prefix of another mesh, so that limits of the same name share their buckets.
    pub fn sharing_buckets_of(mut self, other: &Mesh) -> Self {
        self.shared = Some((Arc::clone(&other.redis), other.key_prefix.clone()));
        self
    }

    /// Uses this Redis, which hosts reach at these addresses: those of the cluster's endpoints, in order.
    pub fn reaching(mut self, redis: &Arc<RedisServer>, endpoints: Vec<SocketAddr>) -> Self {
        self.shared = Some((Arc::clone(redis), fresh_key_prefix()));
        self.endpoints = endpoints;
        self
    }

    /// Uses this Redis Cluster for the endpoints of `redis_nodes`; [`Mesh::redis`] is its first node.
    pub fn clustered(self, cluster: &crate::RedisCluster) -> Self {
        Self { nodes: "redis_nodes", ..self.reaching(&cluster.nodes()[0], cluster.endpoints()) }
    }

    /// Starts the key prefix with this text.
    pub fn namespace(self, namespace: &'static str) -> Self {
        Self { namespace, ..self }
    }

    /// Changes the configuration of the limiter.
    pub fn configure(mut self, change: impl FnMut(&mut Value)) -> Self {
        self.scenario.filter_configuration(change).expect("the scenario has a limiter");
        self
    }

    /// Sets a `redis.timeout` of 5 s and failure mode `deny`, for tests of decisions and not of their speed.
    ///
    /// Checks then do not time out on a busy machine, and a failed check never looks like an admission.
    pub fn patient(self) -> Self {
        self.configure(|filter| {
            filter["redis"]["timeout"] = "5s".into();
            filter["failure_mode"] = "deny".into();
        })
    }

    /// Replaces the `token_bucket` of the first limit.
    pub fn bucket(self, max_tokens: u64, tokens_per_fill: u64, fill_interval: &str) -> Self {
        let bucket = serde_json::json!({
            "max_tokens": max_tokens, "tokens_per_fill": tokens_per_fill, "fill_interval": fill_interval,
        });
        self.configure(|filter| filter["limits"][0]["token_bucket"] = bucket.clone())
    }

    /// Changes the scenario in any other way.
    pub fn edit(mut self, change: impl FnOnce(&mut Value)) -> Self {
        self.scenario.edit(change);
        self
    }

    /// Sets `allow_on_headers_stop_iteration`: the limiter can hold a request's headers and still receive its body.
    pub fn that_sees_bodies(self) -> Self {
        const LIMITER: &str =
            "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/config";
        self.edit(|bootstrap| {
            let plugin = bootstrap.pointer_mut(LIMITER).expect("the limiter is the first of the listener's filters");
            plugin["allow_on_headers_stop_iteration"] = true.into();
        })
    }

    /// Starts the hosts and Redis. `None` if a component is missing, which is printed.
    pub async fn start(mut self) -> Option<Mesh> {
        let options = self.redis;
        let (shared, key_prefix) = match self.shared {
            Some((redis, key_prefix)) => (Some(redis), key_prefix),
            None => (None, [self.namespace, &fresh_key_prefix()].concat()),
        };
        let provide = move || {
            let redis = shared.map_or_else(|| RedisServer::start(options).map(Arc::new), Ok)?;
            Ok::<_, ProvisionError>((filter_wasm::find_or_build()?, redis))
        };
        let (wasm, redis) = or_skip(tokio::task::spawn_blocking(provide).await.expect("provisioning does not panic"))?;
        let options = WebdisOptions { redis_password: redis.password().map(str::to_owned), ..self.webdis };
        let front_end = or_skip(FrontEnd::provide(&self.scenario, redis.addr(), options).await)?;
        let asked = front_end.as_ref().map_or(redis.addr(), FrontEnd::addr);
        let faults = if self.with_faults {
            Some(FaultProxy::start(asked, CLUSTER, 1).await.expect("a free port"))
        } else {
            None
        };
        let upstream = self.stand_in.unwrap_or(faults.as_ref().map_or(asked, FaultProxy::addr));

        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let adapt = |scenario: &mut Scenario| {
            scenario.listener(LISTENER, any_port)?.admin(any_port)?.wasm(&wasm)?;
            front_end.as_ref().map_or(Ok(()), |front_end| front_end.adapt(scenario))?;
            match &self.endpoints[..] {
                [] => scenario.endpoint(CLUSTER, upstream)?,
                endpoints => scenario.endpoints(self.nodes, endpoints)?,
            };
            scenario.filter_configuration(|filter| filter["redis"]["key_prefix"] = key_prefix.clone().into()).map(drop)
        };
        adapt(&mut self.scenario).expect("the scenario has a listener, an admin, a cluster and the filter");

        let (mut hosts, mut ingress) = (Vec::new(), Vec::new());
        for _ in 0..self.hosts {
            let host = match Serving::start(self.kind, &self.scenario, self.workers).await {
                Err(ServingError::Provision(why)) => or_skip(Err(why))?,
                started => started.expect("the host starts"),
            };
            ingress.push(host.listener(LISTENER).expect("the host listens"));
            hosts.push(host);
        }
        Some(Mesh { hosts, ingress, faults, front_end, redis, key_prefix, scenario: self.scenario })
    }
}

fn fresh_key_prefix() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("test-{}-{}:", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
