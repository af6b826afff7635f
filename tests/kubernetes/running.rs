//! A rendered proxy that runs: an ADS server, a real Envoy and a real Redis.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, ChildStdout, Stdio},
    time::Duration,
};

use hyper::{
    Method,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::block_in_place,
};
use weir::{Answer, or_skip};
use weir_provision::{
    Reaper, checkout,
    client::Client,
    envoy::{EnvoyOptions, EnvoyServer},
    port, python,
    redis::{RedisOptions, RedisServer},
};

use crate::rendered::{LISTENER, Rendered, merge};

const SOON: Duration = Duration::from_secs(60);

/// Stand-ins for the cluster around the proxy.
#[derive(Debug)]
pub struct Surroundings {
    /// File of the filter's module.
    pub wasm: PathBuf,
    /// Address of Redis, or of the front end of Redis.
    pub redis: SocketAddr,
    /// Nodes that the name of Redis stands for, if there are several.
    pub nodes: Vec<SocketAddr>,
    /// Address of the server that the proxy fetches modules from.
    pub modules: Option<SocketAddr>,
    /// Folders of the pod, each with the folder that takes its place.
    pub folders: Vec<(&'static str, PathBuf)>,
    /// Values of environment variables. The proxy gets those that its pod has.
    pub variables: Vec<(&'static str, String)>,
    /// Whether the proxy asks for changes (delta) or for the state of the world.
    pub is_delta: bool,
}

impl Surroundings {
    pub fn new(wasm: PathBuf, redis: SocketAddr) -> Self {
        Self {
            wasm,
            redis,
            nodes: Vec::new(),
            modules: None,
            folders: Vec::new(),
            variables: Vec::new(),
            is_delta: false,
        }
    }
}

/// A running proxy.
pub struct Running {
    pub envoy: EnvoyServer,
    pub ingress: SocketAddr,
    ads: Option<Ads>,
    surroundings: Surroundings,
}

impl Running {
    /// Starts the proxy. `None` if a component is missing, which is printed.
    pub fn start(mut rendered: Rendered, surroundings: Surroundings) -> Option<Self> {
        rendered.is_complete();
        adapt(&mut rendered, &surroundings);
        let has_xds = rendered.resources.contains_key(LISTENER);
        let ads = if has_xds { Some(Ads::start(&rendered)?) } else { None };
        let held = or_skip(port::free_port())?;
        let admin = json!({"address": {"socket_address": {"address": "127.0.0.1", "port_value": held.port()}}});
        let mut bootstrap = rendered.bootstrap.clone();
        bootstrap["admin"] = admin.clone();
        for cluster in bootstrap["static_resources"]["clusters"].as_array_mut().into_iter().flatten() {
            if cluster["name"] == "admin" {
                let address = cluster.pointer_mut("/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address");
                *address.expect("an address") = admin["address"].clone();
            }
        }
        if let Some(ads) = &ads {
            merge(&mut bootstrap, &ads.bootstrap(surroundings.is_delta));
        }
        if let Some(modules) = surroundings.modules {
            let clusters = json!([at(crate::envoy_gateway::MODULES, modules)]);
            merge(&mut bootstrap, &json!({"static_resources": {"clusters": clusters}}));
        }
        let known = surroundings.variables.iter().filter(|(name, _)| rendered.pod.variables.contains(*name));
        let env = known.map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        held.release();
        let options = EnvoyOptions { env, concurrency: 2, ..EnvoyOptions::new(bootstrap.to_string()) };
        let envoy = or_skip(block_in_place(|| EnvoyServer::start(options)))?;
        let name = match rendered.resources.get(LISTENER) {
            Some(listeners) => {
                listeners.iter().find(|it| it.1.get("address").is_some()).expect("a listener").0.as_str()
            }
            None => "ingress",
        };
        let ingress = envoy.listener(name).unwrap_or_else(|| panic!("no listener {name}:\n{}", envoy.log()));
        Some(Self { envoy, ingress, ads, surroundings })
    }

    /// Sends other resources to the proxy.
    pub fn update(&mut self, mut rendered: Rendered, wasm: PathBuf) {
        self.surroundings.wasm = wasm;
        adapt(&mut rendered, &self.surroundings);
        self.ads.as_ref().expect("resources by xDS").write(&rendered);
    }

    /// Sends a request to the listener.
    pub async fn ask(&self, method: Method, headers: &[(&str, &str)], body: &str) -> Answer {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap()));
        let headers = HeaderMap::from_iter(headers);
        Client::new(self.ingress, SOON).send(&method, "/", &headers, body.to_owned().into()).await.unwrap().into()
    }

