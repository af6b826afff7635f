//! Test support: guest modules in WAT, hosts that run them, requests, and peers on loopback.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]
#![allow(clippy::expect_used, clippy::panic, reason = "a fixture that cannot do its work fails the test")]

pub mod envoy;
mod peers;

#[allow(unused_imports, reason = "each test binary uses its part")]
pub use peers::{echo_server, http2_server, mirror_server, nobody, patient_http2_server, tcp_server};

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use weir_host::{Bootstrap, GuestLimits, Host, HostError, HostOptions, Running};
use weir_provision::checkout;

/// Prelude of every guest: imports, an allocator, a scratch area at 0x800 for `$note` and `$reply`, and the exports
/// that the ABI requires. Strings of a guest are in its own data, below 0x800.
const PRELUDE: &str = include_str!("prelude.wat");

/// Returns a module with the functions of a guest.
pub fn module(functions: &str) -> Vec<u8> {
    wat::parse_str(format!("(module {PRELUDE} {functions})")).expect("the guest's WAT")
}

/// Host that serves one listener, `ingress`, with its temporary files.
pub struct Proxy {
    host: Serving,
    _files: tempfile::TempDir,
}

/// Parts of a proxy's bootstrap; `GUEST` in the YAML is replaced by the path of the guest's module.
pub struct Scenario<'a> {
    /// Functions of the guest, after the prelude.
    pub guest: &'a str,
    /// Whole module, instead of the guest with the prelude.
    pub module: Option<Vec<u8>>,
    /// YAML list items of `http_filters` before the router, without indentation; by default one plugin of the guest.
    pub filters: String,
    /// YAML list items of `routes`.
    pub routes: String,
    /// YAML list items of `clusters`.
    pub clusters: String,
    /// YAML lines of the connection manager.
    pub manager: &'a str,
    /// YAML lines of the listener.
    pub listener: &'a str,
    /// YAML lines of the filter chain.
    pub chain: &'a str,
    pub workers: usize,
    pub limits: GuestLimits,
}

impl Default for Scenario<'_> {
    fn default() -> Self {
        Self {
            guest: "",
            module: None,
            filters: filter("guest", ""),
            routes: r#"- {name: hello, match: {prefix: "/"}, direct_response: {status: 200, body: {inline_string: "hello"}}}"#
                .to_owned(),
            clusters: String::new(),
            manager: "",
            listener: "",
            chain: "",
            workers: 1,
            limits: GuestLimits::default(),
        }
    }
}

/// Returns an HTTP filter of the guest; `more` are YAML lines of its plugin's `config`.
pub fn filter(root_id: &str, more: &str) -> String {
    let more = more.lines().map(|line| format!("\n      {line}")).collect::<String>();
    format!(
        "- name: {root_id}\n  typed_config:\n    \"@type\": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm\n    \
         config:\n      root_id: {root_id}\n      vm_config: {{vm_id: {root_id}, runtime: envoy.wasm.runtime.v8, \
         code: {{local: {{filename: GUEST}}}}}}{more}"
    )
}

/// Returns a cluster with one endpoint; `kind` is `http1`, `http2`, `tcp`, or `bridged` (raw TCP behind the bridge).
pub fn cluster(name: &str, address: SocketAddr, kind: &str) -> String {
    let (ip, port) = (address.ip(), address.port());
    let options = "typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {\"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {http2_protocol_options: {}}";
    let tcp = "upstream_config: {name: tcp, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.upstreams.http.tcp.v3.TcpConnectionPoolProto}}";
    let codec = "- {name: codec, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec}}";
    let rest = match kind {
        "http1" => String::new(),
        "http2" => format!("\n  {options}}}}}"),
        "tcp" => format!("\n  {tcp}"),
        "bridged" => {
            let bridge = indent(&filter("bridge", ""), 6);
            let options = options.replace("{envoy", "\n    envoy").replace(": {\"@type\"", ":\n      \"@type\"");
            let options = options.replace(", explicit", "\n      explicit");
            format!(
                "\n  {tcp}\n  {options}}}\n      http_filters:\n{bridge}\n      {codec}",
                options = options.trim_end_matches('}').to_owned() + "}"
            )
        }
        other => panic!("unknown kind of cluster: {other}"),
    };
    format!(
        "- name: {name}\n  type: STATIC\n  connect_timeout: 1s\n  load_assignment: {{cluster_name: {name}, endpoints: \
         [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: {ip}, port_value: {port}}}}}}}}}]}}]}}{rest}"
    )
}

/// Host that a test starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Embedded,
    /// Envoy, by its executable.
    Envoy(std::path::PathBuf),
}

