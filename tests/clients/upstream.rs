//! Upstream that does not end its responses, and the route to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Upstream over HTTP/1 that never answers requests for `/held`, and begins a response to requests for `/streamed`.
pub(super) struct Upstream {
    pub(super) addr: SocketAddr,
    in_flight: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Upstream {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("a bound socket");
        let in_flight = Arc::new(AtomicUsize::new(0));
        let count = in_flight.clone();
        let serving = tokio::spawn(async move {
            let mut requests = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                requests.spawn(serve(connection, count.clone()));
            }
        });
        Self { addr, in_flight, serving }
    }

    /// Number of requests whose connection the proxy has not closed.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(mut connection: TcpStream, in_flight: Arc<AtomicUsize>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match connection.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    in_flight.fetch_add(1, Ordering::Relaxed);
    let begun = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
    // Whether the write or the read fails, the proxy has closed the connection.
    if !head.starts_with(b"GET /streamed") || connection.write_all(begun).await.is_ok() {
        let _ = connection.read_u8().await;
    }
    in_flight.fetch_sub(1, Ordering::Relaxed);
}

/// Routes these prefixes to an upstream, over HTTP/2 if so; all other requests are answered as before.
pub(super) fn route(bootstrap: &mut Value, prefixes: &[&str], upstream: SocketAddr, http2: bool) {
    let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    let manager = bootstrap.pointer_mut(manager).expect("a manager");
    let routes = manager["route_config"]["virtual_hosts"][0]["routes"].as_array_mut().expect("routes");
    for prefix in prefixes {
        routes.insert(0, json!({"match": {"prefix": prefix}, "route": {"cluster": "upstream", "timeout": "120s"}}));
    }
    let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": upstream.port()}});
    let mut cluster = json!({
        "name": "upstream", "type": "STATIC", "load_assignment": {"cluster_name": "upstream",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]},
        "circuit_breakers": {"thresholds": [{"max_requests": 100_000, "max_pending_requests": 100_000}]},
    });
    if http2 {
        let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        cluster["typed_extension_protocol_options"][options] = json!({
            "@type": format!("type.googleapis.com/{options}"),
            "explicit_http_config": {"http2_protocol_options": {}},
        });
    }
    bootstrap["static_resources"]["clusters"].as_array_mut().expect("clusters").push(cluster);
}