    /// Sends a GET of a user.
    pub async fn get(&self, user: &str) -> Answer {
        self.ask(Method::GET, &[("x-user-id", user)], "").await
    }

    /// Returns a value of `/stats`, 0 if there is none. Up to Envoy 1.38, the name of a VM's metric begins with that of the
    /// cluster whose bridge has made the VM.
    pub fn stat(&self, name: &str) -> u64 {
        let value = |line: &str| {
            let (of_line, value) = line.rsplit_once(": ")?;
            let prefix = of_line.strip_suffix(name)?;
            (prefix.is_empty() || prefix.ends_with('.')).then(|| value.parse::<u64>().ok())?
        };
        self.stats().lines().filter_map(value).sum()
    }

    /// Returns all of `/stats`. Envoy does not answer while its main thread compiles a module.
    pub fn stats(&self) -> String {
        let deadline = std::time::Instant::now() + SOON;
        loop {
            match self.envoy.admin_get("/stats") {
                Ok(stats) => return stats,
                Err(why) => assert!(std::time::Instant::now() < deadline, "{why}"),
            }
        }
    }

    /// Waits until a value of `/stats` is reached.
    pub async fn until(&self, name: &str, least: u64) {
        let deadline = tokio::time::Instant::now() + SOON;
        while self.stat(name) < least {
            assert!(tokio::time::Instant::now() < deadline, "{name} is {}:\n{}", self.stat(name), self.envoy.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Checks that the proxy has refused nothing.
    pub fn accepts_everything(mut self) {
        self.envoy.stop();
        if let Some(ads) = self.ads.take() {
            let refusals = ads.stop();
            assert!(refusals.is_empty(), "{refusals}");
        }
    }
}

/// Puts addresses and files of this machine in place of those of the cluster. Checks may take 5 s, a check that fails
/// denies, and no token flows in during a test.
fn adapt(rendered: &mut Rendered, surroundings: &Surroundings) {
    let wasm = surroundings.wasm.display().to_string();
    let is_outside = |address: &str| address.ends_with(".svc.cluster.local") || address == "example.upstash.io";
    rendered.visit(&mut |value| {
        if value.get("max_tokens").is_some() {
            value["fill_interval"] = "86400s".into();
        }
        if value.get("root_id").is_some_and(|id| id == "limiter") {
            let configuration = &mut value["configuration"]["value"];
            let mut filter = match &*configuration {
                Value::String(text) => serde_json::from_str(text).expect("JSON"),
                fields => fields.clone(),
            };
            crate::rendered::walk(&mut filter, &mut |field| {
                if field.get("max_tokens").is_some() {
                    field["fill_interval"] = "86400s".into();
                }
            });
            filter["redis"]["timeout"] = "5s".into();
            filter["failure_mode"] = "deny".into();
            *configuration = if configuration.is_string() { filter.to_string().into() } else { filter };
        }
        for endpoints in value.get_mut("lb_endpoints").and_then(Value::as_array_mut).into_iter() {
            let address = "/0/endpoint/address/socket_address/address";
            let is_redis = json!(endpoints).pointer(address).and_then(Value::as_str).is_some_and(is_outside);
            if is_redis && !surroundings.nodes.is_empty() {
                *endpoints =
                    surroundings.nodes.iter().map(|node| json!({"endpoint": {"address": socket(*node)}})).collect();
            }
        }
        if value.get("address").and_then(Value::as_str).is_some_and(is_outside) {
            *value = json!({"address": surroundings.redis.ip().to_string(), "port_value": surroundings.redis.port()});
        }
        if let Value::String(path) = value {
            if path.starts_with('/') && path.ends_with(".wasm") {
                path.clone_from(&wasm);
            }
            let place = surroundings.folders.iter().find(|(folder, _)| path.starts_with(folder));
            if let Some((folder, place)) = place {
                *path = path.replace(folder, &place.display().to_string());
            }
        }
    });
}

/// A cluster with one endpoint.
pub fn at(name: &str, address: SocketAddr) -> Value {
    let endpoints = json!([{"lb_endpoints": [{"endpoint": {"address": socket(address)}}]}]);
    json!({"name": name, "load_assignment": {"cluster_name": name, "endpoints": endpoints}})
}

fn socket(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

/// A process of `ads.py`.
struct Ads {
    process: Child,
    output: BufReader<ChildStdout>,
    _reaper: Option<Reaper>,
    addr: SocketAddr,
    folder: TempDir,
}

impl Ads {
    fn start(rendered: &Rendered) -> Option<Self> {
        let mut python = or_skip(block_in_place(|| python::XDS.python()))?;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("resources.json");
        fs::write(&file, json!(rendered.resources).to_string()).unwrap();
        let program = checkout::root().unwrap().join("tests/kubernetes/ads.py");
        let mut process = python.arg(program).arg(&file).stdout(Stdio::piped()).spawn().expect("python3 starts");
        let reaper = Reaper::of(process.id());
        let mut output = BufReader::new(process.stdout.take().expect("a pipe"));
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let port: u16 = line.trim().parse().expect("ads.py prints its port, unless it refuses the resources");
        Some(Self { process, output, _reaper: reaper, addr: ([127, 0, 0, 1], port).into(), folder })
    }

    fn write(&self, rendered: &Rendered) {
        let next = self.folder.path().join("next.json");
        fs::write(&next, json!(rendered.resources).to_string()).unwrap();
        fs::rename(next, self.folder.path().join("resources.json")).unwrap();
    }

    /// Fields of a bootstrap that takes clusters and listeners from this server.
    fn bootstrap(&self, is_delta: bool) -> Value {
        let kind = if is_delta { "DELTA_GRPC" } else { "GRPC" };
        let services = json!([{"envoy_grpc": {"cluster_name": "xds"}}]);
        let source = crate::rendered::ads();
        let mut xds = at("xds", self.addr);
        let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        xds["typed_extension_protocol_options"][options] = json!({
            "@type": format!("type.googleapis.com/{options}"), "explicit_http_config": {"http2_protocol_options": {}},
        });
        json!({
            "node": {"id": "proxy", "cluster": "proxy"},
            "dynamic_resources": {
                "ads_config": {"api_type": kind, "transport_api_version": "V3", "grpc_services": services},
                "cds_config": source, "lds_config": source,
            },
            "static_resources": {"clusters": [xds]},
        })
    }

    /// Ends the server, and returns the refusals that it has printed.
    fn stop(mut self) -> String {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let mut refusals = String::new();
        self.output.read_to_string(&mut refusals).unwrap();
        refusals
    }
}

impl Drop for Ads {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts a server that answers each request with these bytes, as Envoy Gateway serves modules.
pub async fn serve(module: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let module = module.clone();
            tokio::spawn(async move {
                let _ = connection.read(&mut [0; 4_096]).await;
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", module.len());
                let _ = connection.write_all(&[head.into_bytes(), module].concat()).await;
            });
        }
    });
    address
}

/// Starts a Redis.
pub fn redis() -> Option<RedisServer> {
    or_skip(block_in_place(|| RedisServer::start(RedisOptions::default())))
}
