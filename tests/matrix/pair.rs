//! An Envoy of one version and a Redis of one release.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use hyper::header::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use tokio::task::{JoinHandle, block_in_place};
use weir_host::scenario::Scenario;
use weir_provision::{
    ProvisionError, checkout,
    client::Client,
    envoy::{self, EnvoyOptions, EnvoyServer},
    filter_wasm, or_skip,
    redis::{RedisOptions, RedisServer, Release},
};

use crate::checks;

const ANSWER_WITHIN: Duration = Duration::from_secs(60);
const PASSWORD: &str = "correct horse";
const HTTP_FILTERS: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters";

/// The running pair. The filter logs in as the user of the page on operations.
pub struct Pair {
    pub redis: RedisServer,
    ingress: SocketAddr,
    envoy: EnvoyServer,
}

impl Pair {
    /// Starts both. `None` if a component is missing, which is printed.
    ///
    /// # Panics
    /// If one of them has another version.
    pub fn start(version: &'static str, release: Release) -> Option<Self> {
        let pair = or_skip(block_in_place(|| Self::provide(version, release)))?;
        let found = pair.server_version();
        let (name, of_release) = release.name.split_once(' ').expect("a name and a version");
        assert!(found.starts_with(&format!("{of_release}.")), "{}: found {found}", release.name);
        assert_eq!(pair.info("valkey_version").is_some(), name == "Valkey", "{}", release.name);
        let server = pair.envoy.admin_get("/server_info").expect("the admin answers");
        assert!(server.contains(&format!("/{version}/")), "Envoy {version}: {server}");
        Some(pair)
    }

    fn provide(version: &str, release: Release) -> Result<Self, ProvisionError> {
        let binary = Some(release.binary()?);
        let redis = RedisServer::start(RedisOptions { binary, ..RedisOptions::default() })?;
        weir::add_user(&redis, PASSWORD);
        let wasm = filter_wasm::find_or_build()?;
        let mut scenario = Scenario::load(checkout::root()?.join("envoy/quickstart.yaml")).expect("the scenario");
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut adapt = || {
            scenario.listener("ingress", any_port)?.admin(any_port)?.wasm(&wasm)?.endpoint("redis", redis.addr())?;
            scenario.filter_configuration(|filter| *filter = configuration()).map(drop)
        };
        adapt().expect("the scenario has a listener, an admin, a cluster and the filter");
        scenario.edit(|bootstrap| {
            let filters = bootstrap.pointer_mut(HTTP_FILTERS).and_then(Value::as_array_mut);
            filters.expect("the listener has filters").insert(1, delay());
        });
        let options = EnvoyOptions {
            binary: Some(envoy::binary_of(version)?),
            concurrency: 2,
            ..EnvoyOptions::new(scenario.to_yaml())
        };
        let envoy = EnvoyServer::start(options)?;
        let ingress = envoy.listener("ingress").expect("Envoy listens");
        Ok(Self { redis, ingress, envoy })
    }

    pub fn asker(&self) -> Asker {
        Asker { ingress: self.ingress }
    }

    /// Version of the server, as its INFO has it.
    pub fn server_version(&self) -> String {
        self.info("valkey_version").or_else(|| self.info("redis_version")).expect("INFO has a version")
    }

    fn info(&self, name: &str) -> Option<String> {
        let info: String = redis::cmd("INFO").arg("server").query(&mut self.connection()).expect("Redis answers");
        let value = |line: &str| Some(line.strip_prefix(name)?.strip_prefix(':')?.to_owned());
        info.lines().find_map(value)
    }

    /// The stored bucket of alice.
    pub fn bucket(&self, limit: &str) -> Option<Vec<u8>> {
        redis::cmd("GET").arg(format!("weir:{limit}:alice")).query(&mut self.connection()).expect("Redis answers")
    }

    /// File with the limits for `weir limits`, without the filter's user, who may not set overrides.
    pub fn configuration_file(&self) -> PathBuf {
        let file = self.redis.dir().join("limits.yaml");
        let limits = json!({"redis": {"cluster": "redis"}, "limits": checks::limits()});
        std::fs::write(&file, limits.to_string()).expect("the folder is writable");
        file
    }

    /// Checks that the filter is logged in as `weir`, and that Redis has refused none of its commands.
    pub fn acl_refuses_nothing(&self) {
        let clients: String = redis::cmd("CLIENT").arg("LIST").query(&mut self.connection()).expect("Redis answers");
        assert!(clients.lines().any(|client| client.contains(" user=weir ")), "{clients}");
        let refused: redis::Value = redis::cmd("ACL").arg("LOG").query(&mut self.connection()).expect("Redis answers");
        assert_eq!(refused, redis::Value::Array(Vec::new()));
    }

    fn connection(&self) -> redis::Connection {
        let client = redis::Client::open(self.redis.url()).expect("the URL is valid");
        client.get_connection().expect("Redis runs")
    }
}

/// Checks may take 5 s, and a check that fails denies with 503.
fn configuration() -> Value {
    json!({
        "redis": {"cluster": "redis", "username": "weir", "password": {"inline": PASSWORD}, "timeout": "5s"},
        "failure_mode": "deny",
        "limits": checks::limits(),
    })
}

/// A filter that delays a request by the milliseconds of its `x-envoy-fault-delay-request`.
fn delay() -> Value {
    json!({"name": "delay", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
        "delay": {"header_delay": {}, "percentage": {"numerator": 100}},
    }})
}

/// Client of a pair.
#[derive(Debug, Clone, Copy)]
pub struct Asker {
    pub ingress: SocketAddr,
}

impl Asker {
    /// Returns the status of a GET by a user, on a connection of its own.
    pub async fn get(self, limit: &str, user: &str) -> u16 {
        self.status(limit, Self::headers(user, None)).await
    }

    /// Sends a GET by alice, on a connection of its own.
    pub fn at_once(self, limit: &'static str, header: Option<(&'static str, &'static str)>) -> JoinHandle<u16> {
        tokio::spawn(self.status(limit, Self::headers("alice", header)))
    }

    pub fn headers(user: &str, more: Option<(&'static str, &'static str)>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("x-user-id", HeaderValue::try_from(user).expect("a header's value"));
        if let Some((name, value)) = more {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers
    }

    async fn status(self, limit: &str, headers: HeaderMap) -> u16 {
        let path = format!("/{limit}");
        Client::new(self.ingress, ANSWER_WITHIN).get(&path, &headers).await.expect("an answer").status
    }
}
