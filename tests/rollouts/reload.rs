//! Reloads of the limiter's configuration by a file of listeners that Envoy watches (LDS), on real Envoy.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use redis::Commands;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::block_in_place,
    time::{Instant, sleep},
};
use weir::or_skip;
use weir_harness::traffic::{self, Counters, Pace, Plan, User};
use weir_host::scenario::Scenario;
use weir_provision::{
    checkout,
    client::Client,
    envoy::{EnvoyOptions, EnvoyServer},
    filter_wasm,
    redis::{RedisOptions, RedisServer},
};

use super::PAGE;

const RELOADS: u64 = 10;
/// Tokens of the first configuration; each later one has one more.
const TOKENS: u64 = 40;
/// Tokens per fill.
const FILL: u64 = 20;
const WORKERS: u32 = 2;
/// Number of VMs, of all workers and the main thread.
const MACHINES: &str = "wasm.envoy.wasm.runtime.v8.active";
/// Number of reloads that have changed the listener.
const IN_PLACE: &str = "listener_manager.listener_in_place_updated";
const SOON: Duration = Duration::from_secs(20);
/// Time after which Envoy closes connections that an old configuration serves, in seconds.
const DRAIN: u64 = 3;
/// Time that the upstream takes for a response.
const UPSTREAM: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_during_ten_reloads_and_no_bucket_gains_tokens() {
    let Some(mut proxy) = Reloading::start("1s").await else { return };
    let header = |name: &'static str| HeaderName::from_static(name);
    let (alice, acme) = (HeaderValue::from_static("alice"), HeaderValue::from_static("acme"));
    let mut plan = Plan::new(proxy.ingress);
    plan.duration = Duration::from_secs(RELOADS);
    plan.users = vec![
        User::new("alice", Pace::PerSecond(200.0)).header(header("x-user-id"), alice).connections(30),
        User::new("acme", Pace::PerSecond(100.0)).header(header("x-tenant-id"), acme).connections(30),
    ];
    let start = Instant::now();
    let load = tokio::spawn(traffic::run(plan, Arc::new(Counters::default())));
    let (mut slowest, mut most_connections) = (Duration::ZERO, 0);
    let most_of_reloads = (RELOADS as usize + 1) * WORKERS as usize;
    for reload in 1..=RELOADS {
        sleep(Duration::from_millis(300)).await;
        slowest = slowest.max(proxy.reload(reload).await);
        most_connections = most_connections.max(proxy.connections());
    }
    let report = load.await.unwrap();
    let seconds = start.elapsed().as_secs() + 1;

    let of = |name: &str| report.users.iter().find(|user| user.name == name).unwrap();
    for user in &report.users {
        let other = user.outcomes.iter().find(|outcome| !outcome.is_admitted() && !outcome.is_denied());
        assert!(other.is_none(), "{}: {other:?}", user.name);
    }
    let admitted = of("alice").outcomes.iter().filter(|outcome| outcome.is_admitted()).count() as u64;
    let most = TOKENS + RELOADS + FILL * seconds;
    let least = FILL * (RELOADS / 2);
    assert!((least..=most).contains(&admitted), "expected {least} to {most} admitted requests, found {admitted}");
    assert!(of("acme").outcomes.iter().all(|outcome| outcome.is_admitted()), "no slot stays taken");
    proxy.holds_no_slot().await;
    println!(
        "{RELOADS} reloads, {} requests: {admitted} of alice admitted, at most {most}; slowest reload {slowest:?}; {most_connections} \
         connections to Redis",
        report.users.iter().map(|user| user.outcomes.len()).sum::<usize>(),
    );
    assert!((WORKERS as usize..=most_of_reloads).contains(&most_connections), "{most_connections}");
    proxy.until_connections_are(WORKERS as usize).await;
    assert_eq!(proxy.stat("listener_manager.lds.update_rejected"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_configuration_is_refused_and_the_old_one_stays_in_force() {
    let Some(mut proxy) = Reloading::start("3600s").await else { return };
    let old = proxy.listener.clone();
    limiter(&mut proxy.listener)["configuration"]["value"]["limits"][0]["token_bucket"]["max_tokens"] = "many".into();
    proxy.write();
    proxy.until("listener_manager.lds.update_rejected", 1).await;
    assert_eq!(proxy.limit_in_force().await, Some(TOKENS));
    proxy.listener = old;
    proxy.reload(1).await;
}

/// New code in the listener alone: limiter and bridge are in two VMs then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_code_under_the_same_vm_id_keeps_buckets_and_decides() {
    let Some(mut proxy) = Reloading::start("3600s").await else { return };
    assert_eq!(proxy.ask("bob").await, Some((TOKENS, TOKENS - 1)));
    let machines = proxy.stat(MACHINES);
    let file = proxy.folder.path().join("newer.wasm");
    let mut code = std::fs::read(&proxy.wasm).unwrap();
    // A custom section that is named `x`.
    code.extend([0, 2, 1, b'x']);
    std::fs::write(&file, &code).unwrap();
    limiter(&mut proxy.listener)["vm_config"]["code"]["local"]["filename"] = file.display().to_string().into();
    let took = proxy.reload(1).await;
    assert_eq!(proxy.ask("bob").await, Some((TOKENS + 1, TOKENS - 1)));
    println!("new code in force after {took:?}; {machines} VMs before, {} after", proxy.stat(MACHINES));
    assert!(proxy.stat(MACHINES) > machines, "the bridge keeps the VM of the old code");

    // Newer code under the same name is not read.
    let (machines, attempts) = (proxy.stat(MACHINES), proxy.stat("listener_manager.lds.update_attempt"));
    std::fs::write(&file, [&code[..], &[0, 2, 1, b'y']].concat()).unwrap();
    proxy.write();
    proxy.until("listener_manager.lds.update_attempt", attempts + 1).await;
    assert_eq!(proxy.ask("bob").await, Some((TOKENS + 1, TOKENS - 2)));
    assert_eq!((proxy.stat(IN_PLACE), proxy.stat(MACHINES)), (1, machines));
}

/// Envoy whose listener is a file.
struct Reloading {
    envoy: EnvoyServer,
    redis: RedisServer,
    ingress: SocketAddr,
    listener: Value,
    folder: TempDir,
    wasm: PathBuf,
}

/// Returns the plugin of the limiter.
fn limiter(listener: &mut Value) -> &mut Value {
    let place = "/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/config";
    listener.pointer_mut(place).expect("the listener has the limiter")
}

impl Reloading {
    async fn start(fill_interval: &str) -> Option<Self> {
        let wasm = or_skip(block_in_place(filter_wasm::find_or_build))?;
        let redis = or_skip(RedisServer::start(RedisOptions::default()))?;
        let upstream = slow_upstream().await;
        let folder = tempfile::tempdir().unwrap();
        let mut scenario = Scenario::load(checkout::root().unwrap().join("envoy/quickstart.yaml")).unwrap();
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        scenario.listener("ingress", anywhere).unwrap().admin(anywhere).unwrap();
        scenario.endpoint("redis", redis.addr()).unwrap().wasm(&wasm).unwrap();
        scenario.filter_configuration(|filter| configure(filter, fill_interval)).unwrap();
        let mut bootstrap = scenario.document().clone();
        let listener = with_files(&mut bootstrap, folder.path(), upstream);
        write(folder.path(), &listener);
        let options = EnvoyOptions {
            concurrency: WORKERS,
            args: vec!["--drain-time-s".to_owned(), DRAIN.to_string()],
            ..EnvoyOptions::new(bootstrap.to_string())
        };
        let envoy = or_skip(block_in_place(|| EnvoyServer::start(options)))?;
        let ingress = envoy.listener("ingress").expect("Envoy has read the file");
        let proxy = Self { envoy, redis, ingress, listener, folder, wasm };
        proxy.until_in_force(TOKENS).await;
        Some(proxy)
    }

    fn write(&self) {
        write(self.folder.path(), &self.listener);
    }

    /// Writes the configuration of this number, and returns the time until new connections are served with it.
    async fn reload(&mut self, number: u64) -> Duration {
        let tokens = TOKENS + number;
        limiter(&mut self.listener)["configuration"]["value"]["limits"][0]["token_bucket"]["max_tokens"] =
            tokens.into();
        let start = Instant::now();
        self.write();
        self.until_in_force(tokens).await;
        start.elapsed()
    }

    async fn until_in_force(&self, tokens: u64) {
        let deadline = Instant::now() + SOON;
        while self.limit_in_force().await != Some(tokens) {
            assert!(
                Instant::now() < deadline,
                "{tokens} tokens are not in force within {SOON:?}:\n{}",
                self.envoy.log()
            );
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Capacity of the configuration that serves a new connection.
    async fn limit_in_force(&self) -> Option<u64> {
        self.ask("probe").await.map(|(limit, _)| limit)
    }

    /// Sends a request of a user on a new connection, and returns the limit and the remaining tokens of the response.
    async fn ask(&self, user: &str) -> Option<(u64, u64)> {
        let headers = HeaderMap::from_iter([(HeaderName::from_static("x-user-id"), user.parse().unwrap())]);
        let answer = Client::new(self.ingress, SOON).get("/", &headers).await.unwrap();
        let number = |name: &str| answer.headers.get(name)?.to_str().ok()?.parse().ok();
        Some((number("x-ratelimit-limit")?, number("x-ratelimit-remaining")?))
    }

    fn stat(&self, name: &str) -> u64 {
        let stats = self.envoy.admin_get("/stats").unwrap();
        let value = stats.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.parse().ok());
        value.unwrap_or_else(|| panic!("no {name}"))
    }

    async fn until(&self, name: &str, expected: u64) {
        let deadline = Instant::now() + SOON;
        while self.stat(name) < expected {
            assert!(Instant::now() < deadline, "{name} is not {expected} within {SOON:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn holds_no_slot(&self) {
        let mut redis = self.connection();
        let deadline = Instant::now() + SOON;
        loop {
            let held: u64 = redis.zcard("weir:in_flight:acme#concurrency").unwrap();
            if held == 0 {
                return;
            }
            assert!(Instant::now() < deadline, "{held} slots are taken without a request in flight");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the old configurations have closed their connections to Redis.
    async fn until_connections_are(&self, expected: usize) {
        let deadline = Instant::now() + SOON;
        while self.connections() > expected {
            assert!(Instant::now() < deadline, "{} connections, expected at most {expected}", self.connections());
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Number of Envoy's connections to Redis.
    fn connections(&self) -> usize {
        let list: String = redis::cmd("CLIENT").arg("LIST").query(&mut self.connection()).unwrap();
        list.lines().count() - 1
    }

    fn connection(&self) -> redis::Connection {
        redis::Client::open(self.redis.url()).unwrap().get_connection().unwrap()
    }
}

/// Sets a token bucket for each user that fills in this interval, and a number of requests in flight for each tenant.
fn configure(filter: &mut Value, fill_interval: &str) {
    let by = |name: &str| json!([{"request_header": {"name": name}}]);
    filter["redis"]["timeout"] = "5s".into();
    filter["failure_mode"] = "deny".into();
    filter["limits"] = json!([
        {
            "name": "per_user", "descriptor": by("x-user-id"),
            "token_bucket": {"max_tokens": TOKENS, "tokens_per_fill": FILL, "fill_interval": fill_interval},
        },
        {
            "name": "in_flight", "descriptor": by("x-tenant-id"),
            "concurrency": {"max_requests": 60, "lease": "600s"},
        },
    ]);
}

/// Moves the listener out of a bootstrap, adds the page's fragment, which reads it from a file, and routes all requests to this upstream.
fn with_files(bootstrap: &mut Value, folder: &Path, upstream: SocketAddr) -> Value {
    let mut listener = bootstrap["static_resources"]["listeners"].take()[0].take();
    listener["@type"] = "type.googleapis.com/envoy.config.listener.v3.Listener".into();
    let manager = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
    manager["route_config"]["virtual_hosts"][0]["routes"] =
        json!([{"match": {"prefix": "/"}, "route": {"cluster": "upstream"}}]);
    let address = json!({"address": "127.0.0.1", "port_value": upstream.port()});
    let resources = bootstrap["static_resources"].as_object_mut().expect("an object");
    resources.remove("listeners");
    resources["clusters"].as_array_mut().expect("a list").push(json!({
        "name": "upstream", "type": "STATIC",
        "load_assignment": {"cluster_name": "upstream", "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": {"socket_address": address}}}]}]},
    }));
    let (_, fragment) = PAGE.split_once("```yaml bootstrap of files\n").expect("the page has a bootstrap");
    let (fragment, _) = fragment.split_once("```").expect("the fragment ends");
    let fragment: Value = serde_saphyr::from_str(fragment).unwrap();
    let fields = bootstrap.as_object_mut().expect("an object");
    fields.extend(fragment.as_object().expect("an object").clone());
    bootstrap["dynamic_resources"]["lds_config"]["path_config_source"]["path"] =
        folder.join("listeners.json").display().to_string().into();
    listener
}

/// Replaces the file of listeners as Envoy needs it: by a move.
fn write(folder: &Path, listener: &Value) {
    let next = folder.join("next.json");
    std::fs::write(&next, json!({"resources": [listener]}).to_string()).unwrap();
    std::fs::rename(next, folder.join("listeners.json")).unwrap();
}

/// Starts an upstream that answers one request per connection, after [`UPSTREAM`].
async fn slow_upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = connection.read(&mut [0; 4_096]).await;
                sleep(UPSTREAM).await;
                let _ =
                    connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
            });
        }
    });
    address
}
