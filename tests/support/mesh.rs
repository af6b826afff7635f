//! Hosts that serve one scenario around one Redis.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use hyper::{
    Method,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use serde_json::Value;
use weir_harness::{
    load::{self, Client, Pace, Plan, User},
    provision::{
        ProvisionError, checkout, filter_wasm, or_skip,
        redis::{RedisOptions, RedisServer},
    },
    scenario::Scenario,
    serving::{HostKind, Serving, ServingError},
};

use crate::{Answer, FaultProxy};

const LISTENER: &str = "ingress";
const CLUSTER: &str = "redis";
const USER: HeaderName = HeaderName::from_static("x-user-id");
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Hosts and a Redis, running. Dropped: all ended.
#[derive(Debug)]
pub struct Mesh {
    hosts: Vec<Serving>,
    ingress: Vec<SocketAddr>,
    faults: Option<FaultProxy>,
    redis: Arc<RedisServer>,
    key_prefix: String,
}

/// A mesh to be started.
pub struct MeshBuilder {
    kind: HostKind,
    scenario: Scenario,
    hosts: usize,
    workers: u32,
    with_faults: bool,
    redis: RedisOptions,
    /// A Redis that runs already, and the key prefix there.
    shared: Option<(Arc<RedisServer>, String)>,
}

impl Mesh {
    /// One host of this kind with two workers, serving a scenario of the checkout such as `envoy/quickstart.yaml`.
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
            shared: None,
        }
    }

    /// A GET of `/` by this user, to the first host.
    pub async fn get(&self, user: &str) -> Answer {
        self.ask("/").user(user).send().await
    }

    /// A request to be sent.
    pub fn ask(&self, path: &str) -> Ask<'_> {
        Ask {
            mesh: self,
            host: 0,
            method: Method::GET,
            path: path.into(),
            headers: HeaderMap::new(),
            body: String::new(),
        }
    }

    /// Many users' requests, to the host of this number (from 0): give it users, and run it.
    pub fn plan(&self, host: usize) -> Plan {
        Plan::new(self.ingress[host])
    }

    /// Somebody for a plan, known by name.
    pub fn user(name: &str, pace: Pace) -> User {
        User::new(name, pace).header(USER, HeaderValue::try_from(name).expect("a name that a header can hold"))
    }

    /// A counter's value on the first host, by its name in `/stats/prometheus`, labels aside.
    ///
    /// # Panics
    /// Where the host has no such counter, or no admin interface.
    pub async fn counter(&self, name: &str) -> u64 {
        let admin = self.hosts[0].admin().expect("the scenario has an admin");
        let stats = load::get(admin, "/stats/prometheus", ANSWER_WITHIN).await.expect("the admin answers");
        let text = String::from_utf8_lossy(&stats.body).into_owned();
        let sample = |line: &str| {
            let value =
                line.strip_prefix(name)?.split_once('}').map_or_else(|| line.strip_prefix(name), |(_, it)| Some(it));
            value?.trim().parse().ok()
        };
        text.lines().find_map(sample).unwrap_or_else(|| panic!("no counter {name} in:\n{text}"))
    }

    /// Waits until a counter is as `expected`: hosts report them some time after the fact.
    ///
    /// # Panics
    /// Where it is not within ten seconds.
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

    /// The Redis, to stop, pause, kill and restart.
    pub fn redis(&self) -> &RedisServer {
        &self.redis
    }

    /// A connection to the Redis, to look into it.
    pub fn redis_connection(&self) -> redis::Connection {
        let client = redis::Client::open(self.redis.url()).expect("our own Redis' URL");
        client.get_connection().expect("the Redis runs")
    }

    /// What all of this mesh's keys begin with.
    pub fn key_prefix(&self) -> &str {
        &self.key_prefix
    }

    /// What lies between the hosts and Redis.
    ///
    /// # Panics
    /// Where the mesh was built without [`MeshBuilder::with_faults`].
    pub fn faults(&self) -> &FaultProxy {
        self.faults.as_ref().expect("a mesh built with_faults")
    }

    /// The hosts.
    pub fn hosts(&self) -> &[Serving] {
        &self.hosts
    }

    /// Where the hosts listen.
    pub fn ingress(&self) -> &[SocketAddr] {
        &self.ingress
    }
}

impl MeshBuilder {
    /// This many hosts on the one Redis.
    pub fn hosts(mut self, hosts: usize) -> Self {
        self.hosts = hosts;
        self
    }

