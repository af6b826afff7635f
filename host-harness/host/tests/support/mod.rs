//! Test support: guest modules in WAT, hosts that run them, and peers on loopback.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]
#![allow(clippy::expect_used, clippy::panic, reason = "a fixture that cannot do its work fails the test")]

pub mod envoy;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use weir_host::{Bootstrap, Host, HostError, HostOptions, Running};

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
    pub guest: &'a str,
    /// YAML list items of `http_filters` before the router, without indentation; by default one plugin of the guest.
    pub filters: String,
    /// YAML list items of `routes`.
    pub routes: String,
    /// YAML list items of `clusters`.
    pub clusters: String,
    /// YAML lines of the connection manager.
    pub manager: &'a str,
    pub workers: usize,
    pub call_limit: Duration,
}

impl Default for Scenario<'_> {
    fn default() -> Self {
        Self {
            guest: "",
            filters: filter("guest", ""),
            routes: r#"- {name: hello, match: {prefix: "/"}, direct_response: {status: 200, body: {inline_string: "hello"}}}"#
                .to_owned(),
            clusters: String::new(),
            manager: "",
            workers: 1,
            call_limit: Duration::from_secs(10),
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
        format!(
            r#"admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}
node: {{id: here, cluster: tests, metadata: {{zone: a}}}}
static_resources:
  listeners:
  - name: ingress
    address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}
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
  clusters:
{clusters}
"#
        )
        .replace("  clusters:\n\n", "")
    }

    pub fn try_start(&self) -> Result<Proxy, HostError> {
        let files = tempfile::tempdir().expect("a directory");
        let path = files.path().join("guest.wasm");
        std::fs::write(&path, module(self.guest)).expect("the guest's file");
        let yaml = self.yaml().replace("GUEST", &path.display().to_string());
        if let Some(binary) = envoy::asked_for() {
            let host = Serving::Envoy(envoy::Envoy::start(&binary, &yaml, files.path(), self.workers));
            return Ok(Proxy { host, _files: files });
        }
        let bootstrap = Bootstrap::parse(&yaml, "test.yaml").unwrap_or_else(|error| panic!("{error}\n{yaml}"));
        let options = HostOptions { workers: self.workers, call_limit: self.call_limit, ..HostOptions::default() };
        Host::start(bootstrap, options).map(|running| Proxy { host: Serving::Embedded(running), _files: files })
    }

    pub fn start(&self) -> Proxy {
        self.try_start().unwrap_or_else(|error| panic!("{error}"))
    }
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

    /// Waits until a metric of the guest has a value; panics after 5 s.
    pub fn metric_becomes(&self, name: &str, wanted: u64) {
        eventually(&format!("{name} is {wanted}"), || self.metric(name) == wanted);
    }
}

pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !holds() {
        assert!(Instant::now() < deadline, "not true within 5 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
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

pub fn try_send(
    address: SocketAddr,
    request: hyper::http::request::Builder,
    body: &[u8],
) -> Result<Response<Bytes>, hyper::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut request = request.body(Full::new(Bytes::copy_from_slice(body))).expect("a request");
        request.headers_mut().entry("host").or_insert(hyper::header::HeaderValue::from_static("test"));
        let answering = async {
            let (parts, body) = sender.send_request(request).await?.into_parts();
            Ok(Response::from_parts(parts, body.collect().await?.to_bytes()))
        };
        tokio::time::timeout(Duration::from_secs(10), answering).await.expect("a response within 10 s")
    })
}

/// Starts a TCP server with one thread per connection.
pub fn tcp_server(serve: impl Fn(TcpStream) + Send + Clone + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Starts a TCP server that sends received bytes back, and closes after its peer.
pub fn echo_server() -> SocketAddr {
    tcp_server(|mut stream| {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    })
}

/// Starts an HTTP/1 server that sends the request back as the response body: request line, headers and body.
pub fn mirror_server() -> SocketAddr {
    tcp_server(|mut stream| {
        let mut received = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            received.extend_from_slice(&buffer[..count]);
            let text = String::from_utf8_lossy(&received).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            let chunked = head.contains("transfer-encoding: chunked") && !body.ends_with("0\r\n\r\n");
            if chunked || body.len() < length.unwrap_or(0) {
                continue;
            }
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nx-mirror: yes\r\n\r\n{text}", text.len());
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
            received.clear();
        }
    })
}

/// Starts an HTTP/2 server that sends the request body back as a stream, then the trailer `grpc-status: 0`.
///
/// The response headers `x-authority` and `x-path` repeat the request's.
pub fn http2_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            listener.set_nonblocking(true).expect("a socket");
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
            while let Ok((stream, _)) = listener.accept().await {
                let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| async move {
                    let authority = request.uri().authority().map_or("", |authority| authority.as_str()).to_owned();
                    let path = request.uri().path().to_owned();
                    let mut trailers = hyper::HeaderMap::new();
                    trailers.insert("grpc-status", hyper::header::HeaderValue::from_static("0"));
                    let body = request.into_body().with_trailers(async move { Some(Ok(trailers)) });
                    let response = Response::builder().header("x-authority", authority).header("x-path", path);
                    response.header("content-type", "application/grpc").body(body)
                });
                let serving = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
                tokio::spawn(serving.serve_connection(TokioIo::new(stream), service));
            }
        });
    });
    address
}

/// Returns a loopback address without a listener.
pub fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
}

fn indent(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{:by$}{line}", "")).collect::<Vec<_>>().join("\n")
}
