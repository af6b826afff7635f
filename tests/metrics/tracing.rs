//! Decisions as attributes of spans and of access logs, which real Envoys send to a collector by OTLP.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response,
    body::Incoming,
    header::{HeaderMap, HeaderValue},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::{
    net::TcpListener,
    task::{block_in_place, spawn_blocking},
    time::{Instant, sleep},
};
use weir::or_skip;
use weir_host::scenario::Scenario;
use weir_provision::{
    ProvisionError, checkout,
    client::Client,
    envoy::{self, EnvoyOptions, EnvoyServer},
    filter_wasm,
    redis::{RedisOptions, RedisServer},
};

const PAGE: &str = include_str!("../../docs/src/tracing.md");
const MANAGER: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
const SOON: Duration = Duration::from_secs(60);
const SPANS: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_have_the_decision() {
    let Some(traced) = Traced::start(envoy::binary, &["tracing"]).await else { return };
    traced.use_up().await;
    traced.redis.stop();
    traced.get("bob").await;
    for (attribute, value, times) in [
        ("weir.decision", "admitted", 20),
        ("weir.decision", "denied", 3),
        ("weir.decision", "failed", 1),
        // A failed request has no limit that decided it.
        ("weir.limit", "per_user", 23),
        ("weir.failure", "unavailable", 1),
        ("weir.response", "weir_denied{per_user}", 3),
    ] {
        traced.collector.has(SPANS, attribute, value, times).await;
    }
}

