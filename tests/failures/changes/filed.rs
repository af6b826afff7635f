//! An Envoy that reads its listener, its cluster of Redis and the limiter from files (LDS, CDS, ECDS).

use std::net::SocketAddr;
use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use redis::Commands;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet, block_in_place};
use tokio::time::{Instant, sleep};
use weir::{Load, or_skip};
use weir_host::scenario::Scenario;
use weir_provision::client::Client;
use weir_provision::envoy::{EnvoyOptions, EnvoyServer, HotRestart};
use weir_provision::redis::{RedisOptions, RedisServer};
use weir_provision::{checkout, filter_wasm, port};

use crate::dns::Forwarder;

pub(super) const WORKERS: u32 = 2;
pub(super) const SOON: Duration = Duration::from_secs(30);
/// Time after which Envoy closes what it drains. With 1 s, it closes connections of HTTP/1 in use, whose
/// clients it has not asked to close them.
pub(super) const DRAINED: Duration = Duration::from_secs(3);
/// Time from the start of a successor until the process before it ends.
const SHUTDOWN: Duration = Duration::from_secs(4);
/// Lease of a slot, which a request in flight renews.
pub(super) const LEASE: Duration = Duration::from_secs(1);
const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";

/// Running Envoy with its files, its Redis and its upstream.
pub(crate) struct Filed {
    pub(super) envoy: EnvoyServer,
    pub(super) redis: RedisServer,
    pub(super) ingress: SocketAddr,
    pub(super) upstream: Upstream,
    /// Resources, as they are in the files.
    pub(super) listener: Value,
    pub(super) cluster: Value,
    pub(super) limiter: Value,
    /// A second way to Redis.
    pub(super) forwarder: Option<Forwarder>,
    folder: TempDir,
    options: EnvoyOptions,
}

impl Filed {
    /// Starts all of them, with the limits of a load by user, and a limit of requests in flight by tenant. The path
    /// `/held` leads to the upstream. `None` if a component is missing, which is printed.
    pub(super) async fn start(load: Load) -> Option<Self> {
        let wasm = or_skip(block_in_place(filter_wasm::find_or_build))?;
        let redis = or_skip(block_in_place(|| RedisServer::start(RedisOptions::default())))?;
        let upstream = Upstream::start().await;
        let folder = tempfile::tempdir().expect("a folder");
        let ingress = or_skip(port::free_port())?.release();
        let mut scenario = Scenario::load(checkout::root().expect("a checkout").join("envoy/quickstart.yaml")).unwrap();
        let admin = SocketAddr::from(([127, 0, 0, 1], 0));
        scenario.listener("ingress", ingress).unwrap().admin(admin).unwrap().wasm(&wasm).unwrap();
        scenario.endpoint("redis", redis.addr()).unwrap();
        scenario.filter_configuration(|filter| configure(filter, load)).unwrap();
        let mut bootstrap = scenario.document().clone();

        let mut listener = bootstrap["static_resources"]["listeners"][0].take();
        listener["@type"] = "type.googleapis.com/envoy.config.listener.v3.Listener".into();
        let manager = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
        let routes = manager["route_config"]["virtual_hosts"][0]["routes"].as_array_mut().expect("routes");
        routes.insert(0, json!({"match": {"path": "/held"}, "route": {"cluster": "upstream", "timeout": "60s"}}));
        let mut limiter = manager["http_filters"][0].take();
        limiter["@type"] = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig".into();
        manager["http_filters"][0] = json!({"name": "weir", "config_discovery": {
            "config_source": source(&folder, "limiter"), "type_urls": [WASM],
        }});
        let mut cluster = bootstrap["static_resources"]["clusters"][0].take();
        cluster["@type"] = "type.googleapis.com/envoy.config.cluster.v3.Cluster".into();
        bootstrap["static_resources"] = json!({"clusters": [{"name": "upstream", "type": "STATIC",
            "load_assignment": {"cluster_name": "upstream", "endpoints": [{"lb_endpoints": [endpoint(upstream.addr)]}]},
        }]});
        bootstrap["node"] = json!({"id": "proxy", "cluster": "proxies"});
        bootstrap["dynamic_resources"] =
            json!({"lds_config": source(&folder, "listeners"), "cds_config": source(&folder, "clusters")});

        let seconds = |time: Duration| time.as_secs().to_string();
        let args = ["--drain-time-s", &seconds(DRAINED), "--parent-shutdown-time-s", &seconds(SHUTDOWN)];
        let args = args.map(str::to_owned).to_vec();
        let options = EnvoyOptions {
            concurrency: WORKERS,
            args,
            hot_restart: HotRestart::First,
            ..EnvoyOptions::new(bootstrap.to_string())
        };
        for (name, resources) in [("listeners", &[&listener][..]), ("clusters", &[&cluster]), ("limiter", &[&limiter])]
        {
            write(&folder, name, resources);
        }
        let envoy = or_skip(block_in_place(|| EnvoyServer::start(options.clone())))?;
        let filed =
            Self { envoy, redis, ingress, upstream, listener, cluster, limiter, forwarder: None, folder, options };
        filed.until_decided().await;
        Some(filed)
    }