/// Returns the embedded host and Envoy 1.40, if there is one.
pub fn hosts() -> Vec<Kind> {
    let envoy = weir_provision::or_skip(weir_provision::envoy::binary());
    [Kind::Embedded].into_iter().chain(envoy.map(Kind::Envoy)).collect()
}

/// Returns the Envoys to compare with, by version.
pub fn envoys() -> Vec<(&'static str, Kind)> {
    let binaries = [("1.36", weir_provision::envoy::oldest_binary()), ("1.40", weir_provision::envoy::binary())];
    let found = |(version, binary)| Some((version, Kind::Envoy(weir_provision::or_skip(binary)?)));
    binaries.into_iter().filter_map(found).collect()
}

/// Host under test: the embedded host, or with `WEIR_TEST_HOST=envoy` the Envoy binary of `WEIR_ENVOY`.
enum Serving {
    Embedded(Running),
    Envoy(envoy::Envoy),
}

impl Scenario<'_> {
    pub fn yaml(&self) -> String {
        let filters = indent(&self.filters, 10);
        let routes = indent(&self.routes, 14);
        let clusters = indent(&self.clusters, 2);
        let manager = indent(self.manager, 10);
        let (listener, chain) = (indent(self.listener, 4), indent(self.chain, 6));
        format!(
            r#"admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}
node: {{id: here, cluster: tests, metadata: {{zone: a}}}}
static_resources:
  listeners:
  - name: ingress
    address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}
{listener}
    filter_chains:
    - filters:
      - name: manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress
{manager}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
{routes}
          http_filters:
{filters}
          - name: router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
{chain}
  clusters:
{clusters}
"#
        )
        .replace("  clusters:\n\n", "")
    }

    pub fn try_start(&self) -> Result<Proxy, StartError> {
        self.start_on(&envoy::asked_for().map_or(Kind::Embedded, Kind::Envoy))
    }

    /// Starts a host of this kind.
    pub fn start_on(&self, kind: &Kind) -> Result<Proxy, StartError> {
        let files = tempfile::tempdir().expect("a directory");
        let path = files.path().join("guest.wasm");
        std::fs::write(&path, self.module.clone().unwrap_or_else(|| module(self.guest))).expect("the guest's file");
        let yaml = self.yaml().replace("GUEST", &path.display().to_string());
        let host = match kind {
            Kind::Envoy(binary) => {
                let started = envoy::Envoy::start(binary, &yaml, files.path(), self.workers);
                Serving::Envoy(started.map_err(StartError::Envoy)?)
            }
            Kind::Embedded => {
                let bootstrap = Bootstrap::parse(&yaml, "test.yaml").unwrap_or_else(|error| panic!("{error}\n{yaml}"));
                let compiled_modules = checkout::target_dir().ok().map(|target| target.join("compiled-guests"));
                let options = HostOptions {
                    workers: self.workers,
                    limits: self.limits,
                    compiled_modules,
                    ..HostOptions::default()
                };
                Serving::Embedded(Host::start(bootstrap, options).map_err(StartError::Embedded)?)
            }
        };
        Ok(Proxy { host, _files: files })
    }

    pub fn start(&self) -> Proxy {
        self.try_start().unwrap_or_else(|error| panic!("{error:?}"))
    }
}

/// Reason why a host does not start.
#[derive(Debug)]
pub enum StartError {
    Embedded(HostError),
    /// Envoy's log.
    Envoy(String),
}

impl Proxy {
    pub fn address(&self) -> SocketAddr {
        match &self.host {
            Serving::Embedded(running) => running.listener("ingress").expect("the listener"),
            Serving::Envoy(envoy) => envoy.ingress,
        }
    }

    pub fn admin(&self) -> SocketAddr {
        match &self.host {
            Serving::Embedded(running) => running.admin().expect("the admin listener"),
            Serving::Envoy(envoy) => envoy.admin,
        }
    }

    pub fn get(&self, path: &str) -> Response<Bytes> {
        self.send(Request::get(path), b"")
    }

    pub fn send(&self, request: hyper::http::request::Builder, body: &[u8]) -> Response<Bytes> {
        send(self.address(), request, body)
    }

    /// Returns Envoy's log so far; `None` for the embedded host.
    pub fn envoy_log(&self) -> Option<String> {
        match &self.host {
            Serving::Embedded(_) => None,
            Serving::Envoy(envoy) => Some(envoy.log()),
        }
    }