    /// This many workers in each host.
    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }

    /// With a proxy between the hosts and Redis; see [`Mesh::faults`].
    pub fn with_faults(mut self) -> Self {
        self.with_faults = true;
        self
    }

    /// With a Redis like this, such as one with a password.
    pub fn redis(mut self, options: RedisOptions) -> Self {
        self.redis = options;
        self
    }

    /// On the Redis of another mesh, with its keys: the same limits, configured differently.
    pub fn sharing_buckets_of(mut self, other: &Mesh) -> Self {
        self.shared = Some((Arc::clone(&other.redis), other.key_prefix.clone()));
        self
    }

    /// With another limiter's configuration.
    pub fn configure(mut self, change: impl FnMut(&mut Value)) -> Self {
        self.scenario.filter_configuration(change).expect("the scenario has a limiter");
        self
    }

    /// Where what is decided counts and not how fast, on however busy a machine: a check may take five seconds, and
    /// a failure is never taken for an admission.
    pub fn patient(self) -> Self {
        self.configure(|filter| {
            filter["redis"]["timeout"] = "5s".into();
            filter["failure_mode"] = "deny".into();
        })
    }

    /// With this `token_bucket` in place of the first limit's.
    pub fn bucket(self, max_tokens: u64, tokens_per_fill: u64, fill_interval: &str) -> Self {
        let bucket = serde_json::json!({
            "max_tokens": max_tokens, "tokens_per_fill": tokens_per_fill, "fill_interval": fill_interval,
        });
        self.configure(|filter| filter["limits"][0]["token_bucket"] = bucket.clone())
    }

    /// With any other change of the scenario.
    pub fn edit(mut self, change: impl FnOnce(&mut Value)) -> Self {
        self.scenario.edit(change);
        self
    }

    /// The limiter may hold a request's headers and still be shown its body.
    pub fn that_sees_bodies(self) -> Self {
        const LIMITER: &str =
            "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/config";
        self.edit(|bootstrap| {
            let plugin = bootstrap.pointer_mut(LIMITER).expect("the limiter is the first of the listener's filters");
            plugin["allow_on_headers_stop_iteration"] = true.into();
        })
    }

    /// Starts it; `None` where a component cannot be had, which has been said.
    pub async fn start(mut self) -> Option<Mesh> {
        let options = self.redis;
        let (shared, key_prefix) = match self.shared {
            Some((redis, key_prefix)) => (Some(redis), key_prefix),
            None => (None, fresh_key_prefix()),
        };
        let provide = move || {
            let redis = shared.map_or_else(|| RedisServer::start(options).map(Arc::new), Ok)?;
            Ok::<_, ProvisionError>((filter_wasm::find_or_build()?, redis))
        };
        let (wasm, redis) = or_skip(tokio::task::spawn_blocking(provide).await.expect("provisioning does not panic"))?;
        let faults = if self.with_faults { Some(FaultProxy::to(redis.addr()).await) } else { None };
        let upstream = faults.as_ref().map_or(redis.addr(), FaultProxy::addr);

        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let adapt = |scenario: &mut Scenario| {
            scenario.listener(LISTENER, any_port)?.admin(any_port)?.endpoint(CLUSTER, upstream)?.wasm(&wasm)?;
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
        Some(Mesh { hosts, ingress, faults, redis, key_prefix })
    }
}

/// A request on its way.
#[derive(Debug)]
pub struct Ask<'a> {
    mesh: &'a Mesh,
    host: usize,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: String,
}

impl Ask<'_> {
    /// By this user.
    pub fn user(self, name: &str) -> Self {
        self.header(USER.as_str(), name)
    }

    /// With this header, beside others of its name.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let name = HeaderName::try_from(name).expect("a header's name");
        self.headers.append(name, HeaderValue::from_bytes(value.as_ref()).expect("a header's value"));
        self
    }

    /// With another method than GET.
    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// With this body.
    pub fn body(mut self, body: &str) -> Self {
        self.body = body.to_owned();
        self
    }

    /// To the host of this number, from 0.
    pub fn via(mut self, host: usize) -> Self {
        self.host = host;
        self
    }

    /// Sends it, on a connection of its own.
    ///
    /// # Panics
    /// Where it is not answered within ten seconds.
    pub async fn send(self) -> Answer {
        let mut client = Client::new(self.mesh.ingress[self.host], ANSWER_WITHIN);
        client
            .send(&self.method, &self.path, &self.headers, self.body.into())
            .await
            .expect("every request is answered")
            .into()
    }
}

fn fresh_key_prefix() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("test-{}-{}:", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