    /// Starts a process that replaces this Envoy, and returns the one that is replaced.
    pub(super) fn start_successor(&mut self) -> EnvoyServer {
        let base_id = self.envoy.base_id().expect("the first process");
        let hot_restart = HotRestart::Successor { base_id, epoch: 1 };
        let options = EnvoyOptions { hot_restart, ..self.options.clone() };
        std::mem::replace(&mut self.envoy, EnvoyServer::start(options).expect("the successor starts"))
    }

    /// Moves a file with the resource as it is now into place, and waits until Envoy has read it.
    pub(super) async fn replace(&self, resource: Resource) {
        let before = self.stat(resource.counter());
        match resource {
            Resource::Listener => write(&self.folder, "listeners", &[&self.listener]),
            Resource::Cluster => write(&self.folder, "clusters", &[&self.cluster]),
            Resource::NoCluster => write(&self.folder, "clusters", &[]),
            Resource::Limiter | Resource::WrongLimiter => write(&self.folder, "limiter", &[&self.limiter]),
        }
        self.until(resource.counter(), before + 1).await;
    }

    /// Configuration of the filter.
    pub(super) fn filter(&mut self) -> &mut Value {
        &mut self.limiter["typed_config"]["config"]["configuration"]["value"]
    }

    /// The value of a counter or gauge whose name ends so.
    pub(super) fn stat(&self, name: &str) -> u64 {
        let stats = self.envoy.admin_get("/stats").expect("the admin answers");
        let of_name = |line: &str| line.split_once(": ").filter(|(full, _)| full.ends_with(name))?.1.parse().ok();
        stats.lines().find_map(of_name).unwrap_or_else(|| panic!("no {name} in:\n{stats}"))
    }