    /// Whether Envoy still runs; true for the embedded host.
    pub fn is_alive(&mut self) -> bool {
        match &mut self.host {
            Serving::Embedded(_) => true,
            Serving::Envoy(envoy) => envoy.is_alive(),
        }
    }

    pub fn text(&self, path: &str) -> String {
        text(&self.get(path))
    }

    /// Returns the value of a counter or gauge of the guest.
    pub fn metric(&self, name: &str) -> u64 {
        match &self.host {
            Serving::Embedded(running) => running.stats().value(&format!("wasmcustom.{name}")),
            Serving::Envoy(envoy) => envoy.stat(&format!("wasmcustom.{name}")),
        }
    }

    /// Returns the value of a counter or gauge of the host; 0 if it does not exist.
    pub fn stat(&self, name: &str) -> u64 {
        match &self.host {
            Serving::Embedded(running) => running.stats().value(name),
            Serving::Envoy(envoy) => envoy.stat(name),
        }
    }

    /// Waits until a metric of the guest has a value; panics after 30 s.
    pub fn metric_becomes(&self, name: &str, wanted: u64) {
        eventually(&format!("{name} is {wanted}"), || self.metric(name) == wanted);
    }
}

pub fn eventually(what: &str, holds: impl FnMut() -> bool) {
    assert!(becomes_true(holds), "not true within 30 s: {what}");
}

/// Whether a condition holds within 30 s.
pub fn becomes_true(mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

pub fn text(response: &Response<Bytes>) -> String {
    String::from_utf8_lossy(response.body()).into_owned()
}

pub fn header<'a>(response: &'a Response<Bytes>, name: &str) -> Option<&'a str> {
    response.headers().get(name).and_then(|value| value.to_str().ok())
}

/// Sends one request on its own connection, and returns the response.
pub fn send(address: SocketAddr, request: hyper::http::request::Builder, body: &[u8]) -> Response<Bytes> {
    try_send(address, request, body).expect("a response")
}

/// Sends a GET request; `None` if there is no response within a time.
pub fn try_send_within(address: SocketAddr, limit: Duration) -> Option<Response<Bytes>> {
    let (answered, answer) = std::sync::mpsc::channel();
    std::thread::spawn(move || drop(answered.send(try_send(address, Request::get("/"), b""))));
    answer.recv_timeout(limit).ok()?.ok()
}

pub fn try_send(
    address: SocketAddr,
    request: hyper::http::request::Builder,
    body: &[u8],
) -> Result<Response<Bytes>, Box<dyn std::error::Error + Send + Sync>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut request = request.body(Full::new(Bytes::copy_from_slice(body))).expect("a request");
        request.headers_mut().entry("host").or_insert(hyper::header::HeaderValue::from_static("test"));
        let answering = async {
            let (parts, body) = sender.send_request(request).await?.into_parts();
            Ok(Response::from_parts(parts, body.collect().await?.to_bytes()))
        };
        tokio::time::timeout(Duration::from_secs(60), answering).await.expect("a response within 60 s")
    })
}

/// Response to a request over HTTP/2: status, headers, body, trailers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    pub status: u16,
    pub headers: hyper::HeaderMap,
    pub body: Bytes,
    pub trailers: Option<hyper::HeaderMap>,
}

/// Sends one request over HTTP/2, with trailers after its body if there are any.
///
/// # Errors
/// `reset`, or `no response` after 2 s.
pub fn send_http2(
    address: SocketAddr,
    request: hyper::http::request::Builder,
    body: &'static [u8],
    trailers: &[(&'static str, &'static str)],
) -> Result<Exchange, &'static str> {
    let mut map = hyper::HeaderMap::new();
    for (name, value) in trailers {
        map.append(*name, hyper::header::HeaderValue::from_static(value));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
        let executor = hyper_util::rt::TokioExecutor::new();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(executor, TokioIo::new(stream)).await.expect("a handshake");
        tokio::spawn(connection);
        let trailers = std::future::ready((!map.is_empty()).then_some(Ok(map)));
        let request = request.body(Full::new(Bytes::from_static(body)).with_trailers(trailers)).expect("a request");
        let answering = async {
            let (parts, body) = sender.send_request(request).await.map_err(|_| "reset")?.into_parts();
            let collected = body.collect().await.map_err(|_| "reset")?;
            let trailers = collected.trailers().cloned();
            let body = collected.to_bytes();
            Ok(Exchange { status: parts.status.as_u16(), headers: parts.headers, body, trailers })
        };
        tokio::time::timeout(Duration::from_secs(2), answering).await.unwrap_or(Err("no response"))
    })
}

fn indent(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{:by$}{line}", "")).collect::<Vec<_>>().join("\n")
}