/// A request without a limit has no attributes of Weir.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_without_a_limit_has_no_attributes() {
    let Some(traced) = Traced::start(envoy::binary, &["tracing"]).await else { return };
    traced.get("").await;
    traced.get("alice").await;
    traced.collector.has(SPANS, "weir.decision", "admitted", 1).await;
    let sent = traced.collector.sent(SPANS);
    assert_eq!(count(&sent, b"http.status_code"), 2, "spans");
    assert_eq!(count(&sent, b"weir.decision"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn access_logs_of_the_oldest_envoy_have_the_decision_and_the_trace() {
    logs_have_the_decision_and_the_trace(envoy::oldest_binary).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn access_logs_have_the_decision_and_the_trace() {
    logs_have_the_decision_and_the_trace(envoy::binary).await;
}

async fn logs_have_the_decision_and_the_trace(binary: Binary) {
    let Some(traced) = Traced::start(binary, &["log", "plain tracing"]).await else { return };
    traced.use_up().await;
    traced.collector.has(LOGS, "weir.decision", "admitted", 20).await;
    traced.collector.has(LOGS, "weir.decision", "denied", 3).await;
    traced.collector.has(LOGS, "weir.limit", "per_user", 23).await;
    traced.collector.has(LOGS, "weir.failure", "-", 23).await;
    traced.collector.until(|| count(&traced.collector.sent(SPANS), b"http.status_code") == 23).await;
    // Field 9 of a log record is the identifier of its trace; field 1 of a span is the same.
    let (logs, spans) = (traced.collector.sent(LOGS), traced.collector.sent(SPANS));
    let traces: Vec<&[u8]> =
        logs.windows(18).filter(|field| field.starts_with(&[0x4a, 16])).map(|it| &it[2..]).collect();
    let known = traces.iter().filter(|trace| count(&spans, &[&[0x0a, 16][..], **trace].concat()) == 1).count();
    assert_eq!(known, 23, "log records with the trace of a span");
}

type Binary = fn() -> Result<PathBuf, ProvisionError>;

/// An Envoy with a Redis, and a collector.
struct Traced {
    envoy: EnvoyServer,
    redis: RedisServer,
    collector: Collector,
}

impl Traced {
    /// Starts envoy/access-log.yaml with these blocks of the page. `None` if a component is missing.
    async fn start(binary: Binary, blocks: &[&str]) -> Option<Self> {
        let wasm = or_skip(block_in_place(filter_wasm::find_or_build))?;
        let redis = or_skip(block_in_place(|| RedisServer::start(RedisOptions::default())))?;
        let binary = Some(or_skip(block_in_place(binary))?);
        let collector = Collector::start().await;
        let any_port = ([127, 0, 0, 1], 0).into();
        let mut scenario = Scenario::load(checkout::root().unwrap().join("envoy/access-log.yaml")).unwrap();
        scenario.listener("ingress", any_port).unwrap().admin(any_port).unwrap();
        scenario.wasm(&wasm).unwrap().endpoint("redis", redis.addr()).unwrap();
        scenario.filter_configuration(|filter| filter["redis"]["timeout"] = "5s".into()).unwrap();
        scenario.edit(|bootstrap| {
            let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().unwrap();
            clusters.extend(block("collector").as_array().unwrap().clone());
            let manager = bootstrap.pointer_mut(MANAGER).unwrap().as_object_mut().unwrap();
            for name in blocks {
                manager.extend(block(name).as_object().unwrap().clone());
            }
        });
        scenario.endpoint("collector", collector.addr).unwrap();
        let options = EnvoyOptions { binary, ..EnvoyOptions::new(scenario.to_yaml()) };
        let envoy = or_skip(spawn_blocking(|| EnvoyServer::start(options)).await.unwrap())?;
        Some(Self { envoy, redis, collector })
    }

    /// Sends the 20 requests that a user has, and three more.
    async fn use_up(&self) {
        for _ in 0..23 {
            self.get("alice").await;
        }
    }

    /// Sends a request of a user; without a name, of none.
    async fn get(&self, user: &str) {
        let named = (!user.is_empty()).then(|| ("x-user-id".parse().unwrap(), HeaderValue::from_str(user).unwrap()));
        let mut client = Client::new(self.envoy.listener("ingress").unwrap(), SOON);
        client.get("/", &named.into_iter().collect::<HeaderMap>()).await.unwrap();
    }
}

/// Collector of OTLP by gRPC, which keeps the messages as they are.
struct Collector {
    addr: std::net::SocketAddr,
    messages: Arc<Mutex<Vec<(String, Bytes)>>>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let messages = Arc::default();
        let kept = Arc::clone(&messages);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let kept = Arc::clone(&kept);
                let export = service_fn(move |request: Request<Incoming>| export(Arc::clone(&kept), request));
                let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(serving.serve_connection(TokioIo::new(connection), export));
            }
        });
        Self { addr, messages }
    }

    /// All messages that were sent to this path.
    fn sent(&self, path: &str) -> Vec<u8> {
        let messages = self.messages.lock().unwrap();
        messages.iter().filter(|(to, _)| to == path).flat_map(|(_, message)| message.to_vec()).collect()
    }

    /// Waits until an attribute with this value was sent so many times, and checks that it is not more.
    async fn has(&self, path: &str, name: &str, value: &str, times: usize) {
        // KeyValue {key = 1, value = 2: AnyValue {string_value = 1}}
        let field = |number: u8, bytes: &[u8]| [&[(number << 3) | 2, bytes.len() as u8][..], bytes].concat();
        let attribute = [field(1, name.as_bytes()), field(2, &field(1, value.as_bytes()))].concat();
        let deadline = Instant::now() + SOON;
        loop {
            let found = count(&self.sent(path), &attribute);
            if found == times {
                return;
            }
            let late = Instant::now() > deadline || found > times;
            let sent = self.sent(path);
            assert!(!late, "{name} = {value}: {found} times:\n{}", String::from_utf8_lossy(&sent));
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn until(&self, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + SOON;
        while !holds() {
            assert!(Instant::now() < deadline, "{}", String::from_utf8_lossy(&self.sent(SPANS)));
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Keeps a message, and answers with an empty one.
async fn export(
    kept: Arc<Mutex<Vec<(String, Bytes)>>>,
    request: Request<Incoming>,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = std::convert::Infallible>>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let message = request.into_body().collect().await?.to_bytes();
    kept.lock().unwrap().push((path, message));
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
    let body = Full::new(Bytes::from_static(&[0; 5])).with_trailers(async move { Some(Ok(trailers)) });
    Ok(Response::builder().header("content-type", "application/grpc").body(body).unwrap())
}

fn count(bytes: &[u8], part: &[u8]) -> usize {
    bytes.windows(part.len()).filter(|window| *window == part).count()
}

/// A block of the page, by the words after `yaml otel` in its info string.
fn block(name: &str) -> Value {
    let start = format!("```yaml otel {name}\n");
    let (_, text) = PAGE.split_once(&start).unwrap_or_else(|| panic!("the page has no block {name}"));
    serde_saphyr::from_str(text.split_once("```").unwrap().0).unwrap()
}