    async fn until(&self, name: &str, expected: u64) {
        let deadline = Instant::now() + SOON;
        while self.stat(name) < expected {
            assert!(Instant::now() < deadline, "{name} is not {expected} within {SOON:?}:\n{}", self.envoy.log());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until requests in a row are decided by Redis.
    pub(super) async fn until_decided(&self) {
        let deadline = Instant::now() + SOON;
        let (mut in_a_row, mut nth) = (0, 0);
        while in_a_row < 12 {
            nth += 1;
            let decided = self.limit_in_force(&format!("warm-up {nth}")).await.is_some();
            in_a_row = if decided { in_a_row + 1 } else { 0 };
            assert!(Instant::now() < deadline, "Redis does not decide within {SOON:?}:\n{}", self.envoy.log());
        }
    }

    /// Sends requests of a user until one is denied, and returns the body of its response.
    pub(super) async fn denied(&self) -> String {
        let headers =
            HeaderMap::from_iter([(HeaderName::from_static("x-user-id"), HeaderValue::from_static("mallory"))]);
        let deadline = Instant::now() + SOON;
        let mut client = Client::new(self.ingress, SOON);
        loop {
            let answer = client.get("/", &headers).await.expect("a response");
            if answer.status == 429 {
                return String::from_utf8_lossy(&answer.body).into_owned();
            }
            assert!(Instant::now() < deadline, "no request is denied");
        }
    }

    /// Sends a request of a user on a new connection, and returns `x-ratelimit-limit` of the response.
    pub(super) async fn limit_in_force(&self, user: &str) -> Option<u64> {
        let headers = HeaderMap::from_iter([(HeaderName::from_static("x-user-id"), user.parse().expect("a value"))]);
        let answer = Client::new(self.ingress, SOON).get("/", &headers).await.ok()?;
        answer.headers.get("x-ratelimit-limit")?.to_str().ok()?.parse().ok()
    }

    /// Sends requests to the upstream, which holds them, and waits until each has a slot. Each returns its status.
    pub(super) async fn hold(&self, requests: u64) -> JoinSet<u16> {
        let mut held = JoinSet::new();
        for _ in 0..requests {
            let mut client = Client::new(self.ingress, SOON);
            let tenant = HeaderValue::from_static("acme");
            let headers = HeaderMap::from_iter([(HeaderName::from_static("x-tenant-id"), tenant)]);
            held.spawn(async move { client.get("/held", &headers).await.expect("a response").status });
        }
        self.until_slots_are(requests).await;
        held
    }

    /// Waits until this number of slots is taken.
    pub(super) async fn until_slots_are(&self, expected: u64) {
        let deadline = Instant::now() + SOON;
        while self.slots() != expected {
            assert!(Instant::now() < deadline, "{} slots are taken, expected {expected}", self.slots());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Number of slots whose lease has not ended.
    pub(super) fn slots(&self) -> u64 {
        let mut redis = self.connection();
        let (seconds, micros): (u64, u64) = redis::cmd("TIME").query(&mut redis).unwrap();
        redis.zcount("weir:in_flight:acme#concurrency", seconds * 1_000_000 + micros, "+inf").unwrap()
    }

    /// Number of Envoy's connections to Redis.
    fn connections(&self) -> usize {
        let list: String = redis::cmd("CLIENT").arg("LIST").query(&mut self.connection()).unwrap();
        list.lines().count() - 1
    }

    /// Waits until what was replaced has closed its connections to Redis, and at most this number is left.
    pub(super) async fn until_connections_are(&self, most: usize) {
        let deadline = Instant::now() + SOON;
        while self.connections() > most {
            assert!(Instant::now() < deadline, "{} connections, expected {most} at most", self.connections());
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn connection(&self) -> redis::Connection {
        redis::Client::open(self.redis.url()).unwrap().get_connection().unwrap()
    }
}

/// File of resources.
#[derive(Debug, Clone, Copy)]
pub(super) enum Resource {
    Listener,
    Cluster,
    /// The file of clusters without the cluster of Redis.
    NoCluster,
    Limiter,
    /// The limiter, with a configuration that it refuses.
    WrongLimiter,
}

impl Resource {
    /// End of the name of the counter of such files.
    fn counter(self) -> &'static str {
        match self {
            Self::Listener => "listener_manager.lds.update_success",
            Self::Cluster | Self::NoCluster => "cluster_manager.cds.update_success",
            Self::Limiter => "weir.config_reload",
            Self::WrongLimiter => "weir.config_fail",
        }
    }
}

fn source(folder: &TempDir, name: &str) -> Value {
    let path = folder.path().join(name).with_extension("json").display().to_string();
    json!({"resource_api_version": "V3", "path_config_source": {"path": path}})
}

/// Replaces a file as Envoy needs it: by a move.
fn write(folder: &TempDir, name: &str, resources: &[&Value]) {
    let next = folder.path().join("next.json");
    std::fs::write(&next, json!({"resources": resources}).to_string()).expect("the folder can be written");
    std::fs::rename(next, folder.path().join(name).with_extension("json")).expect("the folder can be written");
}

pub(super) fn endpoint(addr: SocketAddr) -> Value {
    let address = json!({"address": addr.ip().to_string(), "port_value": addr.port()});
    json!({"endpoint": {"address": {"socket_address": address}}})
}

fn configure(filter: &mut Value, load: Load) {
    load.configure_filter(filter);
    let concurrency = json!({"max_requests": 1_000, "lease": format!("{}s", LEASE.as_secs())});
    let by_tenant = json!([{"request_header": {"name": "x-tenant-id"}}]);
    let limit = json!({"name": "in_flight", "descriptor": by_tenant, "concurrency": concurrency});
    filter["limits"].as_array_mut().expect("limits").push(limit);
}

/// Upstream that holds each request until it is told to answer.
pub(super) struct Upstream {
    pub(super) addr: SocketAddr,
    answers: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Upstream {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("a bound socket");
        let (answers, told) = watch::channel(false);
        let serving = tokio::spawn(async move {
            let mut requests = JoinSet::new();
            while let Ok((mut connection, _)) = listener.accept().await {
                let mut told = told.clone();
                requests.spawn(async move {
                    let _ = connection.read(&mut [0; 4_096]).await;
                    let _ = told.wait_for(|answers| *answers).await;
                    connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await
                });
            }
        });
        Self { addr, answers, serving }
    }

    /// Answers all requests, from now on.
    pub(super) fn answer(&self) {
        self.answers.send_replace(true);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
